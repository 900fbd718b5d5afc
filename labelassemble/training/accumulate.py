"""A batch in parts whose losses and gradients add up to those of the batch, whoever computes them.

The loss of a batch is  bce/K + w_p pseudo/U + w_c consistency/U,  with the sums of the three terms over its K known and
U unknown labels. Sums add up over any division of the batch, means of parts do not: so each part's sums are divided
by the counts of the whole batch, over all parts and all processes, and the gradients of the parts are added.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from labelassemble.loss import LossCounts, LossTerms, PartialLabelLoss
from labelassemble.views.batch import Batch


class Counts(NamedTuple):
    """What a batch holds, over all its parts and all processes.

    Attributes:
        images: images that could be read.
        known: known labels.
        unknown: unknown labels.
        known_by_class: known labels of each class; empty where nothing asks for them.
    """

    images: int
    known: int
    unknown: int
    known_by_class: tuple[int, ...] = ()


def count(targets: Tensor, *, by_class: bool = False) -> Counts:
    """Return what targets [B, C] hold, on request class by class too."""
    known = ~torch.isnan(targets)
    if not by_class:
        total = int(known.sum())
        return Counts(len(targets), total, targets.numel() - total)
    each = known.sum(dim=0).tolist()
    return Counts(len(targets), sum(each), targets.numel() - sum(each), tuple(each))


def split(batch: Batch, parts: int, *, keep_empty: bool) -> Iterator[Batch]:
    """Yield a batch in `parts` parts, those without an image only if they are to be kept.

    Processes that synchronise BatchNorm must all go through as many parts.
    """
    if parts == 1 and (keep_empty or len(batch.rows)):
        yield batch
        return
    none = [None] * parts
    strong = none if batch.strong is None else torch.tensor_split(batch.strong, parts)
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
    exclusive: Tensor | None = None,  # bool [C, C] or [B, C, C]
) -> LossTerms:
    """Return what a part adds to the loss of the whole batch, and to each of its terms; the counts are the part's.

    Args:
        criterion: the loss, with reduction "mean".
        logits_weak: of the part's weak views.
        logits_strong: of its strong views, or None.
        targets: of its images.
        part: what the part holds.
        whole: what the whole batch holds.
        exclusive: which classes exclude each other.
    """
    if part == whole and exclusive is None:
        return criterion.terms(logits_weak, logits_strong, targets)
    counts = None
    if part != whole:
        counts = LossCounts(whole.known, whole.unknown, whole.known_by_class or None)
    return criterion.terms(logits_weak, logits_strong, targets, exclusive=exclusive, counts=counts)
