"""A table, or predictions, as CSV or Parquet: written whole or not at all, read back the same.

A table has a column per class, predictions have two: ``label:CLASS`` and ``probability:CLASS``, and where calibration
changes the probability a third, ``uncalibrated:CLASS``, as the network gives it. Before them stand those of the
subgroups, if there are any: ``subgroup:sex``, and of a table with masks ``mask:path`` and ``mask:values``, what each
value of the mask stands for: "1=PDAC;2=cyst".
"""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from labelassemble._files import atomic_file, atomic_path
from labelassemble.data.class_names import MASK_PATH, MASK_VALUES, RESERVED_COLUMNS, check_class_names
from labelassemble.data.csvfile import Chunk, CsvFile, RowFile, TextColumns, ends_with_a_line, shown
from labelassemble.data.parquet import ParquetFile
from labelassemble.data.predictions import Predictions
from labelassemble.data.states import NEGATIVE, POSITIVE, UNCERTAIN, UNKNOWN, LabelOrigin
from labelassemble.data.subgroups import PREFIX, checked_subgroups
from labelassemble.data.table import SPLITS, Table
from labelassemble.data.text import TextArray, constant_text, text_array, text_codes
from labelassemble.errors import LabelAssembleError, did_you_mean

_CELLS: Final = {"1": int(POSITIVE), "0": int(NEGATIVE), "": int(UNKNOWN), "-2": int(UNCERTAIN)}
_CELL_OF_STATE: Final = np.array(["-2", "", "0", "1"], dtype=object)  # indexed by state + 2
_LABEL, _PROBABILITY, _UNCALIBRATED = "label:", "probability:", "uncalibrated:"
_RULES: Final = [origin.name.lower() for origin in LabelOrigin]
_ROWS_AT_ONCE: Final = 1 << 16


def write_table_csv(table: Table, path: Path) -> None:
    """Write `table` to `path`; see `Table.to_csv`."""
    _write(table, path, [[] for _ in table.classes])


def write_predictions(
    predictions: Predictions, path: Path, answered: NDArray[np.float64] | None = None
) -> None:
    """Write predictions.csv as `write_table_csv` does, probabilities with the 9 digits that are all of a float32.

    Args:
        predictions: as the network gives them.
        path: the file.
        answered: the probabilities after calibration, float64 [N, C]; default: those of the predictions.

    Raises:
        LabelAssembleError: The file cannot be written.
    """
    given = predictions.probabilities
    columns = []
    for index in range(len(predictions.classes)):
        if answered is None or bool((answered[:, index] == given[:, index]).all()):
            columns.append([(_PROBABILITY, given[:, index])])
        else:
            columns.append([(_PROBABILITY, answered[:, index]), (_UNCALIBRATED, given[:, index])])
    _write(predictions, path, columns)


def _write(table: Table, path: Path, numbers: list[list[tuple[str, NDArray[np.float64]]]]) -> None:
    """Write a table; `numbers` are of each class the columns [N] behind that of the label, none for a plain table."""
    classes: list[str] = []
    for name, found in zip(table.classes, numbers, strict=True):
        classes += [_LABEL + name, *(prefix + name for prefix, _ in found)] if found else [name]
    with atomic_file(path) as file:
        plain = csv.writer(file, lineterminator="\n")
        quoted = csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_ALL)
        more = _more_columns(table)
        plain.writerow([*RESERVED_COLUMNS, *more, *classes])
        for first in range(0, len(table), _ROWS_AT_ONCE):
            rows = slice(first, first + _ROWS_AT_ONCE)
            columns = [text[rows].tolist() for text in _texts(table)]
            others = [text[rows].tolist() for text in more.values()]
            # the csv module quotes a line feed but not a carriage return, which would end the row for a reader
            writer = quoted if any("\r" in cell for column in columns + others for cell in column) else plain
            columns += [assumed_cells(table.origins[rows], table.classes), *others]
            for column, states in enumerate(table.labels[rows].T):
                columns.append(_CELL_OF_STATE[states + 2].tolist())
                columns += [
                    [f"{value:.9g}" for value in values[rows].tolist()] for _, values in numbers[column]
                ]
            writer.writerows(zip(*columns, strict=True))


