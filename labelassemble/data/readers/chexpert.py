"""CheXpert (Irvin et al., AAAI 2019) as its publisher ships it."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final, Literal, NamedTuple, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from labelassemble.data.absence import BLANK, blanks_settled
from labelassemble.data.csvfile import Chunk, CsvFile, TextColumns, shown
from labelassemble.data.new_table import new_table
from labelassemble.data.readers.folders import DatasetFolder
from labelassemble.data.readers.found import FoundFolders, with_endings_there
from labelassemble.data.readers.options import FilePath, TabularOptions
from labelassemble.data.states import NEGATIVE, POSITIVE, UNCERTAIN, UNKNOWN
from labelassemble.data.subgroups import SubgroupColumn, published
from labelassemble.data.table import Table
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
CHEXPERT_KINDS: Final[dict[str, tuple[str, ...]]] = {
    "Enlarged Cardiomediastinum": ("Cardiomegaly",),
    "Lung Opacity": ("Lung Lesion", "Edema", "Consolidation", "Pneumonia", "Atelectasis"),
    "Consolidation": ("Pneumonia",),
}
"""All that lies below each general class in the publisher's hierarchy (Irvin et al. 2019, figure 1)."""
_NO_FINDING: Final = "No Finding"
_NO_FINDINGS: Final = frozenset({_NO_FINDING, "Support Devices"})  # all other classes are findings
_VIEW: Final = "(view)"  # made of the two columns that say it
# the patients are adults: where the age is 0 nobody knows it
_SUBGROUPS: Final = published(sex="Sex", view=_VIEW) | {
    "age": (SubgroupColumn(column="Age", values={"0": ""}),)
}
_PARTS: Final = ("train", "valid", "val", "test")
_PATH: Final = re.compile(rf"(?:(?:.*/)?({'|'.join(_PARTS)})/|)(patient\d+)/(study\d+)/([^/]+)")
_PLAIN: Final = frozenset({"", "Path", "Sex", "Age", "Frontal/Lateral", "AP/PA", "Unnamed: 0"})
_OTHER_NAMES: Final = {"Airspace Opacity": "Lung Opacity"}
_REFUSED: Final = {
    r"df_chexpert_plus.*\.csv(\.gz)?": (
        "CheXpert Plus, whose labels stand in JSON files by image, which this reader does not read (make a CSV of them "
        "for the reader csv)"
    ),
    r"groundtruth\.csv": (
        "the test labels by study, without images (test_labels.csv of CheXlocalize has them by image)"
    ),
}
_LAYOUTS: Final = (
    "train/patient00001/study1/, valid/... and test/..., or in the archives' own folders such as 'CheXpert-v1.0 batch "
    "2 (train 1)/patient00001/study1/'"
)


