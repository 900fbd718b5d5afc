"""Paths of images below a root, kept there."""

import os
import posixpath
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from labelassemble.data.csvfile import Chunk, shown


def trimmed(cells: pa.Array) -> pa.Array:
    """Return text [rows] without the spaces around it."""
    if pc.any(pc.match_substring_regex(cells, r"^[\pZ\pC]|[\pZ\pC]$")).as_py():
        return pc.utf8_trim_whitespace(cells)
    return cells


def image_paths(root: Path, chunk: Chunk, column: str) -> pa.Array:
    """Return the full path of each image that `column` names below `root`, text [rows].

    An absolute path may stand there if it lies below the root. Spaces around a cell are none of the path's.

    Raises:
        LabelAssembleError: A blank cell, or a path that leaves the root; with file, line and column.
    """
    base = os.path.abspath(root)
    prefix = base if base.endswith("/") else base + "/"
    cells = trimmed(chunk.columns[column])
    # all that Python calls a space is a separator (Z) or a control character (C)
    odd = pc.or_(
        pc.match_substring_regex(cells, r"^($|[/\pZ\pC])|(^|/)\.?/"), pc.match_substring(cells, "..")
    )
    if not pc.any(odd).as_py():
        return pc.binary_join_element_wise(
            pa.scalar(prefix, pa.large_string()), cells, pa.scalar("", pa.large_string())
        )
    paths = []
    for row, cell in enumerate(cells.to_pylist()):
        if not cell.strip():
            raise chunk.error(row, column, "the path of an image must not be blank")
        inside = prefix + cell
        twisted = "::" not in cell and ("./" in cell or "//" in cell)  # so that one image has one path
        if cell[0] == "/" or ".." in cell or twisted:
            inside = posixpath.normpath(posixpath.join(base, cell))
            if not inside.startswith(prefix):
                raise chunk.error(
                    row,
                    column,
                    f"the path {shown(cell)} leaves the root {base} (set `root` to a folder above it)",
                )
        paths.append(inside)
    return pa.array(paths, pa.large_string())
