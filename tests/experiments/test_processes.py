"""Jobs side by side: the same results, and an end in good order."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures.process import _ExecutorManagerThread
from functools import partial
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from labelassemble.cli import app
from labelassemble.errors import LabelAssembleError
from labelassemble.experiments import runner
from labelassemble.experiments.processes import Killed, side_by_side


def test_two_workers_find_what_one_finds(
    tiny: dict[str, Any], shapes: Path, tmp_path: Path, run: Any
) -> None:
    one, _ = run(tiny, tmp_path / "one", shapes)
    two, _ = run(tiny, tmp_path / "two", shapes, workers=2)
    assert two.runs["fingerprint"].tolist() == one.runs["fingerprint"].tolist()
    # the number of threads changes last digits
    assert two.runs["auc"].tolist() == pytest.approx(one.runs["auc"].tolist(), abs=1e-3)
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


def _descendants(pid: int) -> list[int]:
    children = [int(text) for text in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return children + [further for child in children for further in _descendants(child)]


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
def long_one(
    tiny: dict[str, Any], shapes: Path, tmp_path: Path, begin_cli: Callable[..., ForkServerProcess]
) -> ForkServerProcess:
    """The command with two workers on jobs of many epochs, each of which has a checkpoint by now."""
    tiny["train"]["epochs"] = 100_000
    file = tmp_path / "long.yaml"
    file.write_text(yaml.safe_dump(tiny))
    process = begin_cli(
        tmp_path, "experiment", file, "--data", shapes, "--workers", 2, "-o", tmp_path / "out"
    )
    begun = time.monotonic()
    while len(list((tmp_path / "out").glob("work/*/checkpoints/last.pt"))) < 2:
        assert process.is_alive(), (tmp_path / "stderr.txt").read_text()
        assert time.monotonic() - begun < 240
        time.sleep(0.1)
    return process


def test_ctrl_c_leaves_checkpoints_and_no_process(long_one: ForkServerProcess, tmp_path: Path) -> None:
    assert long_one.pid is not None
    workers = _descendants(long_one.pid)
    assert len(workers) >= 3  # two, and the process that they are forks of
    os.kill(long_one.pid, signal.SIGINT)
    long_one.join(120)
    said = (tmp_path / "stderr.txt").read_text()
    assert long_one.exitcode == 130
    assert "Traceback" not in said
    assert "the same command goes on from there" in said
    assert len(list((tmp_path / "out").glob("work/*/checkpoints/last.pt"))) == 2
    _wait_until_gone(workers)  # the last to go is multiprocessing's own helper


def _killed_once(folder: Path, name: str) -> str:
    """End the process the first time that "b" comes; a task that can be sent to a worker."""
    mark = folder / name
    if name == "b" and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return f"{name} in {os.environ['OMP_NUM_THREADS']}"


def test_a_worker_that_is_killed_is_named_and_the_rest_goes_on(tmp_path: Path) -> None:
    tasks = [partial(_killed_once, tmp_path, name) for name in "abcde"]
    found = list(side_by_side(iter(tasks), workers=2, threads=1))
    killed = [answer for answer in found if isinstance(answer, Killed)]
    assert [answer.task for answer in killed] == [tasks[1]]
    assert sorted(answer for answer in found if isinstance(answer, str)) == [
        f"{name} in 1" for name in "acde"
    ]


def test_a_worker_that_is_killed_while_it_has_nothing_to_do_is_replaced() -> None:
    found = side_by_side(iter([os.getpid, os.getpid]), workers=1, threads=1)
    first = next(found)
    assert isinstance(first, int)
    os.kill(first, signal.SIGKILL)
    while any(isinstance(thread, _ExecutorManagerThread) for thread in threading.enumerate()):
        time.sleep(0.01)  # until the pool has noticed
    second = next(found)
    assert isinstance(second, int)
    assert second != first
    assert list(found) == []


def test_the_command_says_which_runs_were_killed(
    tiny: dict[str, Any], shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "side_by_side", _kill_the_first)
    file = tmp_path / "tiny.yaml"
    file.write_text(yaml.safe_dump(tiny))
    arguments = ["experiment", str(file), "--data", str(shapes), "-o", str(tmp_path / "out"), "--seeds", "1"]
    result = CliRunner().invoke(app, [*arguments, "--workers", "2"])
    assert isinstance(
        result.exception, LabelAssembleError
    )  # which `main` turns into a sentence and exit status 2
    assert str(result.exception) == (
        "the process of 1 runs was killed (for its memory?): the same command does them again, with less --workers if "
        "need be:\n  squares, binary, n = 12: 1 runs"
    )
    assert "squares, binary, n = 12, seed 0: its process was killed, for its memory perhaps" in result.output
    assert "1/2  squares, multi-class, n = 12, seed 0  AUC" in result.output
    assert "The budget ended" not in result.output


def _kill_the_first(tasks: Iterator[Any], **_: object) -> Iterator[Any]:
    yield Killed(next(tasks))
    for task in tasks:
        yield task()


def test_workers_end_when_their_parent_is_killed(long_one: ForkServerProcess) -> None:
    assert long_one.pid is not None
    workers = _descendants(long_one.pid)
    os.kill(long_one.pid, signal.SIGKILL)
    _wait_until_gone(workers)
