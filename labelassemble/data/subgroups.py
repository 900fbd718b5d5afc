"""Whom an image shows and how it was taken: sex, age, view and further columns, each in one spelling.

A cell that says nothing ("", "unknown", "n/a") and one that cannot be true (an age of 411 years) are both missing, "".
The latter are counted and shown, since they tell of a mistake in the file or in how it is read.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final, Literal, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import BaseModel, BeforeValidator, ConfigDict

from labelassemble.data.csvfile import Chunk, shown
from labelassemble.data.text import TextArray, checked_text, constant_text, joined_text
from labelassemble.errors import LabelAssembleError, did_you_mean

PREFIX: Final = "subgroup:"
"""What the name of a subgroup's column begins with in the file of a table."""
OLDEST: Final = 120
"""An age above this, in years, is taken for a mistake."""

AgeUnit: TypeAlias = Literal["years", "months", "weeks", "days"]
_PER_YEAR: Final[Mapping[AgeUnit, float]] = {
    "years": 1.0,
    "months": 12.0,
    "weeks": 365.25 / 7,
    "days": 365.25,
}
_UNITS: Final[Mapping[str, AgeUnit]] = {
    **{word: unit for unit in _PER_YEAR for word in (unit, unit[:-1], unit[0])},
    **{"yr": "years", "yrs": "years", "yo": "years", "mo": "months", "mos": "months", "wk": "weeks"},
}
_AGE: Final = re.compile(r">?\s*(\d+(?:\.\d*)?(?:e[+-]?\d+)?|\.\d+)\s*\+?\s*([a-z]*)")
_NOTHING: Final = frozenset(
    "|- -- ? . na n/a nan <na> none null unk unknown missing unspecified undefined".replace(" ", "|").split(
        "|"
    )
) | {"not known", "not available", "not recorded", "not specified", "not applicable"}
_SEXES: Final = {
    "m": "male",
    "male": "male",
    "man": "male",
    "f": "female",
    "female": "female",
    "woman": "female",
    "o": "other",  # as in DICOM PS3.3, C.7.1.1
    "other": "other",
    "u": "",
}
_VIEWS: Final = {
    "pa": "PA",
    "posteroanterior": "PA",
    "ap": "AP",
    "anteroposterior": "AP",
    "apsupine": "AP supine",
    "aphorizontal": "AP supine",  # PadChest's word
    "aperect": "AP erect",
    "apupright": "AP erect",
    "l": "lateral",
    "ll": "lateral",
    "rl": "lateral",
    "lat": "lateral",
    "lateral": "lateral",
    "leftlateral": "lateral",
    "rightlateral": "lateral",
    "frontal": "frontal",
}


def _with_text_keys(value: object) -> object:
    """Return a mapping with the keys that YAML took for numbers as text again."""
    return {str(key): item for key, item in value.items()} if isinstance(value, dict) else value


class SubgroupColumn(BaseModel):
    """Where a source has a subgroup.

    Attributes:
        column: The column of its table.
        values: What its cells mean where they are codes: {"1": male, "2": female}.
        unit: Of ages without a unit of their own.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    column: str
    values: Annotated[dict[str, str], BeforeValidator(_with_text_keys)] = {}
    unit: AgeUnit = "years"


def no_column(name: str) -> str:
    """Return what a source says that has no column for a subgroup."""
    return f"it has no column for the subgroup '{name}', so that is missing for each of its images"


def published(**columns: str) -> dict[str, tuple[SubgroupColumn, ...]]:
    """Return what `SubgroupCells.columns` takes: the publisher's columns of each subgroup, "|" between releases."""
    return {
        name: tuple(SubgroupColumn(column=column) for column in names.split("|"))
        for name, names in columns.items()
    }


def sex_of(cell: str) -> str | None:
    """Return "male", "female" or "other", "" where the cell says nothing; None for any other word or a code."""
    word = cell.strip().casefold()
    return "" if word in _NOTHING else _SEXES.get(word)


def age_of(cell: str, unit: AgeUnit = "years") -> str | None:
    """Return an age in years as text ("60", "1.5"), "" where the cell says nothing, None where it is no possible age.

    Args:
        cell: A number, with a unit or without: "60", "6.0e1", "060Y", "018M", "003W", "012D" (DICOM PS3.5, age
            string), "60 years", "90+".
        unit: Of a number without one.
    """
    word = cell.strip().casefold()
    if word in _NOTHING:
        return ""
    match = (
        _AGE.fullmatch(word) if len(word) < 40 else None
    )  # the spaces of a long cell would take it minutes
    if match is None or (match[2] and match[2] not in _UNITS):
        return None
    years = float(match[1]) / _PER_YEAR[_UNITS[match[2]] if match[2] else unit]
    return f"{years:.4g}" if years <= OLDEST else None


def view_of(cell: str) -> str:
    """Return "PA", "AP", "AP supine", "AP erect", "lateral", "frontal", or another projection as it is written."""
    word = cell.strip()
    if word.casefold() in _NOTHING:
        return ""
    return _VIEWS.get(re.sub(r"[\s_-]+", "", word.casefold()), word)


