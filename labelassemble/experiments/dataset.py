"""A dataset read and assembled, its images decoded and resized once for all jobs."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from labelassemble._files import atomic_path, make_folder
from labelassemble.data import Source, Table, assemble
from labelassemble.data.images import decode_image
from labelassemble.data.states import NEGATIVE, UNKNOWN
from labelassemble.data.text import text_array
from labelassemble.errors import LabelAssembleError
from labelassemble.experiments.experiment import DatasetOptions, Transform
from labelassemble.views.preprocess import resize, to_unit_range

BORDER: Final = 8
"""The border is as wide as the side divided by this."""
THUMBNAIL: Final = 8
"""Side of the thumbnail, in pixels."""
_BLOCK: Final = (
    1024  # images that are transformed together, so that floats of a large set need not fit in memory
)


class NotAtHand(LabelAssembleError):
    """None of a dataset's sources exists here; the sentence says what to download."""


@dataclass(frozen=True)
class Dataset:
    """Images of one size with their labels.

    Attributes:
        table: the images, labels 1, 0 and -1 = unknown; paths are members of `file`. An image whose split is "" does
            not take part.
        file: .npz with `images`, uint8 [N, S, S] or [N, S, S, 3], uncompressed, so that it is mapped, not read.
        fingerprint: of pixels, labels, splits and sources.
    """

    table: Table
    file: Path
    fingerprint: str

    @property
    def given(self) -> NDArray[np.int8]:
        """The labels without those that are assumed, int8 [N, C]."""
        return np.where(self.table.assumed, np.int8(UNKNOWN), self.table.labels)

    def rows(self, *splits: str) -> NDArray[np.int64]:
        """Return the rows of the splits."""
        return np.flatnonzero(np.isin(self.table.splits, splits))

    def select_classes(self, classes: Sequence[str]) -> "Dataset":
        """Return the dataset with only `classes`, in their order."""
        return replace(self, table=self.table.select_classes(classes))

    def transformed(self, transform: Transform | None) -> "Dataset":
        """Return the dataset with other images, made at the first call and kept beside its own file."""
        if transform is None:
            return self
        file = self.file.with_name(f"{self.file.stem}-{transform}.npz")
        if not file.exists():
            with np.load(self.file, allow_pickle=False) as archive:
                images = archive["images"]
            change = border if transform == "border" else thumbnail
            parts = [change(images[start : start + _BLOCK]) for start in range(0, len(images), _BLOCK)]
            _save(file, np.concatenate(parts))
        return Dataset(
            replace(self.table, paths=text_array(_paths(file, len(self.table)))), file, self.fingerprint
        )


