"""A table that the reader `csv` reads, made of one that writes labels otherwise or of folders named after classes."""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import pandas as pd

from labelassemble._files import atomic_file
from labelassemble.data.class_names import check_class_names
from labelassemble.data.csvfile import TextColumns
from labelassemble.errors import LabelAssembleError
from labelassemble.init.columns import SAID, WORDS, Uses
from labelassemble.init.profile import open_table

_MARKS: Final = re.compile(r"\s*[|;]\s*")
_MOST_CLASSES: Final = 500
_UNKNOWN: Final = "NA"  # which `blank` does not speak of


class OneHot(NamedTuple):
    """A table that was written with a column per class.

    Attributes:
        classes: by frequency.
        unlabelled: rows that name no class.
        denied: rows that say there is none, such as "nein".
        uncertain: rows that say that it is not sure.
    """

    classes: tuple[str, ...]
    unlabelled: int
    denied: int = 0
    uncertain: int = 0


def write_one_hot(table: Path, uses: Uses, path_of: Callable[[list[str]], list[str]], target: Path) -> OneHot:
    """Write the table with a column per class; return what is in it.

    A finding that a row does not name, but for others, is left blank: whether that means negative is for the
    configuration to say. A row that names none at all is unknown for every class, one that says "no" is negative and
    one that says "unclear" uncertain, in the words of `SAID`.

    Args:
        table: as it is.
        uses: of its columns.
        path_of: the cells of the path column as paths below the root.
        target: the CSV to write.

    Raises:
        LabelAssembleError: the table cannot be read, what it holds cannot be classes, or a cell says "yes" beside
            others that name classes.
    """
    if uses.path is None:
        raise LabelAssembleError(f"{table}: no column names the images")
    texts = {"path": uses.path, "patient": uses.patient, "split": uses.split, **uses.subgroups}
    kept = {use: column for use, column in texts.items() if column}
    parts = TextColumns(*kept, *(f"class {index}" for index in range(len(uses.classes))))
    with open_table(table) as file:
        for chunk in file.chunks(tuple({*kept.values(), *uses.classes})):
            parts.add({use: chunk.columns[column] for use, column in kept.items()})
            parts.add({f"class {index}": chunk.columns[name] for index, name in enumerate(uses.classes)})
    frame = pd.DataFrame({use: parts.take(use).tolist() for use in kept})
    frame["path"] = path_of(frame["path"].tolist())
    cells = [pd.Series(parts.take(f"class {index}").tolist()) for index in range(len(uses.classes))]
    in_words = uses.coding in ("label", "list")
    if in_words:
        try:
            labels = _spread(cells[0], uses.classes[0], several=uses.coding == "list", words=SAID)
        except LabelAssembleError as error:
            raise LabelAssembleError(f"{table}, {error}") from None
    else:
        labels = pd.DataFrame(
            {
                name: column.str.strip().str.lower().map(WORDS)
                for name, column in zip(uses.classes, cells, strict=True)
            }
        )
    classes = tuple(map(str, labels.columns))
    check_class_names(classes)
    _write(pd.concat([frame, labels], axis=1), target)
    counts = [_rows_of(labels, cell) if in_words else 0 for cell in (_UNKNOWN, "0", "-2")]
    return OneHot(classes, *counts)


def write_class_folders(images: Sequence[tuple[str, str, str]], target: Path) -> OneHot:
    """Write the table of images in folders named after classes; return what is in it.

    Args:
        images: path, class and split of each, "" for none.
        target: the CSV to write.

    Raises:
        LabelAssembleError: a folder's name cannot be that of a class.
    """
    frame = pd.DataFrame(list(images), columns=["path", "class", "split"])
    labels = _spread(frame.pop("class"), "class", several=False, words={})
    classes = tuple(map(str, labels.columns))
    check_class_names(classes)
    if not frame["split"].any():
        del frame["split"]
    _write(pd.concat([frame, labels], axis=1), target)
    return OneHot(classes, _rows_of(labels, _UNKNOWN))


def _rows_of(labels: pd.DataFrame, cell: str) -> int:
    """Return how many rows are `cell` in every column."""
    return int((labels == cell).all(axis=1).sum())


def _spread(cells: "pd.Series[str]", column: str, *, several: bool, words: Mapping[str, str]) -> pd.DataFrame:
    """Return a column per label, "1" where a row has it and "" where it has others; numbers are named after the column.

    A row that has none is "NA", unknown, in every column; one that holds one of the `words` is what that says.
    """
    codes, distinct = pd.factorize(cells)
    lists = [_labels(cell, several) for cell in distinct]
    said = [_said(names, column, words) for names in lists]
    lists = [names if state is None else set() for names, state in zip(lists, said, strict=True)]
    counts = np.bincount(codes, minlength=len(distinct))
    often: dict[str, int] = {}
    for names, count in zip(lists, counts, strict=True):
        for name in names:
            often[name] = often.get(name, 0) + int(count)
    if len(often) > _MOST_CLASSES:
        raise LabelAssembleError(
            f"column '{column}' holds {len(often)} different labels: say which column by --label-column"
        )
    order = sorted(often, key=lambda name: (-often[name], name))
    numbers = all(re.fullmatch(r"\d+", name) for name in order)
    if numbers:
        order.sort(key=int)
    if "1" in said:
        yes = next(cell for cell, state in zip(distinct, said, strict=True) if state == "1").strip()
        raise LabelAssembleError(
            f"column '{column}': '{yes}' does not say which class there is, "
            + (f"and '{order[0]}' is neither yes nor no" if order else "and no row names one")
            + ": write 1, 0, -1 (unknown), -2 (uncertain) or blank in every row, or the name of a class"
        )
    there = np.array(
        [
            [("1" if name in names else "" if names else state or _UNKNOWN) for name in order]
            for names, state in zip(lists, said, strict=True)
        ],
        dtype=object,
    )
    headed = [f"{column} {name}" for name in order] if numbers else order
    return pd.DataFrame(there.reshape(len(lists), len(order))[codes], columns=headed)


def _said(names: set[str], column: str, words: Mapping[str, str]) -> str | None:
    """Return what the cell with these names says in one of the `words`, None where it names classes or nothing.

    Raises:
        LabelAssembleError: it says both.
    """
    found = sorted(name for name in names if name.lower() in words)
    if not found:
        return None
    if len(names) > 1:
        other = next(iter(sorted(names - {found[0]})))
        raise LabelAssembleError(f"column '{column}': a cell says both '{found[0]}' and '{other}': mend it")
    return words[found[0].lower()]


def _labels(cell: str, several: bool) -> set[str]:
    parts = _MARKS.split(cell.strip()) if several else [cell.strip()]
    return {part for part in parts if WORDS.get(part.lower(), part) not in ("", "-1")}


def _write(frame: pd.DataFrame, target: Path) -> None:
    with atomic_file(target) as file:
        frame.to_csv(file, index=False, lineterminator="\n")
