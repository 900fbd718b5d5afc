"""The cells of a table of one's own: 1, 0, -1, -2 blank, and what R and pandas write for missing."""

from collections.abc import Sequence
from typing import Final, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from labelassemble.data.absence import BLANK
from labelassemble.data.class_names import check_class_names
from labelassemble.data.csvfile import Chunk
from labelassemble.data.states import NEGATIVE, POSITIVE, UNCERTAIN, UNKNOWN
from labelassemble.errors import LabelAssembleError

BlankCell: TypeAlias = Literal["unknown", "negative"]
MinusOne: TypeAlias = Literal["unknown", "uncertain"]

UNKNOWN_CELLS: Final = ("nan", "NaN", "NA", "<NA>")
NUMBER_CELLS: Final = frozenset(
    f"{whole}{end}" for whole in ("1", "0", "-1", "-2") for end in ("", ".0", ",0")
)
_MINUS_ONE: Final = -4  # while the cells are read: -1
_NO_CLASS: Final = (
    "; if this column is no class, list those that are in `classes` (of a table that names classes in words, "
    "`labelassemble init` makes one with a column per class)"
)
_ALLOWED: Final = "1, 0, -1 (unknown), -2 (uncertain) or blank"


def class_columns(classes: tuple[str, ...], header: Sequence[str], place: str) -> tuple[str, ...]:
    """Return the columns of a table that are classes.

    Raises:
        LabelAssembleError: There is none, or a name cannot be that of a class; with the `place`.
    """
    if not classes:
        raise LabelAssembleError(
            f"{place}: no column is a class, got {', '.join(header)} (name the columns in `classes`)"
        )
    try:
        check_class_names(classes)
    except LabelAssembleError as error:
        raise LabelAssembleError(f"{place}: {error}") from None
    return classes


class LabelCells:
    """Turns cells into states, and counts those that a table in another coding means otherwise."""

    def __init__(self, blank: BlankCell, minus_one: MinusOne | None, *, chosen: bool = True) -> None:
        """Take what a blank cell and what -1 means (None is unknown, and perhaps a mistake).

        `chosen` says whether the columns were named as classes, or taken since they have no other use.
        """
        self._instead = "" if chosen else _NO_CLASS
        minus = {"unknown": int(UNKNOWN), "uncertain": int(UNCERTAIN), None: _MINUS_ONE}[minus_one]
        states = {"1": int(POSITIVE), "0": int(NEGATIVE), "-1": minus, "-2": int(UNCERTAIN)}
        self._cells = {"": BLANK, **dict.fromkeys(UNKNOWN_CELLS, int(UNKNOWN))}
        for whole, state in states.items():
            self._cells |= dict.fromkeys((whole, f"{whole}.0", f"{whole},0"), state)  # the last one in Europe
        self._blank, self._minus_one = blank, minus_one
        self._blanks = self._minuses = 0

    def states(self, chunk: Chunk, classes: Sequence[str]) -> NDArray[np.int8]:
        """Return the states of each row, int8 [rows, C]; a blank that means negative is still BLANK.

        Raises:
            LabelAssembleError: Another cell; with file, line and column.
        """
        block = np.empty((len(chunk), len(classes)), dtype=np.int8)
        for index, name in enumerate(classes):
            block[:, index] = chunk.states(name, self._cells, _ALLOWED, self._instead)
        if self._blank == "unknown":
            blank = block == BLANK
            self._blanks += int(blank.sum())
            block[blank] = UNKNOWN
        if self._minus_one is None:
            minus = block == _MINUS_ONE
            self._minuses += int(minus.sum())
            block[minus] = UNKNOWN
        return block

    def notes(self) -> tuple[str, ...]:
        """Return a warning where both -1 and blank cells mean unknown, as hardly anybody writes a table."""
        if not self._minuses or not self._blanks:
            return ()
        return (
            f"warning: {self._minuses} cells are -1 and {self._blanks} are blank, and both mean unknown here (-2 is "
            "uncertain); of a table in CheXpert's coding say `minus_one: uncertain`, of another one `minus_one: "
            "unknown`",
        )
