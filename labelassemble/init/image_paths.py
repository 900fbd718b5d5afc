"""Where the images lie that a column of a table names."""

import os
from pathlib import Path, PurePosixPath
from typing import Final

from labelassemble.data.readers.folders import IMAGE_ENDINGS, DatasetFolder
from labelassemble.init.profile import Column

TRIED: Final = 20
"""Cells of a column that are sought on the disk."""


def found_images(table: Path, column: Column, root: Path | None) -> tuple[Path, str] | None:
    """Return the root below which cells of a column name files, and the ending that the cells lack; else None."""
    base = root or table.parent
    cells = [cell for cell in column.filled()[:TRIED] if len(cell) > 2 and "\0" not in cell]
    for cell in cells:
        for ending in ("", *IMAGE_ENDINGS):
            if os.path.isfile(base / f"{cell}{ending}"):
                return (Path("/") if cell.startswith("/") else base), ending
    return None


def found_below(table: Path, column: Column) -> tuple[Path, str] | None:
    """Return the same as `found_images`, where the images lie in a folder below that of the table."""
    places = DatasetFolder("init", table.parent).folders
    for cell in column.filled()[:TRIED]:
        for ending in ("", *IMAGE_ENDINGS):
            file = PurePosixPath(f"{cell}{ending}").name
            for place in places:
                if file in place.files and f"/{place.path}{file}".endswith(f"/{cell}{ending}"):
                    return table.parent / f"{place.path}{file}"[: -len(f"{cell}{ending}")], ending
    return None
