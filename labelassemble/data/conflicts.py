"""Which rows became one, and which labels contradict each other: the frames of the assembly's report."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from labelassemble.data.derivation import Contradiction
from labelassemble.data.duplicates import Duplicates, Merged, image_codes
from labelassemble.data.report import row_frame
from labelassemble.data.states import NEGATIVE, POSITIVE, UNKNOWN
from labelassemble.data.table import Table
from labelassemble.data.text import first_rows


def duplicate_frames(table: Table, found: Duplicates, merged: Merged) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the report's frames of duplicates and of conflicts."""
    code, count = image_codes(found.image)
    first = first_rows(code, count)[code]
    gone = np.flatnonzero(first != np.arange(len(table)))
    duplicates = row_frame(table, kept=first[gone], merged=gone)
    left, right = found.alike[:, 0], found.alike[:, 1]
    given = np.where(table.assumed, np.int8(UNKNOWN), table.labels) if len(found.alike) else table.labels
    against = np.abs(given[left] - given[right]) == 1
    against &= (given[left] >= NEGATIVE) & (given[right] >= NEGATIVE)
    pair, column = np.nonzero(against)
    is_left = given[left[pair], column] == POSITIVE
    positive = np.concatenate([merged.conflicts[:, 0], np.where(is_left, left[pair], right[pair])])
    negative = np.concatenate([merged.conflicts[:, 1], np.where(is_left, right[pair], left[pair])])
    conflicts = row_frame(table, positive=positive, negative=negative)
    columns = np.concatenate([merged.conflicts[:, 2], column])
    conflicts.insert(0, "class", [table.classes[index] for index in columns])
    image, of_class = code[merged.conflicts[:, 0]], merged.conflicts[:, 2]
    drawn = merged.labels[image, of_class] == POSITIVE  # what a mask shows counts
    results = ["the mask counts" if one else "uncertain" for one in drawn]
    conflicts["result"] = results + ["both kept"] * len(pair)
    return duplicates, conflicts


def contradiction_conflicts(table: Table, found: Sequence[Contradiction]) -> pd.DataFrame:
    """Return a conflict for each image that is negative for a class which another of its labels implies."""
    rows = np.concatenate([np.empty(0, dtype=np.int64), *(item.rows for item in found)])
    frame = row_frame(table, positive=rows, negative=rows)
    frame.insert(0, "class", [item.implied for item in found for _ in item.rows])
    frame["result"] = [f"uncertain, implied by {item.by}" for item in found for _ in item.rows]
    return frame


def exclusion_conflicts(table: Table, clashes: NDArray[np.int64]) -> pd.DataFrame:
    """Return a conflict for each pair of positive labels of one image that exclude each other: both stay."""
    frame = row_frame(table, positive=clashes[:, 0], negative=clashes[:, 0])
    frame.insert(0, "class", [table.classes[column] for column in clashes[:, 1]])
    frame["result"] = [f"both kept, excluded by {table.classes[column]}" for column in clashes[:, 2]]
    return frame
