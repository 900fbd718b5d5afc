"""Which of the published datasets a folder is: the one whose reader reads it."""

from collections import Counter
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from labelassemble.data import (
    ChestXray14Source,
    CheXpertSource,
    Cifar10Source,
    CovidxSource,
    MimicCxrSource,
    MnistSource,
    NpzSource,
    PadChestSource,
    Table,
    VinDrCxrSource,
)
from labelassemble.data.csvfile import CsvFile
from labelassemble.data.readers.folders import DatasetFolder
from labelassemble.data.readers.padchest import LIKE, TABLES, labels_named
from labelassemble.data.stacks import load_npz_array, npz_names
from labelassemble.errors import LabelAssembleError

_SOURCES: Final = (
    *(ChestXray14Source, MimicCxrSource, VinDrCxrSource, CheXpertSource, CovidxSource),
    *(MnistSource, Cifar10Source, NpzSource),
)
"""Sources of folders, those first whose tables have names that no other dataset's have."""


_NOT_FINDINGS: Final = frozenset({"exclude", "unchanged", "suboptimal study"})
_COMMONEST: Final = 20
_MOST_LABELS: Final = 1000


class Known(NamedTuple):
    """A folder that a reader reads: the reader, the table, and the `classes` or `labels` that it has to be given."""

    reader: str
    table: Table
    classes: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()


def recognise(folder: Path, name: str) -> Known | None:
    """Return which dataset the folder holds; None where it is none of those that have a reader.

    Args:
        folder: where it lies.
        name: of the source.

    Raises:
        LabelAssembleError: it is PadChest, and its table cannot be read.
    """
    chosen = _commonest_of_padchest(folder, name)
    if chosen:
        return Known("padchest", PadChestSource(name=name, root=folder, classes=chosen).read(), chosen)
    for kind in _SOURCES:
        try:
            source = kind(name=name, root=folder)
            table = source.read()
        except LabelAssembleError:
            continue
        if len(table.paths):
            return Known(source.reader, table)
    labels = _unnamed_labels(folder)
    if labels:
        return Known("npz", NpzSource(name=name, root=folder, labels=labels).read(), labels=labels)
    return None


def _unnamed_labels(folder: Path) -> tuple[str, ...]:
    """Return the labels, as text, of archives that do not name their classes; () where there are none."""
    highest = -1
    for archive in folder.glob("*.npz"):
        names = set(npz_names(archive))
        if "labels" not in names or "classes" in names or not names & {"images", "jpeg"}:
            continue
        codes = load_npz_array(archive, "labels")
        if codes.ndim == 1 and codes.dtype.kind in "iu" and codes.size:
            highest = max(highest, int(codes.max()))
    return tuple(str(code) for code in range(highest + 1)) if highest < _MOST_LABELS else ()


def _commonest_of_padchest(folder: Path, name: str) -> tuple[str, ...]:
    """Return the labels that occur most often in PadChest's table; () where there is no such table."""
    path = DatasetFolder(name, folder).find_table(TABLES, like=LIKE)
    if path is None:
        return ()
    counts: Counter[str] = Counter()
    with CsvFile(path) as file:
        file.require("Labels", "a column of PadChest's table")
        for chunk in file.chunks(("Labels",)):
            lists, codes = chunk.mapped("Labels", labels_named)
            for words, count in zip(lists, np.bincount(codes, minlength=len(lists)).tolist(), strict=True):
                counts.update(dict.fromkeys(words, count))
    return tuple(word for word, _ in counts.most_common() if word not in _NOT_FINDINGS)[:_COMMONEST]
