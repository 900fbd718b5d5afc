"""VinDr-CXR (Nguyen et al., Scientific Data 2022) as PhysioNet ships it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal, Self

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from labelassemble.data.class_names import check_class_names
from labelassemble.data.csvfile import Chunk, CsvFile, shown
from labelassemble.data.dicom_headers import KEYWORDS, as_arrow, header_columns
from labelassemble.data.identifiers import trimmed
from labelassemble.data.new_table import new_table
from labelassemble.data.readers.folders import DatasetFolder
from labelassemble.data.readers.found import FoundImages
from labelassemble.data.readers.options import FilePath, TabularOptions
from labelassemble.data.states import NEGATIVE, POSITIVE, UNCERTAIN
from labelassemble.data.subgroups import SubgroupCells, published
from labelassemble.data.table import Table
from labelassemble.data.text import joined_text
from labelassemble.errors import LabelAssembleError

_CELLS: Final = {"1": 1, "1.0": 1, "0": 0, "0.0": 0}
_PARTS: Final = {"train": "trainval", "test": "test"}
_REFUSED: Final = {
    r"annotations_(train|test)\.csv": (
        "the boxes of 22 findings; the labels of images stand in image_labels_train.csv and image_labels_test.csv, "
        "which belong beside it"
    ),
}
_KAGGLE: Final = ("image_id", "class_name", "class_id", "rad_id")
_SUBGROUPS: Final = published(sex="PatientSex", age="PatientAge", view="ViewPosition", scanner="Manufacturer")
_LAYOUTS: Final = "train/ and test/, at any depth below the root"


class VinDrCxrSource(TabularOptions):
    """The folder with `annotations/image_labels_train.csv` and `image_labels_test.csv`, images in `train/` and `test/`.

    Three radiologists read each training image and disagree at times; the test images have one consensus. One of the
    two tables may be missing. Kaggle's `train.csv` is read where neither is there: a reader saw the classes of his
    boxes and no other; all its rows are divided by image. Images are found in whatever folders below the root they lie,
    as DICOM, which needs the extra `dicom`, or converted. Patients are not published. Subgroups are those of the DICOM
    headers (PatientSex, PatientAge and others).

    Attributes:
        root: The folder.
        disagreement: What a class is that some of an image's readers saw and some did not: "majority", or "uncertain".
            A class without a majority is negative where the readers agree on something else; where they agree on
            nothing at all, whatever one of them saw is uncertain.
        suffix: The ending of the image files; by default that of the files that are there, else `.dicom`.
    """

    reader: Literal["vindr-cxr"] = "vindr-cxr"
    root: FilePath
    disagreement: Literal["majority", "uncertain"] = "majority"
    suffix: str | None = None

    def resolved(self, base: Path) -> Self:
        """Return the source with its paths made absolute, starting at the folder `base`."""
        return self.model_copy(update={"root": base / self.root})

    def read(self, subgroups: Sequence[str] = ()) -> Table:
        """Return the table of the folder, with those `subgroups` that the headers of its images have.

        Raises:
            LabelAssembleError: A file is missing or breaks the format; with file, line and column.
        """
        folder = DatasetFolder(self.name, self.root)
        found = FoundImages(folder, parts=tuple(_PARTS), any_ending=self.suffix is None)
        tables = self._tables(folder)
        classes: tuple[str, ...] | None = None
        paths: list[str] = []
        names: list[str] = []
        labels: list[NDArray[np.int8]] = []
        splits: list[str] = []
        for part, (path, split) in tables.items():
            own, images, seen, readers = (
                _votes(path) if path.name.startswith("image_labels") else _boxes(path)
            )
            if classes is not None and set(own) != set(classes):
                raise LabelAssembleError(f"{path}, line 1: its classes must be those of the other table")
            classes = classes or own
            order = [own.index(name) for name in classes]
            labels.append(self._states(seen, readers)[:, order])
            for image in images:
                name = f"{part}/{image}{self.suffix or '.dicom'}"
                names.append(name)
                paths.append(f"{folder.root}/{found.find(image + (self.suffix or ''), part) or name}")
            splits.extend([split] * len(images))
        assert classes is not None
        images_named = pd.Series(names, dtype=object).str.partition("/")[2]
        twice = images_named[images_named.duplicated()]
        if len(twice):
            raise LabelAssembleError(
                f"source '{self.name}': {len(twice)} of its images are in both tables, such as {shown(twice.iloc[0])}"
            )
        found.check(next(iter(tables.values()))[0].name, _LAYOUTS)
        subgroup_cells = self.subgroup_cells(subgroups)
        if subgroups:
            self._add_subgroups(subgroup_cells, paths)
        return new_table(
            classes,
            paths=paths,
            names=names,
            labels=np.concatenate(labels),
            sources=self.name,
            splits=splits,
            subgroups=subgroup_cells.take(),
            notes=subgroup_cells.notes(),
            files=[path for path, _ in tables.values()],
        )

    def _add_subgroups(self, cells: SubgroupCells, paths: Sequence[str]) -> None:
        """Add the subgroups that the headers of the images have, none where the images were converted."""
        there = any(path.endswith((".dicom", ".dcm")) for path in paths)
        header = [*KEYWORDS, *(item.column for item in self.subgroup_columns.values())] if there else []
        columns = cells.columns(list(dict.fromkeys(header)), f"the headers in {self.root}", _SUBGROUPS)
        keywords = list(dict.fromkeys(item.column for item in columns.values()))
        said = as_arrow(header_columns(paths, keywords)) if keywords else {}
        rows = {"path": pa.array(paths, pa.large_string()), **said}
        cells.add(Chunk(self.root, rows, "image {}".format), columns)

    def _tables(self, folder: DatasetFolder) -> dict[str, tuple[Path, str]]:
        """Return the tables that are there, by part, and the split that each of them is."""
        names = [f"image_labels_{part}.csv" for part in _PARTS]
        found = {part: folder.find_table((name,)) for part, name in zip(_PARTS, names, strict=True)}
        there = {part: (path, _PARTS[part]) for part, path in found.items() if path is not None}
        kaggle = None if there else folder.find_table(("train.csv",))
        if kaggle is not None:
            return {"train": (kaggle, "")}
        if not there:
            raise folder.no_table("VinDr-CXR", (*names, "train.csv"), _REFUSED)
        return there

    def _states(self, seen: NDArray[np.int64], readers: NDArray[np.int64]) -> NDArray[np.int8]:
        """Return the states of each image: `seen` of its `readers` saw the class, [N, C] and [N]."""
        half = 2 * seen - readers[:, None]
        states = np.where(half > 0, np.int8(POSITIVE), np.int8(NEGATIVE))
        divided = (seen > 0) & (seen < readers[:, None])
        if self.disagreement == "majority":
            divided = (half == 0) | (divided & (half < 0).all(axis=1, keepdims=True))
        states[divided] = UNCERTAIN
        return states


def _votes(path: Path) -> tuple[tuple[str, ...], list[str], NDArray[np.int64], NDArray[np.int64]]:
    """Return (classes, images, how many readers saw each class [N, C], how many readers each image had [N])."""
    index: dict[str, int] = {}
    rows: list[int] = []
    votes: list[NDArray[np.int8]] = []
    with CsvFile(path) as file:
        file.require("image_id", "a column of VinDr-CXR's tables")
        columns = tuple(name for name in file.header if name not in ("image_id", "rad_id"))
        classes = tuple(
            "Other diseases" if name == "Other disease" else name for name in columns
        )  # one table says it so
        try:
            check_class_names(classes)
        except LabelAssembleError as error:
            raise LabelAssembleError(f"{path}, line 1: {error}") from None
        for chunk in file.chunks(("image_id", *columns)):
            for row, image in enumerate(trimmed(joined_text([chunk.columns["image_id"]])).tolist()):
                if not image or "/" in image:
                    raise chunk.error(row, "image_id", f"must be the name of an image, got {shown(image)}")
                rows.append(index.setdefault(image, len(index)))
            votes.append(np.stack([chunk.states(name, _CELLS, "1 or 0") for name in columns], axis=1))
    seen = np.zeros((len(index), len(classes)), dtype=np.int64)
    if votes:
        np.add.at(seen, rows, np.concatenate(votes))
    return classes, list(index), seen, np.bincount(np.array(rows, dtype=np.int64), minlength=len(index))


def _boxes(path: Path) -> tuple[tuple[str, ...], list[str], NDArray[np.int64], NDArray[np.int64]]:
    """Return what `_votes` does of Kaggle's table: a row a box of one reader, or "No finding"."""
    columns = [np.empty(0, dtype=object)] * 3
    with CsvFile(path) as file:
        for column in _KAGGLE:
            file.require(column, "a column of the table of Kaggle's VinBigData competition")
        for chunk in file.chunks(_KAGGLE):
            image, finding, _, reader = (
                trimmed(joined_text([chunk.columns[column]])).tolist() for column in _KAGGLE
            )
            for row, cells in enumerate(zip(image, finding, reader, strict=True)):
                if not all(cells) or "/" in cells[0]:
                    raise chunk.error(
                        row, "image_id", f"must have image, class and reader, got {shown(cells[0])}"
                    )
            columns = [
                np.concatenate([old, np.array(new, dtype=object)])
                for old, new in zip(columns, (image, finding, reader), strict=True)
            ]
    frame = pd.DataFrame(dict(zip(("image", "finding", "reader"), columns, strict=True))).drop_duplicates()
    image_codes, images = pd.factorize(frame["image"])
    class_codes, classes = pd.factorize(frame["finding"], sort=True)
    seen: NDArray[np.int64] = np.zeros((len(images), len(classes)), dtype=np.int64)
    np.add.at(seen, (image_codes, class_codes), 1)
    readers = frame.groupby(image_codes)["reader"].nunique()
    return tuple(classes), list(images), seen, np.asarray(readers, dtype=np.int64)
