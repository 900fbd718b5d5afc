"""Classes that exclude each other: a lesion has one diagnosis, a handwritten eight is no three.

A positive label makes the classes that it excludes known negatives, also those that the image's source never labels.
Without that knowledge the images of one source say nothing about the classes of another.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from labelassemble.data.states import NEGATIVE, POSITIVE, UNKNOWN, LabelOrigin
from labelassemble.data.table import WARNING, Table
from labelassemble.data.taxonomy import Taxonomy
from labelassemble.data.text import TextArray, text_codes
from labelassemble.errors import LabelAssembleError

ExclusiveClasses: TypeAlias = Literal["all", "patient", "voxel"] | tuple[tuple[str, ...], ...]
"""Groups of classes of which an image has one at most; "all": every class of the table. "patient" and "voxel": every
class, of which a patient or a voxel has one at most."""

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


class SourceRule(NamedTuple):
    """The option `exclusive` of a source.

    Attributes:
        source: Name of the source.
        called: What it is called in the table: several names where its file has a column of sources.
        exclusive: The option, its class names already the taxonomy's.
    """

    source: str
    called: tuple[str, ...]
    exclusive: ExclusiveClasses


@dataclass(frozen=True, eq=False)
class ExclusionRules:
    """What excludes each other: everywhere, and in the images of a source.

    Attributes:
        classes: Names of C classes.
        everywhere: By the taxonomy, bool [C, C].
        options: The sources' options.
        matrices: What each of the S options says, bool [S, C, C].
    """

    classes: tuple[str, ...]
    everywhere: NDArray[np.bool_]
    options: tuple[SourceRule, ...]
    matrices: NDArray[np.bool_]

    @classmethod
    def of(
        cls, classes: Sequence[str], options: Sequence[SourceRule], taxonomy: Taxonomy | None
    ) -> "ExclusionRules":
        """Return the rules between `classes`.

        Raises:
            LabelAssembleError: Two classes of a source's group can be present together.
        """
        nothing = np.zeros((len(classes), len(classes)), dtype=np.bool_)
        matrices = [
            exclusion_matrix(classes, rule.exclusive, taxonomy, f"source '{rule.source}', exclusive")
            for rule in options
        ]
        return cls(
            tuple(classes),
            nothing if taxonomy is None else taxonomy.excluding(classes),
            tuple(options),
            np.array(matrices, dtype=np.bool_).reshape(len(matrices), *nothing.shape),
        )

    def with_rivals(self, count: int) -> list[str]:
        """Return the first `count` classes and after them those that exclude one of them somewhere."""
        somewhere = np.concatenate([self.everywhere[None], self.matrices])
        rivals: NDArray[np.bool_] = np.logical_or.reduce(somewhere[:, :count], axis=(0, 1))
        return [name for index, name in enumerate(self.classes) if index < count or rivals[index]]

    def holding(self, sources: TextArray, image: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return which of the sources with an option hold each image of a table, bool [M, S].

        Args:
            sources: The source of each row, text [N].
            image: Number of the image that each row shows, 0 to M - 1, int64 [N].
        """
        held = np.zeros((int(image.max(initial=-1)) + 1, len(self.options)), dtype=np.bool_)
        for index, rule in enumerate(self.options):
            held[image[sources.isin(list(rule.called))], index] = True
        return held

    def of_images(self, held: NDArray[np.bool_]) -> Exclusions:
        """Return what holds for each image: the rules of all sources that hold it, bool [M, S]."""
        if not self.options:
            return Exclusions(self.everywhere[None], np.zeros(len(held), dtype=np.int64))
        patterns, rows = np.unique(held, axis=0, return_inverse=True)
        matrices = np.array([self.everywhere | self.matrices[pattern].any(axis=0) for pattern in patterns])
        return Exclusions(matrices, rows.reshape(-1).astype(np.int64))

    def notes(self, origins: NDArray[np.uint8], held: NDArray[np.bool_], noun: str = "image") -> list[str]:
        """Return a sentence for each rule that touches no image.

        Args:
            origins: Of the images' labels, uint8 [M, C].
            held: Which of the sources with an option hold each image, bool [M, S].
            noun: What a row is called, see `Table.noun`.
        """
        touched = (origins == LabelOrigin.EXCLUSIVE).any(axis=1)
        notes = []
        for rule, matrix, mine in zip(self.options, self.matrices, held.T, strict=True):
            if not touched[mine].any():
                reason = (
                    f"none of its {noun}s has a positive label whose rivals are unknown"
                    if matrix.any()
                    else "the table has one class"
                )
                notes.append(
                    f"warning: source '{rule.source}': its option `exclusive` changes no label ({reason})"
                )
        if self.everywhere.any() and not touched.any():
            notes.append("warning: the taxonomy's `exclusive` and `excludes` change no label")
        return notes


def exclusion_matrix(
    classes: Sequence[str], exclusive: ExclusiveClasses, taxonomy: Taxonomy | None, where: str
) -> NDArray[np.bool_]:
    """Return which of `classes` exclude each other by a source's option, bool [C, C].

    With "all", "patient" or "voxel", classes that may be present together by the taxonomy's `implies` do not exclude
    each other, and neither do its `exempt` classes. What implies a class excludes whatever that one excludes.

    Args:
        classes: Names of the C classes of the table.
        exclusive: The source's option, its names already the taxonomy's.
        taxonomy: Names and implications.
        where: How an error begins.

    Raises:
        LabelAssembleError: Two classes of a group can be present together.
    """
    if isinstance(exclusive, str):
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


def exclude_by_patient(
    table: Table, rules: ExclusionRules, held: NDArray[np.bool_]
) -> tuple[NDArray[np.int8], NDArray[np.uint8], tuple[str, ...]]:
    """Return labels and origins in which a patient's positive label makes others of the patient negative, and warnings.

    As `apply_exclusions`, for the rows of all sources with `exclusive: patient`.

    Args:
        table: N rows of C classes, its groups decided.
        rules: Between its classes.
        held: Which of the sources with an option hold each row, bool [N, S].
    """
    labels, origins, notes = table.labels, table.origins, []
    for rule, matrix, mine in zip(rules.options, rules.matrices, held.T, strict=True):
        rows = np.flatnonzero(mine)
        if rule.exclusive != "patient" or not len(rows):
            continue
        patients, patient = text_codes(table.groups[rows])
        present = np.zeros((len(patients), len(table.classes)), dtype=np.bool_)
        row, column = np.nonzero(labels[rows] == POSITIVE)
        present[patient[row], column] = True
        excluded = (present.astype(np.float32) @ matrix.astype(np.float32)) > 0
        several = np.flatnonzero((excluded & present).any(axis=1))
        if len(several):
            names = [name for name, there in zip(table.classes, present[several[0]], strict=True) if there]
            notes.append(
                f"{WARNING}source '{rule.source}': {len(several)} patients have several classes, though its option "
                f"`exclusive: patient` says one at most: '{patients[several[0]]}' has {' and '.join(names)}"
            )
        fill = excluded[patient] & (labels[rows] == UNKNOWN)
        labels, origins = labels.copy(), origins.copy()
        row, column = np.nonzero(fill)
        labels[rows[row], column], origins[rows[row], column] = NEGATIVE, LabelOrigin.EXCLUSIVE
    return labels, origins, tuple(notes)


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
