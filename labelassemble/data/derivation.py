"""What a source's labels say about other classes by the taxonomy: implications up and down, No Finding."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from labelassemble.data.states import NEGATIVE, POSITIVE, UNCERTAIN, UNKNOWN, LabelOrigin
from labelassemble.data.table import Table
from labelassemble.data.taxonomy import Taxonomy
from labelassemble.data.text import text_codes


class Contradiction(NamedTuple):
    """Images labelled negative for a class that a positive label of theirs implies; it becomes UNCERTAIN.

    Attributes:
        implied: The class that is labelled negative.
        by: The class that is labelled positive.
        rows: The images, int64 [K].
    """

    implied: str
    by: str
    rows: NDArray[np.int64]


class Aligned(NamedTuple):
    """Labels of a source under the classes of the assembly.

    Attributes:
        labels: int8 [N, C].
        origins: uint8 [N, C]; what is derived has its rule as origin.
        contradictions: Labels of one image that the taxonomy does not allow together.
    """

    labels: NDArray[np.int8]
    origins: NDArray[np.uint8]
    contradictions: tuple[Contradiction, ...]


def aligned(own: Table, classes: Sequence[str], taxonomy: Taxonomy | None) -> Aligned:
    """Return labels and origins of a source's table under `classes`, with what the taxonomy derives.

    A positive label makes positive every class that it implies. A negative one that nobody wrote, since a list only
    does not name the class or its cell is blank (`Table.absence`), yields to that; one that somebody wrote contradicts
    it, and the class becomes UNCERTAIN. A negative label that somebody wrote makes negative the classes that imply it,
    but only those that the source labels: a collection older than COVID-19 must not become a collection without
    COVID-19 because it labels pneumonia. Where a general class is named and no finer one is, nobody said of which kind
    it is: finer ones that are only not named are UNKNOWN. Positive "No Finding" makes negative exactly the classes that
    the source labels; beside a positive finding it contradicts that, becomes UNCERTAIN and says nothing of the others.
    """
    mentions = {} if taxonomy is None or own.absence is None else own.absence.mentions
    named = {} if taxonomy is None else _telling(mentions, {*own.classes, *classes}, taxonomy)
    wide = list(dict.fromkeys([*own.classes, *named.values(), *classes]))
    labels = np.full((len(own), len(wide)), UNKNOWN, dtype=np.int8)
    count = len(own.classes)
    labels[:, :count] = own.labels
    for word, name in named.items():
        labels[mentions[word], wide.index(name)] = POSITIVE
    origins = np.zeros(labels.shape, dtype=np.uint8)
    contradictions: list[Contradiction] = []
    if taxonomy is not None:
        unwritten = np.zeros(labels.shape, dtype=np.bool_)
        if own.absence is not None:
            unwritten[:, :count] = own.absence.negative & (labels[:, :count] == NEGATIVE)
        known = _labelled(own)
        contradictions += _apply_no_finding(labels, origins, wide, own, known, taxonomy)
        given = labels.copy()
        implied = {name: taxonomy.implied(name) for name in wide}
        for column, name in enumerate(wide):
            for parent in implied[name]:
                if parent in wide:
                    above = wide.index(parent)
                    rows = _imply(given, labels, origins, unwritten, column, above)
                    if len(rows):
                        contradictions.append(Contradiction(parent, name, rows))
        for above, parent in enumerate(wide):
            finer = [wide.index(name) for name in wide if parent in implied[name]]
            general = np.isin(given[:, above], (POSITIVE, UNCERTAIN))
            alone = general & ~(given[:, finer] == POSITIVE).any(axis=1)
            for column in finer:
                if column < count:
                    _withhold(given, labels, origins, unwritten, column, above, known[:, column], alone)
    for name in named.values():  # not asked for: they only say something about the others
        if name not in own.classes:
            column = wide.index(name)
            labels[origins[:, column] == LabelOrigin.GIVEN, column] = UNKNOWN
    columns = [wide.index(name) for name in classes]
    return Aligned(labels[:, columns], origins[:, columns], tuple(contradictions))


def _telling(words: Iterable[str], classes: set[str], taxonomy: Taxonomy) -> dict[str, str]:
    """Return the class of each of `words` that is one of `classes` or implies one."""
    found = {word: name for word in words if (name := taxonomy.find(word)) is not None}
    return {
        word: name
        for word, name in found.items()
        if name in classes or not classes.isdisjoint(taxonomy.implied(name))
    }


def unknown_words(own: Table, taxonomy: Taxonomy | None) -> dict[str, int]:
    """Return what the source's lists name that the taxonomy does not know, and on how many images, most first."""
    if taxonomy is None or own.absence is None:
        return {}
    counts = {
        word: int(rows.sum()) for word, rows in own.absence.mentions.items() if taxonomy.find(word) is None
    }
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def contradicted(
    labels: NDArray[np.int8], classes: Sequence[str], taxonomy: Taxonomy | None
) -> tuple[Contradiction, ...]:
    """Return the contradictions within rows of labels [N, C], as those of one image from several sources."""
    found = []
    for column, name in enumerate(classes):
        for parent in () if taxonomy is None else taxonomy.implied(name):
            if parent in classes:
                above = labels[:, classes.index(parent)]
                rows = np.flatnonzero((labels[:, column] == POSITIVE) & (above == NEGATIVE))
                if len(rows):
                    found.append(Contradiction(parent, name, rows))
    return tuple(found)


