"""Predictions: a table with the probabilities that a model gives its classes."""

from dataclasses import dataclass, fields
from typing import Self

import numpy as np
from numpy.typing import NDArray

from labelassemble.data.table import SPLITS, Table
from labelassemble.errors import LabelAssembleError


@dataclass(frozen=True, eq=False)
class Predictions(Table):
    """Images, their labels, and what a model says of them; every split is "train", "val" or "test".

    Attributes:
        probabilities: float64 [N, C], each in [0, 1].

    Raises:
        LabelAssembleError: What breaks the rules of a table, a split that is still open, or a probability that is none.
    """

    probabilities: NDArray[np.float64]

    def __post_init__(self) -> None:
        super().__post_init__()
        values = np.asarray(self.probabilities, dtype=np.float64)
        if values.shape != self.labels.shape:
            raise LabelAssembleError(
                f"Predictions: probabilities must have the shape of the labels, {list(self.labels.shape)}, "
                f"got {list(values.shape)}"
            )
        self._keep("probabilities", values)
        wrong = ~((values >= 0) & (values <= 1))
        if wrong.any():
            row, column = np.argwhere(wrong)[0]
            raise LabelAssembleError(
                f"Predictions: the probability of '{self.classes[column]}' must be a number from 0 to 1, "
                f"got {values[row, column]} for '{self.paths[row]}'"
            )
        open_rows = np.flatnonzero(~self.splits.isin(SPLITS))
        if len(open_rows):
            raise LabelAssembleError(
                f"Predictions: a split must be train, val or test, got '{self.splits[open_rows[0]]}'"
            )

    @classmethod
    def of(cls, table: Table, probabilities: NDArray[np.floating]) -> Self:
        """Return a table's rows with their probabilities [N, C]."""
        values = {item.name: getattr(table, item.name) for item in fields(Table)}
        return cls(**values, probabilities=probabilities.astype(np.float64, copy=False))
