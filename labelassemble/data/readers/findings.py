"""Labels as publishers write them, a word or a number for each image, turned into rows of states."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labelassemble.data.csvfile import Chunk
from labelassemble.data.states import NEGATIVE, POSITIVE


def single_label_states(codes: NDArray[np.integer[Any]], classes: int) -> NDArray[np.int8]:
    """Return int8 [N, C]: the one class that `codes` [N] names is POSITIVE in each row, all others are NEGATIVE."""
    return np.where(codes[:, None] == np.arange(classes), np.int8(POSITIVE), np.int8(NEGATIVE))


class FindingCells:
    """Turns cells such as "Edema|Mass" into label states; a few hundred distinct cells repeat over all rows."""

    def __init__(self, parse: Callable[[str], Sequence[int]], classes: int) -> None:
        """Take `parse`, which returns the states of one cell or raises ValueError with the reason."""
        self._parse = parse
        self._index: dict[str, int] = {}
        self._rows: list[Sequence[int]] = []
        self._classes = classes

    def states(self, chunk: Chunk, column: str) -> NDArray[np.int8]:
        """Return the states of each row of `chunk`, int8 [rows, C].

        Raises:
            LabelAssembleError: `parse` refused a cell; with file, line and column.
        """

        def code(cell: str) -> int:
            if cell not in self._index:
                self._rows.append(self._parse(cell))
                self._index[cell] = len(self._rows) - 1
            return self._index[cell]

        codes, cells = chunk.mapped(column, code)
        states: NDArray[np.int8] = np.array(self._rows, dtype=np.int8).reshape(-1, self._classes)
        return states[np.array(codes, dtype=np.intp)[cells]]


class WordLists:
    """Collects the lists of labels in cells; some ten thousand distinct lists repeat over all rows."""

    def __init__(self, parse: Callable[[str], frozenset[str]]) -> None:
        """Take `parse`, which returns the labels of one cell or raises ValueError with the reason."""
        self._parse = parse
        self._index: dict[frozenset[str], int] = {}
        self._cells: dict[str, int] = {}
        self._rows: list[NDArray[np.intp]] = []

    def add(self, chunk: Chunk, column: str, keep: NDArray[np.bool_]) -> None:
        """Collect the lists of the rows of `chunk` that `keep` [rows] marks.

        Raises:
            LabelAssembleError: `parse` refused a cell; with file, line and column.
        """

        def code(cell: str) -> int:
            if cell not in self._cells:  # which stands in other chunks too
                self._cells[cell] = self._index.setdefault(self._parse(cell), len(self._index))
            return self._cells[cell]

        codes, cells = chunk.mapped(column, code)
        self._rows.append(np.array(codes, dtype=np.intp)[cells][keep])

    def take(self) -> tuple[list[frozenset[str]], NDArray[np.intp]]:
        """Return the distinct lists, and which of them each row has, int [N]."""
        rows = np.concatenate([np.empty(0, dtype=np.intp), *self._rows])
        return list(self._index), rows
