"""PadChest (Bustos et al., Medical Image Analysis 2020) as BIMCV ships it."""

import ast
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final, Literal, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from labelassemble.data.absence import unnamed
from labelassemble.data.csvfile import Chunk, CsvFile, TextColumns, shown
from labelassemble.data.new_table import new_table
from labelassemble.data.readers.findings import WordLists
from labelassemble.data.readers.folders import DatasetFolder
from labelassemble.data.readers.found import FoundImages
from labelassemble.data.readers.options import FilePath, TabularOptions
from labelassemble.data.readers.padchest_labels import (
    PADCHEST_LABELS,
    general_labels,
    kinds_of,
)
from labelassemble.data.states import NEGATIVE, POSITIVE, UNKNOWN
from labelassemble.data.subgroups import published
from labelassemble.data.table import Table
from labelassemble.errors import LabelAssembleError, did_you_mean

_COLUMNS: Final = ("ImageID", "ImageDir", "PatientID", "Projection", "Labels")
_FRONTAL: Final = frozenset({"PA", "AP", "AP_horizontal"})
_LATERAL: Final = frozenset({"L"})
_AGE: Final = "(age)"  # made of the dates of the image and of birth
_DATES: Final = ("StudyDate_DICOM", "PatientBirth")
_SUBGROUPS: Final = published(
    sex="PatientSex_DICOM", age=_AGE, view="Projection|ViewPosition_DICOM", scanner="Manufacturer_DICOM"
)
TABLES: Final = (
    "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv",
    "chest_x_ray_images_labels_sample.csv",
)
_REFUSED: Final = {
    r"master_table\.csv|grounded_reports_.*\.json": "PadChest-GR, grounded reports, which this reader does not read",
    r"pneumo_dataset_balanced_\d\.tsv": "a part of PadChest in groups (BIMCV-COVID19), which this reader does not read",
}
LIKE: Final = r"PADCHEST_chest_x_ray_images_labels_160K.*\.csv(\.gz)?"
_LAYOUTS: Final = "0/ to 54/, in one folder, or anywhere else below the root"
_EXCLUDED: Final = "exclude"  # the report of another image, say: it speaks of nothing in this one
# A film that cannot be judged, or a report that points at an earlier one: what is not named may be there all the same.
_SILENT: Final = frozenset({"suboptimal study", "unchanged"})
_SHOWN: Final = 8


