"""The pooled features that a network's head sees, taken while it predicts."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from labelassemble.models.predict import predict
from labelassemble.views.bad_files import BadFiles
from labelassemble.views.options import ViewOptions


@dataclass(frozen=True, eq=False)
class Answers:
    """What a network says about files.

    Attributes:
        probabilities: float64 [N, C]; a row of a file that cannot be read is NaN.
        features: float32 [N, D], likewise; None where the network has no backbone that pools.
    """

    probabilities: NDArray[np.float64]
    features: NDArray[np.float32] | None


def predict_with_features(
    net: nn.Module,
    paths: Sequence[str],
    views: ViewOptions,
    *,
    batch_size: int = 64,
    bad_files: BadFiles | None = None,
    advance: Callable[[int], None] | None = None,
) -> Answers:
    """Return the probabilities of every class for each file, and the pooled features they were made from.

    Args:
        net: as for `predict`; its attribute `backbone` (or each of `backbones`, side by side) gives the features.
        paths: the files.
        views: size, channels and normalisation of the deterministic view.
        batch_size: images a forward pass.
        bad_files: files that cannot be read are recorded there; None raises at the first.
        advance: called with the number of images done after each batch.

    Raises:
        ImageError: a file that cannot be read, without `bad_files`.
        LabelAssembleError: too many files that cannot be read, or none that can; an answer that is not finite.
    """
    with captured_features(net) as batches:
        probabilities = predict(
            net, paths, views, batch_size=batch_size, bad_files=bad_files, advance=advance
        )
    read = np.arange(len(paths)) if bad_files is None else np.flatnonzero(bad_files.readable(len(paths)))
    found = torch.cat(batches).numpy() if batches else np.empty((0, 0), np.float32)
    if len(found) != len(read):  # the network went around its backbone
        return Answers(probabilities, None)
    features = np.full((len(paths), found.shape[1]), np.nan, np.float32)
    features[read] = found
    return Answers(probabilities, features)


@contextmanager
def captured_features(net: nn.Module) -> Iterator[list[Tensor]]:
    """Collect what the backbone gives in each forward pass: float32 [B, D] on the CPU, maps averaged over space."""
    backbones = _backbones(net)
    batches: list[Tensor] = []
    parts: list[Tensor] = []

    def keep(module: nn.Module, inputs: tuple[object, ...], output: object) -> None:
        if not isinstance(output, Tensor) or output.dim() < 2:
            return
        pooled = output.detach().flatten(2).mean(2) if output.dim() > 2 else output.detach()
        parts.append(pooled.float().cpu())
        if len(parts) == len(backbones):
            batches.append(torch.cat(parts, dim=1))
            parts.clear()

    hooks = [backbone.register_forward_hook(keep) for backbone in backbones]
    try:
        yield batches
    finally:
        for hook in hooks:
            hook.remove()


def _backbones(net: nn.Module) -> list[nn.Module]:
    backbone = getattr(net, "backbone", None)
    if isinstance(backbone, nn.Module):
        return [backbone]
    several = getattr(net, "backbones", None)
    if isinstance(several, nn.ModuleDict):
        return list(several.values())
    return list(several) if isinstance(several, nn.ModuleList) else []
