"""CheXpert (Irvin et al., AAAI 2019) as its publisher ships it."""

import os
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final, Literal, Self

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from labelassemble.data.csvfile import Chunk, CsvFile, TextColumns, shown
from labelassemble.data.readers.options import FilePath, TabularOptions
from labelassemble.data.states import NEGATIVE, POSITIVE, UNCERTAIN, UNKNOWN
from labelassemble.data.subgroups import SubgroupColumn, published
from labelassemble.data.table import Table, new_table
from labelassemble.data.text import constant_text
from labelassemble.errors import LabelAssembleError

CHEXPERT_CLASSES: Final = (
    "No Finding",
    "Enlarged Cardiomediastinum",
    "Cardiomegaly",
    "Lung Opacity",
    "Lung Lesion",
    "Edema",
    "Consolidation",
    "Pneumonia",
    "Atelectasis",
    "Pneumothorax",
    "Pleural Effusion",
    "Pleural Other",
    "Fracture",
    "Support Devices",
)
_VIEW: Final = "(view)"  # made of the two columns that say it
# the patients are adults: where the age is 0 nobody knows it
_SUBGROUPS: Final = published(sex="Sex", view=_VIEW) | {
    "age": (SubgroupColumn(column="Age", values={"0": ""}),)
}
_PATH: Final = re.compile(r"[^/]+/((?:train|valid|test)/(patient\d+)/study\d+/[^/]+)")


class CheXpertSource(TabularOptions):
    """The folder with `train.csv` and `valid.csv`, beside them `train/patient.../study.../view1_frontal.jpg`.

    Cells: 1.0, 0.0, -1.0 (uncertain), blank (not mentioned in the report).

    Attributes:
        root: The folder, `CheXpert-v1.0` or `CheXpert-v1.0-small`.
        blank: What "not mentioned" means: "unknown" (the default) or "negative".
        views: Which projections are taken.
        valid: What `valid.csv`, the 234 images labelled by radiologists, serves as. With "test" (the default, since the
            publisher's own test labels came later) `train.csv` is divided into train and val by patient.
    """

    reader: Literal["chexpert"] = "chexpert"
    root: FilePath
    blank: Literal["unknown", "negative"] = "unknown"
    views: Literal["all", "frontal", "lateral"] = "all"
    valid: Literal["val", "test"] = "test"

    def resolved(self, base: Path) -> Self:
        """Return the source with its paths made absolute, starting at the folder `base`."""
        return self.model_copy(update={"root": base / self.root})

    def read(self, subgroups: Sequence[str] = ()) -> Table:
        """Return the table of the folder, with those `subgroups` that it has.

        Raises:
            LabelAssembleError: A file is missing or breaks the format; with file, line and column.
        """
        texts = TextColumns("path", "name", "patient", "split")
        labels: list[NDArray[np.int8]] = []
        subgroup_cells = self.subgroup_cells(subgroups)
        for name, split in (
            ("train.csv", "trainval" if self.valid == "test" else "train"),
            ("valid.csv", self.valid),
        ):
            with CsvFile(self.root / name) as file:
                for column in ("Path", "Frontal/Lateral", *CHEXPERT_CLASSES):
                    file.require(column, "a column of CheXpert's table")
                place = f"{self.root / name}, line 1"
                columns = subgroup_cells.columns((*file.header, _VIEW), place, _SUBGROUPS)
                wanted = {"Path", "Frontal/Lateral", *CHEXPERT_CLASSES}
                wanted |= {item.column for item in columns.values()}
                viewed = _VIEW in wanted
                wanted |= {"AP/PA"} & {*file.header} if viewed else set()
                for chunk in file.chunks(tuple(wanted - {_VIEW})):
                    keep = self._kept(chunk)
                    subgroup_cells.add(_with_view(chunk) if viewed else chunk, columns, keep)
                    names, patients = self._names(chunk)
                    base = f"{os.path.abspath(self.root)}/"
                    chosen = [item for item, kept in zip(names, keep, strict=True) if kept]
                    texts.add(
                        {
                            "path": [base + item for item in chosen],
                            "name": chosen,
                            "patient": [item for item, kept in zip(patients, keep, strict=True) if kept],
                            "split": constant_text(split, len(chosen)),
                        }
                    )
                    labels.append(chexpert_states(chunk, CHEXPERT_CLASSES, self.blank)[keep])
        if not any(len(block) for block in labels):
            raise LabelAssembleError(
                f"source '{self.name}': {self.root} has no image with views: {self.views}"
            )
        paths = texts.take("path")
        return new_table(
            CHEXPERT_CLASSES,
            paths=paths,
            names=texts.take("name"),
            labels=np.concatenate(labels),
            sources=self.name,
            groups=texts.take("patient"),
            splits=texts.take("split"),
            subgroups=subgroup_cells.take(),
            notes=subgroup_cells.notes(),
        )

    def _kept(self, chunk: Chunk) -> NDArray[np.bool_]:
        views = chunk.cells("Frontal/Lateral")
        for row, view in enumerate(views):
            if view not in ("Frontal", "Lateral"):
                raise chunk.error(
                    row, "Frontal/Lateral", f"a view must be Frontal or Lateral, got {shown(view)}"
                )
        if self.views == "all":
            return np.ones(len(views), dtype=np.bool_)
        return np.array([view.lower() == self.views for view in views], dtype=np.bool_)

    def _names(self, chunk: Chunk) -> tuple[list[str], list[str]]:
        """Return the path below the root and the patient of each row."""
        names, patients = [], []
        for row, cell in enumerate(chunk.cells("Path")):
            match = _PATH.fullmatch(cell)
            if match is None:
                raise chunk.error(
                    row,
                    "Path",
                    f"a path must be like CheXpert-v1.0/train/patient00001/study1/view1_frontal.jpg, "
                    f"got {shown(cell)}",
                )
            names.append(match[1])
            patients.append(match[2])
        return names, patients


def _with_view(chunk: Chunk) -> Chunk:
    """Return the chunk with a column of the view: AP or PA of a frontal image, as far as the table says which."""
    side = chunk.columns["Frontal/Lateral"]
    direction = chunk.columns.get("AP/PA", side)
    said = pc.if_else(pc.equal(direction, ""), side, direction)
    return replace(chunk, columns={**chunk.columns, _VIEW: pc.if_else(pc.equal(side, "Lateral"), side, said)})


def chexpert_states(chunk: Chunk, classes: tuple[str, ...], blank: str) -> NDArray[np.int8]:
    """Return the states of CheXpert's cells (-1 = uncertain, blank as `blank` says), int8 [rows, C]."""
    cells = {
        "1.0": int(POSITIVE),
        "1": int(POSITIVE),
        "0.0": int(NEGATIVE),
        "0": int(NEGATIVE),
        "-1.0": int(UNCERTAIN),
        "-1": int(UNCERTAIN),
        "": int(UNKNOWN if blank == "unknown" else NEGATIVE),
    }
    states = np.empty((len(chunk), len(classes)), dtype=np.int8)
    for column, name in enumerate(classes):
        states[:, column] = chunk.states(name, cells, "1.0, 0.0, -1.0 (uncertain) or blank (not mentioned)")
    return states
