"""Joining two tables by the identifiers of what they describe: how many meet is said, too few are an error."""

from typing import Final

import pyarrow.compute as pc

from labelassemble.data.csvfile import Chunk
from labelassemble.data.identifiers import plain_keys
from labelassemble.data.table import WARNING
from labelassemble.data.text import TextArray, joined_text
from labelassemble.errors import LabelAssembleError

LEAST_SHARE: Final = 0.5
"""At least this share of the smaller table's identifiers must be in the other one."""
_WHOLE_SHARE: Final = 0.99


def keys_of(chunk: Chunk, column: str) -> TextArray:
    """Return a column of identifiers as tables are joined by them, text [rows]; see `plain_keys`."""
    return plain_keys(joined_text([chunk.columns[column]]))


def join_note(
    source: str, what: str, left: TextArray, left_name: str, right: TextArray, right_name: str
) -> str:
    """Return a sentence on how many identifiers of two tables meet, a warning where more than 1 % of the left do not.

    Args:
        source: The name of the source whose tables they are.
        what: What they identify, in the plural: "studies".
        left: The identifiers of the table that needs the other one, as they are written, text [N].
        left_name: What it is called, such as its file's name.
        right: The identifiers that it looks for, as they are written, text [M].
        right_name: What that table is called.

    Raises:
        LabelAssembleError: Fewer than `LEAST_SHARE` of the smaller table's identifiers are in the other one.
    """
    ours, theirs = left.unique(), right.unique()
    keys, others = plain_keys(ours), plain_keys(theirs)
    ours, keys = ours[keys != ""], keys[keys != ""]  # a placeholder meets nothing
    theirs, others = theirs[others != ""], others[others != ""]
    there = keys.isin(others.tolist())
    found, count, count_right = (len(ids.unique()) for ids in (keys[there], keys, others))
    if found == count:
        return f"all {count} {what} of {left_name} are in {right_name}, which has {count_right}"
    stray = theirs[~others.isin(keys.tolist())]
    example = f"such as '{ours[~there][0]}'" + (f" against '{stray[0]}'" if len(stray) else "")
    missing = f"{count - found} of {count} {what} of {left_name} have no row in {right_name}, {example}"
    if found < LEAST_SHARE * min(count, count_right):
        if not found:
            missing = f"none of the {count} {what} of {left_name} has a row in {right_name}, {example}"
        raise LabelAssembleError(
            f"source '{source}': {missing}: at least {LEAST_SHARE:.0%} of the {what} of the smaller table must be in "
            f"the other one (are the two of one release, and their ids written alike?)"
        )
    return missing if found > _WHOLE_SHARE * count else f"{WARNING}{missing}"


def forms(ids: TextArray) -> set[str]:
    """Return the forms in which identifiers are written: "a" for letters, "9" for digits, other marks as they are."""
    form = pc.replace_substring_regex(ids.__arrow_array__(), r"\d+", "9")
    return set(pc.unique(pc.replace_substring_regex(form, r"\pL+", "a")).to_pylist())
