"""The whole way of a trained network: AssembleNet with the class-query head, exported, answered by the C++ program."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from labelassemble.export import export_torchscript, load_metadata, run_program
from labelassemble.models import AssembleNet
from labelassemble.views.preprocess import Preprocess


@pytest.mark.parametrize("head", ["class_query", "linear", "multi_network", "source_heads", "task_code"])
def test_assembled_network_answers_in_cpp_as_in_python(tmp_path: Path, head: str) -> None:
    classes = ["Nodule", "Edema", "COVID-19"]
    sources = {"nih": ["Nodule", "Edema"], "covidx": ["COVID-19", "Nodule"]}
    network = AssembleNet("densenet_small", classes=classes, head=head, in_channels=1, sources=sources)
    with torch.no_grad():  # statistics of a batch, as training leaves them
        network(torch.randn(32, 1, 16, 16) * 2 + 1)
    preprocess = Preprocess(1, 16)
    images = [np.full((1, 16, 16), level, np.uint8) for level in range(0, 256, 25)]
    images += [np.random.default_rng(0).integers(0, 256, (3, 30, 21), dtype=np.uint8)]
    summary = export_torchscript(
        network, tmp_path / "model.pt", classes=classes, preprocess=preprocess, images=images
    )
    assert summary.metadata.difference <= 1e-5
    assert load_metadata(tmp_path / "model.pt").classes == tuple(classes)

    network.eval()
    with torch.inference_mode():
        prepared = torch.cat([preprocess(torch.from_numpy(image)[None]) for image in images])
        expected = torch.sigmoid(network(prepared)).numpy()
    assert expected.std(axis=0).min() > 1e-4  # the images do not all look the same to it
    answer = run_program(tmp_path / "model.pt", images, threads=1)
    np.testing.assert_allclose(answer, expected, atol=1e-5)


def test_default_backbone_exports_without_a_warning_and_holds_its_weights_once(tmp_path: Path) -> None:
    program = """
import sys
import numpy as np
from labelassemble.export import export_torchscript
from labelassemble.models import AssembleNet
from labelassemble.views.preprocess import Preprocess

classes = ["Nodule", "Edema"]
network = AssembleNet("densenet121", classes=classes, in_channels=1)
images = [np.full((1, 64, 64), 100, np.uint8)]
export_torchscript(network, sys.argv[1], classes=classes, preprocess=Preprocess(1, 64), images=images)
"""
    path = tmp_path / "model.pt"
    # A process of its own: torch warns of some things only at the first import.
    command = [sys.executable, "-W", "error", "-c", program, path]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert 25e6 < path.stat().st_size < 35e6  # 7 million weights, once
