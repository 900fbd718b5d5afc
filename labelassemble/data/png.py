"""What a PNG's chunks say that Pillow leaves out or mixes with other texts."""

import struct
from typing import BinaryIO, Final, NamedTuple

PNG_SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
_LONGEST: Final = 2**16  # of a chunk that is read; EXIF data of images are a few hundred bytes to some KiB


class PngChunks(NamedTuple):
    """What the chunks of a PNG say of its pixels.

    Attributes:
        significant_bits: of 16-bit grey values, by the chunk sBIT; None without one.
        exif: what the chunk eXIf holds, from its byte order mark on; b"" without one.
    """

    significant_bits: int | None
    exif: bytes


def read_chunks(file: BinaryIO) -> PngChunks:
    """Return what the chunks sBIT and eXIf of a PNG say, the first of each; the file's position stays as it was."""
    start = file.tell()
    try:
        return _read_chunks(file)
    finally:
        file.seek(start)


def _read_chunks(file: BinaryIO) -> PngChunks:
    file.seek(len(PNG_SIGNATURE), 1)
    bits: int | None = None
    exif: bytes | None = None
    sixteen_bit_grey = before_pixels = True
    while len(head := file.read(8)) == 8:
        length, name = struct.unpack(">I4s", head)
        if name in (b"IHDR", b"sBIT", b"eXIf") and length <= _LONGEST:
            data = file.read(length + 4)[:length]
        else:
            file.seek(length + 4, 1)
            data = b""
        if name == b"IHDR":
            sixteen_bit_grey = data[8:10] == b"\x10\x00"
        elif name == b"IDAT":
            before_pixels = False
        elif name == b"sBIT" and sixteen_bit_grey and before_pixels and bits is None:
            bits = data[0] if length == len(data) == 1 and 1 <= data[0] <= 16 else None
        elif name == b"eXIf" and exif is None:
            exif = data
        elif name == b"IEND":
            break
    return PngChunks(bits, exif or b"")