class CheXpertSource(TabularOptions):
    """The folder with `train.csv` and `valid.csv`, beside them `train/patient.../study.../view1_frontal.jpg`.

    Cells: 1.0, 0.0, -1.0 (uncertain), blank (not mentioned in the report). The folders of the patients are found
    wherever below the root they lie, also in those of the four archives ("CheXpert-v1.0 batch 2 (train 1)"). The test
    labels that came later (`test_labels.csv`, or `test.csv`) and CheXlocalize's `val_labels.csv` are read too, and
    without `train.csv`; they may lack columns: a class without one is UNKNOWN, and the view is that of the file's name.

    Attributes:
        root: The folder, `CheXpert-v1.0` or `CheXpert-v1.0-small`, or one above it.
        blank: What "not mentioned" means: "unknown" (the default) or "negative", where the row has a label at all and
            neither the publisher's hierarchy (`blanks_by_hierarchy`) nor the taxonomy says otherwise: what is mentioned
            may imply what is not.
        views: Which projections are taken.
        valid: What `valid.csv`, the 234 images labelled by radiologists, serves as. By default "test" where there are
            no test labels: `train.csv` is then divided into train and val by patient; else "val".
    """

    reader: Literal["chexpert"] = "chexpert"
    root: FilePath
    blank: Literal["unknown", "negative"] = "unknown"
    views: Literal["all", "frontal", "lateral"] = "all"
    valid: Literal["val", "test"] | None = None

    def resolved(self, base: Path) -> Self:
        """Return the source with its paths made absolute, starting at the folder `base`."""
        return self.model_copy(update={"root": base / self.root})

    def read(self, subgroups: Sequence[str] = ()) -> Table:
        """Return the table of the folder, with those `subgroups` that it has.

        Raises:
            LabelAssembleError: A file is missing or breaks the format; with file, line and column.
        """
        folder = DatasetFolder(self.name, self.root, closed=r"patient\d+")
        tables = self._tables(folder)
        patients = FoundFolders(folder, r"patient\d+", parts=_PARTS)
        texts = TextColumns("path", "name", "patient", "split")
        labels: list[NDArray[np.int8]] = []
        lacking: list[str] = []
        subgroup_cells = self.subgroup_cells(subgroups)
        for part, (path, split) in tables.items():
            with CsvFile(path) as file:
                classes = _class_columns(file, part)
                if missing := [name for name in CHEXPERT_CLASSES if name not in classes]:
                    lacking.append(
                        f"{path.name} has no column {', '.join(missing)}: unknown for its {part} images"
                    )
                sided = "Frontal/Lateral" in file.header
                columns = subgroup_cells.columns((*file.header, _VIEW), f"{path}, line 1", _SUBGROUPS)
                wanted = {"Path", *classes.values()} | ({"Frontal/Lateral"} if sided else set())
                wanted |= {item.column for item in columns.values()}
                viewed = _VIEW in wanted
                wanted |= {"AP/PA"} & {*file.header} if viewed else set()
                for chunk in file.chunks(tuple(wanted - {_VIEW})):
                    places = _places(chunk, part)
                    chunk = chunk if sided else _with_side(chunk, places)
                    keep = self._kept(chunk)
                    subgroup_cells.add(_with_view(chunk) if viewed else chunk, columns, keep)
                    chosen = [place for place, kept in zip(places, keep, strict=True) if kept]
                    names = [place.name for place in chosen]
                    texts.add(
                        {
                            "path": [f"{folder.root}/{_found(place, patients)}" for place in chosen],
                            "name": names,
                            "patient": [place.patient for place in chosen],
                            "split": constant_text(split, len(chosen)),
                        }
                    )
                    labels.append(self._states(chunk, classes)[keep])
        first, _ = next(iter(tables.values()))
        patients.check(first.name, _LAYOUTS)
        if not any(len(block) for block in labels):
            raise LabelAssembleError(
                f"source '{self.name}': {self.root} has no image with views: {self.views}"
            )
        paths = with_endings_there(texts.take("path"))
        given, decided = blanks_by_hierarchy(np.concatenate(labels), CHEXPERT_CLASSES)
        states, absence = blanks_settled(given, silent=True)
        return new_table(
            CHEXPERT_CLASSES,
            paths=paths,
            names=texts.take("name"),
            labels=states,
            absence=absence,
            sources=self.name,
            groups=texts.take("patient"),
            splits=texts.take("split"),
            subgroups=subgroup_cells.take(),
            notes=(*lacking, *subgroup_cells.notes(), *decided),
            files=[path for path, _ in tables.values()],
        )

    def _tables(self, folder: DatasetFolder) -> dict[str, tuple[Path, str]]:
        """Return the tables that are there, by part, and the split that each of them is."""
        train = folder.find_table(("train.csv",))
        valid = folder.find_table(("valid.csv", "val_labels.csv"))
        test = folder.find_table(("test_labels.csv", "test.csv"))
        others = [
            f"{place.path}{file}"
            for place in folder.folders
            for file in place.files
            if re.fullmatch(r"train.*\.csv(\.gz)?", file)
        ]
        if train is None and others:
            raise LabelAssembleError(
                f"source '{self.name}': {folder.root} has no train.csv but {', '.join(others)}: call the one that is "
                "meant train.csv"
            )
        if (train or valid or test) is None or (train is not None and (valid or test) is None):
            raise folder.no_table("CheXpert", ("train.csv",) if train is None else ("valid.csv",), _REFUSED)
        valid_split = self.valid or ("test" if test is None else "val")
        parts = {
            "train": (train, "trainval" if valid is None or valid_split == "test" else "train"),
            "valid": (valid, valid_split),
            "test": (test, "test"),
        }
        return {part: (path, split) for part, (path, split) in parts.items() if path is not None}

    def _states(self, chunk: Chunk, classes: Mapping[str, str]) -> NDArray[np.int8]:
        """Return the states of all classes, int8 [rows, C]; `classes` has the column of each that has one."""
        states = np.full((len(chunk), len(CHEXPERT_CLASSES)), UNKNOWN, dtype=np.int8)
        there = [index for index, name in enumerate(CHEXPERT_CLASSES) if name in classes]
        states[:, there] = chexpert_states(chunk, tuple(classes.values()), self.blank)
        return states

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


class _Place(NamedTuple):
    """Where an image lies by its table."""

    name: str
    part: str
    patient: str
    rest: str


def _places(chunk: Chunk, part: str) -> list[_Place]:
    """Return where each image lies; `part` is that of the table, for paths that do not say one."""
    places = []
    for row, cell in enumerate(chunk.cells("Path")):
        match = _PATH.fullmatch(cell)
        if match is None or match[4] in (".", ".."):
            raise chunk.error(
                row,
                "Path",
                f"a path must be like CheXpert-v1.0/train/patient00001/study1/view1_frontal.jpg, "
                f"got {shown(cell)}",
            )
        folder, rest = match[1] or part, f"{match[3]}/{match[4]}"
        places.append(_Place(f"{folder}/{match[2]}/{rest}", folder, match[2], rest))
    return places


def _found(place: _Place, patients: FoundFolders) -> str:
    """Return the path below the root: where the patient's folder is, else where the table says."""
    folder = patients.find(place.patient, place.name, place.part)
    return place.name if folder is None else f"{folder}{place.rest}"


