"""The examples run, and say what they are there to show."""

import contextlib
import importlib.util
import io
import json
import os
import re
import runpy
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest
import torch
from PIL import Image

from labelassemble.errors import LabelAssembleError
from labelassemble.export import export_torchscript, find_program
from labelassemble.models import AssembleNet
from labelassemble.views.preprocess import Preprocess

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def run(one_thread: None, capsys: pytest.CaptureFixture[str]) -> Callable[[str], str]:
    """Run an example in this process, and return what it prints."""

    def run(name: str) -> str:
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")
        return capsys.readouterr().out

    return run


def number_after(words: str, text: str) -> float:
    found = re.search(rf"{re.escape(words)} ([0-9.]+)", text)
    assert found is not None, text
    return float(found[1])


def test_drop_in_loss_learns_from_targets_of_which_half_are_unknown(run: Callable[[str], str]) -> None:
    out = run("drop_in_loss.py")
    assert "600 labels are known, 600 are not" in out
    assert number_after("AUROC of three:", out) > 0.9
    assert number_after("AUROC of eight:", out) > 0.9


def test_drop_in_head_keeps_its_answers_when_a_class_is_added(run: Callable[[str], str]) -> None:
    out = run("drop_in_head.py")
    assert "one class: (8, 1)" in out
    assert "with Hernia: (8, 4)" in out
    assert "the others answer as before: True" in out
    assert "as nn.Linear: (4, 1024) True" in out


def test_own_reader_is_assembled_with_a_csv(run: Callable[[str], str]) -> None:
    out = run("own_reader.py")
    assert out.startswith("('melanoma', 'nevus', 'ulcer')")
    assert re.search(r"archive +ulcer +4 +0 +0 +0 +4", out)


def test_add_disease_leaves_the_old_classes_alone(run: Callable[[str], str]) -> None:
    out = run("add_disease.py")
    assert "the nine old classes answer as before: True" in out
    assert number_after("by 15 positives:", out) > 0.85


