"""CheXpert (Irvin et al., AAAI 2019) as its publisher ships it."""

import os
import re
from pathlib import Path
from typing import Final, Literal, Self

import numpy as np
from numpy.typing import NDArray

from labelassemble.data.csvfile import Chunk, CsvFile, TextColumns, shown
from labelassemble.data.readers.options import FilePath, SourceOptions
from labelassemble.data.states import NEGATIVE, POSITIVE, UNCERTAIN, UNKNOWN
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
_PATH: Final = re.compile(r"[^/]+/((?:train|valid|test)/(patient\d+)/study\d+/[^/]+)")


class CheXpertSource(SourceOptions):
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

    def read(self) -> Table:
        """Return the table of the folder.

        Raises:
            LabelAssembleError: A file is missing or breaks the format; with file, line and column.
        """
        texts = TextColumns("path", "name", "patient", "split")
        labels: list[NDArray[np.int8]] = []
        for name, split in (
            ("train.csv", "trainval" if self.valid == "test" else "train"),
            ("valid.csv", self.valid),
        ):
            with CsvFile(self.root / name) as file:
                for column in ("Path", "Frontal/Lateral", *CHEXPERT_CLASSES):
                    file.require(column, "a column of CheXpert's table")
                for chunk in file.chunks(("Path", "Frontal/Lateral", *CHEXPERT_CLASSES)):
                    keep = self._kept(chunk)
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
