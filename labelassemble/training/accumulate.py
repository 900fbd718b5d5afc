"""A batch in parts whose losses and gradients add up to those of the batch, on any number of processes.

The loss of a batch is  bce/K + w_p pseudo/U + w_c consistency/U,  with the sums of the three terms over its K known and
U unknown labels. Sums add up over any division of the batch, means of parts do not: so each part's sums are divided
by the counts of the whole batch, over all parts and all processes, and the gradients of the parts are added. It is what
`labelassemble.functional.global_counts` is for; here the counts travel with what else the processes tell each other.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from labelassemble.loss import LossCounts
from labelassemble.ops.counts import counts_of
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

    def divisors(self, part: "Counts") -> LossCounts | None:
        """Return what the means of a part divide by so that parts add up to this whole; None where it is the whole."""
        if part == self:
            return None
        known, unknown, each = (
            torch.tensor(value, dtype=torch.float64)
            for value in (self.known, self.unknown, self.known_by_class)
        )
        return LossCounts(known, unknown, each if self.known_by_class else None)


def count(targets: Tensor, *, by_class: bool = False) -> Counts:
    """Return what targets [B, C, *spatial] hold, on request class by class too."""
    counts = counts_of(targets)
    each = () if counts.known_by_class is None or not by_class else counts.known_by_class.tolist()
    return Counts(len(targets), int(counts.known), int(counts.unknown), tuple(int(number) for number in each))


def by_class_of(where: Tensor) -> Tensor:
    """Return how many entries of bool [B, C, *spatial] are True, by class, int64 [C]."""
    return where.count_nonzero([axis for axis in range(where.dim()) if axis != 1])


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