def test_optuna_search_says_what_is_best(
    run: Callable[[str], str], no_pages: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("optuna")
    monkeypatch.setattr(sys, "argv", ["optuna_search.py", "--trials", "2", "--output", str(tmp_path)])
    out = run("optuna_search.py")
    assert 0 <= number_after("best of 2 trials: AUROC", out) <= 1
    assert re.search(r"^  train\.lr=[0-9.e-]+$", out, flags=re.MULTILINE)
    assert {path.name for path in tmp_path.glob("trial-*")} == {"trial-0", "trial-1"}


# A program's variables last until its process ends. Let go before that, the network takes gloo's threads with it, and
# torch joins them while it holds the lock of Python that they may be waiting for: both wait for ever.
_of_the_program: dict[str, object] = {}


def _as_torchrun_does(rank: int, port: int, output: Path) -> None:
    """Be one of two processes that torchrun starts with an example; stdout goes to a file."""
    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    with output.open("w") as file, contextlib.redirect_stdout(file):
        _of_the_program.update(runpy.run_path(str(EXAMPLES / "global_mean.py"), run_name="__main__"))


def test_global_mean_trains_alike_on_one_and_on_two_processes(
    run: Callable[[str], str], forking: ForkServerContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    alone = run("global_mean.py")
    assert len(re.findall(r"^loss \d", alone, flags=re.MULTILINE)) == 3
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    begun = [
        forking.Process(target=_as_torchrun_does, args=(rank, port, tmp_path / f"{rank}.txt"))
        for rank in (0, 1)
    ]
    for process in begun:
        process.start()
    for process in begun:
        process.join(300)
        process.kill()
    assert [process.exitcode for process in begun] == [0, 0]
    assert (tmp_path / "0.txt").read_text() == alone
    assert (tmp_path / "1.txt").read_text() == ""


@pytest.fixture
def served(tmp_path: Path, absent: Callable[[str], NoReturn]) -> Iterator[int]:
    """The port of a server that has one small model, `chest`."""
    try:
        program = find_program("labelassemble-serve")
    except LabelAssembleError as error:
        absent(str(error))
    folder = tmp_path / "models" / "chest"
    (folder / "1").mkdir(parents=True)
    classes = ["Nodule", "Edema"]
    network = AssembleNet("patch_small", classes=classes)
    export_torchscript(
        network,
        folder / "1" / "model.pt",
        classes=classes,
        preprocess=Preprocess(1, 8),
        images=[np.full((1, 8, 8), 100, np.uint8)],
    )
    (folder / "labels.txt").write_text("\n".join(classes) + "\n")
    (folder / "config.pbtxt").write_text(
        'name: "chest"\nbackend: "pytorch"\nmax_batch_size: 4\n'
        'input [ { name: "INPUT__0" data_type: TYPE_UINT8 dims: [ -1, -1, -1 ] } ]\n'
        'output [ { name: "OUTPUT__0" data_type: TYPE_FP32 dims: [ 2 ] label_filename: "labels.txt" } ]\n'
    )
    words = [program, "--model-repository", tmp_path / "models", "--port", "0", "--access-log", "none"]
    log = tmp_path / "server.log"
    with log.open("w") as file:
        server = subprocess.Popen(words, stderr=file)
    try:
        port = port_in(log, server)
        wait_until_ready(port)
        yield port
    finally:
        server.terminate()
        server.wait(timeout=60)


def port_in(log: Path, server: subprocess.Popen[bytes]) -> int:
    """Wait until a server's log has the address that it listens on."""
    end = time.monotonic() + 60
    while (port := re.search(r"127\.0\.0\.1:(\d+)", log.read_text())) is None:
        assert server.poll() is None, log.read_text()
        assert time.monotonic() < end, log.read_text()
        time.sleep(0.02)
    return int(port[1])


def wait_until_ready(port: int) -> None:
    """Wait until the model is loaded."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        with (
            contextlib.suppress(urllib.error.HTTPError),
            urllib.request.urlopen(f"http://127.0.0.1:{port}/v2/health/ready"),
        ):
            return
        time.sleep(0.02)
    raise AssertionError("the model is not ready after a minute")


def test_cpp_client_gets_the_probabilities_of_an_image(
    served: int, cpp_program: Callable[[str], Path], tmp_path: Path
) -> None:
    client = cpp_program("client")
    file = io.BytesIO()
    Image.fromarray(np.full((20, 30), 128, np.uint8)).save(file, "PNG")
    (tmp_path / "image.png").write_bytes(file.getvalue())

    def ask(model: str) -> subprocess.CompletedProcess[str]:
        words = [client, "127.0.0.1", str(served), model, tmp_path / "image.png"]
        return subprocess.run(words, capture_output=True, text=True, check=False)

    answer = ask("chest")
    assert answer.returncode == 0, answer.stderr
    lines = answer.stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["Nodule", "Edema"]
    assert all(0 <= float(line.split()[1]) <= 1 for line in lines)
    wrong = ask("none")
    assert wrong.returncode == 1
    assert "none" in wrong.stderr


@pytest.mark.filterwarnings("default")  # IPython's own are not ours
def test_notebook_goes_from_two_csvs_to_a_report(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    one_thread: None,
    absent: Callable[[str], NoReturn],
) -> None:
    """The cells run as IPython runs them, in this process: a kernel would import everything once more."""
    if importlib.util.find_spec("IPython") is None:
        absent("the extra docs: pip install 'labelassemble[docs]'")
    from IPython.core.interactiveshell import InteractiveShell
    from traitlets.config import Config

    cells = json.loads((EXAMPLES / "two_csvs_to_a_report.ipynb").read_text(encoding="utf-8"))["cells"]
    assert not any(cell.get("outputs") for cell in cells), "the notebook is committed without outputs"
    # Shell cells find the commands beside this interpreter.
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.chdir(tmp_path)
    shell = InteractiveShell(config=Config({"HistoryManager": {"enabled": False}}))
    for cell in cells:
        if cell["cell_type"] == "code":
            shell.run_cell("".join(cell["source"])).raise_error()
    text = capsys.readouterr().out
    assert re.search(r"eight: \d+ positives, \d+ negatives, AUROC", text)
    assert (
        number_after("eight:", re.sub(r"(eight: \d+ positives, \d+ negatives, AUROC)", "eight:", text)) > 0.8
    )
    assert "report.html" in text
