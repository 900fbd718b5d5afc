"""Made-up slices with masks, two sources of them."""

from pathlib import Path

import numpy as np
from PIL import Image

SETTINGS = """
sources:
  - {name: north, reader: volumes, path: north.csv, masks: {labels: {1: disc}}}
  - {name: south, reader: volumes, path: south.csv, masks: {labels: {3: bar}}}
volumes: {patch: [16, 16], overlap: 0.25}
model: {backbone: dynunet_small}
loss: {warmup_epochs: 1}
train: {epochs: 2, batch_size: 4, lr: 2.0e-3, ema: 0.5, channels_last: false}
"""


def write_slices(folder: Path) -> Path:
    """Write two sources of 10 slices: one draws discs, the other bars; return the configuration."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:24, :20]
    for source, value in (("north", 1), ("south", 3)):
        rows = ["image,mask,patient,split"]
        for index in range(10):
            centre = rng.integers(6, 14, 2)
            there = np.hypot(y - centre[0], x - centre[1]) < 4 if value == 1 else abs(y - centre[0]) < 2
            there &= index % 5 != 0  # some masks are empty
            image = rng.normal(90, 12, y.shape) + there * (70 if value == 1 else -60)
            split = "val" if index > 7 else "test" if index == 7 else "train"
            Image.fromarray(image.clip(0, 255).astype(np.uint8)).save(folder / f"{source}-{index}.png")
            Image.fromarray((there * value).astype(np.uint8)).save(folder / f"{source}-{index}-mask.png")
            rows.append(f"{source}-{index}.png,{source}-{index}-mask.png,{source}{index},{split}")
        (folder / f"{source}.csv").write_text("\n".join(rows) + "\n")
    config = folder / "run.yaml"
    config.write_text(SETTINGS)
    return config
