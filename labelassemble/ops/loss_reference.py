"""The loss of Label-Assemble on partial labels in plain torch: what the op is tested against, and what serves where it
cannot."""

from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torch._subclasses import FakeTensor
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from .sharpen import sharpen

Reduction = Literal["mean", "sum", "none"]


def is_on(weight: float | Tensor) -> bool:
    """Return whether a term counts: where its weight is a tensor, it may."""
    return isinstance(weight, Tensor) or weight != 0


def weighted(weight: float | Tensor, term: Tensor) -> Tensor:
    """Return a term times its weight, in the term's dtype."""
    return term * (weight.to(term.dtype) if isinstance(weight, Tensor) else weight)


def known_mask(targets: Tensor) -> Tensor:
    """Return which targets are known: not NaN, or not -1 for integers with a sign."""
    if targets.is_floating_point():
        return ~torch.isnan(targets)
    if targets.dtype.is_signed:
        return targets != -1
    return torch.ones_like(targets, dtype=torch.bool)  # of uint8, -1 would be 255


def check_images(op: str, logits: Tensor, targets: Tensor) -> None:
    """Raise RuntimeError where logits are not floating [B, C, *spatial] or targets have another shape."""
    if not logits.is_floating_point():
        raise RuntimeError(f"{op}: logits must be floating, got {logits.dtype}")
    if logits.dim() < 2:
        raise RuntimeError(f"{op}: logits must be [B, C, *spatial], got {list(logits.shape)}")
    if targets.shape != logits.shape:
        raise RuntimeError(
            f"{op}: targets must have the shape of logits, got {list(targets.shape)} and {list(logits.shape)}"
        )


_ROUNDING = 1e-6  # how far y (1 - y) may be below 0: sums of soft labels round to a little more than 1


def _check_weight(name: str, vector: Tensor | None, logits: Tensor, validate: bool) -> None:
    if vector is None:
        return
    if vector.dim() != 1 or vector.shape[0] != logits.shape[1]:
        raise RuntimeError(
            f"partial_label_loss: {name} must have one value a class, [{logits.shape[1]}], got {list(vector.shape)}"
        )
    if not vector.is_floating_point():
        raise RuntimeError(f"partial_label_loss: {name} must be floating, got {vector.dtype}")
    wrong = ~((vector >= 0) & vector.isfinite())
    if validate and _can_be_read(wrong) and bool(wrong.any()):
        got = float(vector[wrong][0])
        raise RuntimeError(f"partial_label_loss: {name} must be finite and not negative, got {got:g}")


def _can_be_read(values: Tensor) -> bool:
    """Return whether Python may look at values: there are none while torch compiles, exports or vmaps a function."""
    return not (
        torch.compiler.is_compiling()
        or values.is_meta
        or isinstance(values, FakeTensor)
        or torch._C._functorch.is_functorch_wrapped_tensor(values)
    )


def _within_range(y: Tensor, targets: Tensor) -> Tensor:
    """Return the known targets y, or raise where one lies outside [0, 1]; it is NaN where Python cannot look."""
    outside = y * (1 - y) < -_ROUNDING
    if _can_be_read(outside) and bool(outside.any()):
        raise RuntimeError(
            "partial_label_loss: targets must lie in [0, 1] or be "
            f"{'NaN' if targets.is_floating_point() else '-1'} where unknown, got {float(y[outside][0]):g} at "
            f"{outside.nonzero()[0].tolist()} (unknown and uncertain labels are NaN in floating targets, -1 in signed "
            "integers)"
        )
    return torch.where(outside, torch.nan, y)


def _along_classes(vector: Tensor | None, like: Tensor) -> Tensor:
    if vector is None:
        return like.new_ones(())
    return vector.to(like.dtype).view(-1, *[1] * (like.dim() - 2))


_holds_tensors: Callable[[object], bool] = is_traceable_wrapper_subclass


def _log_sigmoid(logits: Tensor) -> Tensor:
    if type(logits) is not Tensor and _holds_tensors(
        logits
    ):  # DTensor has no rule for logsigmoid's derivative
        return -torch.logaddexp(-logits, torch.zeros_like(logits))
    return F.logsigmoid(logits)


