"""A run on volumes is exported from its folder."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from labelassemble.data.new_table import new_table
from labelassemble.export import load_volume_metadata
from labelassemble.models import ModelOptions
from labelassemble.models.segmentation.segment_net import SegmentNet
from labelassemble.training.checkpoint import save_checkpoint
from labelassemble.views.volume_options import VolumeOptions

nib = pytest.importorskip("nibabel")
pytest.importorskip("monai")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run's folder with a network that was not trained, and two held-out slices."""
    options = VolumeOptions(patch=(16, 16), window=(0, 100), overlap=0.25)
    net = SegmentNet("dynunet_small", classes=["PDAC", "cyst"], dims=2)
    description = {
        "volumes": options.model_dump_json(),
        "model": ModelOptions(backbone="dynunet_small").model_dump_json(),
        "classes": json.dumps(["PDAC", "cyst"]),
        "interest": json.dumps(["PDAC"]),
    }
    folder = tmp_path / "run"
    (folder / "checkpoints").mkdir(parents=True)
    state = {"model": net.state_dict(), "description": description, "epoch": 3}
    save_checkpoint(folder / "checkpoints" / "best.pt", state)
    paths = []
    for name, shape in (("large", (40, 9)), ("small", (12, 30))):
        paths.append(str(tmp_path / f"{name}.nii"))
        values = np.random.default_rng(0).normal(50, 20, shape).astype(np.float32)
        nib.save(nib.Nifti1Image(values, np.eye(4)), paths[-1])
    labels = np.array([[1, 0], [0, -1]], np.int8)
    table = new_table(
        ["PDAC", "cyst"],
        paths=paths,
        names=paths,
        labels=labels,
        sources="made",
        groups=["p1", "p2"],
        splits=["test", "val"],
    )
    table.to_csv(folder / "table.csv")
    (folder / "config.yaml").write_text(yaml.safe_dump({"detection": {"threshold": 0.4, "top": 0.05}}))
    return folder


def test_export_writes_the_network_of_a_patch(run: Path, cli: Callable[..., tuple[int, str, str]]) -> None:
    status, out, error = cli("export", run)
    assert (status, error) == (0, "")
    assert out.startswith(f"{run / 'model.pt'}: 2 classes, patches of 16 x 16, ")
    metadata = load_volume_metadata(run / "model.pt")
    assert (metadata.threshold, metadata.top, metadata.overlap) == (0.4, 0.05, 0.25)
    assert (metadata.classes, metadata.interest, metadata.window) == (("PDAC", "cyst"), ("PDAC",), (0, 100))
    script = torch.jit.load(run / "model.pt")  # type: ignore[no-untyped-call]
    assert script(torch.rand(3, 1, 16, 16)).shape == (3, 2, 16, 16)
    for arguments, reason in (
        (["--format", "onnx"], "it is exported as torchscript, pt2 or triton, got 'onnx'"),
        (["--queries"], "of the options, --output, --format, --name and --specificity go with it"),
        (["--name", "a"], "a name is of a model repository (--format triton), got the format torchscript"),
        (["--format", "triton", "--name", "a/b"], "a model's name must be letters, digits, underscores"),
    ):
        status, _, error = cli("export", run, *arguments)
        assert status == 2
        assert reason in " ".join(error.split())


def test_export_writes_a_model_repository(run: Path, cli: Callable[..., tuple[int, str, str]]) -> None:
    for arguments in (["--name", "pancreas"], []):  # again: the name is kept, the model replaced
        status, out, error = cli("export", run, "--format", "triton", *arguments)
        assert (status, error) == (0, "")
        model = run / "model_repository" / "pancreas"
        assert out.startswith(f"{model / '1' / 'model.pt'}: 2 classes, patches of 16 x 16, ")
        assert sorted(path.name for path in model.iterdir()) == ["1", "config.pbtxt", "labels.txt"]
        assert [path.name for path in model.parent.iterdir()] == ["pancreas"]
    assert load_volume_metadata(model / "1" / "model.pt").patch == (16, 16)
    assert (model / "labels.txt").read_text() == "PDAC\ncyst\n"
    config = (model / "config.pbtxt").read_text()
    assert 'input [ { name: "INPUT__0" data_type: TYPE_FP32 dims: [ 1, 16, 16 ] } ]' in config
    assert 'output [ { name: "OUTPUT__0" data_type: TYPE_FP32 dims: [ 2, 16, 16 ]' in config
