"""Decoding one image to uint8 [channels, H, W]."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, TiffImagePlugin

from labelassemble._native import FORMATS
from labelassemble.data.containers import is_reference, read_member
from labelassemble.data.decoding import (
    AS_THE_FILE_SAYS,
    Decoded,
    Decoding,
    as_stored,
    eight_bits,
    exif_orientation,
    split_reference,
    stands_unscaled,
    upright,
)
from labelassemble.data.dicom import decode_dicom, is_dicom
from labelassemble.data.errors import ImageError
from labelassemble.data.formats import MAX_PIXELS, Stored, format_of, png_is_sound, read_stored
from labelassemble.data.jpeg import whole_by_pillow
from labelassemble.data.png import PngChunks, read_chunks
from labelassemble.errors import LabelAssembleError

_COLOUR: Final = frozenset({"RGB", "CMYK", "YCbCr", "LAB", "HSV", "RGBX"})
_PILLOW: Final = {
    "PNG": ("PNG",),
    "JPEG": ("JPEG", "MPO"),
    "TIFF": ("TIFF",),
    "WebP": ("WEBP",),
    "BMP": ("BMP",),
    "PGM": ("PPM",),
    "PPM": ("PPM",),
}
_SIXTEEN_BIT: Final = frozenset({"I;16", "I;16L", "I;16B", "I;16N"})


def decode_image(path: str | os.PathLike[str]) -> NDArray[np.uint8]:
    """Return an image as uint8 [channels, H, W]: 1 channel for grey, 3 (RGB) for colour.

    Alpha and transparent palette colours are composed on black. Grey of b bits becomes 8 bits by v * 255 / (2^b - 1)
    rounded, whatever the image holds: two images of one scanner stay comparable. b is 16, or what a TIFF calls
    BitsPerSample, or what the chunk sBIT of a 16-bit PNG says if its values are stored unscaled (`stands_unscaled`).
    16-bit colour keeps its high byte, as Pillow reads it. The image is turned as its EXIF orientation says
    (`exif_orientation`: JPEG, PNG, WebP; tag 274 of a TIFF), the orientation in XMP is not looked at. The first frame
    of a file with several is taken.

    Args:
        path: A file of one of the `labelassemble._native.FORMATS`, a DICOM file (see
            `labelassemble.data.dicom`), or `container::member` (see `labelassemble.data.containers`); the options of
            its source may stand behind it, `a.png::bits=12` (see `labelassemble.data.decoding`).

    Raises:
        ImageError: The file is missing, a folder, cut off, damaged, too large or of an unknown kind.
    """
    return inspect_image(path).pixels


def inspect_image(path: str | os.PathLike[str]) -> Decoded:
    """Return an image with what its file says of its pixels; see `decode_image`.

    Raises:
        ImageError: As `decode_image`.
    """
    name, how = split_reference(os.fspath(path))
    if is_reference(name):
        member = read_member(name)
        return Decoded(member) if isinstance(member, np.ndarray) else _decoded(BytesIO(member), name, how)
    with _opened_file(name) as file:
        return _decoded(file, name, how)


def read_image(path: str | os.PathLike[str]) -> bytes | NDArray[np.uint8]:
    """Return what lies at `path` before it is decoded: an encoded image, or pixels uint8 [channels, H, W].

    Args:
        path: A file, or `container::member` (see `labelassemble.data.containers`); some containers hold pixels.

    Raises:
        ImageError: The file or the member is missing or cannot be read.
    """
    name, _ = split_reference(os.fspath(path))
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


def decode_bytes(data: bytes, name: str, how: Decoding = AS_THE_FILE_SAYS) -> NDArray[np.uint8]:
    """Return the image encoded in `data`, as `decode_image` does; `name` is what errors call it."""
    return decode_stream(BytesIO(data), name, how)


def decode_stream(file: BinaryIO, name: str, how: Decoding = AS_THE_FILE_SAYS) -> NDArray[np.uint8]:
    """Return the image encoded in an open file, as `decode_image` does; `name` is what errors call it."""
    return _decoded(file, name, how).pixels


def inspect_bytes(data: bytes, name: str, how: Decoding = AS_THE_FILE_SAYS) -> Decoded:
    """Return the image encoded in `data` with what its file says of its pixels, as `inspect_image` does."""
    return _decoded(BytesIO(data), name, how)


def _decoded(file: BinaryIO, name: str, how: Decoding) -> Decoded:
    try:
        if is_dicom(file):
            return decode_dicom(file, name, how)
        data = file.read()
        stored = read_stored(data, name)
        return _by_pillow(data, name, how) if stored is None else _finished(stored, name, how)
    except (LabelAssembleError, MemoryError):
        raise
    except Exception as error:  # decoders answer damage with nearly every type there is
        raise ImageError(name, f"damaged or cut off ({type(error).__name__}: {error})") from None


def _finished(stored: Stored, name: str, how: Decoding) -> Decoded:
    """Return the image as it is to be seen."""
    if stored.samples.dtype == np.uint16:
        depth = _Depth(stored.bits, stored.significant, how.bits)
        decoded = _from_sixteen_bit(stored.samples.astype(np.int64), name, depth)
    else:
        decoded = Decoded(stored.samples.astype(np.uint8, copy=False))
    if stored.white_is_zero:
        decoded = decoded._replace(pixels=255 - decoded.pixels)
    if how.orientation == "ignore" or stored.orientation == 1:
        return decoded
    pixels = upright(decoded.pixels, stored.orientation)
    return decoded._replace(pixels=pixels, orientation=stored.orientation)


def _by_pillow(data: bytes, name: str, how: Decoding) -> Decoded:
    """Return the image where the native library does not read the format."""
    kind = format_of(data)
    if kind is None:
        raise ImageError(name, f"not an image of a known kind: expected {', '.join(FORMATS)} or DICOM")
    if kind == "PNG" and not png_is_sound(data):
        raise ImageError(name, "damaged PNG image: it is cut off or a check sum does not match")
    try:
        with Image.open(BytesIO(data), formats=_PILLOW[kind]) as image:
            if image.width * image.height > MAX_PIXELS:
                size = f"{image.width} x {image.height}"
                raise ImageError(name, f"an image must have at most {MAX_PIXELS} pixels, got {size}")
            if kind == "JPEG" and not whole_by_pillow(data):
                raise ImageError(name, "damaged JPEG image: its data end early")
            chunks = read_chunks(BytesIO(data)) if kind == "PNG" else PngChunks(None, b"")
            return _upright(image, name, chunks, how)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):  # a warning may be an error
        raise ImageError(name, f"an image must have at most {MAX_PIXELS} pixels") from None


def _upright(image: Image.Image, name: str, chunks: PngChunks, how: Decoding) -> Decoded:
    """Return the image turned as the file's orientation says, or as it is stored."""
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        return _tiff(image, name, how)
    decoded = _loaded(image, name, _Depth(significant=chunks.significant_bits, told=how.bits))
    if how.orientation == "ignore":
        return decoded
    exif = chunks.exif if image.format == "PNG" else image.info.get("exif", b"").removeprefix(b"Exif\0\0")
    orientation = exif_orientation(exif)
    if orientation == 1:
        return decoded
    return decoded._replace(pixels=upright(decoded.pixels, orientation), orientation=orientation)


