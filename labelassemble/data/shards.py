"""Sets of images that outgrow one table: tar shards and Parquet lists of paths, in parts that are read one by one."""

import glob
import hashlib
import os
import re
import stat
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Final, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from labelassemble.data.containers import SEPARATOR, tar_members
from labelassemble.data.decoding import split_reference
from labelassemble.errors import LabelAssembleError, did_you_mean

IMAGE_ENDINGS: Final = frozenset(
    {"jpg", "jpeg", "png", "tif", "tiff", "bmp", "webp", "pgm", "ppm", "dcm", "dicom"}
)
"""Of members of a tar shard that are images."""
PART_ROWS: Final = 8192
"""Images of a part of a Parquet list, at most."""
_RANGE: Final = re.compile(r"\{(\d+)\.\.(\d+)\}")
_ENDINGS: Final = (".tar", ".parquet")


class Part(NamedTuple):
    """Some images of a set.

    Attributes:
        name: what they are, such as "train-000012.tar" with its folder, or "list.parquet, rows 1 to 8192".
        images: reads which they are: paths and `container::member`, in order.
        shard: the file that holds them all; None where they are files of their own.
    """

    name: str
    images: Callable[[], list[str]]
    shard: str | None = None

    def stamp(self) -> str:
        """Return in what state the files are: another text where one was changed, as size and time of change show."""
        return files_stamp(self.images()) if self.shard is None else _state(self.shard)

    def read(self) -> tuple[list[str], str]:
        """Return the images, and the stamp that their files had before they are read."""
        if self.shard is not None:
            stamp = _state(self.shard)
            return self.images(), stamp
        images = self.images()
        return images, files_stamp(images)


def expand(pattern: Path) -> list[Path]:
    """Return the files that a path with a range or wildcards stands for: `train-{000000..000146}.tar`, `shards/*.tar`.

    Without either it is the path itself. Those of a range need not exist.
    """
    text = str(pattern)
    found = _RANGE.search(text)
    if found is not None:
        first, last = found[1], found[2]
        numbers = range(int(first), int(last) + 1)
        return [Path(f"{text[: found.start()]}{n:0{len(first)}}{text[found.end() :]}") for n in numbers]
    if not glob.has_magic(text) or pattern.exists():  # a name may hold brackets
        return [pattern]
    return [Path(path) for path in sorted(glob.glob(text))]


def are_sets(inputs: Sequence[Path]) -> bool:
    """Return whether inputs are tar shards and Parquet lists and not images.

    Raises:
        LabelAssembleError: some are, and others are not.
    """
    sets = [path.suffix.lower() in _ENDINGS for path in inputs]
    if any(sets) and not all(sets):
        raise LabelAssembleError(
            f"images and sets of images cannot be answered together, got {inputs[sets.index(False)]} and "
            f"{inputs[sets.index(True)]}"
        )
    return any(sets)


def parts_of(inputs: Sequence[Path], rows: int = PART_ROWS) -> list[Part]:
    """Return the parts of shards and lists in order: a tar shard is one, a list is cut into `rows` rows.

    Args:
        inputs: with ranges or wildcards. A Parquet list has a column `path`; relative paths start at the list's folder.
        rows: of a part of a list, at most; a row group is cut by itself, so that it is read by itself.

    Raises:
        LabelAssembleError: a file is missing or named twice, nothing matches, or a list has no paths.
    """
    files = []
    for pattern in inputs:
        found = expand(pattern)
        if not found:
            raise LabelAssembleError(f"no file matches {pattern}")
        files += found
    parts: list[Part] = []
    seen: set[str] = set()
    for file in files:
        path = Path(os.path.abspath(file))
        if str(path) in seen:
            raise LabelAssembleError(f"{path}: is named twice among the sets of images")
        seen.add(str(path))
        parts += _of_list(path, rows) if path.suffix.lower() == ".parquet" else [_of_tar(path)]
    return parts


def _of_tar(path: Path) -> Part:
    try:
        path.stat()
    except OSError as error:
        raise LabelAssembleError(f"{path}: cannot be read ({error.strerror})") from None
    return Part(str(path), partial(_members, path), str(path))


