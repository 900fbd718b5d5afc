"""What a model said about images whose labels are known or not: predictions.csv as arrays."""

import csv
import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Final, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from labelassemble.data.csvfile import Chunk, CsvFile, TextColumns, shown
from labelassemble.data.states import NEGATIVE, POSITIVE, UNCERTAIN, UNKNOWN
from labelassemble.data.table import RESERVED_COLUMNS, SPLITS, check_class_names
from labelassemble.data.table_csv import replaced_file
from labelassemble.errors import LabelAssembleError, did_you_mean

_LABEL, _PROBABILITY = "label:", "probability:"
_CELLS: Final = {"1": int(POSITIVE), "0": int(NEGATIVE), "": int(UNKNOWN), "-2": int(UNCERTAIN)}
_CELL_OF_STATE: Final[Mapping[int, str]] = {state: cell for cell, state in _CELLS.items()}
_TEXTS: Final = ("names", "sources", "groups", "splits", "paths")


@dataclass(frozen=True, eq=False, kw_only=True)
class Predictions:
    """Images, their labels and the probabilities that a model gave them; a row an image, a column a class.

    Attributes:
        classes: names of the C classes, in the order of the columns.
        labels: `LabelState` codes, int8 [N, C].
        probabilities: float64 [N, C], each in [0, 1].
        assumed: bool [N, C], True where the label was assumed and not given by anybody.
        names: what the publisher calls each image, text [N].
        sources: the dataset of each image, text [N].
        groups: the patient of each image, text [N]; "" = not known, counted as a patient of its own.
        splits: "train", "val" or "test", text [N].
        paths: the files, text [N].

    Raises:
        LabelAssembleError: a shape, code, split, name or probability that breaks these rules, NaN above all.
    """

    classes: tuple[str, ...]
    labels: NDArray[np.int8]
    probabilities: NDArray[np.float64]
    assumed: NDArray[np.bool_]
    names: NDArray[np.str_]
    sources: NDArray[np.str_]
    groups: NDArray[np.str_]
    splits: NDArray[np.str_]
    paths: NDArray[np.str_]

    def __post_init__(self) -> None:
        object.__setattr__(self, "classes", tuple(self.classes))
        check_class_names(self.classes)
        shape = (len(self.paths), len(self.classes))
        for name, dtype in (("labels", np.int8), ("probabilities", np.float64), ("assumed", np.bool_)):
            array = np.asarray(getattr(self, name))
            if array.shape != shape:
                raise LabelAssembleError(
                    f"predictions: {name} must have shape {list(shape)}, got {list(array.shape)}"
                )
            object.__setattr__(self, name, array.astype(dtype, copy=False))
        for name in _TEXTS:
            array = np.asarray(getattr(self, name), dtype=np.str_)
            if array.shape != shape[:1]:
                raise LabelAssembleError(
                    f"predictions: {name} must have one entry per image ({shape[0]}), got {list(array.shape)}"
                )
            object.__setattr__(self, name, array)
        self._check_values()

    def _check_values(self) -> None:
        if self.labels.size and not UNCERTAIN <= self.labels.min() <= self.labels.max() <= POSITIVE:
            odd = self.labels[(self.labels < UNCERTAIN) | (self.labels > POSITIVE)][0]
            raise LabelAssembleError(f"predictions: labels must be 1, 0, -1 or -2, got {odd}")
        if bool((self.assumed & (self.labels < NEGATIVE)).any()):
            raise LabelAssembleError("predictions: only a known label (1 or 0) can be assumed")
        wrong = ~((self.probabilities >= 0) & (self.probabilities <= 1))
        if wrong.any():
            row, column = np.argwhere(wrong)[0]
            raise LabelAssembleError(
                f"predictions: the probability of '{self.classes[column]}' must be a number from 0 to 1, "
                f"got {self.probabilities[row, column]} for '{self.paths[row]}'"
            )
        for split in np.unique(self.splits):
            if split not in SPLITS:
                raise LabelAssembleError(f"predictions: a split must be train, val or test, got '{split}'")

    def __len__(self) -> int:
        return len(self.paths)

    def targets(self) -> NDArray[np.float64]:
        """Return the labels that evaluation may count, float64 [N, C]: 1, 0, NaN = unknown, uncertain or assumed."""
        counted = (self.labels >= NEGATIVE) & ~self.assumed
        return np.where(counted, self.labels, np.nan)

    def column(self, name: str) -> int:
        """Return the column of class `name`.

        Raises:
            LabelAssembleError: no such class; the sentence gives the nearest.
        """
        if name not in self.classes:
            raise LabelAssembleError(
                f"no class '{name}' in the predictions{did_you_mean(name, self.classes)}"
            )
        return self.classes.index(name)

    def select(self, rows: ArrayLike) -> Self:
        """Return the predictions of the rows chosen by a mask, bool [N], or by indices, int [M], in that order."""
        index = np.asarray(rows)
        if index.dtype != np.bool_:
            index = index.astype(np.intp)
        arrays = {item.name: getattr(self, item.name)[index] for item in fields(self)[1:]}
        return type(self)(classes=self.classes, **arrays)

    def subset_by_split(self, split: str) -> Self:
        """Return the rows of one split, perhaps none.

        Raises:
            LabelAssembleError: `split` is not "train", "val" or "test".
        """
        if split not in SPLITS:
            raise LabelAssembleError(
                f"split must be train, val or test, got '{split}'{did_you_mean(split, SPLITS)}"
            )
        return self.select(self.splits == split)


