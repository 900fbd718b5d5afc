"""Several processes train as one does; torchrun starts them where it matters that it does."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from multiprocessing.context import ForkServerContext
from pathlib import Path

import pytest

from labelassemble.errors import LabelAssembleError
from labelassemble.training.checkpoint import load_checkpoint
from labelassemble.training.distributed import SINGLE_PROCESS, joined, named_by_environment

sys.path.insert(0, str(Path(__file__).parent))
import two_processes

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


def _environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1"}


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@pytest.fixture(scope="module")
def results(
    tmp_path_factory: pytest.TempPathFactory,
    write_small_sources: Callable[[Path], Path],
    forking: ForkServerContext,
) -> list[dict[str, str]]:
    """What went wrong in each process, by check."""
    folder = tmp_path_factory.mktemp("two")
    write_small_sources(folder)
    bad = write_small_sources(folder / "damaged") / "images" / "north-0.png"
    bad.write_bytes(bad.read_bytes()[:60])
    port = _free_port()
    begun = [forking.Process(target=two_processes.begin, args=(folder, rank, port)) for rank in (0, 1)]
    for process in begun:
        process.start()
    for process in begun:
        process.join(300)
        process.kill()
    assert [process.exitcode for process in begun] == [0, 0]
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in (0, 1)]


@pytest.mark.parametrize("name", list(two_processes.CHECKS))
def test_two_processes(results: list[dict[str, str]], name: str) -> None:
    for rank, found in enumerate(results):
        assert found.get(name, "not reached") == "", f"process {rank}: {found.get(name)}"


def test_without_torchrun_a_process_is_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with joined() as processes:
        assert processes is SINGLE_PROCESS
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("RANK", raising=False)
    with (
        pytest.raises(
            LabelAssembleError, match=r"WORLD_SIZE is 2, but .* \('RANK'\): start them with torchrun"
        ),
        joined(),
    ):
        pass


@pytest.mark.parametrize("given", [{}, {"WORLD_SIZE": "1"}, {"RANK": "0"}, {"RANK": "0", "WORLD_SIZE": "1"}])
def test_one_process_is_alone_whatever_is_set(given: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    assert named_by_environment() is SINGLE_PROCESS
    monkeypatch.setenv("RANK", "3")
    with pytest.raises(LabelAssembleError, match="RANK must be a number below WORLD_SIZE"):
        named_by_environment()


def test_a_process_that_is_killed_ends_the_others_with_one_sentence(
    tmp_path: Path, write_small_sources: Callable[[Path], Path]
) -> None:
    folder = write_small_sources(tmp_path / "data")
    run = tmp_path / "run"
    command = [*TORCHRUN, "-m", "labelassemble", "train", str(folder / "run.yaml"), "-o", str(run)]
    command += ["train.epochs=1000", "train.batch_size=12"]
    with subprocess.Popen(command, env=_environment(), stderr=subprocess.PIPE, text=True) as torchrun:
        begun = time.monotonic()
        while not (run / "checkpoints" / "last.pt").exists():  # written after the epoch's row of metrics.csv
            assert torchrun.poll() is None, torchrun.communicate()[1][-2000:]
            assert time.monotonic() - begun < 240
            time.sleep(0.1)
        children = Path(f"/proc/{torchrun.pid}/task/{torchrun.pid}/children").read_text().split()
        assert len(children) == 2
        os.kill(int(children[1]), signal.SIGKILL)
        said = torchrun.communicate(timeout=120)[1]
    assert torchrun.returncode == 1
    lines = [line for line in said.splitlines() if line.startswith("labelassemble:")]
    assert len(lines) <= 1  # none where torchrun ended the other one before it noticed
    assert all("another process is gone" in line for line in lines)
    assert load_checkpoint(run / "checkpoints" / "last.pt")["processes"] == 2
