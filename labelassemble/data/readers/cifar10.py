"""CIFAR-10 (Krizhevsky 2009) as its python batches or as its binary ones."""

import os
from pathlib import Path
from typing import Final, Literal, Self

import numpy as np

from labelassemble.data.new_table import new_table
from labelassemble.data.readers.findings import single_label_states
from labelassemble.data.readers.folders import DatasetFolder
from labelassemble.data.readers.options import FilePath, SourceOptions
from labelassemble.data.stacks import load_cifar_batch
from labelassemble.data.table import Table
from labelassemble.errors import LabelAssembleError

CIFAR10_CLASSES: Final = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)


class Cifar10Source(SourceOptions):
    """The folder `cifar-10-batches-py` with `data_batch_1` to `data_batch_5` and `test_batch`.

    Or `cifar-10-batches-bin`, where each of these names ends in `.bin`.

    Ten classes, of which an image has exactly one. The training batches are divided into train and val.

    Attributes:
        root: The folder.
    """

    reader: Literal["cifar10"] = "cifar10"
    root: FilePath

    def resolved(self, base: Path) -> Self:
        """Return the source with its paths made absolute, starting at the folder `base`."""
        return self.model_copy(update={"root": base / self.root})

    def read(self) -> Table:
        """Return the table of the folder.

        Raises:
            LabelAssembleError: A batch is missing or damaged.
        """
        paths: list[str] = []
        names: list[str] = []
        labels, splits = [], []
        folder = DatasetFolder(self.name, self.root)
        test = folder.find_table(("test_batch.bin",)) or folder.find_table(("test_batch",))
        root = self.root if test is None else test.parent
        end = "" if test is None else test.suffix
        batches = (*(f"data_batch_{number}{end}" for number in range(1, 6)), f"test_batch{end}")
        for file in batches:
            path = root / file
            batch = load_cifar_batch(path)
            count = len(batch.labels)
            if count and not 0 <= batch.labels.min() <= batch.labels.max() < len(CIFAR10_CLASSES):
                raise LabelAssembleError(
                    f"{path}: a label must be 0 to 9, got {batch.labels.min()} to {batch.labels.max()}"
                )
            base = os.path.abspath(path)
            paths.extend(f"{base}::{index}" for index in range(count))
            names.extend(f"{file}/{name}" for name in batch.names)
            labels.append(single_label_states(batch.labels, len(CIFAR10_CLASSES)))
            splits.extend(["test" if file.startswith("test") else "trainval"] * count)
        return new_table(
            CIFAR10_CLASSES,
            listed=True,
            paths=paths,
            names=names,
            labels=np.concatenate(labels),
            sources=self.name,
            splits=splits,
            files=[root / file for file in batches],
        )
