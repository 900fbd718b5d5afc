"""Which column of a table is the path, the patient, the split, and which are classes: by name and by what it holds."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias

from labelassemble.data.class_names import RESERVED_COLUMNS
from labelassemble.data.readers.csv import SPLIT_CELLS
from labelassemble.data.readers.folders import IMAGE_ENDINGS
from labelassemble.data.readers.label_cells import NUMBER_CELLS, UNKNOWN_CELLS
from labelassemble.init.profile import Column

Coding: TypeAlias = Literal["numbers", "words", "label", "list"]
"""How a table writes labels: a column per class in numbers or in words, one class per row, or a list of findings."""

_PATH: Final = (
    *("path", "filepath", "file", "filename", "imagepath", "image", "imagefile", "imagename", "imageindex"),
    *("imageid", "img", "imgpath", "dicompath", "dicomfile", "dicomid", "sopinstanceuid"),
)
_PATIENT: Final = (
    *("patient", "patientid", "patientno", "patientnumber", "subject", "subjectid", "mrn", "pid", "person"),
    *(
        "personid",
        "patientenid",
        "patientennummer",
        "patientennr",
        "patientnr",
        "patnr",
        "patid",
        "pseudonym",
    ),
    *("case", "caseid", "fallnummer", "fallnr", "lesionid", "group"),
)
_SPLIT: Final = ("split", "set", "subset", "partition", "phase", "usage", "setid", "fold")
_LABEL: Final = (
    *(
        "label",
        "labels",
        "findinglabels",
        "findings",
        "finding",
        "class",
        "classes",
        "classname",
        "diagnosis",
    ),
    *("diagnoses", "dx", "disease", "pathology", "category", "target", "tumor"),
)
_SUBGROUPS: Final = {
    **dict.fromkeys(("sex", "gender", "patientsex", "patientgender", "geschlecht", "sexe", "sexo"), "sex"),
    **dict.fromkeys(("age", "patientage", "alter", "edad"), "age"),
    **dict.fromkeys(("view", "viewposition", "projection"), "view"),
}
_NO_CLASS: Final = frozenset(
    [
        "index",
        "row",
        "number",
        "no",
        "followup",
        "frame",
        "slice",
        "fold",
        "view",
        "visit",
        "time",
        "patientexact",
        "count",
        "laterality",
        "id",
    ]
)
_NUMBERS: Final = NUMBER_CELLS | {"", *UNKNOWN_CELLS}
WORDS: Final[Mapping[str, str]] = {
    **{cell: cell[:-2] if cell.endswith((".0", ",0")) else cell for cell in NUMBER_CELLS},
    **dict.fromkeys(("yes", "y", "true", "positive", "pos", "present", "ja", "oui", "si", "sí"), "1"),
    **dict.fromkeys(("no", "n", "false", "negative", "neg", "absent", "nein", "non"), "0"),
    **dict.fromkeys(("uncertain", "unclear", "unklar", "equivocal", "indeterminate"), "-2"),
    **dict.fromkeys(("unknown", "unk", "n/a", "na", "nan", "<na>", "?", ""), ""),
}
"""What a cell of a class means, in lower case: 1, 0, -1, -2 or blank."""


_LETTERS: Final = 2
SAID: Final[Mapping[str, str]] = {
    word: state
    for word, state in WORDS.items()
    if state in ("1", "0", "-2") and word.isalpha() and len(word) >= _LETTERS
}
"""What a word says where the names of classes are expected; a letter alone may well be such a name."""


@dataclass(frozen=True)
class Uses:
    """What the columns of a table are for; None or () where there is no such column.

    Attributes:
        path, patient, split: names of columns.
        classes: the columns that are classes, or the one that holds labels.
        coding: how these write labels.
        subgroups: the name of a subgroup and its column.
        refused: columns that would be classes but for one of their cells, and the commonest such cell of each.
    """

    path: str | None
    patient: str | None
    split: str | None
    classes: tuple[str, ...]
    coding: Coding
    subgroups: Mapping[str, str]
    refused: Mapping[str, str] = field(default_factory=dict)


def plain(name: str) -> str:
    """Return a column's name without case and marks."""
    return re.sub("[^a-z0-9]", "", name.lower())


