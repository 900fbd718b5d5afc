"""MedMNIST's `.npz` files (Yang et al., Scientific Data 2023), 28 to 224 pixels, all 2-D tasks."""

import os
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from labelassemble.data.new_table import new_table
from labelassemble.data.readers.medmnist_info import MEDMNIST, MedMnistInfo
from labelassemble.data.readers.options import FilePath, SourceOptions
from labelassemble.data.stacks import load_npz_array, npz_header, npz_names
from labelassemble.data.states import NEGATIVE, POSITIVE
from labelassemble.data.table import Table
from labelassemble.errors import LabelAssembleError, did_you_mean

_SPLITS: Final = ("train", "val", "test")


class MedMnistSource(SourceOptions):
    """A file such as `retinamnist.npz` or `chestmnist_224.npz`: images and labels of train, val and test.

    Classes by task: binary sets have one, the finding ("pneumonia", "malignant"); multi-class and multi-label sets one
    a label; ordinal sets one a grade ("grade 3": it is this grade) or a threshold ("grade >= 3").

    Attributes:
        path: The file.
        dataset: The set, by default what the file's name starts with.
        ordinal: How grades become classes.
    """

    reader: Literal["medmnist"] = "medmnist"
    path: FilePath
    dataset: Annotated[str, Field(min_length=1)] | None = None
    ordinal: Literal["grades", "thresholds"] = "grades"

    def resolved(self, base: Path) -> Self:
        """Return the source with its path made absolute, starting at the folder `base`."""
        return self.model_copy(update={"path": base / self.path})

    def read(self) -> Table:
        """Return the table of the file.

        Raises:
            LabelAssembleError: The file is missing, damaged, of an unknown set, or its labels are not that set's.
        """
        info = self._info()
        names = npz_names(self.path)
        for split in _SPLITS:
            for array in (f"{split}_images", f"{split}_labels"):
                if array not in names:
                    raise LabelAssembleError(
                        f"{self.path}: the archive has no array '{array}', got {', '.join(names)}"
                    )
        members: list[str] = []
        labels, splits = [], []
        for split in _SPLITS:
            values = load_npz_array(self.path, f"{split}_labels")
            shape, dtype = npz_header(self.path, f"{split}_images")
            if (
                dtype != np.uint8
                or len(shape) not in (3, 4)
                or shape[3:] not in ((), (3,))
                or shape[0] != len(values)
            ):
                raise LabelAssembleError(
                    f"{self.path}: {split}_images must be uint8 [{len(values)}, H, W] or [{len(values)}, H, W, 3], "
                    f"got {dtype} {list(shape)}"
                )
            labels.append(self._states(values, info, f"{split}_labels"))
            members.extend(f"{split}_images::{index}" for index in range(len(values)))
            splits.extend([split] * len(values))
        base = os.path.abspath(self.path)
        return new_table(
            self._classes(info),
            listed=True,
            paths=[f"{base}::{member}" for member in members],
            names=members,
            labels=np.concatenate(labels),
            sources=self.name,
            splits=splits,
            files=[self.path],
        )

    def _info(self) -> MedMnistInfo:
        wanted = self.dataset or self.path.name.split(".")[0].split("_")[0]
        info = MEDMNIST.get(wanted.lower())
        if info is None:
            near = did_you_mean(wanted, MEDMNIST)
            kind = (
                "has volumes, which have no reader here"
                if wanted.lower().endswith("3d")
                else "is no set of MedMNIST"
            )
            raise LabelAssembleError(f"source '{self.name}': dataset '{wanted}' {kind}{near}")
        return info

    def _classes(self, info: MedMnistInfo) -> tuple[str, ...]:
        if info.task == "binary":
            return (info.labels[_finding(info)],)
        if info.task == "ordinal":
            if self.ordinal == "grades":
                return tuple(f"grade {grade}" for grade in info.labels)
            return tuple(f"grade >= {grade}" for grade in info.labels[1:])
        return info.labels

    def _states(self, values: NDArray[Any], info: MedMnistInfo, array: str) -> NDArray[np.int8]:
        count = len(info.labels)
        width = count if info.task == "multi-label" else 1
        highest = 1 if info.task == "multi-label" else count - 1
        if values.ndim != 2 or values.shape[1] != width or values.dtype.kind not in "iu":
            raise LabelAssembleError(
                f"{self.path}: {array} must be whole numbers [N, {width}], got {values.dtype} {list(values.shape)}"
            )
        if values.size and (values.min() < 0 or values.max() > highest):
            raise LabelAssembleError(
                f"{self.path}: {array} must be 0 to {highest}, got {values.min()} to {values.max()}"
            )
        if info.task == "multi-label":
            positive = values == 1
        elif info.task == "binary":
            positive = values == _finding(info)
        elif info.task == "ordinal" and self.ordinal == "thresholds":
            positive = values >= np.arange(1, count)
        else:
            positive = values == np.arange(count)
        return np.where(positive, np.int8(POSITIVE), np.int8(NEGATIVE))


def _finding(info: MedMnistInfo) -> int:
    """Return the label of a binary set that is a finding: BreastMNIST counts malignant as 0."""
    return 0 if info.labels[0] == "malignant" else 1
