"""A folder of DICOM radiographs as a hospital exports it: the headers are the table, labels come from a CSV."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, Literal, NamedTuple, Self, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from labelassemble.data.absence import blanks_settled
from labelassemble.data.class_names import check_class_names
from labelassemble.data.csvfile import Chunk, CsvFile, RowFile, TextColumns
from labelassemble.data.dicom_headers import (
    KEYWORDS,
    Radiographs,
    as_arrow,
    read_radiographs,
    skipped_sentence,
)
from labelassemble.data.identifiers import IdRule, plain_ids, plain_keys
from labelassemble.data.joins import join_note, matched_keys
from labelassemble.data.new_table import new_table
from labelassemble.data.parquet import ParquetFile
from labelassemble.data.pseudonyms import pseudonyms, read_key
from labelassemble.data.readers.csv import split_cells
from labelassemble.data.readers.label_cells import BlankCell, LabelCells, MinusOne, class_columns
from labelassemble.data.readers.options import FilePath, TabularOptions
from labelassemble.data.states import UNKNOWN
from labelassemble.data.subgroups import published, view_of
from labelassemble.data.table import Table
from labelassemble.data.text import TextArray, text_array, text_codes
from labelassemble.errors import LabelAssembleError

Identifier: TypeAlias = Literal["image", "file", "series", "accession", "study", "patient"]
_KEYWORD: Final[Mapping[str, str]] = {
    "image": "SOPInstanceUID",
    "series": "SeriesInstanceUID",
    "accession": "AccessionNumber",
    "study": "StudyInstanceUID",
    "patient": "PatientID",
}
# the names of columns, marks and case aside; the first identifier that a table has is the one it is joined by
_COLUMN_NAMES: Final[Mapping[Identifier, tuple[str, ...]]] = {
    "image": ("sopinstanceuid", "sopuid", "instanceuid", "imageuid"),
    "file": (
        *("file", "filename", "filepath", "path", "image", "imageid", "imagename", "imagepath"),
        *("dicom", "dicomid", "dicomfile", "dicompath"),
    ),
    "series": ("seriesinstanceuid", "seriesuid", "seriesid", "series"),
    "accession": ("accessionnumber", "accession", "accessionno", "accessionid"),
    "study": ("studyinstanceuid", "studyuid", "studyid", "study"),
    "patient": ("patientid", "patient", "subjectid", "subject", "mrn", "pid"),
}
_SUBGROUPS: Final = published(
    sex="PatientSex",
    age="PatientAge",
    view="ViewPosition",
    laterality="Laterality",
    scanner="Manufacturer",
    body_part="BodyPartExamined",
)
_FRONTAL: Final = frozenset({"PA", "AP", "AP supine", "AP erect", "frontal"})


class _Labels(NamedTuple):
    """A table of labels: its identifiers [M], states [M, C], splits [M], and what there is to tell of it."""

    by: str
    keys: TextArray
    states: NDArray[np.int8]
    splits: TextArray
    classes: tuple[str, ...]
    notes: tuple[str, ...] = ()


class DicomSource(TabularOptions):
    """A folder of DICOM files in whatever folders below it, without a table: the headers say what each of them is.

    Patient (also the group that stays on one side of a split), study, view, sex, age, laterality and scanner come from
    the headers, which are read in parallel and without the pixels. What is no radiograph (CT, reports, secondary
    captures, a DICOMDIR, other files) is left out, and the summary counts it by kind. Labels come from a CSV or Parquet
    file that names the patient, study, accession number, series, image (SOP Instance UID) or file of each row; without
    one, all labels are UNKNOWN.

    Attributes:
        root: The folder.
        labels: The table of labels: cells 1, 0, -1 = unknown, -2 = uncertain, blank as `blank` says.
        join: What a row of `labels` is about: "patient", "study", "accession", "series", "image", or "file" (its name
            or its path below the root, with the ending or without). By default what its columns name, the narrowest
            first.
        join_column: The column of `labels` that says it; by default the one that is called so.
        classes: The columns of `labels` that are classes; by default all that have no other use. Without `labels`, the
            classes that are UNKNOWN throughout.
        split_column: The column of `labels` with train, val, test, trainval or nothing; by default `split` where there
            is one.
        blank: What a blank cell means: "unknown" (not annotated) or "negative", unless the taxonomy says otherwise.
        minus_one: What -1 means: "unknown", or "uncertain" as in CheXpert's coding. By default "unknown", with a
            warning where blank cells mean that too.
        views: Which projections are taken; an image whose header does not say its own is neither.
        secondary_captures: Whether a secondary capture counts as a radiograph if its modality is that of one (CR, DX).
        pseudonyms: A file with a secret key of 16 bytes or more. Patients and images are then called by a hash of their
            identifiers with it (HMAC-SHA256, 128 bits): the same key gives the same names, also in other sources, and
            without it nobody can find or test an identifier. Paths stay as they are: name folders and files
            accordingly, and keep the key away from what is passed on.
    """

    reader: Literal["dicom"] = "dicom"
    root: FilePath
    labels: FilePath | None = None
    join: Identifier | None = None
    join_column: str | None = None
    classes: tuple[str, ...] | None = None
    split_column: str | None = None
    blank: BlankCell = "unknown"
    minus_one: MinusOne | None = None
    views: Literal["all", "frontal", "lateral"] = "all"
    secondary_captures: bool = False
    pseudonyms: FilePath | None = None

    def resolved(self, base: Path) -> Self:
        """Return the source with its paths made absolute, starting at the folder `base`."""
        paths = {"root": self.root, "labels": self.labels, "pseudonyms": self.pseudonyms}
        return self.model_copy(
            update={name: None if path is None else base / path for name, path in paths.items()}
        )

    def read(self, subgroups: Sequence[str] = ()) -> Table:
        """Return the table of the folder, with those `subgroups` that its headers have.

        Raises:
            LabelAssembleError: There is no radiograph, the labels break the rules above, or few of their rows meet an
                image.
        """
        key = None if self.pseudonyms is None else read_key(self.pseudonyms)
        labels = self._read_labels()
        subgroup_cells = self.subgroup_cells(subgroups)
        try:
            found = read_radiographs(
                self.root,
                also=[item.column for item in self.subgroup_columns.values() if item.column not in KEYWORDS],
                secondary_captures=self.secondary_captures,
                without=[path for path in (self.labels, self.pseudonyms) if path is not None],
            )
        except LabelAssembleError as error:
            raise LabelAssembleError(f"source '{self.name}': {error}") from None
        keep = self._viewed(found)
        columns = subgroup_cells.columns(tuple(found.columns), str(self.root), _SUBGROUPS)
        block = Chunk(self.root, as_arrow(found.columns), lambda row: f"file {found.files[row]}")
        subgroup_cells.add(block, columns, keep)
        notes = [skipped_sentence(found.skipped)] if found.skipped else []
        if not keep.all():
            notes.append(f"left out by views: {self.views}, of other or unknown views: {int((~keep).sum())}")
        rows = np.flatnonzero(keep)
        states = np.full((len(rows), len(labels.classes)), UNKNOWN, dtype=np.int8)
        splits = text_array(np.full(len(rows), "", dtype=object))
        if self.labels is not None:
            row_of, note = self._joined(found, rows, labels, key)
            notes.extend((note, *labels.notes))
            there = row_of >= 0
            states[there] = labels.states[row_of[there]]
            splits = text_array(np.where(there, labels.splits[row_of].astype(object), ""))
        states, absence = blanks_settled(states)
        return new_table(
            labels.classes,
            paths=text_array(f"{found.root}/" + found.files[rows]),
            names=found.files[rows]
            if key is None
            else pseudonyms(found.columns["SOPInstanceUID"][rows], "image", key),
            labels=states,
            absence=absence,
            sources=self.name,
            groups=self._groups(found, rows, key),
            splits=splits,
            subgroups=subgroup_cells.take(),
            notes=(*notes, *subgroup_cells.notes()),
            files=[] if self.labels is None else [self.labels],
        )

    def _viewed(self, found: Radiographs) -> NDArray[np.bool_]:
        """Return which radiographs have the projection that is taken, bool [N]."""
        written, code = text_codes(found.columns["ViewPosition"])
        said = [view_of(view) for view in written.tolist()]
        wanted = {
            "all": [True] * len(said),
            "frontal": [view in _FRONTAL for view in said],
            "lateral": [view == "lateral" for view in said],
        }[self.views]
        keep = np.array(wanted, dtype=np.bool_)[code]
        if not keep.any():
            raise LabelAssembleError(
                f"source '{self.name}': {found.root} has no image with views: {self.views}, got "
                f"{', '.join(sorted(view or 'none' for view in set(said)))}"
            )
        return keep

    def _groups(self, found: Radiographs, rows: NDArray[np.int64], key: bytes | None) -> TextArray:
        """Return the patient of each image; where the header has none, its study holds the images together."""
        patient, study = (found.columns[name][rows] for name in ("PatientID", "StudyInstanceUID"))
        known = plain_ids(patient, self.ids).values != ""
        if key is not None:
            patient, study = pseudonyms(patient, "patient", key), pseudonyms(study, "study", key)
        studies = np.where(study != "", ("study " + study).astype(object), "")
        return text_array(np.where(known, patient.astype(object), studies))

    def _read_labels(self) -> _Labels:
        """Return the table of labels; no rows without one."""
        if self.labels is None:
            classes = self.classes or ()
            check_class_names(classes)
            blank = text_array(np.empty(0, dtype=object))
            return _Labels("", blank, np.empty((0, len(classes)), dtype=np.int8), blank, classes)
        opened: RowFile = (
            ParquetFile(self.labels) if self.labels.suffix == ".parquet" else CsvFile(self.labels)
        )
        with opened as file:
            by, key = self._join_column(file)
            split = self.split_column or ("split" if "split" in file.header else "")
            if self.split_column:
                file.require(self.split_column, "split_column")
            classes = self._classes(file, {key, split})
            cells = LabelCells(self.blank, self.minus_one, chosen=self.classes is not None)
            texts = TextColumns("key", "split")
            blocks = [np.empty((0, len(classes)), dtype=np.int8)]
            for chunk in file.chunks(tuple({key, *classes, *([split] if split else [])})):
                texts.add({"key": chunk.columns[key]})
                texts.add({"split": split_cells(chunk, split) if split else [""] * len(chunk)})
                blocks.append(cells.states(chunk, classes))
        if not any(len(block) for block in blocks):
            raise LabelAssembleError(f"source '{self.name}': {self.labels} has no rows")
        return _Labels(
            by, texts.take("key"), np.concatenate(blocks), texts.take("split"), classes, cells.notes()
        )

    def _join_column(self, file: RowFile) -> tuple[str, str]:
        """Return what the rows of `labels` are about and the column that says it."""
        called = {_plain(column): column for column in reversed(file.header)}
        found = (
            (kind, [called[name] for name in names if name in called])
            for kind, names in _COLUMN_NAMES.items()
        )
        named = {kind: columns[0] for kind, columns in found if columns}
        if self.join_column is not None:
            column = file.require(self.join_column, "join_column")
            by = self.join or next((kind for kind, name in named.items() if name == column), None)
            if by is None:
                raise LabelAssembleError(
                    f"source '{self.name}': what the column '{column}' of {self.labels} says must be named by `join`: "
                    f"{', '.join(_COLUMN_NAMES)}"
                )
            return by, column
        by = self.join or next(iter(named), None)
        if by is None or by not in named:
            what = "no identifier" if by is None else f"'{by}'"
            raise LabelAssembleError(
                f"source '{self.name}': no column of {self.labels} is called as {what} "
                f"({', '.join(names[0] for names in _COLUMN_NAMES.values())} ...): set `join` and `join_column`, "
                f"got {', '.join(file.header)}"
            )
        return by, named[by]

    def _classes(self, file: RowFile, used: set[str]) -> tuple[str, ...]:
        place = f"{self.labels}" if str(self.labels).endswith(".parquet") else f"{self.labels}, line 1"
        identifiers = {name for names in _COLUMN_NAMES.values() for name in names}
        classes = self.classes or tuple(
            column for column in file.header if column not in used and _plain(column) not in identifiers
        )
        for name in classes:
            file.require(name, "classes")
        return class_columns(classes, file.header, place)

    def _joined(
        self, found: Radiographs, rows: NDArray[np.int64], labels: _Labels, key: bytes | None
    ) -> tuple[NDArray[np.int64], str]:
        """Return the row of `labels` of each image, int64 [N], -1 where it has none, and how many meet."""
        what = {"series": "series", "study": "studies"}.get(labels.by, f"{labels.by}s")
        names = str(self.root), Path(str(self.labels)).name
        ours, theirs = self._keys(found, rows, labels, what)
        note = join_note(self.name, what, ours, names[0], theirs, names[1], "exact")
        if key is not None:  # the note goes into the report
            hidden = pseudonyms(ours, what, key, "exact"), pseudonyms(theirs, what, key, "exact")
            note = join_note(self.name, what, hidden[0], names[0], hidden[1], names[1], "exact")
        self._check_once(ours, theirs, labels)
        row_of = pd.Series(np.arange(len(theirs)), index=theirs.astype(object))
        row_of = row_of[~row_of.index.duplicated() & (row_of.index != "")]
        joined = row_of.reindex(ours.astype(object)).fillna(-1).to_numpy(dtype=np.int64)
        return joined, note

    def _keys(
        self, found: Radiographs, rows: NDArray[np.int64], labels: _Labels, what: str
    ) -> tuple[TextArray, TextArray]:
        """Return the identifiers of the images [N] and of the labels [M], those that meet as the same text."""
        if labels.by == "file":  # a name of digits is no number
            return _file_keys(found.files[rows], labels.keys, f"source '{self.name}'")
        ours, theirs = found.columns[_KEYWORD[labels.by]][rows], labels.keys
        if self.ids == "auto":
            return matched_keys(self.name, what, ours, str(self.root), theirs, Path(str(self.labels)).name)
        rule: IdRule = (
            "numbers" if self.ids == "numbers" else "text"
        )  # an unknown one has no label by any rule
        return plain_ids(ours, rule).values, plain_ids(theirs, rule).values

    def _check_once(self, ours: TextArray, keys: TextArray, labels: _Labels) -> None:
        """Raise where two rows say different things of one patient, study, series, image or file."""
        code, _ = pd.factorize(keys.astype(object))
        if self.ids == "auto" and labels.by != "file":
            number, _ = pd.factorize(plain_keys(keys).astype(object))
            # spellings of a number are two identifiers only where the images have each of them
            strays = np.isin(number, number[~np.isin(code, code[keys.isin(ours.unique().tolist())])])
            code, _ = pd.factorize(np.where(strays, number + len(keys), code))
        first = np.unique(code, return_index=True)[1][code] if len(code) else code
        against = (labels.states != labels.states[first]).any(axis=1) | (
            labels.splits != labels.splits[first]
        )
        against &= keys != ""
        if against.any():
            row = int(np.argmax(against))
            raise LabelAssembleError(
                f"source '{self.name}': {self.labels} says two things of the {labels.by} '{keys[row]}': a row "
                "of each, or the same labels in all its rows"
            )


def _plain(column: str) -> str:
    return re.sub(r"[^a-z0-9]", "", column.lower())


def _file_keys(files: TextArray, cells: TextArray, source: str) -> tuple[TextArray, TextArray]:
    """Return the names of the images and the cells of a table, both in that form in which most of them meet.

    Args:
        files: Paths below the root, [N].
        cells: Names or paths as the table has them, [M].
        source: Begins an error.

    Raises:
        LabelAssembleError: The table names by its file alone an image of which there are several.
    """
    written = pd.Series(cells.astype(object)).str.strip().str.replace("\\", "/").str.removeprefix("./")
    there = pd.Series(files.astype(object))
    best: tuple[int, pd.Series, pd.Series] | None = None
    for part in (r"^", r"^.*/"):
        for ending in (r"$^", r"\.[A-Za-z]\w*$"):
            ours, theirs = (
                column.str.replace(part, "", regex=True).str.replace(ending, "", regex=True)
                for column in (there, written)
            )
            met = int(theirs[theirs != ""].isin(set(ours)).sum())
            if best is None or met > best[0]:
                best = met, ours, theirs
    assert best is not None
    _, ours, theirs = best
    several = ours[ours.duplicated(keep=False) & ours.isin(set(theirs))]
    if len(several):
        paths = there[ours == several.iloc[0]].tolist()
        raise LabelAssembleError(
            f"{source}: the file '{several.iloc[0]}' of the labels is {' and '.join(paths[:2])}: give paths below the "
            "root"
        )
    return text_array(ours.tolist()), text_array(theirs.tolist())
