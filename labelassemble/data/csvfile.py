"""Reading a CSV file strictly: nothing guessed, nothing dropped, every error with file, line and column."""

import codecs
import csv
import gzip
import io
import itertools
import re
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import IO, Final, Protocol, Self, TypeVar, cast

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyarrow import csv as arrow_csv

from labelassemble.data.text import TextArray, joined_text
from labelassemble.errors import LabelAssembleError, did_you_mean

T = TypeVar("T")
_BLOCK_BYTES: Final = 1 << 23
_BLOCK_ROWS: Final = 1 << 14
_GZIP: Final = b"\x1f\x8b"
_SEPARATOR_LINE: Final = re.compile(r"sep=([,;|\t])")


@dataclass(frozen=True)
class Chunk:
    """Some consecutive rows of a file, by column."""

    path: Path
    columns: Mapping[str, pa.Array]
    """Text, [rows] each."""
    place: Callable[[int], str]
    """Says where a row of the chunk stands: "line 17"."""

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def cells(self, column: str) -> list[str]:
        """Return the cells of `column`, [rows]."""
        cells: list[str] = self.columns[column].to_pylist()
        return cells

    def distinct(self, column: str) -> tuple[list[str], NDArray[np.int32]]:
        """Return the distinct cells of `column` in order of first appearance, and which of them each row has."""
        encoded = self.columns[column].dictionary_encode()
        return encoded.dictionary.to_pylist(), encoded.indices.to_numpy()

    def error(self, row: int, column: str, reason: str) -> LabelAssembleError:
        """Return the error for one cell, to be raised."""
        return LabelAssembleError(f"{self.path}, {self.place(row)}, column '{column}': {reason}")

    def mapped(self, column: str, value_of: Callable[[str], T]) -> tuple[list[T], NDArray[np.int32]]:
        """Return `value_of` each distinct cell of `column`, and which of them each row has.

        Raises:
            LabelAssembleError: `value_of` raised ValueError; with file, line and column of the first such cell.
        """
        cells, codes = self.distinct(column)
        values = []
        for code, cell in enumerate(cells):
            try:
                values.append(value_of(cell))
            except ValueError as error:
                raise self.error(int(np.argmax(codes == code)), column, str(error)) from None
        return values, codes

    def states(
        self, column: str, cells: Mapping[str, int], allowed: str, instead: str = ""
    ) -> NDArray[np.int8]:
        """Return the label state of each cell of `column`, int8 [rows], by the mapping `cells`.

        Raises:
            LabelAssembleError: A cell, spaces around it aside, is none of `cells`; `allowed` says what may be, and
                `instead` what to do.
        """

        def state(cell: str) -> int:
            found = cells.get(cell.strip())
            if found is None:
                raise ValueError(f"a label must be {allowed}, got {shown(cell)}{instead}")
            return found

        states, codes = self.mapped(column, state)
        return np.array(states, dtype=np.int8)[codes]


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
    if any(mark in name for name in header for mark in ";|"):
        near += f"; a header with a comma is taken for one that commas separate: {shown(','.join(header))}"
    return LabelAssembleError(f"{place}: no column '{column}' ({purpose}){near}")


