"""DICOM radiographs, through pydicom (the extra `dicom`)."""

from importlib import import_module
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from labelassemble.data.errors import ImageError

_PREAMBLE = 128


def is_dicom(file: BinaryIO) -> bool:
    """Return whether an open file is DICOM, by the mark behind its preamble; the position stays where it was."""
    position = file.tell()
    file.seek(_PREAMBLE, 1)
    mark = file.read(4)
    file.seek(position)
    return mark == b"DICM"


def decode_dicom(file: BinaryIO, name: str) -> NDArray[np.uint8]:
    """Return a DICOM image as uint8 [1 or 3, H, W], as a viewer shows it (DICOM PS3.3, C.7.6.3, C.11.1, C.11.2).

    Grey: rescaled (modality LUT), then the first window or VOI LUT, whose output range becomes 0 to 255; without one,
    the range of the stored bits does. MONOCHROME1 is inverted, so that air is dark in every image. Colour: RGB, 8 bits.

    Args:
        file: The open file.
        name: What errors call it.

    Raises:
        ImageError: pydicom is not installed, the file has several frames or no pixels, or is otherwise not decodable.
    """
    try:
        pydicom, processing = import_module("pydicom"), import_module("pydicom.pixels")
    except ImportError:
        raise ImageError(name, "a DICOM file needs pydicom: pip install 'labelassemble[dicom]'") from None
    data = pydicom.dcmread(file)
    if "PixelData" not in data:
        raise ImageError(name, "the DICOM file has no pixels")
    if int(data.get("NumberOfFrames", 1) or 1) > 1:
        raise ImageError(name, f"a DICOM image must have one frame, got {data.NumberOfFrames}")
    pixels = data.pixel_array
    if pixels.ndim == 3:
        if pixels.dtype != np.uint8 or pixels.shape[2] != 3:
            shape = list(pixels.shape)
            raise ImageError(name, f"a DICOM image in colour must be 8-bit RGB, got {pixels.dtype} {shape}")
        if str(data.PhotometricInterpretation).startswith("YBR"):
            pixels = processing.convert_color_space(pixels, str(data.PhotometricInterpretation), "RGB")
        return np.ascontiguousarray(np.moveaxis(pixels, 2, 0))
    low, high = _output_range(data)
    rescaled = processing.apply_modality_lut(pixels, data)
    shown = processing.apply_voi_lut(rescaled, data, index=0).astype(np.float64)
    grey = np.clip((shown - low) * (255 / (high - low)), 0, 255)
    if data.PhotometricInterpretation == "MONOCHROME1":
        grey = 255 - grey
    decoded: NDArray[np.uint8] = grey.round().astype(np.uint8)[None]
    return decoded


def _output_range(data: Any) -> tuple[float, float]:
    """Return the least and the greatest value that rescaling and VOI LUT can give, as pydicom has it."""
    if data.get("VOILUTSequence"):
        return 0.0, 2.0 ** int(data.VOILUTSequence[0].LUTDescriptor[2]) - 1
    if data.get("ModalityLUTSequence"):
        return 0.0, 2.0 ** int(data.ModalityLUTSequence[0].LUTDescriptor[2]) - 1
    bits = int(data.BitsStored)
    stored = (
        (-(2.0 ** (bits - 1)), 2.0 ** (bits - 1) - 1) if data.PixelRepresentation else (0.0, 2.0**bits - 1)
    )
    slope, intercept = float(data.get("RescaleSlope", 1)), float(data.get("RescaleIntercept", 0))
    ends = sorted(value * slope + intercept for value in stored)
    return ends[0], ends[1]
