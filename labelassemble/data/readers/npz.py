"""Single-label images in NumPy archives, one per split: pixels, or the bytes of encoded files joined."""

import os
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import Field

from labelassemble.data.new_table import new_table
from labelassemble.data.parquet import float_cells
from labelassemble.data.readers.findings import single_label_states
from labelassemble.data.readers.options import FilePath, SourceOptions
from labelassemble.data.stacks import load_joined_files, load_npz_array, npz_header, npz_names
from labelassemble.data.table import Table
from labelassemble.data.text import text_array
from labelassemble.errors import LabelAssembleError

_SPLITS: Final = ("train", "val", "test")


class NpzSource(SourceOptions):
    """A folder with ``*train*.npz``, ``*test*.npz`` and perhaps ``*val*.npz``; archives without `labels` are others'.

    Each has `labels` (whole numbers [N]) and either `images` (uint8 [N, H, W] or [N, H, W, 3]) or `jpeg` (uint8, the
    bytes of all files joined) with `offsets` [N + 1]; perhaps `groups` [N] (patients, lesions) and `classes`. An image
    has exactly one class. Without an archive for val the training images are divided into train and val.

    Attributes:
        root: The folder.
        labels: The names of the classes, in the order of the labels; by default the archives' `classes`.
    """

    reader: Literal["npz"] = "npz"
    root: FilePath
    labels: Annotated[tuple[str, ...], Field(min_length=1)] | None = None

    def resolved(self, base: Path) -> Self:
        """Return the source with its path made absolute, starting at the folder `base`."""
        return self.model_copy(update={"root": base / self.root})

    def read(self) -> Table:
        """Return the table of the folder.

        Raises:
            LabelAssembleError: An archive is missing, damaged, lacks an array, or holds other labels.
        """
        files = {split: file for split in _SPLITS if (file := self._file(split)) is not None}
        classes = self._classes(files["train"])
        paths: list[str] = []
        names: list[str] = []
        labels, splits, groups = [], [], []
        for split, file in files.items():
            array, count = _images(file)
            codes = _codes(file, count, len(classes))
            base = os.path.abspath(file)
            paths.extend(f"{base}::{array}::{index}" for index in range(count))
            names.extend(f"{split}::{index}" for index in range(count))
            labels.append(single_label_states(codes, len(classes)))
            splits.extend(["trainval" if split == "train" and "val" not in files else split] * count)
            own = load_npz_array(file, "groups") if "groups" in npz_names(file) else np.full(count, "")
            if own.dtype.kind == "f":
                own = np.array(float_cells(pa.array(own)).to_pylist())
            groups.append(own.astype(np.str_))
        return new_table(
            classes,
            listed=True,
            paths=paths,
            names=names,
            labels=np.concatenate(labels),
            sources=self.name,
            groups=text_array(np.concatenate(groups)),
            splits=splits,
            files=list(files.values()),
        )

    def _file(self, split: str) -> Path | None:
        found = sorted(self.root.glob(f"*{split}*.npz")) if self.root.is_dir() else []
        found = [file for file in found if "labels" in npz_names(file)]
        exact = [file for file in found if file.name == f"{split}.npz"]
        if len(exact or found) == 1:
            return (exact or found)[0]
        if split == "val" and not found:
            return None
        raise LabelAssembleError(
            f"source '{self.name}': {self.root} must hold one archive *{split}*.npz with labels, "
            f"got {', '.join(file.name for file in found) or 'none'}"
        )

    def _classes(self, file: Path) -> tuple[str, ...]:
        if self.labels is not None:
            return self.labels
        if "classes" not in npz_names(file):
            raise LabelAssembleError(
                f"source '{self.name}': {file.name} does not name its classes, so `labels` must"
            )
        return tuple(str(name) for name in load_npz_array(file, "classes"))


def _images(file: Path) -> tuple[str, int]:
    """Return the name of the array that holds the images, and how many there are."""
    if "jpeg" in npz_names(file):
        return "jpeg", len(load_joined_files(file, "jpeg"))
    shape, dtype = npz_header(file, "images")
    if dtype != np.uint8 or len(shape) not in (3, 4) or shape[3:] not in ((), (3,)):
        raise LabelAssembleError(
            f"{file}: images must be uint8 [N, H, W] or [N, H, W, 3], got {dtype} {list(shape)}"
        )
    return "images", shape[0]


def _codes(file: Path, count: int, classes: int) -> NDArray[Any]:
    codes = load_npz_array(file, "labels")
    if codes.ndim != 1 or codes.dtype.kind not in "iu" or len(codes) != count:
        raise LabelAssembleError(
            f"{file}: must have one label per image ({count}), got {codes.dtype} {list(codes.shape)}"
        )
    if codes.size and not 0 <= codes.min() <= codes.max() < classes:
        raise LabelAssembleError(
            f"{file}: a label must be 0 to {classes - 1}, got {codes.min()} to {codes.max()}"
        )
    return codes
