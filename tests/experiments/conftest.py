"""Data and an experiment that are small enough for tests."""

from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image
from rich.console import Console

from labelassemble.experiments.experiment import make_experiment
from labelassemble.experiments.runner import Report, run_experiment

TINY = """\
title: "Tiny"
paper: "no figure of the paper"
seeds: 2
datasets:
  shapes:
    sources: [{name: shapes, reader: npz, root: shapes, labels: [square, stripe, dot]}]
    download: "draw some shapes"
  elsewhere:
    sources: [{name: elsewhere, reader: mnist, root: elsewhere}]
    download: "fetch the idx files"
settings:
  - {name: squares, data: shapes, interest: square, sizes: [12]}
  - {name: absent, data: elsewhere, interest: "0", sizes: [12]}
parts: [{name: images, images: size, labels: all}]
arms:
  - {name: binary, classes: interest}
  - {name: multi-class, classes: all}
comparisons: [{arms: [multi-class, binary]}]
views: {size: 16, weak: {flip: 0.0}}
model: {backbone: cnn_small}
loss: {pseudo_weight: 0.0, consistency_weight: 0.0, warmup_epochs: 0}
train: {epochs: 1, steps_per_epoch: 2, batch_size: 8, lr: 1.0e-3, early_stop: null}
"""


@pytest.fixture(autouse=True)
def _quick(one_thread: None, no_pages: None) -> None:
    """Train on one thread, and draw nothing."""


@pytest.fixture
def run() -> Callable[..., tuple[Report, str]]:
    """Run an experiment of these values: ``report, text = run(values, output, data, **options)``."""

    def run(values: dict[str, Any], output: Path, data: Path, **options: Any) -> tuple[Report, str]:
        text = StringIO()
        console = Console(file=text, width=200)
        report = run_experiment(make_experiment(values), output, data=data, console=console, **options)
        return report, text.getvalue()

    return run


@pytest.fixture
def tiny() -> dict[str, Any]:
    """The values of an experiment over `shapes`, which trains in a second, and a dataset that is not there."""
    values: dict[str, Any] = yaml.safe_load(TINY)
    return values


@pytest.fixture
def shapes(tmp_path: Path) -> Path:
    """A data folder with 120 + 30 images of three shapes, in archives."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "data" / "shapes"
    folder.mkdir(parents=True)
    for split, count in (("train", 120), ("test", 30)):
        labels = np.arange(count) % 3
        images = rng.integers(0, 60, (count, 16, 16), dtype=np.uint8)
        images[labels == 0, 4:12, 4:12] += 150
        images[labels == 1, :, 7:9] += 150
        images[labels == 2, 7:9, 7:9] += 150
        np.savez(folder / f"{split}.npz", images=images, labels=labels)
    return tmp_path / "data"


HOSPITALS = """\
title: "Hospitals"
paper: "no figure of the paper"
figure: sources
checkpoint: last
seeds: 2
datasets:
  hospitals:
    together: true
    sources:
      - {name: east, reader: csv, path: east.csv, classes: [mass]}
      - {name: west, reader: csv, path: nowhere.csv, classes: [mass]}
      - {name: west, reader: csv, path: west.csv, classes: [mass]}
      - {name: archive, reader: csv, path: archive.csv, classes: [stripe], assume: {mass: negative}}
    download: "ask the hospitals"
settings: [{name: masses, data: hospitals, interest: mass, sizes: [4, 8]}]
parts:
  - {name: clinic, images: size, times: 2, positives: size, labels: interest, sources: [east, west]}
  - {name: old, images: all, labels: others, sources: [archive]}
arms:
  - {name: alone, classes: interest, parts: [clinic]}
  - {name: border, transform: border}
comparisons: [{arms: [border, alone], tests: [paired-t]}]
views: {size: 16, weak: {flip: 0.0}}
model: {backbone: cnn_small}
loss: {pseudo_weight: 0.0, consistency_weight: 0.0, warmup_epochs: 0}
train: {epochs: 1, steps_per_epoch: 2, batch_size: 8, lr: 1.0e-3, sampling: balanced, early_stop: null}
"""


@pytest.fixture
def hospital_values() -> dict[str, Any]:
    """The values of an experiment over `hospitals`, which trains in a second."""
    values: dict[str, Any] = yaml.safe_load(HOSPITALS)
    return values


@pytest.fixture
def hospitals(tmp_path: Path) -> Path:
    """A data folder with three tables of 48 images, a patient each: two label a mass, one only a stripe.

    Splits of a table: 24 train, 8 val, 16 test. Half of the images show what the table labels. The archive's images are
    brighter at their border.
    """
    rng = np.random.default_rng(0)
    folder = tmp_path / "hospitals"
    (folder / "images").mkdir(parents=True)
    for source, finding in (("east", "mass"), ("west", "mass"), ("archive", "stripe")):
        lines = [f"path,patient,split,{finding}"]
        for index in range(48):
            pixels = rng.integers(0, 60, (16, 16), dtype=np.uint8)
            if source == "archive":
                pixels[:2] += 100
            if index % 2 and finding == "mass":
                pixels[5:11, 5:11] += 150
            elif index % 2:
                pixels[:, 7:9] += 100
            name = f"images/{source}-{index}.png"
            Image.fromarray(pixels).save(folder / name)
            split = ("train", "train", "train", "val", "test", "test")[index // 2 % 6]
            lines.append(f"{name},{index},{split},{index % 2}")
        (folder / f"{source}.csv").write_text("\n".join(lines) + "\n")
    return folder