def _texts(table: Table) -> tuple[TextArray, ...]:
    """Return the columns of text in the order of `RESERVED_COLUMNS`."""
    return table.paths, table.names, table.sources, table.groups, table.splits


def _more_columns(table: Table) -> dict[str, TextArray]:
    """Return the columns of text that only some tables have, by name: subgroups and masks."""
    columns = {PREFIX + name: text for name, text in table.subgroups.items()}
    if (table.masks != "").any():
        sources, code = text_codes(table.sources)
        cells = [_values_cell(table.mask_values.get(source, {})) for source in sources.tolist()]
        columns |= {MASK_PATH: table.masks, MASK_VALUES: text_array(cells)[code]}
    return columns


def _values_cell(named: Mapping[int, str]) -> str:
    return ";".join(f"{value}={name}" for value, name in named.items())


def parse_mask_values(cell: str) -> dict[int, str]:
    """Return what the values of a mask stand for, from a cell of the column ``mask:values``: "1=PDAC;2=cyst".

    Raises:
        LabelAssembleError: it is no such list.
    """
    named = {}
    for part in cell.split(";") if cell else ():
        value, _, name = part.partition("=")
        if not (value.isascii() and value.isdigit()) or not name or int(value) in named:
            raise LabelAssembleError(f"the values of a mask must look like 1=PDAC;2=cyst, got {shown(cell)}")
        named[int(value)] = name
    return named


def write_table_parquet(table: Table, path: Path) -> None:
    """Write `table` to `path`; see `Table.to_parquet`."""
    words = pa.dictionary(pa.int32(), pa.string())
    few = {"source", "group", "split", "assumed"}
    more = _more_columns(table)
    schema = pa.schema(
        [(name, words if name in few else pa.string()) for name in RESERVED_COLUMNS]
        + [(name, words if name != MASK_PATH else pa.string()) for name in more]
        + [(name, pa.int8()) for name in table.classes]
    )
    with (
        atomic_path(path) as unfinished,
        pq.ParquetWriter(unfinished, schema, compression="zstd") as writer,
    ):
        for first in range(0, len(table), _ROWS_AT_ONCE):
            rows = slice(first, first + _ROWS_AT_ONCE)
            cells = [text[rows].tolist() for text in _texts(table)]
            cells.append(assumed_cells(table.origins[rows], table.classes))
            cells += [text[rows].tolist() for text in more.values()]
            columns = [pa.array(column, schema.types[index]) for index, column in enumerate(cells)]
            columns += [pa.array(labels, mask=labels == UNKNOWN) for labels in table.labels[rows].T]
            writer.write_table(pa.Table.from_arrays(columns, schema=schema))


def read_table_parquet(path: Path) -> Table:
    """Return the table written by `write_table_parquet`; see `Table.from_parquet`."""
    with ParquetFile(path) as file:
        return read_table_rows(file, str(path))


def assumed_cells(origins: NDArray[np.uint8], classes: tuple[str, ...]) -> list[str]:
    """Return for each row of uint8 [N, C] the assumed classes with their rule; few patterns repeat over many rows."""
    if not origins.any():
        return [""] * len(origins)
    patterns, which = np.unique(origins, axis=0, return_inverse=True)
    cells = [
        ";".join(f"{classes[column]}={_RULES[pattern[column]]}" for column in np.flatnonzero(pattern))
        for pattern in patterns
    ]
    return [cells[index] for index in which.reshape(-1)]


def read_table_csv(path: Path) -> Table:
    """Return the table written by `write_table_csv`; see `Table.from_csv`."""
    with CsvFile(path) as file:
        return read_table_rows(file, f"{path}, line 1")


