"""Looking at the files themselves: which are missing, which cannot be decoded."""

import os
from collections.abc import Sequence
from dataclasses import dataclass

from labelassemble.data.containers import SEPARATOR, is_reference
from labelassemble.data.decoding import split_reference
from labelassemble.data.fingerprints import Progress, each_image
from labelassemble.data.pixel_range import PixelCheck, look_at
from labelassemble.data.table import Table
from labelassemble.data.text import first_rows, text_numbers

_SHOWN = 20


@dataclass(frozen=True)
class ImageCheck:
    """What decoding every image of a table showed.

    Attributes:
        images: How many were looked at.
        bad: Path and reason of each that cannot be used, in the table's order.
        pixels: What the others turned out to be.
    """

    images: int
    bad: tuple[tuple[str, str], ...]
    pixels: PixelCheck

    def to_text(self) -> str:
        """Return the result as text: a line for each bad image, the first 20, and what the others are, by source."""
        parts = []
        if self.bad:
            lines = [f"{len(self.bad)} of {self.images} images cannot be read"]
            lacking = sum(reason.startswith("needs ") for _, reason in self.bad)  # PluginError
            if lacking:
                lines.append(
                    f"{lacking} of them are not damaged: the package that reads them is not installed"
                )
            lines += [f"  {path}: {reason}" for path, reason in self.bad[:_SHOWN]]
            if len(self.bad) > _SHOWN:
                lines.append(f"  ... and {len(self.bad) - _SHOWN} more")
            parts.append("\n".join(lines))
        else:
            parts.append(f"all {self.images} images can be read")
        if len(self.bad) < self.images:
            parts.append(f"pixels of each source\n{self.pixels.summary().to_string(index=False)}")
        return "\n\n".join([*parts, *self.pixels.warnings()]) + "\n"


def check_images(table: Table, *, workers: int = 1, progress: Progress | None = None) -> ImageCheck:
    """Decode every image of `table` and return those that fail; a path that stands twice is looked at once.

    Args:
        table: The table.
        workers: Threads that decode.
        progress: Called with (images done, images in all).
    """
    code = text_numbers(table.paths)
    first = first_rows(code, int(code.max(initial=-1)) + 1)
    paths, sources = table.paths[first].tolist(), table.sources[first].tolist()
    looks = each_image(paths, look_at, workers, progress)
    bad = tuple((path, look) for path, look in zip(paths, looks, strict=True) if isinstance(look, str))
    return ImageCheck(len(paths), bad, PixelCheck.of(paths, sources, looks))


def missing_text(table: Table, missing: Sequence[str]) -> str:
    """Return how many files of a table do not exist, a line, and of which sources none does; see `wrong_roots`."""
    lines = [
        f"files that do not exist: {len(missing)}, the first: {missing[0]}",
        *wrong_roots(table, missing),
    ]
    return "\n".join(lines) + "\n"


def wrong_roots(table: Table, missing: Sequence[str]) -> list[str]:
    """Return a sentence for each source of whose images none is there: its `root` is wrong, most likely."""
    absent = table.paths.isin(missing)
    told = []
    for source in table.sources.unique().tolist():
        rows = table.sources == source
        if absent[rows].all():
            told.append(
                f"no image of source '{source}' is there: its paths start at another folder, which its key `root` "
                f"has to name (the first is {table.paths[rows][0]})"
            )
    return told


def missing_files(paths: Sequence[str]) -> list[str]:
    """Return those of `paths` whose file (for a member: whose container) does not exist, in order, each once.

    A folder is listed once instead of asking for each file in it.
    """
    listed: dict[str, frozenset[str]] = {}
    missing = []
    for path in dict.fromkeys(paths):
        file = path
        if SEPARATOR in path:
            file, _ = split_reference(path)
            file = file.partition(SEPARATOR)[0] if is_reference(file) else file
        folder, _, name = file.rpartition("/")
        names = listed.get(folder)
        if names is None:
            try:
                names = frozenset(os.listdir(folder or ("/" if file.startswith("/") else ".")))
            except OSError:
                names = frozenset()
            listed[folder] = names
        if name not in names:
            missing.append(path)
    return missing
