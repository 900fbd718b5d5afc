"""Checkpoints: written whole or not at all, read without executing anything."""

import os
import tempfile
from pathlib import Path
from typing import Any

import torch

from labelassemble.errors import LabelAssembleError

_FORMAT = 1


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write `state` (tensors, numbers, strings, lists and dicts of them) so that `path` is the old file or the new.

    Raises:
        LabelAssembleError: the file cannot be written (a full disk, say); the old one is untouched.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            torch.save({"format": _FORMAT, **state}, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)
    except (OSError, RuntimeError) as error:
        Path(name).unlink(missing_ok=True)
        raise LabelAssembleError(f"{path}: cannot write the checkpoint ({error})") from error
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Return what `save_checkpoint` wrote, on the CPU.

    Raises:
        LabelAssembleError: no such file, a damaged one, or one of another format.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise LabelAssembleError(f"{path}: no such checkpoint") from None
    except Exception as error:
        first_line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise LabelAssembleError(f"{path}: not a readable checkpoint ({first_line})") from error
    if not isinstance(state, dict) or state.get("format") != _FORMAT:
        found = state.get("format") if isinstance(state, dict) else type(state).__name__
        raise LabelAssembleError(f"{path}: a checkpoint of format {_FORMAT} was expected, got {found}")
    return state
