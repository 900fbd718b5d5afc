"""The loss beside what the op computes in one pass: other divisors, means by class, and which classes are excluded."""

from typing import Literal

import torch
from torch import Tensor

from labelassemble.errors import LabelAssembleError

from .class_vector import class_vector
from .counts import LossCounts, divisor
from .excluded import excluded
from .loss_reference import is_on, known_mask
from .partial_label_loss import LossTerms, OpOptions, one_class, partial_label_loss_terms


def silenced(logits: Tensor, where: Tensor) -> Tensor:
    """Return logits that add nothing to the terms of unknown labels where asked for, and have no gradient there.

    The probability of -10,000 is exactly 0, and so are its pseudo-label and both terms.
    """
    return logits.masked_fill(where, -1e4)


def absent_labels(
    logits_weak: Tensor,  # [B, C, *spatial] or [B]
    logits_strong: Tensor | None,  # as logits_weak
    targets: Tensor,  # as logits_weak
    options: OpOptions,
    exclusive: Tensor | None,  # bool [C, C] or [B, C, C]
) -> Tensor | None:
    """Return where `excluded` makes a pseudo-label 0, bool of the logits' shape; None where none can matter."""
    unknown = is_on(options.pseudo_weight) or (
        logits_strong is not None and is_on(options.consistency_weight)
    )
    if exclusive is None or not unknown:
        return None
    if logits_weak.dim() == 1:
        return excluded(logits_weak[:, None], targets[:, None], exclusive, threshold=options.threshold)[:, 0]
    return excluded(logits_weak, targets, exclusive, threshold=options.threshold)


def composed_terms(
    logits_weak: Tensor,  # [B, C, *spatial]
    logits_strong: Tensor | None,  # [B, C, *spatial]
    targets: Tensor,  # [B, C, *spatial]
    options: OpOptions,
    *,
    strong_known: bool = False,
    known_mean: Literal["entry", "class"] = "entry",
    absent: Tensor | None = None,  # bool [B, C, *spatial]
    reduction: Literal["mean", "sum"] = "mean",
    counts: LossCounts | None = None,
) -> LossTerms:
    """Return the loss and its terms where the op's own counts are not what the means divide by.

    Args:
        logits_weak: logits of the weakly augmented view.
        logits_strong: of the strong one, or None.
        targets: labels; floating: NaN is unknown; integer: -1 is unknown.
        options: of the op.
        strong_known: the cross-entropy is the mean of both views'.
        known_mean: over known labels, or over those of each class and then over the classes.
        absent: where the pseudo-label is 0.
        reduction: "mean" or "sum".
        counts: what the means divide by instead of the batch's own counts.

    Raises:
        LabelAssembleError: the counts lack those of the classes.
    """
    if logits_weak.dim() == 1:
        logits_weak, logits_strong, targets = one_class(logits_weak, logits_strong, targets)
        absent = None if absent is None else absent[:, None]
    if known_mean == "entry" and counts is not None:
        known, unknown = _number(counts.known), _number(counts.unknown)
        if known is not None and unknown is not None:
            return _divided(
                logits_weak, logits_strong, targets, options, known, unknown, strong_known, absent
            )
    options = options._replace(
        pos_weight=class_vector(options.pos_weight, logits_weak),
        class_weight=class_vector(options.class_weight, logits_weak),
    )
    mask = known_mask(targets)
    own_known = mask.sum(dtype=torch.float64)
    own_unknown = mask.numel() - own_known
    k = u = own_known.new_ones(())
    if counts is not None:
        k, u = (divisor(count, own_known) for count in (counts.known, counts.unknown))
    elif reduction == "mean":
        k, u = own_known.clamp(min=1), own_unknown.clamp(min=1)
    class_weight = options.class_weight
    if known_mean == "class":
        weight = _class_means(mask, counts)
        class_weight = weight.to(_sum_dtype(logits_weak)) * (1 if class_weight is None else class_weight)
        k = own_known.new_ones(())
    of_known = options._replace(pseudo_weight=0.0, consistency_weight=0.0, class_weight=class_weight)
    bce = partial_label_loss_terms(
        logits_weak, logits_strong, targets, of_known, reduction="sum", strong_known=strong_known
    ).total
    bce = bce / k.to(bce.dtype)
    total, pseudo, consistency = bce, own_known.new_zeros(()), own_known.new_zeros(())
    strong = logits_strong if is_on(options.consistency_weight) else None
    if is_on(options.pseudo_weight) or strong is not None:
        # The op gets each label as unknown; those that are known are silenced.
        sums = partial_label_loss_terms(
            silenced(logits_weak, mask),
            None if strong is None else silenced(strong, mask),
            torch.full_like(logits_weak, torch.nan),
            options,
            reduction="sum",
            absent=absent,
        )
        total = bce + sums.total / u.to(bce.dtype)
        pseudo, consistency = sums.pseudo / u, sums.consistency / u
    return LossTerms(total, bce.detach().double(), pseudo, consistency, own_known, own_unknown)


def _divided(
    logits_weak: Tensor,
    logits_strong: Tensor | None,
    targets: Tensor,
    options: OpOptions,
    known: float,
    unknown: float,
    strong_known: bool,
    absent: Tensor | None,
) -> LossTerms:
    """Return the loss whose means divide by these counts, from the op's sums.

    bce/K + w pseudo/U is (bce + w K/U pseudo)/K.
    """
    ratio = known / unknown
    weights = options._replace(
        pseudo_weight=options.pseudo_weight * ratio, consistency_weight=options.consistency_weight * ratio
    )
    sums = partial_label_loss_terms(
        logits_weak,
        logits_strong,
        targets,
        weights,
        reduction="sum",
        strong_known=strong_known,
        absent=absent,
    )
    return LossTerms(
        sums.total / known,
        sums.bce / known,
        sums.pseudo / unknown,
        sums.consistency / unknown,
        sums.known,
        sums.unknown,
    )


def _number(count: Tensor | float) -> float | None:
    """Return a divisor, 1 where the count is 0; None where reading it would wait for a device or cannot be compiled."""
    if isinstance(count, Tensor):
        if torch.compiler.is_compiling() or type(count) is not Tensor or count.device.type != "cpu":
            return None
        if torch._C._functorch.is_functorch_wrapped_tensor(count):
            return None
    return float(count) if count > 0 else 1.0


def _class_means(known: Tensor, counts: LossCounts | None) -> Tensor:
    """Return the weights [C], float64, with which a sum over known labels is the mean over classes of their means."""
    classes = known.shape[1]
    if counts is None:
        each = known.transpose(0, 1).flatten(1).sum(dim=1, dtype=torch.float64)
    elif counts.known_by_class is not None and len(counts.known_by_class) == classes:
        each = torch.as_tensor(counts.known_by_class, dtype=torch.float64, device=known.device)
    else:
        raise LabelAssembleError(
            f"known_mean class needs counts.known_by_class of all {classes} classes, got {counts.known_by_class}"
        )
    return 1 / (divisor(each, each) * (each > 0).sum().clamp(min=1))


def _sum_dtype(logits: Tensor) -> torch.dtype:
    return torch.float64 if logits.dtype == torch.float64 else torch.float32
