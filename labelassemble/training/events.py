"""Event files for TensorBoard: the columns of metrics.csv, and the terms within an epoch."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from labelassemble.errors import LabelAssembleError
from labelassemble.training.history import EpochRow


class Events:
    """The event files of a run, in its folder `tensorboard`; nothing where they are not asked for.

    Args:
        run: the run's folder.
        classes: names of the classes.
        wanted: whether to write at all.
        done: steps done before this part of the run; what an interrupted part wrote after them is hidden.

    Raises:
        LabelAssembleError: the package tensorboard is missing.
    """

    def __init__(self, run: Path, classes: Sequence[str], *, wanted: bool, done: int = 0) -> None:
        self._classes = classes
        self._writer: Any = None
        if wanted:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError:
                raise LabelAssembleError(
                    "train.tensorboard needs the package tensorboard: pip install 'labelassemble[tensorboard]'"
                ) from None
            self._writer = SummaryWriter(str(run / "tensorboard"), purge_step=done + 1)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._writer is not None:
            self._writer.close()

    def step(self, done: int, terms: Sequence[float]) -> None:
        """Write total, bce, pseudo and consistency after `done` steps in all."""
        if self._writer is not None:
            for name, value in zip(("total", "bce", "pseudo", "consistency"), terms, strict=True):
                self._writer.add_scalar(f"step/{name}", value, done)

    def epoch(self, row: EpochRow) -> None:
        """Write what an epoch came to."""
        if self._writer is None:
            return
        values = asdict(row)
        by_class = {name: values.pop(name) for name in ("val_auc", "pseudo_positive", "val_dice")}
        del values["epoch"], values["step"]
        for name, value in values.items():
            if value is not None:
                self._writer.add_scalar(f"epoch/{name}", value, row.step)
        for name, column in by_class.items():
            for label, value in zip(self._classes, column, strict=False):  # images have no Dice
                if value is not None:
                    self._writer.add_scalar(f"{name}/{label}", value, row.step)
        self._writer.flush()
