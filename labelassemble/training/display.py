"""What a person sees of a training: a bar on a terminal, a line an epoch elsewhere."""

import time
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from labelassemble.training.history import EpochRow


class Display:
    """Epoch, loss and time left of one training.

    Args:
        console: where to write.
        name: stands before the bar.
        epochs: epochs in all.
        steps: steps an epoch.
        done: steps done before this part of the run.
    """

    def __init__(self, console: Console, name: str, *, epochs: int, steps: int, done: int = 0) -> None:
        self._console = console
        self._name = name
        self._epochs = epochs
        self._started = time.monotonic()
        self._total = epochs * steps
        self._first = done
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            TextColumn("{task.percentage:>3.0f}%"),
            TextColumn("loss {task.fields[loss]}"),
            TextColumn("{task.fields[score]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
            disable=not console.is_terminal,
        )
        self._task = self._progress.add_task(
            self._describe(0), total=self._total, completed=done, loss="  ...", score=""
        )

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def step(self, epoch: int, done: int, loss: float) -> None:
        """Show that `done` steps are done in all, the last one in `epoch` (from 0) with this loss."""
        self._progress.update(
            self._task, description=self._describe(epoch), completed=done, loss=f"{loss:.4f}"
        )

    def epoch(self, row: EpochRow) -> None:
        """Show what an epoch came to."""
        auc = row.val_auc_interest if row.val_auc_interest is not None else row.val_auc_mean
        score = "" if auc is None else f"val AUC {auc:.3f}"
        self._progress.update(self._task, score=score)
        if not self._console.is_terminal:
            spent = time.monotonic() - self._started
            left = spent / max(row.step - self._first, 1) * (self._total - row.step)
            val = "" if row.val_loss is None else f", val loss {row.val_loss:.4f}"
            known = row.train_known / max(row.train_known + row.train_unknown, 1)
            self._console.print(
                f"{self._name}: epoch {row.epoch}/{self._epochs}, loss {row.train_loss:.4f}{val}, "
                f"{score + ', ' if score else ''}{known:.0%} of labels known, {left:.0f} s left",
                highlight=False,
                soft_wrap=True,
            )

    def _describe(self, epoch: int) -> str:
        return f"{self._name}  epoch {min(epoch + 1, self._epochs)}/{self._epochs}"
