"""Cases found by a pattern: files, folders of DICOM slices, or the entries of NumPy archives, with their masks."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from labelassemble.data.readers.csv import SPLIT_CELLS
from labelassemble.data.stacks import npz_names
from labelassemble.data.volumes import entries
from labelassemble.errors import LabelAssembleError


class FoundCases(NamedTuple):
    """The cases of one match of a pattern: one, or those of an archive.

    Attributes:
        stars: what each `*` of the pattern stands for.
        paths: of the images.
        names: below the root.
        keys: by which the rows of a table are matched: the last star, or the archive's key; empty for the entries of a
            stack, whose rows are in their order.
        masks: "" where there is none.
        split: that a star names, "" where none does.
    """

    stars: tuple[str, ...]
    paths: list[str]
    names: list[str]
    keys: list[str]
    masks: list[str]
    split: str


def find_cases(root: Path, images: str, masks: str | None, where: str) -> list[FoundCases]:
    """Return the cases below `root` whose path matches the pattern `images`, in the order of their paths.

    Args:
        root: the folder.
        images: a pattern with `*`, which stands for any part of a name.
        masks: where the mask of an image lies: each `{}` is what a `*` of the image's path stands for, in order. What
            it names is no image.
        where: how an error begins.

    Raises:
        LabelAssembleError: Nothing matches, no image has a mask, or the entries of an archive and its masks differ.
    """
    stars = images.count("*")
    if masks is not None and masks.count("{}") > stars:
        raise LabelAssembleError(
            f"{where}, masks.files: '{masks}' has more {{}} than `images` has *, '{images}' ({stars})"
        )
    found = []
    for path in sorted(root.glob(images)):
        name = path.relative_to(root).as_posix()
        match = _matcher(images).fullmatch(name)
        if match is None or _hidden(name, images):
            continue
        mask = None if masks is None else root / _filled(masks, match.groups())
        found.append((path, match.groups(), mask))
    drawn = {mask for _, _, mask in found}
    cases = [
        _of_archive(path, stars, mask, root) if path.suffix == ".npz" else _of_file(path, stars, mask, root)
        for path, stars, mask in found
        if path not in drawn
    ]
    if not cases:
        raise LabelAssembleError(f"{where}, images: nothing below {root} matches '{images}'")
    if masks is not None and not any(mask for case in cases for mask in case.masks):
        first = next(mask for path, _, mask in found if path not in drawn)
        raise LabelAssembleError(f"{where}, masks.files: no image has a mask, the first would be {first}")
    return cases


def table_of(path: Path, case: FoundCases) -> Path:
    """Return the table of a match: each `{}` of the path is what a `*` of the image's path stands for."""
    return Path(_filled(str(path), case.stars))


def _filled(pattern: str, stars: Sequence[str]) -> str:
    """Return a pattern with its `{}` filled in order; all other braces stay."""
    parts = pattern.split("{}")
    return parts[0] + "".join(star + part for star, part in zip(stars, parts[1:], strict=False))


def _matcher(pattern: str) -> re.Pattern[str]:
    return re.compile("([^/]*)".join(re.escape(part) for part in pattern.split("*")))


def _hidden(name: str, pattern: str) -> bool:
    """Return whether a part of a path begins with a dot that the pattern does not ask for: what a Mac leaves, "._a"."""
    parts = zip(name.split("/"), pattern.split("/"), strict=True)
    return any(part.startswith(".") and not asked.startswith(".") for part, asked in parts)


def _split(stars: Sequence[str]) -> str:
    return next((SPLIT_CELLS[star] for star in stars if SPLIT_CELLS.get(star)), "")


def _of_file(path: Path, stars: tuple[str, ...], mask: Path | None, root: Path) -> FoundCases:
    name = path.relative_to(root).as_posix()
    drawn = str(mask) if mask is not None and mask.exists() else ""
    return FoundCases(stars, [str(path)], [name], [stars[-1] if stars else name], [drawn], _split(stars))


def _of_archive(path: Path, stars: tuple[str, ...], mask: Path | None, root: Path) -> FoundCases:
    """Return the cases of an archive: a stack `images` or `jpeg`, or else a case a key."""
    name, arrays = path.relative_to(root).as_posix(), npz_names(path)
    drawn = npz_names(mask) if mask is not None and mask.exists() else ()
    stack = next((array for array in ("jpeg", "images") if array in arrays), None)
    if stack is None:
        masks = [f"{mask}::{key}" if key in drawn else "" for key in arrays]
        paths, names = [f"{path}::{key}" for key in arrays], [f"{name}::{key}" for key in arrays]
        return FoundCases(stars, paths, names, list(arrays), masks, _split(stars))
    count = entries(path, stack)
    masks = [""] * count
    if mask is not None and drawn:
        array = "masks" if "masks" in drawn else drawn[0]
        if (there := entries(mask, array)) != count:
            raise LabelAssembleError(f"{mask}: must have a mask per image of {path} ({count}), got {there}")
        masks = [f"{mask}::{array}::{index}" for index in range(count)]
    paths = [f"{path}::{stack}::{index}" for index in range(count)]
    return FoundCases(stars, paths, [f"{name}::{index}" for index in range(count)], [], masks, _split(stars))
