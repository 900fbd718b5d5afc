"""A source checkout that is there by chance, as the current folder, gives way to the package that is installed.

A checkout has nothing compiled; imported from its own folder, it would hide an installed wheel that has.
"""

import os
import sys
from importlib.machinery import PathFinder
from importlib.util import module_from_spec
from pathlib import Path


def give_way(package: str, folder: Path) -> None:
    """Put the installed package in the place of one that is found because the current folder or the script's holds it.

    Not where PYTHONPATH names that folder, where something is compiled in it, or where nothing compiled is installed
    (an editable install is no other package).

    Args:
        package: its name.
        folder: where it was found.
    """
    root = folder.parent
    first = Path(sys.path[0] or ".") if sys.path else None
    asked_for = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    if first is None or first.resolve() != root or _is_compiled(folder):
        return
    if any(entry and Path(entry).resolve() == root for entry in asked_for):
        return
    spec = PathFinder.find_spec(package, sys.path[1:])
    if (
        spec is None
        or spec.origin is None
        or spec.loader is None
        or not _is_compiled(Path(spec.origin).parent)
    ):
        return
    module = module_from_spec(spec)
    sys.modules[package] = module
    spec.loader.exec_module(module)


def _is_compiled(folder: Path) -> bool:
    return any(folder.glob("_C.*"))
