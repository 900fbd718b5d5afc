"""Folders in which one process at a time may be at work."""

import errno
import fcntl
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from labelassemble._files import alone_in
from labelassemble.errors import LabelAssembleError

CommandLine = Callable[..., tuple[int, str, str]]


SENTENCE = "another process trains in {}: wait until it has ended, or choose another folder with --output"


def _enter(folder: Path, write: str = "") -> None:
    with alone_in(folder, "trains"):
        if write:
            (folder / write).touch()
            raise ZeroDivisionError


def _refused(folder: Path) -> bool:
    try:
        _enter(folder)
    except LabelAssembleError as error:
        return str(error) == SENTENCE.format(folder)
    return False


def test_one_at_a_time_and_nothing_is_left_of_it(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "one"
    with alone_in(folder, "trains"):
        assert _refused(folder)
        assert not _refused(tmp_path / "runs" / "other")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ZeroDivisionError):
        _enter(folder, "log.txt")
    assert os.listdir(folder) == ["log.txt"]
    assert not _refused(folder)


def test_a_process_that_is_killed_keeps_nobody_out(tmp_path: Path) -> None:
    code = f"""
from pathlib import Path
from labelassemble._files import alone_in
with alone_in(Path({str(tmp_path)!r}), "trains"):
    print("in", flush=True)
    input()
"""
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "in\n"
        assert _refused(tmp_path)
        other.kill()
    assert (tmp_path / ".lock").exists()
    assert not _refused(tmp_path)


def test_a_lock_whose_file_its_owner_has_removed_is_taken_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its owner ends between the opening of the file here and its locking: the file locked is nobody's any more."""
    real, late = fcntl.flock, [True]

    def flock(handle: int, how: int) -> None:
        if late:
            late.clear()
            (tmp_path / ".lock").unlink()
        real(handle, how)

    monkeypatch.setattr(fcntl, "flock", flock)
    with alone_in(tmp_path, "trains"):
        assert _refused(tmp_path)


def test_where_files_cannot_be_locked_work_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def flock(handle: int, how: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    with alone_in(tmp_path, "trains"):
        assert not _refused(tmp_path)


def test_a_second_training_in_a_folder_is_refused(small_sources: Path, cli: CommandLine) -> None:
    run = small_sources / "run"
    with alone_in(run, "trains"):
        status, _, error = cli("train", small_sources / "run.yaml", "-o", run)
        assert (status, "another process trains in" in error, error.count("\n")) == (2, True, 1)
        assert os.listdir(run) == [".lock"]


def test_a_second_experiment_in_a_folder_is_refused(tmp_path: Path, cli: CommandLine) -> None:
    values: dict[str, Any] = {
        "title": "Tiny",
        "paper": "none",
        "datasets": {
            "shapes": {
                "sources": [{"name": "shapes", "reader": "mnist", "root": "shapes"}],
                "download": "draw some",
            }
        },
        "settings": [{"name": "squares", "data": "shapes", "interest": "0", "sizes": [12]}],
        "parts": [{"name": "images"}],
        "arms": [{"name": "binary", "classes": "interest"}],
    }
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(values))
    output = tmp_path / "out"
    words = ("experiment", tmp_path / "tiny.yaml", "--data", tmp_path, "-o", output)
    with alone_in(output, "runs an experiment"):
        status, _, error = cli(*words)
        assert (status, f"another process runs an experiment in {output}" in error) == (2, True)
        assert error.count("\n") == 1
    status, _, error = cli(*words)
    assert (status, "none of the experiment's datasets is at hand" in error) == (2, True)
    assert not output.exists()
