"""PadChest (Bustos et al., Medical Image Analysis 2020) as BIMCV ships it."""

import ast
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final, Literal, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from labelassemble.data.csvfile import Chunk, CsvFile, TextColumns, shown
from labelassemble.data.readers.findings import FindingCells
from labelassemble.data.readers.folders import DatasetFolder, FoundImages
from labelassemble.data.readers.options import FilePath, TabularOptions
from labelassemble.data.states import NEGATIVE, POSITIVE, UNKNOWN
from labelassemble.data.subgroups import published
from labelassemble.data.table import Table, new_table
from labelassemble.errors import LabelAssembleError, did_you_mean

_COLUMNS: Final = ("ImageID", "ImageDir", "PatientID", "Projection", "Labels")
_FRONTAL: Final = frozenset({"PA", "AP", "AP_horizontal"})
_LATERAL: Final = frozenset({"L"})
_AGE: Final = "(age)"  # made of the dates of the image and of birth
_DATES: Final = ("StudyDate_DICOM", "PatientBirth")
_SUBGROUPS: Final = published(
    sex="PatientSex_DICOM", age=_AGE, view="Projection|ViewPosition_DICOM", scanner="Manufacturer_DICOM"
)
_TABLES: Final = (
    "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv",
    "chest_x_ray_images_labels_sample.csv",
)
_REFUSED: Final = {
    r"master_table\.csv|grounded_reports_.*\.json": "PadChest-GR, grounded reports, which this reader does not read",
    r"pneumo_dataset_balanced_\d\.tsv": "a part of PadChest in groups (BIMCV-COVID19), which this reader does not read",
}
_LIKE: Final = r"PADCHEST_chest_x_ray_images_labels_160K.*\.csv(\.gz)?"
_LAYOUTS: Final = "0/ to 54/, in one folder, or anywhere else below the root"
# a report that says of itself that nothing can be said
_UNREADABLE: Final = frozenset({"exclude"})


class PadChestSource(TabularOptions):
    """The folder with `PADCHEST_chest_x_ray_images_labels_160K_*.csv` (perhaps `.gz`) and the images in `0/` to `54/`.

    The sample's table, `chest_x_ray_images_labels_sample.csv`, is read where the other is not there. Images are found
    in whatever folders below the root they lie.

    A label that the report's list names is positive, each other negative; a row whose list is blank or says "exclude"
    is UNKNOWN throughout.

    Attributes:
        root: The folder.
        classes: The labels that become classes, of the 200 or so that occur.
        views: Which projections are taken.
        flat: Whether an image is called by its file alone, and lies in the root unless it is found elsewhere, instead
            of with its numbered folder ("0/IMAGE.png").
    """

    reader: Literal["padchest"] = "padchest"
    root: FilePath
    classes: tuple[str, ...]
    views: Literal["all", "frontal", "lateral"] = "all"
    flat: bool = False

    def resolved(self, base: Path) -> Self:
        """Return the source with its paths made absolute, starting at the folder `base`."""
        return self.model_copy(update={"root": base / self.root})

    def read(self, subgroups: Sequence[str] = ()) -> Table:
        """Return the table of the folder, with those `subgroups` that it has; ages are years of the calendar.

        Raises:
            LabelAssembleError: A file is missing or breaks the format, or a class occurs nowhere in it.
        """
        seen: set[str] = set()
        findings = FindingCells(lambda cell: self._states(cell, seen), len(self.classes))
        views = {"frontal": _FRONTAL, "lateral": _LATERAL}.get(self.views)
        below = DatasetFolder(self.name, self.root)
        path = below.table("PadChest", _TABLES, like=_LIKE, refused=_REFUSED)
        images = FoundImages(below, parts=[str(number) for number in range(55)])
        texts = TextColumns("path", "name", "patient")
        labels: list[NDArray[np.int8]] = [np.empty((0, len(self.classes)), dtype=np.int8)]
        subgroup_cells = self.subgroup_cells(subgroups)
        with CsvFile(path) as file:
            for column in _COLUMNS:
                file.require(column, "a column of PadChest's table")
            dated = {*_DATES} <= {*file.header}
            header = (*file.header, _AGE) if dated else file.header
            columns = subgroup_cells.columns(header, f"{path}, line 1", _SUBGROUPS)
            wanted = {*_COLUMNS, *(item.column for item in columns.values())}
            wanted |= {*_DATES} if _AGE in wanted else set()
            for chunk in file.chunks(tuple(wanted - {_AGE})):
                keep = np.array([views is None or view in views for view in chunk.cells("Projection")])
                subgroup_cells.add(_with_age(chunk) if _AGE in wanted else chunk, columns, keep)
                names, places = [], []
                for row, (image, folder) in enumerate(
                    zip(chunk.cells("ImageID"), chunk.cells("ImageDir"), strict=True)
                ):
                    if not image or "/" in image or not (self.flat or folder.isdigit()):
                        raise chunk.error(
                            row, "ImageID", f"no path can be made of {shown(image)} and {shown(folder)}"
                        )
                    names.append(image if self.flat else f"{folder}/{image}")
                    places.append(f"{below.root}/{images.find(image, folder) or names[-1]}")
                paths = [place for place, kept in zip(places, keep, strict=True) if kept]
                chosen = [name for name, kept in zip(names, keep, strict=True) if kept]
                patients = [name for name, kept in zip(chunk.cells("PatientID"), keep, strict=True) if kept]
                texts.add({"path": paths, "name": chosen, "patient": patients})
                labels.append(findings.states(chunk, "Labels")[keep])
        images.check(path.name, _LAYOUTS)
        for name in self.classes:
            if name not in seen:
                near = did_you_mean(name, seen)
                raise LabelAssembleError(
                    f"source '{self.name}', classes: no report has the label '{name}'{near}"
                )
        return new_table(
            self.classes,
            paths=texts.take("path"),
            names=texts.take("name"),
            labels=np.concatenate(labels),
            sources=self.name,
            groups=texts.take("patient"),
            subgroups=subgroup_cells.take(),
            notes=subgroup_cells.notes(),
            files=[path],
        )

    def _states(self, cell: str, seen: set[str]) -> list[int]:
        """Return the states of one cell such as "['cardiomegaly', ' kyphosis']"."""
        if not cell.strip() or cell == "nan":
            return [int(UNKNOWN)] * len(self.classes)
        try:
            words = ast.literal_eval(cell)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            words = None
        if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
            raise ValueError(f"must be a list such as ['cardiomegaly'], got {shown(cell)}")
        found = {word.strip() for word in words} - {""}
        seen |= found
        if not found or found & _UNREADABLE:
            return [int(UNKNOWN)] * len(self.classes)
        return [int(POSITIVE if name in found else NEGATIVE) for name in self.classes]


def _with_age(chunk: Chunk) -> Chunk:
    """Return the chunk with a column of ages: the year of the image less that of birth; blank where one is missing."""
    years = []
    for column in _DATES:
        cells, codes = chunk.distinct(column)
        values = np.array(
            [float(cell[:4]) if cell[:4].isdecimal() and len(cell) >= 4 else np.nan for cell in cells]
        )
        years.append(values[codes])
    ages = years[0] - years[1]
    distinct, place = np.unique(ages, return_inverse=True)
    words = pa.array(["" if np.isnan(age) else f"{age:g}" for age in distinct], pa.large_string())
    return replace(chunk, columns={**chunk.columns, _AGE: words.take(pa.array(place))})
