"""COVIDx CXR (Wang, Lin, Wong, Scientific Reports 2020; CXR-2 and later) as its publisher ships it."""

import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Final, Literal, NamedTuple, Self

import numpy as np
import pyarrow as pa

from labelassemble.data.csvfile import Chunk, CsvFile, shown
from labelassemble.data.new_table import new_table
from labelassemble.data.readers.folders import DatasetFolder
from labelassemble.data.readers.found import FoundImages
from labelassemble.data.readers.options import FilePath, TabularOptions
from labelassemble.data.states import NEGATIVE, POSITIVE, UNKNOWN
from labelassemble.data.subgroups import published
from labelassemble.data.table import Table
from labelassemble.data.text import text_array
from labelassemble.errors import LabelAssembleError, did_you_mean

_BINARY: Final[dict[str, tuple[int, ...]]] = {"positive": (int(POSITIVE),), "negative": (int(NEGATIVE),)}
# a COVID-19 image of the three-class form is not said to show pneumonia, nor that it shows none
_THREE: Final[dict[str, tuple[int, ...]]] = {
    "covid-19": (int(POSITIVE), int(UNKNOWN)),
    "pneumonia": (int(NEGATIVE), int(POSITIVE)),
    "normal": (int(NEGATIVE), int(NEGATIVE)),
}
# the first release of all divides pneumonia in two
_FOUR: Final = _THREE | {"bacteria": _THREE["pneumonia"], "viral": _THREE["pneumonia"]}
_LABELS: Final = frozenset(_BINARY | _FOUR)
_COLUMNS: Final = {
    "patient": ("patient_id", "patient id", "patientid"),
    "file": ("filename", "file_name", "image"),
    "label": ("class", "label", "finding"),
    "origin": ("source", "data_source", "data source"),
}
_WORDS: Final = ("patient", "file", "class", "origin")
_SUBGROUPS: Final = published(origin="origin|source|data_source|data source")
_SPLITS: Final = ("train", "val", "test")
_LIST: Final = re.compile(
    r"(train|val|test)(?:_(COVIDx\w*(?:-\w+)?|split(?:_v\d+)?))?\.(txt|csv|csv\.gz)", re.IGNORECASE
)
_LAYOUTS: Final = "train/, val/ and test/, at any depth below the root"


class _Row(NamedTuple):
    path: Path
    place: Callable[[], str]
    patient: str
    file: str
    label: str
    origin: str
    about: tuple[str, ...]  # the columns of subgroups


