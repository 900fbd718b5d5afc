"""Decoding one image to uint8 [channels, H, W]."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from labelassemble.data.containers import is_reference, read_member
from labelassemble.data.dicom import decode_dicom, is_dicom
from labelassemble.data.errors import ImageError
from labelassemble.errors import LabelAssembleError

_COLOUR: Final = frozenset({"RGB", "CMYK", "YCbCr", "LAB", "HSV", "RGBX"})
_SIXTEEN_BIT: Final = frozenset({"I;16", "I;16L", "I;16B", "I;16N"})


def decode_image(path: str | os.PathLike[str]) -> NDArray[np.uint8]:
    """Return an image as uint8 [channels, H, W]: 1 channel for grey, 3 (RGB) for colour.

    Alpha and transparent palette colours are composed on black. 16-bit grey becomes 8 bits by v / 257 rounded, so that
    65535 is 255, whatever the image holds: two images of one scanner stay comparable (16-bit colour keeps its high
    byte, as Pillow reads it). The first frame of a file with several is taken. EXIF orientation is not applied.

    Args:
        path: A file that Pillow can read, a DICOM file (see `labelassemble.data.dicom`), or `container::member` (see
            `labelassemble.data.containers`).

    Raises:
        ImageError: The file is missing, a folder, cut off, damaged, too large or of an unknown kind.
    """
    name = os.fspath(path)
    if is_reference(name):
        member = read_member(name)
        return member if isinstance(member, np.ndarray) else decode_bytes(member, name)
    with _opened_file(name) as file:
        return decode_stream(file, name)


def read_image(path: str | os.PathLike[str]) -> bytes | NDArray[np.uint8]:
    """Return what lies at `path` before it is decoded: an encoded image, or pixels uint8 [channels, H, W].

    Args:
        path: A file, or `container::member` (see `labelassemble.data.containers`); some containers hold pixels.

    Raises:
        ImageError: The file or the member is missing or cannot be read.
    """
    name = os.fspath(path)
    if is_reference(name):
        return read_member(name)
    with _opened_file(name) as file:
        try:
            return file.read()
        except OSError as error:
            raise ImageError(name, f"cannot be read ({error.strerror or error})") from None


@contextmanager
def _opened_file(name: str) -> Iterator[BinaryIO]:
    try:
        if not stat.S_ISREG(os.stat(name).st_mode):
            kind = "a folder" if Path(name).is_dir() else "not a regular file"
            raise ImageError(name, f"an image must be a file, got {kind}")
        file = open(name, "rb")  # noqa: SIM115 (closed below; opening may fail on its own)
    except (OSError, ValueError) as error:
        if isinstance(error, ImageError):
            raise
        raise ImageError(name, f"cannot be opened ({getattr(error, 'strerror', None) or error})") from None
    with file:
        yield file


def decode_bytes(data: bytes, name: str) -> NDArray[np.uint8]:
    """Return the image encoded in `data`, as `decode_image` does; `name` is what errors call it."""
    return decode_stream(BytesIO(data), name)


def decode_stream(file: BinaryIO, name: str) -> NDArray[np.uint8]:
    """Return the image encoded in an open file, as `decode_image` does; `name` is what errors call it."""
    try:
        if is_dicom(file):
            return decode_dicom(file, name)
        with Image.open(file) as image:
            pixels = _pixels(image, name)
    except (LabelAssembleError, MemoryError):
        raise
    except (
        Image.DecompressionBombError,
        Image.DecompressionBombWarning,
    ):  # the latter where warnings are errors
        limit = Image.MAX_IMAGE_PIXELS or 0
        reason = (
            f"larger than the {limit:,} pixels that Pillow allows (PIL.Image.MAX_IMAGE_PIXELS): scale it down"
        )
        raise ImageError(name, reason) from None
    except UnidentifiedImageError:
        raise ImageError(name, "not an image of a known kind") from None
    except Exception as error:  # decoders answer damage with nearly every type there is
        raise ImageError(name, f"damaged or cut off ({type(error).__name__}: {error})") from None
    return pixels


def _pixels(image: Image.Image, name: str) -> NDArray[np.uint8]:
    image.load()
    mode = image.mode
    if mode in _SIXTEEN_BIT or mode == "I":
        return _from_sixteen_bit(image, name)
    if mode == "F":
        raise ImageError(name, "an image must have whole numbers of 8 or 16 bits, got floating point")
    if mode == "P" or mode == "PA" or "transparency" in image.info:
        image = image.convert("RGBA")
    elif mode == "1":
        image = image.convert("L")
    elif mode == "La":
        image = image.convert("LA")
    elif mode == "RGBa":
        image = image.convert("RGBA")
    elif mode in _COLOUR and mode != "RGB":
        image = image.convert("RGB")
    array = np.array(image)  # a copy: Pillow's own buffer is read-only
    if image.mode in ("LA", "RGBA"):
        array = _on_black(array)
        if image.mode == "RGBA" and mode in ("1", "L"):
            array = array[..., :1]  # grey with one transparent level stays grey
    if array.ndim == 2:
        array = array[..., None]
    return np.ascontiguousarray(np.moveaxis(array, -1, 0))


def _from_sixteen_bit(image: Image.Image, name: str) -> NDArray[np.uint8]:
    values = np.asarray(image).astype(np.int64)
    if values.size and (values.min() < 0 or values.max() > 65535):
        raise ImageError(
            name, f"grey values must fit 16 bits, got {int(values.min())} to {int(values.max())}"
        )
    return ((values + 128) // 257).astype(np.uint8)[None]


def _on_black(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return colour times alpha, rounded: [H, W, C + 1] -> [H, W, C]."""
    colour = pixels[..., :-1].astype(np.uint16)
    alpha = pixels[..., -1:].astype(np.uint16)
    return ((colour * alpha + 127) // 255).astype(np.uint8)
