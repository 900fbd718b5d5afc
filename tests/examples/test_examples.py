"""The examples run, and say what they are there to show."""

import importlib.util
import io
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest
from PIL import Image

from labelassemble.errors import LabelAssembleError
from labelassemble.export import export_torchscript, find_program
from labelassemble.models import AssembleNet
from labelassemble.views.preprocess import Preprocess

EXAMPLES = Path(__file__).parents[2] / "examples"


def run(*command: object) -> str:
    """Return what a program prints; one thread, since a small network is quicker so."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def number_after(words: str, text: str) -> float:
    found = re.search(rf"{re.escape(words)} ([0-9.]+)", text)
    assert found is not None, text
    return float(found[1])


def test_drop_in_loss_learns_from_targets_of_which_half_are_unknown() -> None:
    out = run(sys.executable, EXAMPLES / "drop_in_loss.py")
    assert "600 labels are known, 600 are not" in out
    assert number_after("AUROC of three:", out) > 0.9
    assert number_after("AUROC of eight:", out) > 0.9


def test_drop_in_head_keeps_its_answers_when_a_class_is_added() -> None:
    out = run(sys.executable, EXAMPLES / "drop_in_head.py")
    assert "one class: (8, 1)" in out
    assert "with Hernia: (8, 4)" in out
    assert "the others answer as before: True" in out
    assert "as nn.Linear: (4, 1024) True" in out


def test_own_reader_is_assembled_with_a_csv() -> None:
    out = run(sys.executable, EXAMPLES / "own_reader.py")
    assert out.startswith("('melanoma', 'nevus', 'ulcer')")
    assert re.search(r"archive +ulcer +4 +0 +0 +0 +4", out)


def test_add_disease_leaves_the_old_classes_alone() -> None:
    out = run(sys.executable, EXAMPLES / "add_disease.py")
    assert "the nine old classes answer as before: True" in out
    assert number_after("by 15 positives:", out) > 0.85


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
        yield port_in(log, server)
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


def test_cpp_client_gets_the_probabilities_of_an_image(
    served: int, cpp_program: Callable[[str], Path], tmp_path: Path
) -> None:
    client = cpp_program("client")
    file = io.BytesIO()
    Image.fromarray(np.full((20, 30), 128, np.uint8)).save(file, "PNG")
    (tmp_path / "image.png").write_bytes(file.getvalue())
    lines = run(client, "127.0.0.1", served, "chest", tmp_path / "image.png").splitlines()
    assert [line.split()[0] for line in lines] == ["Nodule", "Edema"]
    assert all(0 <= float(line.split()[1]) <= 1 for line in lines)
    wrong = subprocess.run(
        [client, "127.0.0.1", str(served), "none", tmp_path / "image.png"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert wrong.returncode == 1
    assert "none" in wrong.stderr


def test_notebook_goes_from_two_csvs_to_a_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, absent: Callable[[str], NoReturn]
) -> None:
    if importlib.util.find_spec("nbclient") is None or importlib.util.find_spec("ipykernel") is None:
        absent("the extra docs: pip install 'labelassemble[docs]'")
    import nbformat

    notebook = EXAMPLES / "two_csvs_to_a_report.ipynb"
    for cell in json.loads(notebook.read_text(encoding="utf-8"))["cells"]:
        assert not cell.get("outputs"), "the notebook is committed without outputs"
    # The notebook's kernel runs this interpreter, and its shell cells find the commands beside it.
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    program = (
        "import sys, nbformat, nbclient\n"
        "book = nbformat.read(sys.argv[1], 4)\n"
        "nbclient.NotebookClient(book, timeout=600, kernel_name='python3').execute(cwd=sys.argv[2])\n"
        "nbformat.write(book, sys.argv[2] + '/done.ipynb')\n"
    )
    run(sys.executable, "-c", program, notebook, tmp_path)
    text = json.dumps(nbformat.read(tmp_path / "done.ipynb", 4))
    assert (
        number_after("eight:", re.sub(r".*?(eight: \d+ positives, \d+ negatives, AUROC)", "eight:", text))
        > 0.8
    )
    assert "report.html" in text
