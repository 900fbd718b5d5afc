"""Which pseudo-labels a rival class rules out, where classes exclude each other."""

import torch
from torch import Tensor

from labelassemble import _extension
from labelassemble.ops.loss_reference import check_images, known_mask


def excluded(
    logits_weak: Tensor,  # [B, C, *spatial]
    targets: Tensor,  # [B, C, *spatial]
    exclusive: Tensor,  # bool [C, C] or [B, C, C]
    *,
    threshold: float = 0.5,
) -> Tensor:
    """Return where an unknown label cannot be present, since a class that excludes it is, bool [B, C, *spatial].

    The pseudo-label there is 0 instead of s(a_w). A rival is present where its label is known and above the threshold,
    or where it is unknown and called: its probability is above the threshold and above that of the class itself, so
    that of several rivals that are called the highest stays.

    Args:
        logits_weak: logits of the weakly augmented view.
        targets: labels; floating: NaN is unknown; integer: -1 is unknown.
        exclusive: True where two classes exclude each other, the same for all images or image by image.
        threshold: tau, above which a probability calls a class present.

    Raises:
        RuntimeError: if shapes or dtypes do not fit.
    """
    if type(logits_weak) is not Tensor and _extension.is_distributed(logits_weak):
        from . import sharded

        placements = sharded.placements_of(logits_weak)
        if placements is not None:
            return sharded.excluded(placements, logits_weak, targets, exclusive, threshold)
        exclusive = sharded.replicated(exclusive, logits_weak)
    # On a GPU it is torch's functions: there is no kernel of its own.
    function = reference
    if logits_weak.device.type == "cpu":
        function = _extension.implementation("excluded", reference, logits_weak)
    return function(logits_weak, targets, exclusive, threshold)


def reference(
    logits_weak: Tensor,  # [B, C, *spatial]
    targets: Tensor,  # [B, C, *spatial]
    exclusive: Tensor,  # bool [C, C] or [B, C, C]
    threshold: float = 0.5,
) -> Tensor:
    """Return what `excluded` does, by plain torch functions."""
    check_images("excluded", logits_weak, targets)
    batch, classes = logits_weak.shape[:2]
    if exclusive.shape not in ((classes, classes), (batch, classes, classes)):
        raise RuntimeError(
            f"excluded: exclusive must have the shape [C, C] or [B, C, C] of logits {list(logits_weak.shape)}, "
            f"got {list(exclusive.shape)}"
        )
    if exclusive.dtype != torch.bool:
        raise RuntimeError(f"excluded: exclusive must be bool, got {exclusive.dtype}")
    if logits_weak.numel() == 0:
        return torch.zeros_like(logits_weak, dtype=torch.bool)
    with torch.no_grad():
        known = known_mask(targets)
        dtype = torch.float64 if logits_weak.dtype == torch.float64 else torch.float32
        called = logits_weak.detach().to(dtype)
        absent = torch.full_like(called, -torch.inf)
        # The logit where a class is present, +inf where that is known, -inf where it is not present.
        present = torch.where(torch.sigmoid(called) > threshold, called, absent)
        present = torch.where(known, torch.where(targets.to(dtype) > threshold, -absent, absent), present)
        rows = exclusive if exclusive.dim() == 3 else exclusive[None]
        if logits_weak.dim() == 2 and classes:
            return ~known & (present[:, None].masked_fill(~rows, -torch.inf).amax(dim=2) > called)
        highest = absent
        for rival in range(classes):  # a class at a time: [B, C, C, *spatial] would not fit for volumes
            mask = rows[:, :, rival].reshape(*rows.shape[:2], *(1,) * (logits_weak.dim() - 2))
            highest = torch.maximum(highest, torch.where(mask, present[:, rival : rival + 1], absent))
        return ~known & (highest > called)


_extension.define(
    "excluded(Tensor logits, Tensor targets, Tensor exclusive, float threshold=0.5) -> Tensor", reference
)
