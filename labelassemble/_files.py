"""The only atomic write: a file is the old one or the new one, never a part of it; and the folders of files."""

import gzip
import io
import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, TextIO, cast

from labelassemble.errors import LabelAssembleError


@contextmanager
def atomic_path(path: Path, unfinished: Path | None = None, *, durable: bool = False) -> Iterator[Path]:
    """Give a new file beside `path` that takes its place when the block ends, and is removed when the block raises.

    Args:
        path: the file to write or to replace.
        unfinished: the new file's own path, for a file that only one process writes: what a killed process left is
            then overwritten. Default: a name of its own for every call.
        durable: whether the file is on the disk before it takes its place; always with `unfinished`.

    Raises:
        LabelAssembleError: the folder cannot be written, or the disk is full.
    """
    durable = durable or unfinished is not None
    try:
        if unfinished is None:
            handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
            os.close(handle)
            unfinished = Path(name)
            give_usual_mode(unfinished)  # mkstemp's own shuts out everybody else
        yield unfinished
        if durable:
            _sync(unfinished)
        os.replace(unfinished, path)
        if durable:
            _sync(path.parent)
    except BaseException as error:
        if unfinished is not None:
            unfinished.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise LabelAssembleError(f"{path}: cannot be written ({error.strerror or error})") from None
        raise


@contextmanager
def atomic_file(path: Path) -> Iterator[TextIO]:
    """Open a UTF-8 text file, its line ends as written, that takes the place of `path`; see `atomic_path`.

    A `path` that ends in .gz is compressed; the same text gives the same bytes.
    """
    with atomic_path(path) as unfinished, unfinished.open("wb") as raw, ExitStack() as opened:
        binary: IO[bytes] = raw
        if path.suffix.lower() == ".gz":
            binary = cast(IO[bytes], opened.enter_context(gzip.GzipFile("", "wb", fileobj=raw, mtime=0)))
        yield opened.enter_context(io.TextIOWrapper(binary, encoding="utf-8", newline=""))


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn an error of the disk into a sentence that names `path`: a full disk itself names no file.

    Raises:
        LabelAssembleError: something in the block cannot be written.
    """
    try:
        yield
    except OSError as error:
        raise LabelAssembleError(f"{path}: cannot be written ({error.strerror or error})") from None


def make_folder(path: Path) -> None:
    """Make the folder and those above it, where they are not there yet.

    Raises:
        LabelAssembleError: it cannot be made, say because a file has its name or the folder above is read-only.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LabelAssembleError(f"{path}: cannot be made ({error.strerror or error})") from None


def write_text(path: Path, text: str) -> None:
    """Write `text` as the UTF-8 file `path`; see `atomic_path`."""
    with atomic_file(path) as file:
        file.write(text)


def give_usual_mode(path: Path) -> None:
    """Let those read and write a file who could if `open` had made it."""
    os.chmod(path, 0o666 & ~_umask())


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
