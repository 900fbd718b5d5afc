"""MIMIC-CXR-JPG (Johnson et al. 2019) as PhysioNet ships it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal, Self

import numpy as np
from numpy.typing import NDArray

from labelassemble.data.absence import blanks_settled
from labelassemble.data.csvfile import CsvFile, TextColumns, shown
from labelassemble.data.joins import join_note, keys_of
from labelassemble.data.new_table import new_table
from labelassemble.data.readers.chexpert import blanks_by_hierarchy, chexpert_states
from labelassemble.data.readers.folders import DatasetFolder
from labelassemble.data.readers.found import FoundFolders, FoundImages, with_endings_there
from labelassemble.data.readers.mimic_subgroups import add_mimic_subgroups
from labelassemble.data.readers.options import FilePath, TabularOptions
from labelassemble.data.states import UNKNOWN
from labelassemble.data.table import Table
from labelassemble.data.text import TextArray

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
_REFUSED: Final = {
    r"mimic_cxr_aug_.*\.csv": "a table of reports without labels; the labels are in mimic-cxr-2.0.0-chexpert.csv.gz",
    r"cxr-(record|study)-list\.csv(\.gz)?": (
        "of MIMIC-CXR, which has no labels; the tables of MIMIC-CXR-JPG (mimic-cxr-2.0.0-split.csv.gz and others) "
        "belong beside it"
    ),
    r"mimic-cxr-2\.1\.0-test-set-labeled\.csv(\.gz)?": (
        "the test labels of release 2.1.0 alone; the tables mimic-cxr-2.0.0-split.csv.gz and others belong beside it"
    ),
}
_LAYOUTS: Final = (
    "files/p10/p10000032/s50414267/, p10/... or one folder with all images, at any depth below the root"
)
_SPLITS: Final = {"train": "train", "validate": "val", "test": "test"}
_FRONTAL: Final = frozenset({"AP", "PA", "AP AXIAL", "PA LLD", "PA RLD", "AP LLD", "AP RLD"})
_LATERAL: Final = frozenset({"LATERAL", "LL", "XTABLE LATERAL", "LAO", "RAO", "LPO", "RPO", "SWIMMERS"})


class MimicCxrSource(TabularOptions):
    """The folder with `mimic-cxr-2.0.0-split.csv`, `-chexpert.csv` or `-negbio.csv`, `-metadata.csv`, perhaps `.gz`.

    Release 2.1.0 has the same tables under the same names. The images lie in
    `files/p10/p10000032/s50414267/IMAGE.jpg`, wherever below the root that is, in `p10/...` without `files`, or all in
    one folder. Labels are those of the study's report; a study that the label table lacks is UNKNOWN throughout. The
    published split is kept. Views are those of the metadata; sex and age need MIMIC-IV's `patients.csv` (perhaps `.gz`)
    below the root.

    Attributes:
        root: The folder.
        labeler: Which of the two label tables is read.
        blank: What "not mentioned" means: "unknown" (the default) or "negative", where the study has a label at all
            and neither CheXpert's hierarchy (`blanks_by_hierarchy`) nor the taxonomy says otherwise: what is mentioned
            may imply what is not.
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

    def read(self, subgroups: Sequence[str] = ()) -> Table:
        """Return the table of the folder, with those `subgroups` that it has.

        Raises:
            LabelAssembleError: A file is missing or breaks the format; with file, line and column.
        """
        folder = DatasetFolder(self.name, self.root, closed=r"p\d+")
        images = _Images(folder)
        split_file, label_file = _file(folder, "split"), _file(folder, self.labeler)
        view_file = None if self.views == "all" else _file(folder, "metadata")
        study_row, study_labels, labelled = self._studies(label_file)
        wanted, viewed = (None, None) if view_file is None else self._viewed(view_file)
        # a study that the label table lacks: one more row, which the index -1 points at
        nothing = np.full((1, len(MIMIC_CLASSES)), UNKNOWN, dtype=np.int8)
        study_labels = np.concatenate([study_labels, nothing])
        texts = TextColumns("path", "name", "patient", "split", "study_id", "dicom_id")
        rows: list[int] = []
        kept: list[str] = []
        with CsvFile(split_file) as file:
            for column in ("dicom_id", "study_id", "subject_id", "split"):
                file.require(column, "a column of MIMIC-CXR-JPG's split table")
            for chunk in file.chunks(("dicom_id", "study_id", "subject_id", "split")):
                names, paths, patients, splits = [], [], [], []
                texts.add({name: chunk.columns[name] for name in ("study_id", "dicom_id")})
                columns = [
                    keys_of(chunk, name).tolist() for name in ("dicom_id", "study_id", "subject_id", "split")
                ]
                for row, (image, study, subject, split) in enumerate(zip(*columns, strict=True)):
                    if split not in _SPLITS:
                        raise chunk.error(
                            row, "split", f"must be train, validate or test, got {shown(split)}"
                        )
                    if not (subject.isdigit() and study.isdigit() and image and "/" not in image):
                        raise chunk.error(
                            row,
                            "dicom_id",
                            f"no path can be made of {shown(image)}, {shown(study)}, {shown(subject)}",
                        )
                    if wanted is None or image in wanted:
                        names.append(f"files/p{subject[:2]}/p{subject}/s{study}/{image}.jpg")
                        paths.append(f"{folder.root}/{images.find(subject, study, image) or names[-1]}")
                        patients.append(subject)
                        splits.append(_SPLITS[split])
                        rows.append(study_row.get(study, -1))
                        kept.append(image)
                texts.add({"path": paths, "name": names, "patient": patients, "split": splits})
        written, name = texts.take("dicom_id"), split_file.name
        notes = [join_note(self.name, "studies", texts.take("study_id"), name, labelled, label_file.name)]
        if view_file is not None and viewed is not None:
            notes.append(join_note(self.name, "images", written, name, viewed, view_file.name))
        images.check(name)
        given, decided = blanks_by_hierarchy(study_labels[rows], MIMIC_CLASSES)
        states, absence = blanks_settled(given, silent=True)
        groups, subgroup_cells = texts.take("patient"), self.subgroup_cells(subgroups)
        about: dict[str, Path] = {}
        if subgroups:
            about = _about(folder)
            subjects = groups.tolist()
            notes += add_mimic_subgroups(subgroup_cells, self.name, about, kept, subjects, name)
        read = [split_file, label_file, *([] if view_file is None else [view_file]), *about.values()]
        return new_table(
            MIMIC_CLASSES,
            paths=with_endings_there(texts.take("path")),
            names=texts.take("name"),
            labels=states,
            absence=absence,
            sources=self.name,
            groups=groups,
            splits=texts.take("split"),
            subgroups=subgroup_cells.take(),
            notes=(*notes, *subgroup_cells.notes(), *decided),
            files=list(dict.fromkeys(read)),
        )

    def _studies(self, path: Path) -> tuple[dict[str, int], NDArray[np.int8], TextArray]:
        """Return the row of each study, the labels of all, int8 [S, 14], and the studies as they are written, [S]."""
        index: dict[str, int] = {}
        labels = [np.empty((0, len(MIMIC_CLASSES)), dtype=np.int8)]
        written = TextColumns("study_id")
        with CsvFile(path) as file:
            for column in ("study_id", *MIMIC_CLASSES):
                file.require(column, "a column of MIMIC-CXR-JPG's label table")
            for chunk in file.chunks(("study_id", *MIMIC_CLASSES)):
                written.add({"study_id": chunk.columns["study_id"]})
                for row, study in enumerate(keys_of(chunk, "study_id").tolist()):
                    if study in index:
                        raise chunk.error(row, "study_id", f"the study {shown(study)} stands twice")
                    index[study] = len(index)
                labels.append(chexpert_states(chunk, MIMIC_CLASSES, self.blank))
        return index, np.concatenate(labels), written.take("study_id")

    def _viewed(self, path: Path) -> tuple[set[str], TextArray]:
        """Return the images of the chosen projection, and all images as they are written, text [N]."""
        positions = _FRONTAL if self.views == "frontal" else _LATERAL
        images: set[str] = set()
        written = TextColumns("dicom_id")
        with CsvFile(path) as file:
            for column in ("dicom_id", "ViewPosition"):
                file.require(column, "a column of MIMIC-CXR-JPG's metadata")
            for chunk in file.chunks(("dicom_id", "ViewPosition")):
                written.add({"dicom_id": chunk.columns["dicom_id"]})
                pairs = zip(keys_of(chunk, "dicom_id"), chunk.cells("ViewPosition"), strict=True)
                images.update(image for image, view in pairs if view in positions)
        return images, written.take("dicom_id")