def border(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return images [N, S, S] or [N, S, S, 3] that are black but for a border of S / `BORDER` pixels, at least one.

    Images of a disease and images without it often come from different hospitals. Where a network that is given
    nothing but the border, or a thumbnail, is about as good as one with the whole image, neither figure says that a
    finding was recognised (after Maguolo and Nanni, Information Fusion 2021).
    """
    width = max(1, images.shape[1] // BORDER)
    left = images.copy()
    left[:, width:-width, width:-width] = 0
    return left


def thumbnail(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return images [N, S, S] or [N, S, S, 3] averaged to 8x8 pixels and enlarged again, each pixel a square."""
    side = images.shape[1]
    pixels = torch.from_numpy(images.reshape(len(images), side, side, -1)).permute(0, 3, 1, 2).float()
    small = functional.interpolate(pixels, size=(THUMBNAIL, THUMBNAIL), mode="area").round()
    large = functional.interpolate(small, size=(side, side), mode="nearest-exact")
    return large.to(torch.uint8).permute(0, 2, 3, 1).reshape(images.shape).contiguous().numpy()


def open_dataset(
    name: str, options: DatasetOptions, *, data: Path, size: int, channels: int, cache: Path
) -> Dataset:
    """Return a dataset; its images are decoded and resized at the first call and kept in `cache`.

    Args:
        name: the dataset's key.
        options: its options.
        data: the folder at which relative paths start.
        size, channels: of the images.
        cache: folder for images.

    Raises:
        NotAtHand: no source of it can be read, or not all that belong together.
        LabelAssembleError: damaged images.
    """
    table = dataset_table(name, options, data)
    key = hashlib.sha256("\n".join([*table.paths.tolist(), f"{size} {channels}"]).encode())
    file = cache.resolve() / f"{name}-{size}-{key.hexdigest()[:10]}.npz"
    if not file.exists():
        _save(file, _resized(table.paths.tolist(), size, channels))
    table = replace(
        table,
        paths=text_array(_paths(file, len(table))),
        labels=np.where(table.labels < NEGATIVE, np.int8(UNKNOWN), table.labels),
        origins=np.where(table.labels < NEGATIVE, np.uint8(0), table.origins),
    )
    digest = hashlib.sha256(file.with_suffix(".sha256").read_bytes())
    splits = np.array(table.splits.tolist(), dtype="U8")
    for column in (table.labels, table.assumed, splits, "\n".join(table.sources).encode()):
        digest.update(np.ascontiguousarray(column).tobytes())
    splits = _limited(_limited(splits, "val", options.validation), "test", options.test)
    return Dataset(replace(table, splits=text_array(splits)), file, digest.hexdigest()[:16])


def dataset_table(name: str, options: DatasetOptions, data: Path) -> Table:
    """Return the assembled table of the first of a dataset's sources that is at hand.

    Raises:
        NotAtHand: none can be read, or not all that belong together.
    """
    reasons = []
    for sources in _choices(options):
        absent = [path for path in (data / _start(source) for source in sources) if not path.exists()]
        if absent:
            reasons += [f"{path} does not exist" for path in absent]
            continue
        try:
            return assemble([source.resolved(data.resolve()) for source in sources], duplicates="path").table
        except LabelAssembleError as error:
            reasons.append(str(error))
    reasons = list(dict.fromkeys(reasons))
    raise NotAtHand(f"dataset '{name}' is not at hand: {options.download} ({'; '.join(reasons)})")


def _choices(options: DatasetOptions) -> list[tuple[Source, ...]]:
    """Return the ways to take the dataset, the first that works is taken: the sources that each of them needs."""
    if not options.together:
        return [(source,) for source in options.sources]
    names = dict.fromkeys(source.name for source in options.sources)
    return list(product(*([source for source in options.sources if source.name == name] for name in names)))


def _start(source: Source) -> Path:
    return getattr(source, "root", None) or getattr(source, "path", None) or Path()


def _limited(splits: NDArray[np.str_], split: str, count: int | None) -> NDArray[np.str_]:
    """Return splits in which at most `count` images are in `split`, the same ones always; the others are in none."""
    rows = np.flatnonzero(splits == split)
    if count is None or len(rows) <= count:
        return splits
    kept = splits.copy()
    kept[np.random.default_rng(0).permutation(rows)[count:]] = ""
    return kept


def _paths(file: Path, count: int) -> NDArray[np.str_]:
    return np.array([f"{file}::images::{row}" for row in range(count)])


def _resized(paths: Sequence[str], size: int, channels: int) -> NDArray[np.uint8]:
    """Return uint8 [N, size, size] or [N, size, size, 3], rounded after the resize that every view makes."""
    out = np.empty((len(paths), channels, size, size), dtype=np.uint8)
    for row, path in enumerate(paths):
        image = torch.from_numpy(np.array(decode_image(path)))[None]
        scaled = resize(to_unit_range(image, channels), size)
        out[row] = (scaled * 255.0).round().clamp(0, 255).to(torch.uint8).numpy()[0]
    return out[:, 0] if channels == 1 else np.ascontiguousarray(out.transpose(0, 2, 3, 1))


def _save(file: Path, images: NDArray[np.uint8]) -> None:
    """Write the images, and the hash of their pixels beside them, whole or not at all."""
    make_folder(file.parent)
    file.with_suffix(".sha256").write_text(hashlib.sha256(np.ascontiguousarray(images).data).hexdigest())
    with atomic_path(file) as unfinished, unfinished.open("wb") as stream:
        np.savez(stream, images=images)
