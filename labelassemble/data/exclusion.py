"""Classes that exclude each other: a lesion has one diagnosis, a handwritten eight is no three.

A positive label makes the classes that it excludes known negatives, also those that the image's source never labels.
Without that knowledge the images of one source say nothing about the classes of another.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from labelassemble.data.states import NEGATIVE, POSITIVE, UNKNOWN, LabelOrigin
from labelassemble.data.taxonomy import Taxonomy
from labelassemble.errors import LabelAssembleError

ExclusiveClasses: TypeAlias = Literal["all"] | tuple[tuple[str, ...], ...]
"""Groups of classes of which an image has one at most; "all": every class of the table."""

_ROWS_AT_ONCE: Final = 1 << 16


@dataclass(frozen=True, eq=False)
class Exclusions:
    """Which classes exclude each other, image by image.

    Attributes:
        matrices: symmetric, bool [R, C, C]: True where a positive label of the one makes the other negative.
        rows: which of the R matrices holds for each image, int64 [N].
    """

    matrices: NDArray[np.bool_]
    rows: NDArray[np.int64]

    def __bool__(self) -> bool:
        """Return whether any two classes exclude each other for any image."""
        return bool(self.matrices.any())

    def select(self, rows: NDArray[np.generic]) -> Self:
        """Return what holds for the images chosen by a mask, bool [N], or by indices, int [M]."""
        return type(self)(self.matrices, self.rows[rows])


def exclusion_matrix(
    classes: Sequence[str], exclusive: ExclusiveClasses, taxonomy: Taxonomy | None, where: str
) -> NDArray[np.bool_]:
    """Return which of `classes` exclude each other by a source's option, bool [C, C].

    With "all", classes that may be present together by the taxonomy's `implies` do not exclude each other, and neither
    do its `exempt` classes. What implies a class excludes whatever that one excludes.

    Args:
        classes: Names of the C classes of the table.
        exclusive: The source's option, its names already the taxonomy's.
        taxonomy: Names and implications.
        where: How an error begins.

    Raises:
        LabelAssembleError: Two classes of a group can be present together.
    """
    if exclusive == "all":
        matrix = ~np.eye(len(classes), dtype=np.bool_)
        if taxonomy is not None:
            for i, name in enumerate(classes):
                for j, other in enumerate(classes):
                    if other in taxonomy.exempt or name in taxonomy.exempt or taxonomy.together(name, other):
                        matrix[i, j] = False
        return matrix
    pairs = {(a, b) for group in exclusive for a in group for b in group if a != b}
    if taxonomy is None:
        return np.array([[(a, b) in pairs for b in classes] for a in classes], dtype=np.bool_)
    for name, other in pairs:
        both = taxonomy.together(name, other)
        if both is not None:
            raise LabelAssembleError(
                f"{where}: '{name}' and '{other}' cannot exclude each other, since '{both}' implies both"
            )
    return taxonomy.spread(classes, pairs)


def apply_exclusions(
    labels: NDArray[np.int8], origins: NDArray[np.uint8], exclusions: Exclusions
) -> tuple[NDArray[np.int8], NDArray[np.uint8], NDArray[np.int64]]:
    """Return labels in which each positive one makes unknown ones negative that it excludes, and the contradictions.

    No label that is there already is changed: only UNKNOWN becomes NEGATIVE, with the origin EXCLUSIVE.

    Args:
        labels: int8 [N, C].
        origins: uint8 [N, C].
        exclusions: for N rows and C classes.

    Returns:
        labels; origins; (row, class, class) of each pair of positive labels that exclude each other, int64 [K, 3].
    """
    conflicts = [np.empty((0, 3), dtype=np.int64)]
    if not exclusions:
        return labels, origins, conflicts[0]
    labels, origins = labels.copy(), origins.copy()
    for index, matrix in enumerate(exclusions.matrices):
        if not matrix.any():
            continue
        weights = matrix.astype(np.float32)
        rows = np.flatnonzero((exclusions.rows == index) & (labels == POSITIVE).any(axis=1))
        for first in range(0, len(rows), _ROWS_AT_ONCE):
            some = rows[first : first + _ROWS_AT_ONCE]
            positive = labels[some] == POSITIVE
            excluded = (positive.astype(np.float32) @ weights) > 0
            clash = (excluded & positive).any(axis=1)
            for row in some[clash]:
                present = np.flatnonzero(labels[row] == POSITIVE)
                a, b = np.nonzero(np.triu(matrix[np.ix_(present, present)]))
                conflicts.append(np.stack([np.full(len(a), row), present[a], present[b]], axis=1))
            fill = excluded & (labels[some] == UNKNOWN)
            at, column = np.nonzero(fill)
            labels[some[at], column] = NEGATIVE
            origins[some[at], column] = LabelOrigin.EXCLUSIVE
    found = np.concatenate(conflicts)
    return labels, origins, found[np.argsort(found[:, 0], kind="stable")]
