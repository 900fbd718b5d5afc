"""Jobs side by side: the same results, and an end in good order."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from labelassemble.errors import LabelAssembleError


def test_two_workers_find_what_one_finds(
    tiny: dict[str, Any], shapes: Path, tmp_path: Path, run: Any
) -> None:
    one, _ = run(tiny, tmp_path / "one", shapes)
    two, _ = run(tiny, tmp_path / "two", shapes, workers=2)
    assert [job.name for job, _ in two.done] == [job.name for job, _ in one.done]
    for (_, of_one), (_, of_two) in zip(one.done, two.done, strict=True):
        assert of_two.auc == pytest.approx(of_one.auc, abs=1e-3)  # the number of threads changes last digits
    assert len(list((tmp_path / "two" / "jobs").glob("*.json"))) == 4
    assert not list((tmp_path / "two").glob("work/*/checkpoints"))


def test_a_job_that_fails_ends_all_with_its_sentence(
    tiny: dict[str, Any], shapes: Path, tmp_path: Path, run: Any
) -> None:
    tiny["train"]["lr"] = 1e30
    tiny["train"]["epochs"] = 3
    with pytest.raises(LabelAssembleError, match="not finite"):
        run(tiny, tmp_path / "out", shapes, workers=2)


def test_what_a_training_warns_of_is_kept_in_its_own_folder(
    tiny: dict[str, Any], shapes: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, run: Any
) -> None:
    tiny["arms"] = [{"name": "pseudo", "loss": {"pseudo_weight": 1.0, "consistency_weight": 1.0}}]
    tiny["comparisons"] = []
    tiny["parts"] = [{"name": "images", "images": "size", "labels": "others"}]
    tiny["train"]["epochs"] = 4
    run(tiny, tmp_path / "out", shapes, seeds=1)
    (log,) = (tmp_path / "out").glob("work/*/log.txt")
    assert "pseudo-labels of 'square' have all been" in log.read_text()
    assert "pseudo-labels" not in caplog.text


def _children(pid: int) -> list[int]:
    return [int(text) for text in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def _wait_until_gone(processes: list[int]) -> None:
    begun = time.monotonic()
    while not all(map(_gone, processes)):
        assert time.monotonic() - begun < 60
        time.sleep(0.1)


@pytest.fixture
def long_one(tiny: dict[str, Any], shapes: Path, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """The command with two workers on jobs of many epochs, each of which has a checkpoint by now."""
    tiny["train"]["epochs"] = 100_000
    file = tmp_path / "long.yaml"
    file.write_text(yaml.safe_dump(tiny))
    command = [sys.executable, "-m", "labelassemble", "experiment", str(file), "--data", str(shapes)]
    command += ["--workers", "2", "-o", str(tmp_path / "out")]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        begun = time.monotonic()
        while len(list((tmp_path / "out").glob("work/*/checkpoints/last.pt"))) < 2:
            assert process.poll() is None, process.communicate()[1]
            assert time.monotonic() - begun < 240
            time.sleep(0.1)
        yield process
        process.kill()


def test_ctrl_c_leaves_checkpoints_and_no_process(long_one: subprocess.Popen[str], tmp_path: Path) -> None:
    workers = _children(long_one.pid)
    assert len(workers) >= 2
    os.kill(long_one.pid, signal.SIGINT)
    said = long_one.communicate(timeout=120)[1]
    assert long_one.returncode == 130
    assert "Traceback" not in said
    assert "the same command goes on from there" in said
    assert len(list((tmp_path / "out").glob("work/*/checkpoints/last.pt"))) == 2
    _wait_until_gone(workers)  # the last to go is multiprocessing's own helper


def test_a_worker_that_is_killed_ends_all_with_one_sentence(long_one: subprocess.Popen[str]) -> None:
    workers = _children(long_one.pid)
    trains = [pid for pid in workers if "spawn_main" in Path(f"/proc/{pid}/cmdline").read_text()]
    assert len(trains) == 2
    os.kill(trains[0], signal.SIGKILL)
    said = long_one.communicate(timeout=120)[1]
    assert long_one.returncode == 2
    lines = [line for line in said.splitlines() if line.startswith("labelassemble:")]
    assert len(lines) == 1, said
    assert "a worker ended within its job (exit status -9; killed for its memory?)" in lines[0]
    _wait_until_gone(workers)


def test_workers_end_when_their_parent_is_killed(long_one: subprocess.Popen[str]) -> None:
    workers = _children(long_one.pid)
    os.kill(long_one.pid, signal.SIGKILL)
    _wait_until_gone(workers)
