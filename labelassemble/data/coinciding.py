"""Patient ids that two registers have in common, though nobody said that they mean the same patients.

The same patients under two names of a register end up in training and test, and nothing shows it. But ids coincide by
themselves where both number their patients 1, 2, 3, ..., so the rule asks for more than chance:

1. Ids that end with a number are taken as what stands before it and the number. Of those with the same words before, as
   many are expected in both as meet when one side's numbers are moved by one, two or three steps either way (a step is
   the largest number that divides all distances), or as two draws from their range would have in common, whichever
   is more.
2. Other ids are not expected in both.
3. Where the number in both is so large that a Poisson variable of that expectation reaches it with a probability below
   `CHANCE`, they coincide.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from labelassemble.data.text import TextArray, arrow_text, text_array

CHANCE: Final = 1e-3

Numbers = NDArray[np.int64]

_KNOWN: Final = "^[^:/]+:."  # register:patient; an image without a patient is source/name
_SHIFTS: Final = (-3, -2, -1, 1, 2, 3)
_DIGITS: Final = 18  # more do not fit a 64-bit number


@dataclass(frozen=True)
class Coincidence:
    """Ids that two registers have in common.

    Attributes:
        count: how many.
        examples: three of them at most.
        sizes: how many patients each of the two has.
        expected: how many ids of independent registers would coincide, at least.
        by_chance: chance may give as many.
    """

    count: int
    examples: tuple[str, ...]
    sizes: tuple[int, int]
    expected: float
    by_chance: bool

    def sentence(self, first: str, second: str) -> str:
        """Return what is found, without what to do about it and without a full stop."""
        those = "id is" if self.count == 1 else "ids are"
        chance = "none" if self.expected < 0.05 else f"about {self.expected:.2g}"
        if self.by_chance:
            chance = "as many"
        return (
            f"{self.count} patient {those} in both '{first}' ({self.sizes[0]} patients) and '{second}' "
            f"({self.sizes[1]}), such as {', '.join(self.examples)}, where chance would give {chance}"
        )


def patients_by_register(groups: TextArray) -> Mapping[str, TextArray]:
    """Return the ids of a table's known patients by register, each once."""
    distinct = arrow_text(groups).unique()
    known = distinct.filter(pc.match_substring_regex(distinct, _KNOWN))
    names = pc.replace_substring_regex(known, "(?s):.*$", "").unique().to_pylist()
    return {
        name: text_array(
            pc.utf8_slice_codeunits(known.filter(pc.starts_with(known, f"{name}:")), len(name) + 1)
        )
        for name in names
    }


def coinciding(first: TextArray, second: TextArray) -> Coincidence | None:
    """Return the ids that two registers have in common, None where that may be chance; see `shared_ids`."""
    found = shared_ids(first, second)
    return None if found is None or found.by_chance else found


def shared_ids(first: TextArray, second: TextArray) -> Coincidence | None:
    """Return the ids that two registers have in common and whether that may be chance, by the rule above.

    Args:
        first: ids of the patients of one, each once, text [N].
        second: those of the other, likewise.

    Returns:
        None without an id in common.
    """
    left, right = arrow_text(first), arrow_text(second)
    shared = left.filter(pc.is_in(left, right))
    if not len(shared):
        return None
    from scipy.special import pdtrc  # the upper tail of a Poisson variable; few assemblies need it

    ours, theirs = _numbers(left), _numbers(right)
    pairs = [(ours[before], theirs[before]) for before in ours if before in theirs]
    expected, by_chance = 0.0, False
    for chance in (_by_range, _by_steps):  # the second takes longer
        expected = max(expected, sum(chance(*pair) for pair in pairs))
        by_chance = bool(pdtrc(len(shared) - 1, expected) >= CHANCE)
        if by_chance:
            break
    examples = tuple(f"'{item}'" for item in shared[:3].to_pylist())
    return Coincidence(len(shared), examples, (len(left), len(right)), expected, by_chance)


def _by_range(ours: Numbers, theirs: Numbers) -> float:
    """Return how many numbers two independent draws from the range of both would have in common."""
    places = max(ours[-1], theirs[-1]) - min(ours[0], theirs[0]) + 1
    return len(ours) * len(theirs) / (int(places) / _step(ours, theirs))


def _by_steps(ours: Numbers, theirs: Numbers) -> float:
    """Return how many numbers meet when one side is moved by some steps."""
    step = _step(ours, theirs)
    moved = (ours + shift * step for shift in _SHIFTS)
    met = [theirs[np.minimum(np.searchsorted(theirs, n), len(theirs) - 1)] == n for n in moved]
    return float(np.mean([np.count_nonzero(own) for own in met]))


def _step(ours: Numbers, theirs: Numbers) -> int:
    """Return the largest number that divides all distances; 1 where there is none."""
    first = np.gcd.reduce(ours - ours[0])
    return int(np.gcd(first, np.gcd.reduce(theirs - ours[0]))) or 1


def _numbers(ids: pa.Array) -> dict[str, Numbers]:
    """Return the numbers that ids end with, rising and each once, by what stands before them."""
    before = pc.utf8_rtrim(ids, "0123456789")
    digits = pc.subtract(pc.binary_length(ids), pc.binary_length(before))
    ends = pc.and_(pc.greater(digits, 0), pc.less_equal(digits, _DIGITS))
    ids, before = ids.filter(ends), before.filter(ends)
    plain = pc.equal(before, "")
    texts = ids
    if not pc.all(plain).as_py():
        texts = pc.if_else(plain, ids, pc.replace_substring_regex(ids, "(?s)^.*[^0-9]", ""))
    numbers = pd.Series(pc.cast(texts, pa.int64()).to_numpy())
    words = before.dictionary_encode()
    names = words.dictionary.to_pylist()
    parts = numbers.groupby(words.indices.to_numpy(), sort=False)
    return {names[code]: np.unique(part.to_numpy()) for code, part in parts}
