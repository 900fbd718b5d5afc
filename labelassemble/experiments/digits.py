"""The demo's images: scikit-learn's 1,797 handwritten digits, dealt to sources that label different things."""

import csv
from pathlib import Path

import numpy as np
from PIL import Image

from labelassemble.errors import LabelAssembleError

NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


CLINIC_IMAGES = 60
_CLINIC_VAL = 60
_ARCHIVE_TRAIN, _ARCHIVE_VAL = 400, 60
_ARCHIVES = {
    "archive-a": ("zero", "one", "two", "three", "four"),
    "archive-b": ("five", "six", "seven", "nine"),
}
_INTEREST = NAMES.index("eight")


def write_digits(folder: Path, *, seed: int, clinic_images: int = CLINIC_IMAGES) -> None:
    """Write the digits as PNG files and a CSV a source into `folder`; what the sources don't get is held out.

    Args:
        folder: is made; gets images/*.png (8x8, grey) and clinic.csv, archive-a.csv, archive-b.csv, held-out.csv.
        seed: of the dealing.
        clinic_images: images that the clinic trains on, 3 to 300. It looked for eights, so a third of them are.

    Raises:
        LabelAssembleError: scikit-learn, which ships the images, is not installed, or too few or too many images.
    """
    if not 3 <= clinic_images <= 300:
        raise LabelAssembleError(f"the clinic's images must be 3 to 300, got {clinic_images}")
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise LabelAssembleError(
            "the demo's images ship with scikit-learn, which is not installed: pip install scikit-learn"
        ) from None
    digits = load_digits()
    images_folder = folder / "images"
    images_folder.mkdir(parents=True, exist_ok=True)
    for index, image in enumerate(digits.images):
        # 17 grey levels, 0..16, onto 0..255.
        Image.fromarray(np.round(image * (255 / 16)).astype(np.uint8)).save(
            images_folder / f"{index:04d}.png"
        )

    order = np.random.default_rng(seed).permutation(len(digits.target))
    eights = [int(i) for i in order if digits.target[i] == _INTEREST]
    others = [int(i) for i in order if digits.target[i] != _INTEREST]

    def take(count: int) -> list[int]:
        sought = count // 3
        taken = eights[:sought] + others[: count - sought]
        del eights[:sought], others[: count - sought]
        return taken

    clinic = [(i, "train") for i in take(clinic_images)] + [(i, "val") for i in take(_CLINIC_VAL)]
    _write_csv(folder / "clinic.csv", clinic, ("eight",), digits.target)
    left = [int(i) for i in order if i in set(eights + others)]
    for name, labels in _ARCHIVES.items():
        taken = left[: _ARCHIVE_TRAIN + _ARCHIVE_VAL]
        del left[: len(taken)]
        rows = [(i, "train" if n < _ARCHIVE_TRAIN else "val") for n, i in enumerate(taken)]
        _write_csv(folder / f"{name}.csv", rows, labels, digits.target)
    _write_csv(folder / "held-out.csv", [(i, "test") for i in left], NAMES, digits.target)


def _write_csv(path: Path, rows: list[tuple[int, str]], labels: tuple[str, ...], target: np.ndarray) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["path", "split", *labels])
        for index, split in rows:
            known = [int(NAMES[target[index]] == name) for name in labels]
            writer.writerow([f"images/{index:04d}.png", split, *known])
