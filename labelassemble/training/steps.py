"""The steps of an epoch, which all processes take alike."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch

from labelassemble.errors import LabelAssembleError
from labelassemble.training.accumulate import Counts, count
from labelassemble.training.distributed import Processes
from labelassemble.views.batch import Batch, Views
from labelassemble.views.policy import ViewOptions


class Step(NamedTuple):
    """A step as all processes know it.

    Attributes:
        batch: this process's images, maybe none.
        counts: what the batch holds over all processes; without an image there is nothing to learn from.
        stop: whether any process was asked to stop before this step.
    """

    batch: Batch
    counts: Counts
    stop: bool


def steps_together(
    views: Views,
    options: ViewOptions,
    processes: Processes,
    *,
    epoch: int,
    strong: bool,
    first_step: int,
    classes: int,
    stop: Callable[[], bool],
) -> Iterator[Step]:
    """Yield the steps of an epoch from `first_step` on, those without an image too.

    One exchange a step tells every process what the others hold, and whether one of them failed or was asked to stop.

    Raises:
        LabelAssembleError: in the first process whose images cannot be read.
        OtherProcessFailed: in the others.
    """
    batches = views.epoch(epoch, strong=strong, first_step=first_step)
    ahead: Batch | None = None
    for step in range(first_step, views.steps):
        error: LabelAssembleError | None = None
        try:
            ahead = ahead or next(batches, None)
        except LabelAssembleError as caught:
            error = caught
        batch = _no_images(step, options, classes, strong=strong)
        if ahead is not None and ahead.step == step:
            batch, ahead = ahead, None
        mine = count(batch.targets)
        *held, failed, stopped = processes.sum([*mine, error is not None, stop()])
        if failed:
            processes.raise_first(error)
        if error is not None:
            raise error
        yield Step(batch, Counts(*(int(value) for value in held)), stopped > 0)


def seed_step(seed: int, epoch: int, step: int, rank: int) -> None:
    """Seed what the network itself draws (dropout, say), so that a resumed run draws the same."""
    torch.manual_seed(int(np.random.SeedSequence([seed, epoch, step, rank]).generate_state(1, np.uint64)[0]))


def _no_images(step: int, options: ViewOptions, classes: int, *, strong: bool) -> Batch:
    none = torch.zeros(0, options.channels, options.size, options.size)
    rows = torch.zeros(0, dtype=torch.int64)
    return Batch(step, rows, none, none if strong else None, torch.zeros(0, classes))
