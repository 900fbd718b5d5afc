"""Joining two tables by the identifiers of what they describe: how many meet is said, too few are an error."""

from typing import Final

import numpy as np
import pandas as pd
import pyarrow.compute as pc

from labelassemble.data.csvfile import Chunk
from labelassemble.data.identifiers import IdRule, plain_ids, plain_keys
from labelassemble.data.table import WARNING
from labelassemble.data.text import TextArray, joined_text, text_array
from labelassemble.errors import LabelAssembleError

LEAST_SHARE: Final = 0.5
"""At least this share of the smaller table's identifiers must be in the other one."""
_WHOLE_SHARE: Final = 0.99


def keys_of(chunk: Chunk, column: str) -> TextArray:
    """Return a column of identifiers as tables are joined by them, text [rows]; see `plain_keys`."""
    return plain_keys(joined_text([chunk.columns[column]]))


def join_note(
    source: str,
    what: str,
    left: TextArray,
    left_name: str,
    right: TextArray,
    right_name: str,
    rule: IdRule = "numbers",
) -> str:
    """Return a sentence on how many identifiers of two tables meet, a warning where more than 1 % of the left do not.

    Args:
        source: The name of the source whose tables they are.
        what: What they identify, in the plural: "studies".
        left: The identifiers of the table that needs the other one, as they are written, text [N].
        left_name: What it is called, such as its file's name.
        right: The identifiers that it looks for, as they are written, text [M].
        right_name: What that table is called.
        rule: How the identifiers are compared.

    Raises:
        LabelAssembleError: Fewer than `LEAST_SHARE` of the smaller table's identifiers are in the other one.
    """
    ours, theirs = left.unique(), right.unique()
    keys, others = plain_ids(ours, rule).values, plain_ids(theirs, rule).values
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


def matched_keys(
    source: str, what: str, left: TextArray, left_name: str, right: TextArray, right_name: str
) -> tuple[TextArray, TextArray]:
    """Return two columns of identifiers in such spellings, [N] and [M], that those that meet are the same text.

    Spaces around an identifier do not count and a placeholder is blank. The text decides first: `12` meets `12` though
    there is a `0012`. Only an identifier whose text is not in the other table is compared as a number, and only where
    each table writes that number in one way.

    Args:
        source: The name of the source, for an error.
        what: What they identify, in the plural: "studies".
        left: The identifiers of the table that needs the other one, as they are written, text [N].
        left_name: What it is called.
        right: The identifiers that it looks for, as they are written, text [M].
        right_name: What that table is called.

    Raises:
        LabelAssembleError: A number that must be compared is written in several ways by one of the tables.
    """
    ours, theirs = (
        pd.DataFrame(
            {
                "text": plain_ids(ids, "text").values.astype(object),
                "number": plain_keys(ids).astype(object),
            }
        )
        for ids in (left, right)
    )
    for side in (ours, theirs):
        side.loc[side["number"] == "", "text"] = ""
    spellings = [side[side["text"] != ""].drop_duplicates() for side in (ours, theirs)]
    # the distinct identifiers of the left that only their number can find in the right table
    alone = spellings[0][~spellings[0]["text"].isin(spellings[1]["text"])]
    alone = alone[alone["number"].isin(spellings[1]["number"])]
    for side, name in zip(spellings, (left_name, right_name), strict=True):
        several = side[side["number"].duplicated(keep=False) & side["number"].isin(alone["number"])]
        if len(several):
            number = several["number"].iloc[0]
            written = several["text"][several["number"] == number].tolist()
            stray = alone["text"][alone["number"] == number].iloc[0]
            there = spellings[1]["text"][spellings[1]["number"] == number].iloc[0]
            raise LabelAssembleError(
                f"source '{source}': {name} has {what} '{written[0]}' and '{written[1]}', which are one number, so "
                f"whether '{stray}' of {left_name} is '{there}' of {right_name} cannot be told: write them alike in "
                "both, or set `ids: text` (they are two) or `ids: numbers` (they are one)"
            )
    spelling = spellings[1].drop_duplicates("number").set_index("number")["text"]
    by_number = ours["text"].isin(alone["text"]).to_numpy()
    keys = np.where(by_number, ours["number"].map(spelling).to_numpy(), ours["text"].to_numpy())
    return text_array(keys.tolist()), text_array(theirs["text"].tolist())


def forms(ids: TextArray) -> set[str]:
    """Return the forms in which identifiers are written: "a" for letters, "9" for digits, other marks as they are."""
    form = pc.replace_substring_regex(ids.__arrow_array__(), r"\d+", "9")
    return set(pc.unique(pc.replace_substring_regex(form, r"\pL+", "a")).to_pylist())
