"""DTensors whose shards lie on two processes give the values and gradients of one process."""

import json
import socket
import subprocess
import sys
from multiprocessing.context import ForkServerContext
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import two_shards


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory, forking: ForkServerContext) -> list[dict[str, str]]:
    """What went wrong in each process, by check."""
    folder = tmp_path_factory.mktemp("shards")
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    begun = [forking.Process(target=two_shards.begin, args=(folder, rank, port)) for rank in (0, 1)]
    for process in begun:
        process.start()
    for process in begun:
        process.join(120)
        process.kill()
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in (0, 1)]


@pytest.mark.parametrize("name", list(two_shards.CHECKS))
def test_two_shards(results: list[dict[str, str]], name: str) -> None:
    for rank, found in enumerate(results):
        assert found.get(name, "not reached") == "", f"process {rank}: {found.get(name)}"


def test_nothing_of_dtensors_is_imported_before_the_first_comes() -> None:
    code = (
        "import sys, torch; from labelassemble import PartialLabelLoss, ClassQueryHead; "
        "before = set(sys.modules); "
        "PartialLabelLoss()(torch.zeros(2, 2), None, torch.zeros(2, 2)); ClassQueryHead(2, 2)(torch.zeros(2, 2)); "
        "print(sorted(name for name in sys.modules if name.startswith('torch.distributed.tensor')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
