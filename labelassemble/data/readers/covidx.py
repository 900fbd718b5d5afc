"""COVIDx CXR (Wang, Lin, Wong, Scientific Reports 2020; CXR-2 and later) as its publisher ships it."""

import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Final, Literal, NamedTuple, Self

import numpy as np

from labelassemble.data.csvfile import CsvFile, shown
from labelassemble.data.readers.options import FilePath, SourceOptions
from labelassemble.data.states import NEGATIVE, POSITIVE, UNKNOWN
from labelassemble.data.table import Table, new_table
from labelassemble.errors import LabelAssembleError, did_you_mean

_BINARY: Final[dict[str, tuple[int, ...]]] = {"positive": (int(POSITIVE),), "negative": (int(NEGATIVE),)}
# a COVID-19 image of the three-class form is not said to show pneumonia, nor that it shows none
_THREE: Final[dict[str, tuple[int, ...]]] = {
    "covid-19": (int(POSITIVE), int(UNKNOWN)),
    "pneumonia": (int(NEGATIVE), int(POSITIVE)),
    "normal": (int(NEGATIVE), int(NEGATIVE)),
}
_COLUMNS: Final = {
    "patient": ("patient_id", "patient id", "patientid"),
    "file": ("filename", "file_name", "image"),
    "label": ("class", "label", "finding"),
    "origin": ("source", "data_source", "data source"),
}


class _Row(NamedTuple):
    path: Path
    place: Callable[[], str]
    patient: str
    file: str
    label: str
    origin: str


class CovidxSource(SourceOptions):
    """The folder with the lists `train.txt`, `test.txt` and, from CXR-4 on, `val.txt`, and the images in `train/` etc.

    A line is "patient file class origin"; the lists may also be CSV files with a header (`train.csv` ...). Classes:
    positive and negative of COVID-19 (form B), or normal, pneumonia and COVID-19 (form A), which label Pneumonia too.
    Without a `val` list, train is divided into train and val by patient; a patient's id counts within its origin.

    Attributes:
        root: The folder.
    """

    reader: Literal["covidx"] = "covidx"
    root: FilePath

    def resolved(self, base: Path) -> Self:
        """Return the source with its paths made absolute, starting at the folder `base`."""
        return self.model_copy(update={"root": base / self.root})

    def read(self) -> Table:
        """Return the table of the folder.

        Raises:
            LabelAssembleError: A list is missing or breaks the format; with file and line.
        """
        lists = {split: self._list(split) for split in ("train", "val", "test")}
        for split in ("train", "test"):
            if lists[split] is None:
                raise LabelAssembleError(
                    f"source '{self.name}': {self.root} has no {split}.txt and no {split}.csv"
                )
        base = os.path.abspath(self.root)
        words: dict[str, tuple[int, ...]] = {}
        paths, names, patients, splits, labels = [], [], [], [], []
        for split, path in lists.items():
            if path is None:
                continue
            published = "trainval" if split == "train" and lists["val"] is None else split
            for row in _rows(path):
                word = row.label.lower()
                words = words or (_BINARY if word in _BINARY else _THREE)
                if word not in words:
                    near = did_you_mean(row.label, words)
                    raise LabelAssembleError(
                        f"{row.path}, {row.place()}: a class must be {' or '.join(words)}, got {shown(row.label)}{near}"
                    )
                if not row.file or row.file.startswith("/") or ".." in row.file.split("/"):
                    raise LabelAssembleError(
                        f"{row.path}, {row.place()}: must name a file below {split}/, got {shown(row.file)}"
                    )
                names.append(f"{split}/{row.file}")
                paths.append(f"{base}/{split}/{row.file}")
                patients.append(f"{row.origin}:{row.patient}")
                splits.append(published)
                labels.append(words[word])
        classes = ("COVID-19",) if words is _BINARY else ("COVID-19", "Pneumonia")
        return new_table(
            classes,
            paths=paths,
            names=names,
            labels=np.array(labels, dtype=np.int8).reshape(-1, len(classes)),
            sources=self.name,
            groups=patients,
            splits=splits,
        )

    def _list(self, split: str) -> Path | None:
        for suffix in ("txt", "csv"):
            path = self.root / f"{split}.{suffix}"
            if path.exists():
                return path
        return None


def _rows(path: Path) -> Iterator[_Row]:
    return _text_rows(path) if path.suffix == ".txt" else _csv_rows(path)


def _text_rows(path: Path) -> Iterator[_Row]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise LabelAssembleError(f"{path}: cannot be read ({error})") from None
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            patient, rest = line.split(" ", 1)
            file, label, origin = rest.strip().rsplit(" ", 2)  # a file's name may have spaces in it
        except ValueError:
            raise LabelAssembleError(
                f"{path}, line {number}: must be 'patient file class origin', got {shown(line)}"
            ) from None
        yield _Row(path, partial("line {}".format, number), patient, file, label, origin)


def _csv_rows(path: Path) -> Iterator[_Row]:
    with CsvFile(path) as file:
        by_name = {column.lower(): column for column in file.header}
        uses = {}
        for use, spellings in _COLUMNS.items():
            found = [by_name[name] for name in spellings if name in by_name]
            if not found:
                raise LabelAssembleError(
                    f"{path}, line 1: no column '{spellings[0]}', got {', '.join(file.header)}"
                )
            uses[use] = found[0]
        for chunk in file.chunks(tuple(uses.values())):
            columns = [chunk.cells(uses[use]) for use in ("patient", "file", "label", "origin")]
            for row, cells in enumerate(zip(*columns, strict=True)):
                yield _Row(path, partial(chunk.place, row), *cells)
