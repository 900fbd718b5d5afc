"""What views hand to training and to evaluation."""

from collections.abc import Iterator
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from labelassemble.views.bad_files import BadFiles
from labelassemble.views.options import ViewOptions


class Batch(NamedTuple):
    """What a training step takes.

    B is 0 where none of the step's files can be read, or where a step has fewer images than there are processes: every
    process takes the same number of steps, or those that exchange gradients would wait for ever. Such a batch goes
    through network and loss like any other and gives a loss and gradients of zero.

    Attributes:
        step: the step of the epoch.
        rows: rows of the table, int64 [B], on the CPU.
        weak: weak view, float32 [B, channels, size, size].
        strong: strong view of the same images, or None where it was not asked for.
        targets: float32 [B, C, *spatial], NaN = unknown, on the CPU: their labels are counted there.
    """

    step: int
    rows: Tensor
    weak: Tensor
    strong: Tensor | None
    targets: Tensor


class EvaluationBatch(NamedTuple):
    """What an evaluation step takes.

    Attributes:
        rows: indices in the list of files, int64 [B].
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
        """Yield the batch of each step of an epoch from `first_step` on; without `strong` there is no strong view.

        A batch lacks the files that cannot be read, and may be left without any.
        """
        ...


def empty_batch(
    step: int, options: ViewOptions, targets: Tensor, *, strong: bool, device: torch.device
) -> Batch:
    """Return the batch of a step without images; `targets` is the whole table's, [N, C]."""
    views = torch.empty((0, options.channels, options.size, options.size), device=device)
    rows = torch.empty(0, dtype=torch.int64)
    return Batch(step, rows, views, views.clone() if strong else None, targets[rows])
