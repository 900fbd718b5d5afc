"""Small-image sets in the forms that no reader of `data` knows: NumPy archives a split, CIFAR-10's binary version."""

from io import BytesIO
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Final, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field

from labelassemble.data.containers import channels_first
from labelassemble.data.readers.cifar10 import CIFAR10_CLASSES
from labelassemble.data.readers.options import FilePath
from labelassemble.data.stacks import load_npz_array, npz_names
from labelassemble.errors import LabelAssembleError

_RECORD: Final = 1 + 3 * 32 * 32
_BATCHES: Final = (*(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin")


class PackedSource(BaseModel):
    """A folder with single-label images, all of a size.

    Attributes:
        name: as with every source.
        reader: "archives": ``*train*.npz`` and ``*test*.npz``, each with `labels` [N] and either `images` (uint8
            [N, H, W] or [N, H, W, 3]) or `jpeg` (uint8, all files joined) and `offsets` [N + 1]. "cifar10-binary":
            `data_batch_1.bin` to `data_batch_5.bin` and `test_batch.bin`, the publisher's binary version.
        root: the folder.
        labels: names of the classes, in the order of the labels.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    reader: Literal["archives", "cifar10-binary"]
    root: FilePath
    labels: Annotated[tuple[str, ...], Field(min_length=1)] = CIFAR10_CLASSES

    def read(self, root: Path) -> "Packed":
        """Return the images of the folder.

        Raises:
            LabelAssembleError: a file is missing, damaged or of another form.
        """
        parts = self._archives(root) if self.reader == "archives" else _cifar_binary(root)
        codes = np.concatenate([codes for _, _, codes in parts])
        if codes.size and codes.max() >= len(self.labels):
            raise LabelAssembleError(f"{root}: a label must be below {len(self.labels)}, got {codes.max()}")
        splits = np.concatenate([np.full(len(codes), split) for split, _, codes in parts])
        pixels = np.concatenate([pixels for _, pixels, _ in parts])
        targets = (codes[:, None] == np.arange(len(self.labels))).astype(np.float32)
        return Packed(self.labels, pixels, targets, splits)

    def _archives(self, root: Path) -> "list[_Part]":
        parts = []
        for split in ("train", "test"):
            found = sorted(root.glob(f"*{split}*.npz")) if root.is_dir() else []
            if len(found) != 1:
                raise LabelAssembleError(
                    f"{root}: must hold one archive *{split}*.npz, got {len(found) or 'none'}"
                )
            codes = load_npz_array(found[0], "labels")
            if "jpeg" in npz_names(found[0]):
                pixels = _decoded(found[0])
            else:
                pixels = channels_first(load_npz_array(found[0], "images"))
            if codes.ndim != 1 or codes.dtype.kind not in "iu" or len(codes) != len(pixels):
                raise LabelAssembleError(
                    f"{found[0]}: must have one label an image ({len(pixels)}), got {list(codes.shape)}"
                )
            parts.append((split, pixels, codes.astype(np.int64)))
        return parts


class Packed:
    """What a `PackedSource` holds.

    Attributes:
        classes: the names.
        pixels: uint8 [N, channels, H, W].
        targets: float32 [N, C], 0 or 1.
        splits: "train" or "test" of each image.
    """

    def __init__(
        self,
        classes: tuple[str, ...],
        pixels: NDArray[np.uint8],
        targets: NDArray[np.float32],
        splits: NDArray[np.str_],
    ) -> None:
        self.classes = classes
        self.pixels = pixels
        self.targets = targets
        self.splits = splits


_Part = tuple[str, NDArray[np.uint8], NDArray[np.int64]]


def _decoded(path: Path) -> NDArray[np.uint8]:
    data, offsets = load_npz_array(path, "jpeg"), load_npz_array(path, "offsets")
    if offsets.ndim != 1 or len(offsets) < 2 or offsets[-1] != len(data) or (np.diff(offsets) < 0).any():
        raise LabelAssembleError(f"{path}: offsets must rise to the {len(data)} bytes of jpeg")
    images = []
    for first, last in pairwise(offsets):
        try:
            with Image.open(BytesIO(data[first:last].tobytes())) as image:
                images.append(np.asarray(image.convert("RGB")))
        except Exception as error:  # decoders answer damage with nearly every type there is
            raise LabelAssembleError(f"{path}: image {len(images)} is damaged ({error})") from None
    if len({image.shape for image in images}) != 1:
        raise LabelAssembleError(f"{path}: images must be all of one size")
    return np.ascontiguousarray(np.stack(images).transpose(0, 3, 1, 2))


def _cifar_binary(root: Path) -> list[_Part]:
    parts: list[_Part] = []
    for name in _BATCHES:
        try:
            data = np.fromfile(root / name, dtype=np.uint8)
        except OSError as error:
            raise LabelAssembleError(f"{root / name}: cannot be read ({error.strerror})") from None
        if not len(data) or len(data) % _RECORD:
            raise LabelAssembleError(f"{root / name}: must be records of {_RECORD} bytes, got {len(data)}")
        records = data.reshape(-1, _RECORD)
        split = "test" if name.startswith("test") else "train"
        parts.append((split, records[:, 1:].reshape(-1, 3, 32, 32), records[:, 0].astype(np.int64)))
    return parts