def _imply(
    given: NDArray[np.int8],
    labels: NDArray[np.int8],
    origins: NDArray[np.uint8],
    unwritten: NDArray[np.bool_],
    column: int,
    above: int,
) -> NDArray[np.int64]:
    """Derive the class `above` from the one in `column`; return the rows that contradict it."""
    present = given[:, column] == POSITIVE
    absent = given[:, above] == NEGATIVE
    implied = present & (~absent | unwritten[:, above]) & (given[:, above] != POSITIVE)
    labels[implied, above] = POSITIVE
    origins[implied, above] = LabelOrigin.IMPLIES
    perhaps = (given[:, column] == UNCERTAIN) & unwritten[:, above] & (labels[:, above] == NEGATIVE)
    labels[perhaps, above] = UNKNOWN
    origins[perhaps, above] = LabelOrigin.GIVEN
    against = present & absent & ~unwritten[:, above]
    labels[against, above] = UNCERTAIN
    origins[against, above] = LabelOrigin.GIVEN
    return np.flatnonzero(against)


def _withhold(
    given: NDArray[np.int8],
    labels: NDArray[np.int8],
    origins: NDArray[np.uint8],
    unwritten: NDArray[np.bool_],
    column: int,
    above: int,
    known: NDArray[np.bool_],
    alone: NDArray[np.bool_],
) -> None:
    """Derive the class in `column`, which implies the one `above`, from that one.

    Args:
        given: Labels before implications, int8 [N, C].
        labels: Labels, changed in place.
        origins: Origins, changed in place.
        unwritten: Negative labels that nobody wrote, bool [N, C].
        column: The finer class.
        above: The general one.
        known: Whether the source of each row labels the finer class, bool [N].
        alone: Where the general class is positive or uncertain and no class that implies it is positive, bool [N].
    """
    absent = (given[:, above] == NEGATIVE) & ~unwritten[:, above] & (labels[:, above] == NEGATIVE)
    absent &= known & (labels[:, column] == UNKNOWN)
    labels[absent, column] = NEGATIVE
    origins[absent, column] = LabelOrigin.IMPLIES
    unsaid = alone & unwritten[:, column] & (labels[:, column] == NEGATIVE)
    labels[unsaid, column] = UNKNOWN
    origins[unsaid, column] = LabelOrigin.GIVEN


def _labelled(own: Table) -> NDArray[np.bool_]:
    """Return whether the source of each row labels each of its classes anywhere, bool [N, C].

    A file of several sources has columns that some of them leave blank throughout.
    """
    _, code = text_codes(own.sources)
    count = int(code.max()) + 1
    found = np.empty((count, len(own.classes)), dtype=np.bool_)
    for column in range(len(own.classes)):
        found[:, column] = np.bincount(code, weights=own.labels[:, column] != UNKNOWN, minlength=count) > 0
    return found[code]


def _apply_no_finding(
    labels: NDArray[np.int8],
    origins: NDArray[np.uint8],
    wide: Sequence[str],
    own: Table,
    known: NDArray[np.bool_],
    taxonomy: Taxonomy,
) -> list[Contradiction]:
    """Make negative what images without a finding leave blank; return the images that have one all the same."""
    none = taxonomy.no_finding
    if none is None or none not in own.classes:
        return []
    healthy = labels[:, wide.index(none)] == POSITIVE
    found = []
    for column, name in enumerate(wide):
        if name != none and not taxonomy.exempts(name):
            rows = np.flatnonzero(healthy & (labels[:, column] == POSITIVE))
            if len(rows):
                found.append(Contradiction(none, name, rows))
    for contradiction in found:
        healthy[contradiction.rows] = False
        labels[contradiction.rows, wide.index(none)] = UNCERTAIN
    for column, name in enumerate(own.classes):
        if name != none and not taxonomy.exempts(name):
            absent = healthy & known[:, column] & (labels[:, column] == UNKNOWN)
            labels[absent, column] = NEGATIVE
            origins[absent, column] = LabelOrigin.NO_FINDING
    return found
