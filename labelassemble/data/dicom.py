"""DICOM radiographs, through pydicom (the extra `dicom`)."""

from importlib import import_module
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from labelassemble.data.decoding import AS_THE_FILE_SAYS, Decoded, Decoding, eight_bits
from labelassemble.data.dicom_grey import grey_image, lut_entries
from labelassemble.data.errors import ImageError, PluginError

_PREAMBLE = 128
_JPEG_EXTENDED = "1.2.840.10008.1.2.4.51"


def is_dicom(file: BinaryIO) -> bool:
    """Return whether an open file is DICOM, by the mark behind its preamble; the position stays where it was."""
    position = file.tell()
    file.seek(_PREAMBLE, 1)
    mark = file.read(4)
    file.seek(position)
    return mark == b"DICM"


def decode_dicom(file: BinaryIO, name: str, how: Decoding = AS_THE_FILE_SAYS) -> Decoded:
    """Return a DICOM image as uint8 [1 or 3, H, W], as a viewer shows it (DICOM PS3.3, C.7.6.3, C.11.1, C.11.2).

    Grey: see `labelassemble.data.dicom_grey`. Colour: RGB of 8 bits, YBR converted to it, or PALETTE COLOR looked up in
    its palette. Overlays are left out.

    Args:
        file: The open file.
        name: What errors call it.
        how: `bits` stands for BitsStored.

    Raises:
        ImageError: pydicom is not installed, the file has several frames or no pixels, or is otherwise not decodable.
    """
    try:
        pydicom, pixels = import_module("pydicom"), import_module("pydicom.pixels")
    except ImportError:
        raise PluginError(name, "needs pydicom: pip install 'labelassemble[dicom]'") from None
    data = pydicom.dcmread(file)
    if "PixelData" not in data:
        raise ImageError(name, "the DICOM file has no pixels")
    if int(data.get("NumberOfFrames", 1) or 1) > 1:
        raise ImageError(name, f"a DICOM image must have one frame, got {data.NumberOfFrames}")
    check_plugin(data, pixels, name)
    kind = str(data.get("PhotometricInterpretation", ""))
    stored = pixels.pixel_array(data, index=0, correct_unused_bits=False)
    if stored.ndim == 3:
        return Decoded(_colour(stored, name))
    if kind == "PALETTE COLOR":
        return Decoded(_colour(_looked_up(data, stored, pixels, name), name))
    if kind not in ("MONOCHROME1", "MONOCHROME2"):
        raise ImageError(
            name,
            f"a DICOM image of one channel must be MONOCHROME1, MONOCHROME2 or PALETTE COLOR, got {kind!r}",
        )
    return grey_image(data, stored, name, how.bits)


def check_plugin(data: Any, pixels: Any, name: str) -> None:
    """Raise unless something installed decodes the file's compression; without it pydicom's error looks like damage."""
    syntax = data.file_meta.get("TransferSyntaxUID")
    if syntax is None or not syntax.is_encapsulated:
        return
    try:
        decoder = pixels.get_decoder(syntax)
    except NotImplementedError:
        raise ImageError(name, f"a DICOM image compressed by {syntax.name} cannot be read") from None
    # Pillow stands for JPEG Extended, but reads 8 bits of it only.
    deep = str(syntax) == _JPEG_EXTENDED and int(data.BitsStored) > 8
    if not decoder.is_available or (deep and set(decoder.available_plugins) == {"pillow"}):
        codec = "openjpeg" if "2000" in syntax.name else "libjpeg"
        reason = f"needs a plug-in for {syntax.name}: pip install pylibjpeg pylibjpeg-{codec}"
        raise PluginError(name, reason)


def _looked_up(data: Any, stored: NDArray[Any], pixels: Any, name: str) -> NDArray[np.uint8]:
    """Return the colours of a palette (C.7.9), uint8 [H, W, 3]; its entries may have 16 bits, or claim to."""
    count, first = (int(value) for value in data.RedPaletteColorLookupTableDescriptor[:2])
    count = count or 65536
    if "RedPaletteColorLookupTableData" in data:
        contents = (data[f"{colour}PaletteColorLookupTableData"].value for colour in ("Red", "Green", "Blue"))
        table = np.stack([lut_entries(data, content, count, name) for content in contents], axis=1)
    else:  # in segments; of 8 bits pydicom looks up 256 at most
        table = pixels.apply_color_lut(np.arange(first, first + count), data)[:, :3].astype(np.int64)
        if count > 256 and table.max() < 256:
            raise ImageError(name, f"a palette in segments must have 256 entries at most, got {count}")
    colours = eight_bits(table, 16) if table.max() > 255 else table.astype(np.uint8)
    return colours[np.clip(stored.astype(np.int64) - first, 0, count - 1)]


def _colour(pixels: NDArray[Any], name: str) -> NDArray[np.uint8]:
    if pixels.dtype != np.uint8 or pixels.shape[2] != 3:
        shape = list(pixels.shape)
        raise ImageError(name, f"a DICOM image in colour must be 8-bit RGB, got {pixels.dtype} {shape}")
    return np.ascontiguousarray(np.moveaxis(pixels, 2, 0))
