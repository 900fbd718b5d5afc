"""Negative labels that nobody wrote: a list does not name the class, or its cell is blank."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from labelassemble.data.states import NEGATIVE, UNKNOWN

BLANK: Final = -3
"""While a reader reads: a blank cell that its option `blank` takes for negative."""


@dataclass(frozen=True, eq=False)
class Absence:
    """What the labels of a reader's table rest on where they are no words.

    Attributes:
        negative: Where NEGATIVE only means that the class is not named, bool [N, C]: such a label yields to what the
            taxonomy makes of a label that is named.
        mentions: What lists name besides the table's classes, bool [N] each: where they do.
    """

    negative: NDArray[np.bool_]
    mentions: Mapping[str, NDArray[np.bool_]] = field(default_factory=dict)

    def select(self, rows: NDArray[np.generic]) -> Self:
        """Return what holds for the rows chosen by a mask, bool [N], or by indices, int [M]."""
        mentions = {name: where[rows] for name, where in self.mentions.items()}
        return type(self)(self.negative[rows], mentions)

    def select_classes(self, columns: list[int]) -> Self:
        """Return what holds for some of the classes."""
        return type(self)(self.negative[:, columns], self.mentions)


def unnamed(labels: NDArray[np.int8], mentions: Mapping[str, NDArray[np.bool_]] | None = None) -> Absence:
    """Return the absence of labels [N, C] that come from lists: whatever is negative is only not named."""
    return Absence(labels == NEGATIVE, mentions or {})


def blanks_settled(
    labels: NDArray[np.int8], *, silent: bool = False
) -> tuple[NDArray[np.int8], Absence | None]:
    """Return labels [N, C] in which BLANK is NEGATIVE, and their absence; None where no cell is blank.

    Args:
        labels: States, or BLANK.
        silent: A row whose cells are all blank says nothing: it is UNKNOWN.
    """
    blank: NDArray[Any] = labels == BLANK
    if not blank.any():
        return labels, None
    states = np.where(blank, np.int8(NEGATIVE), labels)
    if silent:
        nothing = (blank | (labels == UNKNOWN)).all(axis=1)
        states[nothing] = UNKNOWN
        blank[nothing] = False
    return states, Absence(blank)
