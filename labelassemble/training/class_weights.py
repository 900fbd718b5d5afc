"""Weights of classes and of positives, by name or counted from the labels."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from labelassemble.errors import LabelAssembleError, did_you_mean
from labelassemble.loss_options import LossOptions
from labelassemble.training.data import VoxelCounts


def class_weights(
    loss: LossOptions, classes: Sequence[str], targets: np.ndarray, voxels: VoxelCounts | None = None
) -> tuple[Tensor | None, Tensor | None]:
    """Return pos_weight [C] and class_weight [C], or None where the options ask for none.

    Args:
        loss: the options.
        classes: names of the C classes.
        targets: float32 [N, C] of the training images, NaN = unknown; a balanced pos_weight is negatives over positives
            among the known ones, 1 for a class that lacks one of the two.
        voxels: those of the masks, which are counted then instead.

    Raises:
        LabelAssembleError: a name that is none of the classes.
    """
    pos_weight = None
    if loss.pos_weight == "balanced":
        if voxels is None:
            positive, negative = np.nansum(targets, axis=0), np.nansum(1.0 - targets, axis=0)
        else:
            positive, negative = voxels.positive, voxels.known - voxels.positive
        ratio = np.where(positive > 0, negative / np.maximum(positive, 1e-12), 1.0)
        pos_weight = torch.tensor(np.where(negative > 0, ratio, 1.0), dtype=torch.float32)
    elif loss.pos_weight is not None:
        pos_weight = _by_name(loss.pos_weight, classes, "loss.pos_weight")
    class_weight = (
        None if loss.class_weight is None else _by_name(loss.class_weight, classes, "loss.class_weight")
    )
    return pos_weight, class_weight


def _by_name(values: dict[str, float], classes: Sequence[str], key: str) -> Tensor:
    for name in values:
        if name not in classes:
            raise LabelAssembleError(f"{key} names the unknown class '{name}'{did_you_mean(name, classes)}")
    return torch.tensor([values.get(name, 1.0) for name in classes], dtype=torch.float32)