def _about(folder: DatasetFolder) -> dict[str, Path]:
    """Return the tables of images and of patients, as far as they are there, by what identifies their rows."""
    found = {
        "dicom_id": folder.find_table(
            ["mimic-cxr-2.0.0-metadata.csv"], like=r"mimic-cxr-\d.*-metadata\.csv(\.gz)?"
        ),
        "subject_id": folder.find_table(["patients.csv"]),
    }
    return {key: path for key, path in found.items() if path is not None}


def _file(folder: DatasetFolder, part: str) -> Path:
    return folder.table(
        "MIMIC-CXR-JPG",
        [f"mimic-cxr-2.0.0-{part}.csv"],
        like=rf"mimic-cxr-\d.*-{part}\.csv(\.gz)?",
        refused=_REFUSED,
    )


class _Images:
    """Finds the images: by the folders of their patients, or by name where all lie in one folder."""

    def __init__(self, folder: DatasetFolder) -> None:
        self._folder = folder
        self._tens = FoundFolders(folder, r"p\d\d")
        self._patients = FoundFolders(folder, r"p\d{3,}")
        self._flat = FoundImages(folder, any_ending=True)
        self._found = False
        self._missing = ""

    def find(self, subject: str, study: str, image: str) -> str | None:
        """Return where an image lies below the root, by the names of its folders; None where it lies nowhere."""
        rest = f"s{study}/{image}.jpg"
        place = self._tens.find(f"p{subject[:2]}", image, "files")
        if place is not None:
            path: str | None = f"{place}p{subject}/{rest}"
        else:
            place = self._patients.find(f"p{subject}", image, "files")
            path = self._flat.find(image) if place is None else f"{place}{rest}"
        self._found |= path is not None
        self._missing = self._missing or f"p{subject[:2]}/p{subject}/{rest}"
        return path

    def check(self, table: str) -> None:
        """Raise where no image was found although there are some; see `DatasetFolder.nothing_fits`."""
        if self._missing and not self._found:
            self._folder.nothing_fits(
                table, self._missing, _LAYOUTS, [*self._tens.places(), *self._patients.places()]
            )
