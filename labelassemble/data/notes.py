"""What a user is told of an assembled table: classes without labels, spellings, splits."""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from labelassemble.data.derivation import unknown_words
from labelassemble.data.states import NEGATIVE, POSITIVE, UNKNOWN, LabelOrigin
from labelassemble.data.table import SPLITS, Table
from labelassemble.data.taxonomy import Taxonomy, spelling_key

_SHOWN: Final = 12


def table_notes(table: Table, hidden: NDArray[np.int8] | None, unread: Sequence[str]) -> tuple[str, ...]:
    """Return what is to be said of the classes and the files of an assembled table.

    Args:
        table: N rows of C classes.
        hidden: Labels that were taken away on purpose, int8 [N, C].
        unread: Paths that could not be read to look for duplicates.
    """
    notes = []
    if unread:
        notes.append(
            f"{table.noun}s that could not be read to look for duplicates: {len(unread)}, the first: {unread[0]}"
        )
    spellings: dict[str, str] = {}
    for name in table.classes:
        other = spellings.setdefault(spelling_key(name), name)
        if other != name:
            notes.append(
                f"classes '{other}' and '{name}' differ in spelling only: a taxonomy would make them one"
            )
    for column in np.flatnonzero(~_given(table)):
        taken = hidden is not None and bool((hidden[:, column] != UNKNOWN).any())
        notes.append(_unlabelled(table.classes[column], int(table.assumed[:, column].sum()), taken=taken))
    return tuple(notes)


def word_notes(source: str, table: Table, taxonomy: Taxonomy | None) -> tuple[str, ...]:
    """Return what is to be said of the words in a source's lists that the taxonomy does not know."""
    counts = unknown_words(table, taxonomy)
    if not counts:
        return ()
    named = ", ".join(f"'{word}' {count}" for word, count in list(counts.items())[:_SHOWN])
    more = f" and {len(counts) - _SHOWN} more" if len(counts) > _SHOWN else ""
    return (
        f"warning: source '{source}': the taxonomy does not know {len(counts)} of the labels in its lists, so they "
        f"imply nothing; by images: {named}{more}",
    )


def split_notes(table: Table, *, published: bool) -> tuple[str, ...]:
    """Return what is to be said of an assembled table's splits: the empty ones, classes that lack a state in train.

    Args:
        table: its splits decided.
        published: whether a source itself says of rows that they are in train.
    """
    notes = []
    empty = [name for name in SPLITS if not (table.splits == name).any()]
    if empty:
        hint = ""
        if published and empty == ["val"]:
            hint = " (`trainval` in place of `train` lets `split` take some for it)"
        notes.append(f"no {table.noun} is in the split {' or '.join(empty)}{hint}")
    drawn = {name for values in table.mask_values.values() for name in values.values()}
    train = table.labels[table.splits == "train"]
    for column in np.flatnonzero(_given(table)):
        labels = train[:, column]
        for state, word in ((POSITIVE, "positive"), (NEGATIVE, "negative")):
            if state == NEGATIVE and table.classes[column] in drawn:
                continue  # the voxels around it are
            if not (labels == state).any():
                notes.append(f"class '{table.classes[column]}' has no {word} label in train")
    return tuple(notes)


def _given(table: Table) -> NDArray[np.bool_]:
    """Return which classes have a label that somebody gave, bool [C]."""
    columns = zip(table.labels.T, table.origins.T, strict=True)  # one at a time: rows may be millions
    given = [((labels != UNKNOWN) & (origins == LabelOrigin.GIVEN)).any() for labels, origins in columns]
    return np.array(given, dtype=np.bool_)


def _unlabelled(name: str, assumed: int, *, taken: bool) -> str:
    """Return what is said of a class that nobody labels."""
    blank = "each of its labels is hidden" if taken else "each of its cells is blank"
    why = f"{blank} but {assumed} that are assumed" if assumed else blank
    return (
        f"warning: class '{name}' is labelled by no source ({why}): its figures are not defined; to leave it out, list "
        "the other classes as `classes`"
    )
