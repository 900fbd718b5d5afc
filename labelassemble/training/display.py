"""Progress on the console: a bar on a terminal, plain lines elsewhere."""

import time
from collections import deque
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from labelassemble.training.history import EpochRow

_LINE_EVERY = 30.0  # seconds between lines within an epoch, where there is no bar
_RATE_OVER = 50  # readings that images a second are taken over


class Display:
    """Epoch, step, losses, images a second and time left of one training.

    Args:
        console: where to write.
        name: stands before the bar.
        epochs: epochs in all.
        steps: steps an epoch.
        done: steps done before this part of the run.
        noun: what is shown of a second, in the plural.
    """

    def __init__(
        self, console: Console, name: str, *, epochs: int, steps: int, done: int = 0, noun: str = "images"
    ) -> None:
        self._console = console
        self._name, self._noun = name, noun
        self._epochs = epochs
        self._steps = steps
        self._started = self._last_line = time.monotonic()
        self._total = epochs * steps
        self._first = done
        self._readings: deque[tuple[float, int]] = deque([(self._started, 0)], maxlen=_RATE_OVER)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            TextColumn("{task.percentage:>3.0f}%"),
            TextColumn("{task.fields[state]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._score = ""
        self._task = self._progress.add_task(
            self._describe(done // steps, done), total=self._total, completed=done, state="..."
        )

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def step(self, epoch: int, done: int, terms: Sequence[float], *, images: int, known_share: float) -> None:
        """Show where training stands.

        Args:
            epoch: from 0.
            done: steps done in all.
            terms: total, bce, pseudo and consistency of the last step.
            images: images trained on since the last call.
            known_share: share of this epoch's labels so far that are known.
        """
        now = time.monotonic()
        self._readings.append((now, self._readings[-1][1] + images))
        (then, before), (_, images_in_all) = self._readings[0], self._readings[-1]
        state = (
            f"loss {terms[0]:.4f} (bce {terms[1]:.4f}, pseudo {terms[2]:.4f}, consistency {terms[3]:.4f})  "
            f"{(images_in_all - before) / max(now - then, 1e-9):.0f} {self._noun}/s  {known_share:.0%} known"
            f"{self._score}"
        )
        self._progress.update(
            self._task, description=self._describe(epoch, done), completed=done, state=state
        )
        if not self._console.is_terminal and now - self._last_line >= _LINE_EVERY:
            self._line(f"{self._describe(epoch, done)}, {state}, {self._left(done)}")

    def epoch(self, row: EpochRow) -> None:
        """Show what an epoch came to."""
        auc = row.val_auc_interest if row.val_auc_interest is not None else row.val_auc_mean
        shown = "" if auc is None else f"val AUC {auc:.3f}"
        if row.val_dice_interest is not None:
            shown = f"val Dice {row.val_dice_interest:.3f}"
        self._score = shown and f"  {shown}"
        if self._console.is_terminal:
            return
        val = "" if row.val_loss is None else f", val loss {row.val_loss:.4f}"
        score = shown and f", {shown}"
        dice = "" if row.train_dice is None else f", dice {row.train_dice:.4f}"
        known = row.train_known / max(row.train_known + row.train_unknown, 1)
        self._line(
            f"{self._name}: epoch {row.epoch}/{self._epochs}, loss {row.train_loss:.4f} (bce {row.train_bce:.4f}, "
            f"pseudo {row.train_pseudo:.4f}, consistency {row.train_consistency:.4f}{dice}){val}{score}, "
            f"{row.images_per_second:.0f} {self._noun}/s, {known:.0%} of labels known, {self._left(row.step)}"
        )

    def _line(self, text: str) -> None:
        self._last_line = time.monotonic()
        self._console.print(" ".join(text.split()), highlight=False, soft_wrap=True, markup=False)

    def _left(self, done: int) -> str:
        spent = time.monotonic() - self._started
        return f"{spent / max(done - self._first, 1) * (self._total - done):.0f} s left"

    def _describe(self, epoch: int, done: int) -> str:
        step = min(max(done - epoch * self._steps, 0), self._steps)
        return f"{self._name}: epoch {min(epoch + 1, self._epochs)}/{self._epochs}, step {step}/{self._steps}"
