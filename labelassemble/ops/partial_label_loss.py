"""The loss of Label-Assemble on partial labels: reference in plain torch, and what calls the fused op.

The op is `partial_label_loss_terms`; the loss alone is its first result, and masked binary cross-entropy is that
without the strong view and without pseudo-labels.
"""

from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

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
    """Return which targets are known: not NaN, or not -1 for integers."""
    return ~torch.isnan(targets) if targets.is_floating_point() else targets != -1


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
    validate: bool = False,
) -> tuple[Tensor, Tensor]:
    """Return the loss and its five terms by plain torch functions: what the op is tested against.

    Twice differentiable, on every device of torch's. Arguments as `partial_label_loss`, in the order of the op's
    schema; the second result is float64 [5]: bce, pseudo, consistency, known, unknown, without gradient.
    """
    if targets.shape != logits_weak.shape:
        raise RuntimeError(
            "partial_label_loss: targets must have the shape of logits_weak, "
            f"got {list(targets.shape)} and {list(logits_weak.shape)}"
        )
    known = known_mask(targets)
    dtype = torch.float64 if logits_weak.dtype == torch.float64 else torch.float32
    z = logits_weak.to(dtype)
    y = torch.where(known, targets.to(dtype), 0)
    if validate and not bool(((y >= 0) & (y <= 1)).all()):
        got = float(y[(y < 0) | (y > 1)][0])
        raise RuntimeError(f"partial_label_loss: targets must lie in [0, 1] or be unknown, got {got}")
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
    validate: bool = False,
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
        validate: raise where a known target lies outside [0, 1]; costs a pass over the targets.

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
    validate: bool = False,
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
    validate: bool = False,
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
        validate: raise where a known target lies outside [0, 1]; costs a pass over the targets.

    Returns:
        The loss, a scalar or [B, C, *spatial], in float32 for half-precision logits, else in their dtype.

    Raises:
        RuntimeError: if shapes, dtypes, devices or options do not fit, or on a second derivative.
    """
    loss, _ = implementation("partial_label_loss_terms", reference)(
        logits, None, targets, 0.5, 1.0, 0.0, 0.0, pos_weight, class_weight, True, reduction, validate
    )
    return loss
