"""Checkpoints: written whole or not at all, verified when read, read without executing anything.

A file is what torch.save writes, followed by `_MARK` and the SHA-256 of all before it. torch.load reads it too.
"""

import hashlib
import io
import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

import torch
from torch import Tensor, nn

from labelassemble._files import atomic_path, make_folder
from labelassemble.errors import LabelAssembleError
from labelassemble.training.distributed import Processes

_FORMAT = 2
_MARK = b"labelassemble sha256:"
_FOOT = len(_MARK) + hashlib.sha256().digest_size

_log = logging.getLogger(__name__)


def save_checkpoint(path: Path, state: dict[str, Any], *, keep_previous: bool = False) -> None:
    """Write `state` (tensors, numbers, strings, lists and dicts of them) so that `path` is the old file or the new.

    Args:
        path: the file.
        state: what `load_checkpoint` is to give.
        keep_previous: leave the old file beside the new one, see `previous`.

    Raises:
        LabelAssembleError: the file cannot be written (a full disk, say); the old one is untouched.
    """
    make_folder(path.parent)
    with atomic_path(path, unfinished=path.with_name(f".{path.name}.new")) as unfinished:
        try:
            with unfinished.open("wb") as file:
                hashing = _Hashing(file)
                torch.save({"format": _FORMAT, **state}, cast(BinaryIO, hashing))
                file.write(_MARK + hashing.sha256.digest())
        except (OSError, RuntimeError) as error:
            raise LabelAssembleError(f"{path}: cannot be written ({_reason(error)})") from error
        if keep_previous and path.exists():
            aside = path.with_name(f".{path.name}.old")
            aside.unlink(missing_ok=True)
            os.link(path, aside)  # so that `path` is there at every moment
            os.replace(aside, previous(path))


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Return what `save_checkpoint` wrote, on the CPU.

    Raises:
        LabelAssembleError: no such file, one that is damaged or cut off, or one of another format.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise LabelAssembleError(f"{path}: no such checkpoint") from None
    except OSError as error:
        raise LabelAssembleError(f"{path}: cannot be read ({error.strerror})") from error
    content, foot = data[:-_FOOT], data[-_FOOT:]
    if not foot.startswith(_MARK):
        raise LabelAssembleError(f"{path}: not a whole checkpoint (no checksum at its end)")
    if hashlib.sha256(content).digest() != foot[len(_MARK) :]:
        raise LabelAssembleError(f"{path}: the checkpoint is damaged (its checksum is another)")
    try:
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:
        raise LabelAssembleError(f"{path}: not a readable checkpoint ({_reason(error)})") from error
    if not isinstance(state, dict) or state.get("format") != _FORMAT:
        found = state.get("format") if isinstance(state, dict) else type(state).__name__
        raise LabelAssembleError(f"{path}: a checkpoint of format {_FORMAT} was expected, got {found}")
    return state


def checkpoint_sum(path: Path) -> str:
    """Return the SHA-256 that a checkpoint carries, in hexadecimal digits; the file is not read whole.

    Raises:
        LabelAssembleError: no such file, or not a whole checkpoint.
    """
    try:
        with path.open("rb") as file:
            file.seek(-min(_FOOT, path.stat().st_size), os.SEEK_END)
            foot = file.read()
    except OSError as error:
        raise LabelAssembleError(f"{path}: cannot be read ({error.strerror})") from None
    if not foot.startswith(_MARK):
        raise LabelAssembleError(f"{path}: not a whole checkpoint (no checksum at its end)")
    return foot[len(_MARK) :].hex()


def load_newest(path: Path) -> dict[str, Any]:
    """Return what `path` holds, or with a warning what the one before it holds, if `path` is damaged.

    Raises:
        LabelAssembleError: neither can be read.
    """
    try:
        return load_checkpoint(path)
    except LabelAssembleError as error:
        try:
            state = load_checkpoint(previous(path))
        except LabelAssembleError as other:
            raise LabelAssembleError(f"{error}, and there is no other to go on from: {other}") from error
        _log.warning("%s; going on from the one before it, %s", error, previous(path).name)
        return state


def previous(path: Path) -> Path:
    """Return where the checkpoint before `path` is kept: ``last.pt`` has ``last.previous.pt``."""
    return path.with_name(f"{path.stem}.previous{path.suffix}")


@dataclass(frozen=True)
class Checkpoints:
    """The checkpoints of a run, which its first process writes; where that fails it fails in all.

    Attributes:
        folder: where last.pt and best.pt are.
        description: texts stored in each, with which the network can be built again.
        processes: that train together.
    """

    folder: Path
    description: dict[str, str]
    processes: Processes

    def save_last(self, state: Callable[[], dict[str, Any]]) -> None:
        """Write what ``state()`` gives, by which training goes on, and keep the file before it."""
        self._save("last.pt", state, keep_previous=True)

    def save_best(self, net: nn.Module, epoch: int) -> None:
        """Write a network that was trained for `epoch` epochs."""
        self._save("best.pt", lambda: {"model": net.state_dict(), "epoch": epoch}, keep_previous=False)

    def _save(self, name: str, state: Callable[[], dict[str, Any]], *, keep_previous: bool) -> None:
        def write() -> None:
            if not self.processes.first:
                return
            content = {"description": self.description, **state()}
            _check_finite(content["model"])
            save_checkpoint(self.folder / name, content, keep_previous=keep_previous)

        self.processes.together(write)


def _check_finite(weights: Mapping[str, Tensor]) -> None:
    """Raise before ruined weights replace a good checkpoint: a finite loss may have had an infinite gradient."""
    for name, value in weights.items():
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise LabelAssembleError(
                f"the weights '{name}' are no longer finite: lower train.lr or set train.clip_norm; "
                "the checkpoints hold the state before it"
            )


class _Hashing:
    """A file to write to that hashes what it is given."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.sha256 = hashlib.sha256()

    def write(self, data: bytes) -> int:
        self.sha256.update(data)
        return self._file.write(data)

    def flush(self) -> None:
        self._file.flush()


def _reason(error: BaseException) -> str:
    """Return the first line of what an error says, of the system's own error beneath it if there is one."""
    beneath = error.__context__ if isinstance(error, RuntimeError) else None
    error = beneath if isinstance(beneath, OSError) else error
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