class CovidxSource(TabularOptions):
    """The folder with the lists `train.txt`, `test.txt` and, from CXR-4 on, `val.txt`, and the images in `train/` etc.

    The lists of the publisher's repository are read too (`labels/train_COVIDx9B.txt` ...), one release of them. A line
    is "patient file class origin", in releases 1 to 5 without the origin; patient and file may have spaces in them: the
    files that are there say where the one ends, else the file is the last word. The lists may also be CSV files with a
    header (`train.csv` ...). Classes: positive and negative of COVID-19 (form B), or normal, pneumonia and COVID-19
    (form A), which label Pneumonia too. Without a `val` list, train is divided into train and val by patient; a
    patient's id counts within its origin. Images are found in whatever folders below the root they lie.

    Attributes:
        root: The folder.
        release: Which lists are read where there are several: "9B" or "COVIDx9B" for `train_COVIDx9B.txt`.
    """

    reader: Literal["covidx"] = "covidx"
    root: FilePath
    release: str | None = None

    def resolved(self, base: Path) -> Self:
        """Return the source with its paths made absolute, starting at the folder `base`."""
        return self.model_copy(update={"root": base / self.root})

    def read(self, subgroups: Sequence[str] = ()) -> Table:
        """Return the table of the folder, with those `subgroups` that its lists have; "origin" is one.

        Raises:
            LabelAssembleError: A list is missing or breaks the format; with file and line.
        """
        folder = DatasetFolder(self.name, self.root)
        lists = self._lists(folder)
        images = FoundImages(folder, parts=_SPLITS)
        words: dict[str, tuple[int, ...]] = {}
        paths, names, patients, origins, splits, labels = [], [], [], [], [], []
        subgroup_cells = self.subgroup_cells(subgroups)
        for split, path in lists.items():
            columns = subgroup_cells.columns(_header(path), str(path), _SUBGROUPS)
            also = tuple(dict.fromkeys(item.column for item in columns.values()))
            about: list[tuple[str, ...]] = []
            open_split = "trainval" if split == "train" and "val" not in lists else split
            for row in _rows(path, images, also):
                word = row.label.lower()
                words = words or (_BINARY if word in _BINARY else _FOUR)
                if word not in words:
                    named = list(_THREE if words is _FOUR else words)
                    raise LabelAssembleError(
                        f"{row.path}, {row.place()}: a class must be {' or '.join(named)}, got {shown(row.label)}"
                        f"{did_you_mean(row.label, named)}"
                    )
                if not row.file or row.file.startswith("/") or ".." in row.file.split("/"):
                    raise LabelAssembleError(
                        f"{row.path}, {row.place()}: must name a file below {split}/, got {shown(row.file)}"
                    )
                names.append(f"{split}/{row.file}")
                paths.append(f"{folder.root}/{images.find(row.file, split) or names[-1]}")
                patients.append(row.patient)
                origins.append(row.origin)
                splits.append(open_split)
                labels.append(words[word])
                about.append(row.about)
            subgroup_cells.add(_chunk(path, also, about), columns)
        first = next(iter(lists.values())).name
        classes = ("COVID-19",) if words is _BINARY else ("COVID-19", "Pneumonia")
        return new_table(
            classes,
            paths=images.settled(text_array(paths), text_array(names), first, _LAYOUTS),
            names=names,
            labels=np.array(labels, dtype=np.int8).reshape(-1, len(classes)),
            sources=self.name,
            groups=_groups(patients, origins),
            splits=splits,
            subgroups=subgroup_cells.take(),
            notes=subgroup_cells.notes(),
            files=list(lists.values()),
        )

    def _lists(self, folder: DatasetFolder) -> dict[str, Path]:
        """Return the lists of one release by split: the nearest to the root, `train.txt` before any with a release."""
        for depth in sorted({place.depth for place in folder.folders}):
            releases: dict[tuple[str, str], dict[str, Path]] = {}
            for place in folder.folders:
                if place.depth == depth:
                    for file in sorted(place.files, key=_plain_text_last):
                        found = _LIST.fullmatch(file)
                        if found is not None:
                            key = (place.path, found[2] or "")
                            releases.setdefault(key, {})[found[1].lower()] = folder.root / place.path / file
            if releases:
                return self._release(releases, folder)
        raise folder.no_table("COVIDx", ("train.txt", "test.txt", "train_COVIDx9B.txt"))

    def _release(
        self, releases: dict[tuple[str, str], dict[str, Path]], folder: DatasetFolder
    ) -> dict[str, Path]:
        wanted = None if self.release is None else self.release.lower().removeprefix("covidx").lstrip("_")
        chosen = {
            key: lists
            for key, lists in releases.items()
            if wanted is None or key[1].lower().removeprefix("covidx").lstrip("_") == wanted
        }
        if not chosen:
            near = did_you_mean(str(self.release), [release for _, release in releases])
            raise LabelAssembleError(
                f"source '{self.name}', release: {folder.root} has no lists of the release '{self.release}'{near}"
            )
        if wanted is None:
            plain = {key: lists for key, lists in chosen.items() if not key[1]}
            graded = {key: lists for key, lists in chosen.items() if key[1].lower() != "covidxsev"}
            chosen = plain or graded or chosen
        files = [str(path.relative_to(folder.root)) for lists in chosen.values() for path in lists.values()]
        if len(chosen) > 1:
            one = len({release for _, release in chosen}) == 1
            advice = (
                "set `root` to the folder of those that are meant" if one else "say which with `release: 9B`"
            )
            raise LabelAssembleError(
                f"source '{self.name}': {', '.join(files)} in {folder.root} are lists of several "
                f"{'folders' if one else 'releases'}: {advice}"
            )
        ((_, release), lists), *_ = chosen.items()
        if release.lower() == "covidxsev":
            raise LabelAssembleError(
                f"source '{self.name}': {', '.join(files)} grade how severe COVID-19 is (COVIDxSev), which this reader "
                "does not read"
            )
        for split in ("train", "test"):
            if split not in lists:
                other = "" if not release else f" beside {files[0]}"
                end = f"_{release}" if release else ""
                raise LabelAssembleError(
                    f"source '{self.name}': {folder.root} has no {split}{end}.txt and no {split}{end}.csv{other}"
                )
        return {split: lists[split] for split in _SPLITS if split in lists}


