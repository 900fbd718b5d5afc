"""Losses that the op does not compute by itself, as sums of what it does: of known labels, of pseudo-labels."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from labelassemble.errors import LabelAssembleError

from .excluded import excluded
from .partial_label_loss import (
    LossTerms,
    OpOptions,
    known_mask,
    masked_bce_with_logits,
    partial_label_loss,
    partial_label_loss_terms,
)


def silenced(logits: Tensor, where: Tensor) -> Tensor:
    """Return logits that add nothing to the terms of unknown labels where asked for, and have no gradient there.

    The probability of -10,000 is exactly 0, and so are its pseudo-label and both terms.
    """
    return logits.masked_fill(where, -1e4)


class LossCounts(NamedTuple):
    """What the means of the loss divide by, where that is not the batch's own.

    Attributes:
        known: known labels.
        unknown: unknown labels.
        known_by_class: known labels of each class, [C]; for known_mean "class" alone.
    """

    known: float
    unknown: float
    known_by_class: Sequence[float] | None = None


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
    known = known_mask(targets)
    own_known = known.sum(dtype=torch.float64)
    own_unknown = known.numel() - own_known
    k = u = own_known.new_ones(())
    if counts is not None:
        k, u = own_known.new_tensor([max(counts.known, 1), max(counts.unknown, 1)]).unbind()
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
            view, targets, pos_weight=options.pos_weight, class_weight=class_weight, reduction="sum"
        )
        for view in views
    ]
    bce = torch.stack(parts).mean() / k.to(parts[0].dtype)
    total, pseudo, consistency = bce, own_known.new_zeros(()), own_known.new_zeros(())
    if options.pseudo_weight > 0 or (options.consistency_weight > 0 and logits_strong is not None):
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
    entries = partial_label_loss(logits_weak, logits_strong, targets, **options._asdict(), reduction="none")
    if strong_known and logits_strong is not None:
        strong = masked_bce_with_logits(
            logits_strong,
            targets,
            pos_weight=options.pos_weight,
            class_weight=options.class_weight,
            reduction="none",
        )
        entries = torch.where(known_mask(targets), (entries + strong) / 2, entries)
    if exclusive is not None:
        absent = excluded(logits_weak, targets, exclusive, threshold=options.threshold)
        zeros = options.pseudo_weight * _squares(logits_weak, absent, options.class_weight)
        if logits_strong is not None:
            zeros = zeros + options.consistency_weight * _squares(logits_strong, absent, options.class_weight)
        entries = torch.where(absent, zeros, entries)
    return entries


def _class_means(known: Tensor, counts: LossCounts | None) -> Tensor:
    """Return the weights [C], float64, with which a sum over known labels is the mean over classes of their means."""
    classes = known.shape[1]
    if counts is None:
        each = known.transpose(0, 1).flatten(1).sum(dim=1, dtype=torch.float64)
    elif counts.known_by_class is not None and len(counts.known_by_class) == classes:
        each = torch.tensor(counts.known_by_class, dtype=torch.float64, device=known.device)
    else:
        raise LabelAssembleError(
            f"known_mean class needs counts.known_by_class of all {classes} classes, got {counts.known_by_class}"
        )
    return 1 / (each.clamp(min=1) * (each > 0).sum().clamp(min=1))


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
    strong = None if options.consistency_weight == 0 else logits_strong
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
    if options.pseudo_weight > 0:
        own = _squares(logits_weak, absent, options.class_weight).sum()
        total, pseudo = total + options.pseudo_weight * own, pseudo + own.detach()
    if strong is not None:
        own = _squares(strong, absent, options.class_weight).sum()
        total, consistency = total + options.consistency_weight * own, consistency + own.detach()
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
