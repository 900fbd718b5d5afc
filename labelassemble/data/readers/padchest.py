"""PadChest (Bustos et al., Medical Image Analysis 2020) as BIMCV ships it."""

import ast
import os
from pathlib import Path
from typing import Final, Literal, Self

import numpy as np
from numpy.typing import NDArray

from labelassemble.data.csvfile import CsvFile, TextColumns, shown
from labelassemble.data.readers.findings import FindingCells
from labelassemble.data.readers.options import FilePath, SourceOptions
from labelassemble.data.states import NEGATIVE, POSITIVE, UNKNOWN
from labelassemble.data.table import Table, new_table
from labelassemble.errors import LabelAssembleError, did_you_mean

_COLUMNS: Final = ("ImageID", "ImageDir", "PatientID", "Projection", "Labels")
_FRONTAL: Final = frozenset({"PA", "AP", "AP_horizontal"})
_LATERAL: Final = frozenset({"L"})
# a report that says of itself that nothing can be said
_UNREADABLE: Final = frozenset({"exclude"})


class PadChestSource(SourceOptions):
    """The folder with `PADCHEST_chest_x_ray_images_labels_160K_*.csv` (perhaps `.gz`) and the images in `0/` to `54/`.

    A label that the report's list names is positive, each other negative; a row whose list is blank or says "exclude"
    is UNKNOWN throughout.

    Attributes:
        root: The folder.
        classes: The labels that become classes, of the 200 or so that occur.
        views: Which projections are taken.
        flat: Whether the images lie in the root itself instead of in the numbered folders.
    """

    reader: Literal["padchest"] = "padchest"
    root: FilePath
    classes: tuple[str, ...]
    views: Literal["all", "frontal", "lateral"] = "all"
    flat: bool = False

    def resolved(self, base: Path) -> Self:
        """Return the source with its paths made absolute, starting at the folder `base`."""
        return self.model_copy(update={"root": base / self.root})

    def read(self) -> Table:
        """Return the table of the folder.

        Raises:
            LabelAssembleError: A file is missing or breaks the format, or a class occurs nowhere in it.
        """
        seen: set[str] = set()
        findings = FindingCells(lambda cell: self._states(cell, seen), len(self.classes))
        views = {"frontal": _FRONTAL, "lateral": _LATERAL}.get(self.views)
        base = os.path.abspath(self.root)
        texts = TextColumns("path", "name", "patient")
        labels: list[NDArray[np.int8]] = [np.empty((0, len(self.classes)), dtype=np.int8)]
        with CsvFile(self._table_path()) as file:
            for column in _COLUMNS:
                file.require(column, "a column of PadChest's table")
            for chunk in file.chunks(_COLUMNS):
                keep = np.array([views is None or view in views for view in chunk.cells("Projection")])
                names = []
                for row, (image, folder) in enumerate(
                    zip(chunk.cells("ImageID"), chunk.cells("ImageDir"), strict=True)
                ):
                    if not image or "/" in image or not (self.flat or folder.isdigit()):
                        raise chunk.error(
                            row, "ImageID", f"no path can be made of {shown(image)} and {shown(folder)}"
                        )
                    names.append(image if self.flat else f"{folder}/{image}")
                chosen = [name for name, kept in zip(names, keep, strict=True) if kept]
                patients = [name for name, kept in zip(chunk.cells("PatientID"), keep, strict=True) if kept]
                texts.add(
                    {"path": [f"{base}/{name}" for name in chosen], "name": chosen, "patient": patients}
                )
                labels.append(findings.states(chunk, "Labels")[keep])
        for name in self.classes:
            if name not in seen:
                near = did_you_mean(name, seen)
                raise LabelAssembleError(
                    f"source '{self.name}', classes: no report has the label '{name}'{near}"
                )
        paths = texts.take("path")
        return new_table(
            self.classes,
            paths=paths,
            names=texts.take("name"),
            labels=np.concatenate(labels),
            sources=self.name,
            groups=texts.take("patient"),
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

    def _table_path(self) -> Path:
        found = sorted(self.root.glob("PADCHEST_chest_x_ray_images_labels_160K*.csv*"))
        found = [path for path in found if path.name.endswith((".csv", ".csv.gz"))]
        if not found:
            raise LabelAssembleError(
                f"source '{self.name}': {self.root} has no PADCHEST_chest_x_ray_images_labels_160K*.csv or .csv.gz"
            )
        return found[-1]
