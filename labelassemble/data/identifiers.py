"""Identifiers of patients, studies and images: the one rule by which two spellings mean the same.

The rule, for an identifier or for what stands behind its last ":" (`origin:7`):

1. Spaces around it do not count.
2. A whole number is the same number however it is written: `13`, `0013`, `13.0` (pandas writes a column with a gap so)
   and `1.3E+01`. Nothing else is changed: `P007` and `P7` are two identifiers.
3. A word that says that there is none (`PLACEHOLDERS`) is blank. So is 0, -1 or a row of nines that stands on more than
   ten rows and on more than twice as many as any other identifier.

`ids` of a source says how much of it holds; see `IdRule`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from labelassemble.data.text import TextArray, text_array, text_codes

IdRule: TypeAlias = Literal["auto", "numbers", "text", "exact"]
"""How identifiers are compared: "auto", by the whole rule, but it is an error where that makes one of several that a
single source writes differently; "numbers", by the whole rule; "text", spaces and placeholders only, so that leading
zeros count; "exact", as they are written."""

PLACEHOLDERS: Final = (
    *(
        "unknown",
        "unk",
        "unbekannt",
        "keine angabe",
        "k.a.",
        "inconnu",
        "desconocido",
        "sin dato",
        "sconosciuto",
        "onbekend",
        "no data",
        "pending",
        "(null)",
        "#nv",
        "[]",
        "undefined",
        "unspecified",
        "not known",
        "not available",
        "not applicable",
        "not given",
    ),
    *(
        "missing",
        "none",
        "null",
        "nil",
        "nan",
        "na",
        "n/a",
        "n.a.",
        "#n/a",
        "#na",
        "<na>",
        "nat",
        "none given",
    ),
    *(
        "anonymous",
        "anonym",
        "anonymized",
        "anonymised",
        "anon",
        "no id",
        "no patient",
        "empty",
        "blank",
        "tbd",
    ),
    *("-", "--", "---", "?", "??", "???", ".", "_", "*", "unknown patient", "no name"),
)
"""The words, in lower case, that stand where an identifier is missing."""

_WORDS: Final = "|".join(
    "".join(f"\\{c}" if not c.isalnum() and c != " " else c for c in word) for word in PLACEHOLDERS
)
_WHOLE: Final = r"^((?:.*:)?)(-?)0*(\d+)(?:\.0*)?$"
_EXPONENT: Final = r"^(?P<before>(?:.*:)?)(?P<first>\d)(?:\.(?P<rest>\d*))?[eE](?P<power>\+\d{1,2}|\d{1,2})$"
_MARKED: Final = (
    r"(\.\d+[eE]|\+)\d+$"  # "12e5" may be a name in hexadecimal digits: a point or a plus is needed
)
_SPACE: Final = r"[\s\pZ\pC]"  # all that Python calls a space, and marks that are not seen
_AROUND: Final = rf"^{_SPACE}+|{_SPACE}+$"
_ODD_SPACES: Final = rf"^{_SPACE}|{_SPACE}$|:{_SPACE}"
_ODD_WORDS: Final = rf"(?i:(^|:)({_WORDS})$)"
_ODD_NUMBERS: Final = r"(^|:)-?0\d|\d\.0*$|(^|:)\d(\.\d*)?[eE]\+?\d+$"
_CODES: Final = ("0", "-1", *("9" * count for count in range(3, 13)))
_CODE_ROWS: Final = 10


@dataclass(frozen=True)
class PlainIds:
    """Identifiers after the rule.

    Attributes:
        values: Text [N], "" where there is none.
        blanked: How many rows each placeholder stood on, as it is written.
        alike: Spellings of a number that the source writes in several ways, by the number; no more than three numbers.
        alike_count: How many numbers those are.
        shortened: Rows whose number is written with an exponent and without its last digits.
        shortened_example: One of them, as it is written.
    """

    values: TextArray
    blanked: Mapping[str, int] = field(default_factory=dict)
    alike: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    alike_count: int = 0
    shortened: int = 0
    shortened_example: str = ""


def plain_ids(values: TextArray, rule: IdRule = "auto") -> PlainIds:
    """Return identifiers, text [N], by the rule at the head of this file."""
    if rule == "exact" or not len(values):
        return PlainIds(values)
    array = _arrow(values)
    pattern = f"{_ODD_SPACES}|{_ODD_WORDS}" + ("" if rule == "text" else f"|{_ODD_NUMBERS}")
    odd = pc.match_substring_regex(array, pattern)
    rows = np.flatnonzero(odd.to_numpy(zero_copy_only=False))
    if not len(rows):
        return _without_codes(PlainIds(values))
    written, code = text_codes(values[rows])
    trimmed = pc.replace_substring_regex(_arrow(written), _AROUND, "")
    trimmed = pc.replace_substring_regex(trimmed, f":{_SPACE}+", ":")
    words = pc.utf8_lower(pc.replace_substring_regex(trimmed, "^.*:", ""))
    blank = pc.is_in(words, pa.array(PLACEHOLDERS, pa.large_string())).to_numpy(zero_copy_only=False)
    plain = trimmed
    short = np.zeros(len(written), dtype=np.bool_)
    if rule != "text":
        plain, short = _numbers(plain)
    plain = pc.if_else(pa.array(blank), "", plain)
    counts = np.bincount(code, minlength=len(written))
    blanked = {str(written[index]): int(counts[index]) for index in np.flatnonzero(blank)}
    result = text_array(pc.replace_with_mask(array, odd, plain.take(pa.array(code))))
    others = values[~odd.to_numpy(zero_copy_only=False)]
    alike, alike_count = _alike(trimmed, plain, others) if rule == "auto" else ({}, 0)
    return _without_codes(
        PlainIds(
            result,
            blanked,
            alike,
            alike_count,
            int(counts[short].sum()),
            str(written[int(np.argmax(short))]) if short.any() else "",
        )
    )


def plain_keys(values: TextArray) -> TextArray:
    """Return identifiers, text [N], as two tables are joined by them: spaces and ways of writing a number aside."""
    return plain_ids(values, "numbers").values


def trimmed(values: TextArray) -> TextArray:
    """Return texts, [N], without the spaces around them."""
    array = _arrow(values)
    if not pc.any(pc.match_substring_regex(array, f"^{_SPACE}|{_SPACE}$")).as_py():
        return values
    return text_array(pc.replace_substring_regex(array, _AROUND, ""))


def _arrow(values: TextArray) -> pa.Array:
    array = values.__arrow_array__()
    return array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array


def _numbers(texts: pa.Array) -> tuple[pa.Array, NDArray[np.bool_]]:
    """Return whole numbers written in one way, text [D], and which of them have lost their last digits, bool [D]."""
    plain = pc.replace_substring_regex(texts, _WHOLE, r"\1\2\3")
    parts = pc.extract_regex(texts, _EXPONENT)
    marked = pc.match_substring_regex(texts, _MARKED)
    found = np.flatnonzero(pc.and_(pc.is_valid(parts), marked).to_numpy(zero_copy_only=False))
    short = np.zeros(len(texts), dtype=np.bool_)
    if not len(found):
        return plain, short
    parts = parts.take(pa.array(found))
    rest, power = parts.field("rest"), pc.cast(pc.utf8_ltrim(parts.field("power"), "+"), pa.int64())
    short[found] = pc.less(pc.utf8_length(rest), power).to_numpy(zero_copy_only=False)
    rest = pc.utf8_rtrim(rest, "0")
    zeros = pc.subtract(power, pc.utf8_length(rest))
    whole = pc.greater_equal(zeros, 0).to_numpy(zero_copy_only=False)
    digits = pc.binary_join_element_wise(
        parts.field("first"),
        rest,
        pc.binary_repeat(pa.scalar("0", pa.large_string()), pc.max_element_wise(zeros, 0)),
        pa.scalar("", pa.large_string()),
    )
    digits = pc.replace_substring_regex(digits, "^0+(.)", r"\1")
    numbers = pc.binary_join_element_wise(parts.field("before"), digits, pa.scalar("", pa.large_string()))
    mask = np.zeros(len(texts), dtype=np.bool_)
    mask[found[whole]] = True
    return pc.replace_with_mask(plain, pa.array(mask), numbers.filter(pa.array(whole))), short & mask


def _alike(written: pa.Array, plain: pa.Array, others: TextArray) -> tuple[dict[str, tuple[str, ...]], int]:
    """Return the spellings of numbers that are written in several ways, in `written` or also among `others`.

    Args:
        written: Spellings, spaces around them removed, text [D].
        plain: What they are by the rule, text [D].
        others: Identifiers that the rule leaves as they are, text [M].

    Returns:
        The spellings of the first three of them by number, and how many there are.
    """
    keys, key = text_codes(text_array(plain))
    spellings, spelling = text_codes(text_array(written))
    of_key, own_spelling = np.divmod(np.unique(key * len(spellings) + spelling), len(spellings))
    is_plain = np.zeros(len(keys), dtype=np.bool_)
    is_plain[key[pc.equal(written, plain).to_numpy(zero_copy_only=False)]] = True
    found = pc.unique(others.__arrow_array__().filter(pc.is_in(others.__arrow_array__(), _arrow(keys))))
    among = keys.isin(found.to_pylist()) & ~is_plain
    several = (np.bincount(of_key, minlength=len(keys)) + among > 1) & (keys != "")
    alike = {}
    for index in np.flatnonzero(several)[:3]:
        own = [str(spellings[item]) for item in own_spelling[of_key == index]]
        alike[str(keys[index])] = (*own, str(keys[index])) if among[index] else tuple(own)
    return alike, int(several.sum())


def _without_codes(ids: PlainIds) -> PlainIds:
    """Return the identifiers with a code for "missing" (0, -1, 999) made blank where it is on far too many rows."""
    candidates = ids.values.isin(list(_CODES))
    if not candidates.any():
        return ids
    names, code = text_codes(ids.values)
    counts = np.bincount(code, minlength=len(names))
    is_code = names.isin(list(_CODES))
    largest = int(counts[~is_code & (names != "")].max(initial=0))
    wrong = is_code & (counts > max(_CODE_ROWS, 2 * largest))
    if not wrong.any() or not largest:
        return ids
    blanked = dict(ids.blanked) | {str(names[i]): int(counts[i]) for i in np.flatnonzero(wrong)}
    values = text_array(pc.if_else(pa.array(wrong[code]), "", _arrow(ids.values)))
    return PlainIds(values, blanked, ids.alike, ids.alike_count, ids.shortened, ids.shortened_example)
