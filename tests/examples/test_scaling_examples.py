"""Examples of work on several processes and machines."""

import importlib.util
import io
import runpy
import subprocess
import sys
import tarfile
import types
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from labelassemble.run.parts import open_parts

EXAMPLES = Path(__file__).parents[2] / "examples"
Cli = Callable[..., tuple[int, str, str]]


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    """A folder with three shards of two images."""
    rng = np.random.default_rng(0)
    for shard in range(3):
        with tarfile.open(tmp_path / f"s-{shard}.tar", "w") as tar:
            for number in range(2):
                buffer = io.BytesIO()
                Image.fromarray(rng.integers(0, 255, (16, 16), dtype=np.uint8)).save(buffer, "PNG")
                member = tarfile.TarInfo(f"{number}.png")
                member.size = len(buffer.getvalue())
                tar.addfile(member, io.BytesIO(buffer.getvalue()))
    return tmp_path


def test_an_actor_of_ray_writes_what_predict_does(
    made_run: Path, shards: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", types.ModuleType("ray"))
    example = runpy.run_path(str(EXAMPLES / "ray_predict.py"))
    sets, folder = [shards / "s-*.tar"], shards / "answers"
    actor = example["Answer"](made_run, sets, folder)
    actor.answerer.plan.begin()
    said = actor({"part": 1})
    assert said == {"file": str(folder / "part-00001.parquet"), "images": 2, "bad": 0}
    assert open_parts(actor.answerer.plan) == [0, 2]
    status, out, err = cli("predict", made_run, *sets, "-o", folder)
    assert status == 0, err
    assert "2 parts answered, 1 were there, of 3 in all" in out
    assert cli("predict", made_run, *sets, "-o", shards / "alone")[0] == 0
    pd.testing.assert_frame_equal(pd.read_parquet(folder), pd.read_parquet(shards / "alone"))


@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="ray is not installed")
def test_two_actors_of_ray_answer_all_parts(made_run: Path, shards: Path) -> None:
    words = [sys.executable, EXAMPLES / "ray_predict.py", made_run, shards / "answers", shards / "s-*.tar"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "3 parts answered, 0 were there" in done.stdout
    assert len(pd.read_parquet(shards / "answers")) == 6


def test_the_script_of_two_nodes_is_a_shell_script_that_says_how_it_is_used() -> None:
    script = EXAMPLES / "two_nodes.sh"
    done = subprocess.run(["sh", "-n", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    done = subprocess.run(["sh", script], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == "usage: two_nodes.sh CONFIG RUN [KEY=VALUE]...\n"
