"""A dataset as one stack of small images, decoded and resized once, which all jobs share."""

import hashlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from labelassemble.data import Source, assemble
from labelassemble.data.images import decode_image
from labelassemble.errors import LabelAssembleError, did_you_mean
from labelassemble.experiments.packed import PackedSource
from labelassemble.experiments.settings import Candidate, Dataset
from labelassemble.views.preprocess import resize, to_unit_range


class NotAtHand(LabelAssembleError):
    """None of a dataset's places exists here; the sentence says what to download."""


@dataclass(frozen=True)
class Stack:
    """Images of one size with their labels.

    Attributes:
        file: .npz with `images`, uint8 [N, S, S] or [N, S, S, 3], uncompressed, so that it is mapped, not read.
        classes: the names.
        targets: float32 [N, C], NaN = unknown.
        splits: "train", "val" or "test" of each image.
        groups: the patient of each image, for intervals; an image without one is its own.
        fingerprint: of pixels, labels, splits and, where there are several, sources.
        sources: the source of each image; None where it is not known.
        assumed: where a label was assumed and not given by anybody, bool [N, C]; None for nowhere.
    """

    file: Path
    classes: tuple[str, ...]
    targets: NDArray[np.float32]
    splits: NDArray[np.str_]
    groups: NDArray[np.str_]
    fingerprint: str
    sources: NDArray[np.str_] | None = None
    assumed: NDArray[np.bool_] | None = None

    @property
    def given(self) -> NDArray[np.float32]:
        """The targets without those that are assumed, float32 [N, C]."""
        if self.assumed is None:
            return self.targets
        return np.where(self.assumed, np.float32(np.nan), self.targets)

    def paths(self, rows: NDArray[np.int64]) -> list[str]:
        """Return references to these images that views and `predict` take."""
        return [f"{self.file}::images::{row}" for row in rows]

    def rows(self, split: str) -> NDArray[np.int64]:
        """Return the rows of a split."""
        return np.flatnonzero(self.splits == split)


def open_stack(name: str, dataset: Dataset, *, data: Path, size: int, channels: int, cache: Path) -> Stack:
    """Return a dataset as a stack, made at the first call and kept in `cache`.

    Args:
        name: the dataset's key.
        dataset: its options.
        data: the folder at which relative paths start.
        size, channels: of the images.
        cache: folder for stacks.

    Raises:
        NotAtHand: no place of it exists, or not all that belong together.
        LabelAssembleError: damaged files, or a class that it lacks.
    """
    key = hashlib.sha256(f"{dataset.model_dump_json()}|{data.resolve()}|{size}|{channels}".encode())
    file = cache.resolve() / f"{name}-{size}-{key.hexdigest()[:10]}.npz"
    if not file.exists():
        _write(file, _read(name, dataset, data, size, channels))
    with np.load(file, allow_pickle=False) as archive:
        classes = tuple(str(text) for text in archive["classes"])
        targets, splits, groups = archive["targets"], archive["splits"], archive["groups"]
        fingerprint = str(archive["fingerprint"])
        sources, assumed = archive["sources"], archive["assumed"]
    if dataset.classes is not None:
        for wanted in dataset.classes:
            if wanted not in classes:
                raise LabelAssembleError(
                    f"dataset '{name}' has no class '{wanted}'{did_you_mean(wanted, classes)}"
                )
        columns = [classes.index(wanted) for wanted in dataset.classes]
        targets, assumed = targets[:, columns], assumed[:, columns]
        classes = dataset.classes
    splits = _limited(splits, "val", dataset.validation)
    splits = _limited(splits, "test", dataset.test)
    return Stack(file, classes, targets, splits, groups, fingerprint, sources, assumed)


def _limited(splits: NDArray[np.str_], split: str, count: int | None) -> NDArray[np.str_]:
    """Return splits in which at most `count` images are in `split`, the same ones always; the others are in none."""
    rows = np.flatnonzero(splits == split)
    if count is None or len(rows) <= count:
        return splits
    kept = splits.copy()
    kept[np.random.default_rng(0).permutation(rows)[count:]] = ""
    return kept


class _Content(NamedTuple):
    """What a stack's file holds; the fields are those of `Stack`."""

    classes: tuple[str, ...]
    images: NDArray[np.uint8]
    targets: NDArray[np.float32]
    splits: NDArray[np.str_]
    groups: NDArray[np.str_]
    sources: NDArray[np.str_]
    assumed: NDArray[np.bool_]