def write_predictions(predictions: Predictions, path: Path) -> None:
    """Write predictions.csv, whole or not at all: an interruption leaves the file that was there before.

    Probabilities are written with 9 significant digits, which is every bit of a float32.

    Raises:
        LabelAssembleError: the file cannot be written, or a text cannot be encoded as UTF-8.
    """
    classes = predictions.classes
    header = [*RESERVED_COLUMNS]
    columns: list[list[str]] = [
        getattr(predictions, name).tolist() for name in ("paths", "names", "sources", "groups", "splits")
    ]
    columns.append([""] * len(predictions))
    for row in np.flatnonzero(predictions.assumed.any(axis=1)):
        marks = zip(classes, predictions.assumed[row], strict=True)
        columns[-1][row] = ";".join(name for name, on in marks if on)
    for index, name in enumerate(classes):
        header += [_LABEL + name, _PROBABILITY + name]
        columns.append([_CELL_OF_STATE[state] for state in predictions.labels[:, index].tolist()])
        columns.append([f"{value:.9g}" for value in predictions.probabilities[:, index].tolist()])
    with replaced_file(path) as file:
        writer = csv.writer(file, lineterminator="\n")
        try:
            writer.writerow(header)
            writer.writerows(zip(*columns, strict=True))
        except UnicodeEncodeError as error:
            raise LabelAssembleError(
                f"{path}: a text of the predictions cannot be written as UTF-8: {shown(error.object)}"
            ) from None


