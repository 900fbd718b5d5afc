"""What tables say of cases: paths, patient, split, and classes that hold for a case as a whole."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from labelassemble.data.csvfile import Chunk, CsvFile, TextColumns
from labelassemble.data.readers.csv import split_cells
from labelassemble.data.readers.label_cells import LabelCells, class_columns
from labelassemble.data.readers.paths import image_paths
from labelassemble.data.readers.volume_folder import FoundCases
from labelassemble.data.states import UNKNOWN
from labelassemble.data.subgroups import SubgroupCells
from labelassemble.data.text import TextArray, constant_text, text_array
from labelassemble.errors import LabelAssembleError

TEXTS = ("image", "name", "mask", "patient", "split")


class CaseRows(NamedTuple):
    """The rows of one or more tables.

    Attributes:
        texts: text [N] by what it is: image, name, mask, patient, split; "" where the table does not say.
        labels: int8 [N, C].
        subgroups: text [N] each.
        counts: rows of each table.
    """

    texts: Mapping[str, TextArray]
    labels: NDArray[np.int8]
    subgroups: Mapping[str, TextArray]
    counts: list[int]

    def take(self, index: NDArray[np.int64]) -> "CaseRows":
        """Return the rows of `index`, int64 [M]; -1 is a row that says nothing."""
        nothing = index < 0
        if not nothing.any():
            texts = {name: text[index] for name, text in self.texts.items()}
            subgroups = {name: text[index] for name, text in self.subgroups.items()}
            return CaseRows(texts, self.labels[index], subgroups, [len(index)])
        labels = np.full((len(index), self.labels.shape[1]), UNKNOWN, dtype=np.int8)
        labels[~nothing] = self.labels[index[~nothing]]
        texts = {name: _filled(text, index) for name, text in self.texts.items()}
        subgroups = {name: _filled(text, index) for name, text in self.subgroups.items()}
        return CaseRows(texts, labels, subgroups, [len(index)])


def _filled(text: TextArray, index: NDArray[np.int64]) -> TextArray:
    cells = np.full(len(index), "", dtype=object)
    cells[index >= 0] = text.astype(object)[index[index >= 0]]
    return text_array(cells)


def read_case_tables(
    paths: Sequence[Path],
    uses: Mapping[str, str | None],
    classes: Sequence[str],
    columns: Sequence[str],
    *,
    root: Path,
    subgroups: SubgroupCells,
    needs: Sequence[str],
) -> tuple[CaseRows, tuple[str, ...]]:
    """Return the rows of tables one after the other, and what there is to tell of their cells.

    Args:
        paths: the tables, CSV.
        uses: the column of each of `TEXTS`; None for the one of that name where there is one, "" for none.
        classes: names of the C columns of the labels.
        columns: which of them the tables have.
        root: the folder that paths start at.
        subgroups: collects the subgroups.
        needs: those of `uses` that a table must have.

    Raises:
        LabelAssembleError: A table lacks a column, or has a cell that is none; with file, line and column.
    """
    texts, cells = TextColumns(*TEXTS), LabelCells("unknown", None)
    labels = [np.empty((0, len(classes)), dtype=np.int8)]
    counts = []
    at = [list(classes).index(name) for name in columns]
    for path in paths:
        count = 0
        with CsvFile(path) as file:
            found = _uses(file, uses, needs)
            own = subgroups.columns(file.header, f"{path}, line 1")
            if columns:
                for name in columns:
                    file.require(name, "classes")
                class_columns(tuple(columns), file.header, f"{path}, line 1")
            used = {*found.values(), *columns, *(item.column for item in own.values())}
            for chunk in file.chunks(tuple(used)):
                subgroups.add(chunk, own)
                for text in TEXTS:
                    texts.add({text: _cells(chunk, text, found.get(text), root)})
                block = np.full((len(chunk), len(classes)), UNKNOWN, dtype=np.int8)
                block[:, at] = cells.states(chunk, columns)
                labels.append(block)
                count += len(chunk)
        counts.append(count)
    if not sum(counts):
        raise LabelAssembleError(f"{paths[0]}: the table has no rows")
    whole = {text: texts.take(text) for text in TEXTS}
    return CaseRows(whole, np.concatenate(labels), subgroups.take(), counts), cells.notes()


def _uses(file: CsvFile, uses: Mapping[str, str | None], needs: Sequence[str]) -> dict[str, str]:
    found = {}
    for use, column in uses.items():
        if column is not None and column != "":
            found[use] = file.require(column, f"{'path' if use == 'image' else use}_column")
        elif column is None and (use in file.header or use in needs):
            found[use] = file.require(use, f"{use}_column")
    return found


def _cells(chunk: Chunk, text: str, column: str | None, root: Path) -> pa.Array | list[str]:
    if column is None:
        return [""] * len(chunk)
    if text == "split":
        return split_cells(chunk, column)
    if text == "image":
        return pc.utf8_rtrim(image_paths(root, chunk, column), "/")  # of a folder
    if text == "mask":
        cells = chunk.columns[column]
        blank = pc.equal(pc.utf8_trim_whitespace(cells), "")
        filled = replace(chunk, columns={column: pc.if_else(blank, "blank", cells)})
        return pc.if_else(blank, "", pc.utf8_rtrim(image_paths(root, filled, column), "/"))
    return chunk.columns[column]


def match_rows(
    found: Sequence[FoundCases], tables: Sequence[Path], of: Sequence[Path], told: CaseRows
) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Return the row of each case, int64 [N], -1 without one, and a sentence on those that do not meet.

    Args:
        found: the matches of the pattern.
        tables: the tables, each once.
        of: the table of each match.
        told: the rows of the tables.

    Raises:
        LabelAssembleError: A stack has another number of entries than its table rows, a table names a case twice, or no
            case has a row.
    """
    starts = dict(zip(tables, np.cumsum([0, *told.counts]).tolist(), strict=False))
    ends = {table: starts[table] + count for table, count in zip(tables, told.counts, strict=True)}
    names = told.texts["name"].tolist()
    rows: dict[Path, dict[str, int]] = {}
    index: list[int] = []
    for case, table in zip(found, of, strict=True):
        first, last = starts[table], ends[table]
        if not case.keys:  # a stack
            if last - first != len(case.paths):
                raise LabelAssembleError(
                    f"{table}: must have a row per image of {case.paths[0].partition('::')[0]} ({len(case.paths)}), "
                    f"got {last - first}"
                )
            index.extend(range(first, last))
            continue
        if table not in rows:
            rows[table] = {}
            for row in range(first, last):
                if rows[table].setdefault(names[row], row) != row:
                    raise LabelAssembleError(f"{table}: the case '{names[row]}' has two rows")
        index.extend(rows[table].get(key, -1) for key in case.keys)
    result = np.array(index, dtype=np.int64)
    lacking = int(np.count_nonzero(result < 0))
    if lacking == len(result):
        example = next(key for case in found for key in case.keys)
        raise LabelAssembleError(
            f"{tables[0]}: no row is of a case that `images` found: their names are such as '{example}' and "
            f"'{names[0]}' (`name_column` says which column has them)"
        )
    notes = []
    if lacking:
        notes.append(
            f"{lacking} of its {len(result)} cases have no row in its table: it says nothing of them"
        )
    spare = len(names) - len(set(index) - {-1})
    if spare:
        notes.append(f"{spare} rows of its table are of cases that `images` did not find: they are left out")
    return result, tuple(notes)


def no_rows(count: int, classes: int) -> CaseRows:
    """Return rows that say nothing of so many cases."""
    blank = constant_text("", count)
    labels = np.full((count, classes), UNKNOWN, dtype=np.int8)
    return CaseRows(dict.fromkeys(TEXTS, blank), labels, {}, [count])
