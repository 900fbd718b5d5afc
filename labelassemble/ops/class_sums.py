"""Sums over the voxels of each class that the soft Dice and the figures of a training step are made of."""

import torch
from torch import Tensor

from labelassemble import _extension

from .loss_reference import check_images, known_mask


def class_sums(
    logits: Tensor,  # [B, C, *spatial]
    targets: Tensor,  # [B, C, *spatial]
    threshold: float = 0.5,
) -> Tensor:
    """Return sums over all but the classes, float64 [6, C], with a = sigmoid(logits).

    a y, a and y of known entries; how many are known; how many of the unknown ones have a > threshold; how many logits
    are not finite. The first two have a gradient, in which an unknown entry has no part.

    Args:
        logits: of one view.
        targets: labels; NaN is unknown.
        threshold: tau, above which a probability calls a class present.

    Raises:
        RuntimeError: if shapes or dtypes do not fit.
    """
    # On a GPU it is torch's functions: there is no kernel of its own.
    function = reference
    if logits.device.type == "cpu":
        function = _extension.implementation("class_sums", reference, logits)
    return function(logits, targets, threshold)


def reference(
    logits: Tensor,  # [B, C, *spatial]
    targets: Tensor,  # [B, C, *spatial]
    threshold: float = 0.5,
) -> Tensor:
    """Return what `class_sums` does, by plain torch functions."""
    check_images("class_sums", logits, targets)
    if not targets.is_floating_point():
        raise RuntimeError(f"class_sums: targets must be floating, got {targets.dtype}")
    if targets.requires_grad:
        raise RuntimeError("class_sums: targets must not require a gradient")
    axes = [axis for axis in range(logits.dim()) if axis != 1]
    dtype = torch.float64 if logits.dtype == torch.float64 else torch.float32
    known = known_mask(targets)
    zero = logits.new_zeros((), dtype=dtype)
    y = torch.where(known, targets.to(dtype), zero)
    a = torch.sigmoid(logits.to(dtype))
    a_known = torch.sigmoid(torch.where(known, logits.to(dtype), zero))
    sums = [(a_known * y).sum(axes), torch.where(known, a_known, zero).sum(axes), y.sum(axes)]
    counts = [known, ~known & (a > threshold), ~torch.isfinite(logits)]
    return torch.stack([*(each.double() for each in sums), *(each.sum(axes).double() for each in counts)])


_extension.define("class_sums(Tensor logits, Tensor targets, float threshold=0.5) -> Tensor", reference)
