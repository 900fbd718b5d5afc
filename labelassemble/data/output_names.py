"""Names of files that are written beside each other, one for each image that is read."""

import re
from collections.abc import Sequence
from pathlib import Path

from labelassemble.data.decoding import split_reference, stored_file
from labelassemble.errors import LabelAssembleError


def new_files(paths: Sequence[str], folder: Path, ending: str, *, overwrite: bool) -> list[Path]:
    """Return the files of `named_after`, none of which is there already, unless `overwrite` says that it may.

    Raises:
        LabelAssembleError: one of them is there already, or is an image that is read.
    """
    targets = named_after(paths, folder, ending)
    there = [target for target in targets if target.exists()]
    if there and not overwrite:
        others = f" and {len(there) - 1} more" if len(there) > 1 else ""
        verb = "are" if others else "is"
        raise LabelAssembleError(
            f"{there[0]}{others} {verb} there already: add --overwrite, or choose another folder"
        )
    return targets


def named_after(paths: Sequence[str], folder: Path, ending: str) -> list[Path]:
    """Return a file of its own in `folder` for each path, named after it and with an ending such as ".png".

    Raises:
        LabelAssembleError: one of them is an image that is read.
    """
    taken: set[str] = set()
    targets = []
    for path in paths:
        file = Path(split_reference(path)[0])
        # a DICOM file named by its UID has no ending
        name = file.name if file.suffix[1:].isdigit() else file.stem
        stem = re.sub(r"[^\w.-]+", "_", name) or "image"
        name, number = stem, 2
        while name in taken:
            name, number = f"{stem}-{number}", number + 1
        taken.add(name)
        targets.append(folder / f"{name}{ending}")
    read = [file for path in paths if (file := stored_file(path)).exists()]
    for target in targets:
        if target.exists() and any(target.samefile(file) for file in read):
            raise LabelAssembleError(f"{target} would replace an image that is read: choose another folder")
    return targets