def read_table_rows(file: RowFile, place: str) -> Table:
    """Return the table that the rows of `file` are; `place` is where errors say its columns are named.

    Raises:
        LabelAssembleError: They are no table; with file, line and column.
    """
    if file.header[: len(RESERVED_COLUMNS)] != RESERVED_COLUMNS:
        raise LabelAssembleError(
            f"{place}: a table's columns must start with {','.join(RESERVED_COLUMNS)}, "
            f"got {shown(','.join(file.header))}"
        )
    return _read(file, place, _other_columns(file))


def _other_columns(file: RowFile) -> tuple[str, ...]:
    """Return the columns behind the reserved ones that are neither subgroups nor masks."""
    return tuple(
        name
        for name in file.header[len(RESERVED_COLUMNS) :]
        if not name.startswith(PREFIX) and name not in (MASK_PATH, MASK_VALUES)
    )


def read_predictions(path: Path) -> Predictions:
    """Return what `write_predictions` wrote: predictions as the network gives them, before calibration.

    Raises:
        LabelAssembleError: The file cannot be read or is no such file; with file, line and column.
    """
    with CsvFile(path) as file:
        classes = _predicted_classes(file, f"{path}, line 1")
        probabilities = [np.empty((0, len(classes)))]
        table = _read(file, f"{path}, line 1", classes, probabilities)
    if not ends_with_a_line(path):  # the last number may have lost digits
        raise LabelAssembleError(f"{path}: the last line has no end, so the file may have been cut off")
    return Predictions.of(table, np.concatenate(probabilities))


def _predicted_classes(file: CsvFile, place: str) -> tuple[str, ...]:
    """Return the classes that the header names; each must have a label and a probability, in any order."""
    fixed, rest = file.header[: len(RESERVED_COLUMNS)], _other_columns(file)
    if fixed != RESERVED_COLUMNS:
        raise LabelAssembleError(
            f"{place}: the columns of predictions must start with {','.join(RESERVED_COLUMNS)}, "
            f"got {shown(','.join(file.header))}"
        )
    for column in rest:
        if not column.startswith((_LABEL, _PROBABILITY, _UNCALIBRATED)):
            raise LabelAssembleError(
                f"{place}: a column must be called label:<class>, probability:<class> or uncalibrated:<class>, "
                f"got {shown(column)}"
            )
    classes = tuple(column.removeprefix(_LABEL) for column in rest if column.startswith(_LABEL))
    with_probability = {
        column.removeprefix(_PROBABILITY) for column in rest if column.startswith(_PROBABILITY)
    }
    uncalibrated = {column.removeprefix(_UNCALIBRATED) for column in rest if column.startswith(_UNCALIBRATED)}
    for name in sorted(with_probability.symmetric_difference(classes) | uncalibrated.difference(classes)):
        missing = _PROBABILITY if name in classes else _LABEL
        raise LabelAssembleError(f"{place}: the class '{name}' has no column '{missing}{name}'")
    if not classes:
        raise LabelAssembleError(f"{place}: predictions must have at least one class, got none")
    return classes


