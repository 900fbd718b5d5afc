"""The data sets of presets.py: read from where they lie, and split between sources that label different things."""

import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from PIL import Image
from sklearn.datasets import load_digits

from labelassemble.data.images import decode_image

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
SKIN = ("akiec", "bcc", "bkl", "df", "melanoma", "nv", "vasc")
CHEST = (
    "Effusion",
    "Atelectasis",
    "Cardiomegaly",
    "Infiltration",
    "Mass",
    "Nodule",
    "Pneumonia",
    "Pneumothorax",
)
CHEST += ("Consolidation", "Edema", "Emphysema", "Fibrosis", "Pleural_Thickening", "Hernia")
VALIDATION = 20  # positives among the clinic's validation images; twice as many negatives


class Images(NamedTuple):
    """All images of a data set."""

    root: Path
    paths: Sequence[str]  # below the root
    groups: Sequence[str]  # patient or lesion
    labels: np.ndarray  # bool [N, C], everything known
    classes: tuple[str, ...]
    test: np.ndarray  # bool [N], the data set's own test split


@dataclass(frozen=True)
class Dataset:
    """A data set, and how it is split between the sources."""

    read: Callable[[Path, Path], Images]  # from the folders of the data and of this benchmark's work
    interest: str
    positives: int  # that the clinic trains on; twice as many negatives
    archive: int  # images of each of the two archives
    size: int  # height and width of the views
    channels: int = 1
    flip: float = 0.0
    exclusive: bool = True  # each image has exactly one class


def _digits(data: Path, work: Path) -> Images:
    digits = load_digits()
    contents = [Image.fromarray(np.round(image * (255 / 16)).astype(np.uint8)) for image in digits.images]
    rows = np.arange(len(digits.target))
    root = _write_images(work / "images" / "digits", contents, len(rows))
    labels = _one_hot(digits.target, len(DIGITS))
    # The file is ordered by writer: the last third is written by other people than the rest.
    return Images(root, _names(rows, "png"), rows.astype(str), labels, DIGITS, rows >= 1200)


def _mnist(data: Path, work: Path) -> Images:
    labels = [np.load(data / "mnist" / f"mnist_{part}.npz")["labels"] for part in ("train", "test")]
    paths = [
        f"mnist_{part}.npz::images::{row}"
        for part, own in zip(("train", "test"), labels, strict=True)
        for row in range(len(own))
    ]
    test = np.repeat([False, True], [len(own) for own in labels])
    return Images(data / "mnist", paths, paths, _one_hot(np.concatenate(labels), len(DIGITS)), DIGITS, test)


def _cifar10(data: Path, work: Path) -> Images:
    files = [np.load(data / "cifar10" / f"cifar10_{part}_jpeg.npz") for part in ("train30k", "test10k")]
    classes = tuple(str(name) for name in files[0]["classes"])
    labels = np.concatenate([file["labels"] for file in files])
    root = _write_images(work / "images" / "cifar10", _jpegs(files), len(labels))
    paths = _names(np.arange(len(labels)), "jpg")
    test = np.repeat([False, True], [len(file["labels"]) for file in files])
    return Images(root, paths, paths, _one_hot(labels, len(classes)), classes, test)


def _skin(data: Path, work: Path) -> Images:
    files = [np.load(data / "skin_ham10000" / f"{part}_images.npz") for part in ("train", "test")]
    labels, groups = (np.concatenate([file[key] for file in files]) for key in ("labels", "groups"))
    root = _write_images(work / "images" / "skin", _jpegs(files), len(labels))
    test = np.repeat([False, True], [len(file["labels"]) for file in files])
    return Images(
        root, _names(np.arange(len(labels)), "jpg"), groups, _one_hot(labels, len(SKIN)), SKIN, test
    )


def _chest(data: Path, work: Path) -> Images:
    parts = [
        pd.read_csv(data / name / "labels.csv").assign(
            path=lambda t, f=data / name: [f / p for p in t["file"]]
        )
        for name in ("cxr_nih", "cxr_nih64")
    ]
    table = pd.concat(parts, ignore_index=True)
    grey = (decode_image(path).mean(axis=0).round().astype(np.uint8) for path in table["path"])
    shrunk = (Image.fromarray(pixels).resize((64, 64), Image.Resampling.LANCZOS) for pixels in grey)
    root = _write_images(work / "images" / "chest", shrunk, len(table))
    labels = table[list(CHEST)].to_numpy() == 1
    test = (table["split"] == "test").to_numpy()
    return Images(
        root, _names(np.arange(len(table)), "png"), table["group"].to_numpy(str), labels, CHEST, test
    )


