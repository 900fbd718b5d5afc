"""How the pixels of a file are to be read where the file's own word is missing or wrong: orientation, bits.

The options of a source travel behind the path, so that whoever is given the path decodes alike: `a.png::bits=12`,
`a.jpg::orientation=ignore`, `shard.tar::a.png::bits=12,orientation=ignore`.
"""

import re
import struct
from pathlib import Path
from typing import Final, Literal, NamedTuple, TypeAlias, TypeVar

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from labelassemble.data.text import TextArray, text_array

Orientation: TypeAlias = Literal["exif", "ignore"]
Value = TypeVar("Value", bound=np.generic)

_BEHIND_PATH: Final = re.compile(r"::(?:bits=(\d{1,2})(?:,orientation=(ignore))?|orientation=(ignore))$")
_TAG: Final = 0x0112
_SHORT: Final = 3
_UPRIGHT: Final = 1
_SURELY_DARK: Final = (
    12  # bits; an image scaled up from so many whose values stay below 2^12 is black to the eye
)
_UNDO: Final = {6: 8, 8: 6}  # a quarter turn; the other orientations undo themselves


class Decoding(NamedTuple):
    """How an image is decoded.

    Attributes:
        bits: bits that the grey values of an image with more than 8 use, None = what the file says.
        orientation: "exif": turned as its EXIF orientation says; "ignore": as stored.
    """

    bits: int | None = None
    orientation: Orientation = "exif"


class Decoded(NamedTuple):
    """A decoded image and what its file said.

    Attributes:
        pixels: uint8 [1 or 3, H, W].
        bits: of the stored grey values, as the file or its source says.
        greatest: the greatest stored value, where it is the bits that say what is white; None elsewhere.
        orientation: by EXIF, 1 to 8; 1 also where it is not looked at.
    """

    pixels: NDArray[np.uint8]
    bits: int = 8
    greatest: int | None = None
    orientation: int = 1


AS_THE_FILE_SAYS: Final = Decoding()


def reference(path: str, how: Decoding) -> str:
    """Return `path` with what a decoder is to know behind it; see `split_reference`."""
    told = [f"bits={how.bits}"] if how.bits is not None else []
    told += ["orientation=ignore"] if how.orientation == "ignore" else []
    return f"{path}::{','.join(told)}" if told else path


def split_reference(path: str) -> tuple[str, Decoding]:
    """Return the path of an image, or `container::member`, and how it is decoded: the last options count."""
    found = _BEHIND_PATH.search(path) if path.rfind("::") >= 0 else None
    if found is None:
        return path, AS_THE_FILE_SAYS
    bits, both, alone = found.groups()
    how = Decoding(None if bits is None else int(bits), "ignore" if both or alone else "exif")
    return split_reference(path[: found.start()])[0], how


def stored_file(path: str) -> Path:
    """Return the file that an image, or a member of a container, is read from."""
    return Path(split_reference(path)[0].partition("::")[0])


def plain_paths(paths: TextArray) -> TextArray:
    """Return the paths without what a decoder is to know, text [N]."""
    array = paths.__arrow_array__()
    if not pc.any(pc.match_substring(array, "::")).as_py():
        return paths
    if not any(pc.any(pc.match_substring(array, f"::{key}=")).as_py() for key in ("bits", "orientation")):
        return paths
    return text_array([split_reference(path)[0] for path in paths.tolist()])


def exif_orientation(tiff: bytes) -> int:
    """Return the orientation in EXIF data, 1 to 8; 1, upright as stored, where it holds none (EXIF 2.32, 4.6.4).

    The first entry 0x0112 of the first directory counts, if it is one SHORT of 1 to 8. What lies outside the data or is
    another type says nothing, as in browsers.

    Args:
        tiff: The data from its byte order mark (II or MM) on.
    """
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(tiff[:4])
    if order is None or len(tiff) < 8:
        return _UPRIGHT
    (start,) = struct.unpack_from(f"{order}I", tiff, 4)
    if start + 2 > len(tiff):
        return _UPRIGHT
    (count,) = struct.unpack_from(f"{order}H", tiff, start)
    for entry in range(start + 2, min(start + 2 + 12 * count, len(tiff) - 11), 12):
        tag, kind, number, value = struct.unpack_from(f"{order}HHIH", tiff, entry)
        if tag == _TAG:
            return value if kind == _SHORT and number == 1 and 1 <= value <= 8 else _UPRIGHT
    return _UPRIGHT


def upright(pixels: NDArray[Value], orientation: int) -> NDArray[Value]:
    """Return pixels [..., H, W] of an EXIF orientation (1 to 8) as they are to be seen; 5 to 8 swap H and W."""
    if orientation >= 5:
        pixels = pixels.swapaxes(-1, -2)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[..., ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[..., ::-1, :]
    return np.ascontiguousarray(pixels)


def as_stored(pixels: NDArray[Value], orientation: int) -> NDArray[Value]:
    """Return pixels that were turned by `upright` as they were before."""
    return upright(pixels, _UNDO.get(orientation, orientation))


def eight_bits(values: NDArray[np.int64], bits: int) -> NDArray[np.uint8]:
    """Return values of 0 to 2^bits - 1 as 0 to 255, rounded to the nearest."""
    greatest = 2**bits - 1
    scaled: NDArray[np.uint8] = ((values * 510 + greatest) // (2 * greatest)).astype(np.uint8)
    return scaled


def stands_unscaled(values: NDArray[np.int64], bits: int) -> bool:
    """Return whether 16-bit values, of which `bits` are significant, are stored as 0 to 2^bits - 1.

    The standard wants them scaled up to 65535 (PNG 3rd edition, 11.3.2.7 and 13.12), converters of DICOM write them as
    they are. They are unscaled where none is above 2^bits - 1; with 13 bits or more one must also be no multiple of
    2^(16 - bits), since those of a dark image that was scaled up are all multiples.
    """
    if not values.size or values.max() >= 2**bits:
        return False
    return bits <= _SURELY_DARK or bool((values & (2 ** (16 - bits) - 1)).any())
