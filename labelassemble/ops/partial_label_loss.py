"""The loss of Label-Assemble on partial labels: reference in plain torch, and what calls the fused op.

The op is `partial_label_loss_terms`; the loss alone is its first result, and masked binary cross-entropy is that
without the strong view and without pseudo-labels.
"""

from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch._subclasses import FakeTensor

from labelassemble._extension import implementation

from .sharpen import sharpen

Reduction = Literal["mean", "sum", "none"]


class OpOptions(NamedTuple):
    """What the op is told beside its tensors and the reduction; see `partial_label_loss`."""

    threshold: float = 0.5
    temperature: float = 4.0
    pseudo_weight: float = 1.0
    consistency_weight: float = 1.0
    pos_weight: Tensor | None = None  # [C]
    class_weight: Tensor | None = None  # [C]
    detach_target: bool = True


DEFAULTS = OpOptions()


class LossTerms(NamedTuple):
    """The loss and what it is made of; all but `total` are float64 scalars without gradient, to be logged."""

    total: Tensor  # [], differentiable
    bce: Tensor  # [], over known entries
    pseudo: Tensor  # [], over unknown entries, before pseudo_weight (0 where that is 0)
    consistency: Tensor  # [], over unknown entries, before consistency_weight (0 where that is 0)
    known: Tensor  # [], number of known entries
    unknown: Tensor  # [], number of unknown entries


def known_mask(targets: Tensor) -> Tensor:
    """Return which targets are known: not NaN, or not -1 for integers with a sign."""
    if targets.is_floating_point():
        return ~torch.isnan(targets)
    if targets.dtype.is_signed:
        return targets != -1
    return torch.ones_like(targets, dtype=torch.bool)  # of uint8, -1 would be 255


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


def _bce(logits: Tensor, targets: Tensor, pos_weight: Tensor) -> Tensor:
    # A weight of 0 takes its term away even where that is infinite.
    positive, negative = pos_weight * targets, 1 - targets
    zero = logits.new_zeros(())
    return torch.where(positive != 0, -positive * F.logsigmoid(logits), zero) + torch.where(
        negative != 0, -negative * F.logsigmoid(-logits), zero
    )