DATASETS = {
    "digits": Dataset(_digits, "eight", positives=10, archive=500, size=16),
    "mnist": Dataset(_mnist, "eight", positives=10, archive=1000, size=14),
    "cifar10": Dataset(_cifar10, "cat", positives=10, archive=1000, size=24, channels=3, flip=0.5),
    "skin": Dataset(_skin, "melanoma", positives=20, archive=1000, size=24, channels=3, flip=0.5),
    "chest": Dataset(_chest, "Effusion", positives=20, archive=600, size=32, exclusive=False),
}


def _one_hot(labels: np.ndarray, classes: int) -> np.ndarray:
    return labels[:, None] == np.arange(classes)


def _names(rows: np.ndarray, kind: str) -> list[str]:
    return [f"{row:05d}.{kind}" for row in rows]


def _jpegs(files: Sequence[Any]) -> Iterable[bytes]:
    for file in files:
        joined, offsets = file["jpeg"], file["offsets"]
        yield from (joined[start:end].tobytes() for start, end in pairwise(offsets))


def _write_images(folder: Path, contents: Iterable[Image.Image | bytes], count: int) -> Path:
    """Write the images, 00000.png (or the bytes of JPEG files, 00000.jpg) and so on, unless they are there."""
    if not folder.exists():
        print(f"writing {count} images to {folder}", flush=True)
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as name:
            part = Path(name) / "part"
            part.mkdir()
            for row, content in enumerate(contents):
                if isinstance(content, bytes):
                    (part / f"{row:05d}.jpg").write_bytes(content)
                else:
                    content.save(part / f"{row:05d}.png")
            part.rename(folder)
    return folder


def write_sources(images: Images, dataset: Dataset, seed: int, folder: Path) -> None:
    """Split the images between the sources, a CSV each; no group of images is in two parts."""
    rng = np.random.default_rng(seed)
    _, group = np.unique(images.groups, return_inverse=True)
    order = np.argsort(rng.permutation(group.max() + 1)[group], kind="stable")
    is_interest = images.labels[:, images.classes.index(dataset.interest)]
    free = ~images.test

    def take(count: int, wanted: np.ndarray, *, one_a_group: bool) -> np.ndarray:
        rows = order[(wanted & free)[order]]
        if one_a_group:
            rows = rows[np.sort(np.unique(group[rows], return_index=True)[1])]
        if len(rows) < count:
            raise SystemExit(f"{folder}: {count} images are wanted, {len(rows)} are left")
        free[np.isin(group, group[rows[:count]])] = False
        return rows[:count]

    def both(positives: int) -> np.ndarray:
        sought = take(positives, is_interest, one_a_group=True)
        return np.concatenate([sought, take(2 * positives, ~is_interest, one_a_group=True)])

    others = [name for name in images.classes if name != dataset.interest]
    any_image = np.ones(len(is_interest), dtype=bool)
    parts = [
        ("clinic", "train", [dataset.interest], both(dataset.positives)),
        ("clinic", "val", [dataset.interest], both(VALIDATION)),
        ("archive-a", "train", others[::2], take(dataset.archive, any_image, one_a_group=False)),
        ("archive-b", "train", others[1::2], take(dataset.archive, any_image, one_a_group=False)),
        ("held-out", "test", images.classes, order[images.test[order]][:2000]),
    ]
    folder.mkdir(parents=True, exist_ok=True)
    for name in dict.fromkeys(part[0] for part in parts):
        frames = []
        for _, split, labelled, rows in (part for part in parts if part[0] == name):
            about = {"path": [images.paths[row] for row in rows], "patient": group[rows], "split": split}
            columns = {c: images.labels[rows, images.classes.index(c)].astype(int) for c in labelled}
            frames.append(pd.DataFrame(about | columns))
        pd.concat(frames).to_csv(folder / f"{name}.csv", index=False)
