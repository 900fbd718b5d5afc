"""MNIST and its kin (Fashion-MNIST, KMNIST) as idx files, plain or gzip."""

import os
from pathlib import Path
from typing import Final, Literal, Self

import numpy as np

from labelassemble.data.new_table import new_table
from labelassemble.data.readers.findings import single_label_states
from labelassemble.data.readers.folders import DatasetFolder
from labelassemble.data.readers.options import FilePath, SourceOptions
from labelassemble.data.stacks import load_idx
from labelassemble.data.table import Table
from labelassemble.errors import LabelAssembleError

_PARTS: Final = {"train": "trainval", "t10k": "test"}


class MnistSource(SourceOptions):
    """The folder with `train-images-idx3-ubyte`, `train-labels-idx1-ubyte` and the two of `t10k`, each perhaps `.gz`.

    Ten classes, "0" to "9" or as `labels` calls them, of which an image has exactly one. The 60,000 are divided into
    train and val, the 10,000 are test.

    Attributes:
        root: The folder.
        labels: The names of the ten labels.
    """

    reader: Literal["mnist"] = "mnist"
    root: FilePath
    labels: tuple[str, ...] = tuple("0123456789")

    def resolved(self, base: Path) -> Self:
        """Return the source with its paths made absolute, starting at the folder `base`."""
        return self.model_copy(update={"root": base / self.root})

    def read(self) -> Table:
        """Return the table of the folder.

        Raises:
            LabelAssembleError: A file is missing or damaged, or holds other labels.
        """
        paths: list[str] = []
        names: list[str] = []
        labels, splits = [], []
        folder = DatasetFolder(self.name, self.root)
        files = []
        for part, split in _PARTS.items():
            images = folder.table("MNIST", (f"{part}-images-idx3-ubyte",))
            codes_path = folder.table("MNIST", (f"{part}-labels-idx1-ubyte",))
            files.append(codes_path)
            codes = load_idx(codes_path)
            count = len(load_idx(images))
            if codes.ndim != 1 or len(codes) != count:
                raise LabelAssembleError(
                    f"{codes_path}: must hold one label per image ({count}), got {list(codes.shape)}"
                )
            if codes.size and codes.max() >= len(self.labels):
                raise LabelAssembleError(
                    f"{codes_path}: a label must be below {len(self.labels)}, got {codes.max()}"
                )
            base = os.path.abspath(images)
            paths.extend(f"{base}::{index}" for index in range(count))
            names.extend(f"{part}::{index}" for index in range(count))
            labels.append(single_label_states(codes, len(self.labels)))
            splits.extend([split] * count)
        return new_table(
            self.labels,
            listed=True,
            paths=paths,
            names=names,
            labels=np.concatenate(labels),
            sources=self.name,
            splits=splits,
            files=files,
        )
