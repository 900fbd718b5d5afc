"""Parquet: a user's labels, and a table written and read back the same."""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

import pyarrow as pa
import pyarrow.parquet as pq

from labelassemble.data.csvfile import Chunk, missing_column
from labelassemble.errors import LabelAssembleError

_CHUNK_ROWS = 1 << 14


class ParquetFile:
    """A Parquet file opened for one pass, its values as the cells that a CSV would have.

    Null and NaN are blank, True and False are 1 and 0.

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
                values = {} if batch is None else {name: batch.column(name).to_pylist() for name in columns}
            except (pa.ArrowException, OSError, ValueError) as error:
                raise LabelAssembleError(
                    f"{self.path}, after row {row - 1}: cannot be read as Parquet ({_sentence(error)})"
                ) from None
            if batch is None:
                return
            place = partial(_row_place, row)
            chunk = Chunk(self.path, {}, place)
            arrays = {
                name: pa.array(_cells(chunk, name, column), pa.large_string())
                for name, column in values.items()
            }
            yield Chunk(self.path, arrays, place)
            row += batch.num_rows


def _row_place(first: int, row: int) -> str:
    return f"row {first + row}"


def _cells(chunk: Chunk, column: str, values: Sequence[object]) -> list[str]:
    cells = []
    for row, value in enumerate(values):
        if value is None or value != value:
            cells.append("")
        elif isinstance(value, bool):
            cells.append("1" if value else "0")
        elif isinstance(value, (str, int, float)):
            cell = str(value)
            if "\0" in cell:
                raise chunk.error(row, column, "a text must not contain NUL characters")
            cells.append(cell)
        else:
            raise chunk.error(row, column, f"a value must be text or a number, got {type(value).__name__}")
    return cells


def _sentence(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