def files_stamp(images: Sequence[str]) -> str:
    """Return a stamp of images: another one where a path, or the size or the time of change of a file, is another one.

    Each file is asked for these once, and none is read: 3 µs for a file on a local disk.

    Args:
        images: files and `container::member`, each perhaps with how it is decoded behind it.
    """
    containers: dict[str, str] = {}
    digest = hashlib.sha256()
    for image in images:
        path = split_reference(image)[0]
        container = path.partition(SEPARATOR)[0]
        state = _state(path)
        if container != path and not state:
            if container not in containers:
                containers[container] = _state(container)
            state = containers[container]
        digest.update(f"{image}\0{state}\0".encode(errors="surrogateescape"))
    return digest.hexdigest()[:32]


def _state(path: str) -> str:
    """Return size and time of change of a file, of a folder those of the files in it; "" where there is none."""
    try:
        found = os.stat(path)
        if stat.S_ISDIR(found.st_mode):  # a series, whose slices may be changed in place
            with os.scandir(path) as inside:
                return "\n".join(sorted(f"{one.name}: {_state(one.path)}" for one in inside if one.is_file()))
    except (OSError, ValueError):  # a name may hold what no file's name can
        return ""
    return f"{found.st_size} bytes, changed at {found.st_mtime_ns} ns"


def _members(path: Path) -> list[str]:
    """Return the images of a shard as `container::member`, in its order.

    Those are members with the ending of an image, and those that have none, as DICOM files named by their UID: what
    they are is seen when they are read.

    Raises:
        LabelAssembleError: the shard cannot be read, holds no image, or a name that is not UTF-8.
    """
    members = tar_members(str(path))
    images = [member for member in members if _may_be_image(member)]
    for member in images:
        if not member.isascii() and member != member.encode(errors="replace").decode():
            raise LabelAssembleError(f"{path}: the name of a member is not UTF-8, {member!a}")
    if members and not images:
        raise LabelAssembleError(f"{path}: holds no image, but members such as {members[0]}")
    return [f"{path}{SEPARATOR}{member}" for member in images]


def _may_be_image(member: str) -> bool:
    _, dot, ending = member.rpartition("/")[2].rpartition(".")
    return not dot or ending.isdigit() or ending.lower() in IMAGE_ENDINGS


def _of_list(path: Path, rows: int) -> list[Part]:
    try:
        with pq.ParquetFile(path) as file:
            names = file.schema_arrow.names
            counts = [
                file.metadata.row_group(group).num_rows for group in range(file.metadata.num_row_groups)
            ]
    except (pa.ArrowException, OSError) as error:
        reason = " ".join(str(error).split())
        raise LabelAssembleError(f"{path}: cannot be read as Parquet ({reason})") from None
    if "path" not in names:
        raise LabelAssembleError(
            f"{path}: a list of images must have a column 'path'{did_you_mean('path', names)}"
        )
    parts, before = [], 0
    for group, count in enumerate(counts):
        for first in range(0, count, rows):
            last = min(first + rows, count)
            name = f"{path}, rows {before + first + 1} to {before + last}"
            parts.append(Part(name, partial(_paths, path, group, first, last)))
        before += count
    return parts


def _paths(path: Path, group: int, first: int, last: int) -> list[str]:
    column = _row_group(path, group, _state(str(path)))[first:last]
    if column.null_count:
        raise LabelAssembleError(f"{path}: the column 'path' must have no gaps")
    return [str(path.parent / name) for name in column.to_pylist()]


@lru_cache(maxsize=1)
def _row_group(path: Path, group: int, state: str) -> pa.Array:
    """Return the paths of a row group of a file in this state, text; parts of it are asked for one after the other."""
    try:
        with pq.ParquetFile(path) as file:
            column = file.read_row_group(group, columns=["path"]).column(0)
        return column.cast(pa.large_string()).combine_chunks()
    except (pa.ArrowException, OSError) as error:
        reason = " ".join(str(error).split())
        raise LabelAssembleError(f"{path}: cannot be read as Parquet ({reason})") from None