def text_of(cell: str) -> str:
    """Return any other subgroup as it is written, a whole number without its ".0"; "" where the cell says nothing."""
    word = cell.strip()
    if word.casefold() in _NOTHING:
        return ""
    return re.sub(r"\.0+$", "", word) if re.fullmatch(r"-?\d+\.0+", word) else word


def spelling(name: str, cell: str, column: SubgroupColumn) -> str | None:
    """Return how a cell of the subgroup `name` is spelt; see `sex_of`, `age_of`, `view_of` and `text_of`."""
    cell = column.values.get(text_of(cell), cell)
    kind = name.casefold()
    if kind == "age":
        return age_of(cell, column.unit)
    return {"sex": sex_of, "gender": sex_of, "view": view_of}.get(kind, text_of)(cell)


class SubgroupCells:
    """Collects the subgroups of a source's rows, block by block."""

    def __init__(self, wanted: Sequence[str], chosen: Mapping[str, SubgroupColumn]) -> None:
        """Take the names of the subgroups, and the columns that the configuration names for some of them."""
        self._wanted, self._chosen = tuple(wanted), chosen
        self._parts: dict[str, list[pa.Array | TextArray]] = {name: [] for name in wanted}
        self._refused: dict[str, dict[str, int]] = {name: {} for name in wanted}
        self._found: set[str] = set()

    def columns(
        self,
        header: Sequence[str],
        place: str,
        known: Mapping[str, Sequence[SubgroupColumn]] | None = None,
    ) -> dict[str, SubgroupColumn]:
        """Return where a file has the subgroups: in the chosen column, in the publisher's, or in one of the same name.

        Args:
            header: The file's columns.
            place: Where they stand, for errors.
            known: What the publisher calls the columns, in one release or another.

        Raises:
            LabelAssembleError: The file lacks a chosen column.
        """
        found = {}
        for name in self._wanted:
            if name in self._chosen and self._chosen[name].column not in header:
                column = self._chosen[name].column
                raise LabelAssembleError(
                    f"{place}: no column '{column}' (subgroup_columns: {name}){did_you_mean(column, header)}"
                )
            likely = [self._chosen[name]] if name in self._chosen else [*(known or {}).get(name, ())]
            likely += [
                SubgroupColumn(column=column) for column in header if column.casefold() == name.casefold()
            ]
            there = [column for column in likely if column.column in header]
            if there:
                found[name] = there[0]
        return found

    def add(
        self, chunk: Chunk, columns: Mapping[str, SubgroupColumn], keep: NDArray[np.bool_] | None = None
    ) -> None:
        """Append the rows of a block, all or those that `keep` marks; `columns` is what `self.columns` returned."""
        rows = len(chunk) if keep is None else int(np.count_nonzero(keep))
        for name in self._wanted:
            if name not in columns:
                self._parts[name].append(constant_text("", rows))
                continue
            self._found.add(name)
            cells, codes = chunk.distinct(columns[name].column)
            codes = codes if keep is None else codes[keep]
            spelt = [spelling(name, cell, columns[name]) for cell in cells]
            self._parts[name].append(
                pa.array([text or "" for text in spelt], pa.large_string()).take(pa.array(codes))
            )
            for code in (code for code, text in enumerate(spelt) if text is None):
                count = int(np.count_nonzero(codes == code))
                self._refused[name][cells[code]] = self._refused[name].get(cells[code], 0) + count

    def take(self) -> dict[str, TextArray]:
        """Return each subgroup whole, text [N], and forget the parts."""
        return {name: joined_text(self._parts.pop(name)) for name in self._wanted}

    def notes(self) -> tuple[str, ...]:
        """Return which cells were refused and which subgroups have no column, a sentence each."""
        told = []
        for name in self._wanted:
            if name not in self._found:
                told.append(no_column(name))
            refused = {cell: count for cell, count in self._refused[name].items() if count}
            if refused:
                most = sorted(refused, key=lambda cell: -refused[cell])[:3]
                told.append(
                    f"cells that are no {_POSSIBLE[name.casefold()]} count as missing, "
                    f"{sum(refused.values())} in all: "
                    + ", ".join(f"{shown(cell)} ({refused[cell]})" for cell in most)
                    + (f" and {len(refused) - len(most)} more" if len(refused) > len(most) else "")
                )
        return tuple(told)


_SEX_SAID: Final = "male, female or other (if they are codes, `subgroup_columns` says what they mean)"
_POSSIBLE: Final[Mapping[str, str]] = {
    "age": f"age from 0 to {OLDEST} years",
    "sex": _SEX_SAID,
    "gender": _SEX_SAID,
}


def checked_subgroups(values: Mapping[str, Any], rows: int) -> dict[str, TextArray]:
    """Return a table's subgroups as text [N] each.

    Raises:
        LabelAssembleError: A name that cannot head a column, or what is no text [N] with an entry per row.
    """
    checked = {}
    for name, column in values.items():
        if not name.strip() or name != name.strip() or any(mark in name for mark in "\n\r\0"):
            raise LabelAssembleError(
                f"the name of a subgroup must be one line without spaces around it, got {name!r}"
            )
        checked[name] = checked_text(column, f"Table: subgroup '{name}'")
        if len(checked[name]) != rows:
            raise LabelAssembleError(
                f"Table: subgroup '{name}' must have one entry per path ({rows}), got {len(checked[name])}"
            )
    return checked
