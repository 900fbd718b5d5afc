"""The formats of image files that every part reads, and the one decoder that all of them share.

`labelassemble._images` holds the decoders of labelassemble-predict and labelassemble-serve. Training, `--check-images`
and `labelassemble predict` read by them too, so that no two parts disagree about a file. Where the build lacks them, or
the library of one format, Pillow reads it in Python and the programs refuse it (`program_formats`).
"""

import struct
import zlib
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from labelassemble._native import load_decoders
from labelassemble.data.errors import ImageError
from labelassemble.data.jpeg import whole_by_pillow
from labelassemble.data.png import PNG_SIGNATURE

MAX_PIXELS: Final = 89_478_485
"""Larger images are refused before anything is allocated for them: Pillow's limit, a quarter of a GiB of RGB."""

_MAGIC: Final = (
    (PNG_SIGNATURE, "PNG"),
    (b"\xff\xd8\xff", "JPEG"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),
    (b"MM\0+", "TIFF"),
    (b"BM", "BMP"),
    (b"P5", "PGM"),
    (b"P6", "PPM"),
)


_images = load_decoders()


class Stored(NamedTuple):
    """An image as its file stores it.

    Attributes:
        samples: [1 or 3, H, W], uint8, or uint16 for grey of more than 8 bits.
        orientation: by EXIF, 1 to 8.
        bits: of uint16 samples.
        significant: of those 16, that count; None where the file does not say.
        white_is_zero: in uint16 samples; in uint8 ones 0 is black.
    """

    samples: NDArray[np.uint8] | NDArray[np.uint16]
    orientation: int
    bits: int
    significant: int | None
    white_is_zero: bool


def format_of(start: bytes) -> str | None:
    """Return a file's format, of `labelassemble._native.FORMATS` by its first 12 bytes, "DICOM" by 132, else None."""
    if start[:4] == b"RIFF" and start[8:12] == b"WEBP":
        return "WebP"
    if start[128:132] == b"DICM":
        return "DICOM"
    return next((name for magic, name in _MAGIC if start.startswith(magic)), None)


def program_formats() -> tuple[str, ...]:
    """Return which formats the C++ programs of this build read; () without the native library."""
    return tuple(_images.formats()) if _images is not None else ()


def read_stored(data: bytes, name: str) -> Stored | None:
    """Return the image in `data`; None where this build leaves its format to Pillow.

    Raises:
        ImageError: It is damaged, too large, or of a kind that is not read.
    """
    if _images is None or format_of(data) not in program_formats():
        return None
    answer = _images.decode(data)
    if isinstance(answer, str):
        raise ImageError(name, answer)
    samples, orientation, bits, significant, white_is_zero = answer
    return Stored(samples, orientation, bits, significant or None, white_is_zero)


def jpeg_is_whole(data: bytes) -> bool:
    """Return whether a JPEG's code gives every block of its image, in less time than it takes to decode it."""
    if _images is not None and "JPEG" in program_formats():
        return _images.check_jpeg(data) is None
    return whole_by_pillow(data)


def png_is_sound(data: bytes) -> bool:
    """Return whether a PNG is whole: every chunk to IEND is there and its check sum matches."""
    view = memoryview(data)
    offset = len(PNG_SIGNATURE)
    while offset + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", view, offset)
        end = offset + 8 + length
        if (
            end + 4 > len(data)
            or zlib.crc32(view[offset + 4 : end]) != struct.unpack_from(">I", view, end)[0]
        ):
            return False
        if kind == b"IEND":
            return True
        offset = end + 4
    return False
