"""Looking at the files themselves: which are missing, which cannot be decoded."""

import os
from collections.abc import Sequence
from dataclasses import dataclass

from labelassemble.data.containers import SEPARATOR, is_reference
from labelassemble.data.decoding import split_reference
from labelassemble.data.errors import ImageError
from labelassemble.data.fingerprints import Progress, each_image
from labelassemble.data.images import decode_image
from labelassemble.data.table import Table

_SHOWN = 20


@dataclass(frozen=True)
class ImageCheck:
    """What decoding every image of a table showed.

    Attributes:
        images: How many were looked at.
        bad: Path and reason of each that cannot be used, in the table's order.
    """

    images: int
    bad: tuple[tuple[str, str], ...]

    def to_text(self) -> str:
        """Return the result as text: a line for each bad image, the first 20."""
        if not self.bad:
            return f"all {self.images} images can be read\n"
        lines = [f"{len(self.bad)} of {self.images} images cannot be read"]
        lines += [f"  {path}: {reason}" for path, reason in self.bad[:_SHOWN]]
        if len(self.bad) > _SHOWN:
            lines.append(f"  ... and {len(self.bad) - _SHOWN} more")
        return "\n".join(lines) + "\n"


def check_images(table: Table, *, workers: int = 1, progress: Progress | None = None) -> ImageCheck:
    """Decode every image of `table` and return those that fail; a path that stands twice is looked at once.

    Args:
        table: The table.
        workers: Threads that decode.
        progress: Called with (images done, images in all).
    """
    paths = list(dict.fromkeys(table.paths.tolist()))
    reasons = each_image(paths, _reason, workers, progress)
    bad = tuple((path, reason) for path, reason in zip(paths, reasons, strict=True) if reason is not None)
    return ImageCheck(len(paths), bad)


def _reason(path: str) -> str | None:
    try:
        decode_image(path)
    except ImageError as error:
        return error.reason
    return None


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
