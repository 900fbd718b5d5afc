"""Decoding for views: the quickest reader that gives the pixels of `labelassemble.data.images`."""

import contextlib
import functools
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from labelassemble.data.decoding import AS_THE_FILE_SAYS, Decoding, split_reference
from labelassemble.data.formats import MAX_PIXELS, png_is_sound
from labelassemble.data.images import decode_bytes, read_image
from labelassemble.views.encoding import plain_encoding


def decode(path: str) -> NDArray[np.uint8]:
    """Return an image as uint8 [1 or 3, H, W], the same pixels as `decode_image`.

    Raises:
        ImageError: a file that is missing or cannot be decoded, by name.
    """
    data = read_image(path)
    name, how = split_reference(path)
    return decode_encoded(data, name, how) if isinstance(data, bytes) else data


def decode_encoded(data: bytes, name: str, how: Decoding = AS_THE_FILE_SAYS) -> NDArray[np.uint8]:
    """Return the encoded image as uint8 [1 or 3, H, W]; plain PNG by kornia_rs where it is installed.

    Raises:
        ImageError: it cannot be decoded.
    """
    read_png = _png_reader()
    plain = plain_encoding(data)
    if (
        read_png is not None
        and plain is not None
        and plain.kind == "png"
        and plain.height * plain.width <= MAX_PIXELS
        and png_is_sound(data)
    ):
        with contextlib.suppress(Exception):  # kornia_rs knows no other type; below is said what is wrong
            pixels = read_png(data, (plain.height, plain.width), "mono" if plain.channels == 1 else "rgb")
            return np.ascontiguousarray(np.moveaxis(pixels, -1, 0))
    return decode_bytes(data, name, how)


@functools.cache
def _png_reader() -> Callable[[bytes, tuple[int, int], str], NDArray[np.uint8]] | None:
    """Return kornia_rs's reader (lossless, so the same pixels as Pillow's, 2 to 4 times as fast), or None."""
    try:
        from kornia_rs.io import decode_image_png_u8
    except ImportError:
        return None
    reader: Callable[[bytes, tuple[int, int], str], NDArray[np.uint8]] = decode_image_png_u8
    return reader
