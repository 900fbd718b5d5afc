"""From a folder or a table to the source that reads it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Final, Literal

from labelassemble.data.readers.csv import SPLIT_CELLS
from labelassemble.data.readers.folders import IMAGE_ENDINGS, DatasetFolder
from labelassemble.data.stacks import npz_names
from labelassemble.data.volumes import is_nifti_name
from labelassemble.errors import LabelAssembleError, did_you_mean
from labelassemble.init.columns import Uses, guess_uses, is_split
from labelassemble.init.datasets import recognise
from labelassemble.init.describe_columns import describe_columns
from labelassemble.init.image_paths import TRIED, found_below, found_images
from labelassemble.init.mask_patterns import is_dicom_file
from labelassemble.init.profile import read_columns
from labelassemble.init.proposal import Proposal
from labelassemble.init.volumes import propose_case_table, propose_volumes
from labelassemble.init.write_table import OneHot, write_class_folders, write_one_hot

_TABLES: Final = (".csv", ".csv.gz", ".tsv", ".tsv.gz", ".tab", ".parquet")
_DICOM: Final = (".dcm", ".dicom")
_FEW: Final = 5

Ask = Callable[[str, str], str]
"""Asks a question that has a default; where nobody can be asked, returns the default."""


@dataclass(frozen=True)
class Answers:
    """What the user said beforehand.

    Attributes:
        name: of the source.
        columns: the column that is the `path`, `patient`, `split` or `label`; "" for none.
        classes: the columns that are classes, or of a folder of DICOM files the classes to label.
        root: the folder that the paths of images start at.
        labels: the table of labels of a folder of DICOM files.
        others: what a finding is that a row, or a folder's name, does not name.
        overwrite: whether a table that is made may replace a file.
    """

    name: str
    columns: Mapping[str, str]
    classes: tuple[str, ...] = ()
    root: Path | None = None
    labels: Path | None = None
    others: Literal["negative", "unknown"] = "negative"
    overwrite: bool = False


def propose(data: Path, answers: Answers, ask: Ask, beside: Path) -> Proposal:
    """Return the source that reads `data`.

    Args:
        data: a folder or a file.
        answers: what is known beforehand.
        ask: asks what is left.
        beside: the configuration; a table that has to be written is put beside it.

    Raises:
        LabelAssembleError: it is nothing that a reader reads; the sentence says what to do.
    """
    if not data.exists():
        raise LabelAssembleError(
            f"{data} does not exist: give a folder of images, or a table (.csv, .parquet)"
        )
    if data.is_file():
        return _file(data, answers, ask, beside)
    volumes = propose_volumes(data, answers.name)
    if volumes is not None:
        return volumes
    known = recognise(data, answers.name)
    if known is not None:
        found = Proposal({"name": answers.name})
        found.add("reader", known.reader, f"{len(known.table.paths)} images")
        found.add("root", data)
        if known.labels:
            found.add(
                "labels", list(known.labels), "names of the labels 0, 1, ..., which the archives do not say"
            )
        if known.classes:
            found.add(
                "classes",
                list(answers.classes or known.classes),
                "the commonest; add others",
            )
        return found
    return _folder(data, answers, ask, beside)


def _file(data: Path, answers: Answers, ask: Ask, beside: Path) -> Proposal:
    if data.name.lower().endswith((*_TABLES, ".txt")):
        return _table(data, answers, ask, beside)
    if data.suffix.lower() == ".npz" and "train_images" in npz_names(data):
        found = Proposal({"name": answers.name})
        found.add("reader", "medmnist", "the set is told by the file's name; else `dataset`")
        found.add("path", data)
        return found
    if data.suffix.lower() == ".tar":
        return _shards(data, answers)
    raise LabelAssembleError(
        f"{data} is no table (.csv, .tsv, .txt, .parquet), MedMNIST archive (.npz) or WebDataset shard (.tar): give "
        "one of them, or the folder of the images"
    )


def _shards(shards: Path, answers: Answers) -> Proposal:
    found = Proposal({"name": answers.name})
    found.add("reader", "webdataset")
    found.add("shards", shards)
    return found


def _folder(data: Path, answers: Answers, ask: Ask, beside: Path) -> Proposal:
    """Return the source of a folder that is no published dataset."""
    folder = DatasetFolder(answers.name, data)
    files = [f"{place.path}{file}" for place in folder.folders for file in place.files]
    tables = [data / file for file in files if file.lower().endswith(_TABLES)]
    images = [file for file in files if file.lower().endswith(IMAGE_ENDINGS)]
    if any(file.lower().endswith(_DICOM) for file in images) or (
        not (images or tables) and any(is_dicom_file(data / file) for file in files[:TRIED])
    ):
        return _dicom(data, tables, answers, beside)
    own = [table for table in tables if table.resolve() != beside.with_suffix(".csv").resolve()]
    of_images = [table for table in own if _names_files(table, answers)]
    if own and not of_images:
        masked = propose_volumes(data, answers.name) or propose_volumes(data, answers.name, slices=True)
        if masked is not None:
            used = masked.values.get("path")
            left = [str(table) for table in own if table != used]
            if left:
                masked.remarks.append(
                    f"{', '.join(left[:_FEW])}: no column names an image, so the table is left out"
                    if len(left) == 1
                    else f"{len(left)} tables name no image and are left out: {', '.join(left[:_FEW])}"
                )
            return masked
    own = of_images or own
    if len(own) == 1:
        return _table(own[0], answers, ask, beside)
    if own:
        names = ", ".join(str(table) for table in own[:_FEW])
        raise LabelAssembleError(
            f"{data} holds {len(own)} tables ({names}): give the one that is meant instead of the folder"
        )
    archives = [data / file for file in files if file.lower().endswith(".npz")]
    medmnist = [archive for archive in archives if "train_images" in npz_names(archive)]
    if len(medmnist) == 1:
        return _file(medmnist[0], answers, ask, beside)
    if archives:
        names = ", ".join(str(archive) for archive in archives[:_FEW])
        raise LabelAssembleError(
            f"{data} holds {len(archives)} archives ({names}): give the one that is meant"
        )
    shards = [file for file in files if file.lower().endswith(".tar")]
    if shards:
        return _shards(data / PurePosixPath(shards[0]).parent / "*.tar", answers)
    slices = propose_volumes(data, answers.name, slices=True)
    if slices is not None:
        return slices
    if any(is_nifti_name(file) for file in files):
        raise LabelAssembleError(
            f"{data} holds volumes and no masks (whole numbers, in files or folders whose names say mask, seg or "
            "label): write the source by hand, with the reader `volumes`"
        )
    return _class_folders(data, images, answers, ask, beside)


def _names_files(table: Path, answers: Answers) -> bool:
    """Return whether a column of a table names files that are there; a table that cannot be read may."""
    if answers.columns.get("path"):
        return True
    try:
        columns, _ = read_columns(table)
    except LabelAssembleError:
        return True
    return any(
        found_images(table, column, answers.root) or found_below(table, column) for column in columns.values()
    )


def _dicom(data: Path, tables: Sequence[Path], answers: Answers, beside: Path) -> Proposal:
    labels = answers.labels or (tables[0] if len(tables) == 1 else None)
    if labels is None:
        raise LabelAssembleError(
            f"{data} holds DICOM files and {'no table' if not tables else f'{len(tables)} tables'}: name the table of "
            "their labels by --labels FILE (a column patient, study, accession, series or file, and a column per class)"
        )
    columns, rows = read_columns(labels)
    uses = guess_uses(columns, answers.columns)
    if not (answers.classes or (uses.coding == "numbers" and uses.classes)):
        raise LabelAssembleError(
            f"{labels}: no column is a class (cells 1, 0, -1, -2 or blank): name them by --classes A,B"
        )
    found = Proposal({"name": answers.name})
    found.add("reader", "dicom", "patient, study and view come from the headers")
    found.add("root", data)
    found.add("labels", labels, f"{rows} rows; `join` says what a row is about where its columns do not")
    found.add("classes", list(answers.classes or uses.classes))
    found.hints.append("subgroups: [sex, age, view, scanner]    breaks the evaluation down")
    return found


def _class_folders(data: Path, images: Sequence[str], answers: Answers, ask: Ask, beside: Path) -> Proposal:
    """Return the source of images in folders named after classes, perhaps below folders named after splits."""
    rows = []
    for image in images:
        parts = PurePosixPath(image).parts[:-1]
        splits = [SPLIT_CELLS[part.lower()] for part in parts if SPLIT_CELLS.get(part.lower())]
        names = [part for part in parts if not SPLIT_CELLS.get(part.lower())]
        rows.append((image, names[-1] if names else "", splits[0] if splits else ""))
    if not any(split == "val" for _, _, split in rows):  # some of them are to be for it
        rows = [(image, name, "trainval" if split == "train" else split) for image, name, split in rows]
    names = sorted({name for _, name, _ in rows})
    if len(names) < 2 or "" in names:
        lying = f", {sum(not name for _, name, _ in rows)} of them in no folder" if rows else ""
        if names and "" not in names:
            lying = f" in one folder, '{names[0]}',"
        raise LabelAssembleError(
            f"{data} holds {len(rows)} images{lying} and no table of labels: put them into a folder per class, or give "
            "a table with a column of paths and a column per class"
        )
    target = _target(beside, None, answers)
    made = write_class_folders(rows, target)
    found = Proposal({"name": answers.name})
    found.add("reader", "csv", f"made of the folders of {data}: {len(rows)} images")
    found.add("path", target)
    found.add("root", data, "the paths in the table start here")
    found.add("classes", list(made.classes))
    others = ask(
        "An image in the folder of one class is for the other classes (negative, unknown)", answers.others
    )
    _blank(found, others, "the folder of another class")
    _tell_unlabelled(found, made, "images", target)
    if not any(split for _, _, split in rows):
        found.hints.append(
            "no folder says train, val or test: `split: {val: 0.1, test: 0.2}` divides the images"
        )
    found.remarks.append(
        "nothing says which images are of one patient: they may come to both sides of a split, which makes results "
        f"look better than they are; add a column 'patient' to {target} if they are known"
    )
    return found


def _blank(found: Proposal, others: str, what: str) -> None:
    if others not in ("negative", "unknown"):
        near = did_you_mean(others, ("negative", "unknown"))
        raise LabelAssembleError(f"what is not named must be negative or unknown, got '{others}'{near}")
    meaning = "nobody looked for it" if others == "unknown" else "it was looked for and is not there"
    found.add(
        "blank",
        others,
        f"of an image in {what}: {meaning}; say `{'unknown' if others == 'negative' else 'negative'}` if that is wrong",
    )


def _table(table: Path, answers: Answers, ask: Ask, beside: Path) -> Proposal:
    columns, rows = read_columns(table)
    for use, name in answers.columns.items():
        if name and name not in columns:
            raise LabelAssembleError(
                f"{table}: no column '{name}' (--{use}-column){did_you_mean(name, columns)}"
            )
    there = {
        name: place
        for name, column in columns.items()
        if (place := found_images(table, column, answers.root))
    }
    uses = guess_uses(columns, answers.columns, there)
    if uses.path is not None and uses.path not in there and answers.root is None:
        place = found_below(table, columns[uses.path])
        there.update({} if place is None else {uses.path: place})
    cases = propose_case_table(table, columns, uses, answers.root or table.parent, answers.name)
    if cases is not None:
        return cases
    given = {
        "path": ask("The column with the path of each image", uses.path or ""),
        "patient": ask("The column with the patient of each image (- for none)", uses.patient or "-").strip(
            "-"
        ),
        "split": ask("The column with train, val or test (- for none)", uses.split or "-").strip("-"),
    }
    if given["path"] not in columns:
        raise LabelAssembleError(
            f"{table}: no column names the images: say which by --path-column (of {', '.join(list(columns)[:30])})"
        )
    if given["path"].lower().endswith(IMAGE_ENDINGS):
        raise LabelAssembleError(
            f"{table}: the first line must name the columns, such as path,patient,Edema; got '{given['path']}'"
        )
    for name in given.values():
        if name and name not in columns:
            raise LabelAssembleError(f"{table}: no column '{name}'{did_you_mean(name, columns)}")
    uses = guess_uses(columns, {**answers.columns, **given}, there)
    if uses.split is not None and not is_split(columns[uses.split]):
        odd = next(cell for cell in columns[uses.split].values if cell.lower() not in SPLIT_CELLS)
        raise LabelAssembleError(
            f"{table}, column '{uses.split}': a split must be train, val, test, trainval or blank, got '{odd}'"
        )
    if answers.classes:
        for name in answers.classes:
            if name not in columns:
                raise LabelAssembleError(
                    f"{table}: no column '{name}' (--classes){did_you_mean(name, columns)}"
                )
        uses = replace(uses, classes=answers.classes, coding="numbers")
    if not uses.classes:
        raise LabelAssembleError(
            f"{table}: no column holds labels (1, 0, -1, -2 or blank, or the name of a class): name one by "
            "--label-column, or columns by --classes A,B"
        )
    root, ending = there.get(given["path"], (answers.root or table.parent, ""))
    found = _described(table, uses, ending, root, beside, answers, ask)
    missing = given["path"] not in there
    if missing:
        shown = next(iter(columns[given["path"]].filled()), "")
        root_key = "set `root` to the folder that its paths start at"
        how = "folders in it must be separated by / instead of \\" if "\\" in shown else root_key
        found.remarks.append(
            f"no image of column '{given['path']}' was found below {root}, such as {shown}: {how}"
        )
    if uses.patient is None:
        found.remarks.append(
            "no column says which images are of one patient: they may come to both sides of a split, which makes "
            "results look better than they are (--patient-column names it)"
        )
    found.remarks += [
        f"column '{name}' is not taken as a class, since a cell of it is '{cell}' (1, 0, -1, -2, blank, yes or no "
        "would do): mend it, or name the columns by --classes"
        for name, cell in list(uses.refused.items())[:_FEW]
    ]
    describe_columns(found, columns, uses, rows, converted=found.values["path"] != table)
    return found


def _described(
    table: Path, uses: Uses, ending: str, root: Path, beside: Path, answers: Answers, ask: Ask
) -> Proposal:
    """Return the source of a table as it is, or of one that is made of it where the reader cannot read that."""
    found = Proposal({"name": answers.name})
    if uses.coding == "numbers" and not ending:
        found.add("reader", "parquet" if table.suffix.lower() == ".parquet" else "csv")
        found.add("path", table)
        found.add("root", root, "the paths of the images start here")
        found.add("path_column", uses.path or "", "the path of each image")
        found.add("patient_column", uses.patient or "", "images of one patient stay on one side of a split")
        found.add("split_column", uses.split or "", 'train, val, test; "" divides by `split`')
        found.add("classes", list(uses.classes))
        return found
    target = _target(beside, table, answers)
    made = write_one_hot(table, uses, lambda cells: _paths(cells, root, ending), target)
    found.add("reader", "csv", f"made of {table.name}, with a column per class")
    found.add("path", target)
    found.add("root", root, "the paths of the images start here")
    found.add(
        "patient_column",
        "patient" if uses.patient else "",
        "images of one patient stay on one side of a split",
    )
    found.add("split_column", "split" if uses.split else "", 'train, val, test; "" divides by `split`')
    found.add("classes", list(made.classes))
    if uses.coding in ("label", "list"):
        others = ask("A class that a row does not name is (negative, unknown)", answers.others)
        _blank(found, others, "a row that names another class")
    _tell_unlabelled(found, made, "rows", target)
    return found


def _tell_unlabelled(found: Proposal, made: OneHot, what: str, target: Path) -> None:
    for rows, said, meaning in ((made.denied, "no", "negative"), (made.uncertain, "unclear", "uncertain")):
        if rows:
            found.remarks.append(f"{what} that say {said}: {rows}; every class is {meaning} there")
    if made.unlabelled:
        found.remarks.append(
            f"{what} that name no class: {made.unlabelled}; every class is unknown there (NA in {target}), write 0 "
            "where it is known that there is none"
        )


def _paths(cells: list[str], root: Path, ending: str) -> list[str]:
    return [f"{cell}{ending}" for cell in cells]


def _target(beside: Path, table: Path | None, answers: Answers) -> Path:
    """Return the CSV to write: called as the configuration, but never the table itself."""
    target = beside.with_suffix(".csv")
    if table is not None and target.resolve() == table.resolve():
        target = beside.with_suffix(".labels.csv")
    if target.exists() and not answers.overwrite:
        raise LabelAssembleError(
            f"{target} is there already: add --overwrite, or choose another file with --output"
        )
    return target