def _tiff(image: TiffImagePlugin.TiffImageFile, name: str, how: Decoding) -> Decoded:
    """Return the image of a TIFF, which Pillow turns by itself while it loads."""
    orientation = pillow_turns(image)
    bits = image.tag_v2.get(TiffImagePlugin.BITSPERSAMPLE, (16,))[0]
    white_is_zero = image.tag_v2.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION) == 0
    deep = image.mode in _SIXTEEN_BIT
    decoded = _loaded(image, name, _Depth(stored=bits if deep else 16, told=how.bits))
    pixels = decoded.pixels
    if deep and white_is_zero:  # which Pillow heeds with 8 bits only
        pixels = 255 - pixels
    if how.orientation == "ignore":
        return decoded._replace(pixels=as_stored(pixels, orientation))
    return decoded._replace(pixels=pixels, orientation=orientation)


def pillow_turns(image: Image.Image) -> int:
    """Return the orientation, 1 to 8, by which Pillow turns an image as it loads it: 1 but for a TIFF.

    To be called before it is loaded. Its size is that of the turned image already. What XMP says is taken away.
    """
    if not isinstance(image, TiffImagePlugin.TiffImageFile):
        return 1
    tag = image.tag_v2.get(ExifTags.Base.Orientation, 1)
    exif = image.getexif()
    if ExifTags.Base.Orientation not in image.tag_v2:
        exif.pop(ExifTags.Base.Orientation, None)  # that of XMP
    return tag if tag in range(2, 9) else 1


class _Depth(NamedTuple):
    """How many bits the grey values of an image with more than 8 have.

    Attributes:
        stored: that the file keeps.
        significant: of those 16, that its maker says count.
        told: by the source's option.
    """

    stored: int = 16
    significant: int | None = None
    told: int | None = None


def _loaded(image: Image.Image, name: str, depth: _Depth) -> Decoded:
    """Return the image as Pillow loads it."""
    image.load()
    mode = image.mode
    if mode in _SIXTEEN_BIT or mode == "I":
        return _from_sixteen_bit(np.asarray(image).astype(np.int64)[None], name, depth)
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
    return Decoded(np.ascontiguousarray(np.moveaxis(array, -1, 0)))


def _from_sixteen_bit(values: NDArray[np.int64], name: str, depth: _Depth) -> Decoded:
    if values.size and (values.min() < 0 or values.max() > 65535):
        raise ImageError(
            name, f"grey values must fit 16 bits, got {int(values.min())} to {int(values.max())}"
        )
    bits = depth.stored
    if depth.told is not None:
        bits = depth.told
        if values.size and values.max() >= 2**bits:
            reason = f"grey values must fit the {bits} bits that its source's option `bits` says, got {values.max()}"
            raise ImageError(name, reason)
    elif depth.significant is not None and stands_unscaled(values, depth.significant):
        bits = depth.significant
    return Decoded(eight_bits(values, bits), bits, int(values.max(initial=0)))


def _on_black(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return colour times alpha, rounded: [H, W, C + 1] -> [H, W, C]."""
    colour = pixels[..., :-1].astype(np.uint16)
    alpha = pixels[..., -1:].astype(np.uint16)
    return ((colour * alpha + 127) // 255).astype(np.uint8)
