"""What the columns of a table hold, as far as a guess about their use needs it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from labelassemble.data.csvfile import CsvFile, RowFile
from labelassemble.data.parquet import ParquetFile

MOST_VALUES: Final = 400
"""Distinct cells that are remembered of a column; a column with more is no label and no split."""


@dataclass
class Column:
    """The cells of one column.

    Attributes:
        name: in the header.
        values: the distinct cells, spaces around them removed, and how often each occurs; at most `MOST_VALUES`.
        whole: whether these are all.
    """

    name: str
    values: dict[str, int] = field(default_factory=dict)
    whole: bool = True

    def filled(self) -> list[str]:
        """Return the distinct cells that are not blank."""
        return [cell for cell in self.values if cell]

    def add(self, cells: Sequence[str], counts: Sequence[int]) -> None:
        """Count the distinct cells of some rows."""
        for cell, count in zip(cells, counts, strict=True):
            text = cell.strip()
            if text in self.values:
                self.values[text] += count
            elif len(self.values) < MOST_VALUES:
                self.values[text] = count
            else:
                self.whole = False
                return


def open_table(path: Path) -> RowFile:
    """Return the table, opened for one pass: Parquet by its ending, CSV otherwise."""
    return ParquetFile(path) if path.suffix.lower() == ".parquet" else CsvFile(path)


def read_columns(path: Path) -> tuple[dict[str, Column], int]:
    """Return the columns of a table by name, those without a name left out, and the number of its rows.

    Raises:
        LabelAssembleError: it cannot be read as a table.
    """
    rows = 0
    with open_table(path) as file:
        columns = {name: Column(name) for name in file.header if name}
        for chunk in file.chunks(tuple(columns)):
            rows += len(chunk)
            for column in columns.values():
                if column.whole:
                    counted = chunk.columns[column.name].value_counts()
                    column.add(counted.field("values").to_pylist(), counted.field("counts").to_pylist())
    return columns, rows
