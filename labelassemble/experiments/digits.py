"""The demo's images: scikit-learn's 1,797 handwritten digits, divided among sources that label different things."""

import csv
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from labelassemble._files import atomic_file, make_folder
from labelassemble.errors import LabelAssembleError

NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")

CLINIC_IMAGES = 15
"""Images that the clinic trains on: 5 eights and 10 others."""
_CLINIC_VAL = 60
ARCHIVE_IMAGES = 400
"""Images of each archive for training."""
_ARCHIVE_VAL = 60
_ARCHIVES = {
    "archive-a": ("zero", "one", "two", "three", "four"),
    "archive-b": ("five", "six", "seven", "nine"),
}
_INTEREST = NAMES.index("eight")


def write_images(folder: Path) -> None:
    """Write all digits into `folder` as 0000.png to 1796.png, 8x8 pixels, grey.

    Raises:
        LabelAssembleError: scikit-learn, which ships the images, is not installed.
    """
    make_folder(folder)
    for index, image in enumerate(_digits().images):
        # 17 grey levels, 0..16, onto 0..255.
        Image.fromarray(np.round(image * (255 / 16)).astype(np.uint8)).save(folder / f"{index:04d}.png")


def write_tables(folder: Path, *, seed: int, clinic_images: int = CLINIC_IMAGES) -> None:
    """Write one CSV per source into `folder`: clinic, archive-a, archive-b; what these do not get is in held-out.

    Args:
        folder: is made; the tables name the files of `write_images`.
        seed: of the random choice of images for each source.
        clinic_images: images that the clinic trains on, 3 to 300. It looked for eights, so a third of them are.

    Raises:
        LabelAssembleError: scikit-learn is not installed, or too few or too many images.
    """
    if not 3 <= clinic_images <= 300:
        raise LabelAssembleError(f"the clinic's images must be 3 to 300, got {clinic_images}")
    target = _digits().target
    order = np.random.default_rng(seed).permutation(len(target))
    eights = [int(i) for i in order if target[i] == _INTEREST]
    others = [int(i) for i in order if target[i] != _INTEREST]

    def take(count: int) -> list[int]:
        sought = count // 3
        taken = eights[:sought] + others[: count - sought]
        del eights[:sought], others[: count - sought]
        return taken

    make_folder(folder)
    table = partial(_write_csv, target=target)
    clinic = [(i, "train") for i in take(clinic_images)] + [(i, "val") for i in take(_CLINIC_VAL)]
    table(folder / "clinic.csv", clinic, ("eight",))
    left = [int(i) for i in order if i in set(eights + others)]
    for name, labels in _ARCHIVES.items():
        taken = left[: ARCHIVE_IMAGES + _ARCHIVE_VAL]
        del left[: len(taken)]
        rows = [(i, "train" if n < ARCHIVE_IMAGES else "val") for n, i in enumerate(taken)]
        table(folder / f"{name}.csv", rows, labels)
    table(folder / "held-out.csv", [(i, "test") for i in left], NAMES)


def _digits() -> Any:
    """Return scikit-learn's digits: `images` float [1797, 8, 8], 0 to 16, and `target` int [1797]."""
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise LabelAssembleError(
            "the demo's images ship with scikit-learn, which is not installed: pip install scikit-learn"
        ) from None
    return load_digits()


def _write_csv(
    path: Path, rows: list[tuple[int, str]], labels: tuple[str, ...], *, target: np.ndarray
) -> None:
    with atomic_file(path) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["path", "split", *labels])
        for index, split in rows:
            known = [int(NAMES[target[index]] == name) for name in labels]
            writer.writerow([f"{index:04d}.png", split, *known])
