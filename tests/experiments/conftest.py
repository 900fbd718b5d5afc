"""Data and an experiment that are small enough for tests."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

TINY = """\
title: "Tiny"
paper: "no figure of the paper"
seeds: 2
datasets:
  shapes:
    places: [{name: shapes, reader: archives, root: shapes, labels: [square, stripe, dot]}]
    download: "draw some shapes"
  elsewhere:
    places: [{name: elsewhere, reader: mnist, root: elsewhere}]
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
loss: {pseudo_weight: 0.0, consistency_weight: 0.0, warmup_epochs: 0}
train: {epochs: 1, steps_per_epoch: 2, batch_size: 8, lr: 1.0e-3, early_stop: null}
"""


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