def _class_columns(file: CsvFile, part: str) -> dict[str, str]:
    """Return the column of each class; the tables of valid and test may lack some.

    Raises:
        LabelAssembleError: A column is missing.
    """
    file.require("Path", "a column of CheXpert's table")
    columns = {_OTHER_NAMES.get(name, name): name for name in file.header}
    odd = [name for name in columns if name not in (*CHEXPERT_CLASSES, *_PLAIN)]
    if part == "train" or odd or not set(columns).intersection(CHEXPERT_CLASSES):
        for name in CHEXPERT_CLASSES:
            if name not in columns:
                file.require(name, "a column of CheXpert's table")
    return {name: columns[name] for name in CHEXPERT_CLASSES if name in columns}


def _with_side(chunk: Chunk, places: Sequence[_Place]) -> Chunk:
    """Return the chunk with the column Frontal/Lateral, made of the files' names."""
    sides = []
    for row, place in enumerate(places):
        side = next((side for side in ("Frontal", "Lateral") if side.lower() in place.rest.lower()), None)
        if side is None:
            raise chunk.error(
                row,
                "Path",
                f"neither a column Frontal/Lateral nor the file says the view of {shown(place.name)}",
            )
        sides.append(side)
    return replace(chunk, columns={**chunk.columns, "Frontal/Lateral": pa.array(sides, pa.large_string())})


def _with_view(chunk: Chunk) -> Chunk:
    """Return the chunk with a column of the view: AP or PA of a frontal image, as far as the table says which."""
    side = chunk.columns["Frontal/Lateral"]
    direction = chunk.columns.get("AP/PA", side)
    said = pc.if_else(pc.equal(direction, ""), side, direction)
    return replace(chunk, columns={**chunk.columns, _VIEW: pc.if_else(pc.equal(side, "Lateral"), side, said)})


def chexpert_states(chunk: Chunk, classes: tuple[str, ...], blank: str) -> NDArray[np.int8]:
    """Return the states of CheXpert's cells, int8 [rows, C]: -1 is UNCERTAIN, blank is UNKNOWN or BLANK by `blank`."""
    cells = {
        "1.0": int(POSITIVE),
        "1": int(POSITIVE),
        "0.0": int(NEGATIVE),
        "0": int(NEGATIVE),
        "-1.0": int(UNCERTAIN),
        "-1": int(UNCERTAIN),
        "": int(UNKNOWN if blank == "unknown" else BLANK),
    }
    states = np.empty((len(chunk), len(classes)), dtype=np.int8)
    for column, name in enumerate(classes):
        states[:, column] = chunk.states(name, cells, "1.0, 0.0, -1.0 (uncertain) or blank (not mentioned)")
    return states


def blanks_by_hierarchy(
    labels: NDArray[np.int8], classes: Sequence[str]
) -> tuple[NDArray[np.int8], tuple[str, ...]]:
    """Return labels in which the publisher's hierarchy has settled those blanks of which it says something, and notes.

    A general class is POSITIVE where a kind of it is, else UNKNOWN where a kind of it is uncertain. The kinds of a
    general class that is positive or uncertain are UNKNOWN where none of them is positive: nobody said which it is.
    "No Finding" is UNKNOWN where findings are uncertain and none is positive. What is written stays.

    Args:
        labels: States, or BLANK, int8 [N, C].
        classes: The names of the C classes, all of CheXpert's.
    """
    blank = labels == BLANK
    if not blank.any():
        return labels, ()
    states = labels.copy()
    positive, uncertain = labels == POSITIVE, labels == UNCERTAIN
    for general, kinds in CHEXPERT_KINDS.items():
        above, below = classes.index(general), [classes.index(name) for name in kinds]
        present = positive[:, below].any(axis=1)
        states[blank[:, above] & uncertain[:, below].any(axis=1), above] = UNKNOWN
        states[blank[:, above] & present, above] = POSITIVE
        untold = (positive[:, above] | uncertain[:, above]) & ~present
        for column in below:
            states[untold & blank[:, column], column] = UNKNOWN
    findings = [index for index, name in enumerate(classes) if name not in _NO_FINDINGS]
    perhaps = uncertain[:, findings].any(axis=1) & ~positive[:, findings].any(axis=1)
    healthy = classes.index(_NO_FINDING)
    states[perhaps & blank[:, healthy], healthy] = UNKNOWN
    said = {
        "positive, as a kind of theirs is": states == POSITIVE,
        "unknown, as a general class or a kind leaves them open": states == UNKNOWN,
    }
    notes = []
    for words, where in said.items():
        counts = (blank & where).sum(axis=0).tolist()
        named = [f"'{name}' {count}" for name, count in zip(classes, counts, strict=True) if count]
        if named:
            notes.append(
                f"blanks that the publisher's hierarchy makes {words}, by images: {', '.join(named)}"
            )
    return states, tuple(notes)
