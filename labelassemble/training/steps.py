"""The steps of an epoch, the same number in all processes."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch

from labelassemble.errors import LabelAssembleError
from labelassemble.training.accumulate import Counts
from labelassemble.training.state import TrainState
from labelassemble.views.batch import Batch, Views


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


def synchronised_steps(views: Views, state: TrainState, *, stop: Callable[[], bool]) -> Iterator[Step]:
    """Yield the steps of the epoch in hand from where it stands, those without an image too.

    One exchange a step tells every process what the others hold, and whether one of them failed or was asked to stop.

    Raises:
        LabelAssembleError: in the first process whose images cannot be read.
        OtherProcessFailed: in the others.
    """
    processes, first_step = state.processes, state.step
    batches = views.epoch(state.epoch, strong=state.loss.strong, first_step=first_step)
    for _ in range(first_step, views.steps):
        batch: Batch | None = None
        error: LabelAssembleError | None = None
        try:
            batch = next(batches)  # every step comes, an empty one where no file can be read
        except LabelAssembleError as caught:
            error = caught
        mine = Counts(0, 0, 0) if batch is None else state.loss.count(batch.targets)
        images, known, unknown, failed, stopped, *each = processes.sum(
            [*mine[:3], error is not None, stop(), *mine.known_by_class]
        )
        if failed:
            processes.raise_first(error)
        if error is not None:
            raise error
        assert batch is not None
        by_class = tuple(int(value) for value in each)
        yield Step(batch, Counts(int(images), int(known), int(unknown), by_class), stopped > 0)


def seed_step(seed: int, epoch: int, step: int, rank: int, device: torch.device) -> None:
    """Seed what the network itself draws (dropout, say), so that a resumed run draws the same."""
    state = int(np.random.SeedSequence([seed, epoch, step, rank]).generate_state(1, np.uint64)[0])
    # torch.manual_seed also takes a stack trace for each kind of device that is not there, every step anew.
    torch.default_generator.manual_seed(state)
    if device.type == "cuda":
        torch.cuda.manual_seed(state)