def _read(
    file: RowFile,
    place: str,
    classes: tuple[str, ...],
    probabilities: list[NDArray[np.float64]] | None = None,
) -> Table:
    """Return the table; where `probabilities` is given, labels have a prefix and its blocks [rows, C] are appended."""
    prefix = "" if probabilities is None else _LABEL
    try:
        check_class_names(classes)
        subgroups = [name for name in file.header if name.startswith(PREFIX)]
        checked_subgroups({name.removeprefix(PREFIX): [] for name in subgroups}, 0)
    except LabelAssembleError as error:
        raise LabelAssembleError(f"{place}: {error}") from None
    masks = [name for name in (MASK_PATH,) if name in file.header]
    plain = ("path", "name", "source", "group", "split", *subgroups, *masks)
    texts = TextColumns(*plain)
    mask_values: dict[str, dict[int, str]] = {}
    labels = [np.empty((0, len(classes)), dtype=np.int8)]
    origins = [np.empty((0, len(classes)), dtype=np.uint8)]
    for chunk in file.chunks(file.header):
        chunk.mapped("split", _checked_split)
        texts.add({name: chunk.columns[name] for name in plain})
        if MASK_VALUES in file.header:
            mask_values |= _mask_values(chunk)
        block = np.empty((len(chunk), len(classes)), dtype=np.int8)
        for column, name in enumerate(classes):
            block[:, column] = chunk.states(prefix + name, _CELLS, "1, 0, -2 (uncertain) or blank (unknown)")
        labels.append(block)
        origins.append(_origins(chunk, block, classes))
        if probabilities is not None:
            probabilities.append(np.stack([_given(chunk, name) for name in classes], axis=1))
    return Table(
        classes=classes,
        paths=texts.take("path"),
        names=texts.take("name"),
        groups=texts.take("group"),
        splits=texts.take("split"),
        sources=texts.take("source"),
        labels=np.concatenate(labels),
        origins=np.concatenate(origins),
        subgroups={name.removeprefix(PREFIX): texts.take(name) for name in subgroups},
        masks=texts.take(MASK_PATH) if masks else constant_text("", 0),
        mask_values=mask_values,
    )


def _mask_values(chunk: Chunk) -> dict[str, dict[int, str]]:
    """Return what the values of masks stand for, by source."""
    named, codes = chunk.mapped(MASK_VALUES, parse_mask_values)
    sources, of_row = chunk.distinct("source")
    found = {}
    for source, name in enumerate(sources):
        if (first := int(np.argmax(of_row == source))) < len(of_row) and named[codes[first]]:
            found[name] = named[codes[first]]
    return found


def _given(chunk: Chunk, name: str) -> NDArray[np.float64]:
    """Return the probabilities of a class as the network gives them, [rows]."""
    before = _UNCALIBRATED + name
    return _numbers(chunk, before if before in chunk.columns else _PROBABILITY + name)


def _numbers(chunk: Chunk, column: str) -> NDArray[np.float64]:
    """Return the probabilities of one column, [rows]."""

    def number(cell: str) -> float:
        try:
            value = float(cell)
        except ValueError:
            value = np.nan
        if not 0 <= value <= 1:
            raise ValueError(f"a probability must be a number from 0 to 1, got {shown(cell)}")
        return value

    values, codes = chunk.mapped(column, number)
    return np.array(values, dtype=np.float64)[codes]


def _checked_split(cell: str) -> str:
    if cell not in SPLITS:
        raise ValueError(f"a split must be train, val or test, got {shown(cell)}")
    return cell


def _origins(chunk: Chunk, labels: NDArray[np.int8], classes: tuple[str, ...]) -> NDArray[np.uint8]:
    patterns, codes = chunk.mapped("assumed", lambda cell: parse_assumed(cell, classes))
    origins = np.array(patterns, dtype=np.uint8).reshape(len(patterns), len(classes))[codes]
    unlabelled = np.argwhere((labels < NEGATIVE) & (origins > 0))
    if len(unlabelled):
        row, column = unlabelled[0]
        raise chunk.error(int(row), "assumed", f"'{classes[column]}' is assumed but has no label in this row")
    return origins


def parse_assumed(cell: str, classes: Sequence[str]) -> NDArray[np.uint8]:
    """Return the `LabelOrigin` codes, uint8 [C], that a cell of the column `assumed` means.

    A class without a rule is assumed by the source's option, as in the tables of earlier versions.

    Raises:
        LabelAssembleError: it names no class.
    """
    origins = np.zeros(len(classes), dtype=np.uint8)
    for part in cell.split(";") if cell else ():
        name, _, rule = part.rpartition("=")
        if not name or rule not in _RULES:
            name, rule = part, _RULES[LabelOrigin.ASSUME]
        if name not in classes:
            raise LabelAssembleError(f"no class '{name}'{did_you_mean(name, classes)}")
        origins[classes.index(name)] = _RULES.index(rule)
    return origins
