"""metrics.csv read: the curves of a training."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from labelassemble.data.csvfile import CsvFile, shown
from labelassemble.training.history import COLUMNS, DICE, PSEUDO_POSITIVE


@dataclass(frozen=True)
class Curves:
    """What metrics.csv holds, one entry per epoch; None where a value is not defined.

    Attributes:
        epochs: from 1, rising.
        columns: by the names in `COLUMNS`, of volumes also `DICE`.
        pseudo_positive: by class, the share of its unknown labels that lay on the positive side; empty where not
            recorded.
    """

    epochs: tuple[int, ...]
    columns: Mapping[str, tuple[float | None, ...]]
    pseudo_positive: Mapping[str, tuple[float | None, ...]]

    @property
    def seconds(self) -> float | None:
        """How long training took."""
        times = self.columns["seconds"]
        return times[-1] if times else None

    @property
    def pseudo_labels_from(self) -> int | None:
        """The first epoch in which pseudo-labels or consistency counted, None if they never did."""
        terms = zip(self.columns["pseudo_weight"], self.columns["consistency_weight"], strict=True)
        for epoch, (pseudo, consistency) in zip(self.epochs, terms, strict=True):
            if (pseudo or 0) > 0 or (consistency or 0) > 0:
                return epoch
        return None


def read_curves(path: Path) -> Curves:
    """Return metrics.csv.

    Raises:
        LabelAssembleError: a column is missing or a cell is not a number; with file, line and column.
    """
    with CsvFile(path) as file:
        for name in COLUMNS:
            file.require(name, "metrics of a run")
        by_class = [name for name in file.header if name.startswith(PSEUDO_POSITIVE)]
        dice = [DICE] if DICE in file.header else []  # of volumes
        values: dict[str, list[float | None]] = {name: [] for name in (*COLUMNS, *dice, *by_class)}
        for chunk in file.chunks(list(values)):
            for name, column in values.items():
                for row, cell in enumerate(chunk.cells(name)):
                    try:
                        number = float(cell) if cell else None
                    except ValueError:
                        raise chunk.error(
                            row, name, f"must be a number or blank, got {shown(cell)}"
                        ) from None
                    column.append(number if number is None or math.isfinite(number) else None)
            for row, cell in enumerate(chunk.cells("epoch")):
                if not cell.isdecimal():
                    raise chunk.error(row, "epoch", f"must be a whole number, got {shown(cell)}")
    columns = {name: tuple(column) for name, column in values.items()}
    return Curves(
        epochs=tuple(int(value) for value in columns["epoch"] if value is not None),
        columns=columns,
        pseudo_positive={name.removeprefix(PSEUDO_POSITIVE): columns[name] for name in by_class},
    )