class PadChestSource(TabularOptions):
    """The folder with `PADCHEST_chest_x_ray_images_labels_160K_*.csv` (perhaps `.gz`) and the images in `0/` to `54/`.

    The sample's table, `chest_x_ray_images_labels_sample.csv`, is read where the other is not there. Images are found
    in whatever folders below the root they lie.

    A label that the report's list names is positive, and so is each label that this one is a kind of in the publisher's
    tree ("laminar atelectasis" makes "atelectasis" positive). Each other is negative, but UNKNOWN where a general label
    is named whose kind it is ("atelectasis" does not say which), and where the report says "unchanged" or "suboptimal
    study". A row whose list is blank or says "exclude" is UNKNOWN throughout.

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
        lists = WordLists(labels_named)
        views = {"frontal": _FRONTAL, "lateral": _LATERAL}.get(self.views)
        below = DatasetFolder(self.name, self.root)
        path = below.table("PadChest", TABLES, like=LIKE, refused=_REFUSED)
        images = FoundImages(below, parts=[str(number) for number in range(55)])
        texts = TextColumns("path", "name", "patient")
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
                lists.add(chunk, "Labels", keep)
        called = texts.take("name")
        placed = images.settled(texts.take("path"), called, path.name, _LAYOUTS)
        words, rows = lists.take()
        counts = np.bincount(rows, minlength=len(words))
        self._check_classes({word for found in words for word in found})
        states = np.array([_states(found, self.classes) for found in words], dtype=np.int8)
        labels = states.reshape(-1, len(self.classes))[rows]
        return new_table(
            self.classes,
            paths=placed,
            names=called,
            labels=labels,
            absence=unnamed(labels, self._mentions(words, rows)),
            sources=self.name,
            groups=texts.take("patient"),
            subgroups=subgroup_cells.take(),
            notes=(*subgroup_cells.notes(), *_notes(words, counts, self.classes)),
            files=[path],
        )

    def _check_classes(self, seen: set[str]) -> None:
        for name in self.classes:
            if name not in seen and name not in PADCHEST_LABELS:
                near = did_you_mean(name, seen | PADCHEST_LABELS)
                raise LabelAssembleError(
                    f"source '{self.name}', classes: no report has the label '{name}'{near}"
                )

    def _mentions(
        self, words: Sequence[frozenset[str]], rows: NDArray[np.intp]
    ) -> dict[str, NDArray[np.bool_]]:
        """Return where the reports name each label that is none of the classes, bool [N]."""
        others = sorted({word for found in words for word in found} - {*self.classes, _EXCLUDED, *_SILENT})
        place = {word: column for column, word in enumerate(others)}
        named = np.zeros((len(words), len(others)), dtype=np.bool_)
        for row, found in enumerate(words):
            if _EXCLUDED not in found:
                named[row, [place[word] for word in found if word in place]] = True
        return {word: named[rows, column] for word, column in place.items()}


def labels_named(cell: str) -> frozenset[str]:
    """Return the labels of one cell such as "['cardiomegaly', ' kyphosis']"; none where it is blank."""
    if not cell.strip() or cell == "nan":
        return frozenset()
    try:
        words = ast.literal_eval(cell)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        words = None
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise ValueError(f"must be a list such as ['cardiomegaly'], got {shown(cell)}")
    return frozenset(word.strip() for word in words) - {""}


def _states(found: frozenset[str], classes: Sequence[str]) -> list[int]:
    """Return the states of `classes` in an image whose report names the labels `found`."""
    if not found or _EXCLUDED in found:
        return [int(UNKNOWN)] * len(classes)
    present = found | general_labels(found)
    general = [name for name in found if kinds_of([name]).isdisjoint(found)]  # of a kind that nobody names
    open_ones = general_labels(found, perhaps=True) | kinds_of(general)
    silent = _silent(found)
    return [
        int(POSITIVE if name in present else UNKNOWN if silent or name in open_ones else NEGATIVE)
        for name in classes
    ]


def _silent(found: frozenset[str]) -> bool:
    """Return whether a report that names the labels `found` leaves open what it does not name."""
    return "suboptimal study" in found or ("unchanged" in found and "normal" not in found)


def _notes(
    words: Sequence[frozenset[str]], counts: NDArray[np.intp], classes: Sequence[str]
) -> tuple[str, ...]:
    """Return what the reader decided: labels that are positive by a kind of theirs alone, reports that say nothing."""
    by_kind: dict[str, Counter[str]] = {}
    silent = unlisted = 0
    strange: Counter[str] = Counter()
    for found, count in zip(words, counts.tolist(), strict=True):
        for word in found - PADCHEST_LABELS:
            strange[word] += count
        if not found or _EXCLUDED in found:
            unlisted += count
            continue
        silent += count if _silent(found) else 0
        for name in general_labels(found) - found:
            if name in classes:
                kinds = kinds_of([name]) & found
                by_kind.setdefault(name, Counter()).update(dict.fromkeys(kinds, count))
    notes = []
    if by_kind:
        parts = [f"'{name}' ({_counted(kinds)})" for name, kinds in by_kind.items()]
        notes.append(f"positive where a report names a kind of theirs alone: {', '.join(parts)}")
    if silent or unlisted:
        notes.append(
            f"what is not named is unknown in {silent} images whose reports say 'unchanged' or 'suboptimal study', and "
            f"everything in {unlisted} whose list is blank or says 'exclude'"
        )
    if strange:
        notes.append(
            f"the publisher's tree lacks these labels of the reports, by images: {_counted(strange)}"
        )
    return tuple(notes)


def _counted(words: Counter[str]) -> str:
    named = ", ".join(f"'{word}' {count}" for word, count in words.most_common(_SHOWN))
    return named + (f" and {len(words) - _SHOWN} more" if len(words) > _SHOWN else "")


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
