"""MIMIC-CXR-JPG (Johnson et al. 2019) as PhysioNet ships it."""

import os
from pathlib import Path
from typing import Final, Literal, Self

import numpy as np
from numpy.typing import NDArray

from labelassemble.data.csvfile import CsvFile, TextColumns, shown
from labelassemble.data.readers.chexpert import chexpert_states
from labelassemble.data.readers.options import FilePath, SourceOptions
from labelassemble.data.states import UNKNOWN
from labelassemble.data.table import Table, new_table
from labelassemble.errors import LabelAssembleError

MIMIC_CLASSES: Final = (
    "Atelectasis",
    "Cardiomegaly",
    "Consolidation",
    "Edema",
    "Enlarged Cardiomediastinum",
    "Fracture",
    "Lung Lesion",
    "Lung Opacity",
    "No Finding",
    "Pleural Effusion",
    "Pleural Other",
    "Pneumonia",
    "Pneumothorax",
    "Support Devices",
)
_SPLITS: Final = {"train": "train", "validate": "val", "test": "test"}
_FRONTAL: Final = frozenset({"AP", "PA", "AP AXIAL", "PA LLD", "PA RLD", "AP LLD", "AP RLD"})
_LATERAL: Final = frozenset({"LATERAL", "LL", "XTABLE LATERAL", "LAO", "RAO", "LPO", "RPO", "SWIMMERS"})


class MimicCxrSource(SourceOptions):
    """The folder with `mimic-cxr-2.*-split.csv`, `-chexpert.csv` or `-negbio.csv`, `-metadata.csv`, each perhaps `.gz`.

    The images lie in `files/p10/p10000032/s50414267/IMAGE.jpg`. Labels are those of the study's report; a study that
    the label table lacks is UNKNOWN throughout. The published split is kept.

    Attributes:
        root: The folder.
        labeler: Which of the two label tables is read.
        blank: What "not mentioned" means: "unknown" (the default) or "negative".
        views: Which projections are taken, by the metadata's ViewPosition; "all" does not need the metadata.
    """

    reader: Literal["mimic-cxr"] = "mimic-cxr"
    root: FilePath
    labeler: Literal["chexpert", "negbio"] = "chexpert"
    blank: Literal["unknown", "negative"] = "unknown"
    views: Literal["all", "frontal", "lateral"] = "all"

    def resolved(self, base: Path) -> Self:
        """Return the source with its paths made absolute, starting at the folder `base`."""
        return self.model_copy(update={"root": base / self.root})

    def read(self) -> Table:
        """Return the table of the folder.

        Raises:
            LabelAssembleError: A file is missing or breaks the format; with file, line and column.
        """
        study_row, study_labels = self._studies()
        wanted = None if self.views == "all" else self._viewed()
        base = os.path.abspath(self.root)
        # a study that the label table lacks: one more row, which the index -1 points at
        nothing = np.full((1, len(MIMIC_CLASSES)), UNKNOWN, dtype=np.int8)
        study_labels = np.concatenate([study_labels, nothing])
        texts = TextColumns("path", "name", "patient", "split")
        rows: list[int] = []
        with CsvFile(self._file("split")) as file:
            for column in ("dicom_id", "study_id", "subject_id", "split"):
                file.require(column, "a column of MIMIC-CXR-JPG's split table")
            for chunk in file.chunks(("dicom_id", "study_id", "subject_id", "split")):
                names, patients, splits = [], [], []
                columns = [chunk.cells(name) for name in ("dicom_id", "study_id", "subject_id", "split")]
                for row, (image, study, subject, split) in enumerate(zip(*columns, strict=True)):
                    if split not in _SPLITS:
                        raise chunk.error(
                            row, "split", f"must be train, validate or test, got {shown(split)}"
                        )
                    if not (subject.isdigit() and study.isdigit() and image and "/" not in image):
                        raise chunk.error(
                            row, "dicom_id", f"no path can be made of {shown(image)}, {study}, {subject}"
                        )
                    if wanted is None or image in wanted:
                        names.append(f"files/p{subject[:2]}/p{subject}/s{study}/{image}.jpg")
                        patients.append(subject)
                        splits.append(_SPLITS[split])
                        rows.append(study_row.get(study, -1))
                paths = [f"{base}/{name}" for name in names]
                texts.add({"path": paths, "name": names, "patient": patients, "split": splits})
        return new_table(
            MIMIC_CLASSES,
            paths=texts.take("path"),
            names=texts.take("name"),
            labels=study_labels[rows],
            sources=self.name,
            groups=texts.take("patient"),
            splits=texts.take("split"),
        )

    def _studies(self) -> tuple[dict[str, int], NDArray[np.int8]]:
        """Return the row of each study and the labels of all, int8 [S, 14]."""
        index: dict[str, int] = {}
        labels = [np.empty((0, len(MIMIC_CLASSES)), dtype=np.int8)]
        with CsvFile(self._file(self.labeler)) as file:
            for column in ("study_id", *MIMIC_CLASSES):
                file.require(column, "a column of MIMIC-CXR-JPG's label table")
            for chunk in file.chunks(("study_id", *MIMIC_CLASSES)):
                for row, study in enumerate(chunk.cells("study_id")):
                    if study in index:
                        raise chunk.error(row, "study_id", f"the study {shown(study)} stands twice")
                    index[study] = len(index)
                labels.append(chexpert_states(chunk, MIMIC_CLASSES, self.blank))
        return index, np.concatenate(labels)

    def _viewed(self) -> set[str]:
        """Return the images of the chosen projection."""
        positions = _FRONTAL if self.views == "frontal" else _LATERAL
        images: set[str] = set()
        with CsvFile(self._file("metadata")) as file:
            for column in ("dicom_id", "ViewPosition"):
                file.require(column, "a column of MIMIC-CXR-JPG's metadata")
            for chunk in file.chunks(("dicom_id", "ViewPosition")):
                pairs = zip(chunk.cells("dicom_id"), chunk.cells("ViewPosition"), strict=True)
                images.update(image for image, view in pairs if view in positions)
        return images

    def _file(self, part: str) -> Path:
        found = sorted(self.root.glob(f"mimic-cxr-2.*-{part}.csv*"))
        found = [path for path in found if path.name.endswith((".csv", ".csv.gz"))]
        if not found:
            raise LabelAssembleError(
                f"source '{self.name}': {self.root} has no mimic-cxr-2.*-{part}.csv or .csv.gz"
            )
        return found[-1]  # the newest version of the data
