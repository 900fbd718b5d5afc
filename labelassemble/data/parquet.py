"""Parquet: a user's labels, and a table written and read back the same."""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from labelassemble.data.csvfile import Chunk, missing_column
from labelassemble.errors import LabelAssembleError

_CHUNK_ROWS: Final = 1 << 14
_EXACT: Final = {2: (2**11, 2), 4: (2**24, 6), 8: (2**53, 14)}
"""By bytes of a floating-point number: up to where it counts exactly, and the digits behind the point that it holds."""


class ParquetFile:
    """A Parquet file opened for one pass, its values as the cells that a CSV would have.

    Null and NaN are blank, True and False are 1 and 0, a whole number has no ".0" though its column may have gaps.

    Attributes:
        path: The file.
        header: The names of its columns.
    """

    def __init__(self, path: Path) -> None:
        """Open the file.

        Raises:
            LabelAssembleError: It is missing or damaged.
        """
        self.path = path
        try:
            self._file = pq.ParquetFile(path)
        except (pa.ArrowException, OSError) as error:
            raise LabelAssembleError(f"{path}: cannot be read as Parquet ({_sentence(error)})") from None
        self.header: tuple[str, ...] = tuple(self._file.schema_arrow.names)
        for index, column in enumerate(self.header):
            if "\n" in column or "\r" in column:
                raise LabelAssembleError(
                    f"{path}: the name of a column must not hold a line break, got {column!r}"
                )
            if column in self.header[:index]:
                raise LabelAssembleError(f"{path}: the column '{column}' stands twice")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def require(self, column: str, purpose: str) -> str:
        """Return `column` if the file has it.

        Raises:
            LabelAssembleError: It has not; the sentence gives `purpose` and the nearest name.
        """
        if column not in self.header:
            raise missing_column(str(self.path), self.header, column, purpose)
        return column

    def chunks(self, columns: Sequence[str]) -> Iterator[Chunk]:
        """Yield the rows, `columns` only, in blocks that fit the memory.

        Raises:
            LabelAssembleError: The file is damaged, or a value is neither text nor a number.
        """
        row = 1
        batches = self._file.iter_batches(batch_size=_CHUNK_ROWS, columns=list(columns))
        while True:
            try:
                batch = next(batches, None)
                values = {} if batch is None else {name: batch.column(name) for name in columns}
            except (pa.ArrowException, OSError, ValueError) as error:
                raise LabelAssembleError(
                    f"{self.path}, after row {row - 1}: cannot be read as Parquet ({_sentence(error)})"
                ) from None
            if batch is None:
                return
            place = partial(_row_place, row)
            chunk = Chunk(self.path, {}, place)
            arrays = {name: _cells(chunk, name, column) for name, column in values.items()}
            yield Chunk(self.path, arrays, place)
            row += batch.num_rows


def _row_place(first: int, row: int) -> str:
    return f"row {first + row}"


def _cells(chunk: Chunk, column: str, values: pa.Array) -> pa.Array:
    """Return values as a CSV would have them, text [rows]: a whole number without its ".0", null and NaN blank."""
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    kind = values.type
    if pa.types.is_null(kind) or values.null_count == len(values):
        return pa.array([""] * len(values), pa.large_string())
    if pa.types.is_boolean(kind):
        cells = pc.if_else(values, "1", "0")
    elif pa.types.is_floating(kind):
        cells = float_cells(values)
    elif pa.types.is_decimal(kind):
        cells = pc.replace_substring_regex(values.cast(pa.large_string()), r"\.0*$", "")
    elif pa.types.is_integer(kind) or pa.types.is_string(kind) or pa.types.is_large_string(kind):
        cells = values
    else:
        row = int(pc.index(pc.is_valid(values), True).as_py())
        found = type(values[row].as_py()).__name__
        raise chunk.error(row, column, f"a value must be text or a number, got {found}")
    cells = cells.cast(pa.large_string()).fill_null("")
    row = pc.index(pc.match_substring(cells, "\0"), True).as_py()
    if row >= 0:
        raise chunk.error(row, column, "a text must not contain NUL characters")
    return cells


def float_cells(values: pa.Array) -> pa.Array:
    """Return floating-point numbers as text; beyond what the type counts exactly, with as many digits as it holds."""
    numbers = values.to_numpy(zero_copy_only=False)
    exact, digits = _EXACT[numbers.dtype.itemsize]
    with np.errstate(invalid="ignore"):
        whole = numbers == np.trunc(numbers)
        small = np.abs(numbers) <= exact
        integers = np.where(whole & small, numbers, 0).astype(np.int64)
    cells = pa.array(numbers.astype(np.float64) if numbers.dtype == np.float16 else numbers).cast(
        pa.large_string()
    )
    cells = pc.if_else(pa.array(whole & small), pa.array(integers).cast(pa.large_string()), cells)
    lost = np.isfinite(numbers) & whole & ~small
    if lost.any():
        texts = np.char.mod(f"%.{digits}e", numbers[lost].astype(np.float64))
        cells = pc.replace_with_mask(cells, pa.array(lost), pa.array(texts.tolist(), pa.large_string()))
    return pc.if_else(pa.array(np.isnan(numbers)), "", cells)


def _sentence(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