def _bce(logits: Tensor, targets: Tensor, pos_weight: Tensor) -> Tensor:
    # A weight of 0 takes its term away even where that is infinite.
    positive, negative = pos_weight * targets, 1 - targets
    zero = logits.new_zeros(())
    return torch.where(positive != 0, -positive * _log_sigmoid(logits), zero) + torch.where(
        negative != 0, -negative * _log_sigmoid(-logits), zero
    )


def reference(
    logits_weak: Tensor,  # [B, C, *spatial]
    logits_strong: Tensor | None,  # [B, C, *spatial]
    targets: Tensor,  # [B, C, *spatial]
    threshold: float = 0.5,
    temperature: float = 4.0,
    pseudo_weight: float | Tensor = 1.0,
    consistency_weight: float | Tensor = 1.0,
    pos_weight: Tensor | None = None,  # [C]
    class_weight: Tensor | None = None,  # [C]
    detach_target: bool = True,
    reduction: Reduction = "mean",
    validate: bool = True,
    strong_known: bool = False,
    absent: Tensor | None = None,  # bool [B, C, *spatial]
) -> tuple[Tensor, Tensor]:
    """Return the loss and its five terms by plain torch functions: what the op is tested against.

    Twice differentiable, on every device of torch's. Arguments as `partial_label_loss_terms`, in the order of the op's
    schema; the second result is float64 [5]: bce, pseudo, consistency, known, unknown, without gradient. Where a value
    that is not allowed cannot raise, under torch.compile and torch.func.vmap, it makes the loss NaN.
    """
    if targets.shape != logits_weak.shape:
        raise RuntimeError(
            "partial_label_loss: targets must have the shape of logits_weak, "
            f"got {list(targets.shape)} and {list(logits_weak.shape)}"
        )
    _check_weight("pos_weight", pos_weight, logits_weak, validate)
    _check_weight("class_weight", class_weight, logits_weak, validate)
    known = known_mask(targets)
    dtype = torch.float64 if logits_weak.dtype == torch.float64 else torch.float32
    z = logits_weak.to(dtype)
    y = torch.where(known, targets.to(dtype), 0)
    if validate:
        y = _within_range(y, targets)
    weight = _along_classes(class_weight, z)
    zero = z.new_zeros(())
    views = [z]
    if strong_known and logits_strong is not None:
        views.append(logits_strong.to(dtype))
    of_views = [_bce(torch.where(known, view, zero), y, _along_classes(pos_weight, z)) for view in views]
    bce = torch.where(known, weight * (of_views[0] if len(views) == 1 else sum(of_views) / 2), zero)
    pseudo, consistency = torch.zeros_like(bce), torch.zeros_like(bce)
    strong = logits_strong if is_on(consistency_weight) else None
    if is_on(pseudo_weight) or strong is not None:
        a = torch.sigmoid(torch.where(known, zero, z))
        sharpened = sharpen(a, threshold=threshold, temperature=temperature)
        sharpened = sharpened.detach() if detach_target else sharpened
        sharpened = sharpened if absent is None else torch.where(absent, zero, sharpened)
        if is_on(pseudo_weight):
            pseudo = torch.where(known, zero, weight * (a - sharpened) ** 2)
        if strong is not None:
            gap = torch.sigmoid(torch.where(known, zero, strong.to(dtype))) - sharpened
            consistency = torch.where(known, zero, weight * gap**2)
    count = known.sum(dtype=torch.float64)
    counts = [count, known.numel() - count]
    sums = [bce.sum(), pseudo.sum(), consistency.sum()]
    if reduction == "mean":
        known_count, unknown_count = (number.clamp(min=1).to(dtype) for number in counts)
        sums = [sums[0] / known_count, sums[1] / unknown_count, sums[2] / unknown_count]
    if reduction == "none":
        total = bce + weighted(pseudo_weight, pseudo) + weighted(consistency_weight, consistency)
    else:
        total = sums[0] + weighted(pseudo_weight, sums[1]) + weighted(consistency_weight, sums[2])
    return total, torch.stack([term.detach().double() for term in [*sums, *counts]])
