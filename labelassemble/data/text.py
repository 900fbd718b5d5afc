"""Columns of text: pandas strings that Arrow stores, and a hash of them that never changes."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from labelassemble.errors import LabelAssembleError

if TYPE_CHECKING:

    class TextArray(Sequence[str]):
        """The type of pandas' string arrays, whose own annotations do not say that comparing them gives a mask."""

        def __eq__(self, other: object) -> NDArray[np.bool_]: ...  # type: ignore[override]
        def __ne__(self, other: object) -> NDArray[np.bool_]: ...  # type: ignore[override]
        def __add__(self, other: "str | TextArray") -> "TextArray": ...
        def __radd__(self, other: str) -> "TextArray": ...
        def __getitem__(self, rows: Any) -> Any: ...
        def __len__(self) -> int: ...
        def isin(self, values: Sequence[str]) -> NDArray[np.bool_]: ...
        def astype(self, dtype: type[object]) -> NDArray[np.object_]: ...
        def __arrow_array__(self) -> pa.Array | pa.ChunkedArray: ...
        def tolist(self) -> list[str]: ...
        def unique(self) -> "TextArray": ...
        @property
        def nbytes(self) -> int: ...

else:
    TextArray: TypeAlias = pd.arrays.ArrowStringArray
    """Text [N]: indexed by masks and by row numbers, compared with ``==`` and ``!=``, iterated over as str."""

_TEXT: Final = pd.StringDtype("pyarrow", na_value=np.nan)
_ROWS_AT_ONCE: Final = 1 << 16
_FNV_PRIME = np.uint64(0x100000001B3)
_FNV_OFFSET = np.uint64(0xCBF29CE484222325)


def text_array(values: Iterable[str] | NDArray[Any] | TextArray) -> TextArray:
    """Return `values` as text [N].

    Raises:
        TypeError, ValueError: They are no text [N].
        LabelAssembleError: A NUL character, which no CSV holds.
        UnicodeError: One of them has no UTF-8 form, such as the name of a file in another encoding.
    """
    if isinstance(values, pd.arrays.ArrowStringArray) and values.dtype == _TEXT:
        return cast(TextArray, values)
    array = pa.array(values, pa.large_string())
    if array.null_count:
        raise TypeError(f"{array.null_count} texts are missing")
    if pc.any(pc.match_substring(array, "\0")).as_py():
        raise LabelAssembleError("a text must not contain NUL characters")
    return _of_arrow(array)


def read_only(values: TextArray) -> TextArray:
    """Return a view of text [N] whose items cannot be set (pandas 3; 2.3 has no such text)."""
    view = cast(Any, values).view()
    view._readonly = True
    return cast(TextArray, view)


def checked_text(values: Any, what: str) -> TextArray:
    """Return `values` as text [N]; `what` they are begins an error.

    Raises:
        LabelAssembleError: They are no text [N], or hold what a UTF-8 file cannot.
    """
    try:
        return text_array(values)
    except LabelAssembleError as error:
        raise LabelAssembleError(f"{what}: {error}") from None
    except UnicodeError:
        odd = next(str(value) for value in values if str(value).encode(errors="ignore").decode() != value)
        raise LabelAssembleError(f"{what} must be text that can be written as UTF-8, got {odd!r}") from None
    except (TypeError, ValueError):
        found = np.asarray(values)
        raise LabelAssembleError(f"{what} must be text [N], got {found.dtype} {list(found.shape)}") from None


def joined_text(parts: Sequence[pa.Array | TextArray]) -> TextArray:
    """Return the columns one after the other; one alone is not copied."""
    if len(parts) == 1 and not isinstance(parts[0], pa.Array):
        return parts[0]
    chunks: list[pa.Array] = []
    for part in parts:
        array = part if isinstance(part, pa.Array) else part.__arrow_array__()
        chunks += array.chunks if isinstance(array, pa.ChunkedArray) else [array]
    whole = pa.chunked_array([chunk.cast(pa.large_string()) for chunk in chunks], pa.large_string())
    return _of_arrow(whole.combine_chunks())


def arrow_text(values: TextArray) -> pa.Array:
    """Return text [N] as one Arrow array, as a block of a table has it."""
    array = values.__arrow_array__()
    return array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array


def _of_arrow(array: pa.Array | pa.ChunkedArray) -> TextArray:
    return cast(TextArray, pd.array(array, dtype=_TEXT))


def constant_text(value: str, rows: int) -> TextArray:
    """Return `value` repeated `rows` times."""
    return _of_arrow(pa.repeat(pa.scalar(value, pa.large_string()), rows))


def text_codes(values: TextArray) -> tuple[TextArray, NDArray[np.int64]]:
    """Return (distinct texts in order of first appearance, code of each row into them [N])."""
    if len(values) > 1 and values[0] == values[-1] and (values == values[0]).all():  # a fifth of hashing them
        return values[:1], np.zeros(len(values), dtype=np.int64)
    codes, distinct = pd.factorize(cast(Any, values))
    return cast(TextArray, distinct), codes.astype(np.int64, copy=False)


def text_numbers(values: TextArray) -> NDArray[np.int64]:
    """Return the codes of `text_codes` [N] without the texts: of millions of them in a third of its memory."""
    if len(values) < _ROWS_AT_ONCE:
        return text_codes(values)[1]
    starts = range(0, len(values), _ROWS_AT_ONCE)
    blocks = [slice(start, start + _ROWS_AT_ONCE) for start in starts]
    hashes = np.concatenate(
        [pd.util.hash_array(values[block].astype(object), categorize=False) for block in blocks]
    )
    codes, distinct = pd.factorize(hashes)
    codes = codes.astype(np.int64, copy=False)
    again = first_rows(codes, len(distinct))[
        codes
    ]  # the row that has this row's text first, if hashes do not lie
    for block in blocks:
        rows = (
            np.flatnonzero(again[block] != np.arange(block.start, min(block.stop, len(values)))) + block.start
        )
        if (values[rows] != values[again[rows]]).any():  # two texts with one hash of 64 bits
            return text_codes(values)[1]
    return codes


def first_rows(code: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Return the first row of each of `count` codes, [count]; `code` [N] must hold each of them."""
    first = np.empty(count, dtype=np.int64)
    first[code[::-1]] = np.arange(len(code) - 1, -1, -1)  # of several writes to one place the last one stays
    return first


def text_hash(values: TextArray, seed: int = 0) -> NDArray[np.uint64]:
    """Return a 64-bit hash of each text, [N]: FNV-1a over the code points, then splitmix64's finaliser.

    Splits and samples are drawn by it, so it must stay what it is: with another hash an image of an older run's test
    split could be trained on.
    """
    fixed = np.asarray(values, dtype=np.str_)
    points = fixed.view(np.uint32).reshape(
        len(fixed), fixed.itemsize // 4
    )  # rows of code points, zeros behind the end
    state = np.full(len(fixed), _mix(_FNV_OFFSET + np.array([seed % (1 << 64)], dtype=np.uint64))[0])
    for column in points.T:
        point = column.astype(np.uint64)
        state = np.where(point != 0, (state ^ point) * _FNV_PRIME, state)
    return _mix(state)


def uniform_numbers(values: TextArray, seed: int) -> NDArray[np.float64]:
    """Return a number in [0, 1) for each text, [N], uniform over texts and fixed by (seed, text)."""
    return (text_hash(values, seed) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _mix(value: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Splitmix64's finaliser: every input bit reaches every output bit."""
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))
