"""A run on slices whose network was never trained, with patients in every split."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from labelassemble.config import load_config
from labelassemble.data import assemble
from labelassemble.models import ModelOptions
from labelassemble.training.checkpoint import save_checkpoint
from labelassemble.views.volume_options import VolumeOptions

CLASSES = ("disc", "bar")


def draw_cases(folder: Path, name: str, patients: int, seed: int, splits: bool = True) -> Path:
    """Write slices with masks of value 1 in every second patient and 2 in every third, a table, and a configuration."""
    rng = np.random.default_rng(seed)
    (folder / name).mkdir(parents=True)
    rows = []
    for index in range(patients):
        pixels = rng.integers(0, 90, (16, 16)).astype(np.uint8)
        mask = np.zeros((16, 16), np.uint8)
        for value, every, rows_of in ((1, 2, slice(1, 5)), (2, 3, slice(9, 12))):
            if index % every == 0:
                mask[rows_of, 3:8] = value
                pixels[rows_of, 3:8] = 100 * value
        Image.fromarray(pixels).save(folder / name / f"{index}.png")
        Image.fromarray(mask).save(folder / name / f"{index}_mask.png")
        split = ("train", "val", "val", "test", "test")[index % 5] if splits else ""
        rows.append(f"{name}/{index}.png,{name}/{index}_mask.png,{name}{index},{split}\n")
    (folder / f"{name}.csv").write_text("image,mask,patient,split\n" + "".join(rows))
    config = folder / f"{name}.yaml"
    labels = "{" + ", ".join(f"{value + 1}: {one}" for value, one in enumerate(CLASSES)) + "}"
    config.write_text(
        f"sources:\n  - {{name: {name}, reader: volumes, path: {name}.csv, masks: {{labels: {labels}}}}}\n"
        "volumes: {patch: [16, 16], overlap: 0.25, window: [0, 255]}\n"
    )
    return config


@pytest.fixture(scope="session")
def made_cases() -> Callable[..., Path]:
    """What `draw_cases` is, for tests."""
    return draw_cases


@pytest.fixture(scope="session")
def detection_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the run, beside `own.yaml`, its data, and `site.yaml`, other data."""
    pytest.importorskip("monai")
    from labelassemble.models.segmentation.segment_net import SegmentNet

    folder = tmp_path_factory.mktemp("detection")
    config = load_config(draw_cases(folder, "own", 30, 0))
    draw_cases(folder, "site", 24, 1, splits=False)
    run = folder / "run"
    (run / "checkpoints").mkdir(parents=True)
    options = VolumeOptions(patch=(16, 16), overlap=0.25, window=(0.0, 255.0))
    description = {
        "volumes": options.model_dump_json(),
        "model": ModelOptions(backbone="dynunet_small").model_dump_json(),
        "classes": json.dumps(CLASSES),
        "interest": json.dumps(CLASSES),
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # a fixture of the session is made before a test's own seed is set
        net = SegmentNet("dynunet_small", classes=CLASSES, dims=2)
    save_checkpoint(
        run / "checkpoints" / "best.pt", {"model": net.state_dict(), "description": description, "epoch": 1}
    )
    assemble(config.sources).table.to_csv(run / "table.csv")
    (run / "config.yaml").write_text(config.to_yaml())
    return run


@pytest.fixture
def evaluated(detection_run: Path, tmp_path: Path) -> Path:
    """A copy of the run, to be changed; yaml files of the data beside it are those of `detection_run`."""
    import shutil

    run = tmp_path / "run"
    shutil.copytree(detection_run, run)
    assert yaml.safe_load((run / "config.yaml").read_text())["volumes"]
    return run
