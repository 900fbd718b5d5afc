"""Arrays of text: building, hashing and grouping them without a Python loop over the rows."""

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

_FNV_PRIME = np.uint64(0x100000001B3)
_FNV_OFFSET = np.uint64(0xCBF29CE484222325)
_HASH_ROWS = 1 << 17  # rows hashed at once: the temporaries stay in the cache


def text_array(values: Iterable[str]) -> NDArray[np.str_]:
    """Return `values` as a numpy array of text [N] (dtype U1 where there is none)."""
    return np.array(values if isinstance(values, (list, tuple)) else list(values), dtype=np.str_)


def constant_text(value: str, rows: int) -> NDArray[np.str_]:
    """Return `value` repeated `rows` times, [rows]."""
    return np.full(rows, value, dtype=f"U{max(1, len(value))}")


def concatenate_text(parts: Sequence[NDArray[np.str_]]) -> NDArray[np.str_]:
    """Return the arrays of text one after the other; none gives an empty array, a single one itself."""
    if len(parts) == 1:
        return parts[0]
    return np.concatenate(parts) if parts else text_array([])


def _mix(value: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Splitmix64's finaliser: every input bit reaches every output bit."""
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))


def _code_points(values: NDArray[np.str_]) -> NDArray[np.uint32]:
    """Return the texts as numpy stores them: code points [N, width], zeros behind the end."""
    native = np.ascontiguousarray(values, dtype=f"=U{max(1, values.dtype.itemsize // 4)}")
    return native.view(np.uint32).reshape(len(native), native.dtype.itemsize // 4)


def contains(values: NDArray[np.str_], character: str) -> bool:
    """Return whether `character` stands in any of the texts."""
    return bool((_code_points(values) == ord(character)).any())


def text_hash(values: NDArray[np.str_], seed: int = 0) -> NDArray[np.uint64]:
    """Return a 64-bit hash of each text, [N]: the same on every machine and for every width of the array.

    FNV-1a over the code points, then splitmix64's finaliser; numpy stores text as rows of code points padded with
    zeros, so whole columns are hashed at once.
    """
    points = _code_points(values)
    start = _mix(_FNV_OFFSET + np.array([seed % (1 << 64)], dtype=np.uint64))[0]
    result = np.empty(len(points), dtype=np.uint64)
    for first in range(0, len(points), _HASH_ROWS):
        block = points[first : first + _HASH_ROWS]
        state = np.full(len(block), start, dtype=np.uint64)
        for column in range(block.shape[1]):
            point = block[:, column].astype(np.uint64)
            state = np.where(point != 0, (state ^ point) * _FNV_PRIME, state)
        result[first : first + _HASH_ROWS] = _mix(state)
    return result


def text_codes(values: NDArray[np.str_]) -> tuple[NDArray[np.str_], NDArray[np.int64]]:
    """Return (distinct texts in order of first appearance, code of each row into them [N]).

    Works on 64-bit hashes; two of 5 million distinct texts share one with a probability below 1e-6.
    """
    code, distinct = pd.factorize(text_hash(values))
    return values[first_rows(code, len(distinct))], code


def first_rows(code: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Return the first row of each of `count` codes, [count]; `code` [N] must hold each of them."""
    first = np.empty(count, dtype=np.int64)
    first[code[::-1]] = np.arange(len(code) - 1, -1, -1)  # of several writes to one place the last one stays
    return first


def uniform_hash(values: NDArray[np.str_], seed: int) -> NDArray[np.float64]:
    """Return a number in [0, 1) for each text, [N], uniform over texts and fixed by (seed, text)."""
    return (text_hash(values, seed) >> np.uint64(11)).astype(np.float64) * 2.0**-53
