"""What views hand to training and to evaluation."""

from collections.abc import Iterator
from typing import NamedTuple, Protocol

from torch import Tensor

from labelassemble.views.bad_files import BadFiles


class Batch(NamedTuple):
    """What a training step takes.

    Attributes:
        step: the step of the epoch.
        rows: rows of the table, int64 [B].
        weak: weak view, float32 [B, channels, size, size].
        strong: strong view of the same images, or None where it was not asked for.
        targets: float32 [B, C], NaN = unknown.
        sources: int64 [B], each image's source among those that the network has a part for, -1 = none of them; None
            where no network asked for it.
    """

    step: int
    rows: Tensor
    weak: Tensor
    strong: Tensor | None
    targets: Tensor
    sources: Tensor | None = None


class EvaluationBatch(NamedTuple):
    """What an evaluation step takes.

    Attributes:
        rows: places in the list of files, int64 [B].
        images: the deterministic view, float32 [B, channels, size, size].
    """

    rows: Tensor
    images: Tensor


class Views(Protocol):
    """What every backend offers.

    Attributes:
        steps: steps in an epoch.
        bad_files: the files that could not be read so far.
    """

    steps: int
    bad_files: BadFiles

    def epoch(self, epoch: int, *, strong: bool, first_step: int = 0) -> Iterator[Batch]:
        """Yield the batches of an epoch from `first_step` on; without `strong` the strong view is not computed.

        A batch lacks the files that cannot be read; one that has nothing else is left out.
        """
        ...
