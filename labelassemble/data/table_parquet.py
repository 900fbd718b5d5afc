"""A table as Parquet: written whole or not at all, read back the same."""

from importlib import import_module
from pathlib import Path
from typing import Final

import numpy as np

from labelassemble._files import atomic_path
from labelassemble.data.parquet import ParquetFile, pyarrow_parquet
from labelassemble.data.states import UNKNOWN
from labelassemble.data.table import RESERVED_COLUMNS, Table
from labelassemble.data.table_csv import assumed_cells, read_table_rows
from labelassemble.errors import LabelAssembleError

_ROWS_AT_ONCE: Final = 1 << 17


def write_table_parquet(table: Table, path: Path) -> None:
    """Write `table` to `path`; see `Table.to_parquet`."""
    parquet = pyarrow_parquet()
    arrow = import_module("pyarrow")
    words = arrow.dictionary(arrow.int32(), arrow.string())
    kinds = {"source": words, "group": words, "split": words, "assumed": words}
    schema = arrow.schema(
        [(name, kinds.get(name, arrow.string())) for name in RESERVED_COLUMNS]
        + [(name, arrow.int8()) for name in table.classes]
    )
    with (
        atomic_path(path) as temporary,
        parquet.ParquetWriter(temporary, schema, compression="zstd") as writer,
    ):
        for first in range(0, len(table), _ROWS_AT_ONCE):
            rows = slice(first, first + _ROWS_AT_ONCE)
            texts = [
                text[rows].tolist()
                for text in (table.paths, table.names, table.sources, table.groups, table.splits)
            ]
            texts.append(assumed_cells(table.origins[rows], table.classes))
            try:
                columns = [arrow.array(text, schema.field(place).type) for place, text in enumerate(texts)]
            except UnicodeEncodeError:
                raise LabelAssembleError(f"{path}: a text of the table cannot be written as UTF-8") from None
            for labels in np.ascontiguousarray(table.labels[rows].T):
                columns.append(arrow.array(labels, mask=labels == UNKNOWN))
            writer.write_table(arrow.Table.from_arrays(columns, schema=schema))


def read_table_parquet(path: Path) -> Table:
    """Return the table written by `write_table_parquet`; see `Table.from_parquet`."""
    with ParquetFile(path) as file:
        return read_table_rows(file, str(path))