def _plain_text_last(file: str) -> int:
    """Return the order in which files of one list are met; the last wins."""
    return {"gz": 0, "csv": 1, "txt": 2}.get(file.rpartition(".")[2].lower(), 3)


def _groups(patients: list[str], origins: list[str]) -> list[str]:
    """Return `origin:patient` of each image; a line without an origin is of the one origin that has the patient."""
    known: dict[str, set[str]] = {}
    for patient, origin in zip(patients, origins, strict=True):
        if origin:
            known.setdefault(patient, set()).add(origin)
    groups = []
    for patient, origin in zip(patients, origins, strict=True):
        of_patient = known.get(patient, set())
        origin = origin or (next(iter(of_patient)) if len(of_patient) == 1 else "")
        groups.append(f"{origin}:{patient}" if origin else patient)
    return groups


def _header(path: Path) -> tuple[str, ...]:
    """Return the columns of a list."""
    if path.suffix.lower() == ".txt":
        return _WORDS
    with CsvFile(path) as file:
        return file.header


def _chunk(path: Path, columns: Sequence[str], rows: Sequence[tuple[str, ...]]) -> Chunk:
    """Return rows as a block with the named columns."""
    by_column = zip(*rows, strict=True) if rows else [()] * len(columns)
    arrays = {
        name: pa.array(cells, pa.large_string()) for name, cells in zip(columns, by_column, strict=True)
    }
    return Chunk(path, {"(row)": pa.nulls(len(rows)), **arrays}, "row {}".format)


def _rows(path: Path, images: FoundImages, also: Sequence[str]) -> Iterator[_Row]:
    return _text_rows(path, images, also) if path.suffix.lower() == ".txt" else _csv_rows(path, also)


def _text_rows(path: Path, images: FoundImages, also: Sequence[str]) -> Iterator[_Row]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise LabelAssembleError(f"{path}: cannot be read ({error})") from None
    for number, line in enumerate(lines, start=1):
        words = line.split()
        if not words:
            continue
        # releases 1 to 5 leave the origin out, some of them only in the test list
        with_origin = len(words) > 3 and not (
            words[-1].lower() in _LABELS and words[-2].lower() not in _LABELS
        )
        ending = 2 if with_origin else 1
        head = line.strip().rsplit(None, ending)[0]
        readings = [(head[: gap.start()], head[gap.end() :]) for gap in re.finditer(r"\s+", head)]
        if len(words) < 3 or not readings:
            raise LabelAssembleError(
                f"{path}, line {number}: must be 'patient file class origin' (the origin may be left out), "
                f"got {shown(line)}"
            )
        there = [reading for reading in readings if images.has(reading[1])] if len(readings) > 1 else readings
        if len(there) > 1:
            raise LabelAssembleError(
                f"{path}, line {number}: {' and '.join(shown(file) for _, file in there)} are both there, so the line "
                "has two readings: rename one of them"
            )
        patient, file = there[0] if there else readings[-1]
        label, origin = words[-ending], words[-1] if with_origin else ""
        said = dict(zip(_WORDS, (patient, file, label, origin), strict=True))
        about = tuple(said[name] for name in also)
        yield _Row(path, partial("line {}".format, number), patient, file, label, origin, about)


def _csv_rows(path: Path, also: Sequence[str]) -> Iterator[_Row]:
    with CsvFile(path) as file:
        by_name = {column.lower(): column for column in file.header}
        uses = {}
        for use, spellings in _COLUMNS.items():
            found = [by_name[name] for name in spellings if name in by_name]
            if not found:
                raise LabelAssembleError(
                    f"{path}, line 1: no column '{spellings[0]}', got {', '.join(file.header)}"
                )
            uses[use] = found[0]
        for chunk in file.chunks(tuple(dict.fromkeys((*uses.values(), *also)))):
            columns = [chunk.cells(uses[use]) for use in ("patient", "file", "label", "origin")]
            columns += [chunk.cells(name) for name in also]
            for row, (patient, name, label, origin, *about) in enumerate(zip(*columns, strict=True)):
                yield _Row(path, partial(chunk.place, row), patient, name, label, origin, tuple(about))