def guess_uses(columns: Mapping[str, Column], given: Mapping[str, str], there: Collection[str] = ()) -> Uses:
    """Return what the columns are for.

    Args:
        columns: of the table.
        given: what the user said: `path`, `patient`, `split` or `label`, each with the column's name; "" is none.
        there: columns of which cells name files that exist.
    """
    path = given.get("path") or _path(columns, there)
    patient = given["patient"] if "patient" in given else _named(columns, _PATIENT, {path})
    split = given["split"] if "split" in given else _split(columns)
    taken = {path, patient, split}
    subgroups: dict[str, str] = {}
    for name in columns:
        wanted = _SUBGROUPS.get(plain(name))
        if wanted is not None and wanted not in subgroups and name not in taken:
            subgroups[wanted] = name
    taken |= set(subgroups.values())
    free = {
        name: column
        for name, column in columns.items()
        if name not in taken and plain(name) not in _NO_CLASS and name.lower() not in RESERVED_COLUMNS
    }
    classes, coding = _classes(free, columns, given.get("label"))
    refused = {} if coding in ("label", "list") and classes else _refused(free, classes)
    return Uses(path or None, patient or None, split or None, classes, coding, subgroups, refused)


def is_split(column: Column) -> bool:
    """Return whether every cell of the column can stand in a split column."""
    return (
        column.whole and bool(column.filled()) and all(cell.lower() in SPLIT_CELLS for cell in column.values)
    )


def _path(columns: Mapping[str, Column], there: Collection[str]) -> str | None:
    images = [name for name, column in columns.items() if _names_images(column)]
    for candidates in ([name for name in columns if name in there], images, list(columns)):
        found = _named({name: columns[name] for name in candidates}, _PATH, ())
        if found is not None:
            return found
        if candidates and len(candidates) < len(columns):
            return candidates[0]
    return None


def _names_images(column: Column) -> bool:
    cells = column.filled()
    images = sum(cell.lower().endswith(IMAGE_ENDINGS) for cell in cells)
    return images > 0.9 * len(cells) > 0


def _named(columns: Mapping[str, Column], words: Sequence[str], taken: Collection[str | None]) -> str | None:
    by_word = {plain(name): name for name in reversed(list(columns)) if name not in taken}
    return next((by_word[word] for word in words if word in by_word), None)


def _split(columns: Mapping[str, Column]) -> str | None:
    fitting = {name: column for name, column in columns.items() if is_split(column)}
    named = _named(fitting, _SPLIT, ())
    return named or next((name for name in fitting if plain(name).endswith("split")), None)


def _classes(
    free: Mapping[str, Column], columns: Mapping[str, Column], label: str | None
) -> tuple[tuple[str, ...], Coding]:
    """Return the columns that are classes and how they write labels; `free` are those without another use."""
    found = tuple(
        name
        for name, column in free.items()
        if column.whole
        and any(WORDS.get(cell.lower()) for cell in column.filled())
        and all(cell.lower() in WORDS for cell in column.values)
    )
    if found and label is None:
        cells = {cell for name in found for cell in columns[name].values}
        return found, "numbers" if cells <= _NUMBERS else "words"
    texts = {name: column for name, column in free.items() if len(column.filled()) > 1}
    if label is not None and _says_yes_or_no(columns[label]):
        return (label,), "words"
    chosen = label or _named({name: c for name, c in texts.items() if c.whole or _is_list(c)}, _LABEL, ())
    if chosen is None:
        return (), "label"
    return (chosen,), "list" if _is_list(columns[chosen]) else "label"


def _says_yes_or_no(column: Column) -> bool:
    """Return whether every cell says whether there is a finding, in words and numbers, some of them in words."""
    cells = {cell.lower() for cell in column.values}
    return column.whole and cells <= WORDS.keys() and any(cell in SAID for cell in cells)


def _refused(free: Mapping[str, Column], classes: Collection[str]) -> dict[str, str]:
    """Return the columns that are no classes though most of their cells could stand in one, with a cell that cannot."""
    found = {}
    for name, column in free.items():
        if name in classes or not column.whole:
            continue
        odd = {cell: count for cell, count in column.values.items() if cell.lower() not in WORDS}
        known = sum(count for cell, count in column.values.items() if WORDS.get(cell.lower()))
        if odd and known > sum(odd.values()):
            found[name] = max(odd, key=lambda cell: odd[cell])
    return found


def _is_list(column: Column) -> bool:
    return any(mark in cell for cell in column.values for mark in "|;")
