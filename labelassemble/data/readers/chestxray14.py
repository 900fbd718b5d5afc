"""NIH ChestX-ray14 (Wang et al., CVPR 2017) as its publisher ships it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, Literal, Self

import numpy as np
from numpy.typing import NDArray

from labelassemble.data.csvfile import CsvFile, TextColumns, shown
from labelassemble.data.identifiers import trimmed
from labelassemble.data.joins import join_note
from labelassemble.data.new_table import new_table
from labelassemble.data.readers.findings import FindingCells
from labelassemble.data.readers.folders import DatasetFolder
from labelassemble.data.readers.found import FoundImages
from labelassemble.data.readers.options import FilePath, TabularOptions
from labelassemble.data.states import NEGATIVE, POSITIVE
from labelassemble.data.subgroups import published
from labelassemble.data.table import Table
from labelassemble.data.text import joined_text, text_array
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
_TABLES: Final = ("Data_Entry_2017_v2020.csv", "Data_Entry_2017.csv", "sample_labels.csv")
# the publisher's names, and those of a resized copy
_LISTS: Final = (
    {"train_val_list.txt": "trainval", "test_list.txt": "test"},
    {"train_val_list_NIH.txt": "trainval", "test_list_NIH.txt": "test"},
)
_LAYOUTS: Final = "images/, images_001/images/ to images_012/images/ or any other folder below the root"


class ChestXray14Source(TabularOptions):
    """The folder with `Data_Entry_2017*.csv`, `images*/` and the official `train_val_list.txt` and `test_list.txt`.

    The table is `Data_Entry_2017_v2020.csv`, `Data_Entry_2017.csv` or Kaggle's `sample_labels.csv`, the first of them
    that is there. A finding that the cell names is positive, each other of the 14 negative. Images are found in
    whatever folders below the root they lie, such as `images_001/images/`; one that lies nowhere keeps the path
    `images/NAME`. Without the two lists all rows are divided by patient.

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
        folder = DatasetFolder(self.name, self.root)
        path = folder.table("ChestX-ray14", _TABLES, like=r"Data_Entry_2017.*\.csv(\.gz)?")
        images = FoundImages(folder, usual=r"(^|/)images[^/]*(/[^/]*)?$")
        lists, list_files = _split_lists(path.parent, folder)
        texts = TextColumns("path", "name", "patient", "split")
        labels: list[NDArray[np.int8]] = []
        subgroup_cells = self.subgroup_cells(subgroups)
        both = " and ".join(file.name for file in list_files)
        stray: LabelAssembleError | None = None  # the first image that no list has
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
                names = trimmed(joined_text([chunk.columns["Image Index"]])).tolist()
                splits = []
                for row, name in enumerate(names):
                    if not name or "/" in name:
                        raise chunk.error(
                            row, "Image Index", f"must be the name of an image, got {shown(name)}"
                        )
                    split = lists.get(name, "")
                    if lists and not split and stray is None:
                        stray = chunk.error(row, "Image Index", f"{shown(name)} is in neither of {both}")
                    splits.append(split)
                texts.add(
                    {
                        "path": [f"{folder.root}/{images.find(name) or f'images/{name}'}" for name in names],
                        "name": names,
                        "patient": chunk.cells("Patient ID"),
                        "split": splits,
                    }
                )
                labels.append(findings.states(chunk, "Finding Labels"))
        written = texts.take("name")
        notes = list(subgroup_cells.notes())
        if lists:
            notes.append(join_note(self.name, "images", written, path.name, text_array(list(lists)), both))
        if stray is not None:
            raise stray
        paths = images.settled(texts.take("path"), written, path.name, _LAYOUTS)
        return new_table(
            classes,
            listed=True,
            paths=paths,
            names=written,
            labels=np.concatenate(labels) if labels else np.empty((0, len(classes)), dtype=np.int8),
            sources=self.name,
            groups=texts.take("patient"),
            splits=texts.take("split"),
            subgroups=subgroup_cells.take(),
            notes=notes,
            files=[path, *list_files],
        )


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


def _split_lists(beside: Path, folder: DatasetFolder) -> tuple[dict[str, str], list[Path]]:
    """Return the official split of each image and the two lists; nothing where neither list is there.

    Args:
        beside: The folder of the table, where the lists are sought before the root.
        folder: The root.
    """
    for place in dict.fromkeys((beside, folder.root)):
        for names in _LISTS:
            there = [place / name for name in names if (place / name).exists()]
            if len(there) == 1:
                other = next(name for name in names if name != there[0].name)
                raise LabelAssembleError(
                    f"{place}: {there[0].name} is there but {other} is not: one without the other is no split"
                )
            if there:
                return _read_lists(dict(zip(there, names.values(), strict=True))), there
    return {}, []


def _read_lists(lists: Mapping[Path, str]) -> dict[str, str]:
    """Return the split of each image; `lists` has the split of each file."""
    splits: dict[str, str] = {}
    for file, split in lists.items():
        try:
            lines = file.read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise LabelAssembleError(f"{file}: cannot be read ({error})") from None
        for line, text in enumerate(lines, start=1):
            name = text.strip().rpartition("/")[2]  # a list of paths is one too
            if name and splits.setdefault(name, split) != split:
                raise LabelAssembleError(f"{file}, line {line}: {shown(name)} is in both lists")
    return splits