def read_predictions(path: Path) -> Predictions:
    """Return what `write_predictions` wrote.

    Raises:
        LabelAssembleError: the file cannot be read or is not such a file; one sentence with file, line and column.
    """
    with CsvFile(path) as file:
        classes = _classes(file)
        texts = TextColumns("path", "name", "source", "group", "split")
        labels: list[NDArray[np.int8]] = [np.empty((0, len(classes)), np.int8)]
        probabilities: list[NDArray[np.float64]] = [np.empty((0, len(classes)))]
        assumed: list[NDArray[np.bool_]] = [np.empty((0, len(classes)), np.bool_)]
        for chunk in file.chunks(file.header):
            for row, split in enumerate(chunk.columns["split"]):
                if split not in SPLITS:
                    raise chunk.error(row, "split", f"a split must be train, val or test, got {shown(split)}")
            texts.add({name: chunk.columns[name] for name in ("path", "name", "source", "group", "split")})
            states = [
                chunk.states(_LABEL + name, _CELLS, "1, 0, -2 (uncertain) or blank (unknown)")
                for name in classes
            ]
            labels.append(np.stack(states, axis=1))
            probabilities.append(np.stack([_numbers(chunk, _PROBABILITY + name) for name in classes], axis=1))
            assumed.append(_marks(chunk, classes, labels[-1]))
    _check_ends_with_a_line(path)
    return Predictions(
        classes=classes,
        labels=np.concatenate(labels),
        probabilities=np.concatenate(probabilities),
        assumed=np.concatenate(assumed),
        names=texts.take("name"),
        sources=texts.take("source"),
        groups=texts.take("group"),
        splits=texts.take("split"),
        paths=texts.take("path"),
    )


def _classes(file: CsvFile) -> tuple[str, ...]:
    """Return the classes that the header names; each must have a label and a probability, in any order."""
    fixed, rest = file.header[: len(RESERVED_COLUMNS)], file.header[len(RESERVED_COLUMNS) :]
    if fixed != RESERVED_COLUMNS:
        raise LabelAssembleError(
            f"{file.path}, line 1: the columns of predictions must start with {','.join(RESERVED_COLUMNS)}, "
            f"got {shown(','.join(file.header))}"
        )
    classes = tuple(name.removeprefix(_LABEL) for name in rest if name.startswith(_LABEL))
    with_probability = {name.removeprefix(_PROBABILITY) for name in rest if name.startswith(_PROBABILITY)}
    for name in rest:
        if not name.startswith((_LABEL, _PROBABILITY)):
            raise LabelAssembleError(
                f"{file.path}, line 1: a column must be called label:<class> or probability:<class>, got {shown(name)}"
            )
    for name in sorted(with_probability.symmetric_difference(classes)):
        missing = _LABEL if name in with_probability else _PROBABILITY
        raise LabelAssembleError(f"{file.path}, line 1: the class '{name}' has no column '{missing}{name}'")
    if not classes:
        raise LabelAssembleError(f"{file.path}, line 1: predictions must have at least one class, got none")
    try:
        check_class_names(classes)
    except LabelAssembleError as error:
        raise LabelAssembleError(f"{file.path}, line 1: {error}") from None
    return classes


def _numbers(chunk: Chunk, column: str) -> NDArray[np.float64]:
    """Return the probabilities of one column, [rows]."""
    values = np.empty(len(chunk))
    for row, cell in enumerate(chunk.columns[column]):
        try:
            values[row] = float(cell)
        except ValueError:
            values[row] = np.nan
        if not 0 <= values[row] <= 1:
            raise chunk.error(row, column, f"a probability must be a number from 0 to 1, got {shown(cell)}")
    return values


def _marks(chunk: Chunk, classes: tuple[str, ...], labels: NDArray[np.int8]) -> NDArray[np.bool_]:
    """Return where labels [rows, C] are assumed, bool [rows, C]."""
    marks = np.zeros(labels.shape, np.bool_)
    for row, cell in enumerate(chunk.columns["assumed"]):
        for name in cell.split(";") if cell else ():
            if name not in classes:
                raise chunk.error(row, "assumed", f"no class '{name}'{did_you_mean(name, classes)}")
            column = classes.index(name)
            if labels[row, column] < NEGATIVE:
                raise chunk.error(row, "assumed", f"'{name}' is assumed but has no label in this row")
            marks[row, column] = True
    return marks


def _check_ends_with_a_line(path: Path) -> None:
    """Raise where the last row may have lost digits: every whole file ends with a line break."""
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        if file.read(1) not in b"\r\n":
            raise LabelAssembleError(f"{path}: the last line has no end, so the file may have been cut off")
