"""Losses that the op does not compute by itself, as sums of what it does: of known labels, of pseudo-labels."""

from typing import Literal

import torch
from torch import Tensor

from labelassemble.errors import LabelAssembleError

from .class_vector import class_vector
from .counts import LossCounts, divisor
from .excluded import excluded
from .loss_reference import is_on, known_mask, weighted
from .partial_label_loss import (
    LossTerms,
    OpOptions,
    masked_bce_with_logits,
    one_class,
    partial_label_loss,
    partial_label_loss_terms,
)


def silenced(logits: Tensor, where: Tensor) -> Tensor:
    """Return logits that add nothing to the terms of unknown labels where asked for, and have no gradient there.

    The probability of -10,000 is exactly 0, and so are its pseudo-label and both terms.
    """
    return logits.masked_fill(where, -1e4)


def composed_terms(
    logits_weak: Tensor,  # [B, C, *spatial]
    logits_strong: Tensor | None,  # [B, C, *spatial]
    targets: Tensor,  # [B, C, *spatial]
    options: OpOptions,
    *,
    strong_known: bool = False,
    known_mean: Literal["entry", "class"] = "entry",
    exclusive: Tensor | None = None,  # bool [C, C] or [B, C, C]
    reduction: Literal["mean", "sum"] = "mean",
    counts: LossCounts | None = None,
) -> LossTerms:
    """Return the loss with what `PartialLabelLoss` can do beside the paper's, and its terms; see there.

    Args:
        logits_weak: logits of the weakly augmented view.
        logits_strong: of the strong one, or None.
        targets: labels; floating: NaN is unknown; integer: -1 is unknown.
        options: of the op.
        strong_known: the cross-entropy is the mean of both views'.
        known_mean: over known labels, or over those of each class and then over the classes.
        exclusive: which classes exclude each other; their pseudo-labels are 0 where `excluded` says so.
        reduction: "mean" or "sum".
        counts: what the means divide by instead of the batch's own counts.

    Raises:
        LabelAssembleError: the counts lack those of the classes.
    """
    if logits_weak.dim() == 1:
        logits_weak, logits_strong, targets = one_class(logits_weak, logits_strong, targets)
    options = _by_class(options, logits_weak)
    known = known_mask(targets)
    own_known = known.sum(dtype=torch.float64)
    own_unknown = known.numel() - own_known
    k = u = own_known.new_ones(())
    if counts is not None:
        k, u = (divisor(count, own_known) for count in (counts.known, counts.unknown))
    elif reduction == "mean":
        k, u = own_known.clamp(min=1), own_unknown.clamp(min=1)
    class_weight = options.class_weight
    if known_mean == "class":
        weight = _class_means(known, counts)
        class_weight = weight.to(_sum_dtype(logits_weak)) * (1 if class_weight is None else class_weight)
        k = own_known.new_ones(())
    views = [logits_weak, logits_strong] if strong_known and logits_strong is not None else [logits_weak]
    parts = [
        masked_bce_with_logits(
            view,
            targets,
            pos_weight=options.pos_weight,
            class_weight=class_weight,
            reduction="sum",
            validate=options.validate,
        )
        for view in views
    ]
    bce = torch.stack(parts).mean() / k.to(parts[0].dtype)
    total, pseudo, consistency = bce, own_known.new_zeros(()), own_known.new_zeros(())
    if is_on(options.pseudo_weight) or (is_on(options.consistency_weight) and logits_strong is not None):
        sums = _unknown_sums(logits_weak, logits_strong, targets, known, options, exclusive)
        total = bce + sums.total / u.to(bce.dtype)
        pseudo, consistency = sums.pseudo / u, sums.consistency / u
    return LossTerms(total, bce.detach().double(), pseudo, consistency, own_known, own_unknown)


def composed_entries(
    logits_weak: Tensor,  # [B, C, *spatial]
    logits_strong: Tensor | None,  # [B, C, *spatial]
    targets: Tensor,  # [B, C, *spatial]
    options: OpOptions,
    *,
    strong_known: bool = False,
    exclusive: Tensor | None = None,  # bool [C, C] or [B, C, C]
) -> Tensor:
    """Return the loss of each entry, [B, C, *spatial]; arguments as `composed_terms`."""
    if logits_weak.dim() == 1:
        views = one_class(logits_weak, logits_strong, targets)
        return composed_entries(*views, options, strong_known=strong_known, exclusive=exclusive)[:, 0]
    options = _by_class(options, logits_weak)
    entries = partial_label_loss(logits_weak, logits_strong, targets, **options._asdict(), reduction="none")
    if strong_known and logits_strong is not None:
        strong = masked_bce_with_logits(
            logits_strong,
            targets,
            pos_weight=options.pos_weight,
            class_weight=options.class_weight,
            reduction="none",
            validate=options.validate,
        )
        entries = torch.where(known_mask(targets), (entries + strong) / 2, entries)
    if exclusive is not None:
        absent = excluded(logits_weak, targets, exclusive, threshold=options.threshold)
        zeros = weighted(options.pseudo_weight, _squares(logits_weak, absent, options.class_weight))
        if logits_strong is not None:
            squares = _squares(logits_strong, absent, options.class_weight)
            zeros = zeros + weighted(options.consistency_weight, squares)
        entries = torch.where(absent, zeros, entries)
    return entries


def _by_class(options: OpOptions, logits: Tensor) -> OpOptions:
    return options._replace(
        pos_weight=class_vector(options.pos_weight, logits),
        class_weight=class_vector(options.class_weight, logits),
    )


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


def _unknown_sums(
    logits_weak: Tensor,
    logits_strong: Tensor | None,
    targets: Tensor,
    known: Tensor,
    options: OpOptions,
    exclusive: Tensor | None,
) -> LossTerms:
    """Return sums over unknown labels; the counts are of no use.

    The op gets each label as unknown; those that are known, or whose pseudo-label is 0, are silenced.
    """
    strong = logits_strong if is_on(options.consistency_weight) else None
    absent = None
    if exclusive is not None:
        absent = excluded(logits_weak, targets, exclusive, threshold=options.threshold)
    silent = known if absent is None else known | absent
    sums = partial_label_loss_terms(
        silenced(logits_weak, silent),
        None if strong is None else silenced(strong, silent),
        torch.full_like(logits_weak, torch.nan),
        options,
        reduction="sum",
    )
    if absent is None:
        return sums
    total, pseudo, consistency = sums.total, sums.pseudo, sums.consistency
    if is_on(options.pseudo_weight):
        own = _squares(logits_weak, absent, options.class_weight).sum()
        total, pseudo = total + weighted(options.pseudo_weight, own), pseudo + own.detach()
    if strong is not None:
        own = _squares(strong, absent, options.class_weight).sum()
        total, consistency = total + weighted(options.consistency_weight, own), consistency + own.detach()
    return sums._replace(total=total, pseudo=pseudo, consistency=consistency)


def _squares(logits: Tensor, where: Tensor, class_weight: Tensor | None) -> Tensor:
    """Return (a - 0)^2 with the class's weight where asked for, else 0."""
    dtype = _sum_dtype(logits)
    squares = torch.sigmoid(silenced(logits.to(dtype), ~where)) ** 2
    if class_weight is None:
        return squares
    return squares * class_weight.to(dtype).view(-1, *[1] * (logits.dim() - 2))


def _sum_dtype(logits: Tensor) -> torch.dtype:
    return torch.float64 if logits.dtype == torch.float64 else torch.float32
