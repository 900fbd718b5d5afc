"""VinDr-CXR (Nguyen et al., Scientific Data 2022) as PhysioNet ships it."""

import os
from pathlib import Path
from typing import Final, Literal, Self

import numpy as np
from numpy.typing import NDArray

from labelassemble.data.csvfile import CsvFile, shown
from labelassemble.data.readers.options import FilePath, SourceOptions
from labelassemble.data.states import NEGATIVE, POSITIVE, UNCERTAIN
from labelassemble.data.table import Table, check_class_names, new_table
from labelassemble.errors import LabelAssembleError

_CELLS: Final = {"1": 1, "1.0": 1, "0": 0, "0.0": 0}
_PARTS: Final = {"train": "trainval", "test": "test"}


class VinDrCxrSource(SourceOptions):
    """The folder with `annotations/image_labels_train.csv` and `image_labels_test.csv`, images in `train/` and `test/`.

    Three radiologists read each training image and disagree at times; the test images have one consensus. The images
    are DICOM, which needs the extra `dicom`; `suffix` is for those who have converted them. Patients are not published.

    Attributes:
        root: The folder.
        disagreement: What a class is that some of an image's readers saw and some did not: "majority", or "uncertain".
        suffix: The ending of the image files.
    """

    reader: Literal["vindr-cxr"] = "vindr-cxr"
    root: FilePath
    disagreement: Literal["majority", "uncertain"] = "majority"
    suffix: str = ".dicom"

    def resolved(self, base: Path) -> Self:
        """Return the source with its paths made absolute, starting at the folder `base`."""
        return self.model_copy(update={"root": base / self.root})

    def read(self) -> Table:
        """Return the table of the folder.

        Raises:
            LabelAssembleError: A file is missing or breaks the format; with file, line and column.
        """
        classes: tuple[str, ...] | None = None
        names: list[str] = []
        labels: list[NDArray[np.int8]] = []
        splits: list[str] = []
        for part, split in _PARTS.items():
            path = self.root / "annotations" / f"image_labels_{part}.csv"
            own, images, seen, readers = _votes(path)
            if classes is not None and set(own) != set(classes):
                raise LabelAssembleError(f"{path}, line 1: its classes must be those of the other table")
            classes = classes or own
            order = [own.index(name) for name in classes]
            labels.append(self._states(seen, readers)[:, order])
            names.extend(f"{part}/{image}{self.suffix}" for image in images)
            splits.extend([split] * len(images))
        assert classes is not None
        base = os.path.abspath(self.root)
        return new_table(
            classes,
            paths=[f"{base}/{name}" for name in names],
            names=names,
            labels=np.concatenate(labels),
            sources=self.name,
            splits=splits,
        )

    def _states(self, seen: NDArray[np.int64], readers: NDArray[np.int64]) -> NDArray[np.int8]:
        """Return the states of each image: `seen` of its `readers` saw the class, [N, C] and [N]."""
        half = 2 * seen - readers[:, None]
        states = np.where(half > 0, np.int8(POSITIVE), np.int8(NEGATIVE))
        divided = (seen > 0) & (seen < readers[:, None])
        states[divided if self.disagreement == "uncertain" else half == 0] = UNCERTAIN
        return states


def _votes(path: Path) -> tuple[tuple[str, ...], list[str], NDArray[np.int64], NDArray[np.int64]]:
    """Return (classes, images, how many readers saw each class [N, C], how many readers each image had [N])."""
    index: dict[str, int] = {}
    rows: list[int] = []
    votes: list[NDArray[np.int8]] = []
    with CsvFile(path) as file:
        file.require("image_id", "a column of VinDr-CXR's tables")
        columns = tuple(name for name in file.header if name not in ("image_id", "rad_id"))
        classes = tuple(
            "Other diseases" if name == "Other disease" else name for name in columns
        )  # one table says it so
        try:
            check_class_names(classes)
        except LabelAssembleError as error:
            raise LabelAssembleError(f"{path}, line 1: {error}") from None
        for chunk in file.chunks(("image_id", *columns)):
            for row, image in enumerate(chunk.cells("image_id")):
                if not image or "/" in image:
                    raise chunk.error(row, "image_id", f"must be the name of an image, got {shown(image)}")
                rows.append(index.setdefault(image, len(index)))
            votes.append(np.stack([chunk.states(name, _CELLS, "1 or 0") for name in columns], axis=1))
    seen = np.zeros((len(index), len(classes)), dtype=np.int64)
    if votes:
        np.add.at(seen, rows, np.concatenate(votes))
    return classes, list(index), seen, np.bincount(np.array(rows, dtype=np.int64), minlength=len(index))
