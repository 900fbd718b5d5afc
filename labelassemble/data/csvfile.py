"""Reading a CSV file strictly: nothing guessed, nothing dropped, every error with file, line and column."""

import csv
import gzip
import io
import itertools
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self, TextIO

import numpy as np
from numpy.typing import NDArray

from labelassemble.data.text import concatenate_text, text_array
from labelassemble.errors import LabelAssembleError, did_you_mean

# more rows at once take longer a row: their strings leave the cache, and the garbage collector walks them all
_CHUNK_ROWS = 512
_PARTS_A_BLOCK = 128
_LINE_BREAK = re.compile(r"\r\n|\r|\n")


@dataclass(frozen=True)
class Chunk:
    """Some consecutive rows of a CSV file, by column."""

    path: Path
    lines: Sequence[int]
    """Number of the line on which each row ends, counted from 1."""
    columns: Mapping[str, Sequence[str]]
    unit: str = "line"
    """What is counted: lines, or rows in a file that has none."""

    def __len__(self) -> int:
        return len(self.lines)

    def error(self, row: int, column: str, reason: str) -> LabelAssembleError:
        """Return the error for one cell, to be raised."""
        return LabelAssembleError(f"{self.path}, {self.unit} {self.lines[row]}, column '{column}': {reason}")

    def states(self, column: str, cells: Mapping[str, int], allowed: str) -> NDArray[np.int8]:
        """Return the label state of each cell of `column`, int8 [rows], by the mapping `cells`.

        Raises:
            LabelAssembleError: A cell, spaces around it aside, is none of `cells`; `allowed` says what may be.
        """
        values = self.columns[column]
        try:
            return np.fromiter(map(cells.__getitem__, values), dtype=np.int8, count=len(values))
        except KeyError:
            pass
        states = np.empty(len(values), dtype=np.int8)
        for row, value in enumerate(values):
            state = cells.get(value.strip())
            if state is None:
                raise self.error(row, column, f"a label must be {allowed}, got {shown(value)}")
            states[row] = state
        return states


class RowFile(Protocol):
    """A file of rows under named columns, opened for one pass; a context manager."""

    path: Path
    header: tuple[str, ...]

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def require(self, column: str, purpose: str) -> str:
        """Return `column`, or raise an error that gives `purpose` if there is none."""
        ...

    def chunks(self, columns: Sequence[str]) -> Iterator[Chunk]:
        """Yield the rows, `columns` only, in blocks."""
        ...


def missing_column(place: str, header: Sequence[str], column: str, purpose: str) -> LabelAssembleError:
    """Return the error for a column that a file lacks, to be raised."""
    near = did_you_mean(column, [name for name in header if name])
    if len(header) == 1 and any(mark in header[0] for mark in ";\t|"):
        near = f", the header is one column {shown(header[0])}: columns must be separated by commas"
    return LabelAssembleError(f"{place}: no column '{column}' ({purpose}){near}")