class CsvFile:
    """A CSV file opened for one pass over its rows; a context manager.

    Plain or gzip (by the ending .gz or by its first bytes); UTF-8 with or without a byte-order mark; any mixture of
    line endings; quotes as RFC 4180 has them. Lines without a cell are skipped; a row with more or fewer cells than the
    header is an error, as is a header that names a column twice. Columns are separated by tabs where the header
    has one, else by commas, semicolons or bars, in this order. A file without quotes is parsed by Arrow, several times
    as fast as by the csv module, which reads all others and finds the line of whatever is wrong.

    Attributes:
        path: The file.
        header: The names of its columns, spaces around them removed, a line break in them made a space.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._file = io.TextIOWrapper(_opened(path), encoding="utf-8-sig", newline="")
        except OSError as error:
            raise LabelAssembleError(f"{path}: cannot be read ({error.strerror or error})") from None
        self._line = 0
        self._separator, self._plain = ",", True
        self._rows = csv.reader(self._checked_lines(), strict=True)
        try:
            self._find_separator()
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

    def _refuse_parquet(self, begins: bytes) -> None:
        if begins.startswith(b"PAR1") and self._line <= 1:
            raise LabelAssembleError(f"{self.path} is a Parquet file, not a CSV: its reader is parquet")

    def _checked_lines(self) -> Iterator[str]:
        try:
            for line in self._file:
                self._line += 1
                if "\0" in line:
                    self._refuse_parquet(line.encode())
                    raise LabelAssembleError(
                        f"{self.path}, line {self._line}: a CSV must not contain NUL characters"
                    )
                yield line
        except UnicodeDecodeError as error:
            self._refuse_parquet(error.object)
            byte = error.object[error.start]
            other = "UTF-16" if error.object[:2] in (b"\xff\xfe", b"\xfe\xff") else "Latin-1 or Windows-1252"
            raise LabelAssembleError(
                f"{self.path}, after line {self._line}: a CSV must be UTF-8, got the byte 0x{byte:02x} "
                f"(a file in {other} must be saved as UTF-8 first)"
            ) from None
        except (OSError, EOFError, zlib.error) as error:  # the last two: a damaged .gz
            reason = getattr(error, "strerror", None) or error
            raise LabelAssembleError(
                f"{self.path}, after line {self._line}: cannot be read ({reason})"
            ) from None

    def _find_separator(self) -> None:
        lines = self._checked_lines()
        first = next((line for line in lines if line.strip("\r\n")), None)
        if first is None:
            return
        told = _SEPARATOR_LINE.fullmatch(first.rstrip("\r\n"))  # Excel's
        self._plain = told is None
        self._separator = told[1] if told else _separator(first)
        rest = lines if told else itertools.chain([first], lines)
        self._rows = csv.reader(rest, strict=True, delimiter=self._separator)

    def _next_row(self) -> list[str] | None:
        """Return the next row that has a cell, None at the end."""
        try:
            for row in self._rows:
                if row:
                    return row
        except csv.Error as error:
            raise LabelAssembleError(f"{self.path}, line {self._line}: not a valid CSV ({error})") from None
        return None

    def _read_header(self) -> tuple[str, ...]:
        row = self._next_row()
        if row is None:
            raise LabelAssembleError(f"{self.path}: a CSV must have a header, got an empty file")
        header = tuple(" ".join(map(str.strip, cell.strip().splitlines())) for cell in row)
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
        done = 0
        if self._is_plain():
            try:
                for chunk in self._plain_chunks(columns):
                    yield chunk
                    done += len(chunk)
                return
            except pa.ArrowInvalid:  # a row longer than a block, or what the csv module finds the line of
                pass
        yield from self._checked_chunks(columns, done)

    def _plain_chunks(self, columns: Sequence[str]) -> Iterator[Chunk]:
        wanted = [self.header.index(column) for column in columns]
        names = [str(index) for index in range(len(self.header))]  # a header may leave names blank
        first = -1  # the header is Arrow's first row
        with (
            _opened(self.path) as file,
            arrow_csv.open_csv(
                file,
                arrow_csv.ReadOptions(column_names=names, block_size=_BLOCK_BYTES),
                arrow_csv.ParseOptions(delimiter=self._separator, quote_char=False),
                arrow_csv.ConvertOptions(
                    column_types=dict.fromkeys(names, pa.large_string()),
                    include_columns=[names[index] for index in wanted],
                    strings_can_be_null=False,
                ),
            ) as reader,
        ):
            for batch in reader:
                rows = batch.slice(1) if first < 0 else batch
                if len(rows):
                    arrays = dict(zip(columns, rows.columns, strict=True))
                    yield Chunk(self.path, arrays, partial(self._plain_place, max(first, 0)))
                first += len(batch)

    def _plain_place(self, first: int, row: int) -> str:
        """Return where a row of a file without quotes stands: each line that is not empty is one, the header too."""
        with io.TextIOWrapper(_opened(self.path), encoding="utf-8-sig", newline="") as lines:
            filled = (number for number, line in enumerate(lines, start=1) if line.strip("\r\n"))
            return f"line {next(itertools.islice(filled, 1 + first + row, None))}"

    def _is_plain(self) -> bool:
        """Return whether the file can be read again, is UTF-8, and has neither quotes nor NUL."""
        if not self._plain or not self.path.is_file():  # a pipe
            return False
        decoder = codecs.getincrementaldecoder("utf-8")()
        try:
            with _opened(self.path) as file:
                while block := file.read(_BLOCK_BYTES):
                    if b'"' in block or b"\0" in block:
                        return False
                    decoder.decode(block)
            decoder.decode(b"", final=True)
        except (ValueError, OSError, EOFError, zlib.error):
            return False
        return True

    def _checked_rows(self) -> Iterator[tuple[int, list[str]]]:
        """Yield each row below the header with the number of the line on which it ends."""
        while (row := self._next_row()) is not None:
            if len(row) != len(self.header):
                raise LabelAssembleError(
                    f"{self.path}, line {self._line}: the header has {len(self.header)} columns, this row {len(row)} "
                    f"(it starts with {shown(row[0])})"
                )
            yield self._line, row

    def _checked_chunks(self, columns: Sequence[str], done: int) -> Iterator[Chunk]:
        """Yield the rows but for the first `done`."""
        wanted = [(column, self.header.index(column)) for column in columns]
        rows = itertools.islice(self._checked_rows(), done, None)
        while block := list(itertools.islice(rows, _BLOCK_ROWS)):
            lines = [line for line, _ in block]
            by_column = list(zip(*(row for _, row in block), strict=True))
            arrays = {column: pa.array(by_column[index], pa.large_string()) for column, index in wanted}
            yield Chunk(self.path, arrays, partial(_line_place, lines))


def _separator(header: str) -> str:
    """Return what separates the columns, by the first line of a file."""
    bare = re.sub('"[^"]*"?', "", header)
    return next((mark for mark in "\t,;|" if mark in bare), ",")


def _line_place(lines: Sequence[int], row: int) -> str:
    return f"line {lines[row]}"


def _opened(path: Path) -> IO[bytes]:
    """Open a file, or what a gzip file holds; a browser may have taken the ending .gz away."""
    if path.suffix.lower() == ".gz":
        return cast(IO[bytes], gzip.open(path))
    file = path.open("rb")
    if path.is_file() and file.peek(2)[:2] == _GZIP:  # a pipe cannot be opened twice
        file.close()
        return cast(IO[bytes], gzip.open(path))
    return file


def or_compressed(path: Path) -> Path:
    """Return `path`, or where only `path.gz` is there, that."""
    packed = path.with_name(f"{path.name}.gz")
    return packed if packed.exists() and not path.exists() else path


def ends_with_a_line(path: Path) -> bool:
    """Return whether the last line of a CSV, plain or gzip, has its end: what was cut off while writing has not."""
    last = b""
    with _opened(path) as file:
        while block := file.read(_BLOCK_BYTES):
            last = block[-1:]
    return last in (b"\r", b"\n")


def same_text(one: Path, other: Path) -> bool:
    """Return whether two CSV files, plain or gzip each, hold the same bytes.

    Raises:
        LabelAssembleError: One of them cannot be read.
    """
    path = one
    try:
        with _opened(one) as left, _opened(other) as right:
            while True:
                path = one
                block = left.read(_BLOCK_BYTES)
                path = other
                if block != right.read(_BLOCK_BYTES):
                    return False
                if not block:
                    return True
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise LabelAssembleError(f"{path}: cannot be read ({reason})") from None


class TextColumns:
    """Collects columns of text chunk by chunk; a chunk becomes an Arrow array at once, which frees its strings."""

    def __init__(self, *columns: str) -> None:
        self._parts: dict[str, list[pa.Array]] = {column: [] for column in columns}

    def add(self, columns: Mapping[str, Sequence[str] | pa.Array | TextArray]) -> None:
        """Append one block of rows to each column that `columns` names."""
        for column, values in columns.items():
            self._parts[column].append(
                values if isinstance(values, pa.Array) else pa.array(values, pa.large_string())
            )

    def take(self, column: str) -> TextArray:
        """Return the column whole, [N], and forget its parts."""
        return joined_text(self._parts.pop(column))


def shown(cell: str) -> str:
    """Return a cell as an error shows it: quoted, cut to 60 characters."""
    return repr(cell if len(cell) <= 60 else cell[:57] + "...")
