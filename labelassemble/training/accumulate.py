"""A batch in parts whose losses and gradients add up to those of the batch, whoever computes them.

The loss of a batch is  bce/K + w_p pseudo/U + w_c consistency/U,  with the sums of the three terms over its K known and
U unknown labels. Sums add up over any division of the batch, means of parts do not: so each part's sums are divided
by the counts of the whole batch, over all parts and all processes, and the gradients of the parts are added.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from labelassemble.loss import LossTerms, PartialLabelLoss
from labelassemble.views.batch import Batch


class Counts(NamedTuple):
    """What a batch holds, over all its parts and all processes.

    Attributes:
        images: images that could be read.
        known: known labels.
        unknown: unknown labels.
    """

    images: int
    known: int
    unknown: int


def count(targets: Tensor) -> Counts:
    """Return what targets [B, C] hold."""
    unknown = int(torch.isnan(targets).sum())
    return Counts(len(targets), targets.numel() - unknown, unknown)


def split(batch: Batch, parts: int, *, keep_empty: bool) -> Iterator[Batch]:
    """Yield a batch in `parts` parts, those without an image only if they are to be kept.

    Processes that synchronise BatchNorm must all go through as many parts.
    """
    if parts == 1 and (keep_empty or len(batch.rows)):
        yield batch
        return
    strong = [None] * parts if batch.strong is None else torch.tensor_split(batch.strong, parts)
    divided = zip(
        *(torch.tensor_split(x, parts) for x in (batch.rows, batch.weak, batch.targets)), strict=True
    )
    for (rows, weak, targets), other in zip(divided, strong, strict=True):
        if keep_empty or len(rows):
            yield Batch(batch.step, rows, weak, other, targets)


def part_terms(
    criterion: PartialLabelLoss,
    logits_weak: Tensor,  # [B, C]
    logits_strong: Tensor | None,  # [B, C]
    targets: Tensor,  # [B, C]
    *,
    part: Counts,
    whole: Counts,
) -> LossTerms:
    """Return what a part adds to the loss of the whole batch, and to each of its terms; the counts are the part's.

    Args:
        criterion: the loss, with reduction "mean".
        logits_weak: of the part's weak views.
        logits_strong: of its strong views, or None.
        targets: of its images.
        part: what the part holds.
        whole: what the whole batch holds.
    """
    if part == whole:
        return criterion.terms(logits_weak, logits_strong, targets)
    known, unknown = max(whole.known, 1), max(whole.unknown, 1)
    # The op adds plain sums; known/unknown before the division by `known` leaves the division by `unknown`.
    sums = PartialLabelLoss(
        threshold=criterion.threshold,
        temperature=criterion.temperature,
        pseudo_weight=criterion.pseudo_weight * known / unknown,
        consistency_weight=criterion.consistency_weight * known / unknown,
        pos_weight=criterion.pos_weight,
        class_weight=criterion.class_weight,
        detach_target=criterion.detach_target,
        reduction="sum",
    ).terms(logits_weak, logits_strong, targets)
    return LossTerms(
        sums.total / known,
        sums.bce / known,
        sums.pseudo / unknown,
        sums.consistency / unknown,
        sums.known,
        sums.unknown,
    )