class CsvFile:
    """A CSV file opened for one pass over its rows; a context manager.

    Plain or gzip (by the ending .gz); UTF-8 with or without a byte-order mark; any mixture of line endings; quotes as
    RFC 4180 has them. Lines without a cell are skipped; a row with more or fewer cells than the header is an error, as
    is a header that names a column twice.

    Attributes:
        path: The file.
        header: The names of its columns, spaces around them removed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._file = _opened(path)
        except OSError as error:
            raise LabelAssembleError(f"{path}: cannot be read ({error.strerror or error})") from None
        self._line = 0
        self._rows = csv.reader(self._checked_lines(), strict=True)
        try:
            self.header = self._read_header()
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def _checked_lines(self) -> Iterator[str]:
        try:
            for line in self._file:
                self._line += 1
                if "\0" in line:
                    raise LabelAssembleError(
                        f"{self.path}, line {self._line}: a CSV must not contain NUL characters"
                    )
                yield line
        except UnicodeDecodeError as error:
            byte = error.object[error.start]
            raise LabelAssembleError(
                f"{self.path}, after line {self._line}: a CSV must be UTF-8, got the byte 0x{byte:02x} "
                "(a file in Latin-1 or Windows-1252 must be saved as UTF-8 first)"
            ) from None
        except (OSError, EOFError, zlib.error) as error:  # the last two: a damaged .gz
            reason = getattr(error, "strerror", None) or error
            raise LabelAssembleError(
                f"{self.path}, after line {self._line}: cannot be read ({reason})"
            ) from None

    def _next_row(self) -> list[str] | None:
        try:
            return next(self._rows, None)
        except csv.Error as error:
            raise LabelAssembleError(f"{self.path}, line {self._line}: not a valid CSV ({error})") from None

    def _read_header(self) -> tuple[str, ...]:
        row = self._next_row()
        while row is not None and not row:
            row = self._next_row()
        if row is None:
            raise LabelAssembleError(f"{self.path}: a CSV must have a header, got an empty file")
        header = tuple(cell.strip() for cell in row)
        for index, column in enumerate(header):
            if column and column in header[:index]:
                raise LabelAssembleError(
                    f"{self.path}, line {self._line}, column {index + 1}: the column '{column}' stands twice"
                )
        return header

    def require(self, column: str, purpose: str) -> str:
        """Return `column` if the header has it.

        Raises:
            LabelAssembleError: It has not; the sentence gives `purpose` and the nearest name.
        """
        if column not in self.header:
            raise missing_column(f"{self.path}, line 1", self.header, column, purpose)
        return column

    def chunks(self, columns: Sequence[str]) -> Iterator[Chunk]:
        """Yield the rows below the header, `columns` only, in blocks that fit the memory.

        Raises:
            LabelAssembleError: Damage of any kind, with file and line.
        """
        wanted = [(column, self.header.index(column)) for column in columns]
        width = len(self.header)
        while True:
            before = self._line
            try:
                rows = list(itertools.islice(self._rows, _CHUNK_ROWS))
            except csv.Error as error:
                raise LabelAssembleError(
                    f"{self.path}, line {self._line}: not a valid CSV ({error})"
                ) from None
            if not rows:
                return
            lines: Sequence[int] = range(before + 1, self._line + 1)
            if len(lines) != len(rows):  # a cell with a line break in it
                lines = _lines(rows, before)
            if set(map(len, rows)) != {width}:
                self._check_widths(rows, lines)
                lines = [line for line, row in zip(lines, rows, strict=True) if row]
                rows = [row for row in rows if row]
                if not rows:
                    continue
            by_column = list(zip(*rows, strict=True))
            yield Chunk(self.path, lines, {column: by_column[index] for column, index in wanted})

    def _check_widths(self, rows: Sequence[list[str]], lines: Sequence[int]) -> None:
        for row, line in zip(rows, lines, strict=True):
            if row and len(row) != len(self.header):
                raise LabelAssembleError(
                    f"{self.path}, line {line}: the header has {len(self.header)} columns, this row {len(row)} "
                    f"(it starts with {shown(row[0])})"
                )


def _lines(rows: Sequence[list[str]], before: int) -> list[int]:
    """Return the number of the line on which each row ends."""
    spans = (1 + sum(len(_LINE_BREAK.findall(cell)) for cell in row) for row in rows)
    return list(itertools.accumulate(spans, initial=before))[1:]


def _opened(path: Path) -> TextIO:
    if path.suffix == ".gz":
        return io.TextIOWrapper(gzip.open(path), encoding="utf-8-sig", newline="")
    return path.open(encoding="utf-8-sig", newline="")


class TextColumns:
    """Collects columns of text chunk by chunk; a chunk is turned into an array at once, which frees its strings."""

    def __init__(self, *columns: str) -> None:
        self._parts: dict[str, list[NDArray[np.str_]]] = {column: [] for column in columns}
        self._blocks: dict[str, list[NDArray[np.str_]]] = {column: [] for column in columns}

    def add(self, columns: Mapping[str, Sequence[str] | NDArray[np.str_]]) -> None:
        """Append one block of rows to each column that `columns` names."""
        for column, values in columns.items():
            parts = self._parts[column]
            parts.append(values if isinstance(values, np.ndarray) else text_array(values))
            if len(parts) == _PARTS_A_BLOCK:
                self._blocks[column].append(concatenate_text(parts))
                parts.clear()

    def take(self, column: str) -> NDArray[np.str_]:
        """Return the column whole, [N], and forget its parts: each as soon as it is copied, to save the memory."""
        blocks = [*self._blocks.pop(column), concatenate_text(self._parts.pop(column))]
        blocks.reverse()
        width = max(block.dtype.itemsize // 4 for block in blocks)
        whole = np.empty(sum(map(len, blocks)), dtype=f"U{max(1, width)}")
        start = 0
        while blocks:
            block = blocks.pop()
            whole[start : start + len(block)] = block
            start += len(block)
        return whole


def shown(cell: str) -> str:
    """Return a cell as an error shows it: quoted, cut to 60 characters."""
    return repr(cell if len(cell) <= 60 else cell[:57] + "...")