def reference(
    logits_weak: Tensor,  # [B, C, *spatial]
    logits_strong: Tensor | None,  # [B, C, *spatial]
    targets: Tensor,  # [B, C, *spatial]
    threshold: float = 0.5,
    temperature: float = 4.0,
    pseudo_weight: float = 1.0,
    consistency_weight: float = 1.0,
    pos_weight: Tensor | None = None,  # [C]
    class_weight: Tensor | None = None,  # [C]
    detach_target: bool = True,
    reduction: Reduction = "mean",
    validate: bool = True,
) -> tuple[Tensor, Tensor]:
    """Return the loss and its five terms by plain torch functions: what the op is tested against.

    Twice differentiable, on every device of torch's. Arguments as `partial_label_loss`, in the order of the op's
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
    bce = torch.where(
        known, weight * _bce(torch.where(known, z, zero), y, _along_classes(pos_weight, z)), zero
    )
    pseudo, consistency = torch.zeros_like(bce), torch.zeros_like(bce)
    strong = None if consistency_weight == 0 else logits_strong
    if pseudo_weight != 0 or strong is not None:
        a = torch.sigmoid(torch.where(known, zero, z))
        sharpened = sharpen(a, threshold=threshold, temperature=temperature)
        sharpened = sharpened.detach() if detach_target else sharpened
        if pseudo_weight != 0:
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
        total = bce + pseudo_weight * pseudo + consistency_weight * consistency
    else:
        total = sums[0] + pseudo_weight * sums[1] + consistency_weight * sums[2]
    return total, torch.stack([term.detach().double() for term in [*sums, *counts]])


def partial_label_loss(
    logits_weak: Tensor,  # [B, C, *spatial]
    logits_strong: Tensor | None,  # [B, C, *spatial]
    targets: Tensor,  # [B, C, *spatial]
    *,
    threshold: float = 0.5,
    temperature: float = 4.0,
    pseudo_weight: float = 1.0,
    consistency_weight: float = 1.0,
    pos_weight: Tensor | None = None,  # [C]
    class_weight: Tensor | None = None,  # [C]
    detach_target: bool = True,
    reduction: Reduction = "mean",
    validate: bool = True,
) -> Tensor:
    """Return the loss of a batch of which only some labels are known.

    total = mean over known of bce + pseudo_weight * mean over unknown of (a_w - s(a_w))^2
    + consistency_weight * mean over unknown of (a_s - s(a_w))^2, with a = sigmoid(logits) of the weak and the
    strong view and s the sharpening of `sharpen`  (arXiv 2109.12265, section 2.2).

    Args:
        logits_weak: logits of the weakly augmented view; float32, float64, float16 or bfloat16.
        logits_strong: logits of the strongly augmented view, of the same shape, dtype and device; None drops
            the consistency term.
        targets: labels of the same shape; floating: [0, 1], NaN is unknown; integer or bool: -1 is unknown.
        threshold: tau, above which a probability is sharpened towards 1.
        temperature: t >= 1; 1 makes hard pseudo-labels, inf none.
        pseudo_weight: weight of the pseudo-label term; 0 skips it.
        consistency_weight: weight of the consistency term; 0 skips it, and logits_strong is not read.
        pos_weight: weight of the positive part of the cross-entropy, by class.
        class_weight: weight of every term, by class; the means divide by counts all the same.
        detach_target: take s(a_w) as a constant in the gradient; False differentiates through it.
        reduction: "mean" (each term over its own count, 0 where that is 0), "sum", or "none" for the entries.
        validate: raise where a known target lies outside [0, 1] by more than rounding (1e-6), or a weight of a class is
            negative or not finite. On the CPU at once. On CUDA nothing waits for the device: the loss of that call is
            NaN, its gradient 0, and a later call raises.

    Returns:
        The loss, a scalar or [B, C, *spatial], in float32 for half-precision logits, else in their dtype.

    Raises:
        RuntimeError: if shapes, dtypes, devices or options do not fit, or on a second derivative.
    """
    # The options go one by one: making an OpOptions of them takes 8% of a small call.
    loss, _ = implementation("partial_label_loss_terms", reference)(
        logits_weak,
        logits_strong,
        targets,
        threshold,
        temperature,
        pseudo_weight,
        consistency_weight,
        pos_weight,
        class_weight,
        detach_target,
        reduction,
        validate,
    )
    return loss


def partial_label_loss_terms(
    logits_weak: Tensor,  # [B, C, *spatial]
    logits_strong: Tensor | None,  # [B, C, *spatial]
    targets: Tensor,  # [B, C, *spatial]
    options: OpOptions = DEFAULTS,
    *,
    reduction: Reduction = "mean",
    validate: bool = True,
) -> LossTerms:
    """Return the loss as `partial_label_loss`, and from the same pass the terms and counts it is made of.

    With reduction "none" the terms are sums.
    """
    total, terms = implementation("partial_label_loss_terms", reference)(
        logits_weak, logits_strong, targets, *options, reduction, validate
    )
    return LossTerms(total, *terms.unbind())


def masked_bce_with_logits(
    logits: Tensor,  # [B, C, *spatial]
    targets: Tensor,  # [B, C, *spatial]
    *,
    pos_weight: Tensor | None = None,  # [C]
    class_weight: Tensor | None = None,  # [C]
    reduction: Reduction = "mean",
    validate: bool = True,
) -> Tensor:
    """Return the binary cross-entropy of the known targets; unknown ones have no part in value or gradient.

    -(w+ y log a + (1 - y) log(1 - a)), a = sigmoid(logits), as torch's binary_cross_entropy_with_logits and
    finite at infinite logits wherever the mathematics is.

    Args:
        logits: float32, float64, float16 or bfloat16.
        targets: labels of the same shape; floating: [0, 1], NaN is unknown; integer or bool: -1 is unknown.
        pos_weight: weight of the positive part, by class.
        class_weight: weight of the class; the mean divides by the count all the same.
        reduction: "mean" over known entries (0 where there is none), "sum", or "none" for the entries.
        validate: raise where a known target lies outside [0, 1] by more than rounding (1e-6), or a weight of a class is
            negative or not finite. On the CPU at once. On CUDA nothing waits for the device: the loss of that call is
            NaN, its gradient 0, and a later call raises.

    Returns:
        The loss, a scalar or [B, C, *spatial], in float32 for half-precision logits, else in their dtype.

    Raises:
        RuntimeError: if shapes, dtypes, devices or options do not fit, or on a second derivative.
    """
    loss, _ = implementation("partial_label_loss_terms", reference)(
        logits, None, targets, 0.5, 1.0, 0.0, 0.0, pos_weight, class_weight, True, reduction, validate
    )
    return loss
