"""Paths of images below a root, kept there."""

import os
import posixpath
from collections.abc import Sequence
from pathlib import Path

from labelassemble.data.csvfile import Chunk, shown


def image_paths(root: Path, chunk: Chunk, column: str) -> list[str]:
    """Return the full path of each image that `column` names below `root`.

    An absolute path may stand there if it lies below the root.

    Raises:
        LabelAssembleError: A blank cell, or a path that leaves the root; with file, line and column.
    """
    cells: Sequence[str] = chunk.columns[column]
    base = os.path.abspath(root)
    prefix = base if base.endswith("/") else base + "/"
    paths = []
    for row, cell in enumerate(cells):
        if not cell.strip():
            raise chunk.error(row, column, "the path of an image must not be blank")
        if cell[0] == "/" or ".." in cell:
            inside = posixpath.normpath(posixpath.join(base, cell))
            if not inside.startswith(prefix):
                raise chunk.error(
                    row,
                    column,
                    f"the path {shown(cell)} leaves the root {base} (set `root` to a folder above it)",
                )
            paths.append(inside)
        else:
            paths.append(prefix + cell)
    return paths