def _read(name: str, dataset: Dataset, data: Path, size: int, channels: int) -> _Content:
    reasons = []
    for places in _choices(dataset):
        absent = [path for path in (data / _start(place) for place in places) if not path.exists()]
        if absent:
            reasons += [f"{path} does not exist" for path in absent]
            continue
        try:
            return _from_places(places, data, size, channels)
        except LabelAssembleError as error:
            reasons.append(str(error))
    reasons = list(dict.fromkeys(reasons))
    raise NotAtHand(f"dataset '{name}' is not at hand: {dataset.download} ({'; '.join(reasons)})")


def _choices(dataset: Dataset) -> list[tuple[Candidate, ...]]:
    """Return the ways to take the dataset, the first that works is taken: the places that each of them needs."""
    if not dataset.together:
        return [(place,) for place in dataset.places]
    names = dict.fromkeys(place.name for place in dataset.places)
    return list(product(*([place for place in dataset.places if place.name == name] for name in names)))


def _start(place: Candidate) -> Path:
    return getattr(place, "root", None) or getattr(place, "path", None) or Path()


def _from_places(places: Sequence[Candidate], data: Path, size: int, channels: int) -> _Content:
    first = places[0]
    if isinstance(first, PackedSource):  # which stands alone
        return _from_packed(first, data, size, channels)
    return _from_sources([p for p in places if not isinstance(p, PackedSource)], data, size, channels)


def _from_packed(place: PackedSource, data: Path, size: int, channels: int) -> _Content:
    packed = place.read(data / place.root)
    splits = packed.splits.astype("U5")
    training = np.flatnonzero(splits == "train")
    # The publisher has no validation images: a tenth of the training images, the same ones always.
    splits[np.random.default_rng(0).permutation(training)[: len(training) // 10]] = "val"
    pixels = _resized(len(splits), lambda row: packed.pixels[row], size, channels)
    return _Content(
        packed.classes,
        pixels,
        packed.targets,
        splits,
        np.arange(len(splits)).astype("U"),
        np.full(len(splits), place.name),
        np.zeros(packed.targets.shape, dtype=np.bool_),
    )


def _from_sources(places: Sequence[Source], data: Path, size: int, channels: int) -> _Content:
    table = assemble([place.resolved(data.resolve()) for place in places], duplicates="path").table
    pixels = _resized(len(table.paths), lambda row: decode_image(str(table.paths[row])), size, channels)
    targets = table.targets().astype(np.float32)
    groups = np.where(table.groups == "", np.arange(len(table.groups)).astype("U"), table.groups)
    splits = table.splits.astype("U5")
    return _Content(table.classes, pixels, targets, splits, groups, table.sources, table.assumed)


def _resized(
    count: int, pixels: Callable[[int], NDArray[np.uint8]], size: int, channels: int
) -> NDArray[np.uint8]:
    """Return uint8 [N, size, size] or [N, size, size, 3], rounded after the resize that every view makes."""
    out = np.empty((count, channels, size, size), dtype=np.uint8)
    for row in range(count):
        image = torch.from_numpy(np.array(pixels(row)))[None]
        scaled = resize(to_unit_range(image, channels), size)
        out[row] = (scaled * 255.0).round().clamp(0, 255).to(torch.uint8).numpy()[0]
    return out[:, 0] if channels == 1 else np.ascontiguousarray(out.transpose(0, 2, 3, 1))


def _write(file: Path, content: _Content) -> None:
    digest = hashlib.sha256()
    counted = [content.images, content.targets, content.splits]
    if len(np.unique(content.sources)) > 1:  # one source may be called anything
        counted += [content.sources, content.assumed]
    elif content.assumed.any():
        counted.append(content.assumed)
    for part in counted:
        digest.update(np.ascontiguousarray(part).tobytes())
    file.parent.mkdir(parents=True, exist_ok=True)
    unfinished = file.with_name(f".{os.getpid()}-{file.name}")
    values = content._asdict() | {
        "classes": np.array(content.classes),
        "fingerprint": np.array(digest.hexdigest()[:16]),
    }
    np.savez(unfinished, **values)
    os.replace(unfinished, file)
