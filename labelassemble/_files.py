"""The only atomic write: a file is the old one or the new one, never a part of it; and folders and their locks."""

import fcntl
import gzip
import io
import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
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


@contextmanager
def alone_in(folder: Path, does: str) -> Iterator[None]:
    """Within this context no other one of the folder is entered, in this process or in another; it is made if need be.

    The system ends it with the process, however that ends. Where files cannot be locked, nothing is.

    Args:
        folder: the folder.
        does: what is done there, for the message: "trains".

    Raises:
        LabelAssembleError: another process is in such a context of the folder, or it cannot be made.
    """
    made = [each for each in (folder, *folder.parents) if not each.exists()]
    make_folder(folder)
    path = folder / ".lock"
    handle = _locked(path, does)
    try:
        yield
    finally:
        if handle is not None:
            with suppress(OSError):
                path.unlink()  # before it is let go: whoever takes it then sees that it is no longer the folder's
            os.close(handle)
        with suppress(OSError):  # one of them holds something
            for each in made:
                each.rmdir()


def _locked(path: Path, does: str) -> int | None:
    """Return the locked file, or None where files cannot be locked."""
    while True:
        try:
            handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError:
            return None
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            is_there = os.path.samestat(os.fstat(handle), path.stat())
        except BlockingIOError:
            os.close(handle)
            raise LabelAssembleError(
                f"another process {does} in {path.parent}: wait until it has ended, or choose another folder with "
                "--output"
            ) from None
        except FileNotFoundError:
            is_there = False
        except OSError:
            os.close(handle)
            return None
        if is_there:
            return handle
        os.close(handle)  # whoever had it has ended meanwhile, and removed it


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
