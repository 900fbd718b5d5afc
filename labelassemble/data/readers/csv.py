"""The reader for a user's own CSV: a column for the path, one a class, optional patient, split, source and name."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal, Self

import numpy as np
from numpy.typing import NDArray

from labelassemble.data.absence import blanks_settled
from labelassemble.data.csvfile import Chunk, CsvFile, RowFile, TextColumns, shown
from labelassemble.data.new_table import new_table
from labelassemble.data.parquet import ParquetFile
from labelassemble.data.readers.label_cells import BlankCell, LabelCells, MinusOne, class_columns
from labelassemble.data.readers.options import FilePath, TabularOptions
from labelassemble.data.readers.paths import image_paths, trimmed
from labelassemble.data.table import Table
from labelassemble.data.text import constant_text, text_array
from labelassemble.errors import LabelAssembleError, did_you_mean

SPLIT_CELLS: Final = {
    "": "",
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "validierung": "val",
    "dev": "val",
    "test": "test",
    "testing": "test",
    "trainval": "trainval",
    "train_val": "trainval",
}
"""What may stand in a split column; blank and trainval are divided by `assemble`."""
_NO_SPLIT: Final = ' (`split_column` names another column, `split_column: ""` none)'


class CsvSource(TabularOptions):
    """A CSV with a header, or a Parquet file; cells 1, 0, -1 = unknown, -2 = uncertain, blank as `blank` says.

    Attributes:
        reader: "csv" (perhaps .gz), or "parquet": null and NaN are blank.
        path: The file.
        root: The folder that image paths start at; by default the file's own.
        path_column: The column with the path of the image.
        classes: The columns that are classes; by default all that have no other use, as a subgroup for one.
        patient_column: The column with the patient's id; by default `patient` where there is one.
        split_column: The column with train, val, test, trainval or nothing; by default `split` where there is one.
        source_column: A column that tells sources apart within the file; they are called `name/cell`. By default
            `source` where there is one.
        name_column: The column with the image's name; by default `name` where there is one, else the path's cell.
        blank: What a blank cell means: "unknown" (not annotated) or "negative", unless the taxonomy says otherwise: a
            label of the row may imply what is blank.
        minus_one: What -1 means: "unknown", or "uncertain" as in CheXpert's coding. By default "unknown", with a
            warning where blank cells mean that too.

    An empty text for one of the four optional columns ("") leaves that use out, whatever the file's header holds.
    """

    reader: Literal["csv", "parquet"] = "csv"
    path: FilePath
    root: FilePath | None = None
    path_column: str = "path"
    classes: tuple[str, ...] | None = None
    patient_column: str | None = None
    split_column: str | None = None
    source_column: str | None = None
    name_column: str | None = None
    blank: BlankCell = "unknown"
    minus_one: MinusOne | None = None

    def resolved(self, base: Path) -> Self:
        """Return the source with its paths made absolute, starting at the folder `base`."""
        root = self.path.parent if self.root is None else self.root
        return self.model_copy(update={"path": base / self.path, "root": base / root})

    def read(self, subgroups: Sequence[str] = ()) -> Table:
        """Return the table of the file, with those `subgroups` that it has.

        Raises:
            LabelAssembleError: Anything in it breaks the rules above; with file, line and column.
        """
        root = self.path.parent if self.root is None else self.root
        opened: RowFile = ParquetFile(self.path) if self.reader == "parquet" else CsvFile(self.path)
        with opened as file:
            uses = self._uses(file)
            subgroup_cells = self.subgroup_cells(subgroups)
            columns = subgroup_cells.columns(file.header, self._place())
            used = {*uses.values(), *(item.column for item in columns.values())}
            classes = self._classes(file, used)
            texts = TextColumns("path", *uses)
            labels: list[NDArray[np.int8]] = []
            cells = LabelCells(self.blank, self.minus_one, chosen=self.classes is not None)
            for chunk in file.chunks(tuple({self.path_column, *used, *classes})):
                subgroup_cells.add(chunk, columns)
                texts.add({"path": image_paths(root, chunk, self.path_column)})
                texts.add(
                    {
                        use: trimmed(chunk.columns[column]) if use == "name" else chunk.columns[column]
                        for use, column in uses.items()
                        if use != "split"
                    }
                )
                if "split" in uses:
                    texts.add({"split": split_cells(chunk, uses["split"])})
                labels.append(cells.states(chunk, classes))
        paths = texts.take("path")
        if "source" in uses:
            sources = text_array(f"{self.name}/" + texts.take("source"))
        else:
            sources = constant_text(self.name, len(paths))
        given = np.concatenate(labels) if labels else np.empty((0, len(classes)), dtype=np.int8)
        states, absence = blanks_settled(given)
        return new_table(
            classes,
            paths=paths,
            names=texts.take("name"),
            labels=states,
            absence=absence,
            sources=sources,
            groups=texts.take("patient") if "patient" in uses else None,
            splits=texts.take("split") if "split" in uses else None,
            subgroups=subgroup_cells.take(),
            notes=(*subgroup_cells.notes(), *cells.notes()),
            files=[self.path],
        )

    def _place(self) -> str:
        """Return where the columns are named."""
        return f"{self.path}, line 1" if self.reader == "csv" else str(self.path)

    def _uses(self, file: RowFile) -> dict[str, str]:
        """Return which column serves as name, patient, split and source, where one does."""
        file.require(self.path_column, "path_column: the path of each image")
        uses = {"name": self.path_column}
        for use, column in (
            ("name", self.name_column),
            ("patient", self.patient_column),
            ("split", self.split_column),
            ("source", self.source_column),
        ):
            if column == "":
                continue
            if column is not None:
                uses[use] = file.require(column, f"{use}_column")
            elif use in file.header:
                uses[use] = use
        return uses

    def _classes(self, file: RowFile, used: set[str]) -> tuple[str, ...]:
        place = self._place()
        if self.classes is not None:
            for name in self.classes:
                file.require(name, "classes")
            classes = self.classes
        else:
            taken = used | {self.path_column, "path", "patient", "split", "source", "name"}
            classes = tuple(name for name in file.header if name not in taken)
            if "" in classes:
                position = file.header.index("") + 1
                raise LabelAssembleError(
                    f"{place}: column {position} has no name (name it, or list the columns in `classes`)"
                )
        return class_columns(classes, file.header, place)


def split_cells(chunk: Chunk, column: str) -> list[str]:
    """Return the split that each cell of `column` means; see `SPLIT_CELLS`.

    Raises:
        LabelAssembleError: Another word; with file, line and column.
    """

    def split(cell: str) -> str:
        found = SPLIT_CELLS.get(cell.strip().lower())
        if found is None:
            near = did_you_mean(cell, ("train", "val", "test", "trainval"))
            hint = near if "did you mean" in near else _NO_SPLIT
            raise ValueError(f"a split must be train, val, test, trainval or blank, got {shown(cell)}{hint}")
        return found

    splits, codes = chunk.mapped(column, split)
    return [splits[code] for code in codes]
