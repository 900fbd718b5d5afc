"""What an encoded image is, from its first and last bytes, without decoding it."""

import struct
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from labelassemble.data.decoding import exif_orientation
from labelassemble.data.png import PNG_SIGNATURE

_PNG_END = b"\x00\x00\x00\x00IEND\xaeB`\x82"
_JPEG = b"\xff\xd8\xff"
_JPEG_END = b"\xff\xd9"
_PADDING = b"\x00\r\n "


class Plain(NamedTuple):
    """An image that every decoder reads alike: 8 bits, grey or RGB, upright, nothing transparent, not cut off.

    Attributes:
        kind: "png" or "jpeg".
        channels: 1 or 3.
        height: in pixels.
        width: in pixels.
    """

    kind: Literal["png", "jpeg"]
    channels: int
    height: int
    width: int


def plain_encoding(data: bytes) -> Plain | None:
    """Return what a plain PNG or JPEG holds, or None for anything else.

    An image that is cut off is not plain: decoders differ in what they do about a missing end.
    """
    if data.startswith(PNG_SIGNATURE):
        return _png(data)
    if data.startswith(_JPEG):
        return _jpeg(data)
    return None


def _png(data: bytes) -> Plain | None:
    if len(data) < 45 or data[12:16] != b"IHDR" or not data.endswith(_PNG_END):
        return None
    width, height, depth, colour, _, _, interlaced = struct.unpack(">IIBBBBB", data[16:29])
    if depth != 8 or colour not in (0, 2) or interlaced or b"eXIf" in data:
        return None
    if not _plain_chunks(data):
        return None
    return Plain("png", 1 if colour == 0 else 3, height, width)


def _plain_chunks(data: bytes) -> bool:
    """Return whether a PNG has chunks that all decoders know, its pixels in one run, and nothing transparent."""
    offset = len(PNG_SIGNATURE)
    before = b""
    pixels = False
    while offset + 12 <= len(data):
        length, name = struct.unpack_from(">I4s", data, offset)
        again = name == b"IDAT" and pixels and before != name
        if not name.isalpha() or name == b"tRNS" or again:
            return False
        if name[:1].isupper() and name not in (b"IHDR", b"PLTE", b"IDAT", b"IEND"):
            return False
        if name == b"IEND":
            return pixels
        pixels = pixels or name == b"IDAT"
        before = name
        offset += 12 + length
    return False


def _jpeg(data: bytes) -> Plain | None:
    if not data[-64:].rstrip(_PADDING).endswith(_JPEG_END):
        return None
    offset = 2
    exif, plain = b"", None
    while offset + 4 <= len(data) and data[offset] == 0xFF:
        marker = data[offset + 1]
        if marker == 0xFF:  # a fill byte
            offset += 1
            continue
        if marker == 0xDA:  # the pixels
            return plain if exif_orientation(exif) == 1 else None
        end = offset + 2 + struct.unpack_from(">H", data, offset + 2)[0]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):  # a frame's header
            if offset + 10 > len(data):
                return None
            depth, height, width, channels = struct.unpack_from(">BHHB", data, offset + 4)
            if depth != 8 or channels not in (1, 3) or marker not in (0xC0, 0xC1, 0xC2):
                return None
            plain = Plain("jpeg", channels, height, width)
        elif marker == 0xEE and data[offset + 15 : offset + 16] == b"\0":
            return None  # Adobe's, that three colours are RGB: not every decoder looks at it
        elif marker == 0xE1 and data.startswith(b"Exif\0\0", offset + 4):
            exif += data[offset + 10 : end]  # several segments are one text
        offset = end
    return None


def as_pnm(pixels: NDArray[np.uint8]) -> bytes:
    """Return an image, uint8 [1 or 3, H, W], as PGM or PPM, which costs a copy to read and to write."""
    channels, height, width = pixels.shape
    header = f"P{5 if channels == 1 else 6}\n{width} {height}\n255\n".encode()
    return header + np.moveaxis(pixels, 0, -1).tobytes()
