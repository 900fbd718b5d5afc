"""Labels that a publisher writes as words in one cell, turned into rows of states once a distinct cell."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from labelassemble.data.csvfile import Chunk


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
        cells = chunk.columns[column]
        codes = np.empty(len(cells), dtype=np.intp)
        for row, cell in enumerate(cells):
            code = self._index.get(cell)
            if code is None:
                try:
                    states = self._parse(cell)
                except ValueError as error:
                    raise chunk.error(row, column, str(error)) from None
                code = self._index[cell] = len(self._rows)
                self._rows.append(states)
            codes[row] = code
        return np.array(self._rows, dtype=np.int8).reshape(-1, self._classes)[codes]
