"""Masks as their files hold them: whole numbers, a class each, in the place of their image."""

import os
import re
from collections.abc import Mapping
from functools import lru_cache
from io import BytesIO
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from labelassemble.data.containers import SEPARATOR, is_reference, read_array
from labelassemble.data.decoding import as_stored, split_reference
from labelassemble.data.dicom import is_dicom
from labelassemble.data.errors import ImageError, reason_of
from labelassemble.data.grid import Grid, check_same_grid
from labelassemble.data.images import pillow_turns, read_image
from labelassemble.data.volumes import is_nifti_name, read_grid, read_volume
from labelassemble.errors import LabelAssembleError

_LARGEST: Final = 65535
_AT_ONCE: Final = 1 << 18  # voxels
_JPEG: Final = frozenset({"jpeg", "tiff_jpeg"})  # compressions of TIFF
_WHOLE_NUMBERS: Final = frozenset({"1", "L", "P", "I", "I;16", "I;16L", "I;16B", "I;16N"})


class StoredMask(NamedTuple):
    """A mask as it is stored.

    Attributes:
        values: uint8 or uint16 [*s]; 0 = nothing drawn.
        affine: from voxel indices to millimetres (RAS), float64 [4, 4]; None where the file does not say.
    """

    values: NDArray[np.uint8] | NDArray[np.uint16]
    affine: NDArray[np.float64] | None

    @property
    def grid(self) -> Grid:
        """Shape and place of the voxels."""
        return Grid(self.values.shape, self.affine)


class MaskSummary(NamedTuple):
    """What a mask shows.

    Attributes:
        grid: its voxels.
        counts: voxels by value, without 0.
    """

    grid: Grid
    counts: dict[int, int]


def read_mask(path: str) -> StoredMask:
    """Return the mask at `path`, a file or a member as of `read_volume`; of an image file its values as stored.

    Raises:
        ImageError: The file is missing, empty, damaged, of another kind, or holds other than whole numbers from 0 to
            65535, one a voxel.
    """
    name, _ = split_reference(path)
    encoded = _encoded(name)
    if encoded is not None:
        return StoredMask(_whole(_picture(encoded, name), name), None)
    values, affine = read_volume(name)
    return StoredMask(_whole(values, name), affine)


def mask_summary(path: str) -> MaskSummary:
    """Return what the mask at `path` shows; it is read once, as long as the file stays the same.

    Raises:
        ImageError: As `read_mask`.
    """
    try:
        status = os.stat(_file(path))
    except (OSError, ValueError) as error:
        raise ImageError(path, f"cannot be opened ({getattr(error, 'strerror', None) or error})") from None
    return _summary(path, status.st_mtime_ns, status.st_size)


def _file(path: str) -> str:
    """Return the file of an image or a mask, of a member that of its container."""
    name, _ = split_reference(path)
    return name.partition(SEPARATOR)[0] if is_reference(name) else name


@lru_cache(maxsize=1 << 20)
def _summary(path: str, changed: int, size: int) -> MaskSummary:
    mask = read_mask(path)
    counts = _counts(mask.values)
    return MaskSummary(
        mask.grid, {int(value): int(counts[value]) for value in np.flatnonzero(counts) if value}
    )


def _counts(values: NDArray[np.uint8] | NDArray[np.uint16]) -> NDArray[np.int64]:
    """Return how many voxels have each value; a block at a time, since bincount makes 8 bytes of each of them."""
    flat = values.ravel(order="K")
    counts = np.zeros(int(values.max()) + 1, dtype=np.int64)
    for first in range(0, flat.size, _AT_ONCE):
        counts += np.bincount(flat[first : first + _AT_ONCE], minlength=len(counts))
    return counts


def check_mask(path: str, image: str, named: Mapping[int, str]) -> MaskSummary:
    """Return what a mask shows, having checked it against its image and the values that have a name.

    An image that does not exist is left to whoever reads it.

    Args:
        path: the mask.
        image: its image, of which the header is read.
        named: what each value stands for.

    Raises:
        ImageError: As `read_mask`; the image cannot be read; the mask has another shape, spacing, orientation or place
            than the image; or a value without a name.
    """
    found = mask_summary(path)
    if os.path.exists(_file(image)):
        check_same_grid(path, found.grid, image, read_grid(image))
    for value, voxels in found.counts.items():
        if value not in named:
            known = ", ".join(map(str, named))
            raise ImageError(
                path, f"{voxels} voxels have the value {value}, which `masks: labels` does not name ({known})"
            )
    return found


def _encoded(name: str) -> bytes | None:
    """Return the bytes of a mask that is an image file, None for any other."""
    if is_reference(name):
        entry = read_array(name)
        return entry if isinstance(entry, bytes) else None
    if os.path.isdir(name) or is_nifti_name(name):
        return None
    data = read_image(name)
    assert isinstance(data, bytes)
    if not data:
        raise ImageError(name, "the file is empty")
    return None if is_dicom(BytesIO(data)) else data


def _picture(data: bytes, name: str) -> NDArray[Any]:
    """Return the values of an image file, [H, W]: of a palette the indices, not the colours."""
    try:
        with Image.open(BytesIO(data)) as image:
            if image.format in ("JPEG", "MPO") or image.info.get("compression") in _JPEG:
                raise ImageError(
                    name, "a mask must be stored without loss (PNG), got JPEG, which changes its values"
                )
            if image.mode not in _WHOLE_NUMBERS:
                raise ImageError(name, f"a mask must have one channel of whole numbers, got {image.mode}")
            return _as_stored(image)
    except (LabelAssembleError, MemoryError):
        raise
    except Exception as error:  # decoders answer damage with nearly every type there is
        raise ImageError(name, f"damaged or cut off ({reason_of(error)})") from None


def _as_stored(image: Image.Image) -> NDArray[Any]:
    """Return the numbers in an image file.

    Pillow spreads grey of 2 and 4 bits over 0 to 255, inverts it where white is 0, and turns a TIFF by its orientation.
    """
    orientation = pillow_turns(image)
    tiles = getattr(image, "tile", None)
    decoded = tiles[0].args if tiles else ""
    rawmode = decoded if isinstance(decoded, str) else str(decoded[0]) if decoded else ""
    values: NDArray[Any] = as_stored(np.asarray(image), orientation)
    bits = re.fullmatch(r"(?:1|L);?([1248]?)(I?)R?", rawmode)  # R: its bits are stored from the lowest on
    if bits is None:
        return values
    if values.dtype == np.bool_:
        return ~values if bits[2] else values
    if bits[2]:
        values = 255 - values
    found: NDArray[Any] = values // (255 // (2 ** int(bits[1] or 8) - 1))
    return found


def _whole(values: NDArray[Any], name: str) -> NDArray[np.uint8] | NDArray[np.uint16]:
    if not values.size:
        raise ImageError(name, f"the mask has no voxels, its shape is {list(values.shape)}")
    if values.dtype.kind not in "biuf":
        raise ImageError(name, f"a mask must hold whole numbers, got {values.dtype}")
    if values.dtype.kind == "f":
        wrong = values != np.rint(values)  # NaN is not itself
        if wrong.any():
            raise ImageError(name, f"a mask must hold whole numbers, got {values[wrong][0]:g}")
    low, high = values.min(), values.max()
    if low < 0 or high > _LARGEST:
        raise ImageError(
            name, f"a mask must hold whole numbers from 0 to {_LARGEST}, got {low:g} to {high:g}"
        )
    return values.astype(np.uint8) if high < 256 else values.astype(np.uint16)
