"""NIH ChestX-ray14 (Wang et al., CVPR 2017) as its publisher ships it."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal, Self

import numpy as np
from numpy.typing import NDArray

from labelassemble.data.csvfile import CsvFile, TextColumns, shown
from labelassemble.data.readers.findings import FindingCells
from labelassemble.data.readers.options import FilePath, TabularOptions
from labelassemble.data.states import NEGATIVE, POSITIVE
from labelassemble.data.subgroups import published
from labelassemble.data.table import Table, new_table
from labelassemble.errors import LabelAssembleError, did_you_mean

CHESTXRAY14_CLASSES: Final = (
    "Atelectasis",
    "Cardiomegaly",
    "Effusion",
    "Infiltration",
    "Mass",
    "Nodule",
    "Pneumonia",
    "Pneumothorax",
    "Consolidation",
    "Edema",
    "Emphysema",
    "Fibrosis",
    "Pleural_Thickening",
    "Hernia",
)
_NO_FINDING: Final = "No Finding"
_SUBGROUPS: Final = published(sex="Patient Gender|Patient Sex", age="Patient Age", view="View Position")
_LISTS: Final = {"train_val_list.txt": "trainval", "test_list.txt": "test"}


class ChestXray14Source(TabularOptions):
    """The folder with `Data_Entry_2017*.csv`, `images*/` and the official `train_val_list.txt` and `test_list.txt`.

    A finding that the cell names is positive, each other of the 14 negative. Images are sought in `images*/` and
    `images*/images/`; one that lies nowhere keeps the path `images/NAME`. Without the two lists all rows are divided by
    patient.

    Attributes:
        root: The folder.
        no_finding: Whether "No Finding" is a class of its own.
    """

    reader: Literal["chestxray14"] = "chestxray14"
    root: FilePath
    no_finding: bool = False

    def resolved(self, base: Path) -> Self:
        """Return the source with its paths made absolute, starting at the folder `base`."""
        return self.model_copy(update={"root": base / self.root})

    def read(self, subgroups: Sequence[str] = ()) -> Table:
        """Return the table of the folder, with those `subgroups` that it has.

        Raises:
            LabelAssembleError: A file is missing or breaks the format; with file, line and column.
        """
        classes = (*CHESTXRAY14_CLASSES, _NO_FINDING) if self.no_finding else CHESTXRAY14_CLASSES
        findings = FindingCells(lambda cell: _states(cell, classes), len(classes))
        path = self._table_path()
        folders = _image_folders(self.root)
        lists = _split_lists(self.root)
        default = f"{os.path.abspath(self.root)}/images/"
        texts = TextColumns("path", "name", "patient", "split")
        labels: list[NDArray[np.int8]] = []
        subgroup_cells = self.subgroup_cells(subgroups)
        with CsvFile(path) as file:
            for column in ("Image Index", "Finding Labels", "Patient ID"):
                file.require(column, "a column of ChestX-ray14's table")
            columns = subgroup_cells.columns(file.header, f"{path}, line 1", _SUBGROUPS)
            wanted = {
                "Image Index",
                "Finding Labels",
                "Patient ID",
                *(item.column for item in columns.values()),
            }
            for chunk in file.chunks(tuple(wanted)):
                subgroup_cells.add(chunk, columns)
                names = chunk.cells("Image Index")
                splits = []
                for row, name in enumerate(names):
                    if not name or "/" in name:
                        raise chunk.error(
                            row, "Image Index", f"must be the name of an image, got {shown(name)}"
                        )
                    split = lists.get(name)
                    if split is None:
                        if lists:
                            raise chunk.error(
                                row, "Image Index", f"{shown(name)} is in neither of {', '.join(_LISTS)}"
                            )
                        split = ""
                    splits.append(split)
                texts.add(
                    {
                        "path": [folders.get(name, default) + name for name in names],
                        "name": names,
                        "patient": chunk.cells("Patient ID"),
                        "split": splits,
                    }
                )
                labels.append(findings.states(chunk, "Finding Labels"))
        paths = texts.take("path")
        return new_table(
            classes,
            paths=paths,
            names=texts.take("name"),
            labels=np.concatenate(labels) if labels else np.empty((0, len(classes)), dtype=np.int8),
            sources=self.name,
            groups=texts.take("patient"),
            splits=texts.take("split"),
            subgroups=subgroup_cells.take(),
            notes=subgroup_cells.notes(),
        )

    def _table_path(self) -> Path:
        found = sorted(self.root.glob("Data_Entry_2017*.csv"))
        if not found:
            kind = "does not exist" if not self.root.exists() else "has no Data_Entry_2017*.csv"
            raise LabelAssembleError(f"source '{self.name}': the root {self.root} {kind}")
        return found[-1]  # the revision of 2020 sorts behind the first issue


def _states(cell: str, classes: tuple[str, ...]) -> list[int]:
    words = cell.split("|")
    for word in words:
        if word not in CHESTXRAY14_CLASSES and word != _NO_FINDING:
            raise ValueError(
                f"no finding {shown(word)}{did_you_mean(word, [*CHESTXRAY14_CLASSES, _NO_FINDING])}"
            )
    if _NO_FINDING in words and len(words) > 1:
        raise ValueError(f"'No Finding' must stand alone, got {shown(cell)}")
    return [int(POSITIVE if name in words else NEGATIVE) for name in classes]


def _image_folders(root: Path) -> dict[str, str]:
    """Return the folder of each image, "/" at its end: one listing a folder instead of a question a file."""
    folders: dict[str, str] = {}
    base = Path(os.path.abspath(root))
    for outer in sorted(base.glob("images*")):
        for folder in (outer, outer / "images"):
            if folder.is_dir():
                prefix = f"{folder}/"
                with os.scandir(folder) as entries:
                    folders.update((entry.name, prefix) for entry in entries)
    return folders


def _split_lists(root: Path) -> dict[str, str]:
    """Return the official split of each image, nothing where neither list is there."""
    there = [name for name in _LISTS if (root / name).exists()]
    if len(there) == 1:
        other = next(name for name in _LISTS if name not in there)
        raise LabelAssembleError(
            f"{root}: {there[0]} is there but {other} is not: one without the other is no split"
        )
    splits: dict[str, str] = {}
    for file in there:
        try:
            lines = (root / file).read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise LabelAssembleError(f"{root / file}: cannot be read ({error})") from None
        for line, text in enumerate(lines, start=1):
            name = text.strip()
            if not name:
                continue
            if splits.setdefault(name, _LISTS[file]) != _LISTS[file]:
                raise LabelAssembleError(f"{root / file}, line {line}: {shown(name)} is in both lists")
    return splits
