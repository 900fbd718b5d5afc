"""What is shown and written of a training's progress."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from rich.console import Console

from labelassemble.training.display import Display
from labelassemble.training.history import EpochRow, History
from labelassemble.training.running_means import RunningMeans
from labelassemble.training.state import TrainState
from labelassemble.training.trackers import Trackers

_log = logging.getLogger(__name__)


class TrainingLog:
    """Progress on a console, metrics.csv, and the trackers that are asked for.

    Args:
        run: the run's folder.
        console: shows progress.
        state: the training, as it starts or goes on.
        steps: steps in an epoch.
        settings: what trackers show beside the curves.

    Raises:
        LabelAssembleError: a tracker's package is missing, or a tracker cannot begin.
        OtherProcessFailed: in the other processes.
    """

    def __init__(
        self,
        run: Path,
        console: Console,
        state: TrainState,
        *,
        steps: int,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        self._processes = state.processes
        classes, options = state.data.classes, state.options
        done = state.epoch * steps + state.step
        trackers = options.trackers if self._processes.first else ()
        volumes = state.data.voxels is not None
        self._history = History(run / "metrics.csv", classes, epochs=state.epoch, volumes=volumes)
        noun = "crops" if volumes else "images"
        self._display = Display(console, run.name, epochs=options.epochs, steps=steps, done=done, noun=noun)
        self._trackers = self._processes.together(
            lambda: Trackers(run, classes, trackers, settings=settings, done=done)
        )

    def __enter__(self) -> Self:
        self._display.__enter__()
        self._trackers.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._trackers.__exit__(kind, error, trace)
        self._display.__exit__(kind, error, trace)

    def step(self, epoch: int, done: int, means: RunningMeans, *, images: int) -> None:
        """Show where training stands: `done` steps in all, `images` trained on since the last call."""
        sums = means.sums
        known = sums.known / max(sums.known + sums.unknown, 1)
        self._display.step(epoch, done, means.last, images=images, known_share=known)
        self._trackers.step(done, means.last)

    def epoch(self, row: EpochRow, warnings: Sequence[str]) -> None:
        """Show and write what an epoch came to.

        Raises:
            LabelAssembleError: metrics.csv cannot be written.
        """
        if self._processes.first:
            for warning in warnings:
                _log.warning("epoch %d: %s", row.epoch, warning)
        self._processes.together(lambda: self._history.add(row) if self._processes.first else None)
        self._display.epoch(row)
        self._trackers.epoch(row)
