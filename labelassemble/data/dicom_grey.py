"""From the stored values of a grey DICOM image to 0 to 255 (DICOM PS3.3, C.7.6.3.1, C.11.1, C.11.2).

1. The bits above BitsStored are cut off where an overlay lies in them, and must say nothing otherwise.
2. Modality LUT, or RescaleSlope and RescaleIntercept, which must be finite.
3. The first VOI LUT; else the first window whose width is valid (one of width 0 is ignored, as viewers do) by its
   VOILUTFunction. The range of its output becomes 0 to 255. Without either, the range of the stored bits does.
4. MONOCHROME1 is inverted, so that air is dark in every image. PresentationLUTShape says the same once more and is not
   looked at.
5. What PixelPaddingValue, and PixelPaddingRangeLimit, call no part of the image is black.

A LUT's output has the bits of its greatest entry: some claim 16 and hold 12.
"""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from labelassemble.data.decoding import Decoded
from labelassemble.data.errors import ImageError

_LARGEST: Final = 1e30  # of what values are rescaled by
_AT_ONCE: Final = 65536  # different values up to which a table of them is made


def grey_image(data: Any, stored: NDArray[Any], name: str, told: int | None) -> Decoded:
    """Return a grey image as uint8 [1, H, W].

    Args:
        data: The header, a pydicom Dataset.
        stored: What the file holds, integers [H, W], with all bits.
        name: What errors call the image.
        told: What stands for BitsStored; None = the header.

    Raises:
        ImageError: Values beyond BitsStored, a rescale that is not finite, a LUT that is cut off, ...
    """
    if int(data.BitsAllocated) <= 8:
        told = None  # an option for images of more than 8 bits
    bits = int(data.BitsStored) if told is None else told
    said = f"BitsStored = {bits}" if told is None else f"the option `bits` = {bits} of its source"
    high_bit = int(data.get("HighBit") or 0) if told is None else bits - 1
    values = _significant(data, stored, bits, high_bit, f"grey values must fit {said}", name)
    low, high = int(values.min()), int(values.max())
    if high - low < _AT_ONCE:  # each different value once, which is quicker than each pixel
        table = _shown(data, np.arange(low, high + 1), bits, name)
        pixels = table[values - low]
    else:
        pixels = _shown(data, values, bits, name)
    if _has_own_range(data):
        return Decoded(pixels[None], bits)
    signed = bool(data.PixelRepresentation)
    return Decoded(pixels[None], bits, max(high, -1 - low) * 2 if signed else high)


def modality_values(data: Any, stored: NDArray[Any], name: str, told: int | None) -> NDArray[np.float32]:
    """Return a grey image in the units of its modality, float32 of the same shape: in HU for CT.

    MONOCHROME1 is inverted within the range of its bits, so that air is dark in every image; but for CT and PET, whose
    units say what is air.

    Args:
        data: The header, a pydicom Dataset.
        stored: What the file holds, integers, with all bits.
        name: What errors call the image.
        told: What stands for BitsStored; None = the header.

    Raises:
        ImageError: Values beyond BitsStored, a rescale that is not finite, ...
    """
    bits = int(data.BitsStored) if told is None or int(data.BitsAllocated) <= 8 else told
    high_bit = int(data.get("HighBit") or 0) if told is None else bits - 1
    values = _significant(data, stored, bits, high_bit, f"grey values must fit BitsStored = {bits}", name)
    x, least, greatest = _rescaled(data, values, _ends(data, bits), name)
    if is_inverted(data):
        x = least + greatest - x
    return x.astype(np.float32)


def is_inverted(data: Any) -> bool:
    """Return whether an image is shown bright where its values are low, and has no units that say what is air."""
    in_units = str(data.get("Modality", "")) in ("CT", "PT") or str(data.get("RescaleType", "")) == "HU"
    return data.get("PhotometricInterpretation") == "MONOCHROME1" and not in_units


def _ends(data: Any, bits: int) -> NDArray[np.int64]:
    """Return the least and the greatest number of so many bits."""
    return np.array(
        [-(2 ** (bits - 1)), 2 ** (bits - 1) - 1] if data.PixelRepresentation else [0, 2**bits - 1]
    )


def _significant(
    data: Any, stored: NDArray[Any], bits: int, high_bit: int, rule: str, name: str
) -> NDArray[np.int64]:
    """Return the values in the stored bits; the `rule` is what is broken where there are others."""
    allocated = int(data.BitsAllocated)
    values: NDArray[np.int64] = stored.astype(np.int64)
    if not values.size:
        raise ImageError(name, "the DICOM image has no pixels")
    signed, spare = bool(data.PixelRepresentation), allocated - bits
    least = -(2 ** (bits - 1)) if signed else 0
    # The spare bits of a negative number may be all 0 or all 1.
    if values.min() < least or values.max() >= 2**bits:
        if high_bit >= bits:  # as the standard allowed until 2011: the values lie in the upper bits
            values >>= high_bit + 1 - bits
        elif not _overlay_in_pixels(data, allocated):
            found = f"{values.min()} to {values.max()}" if signed else f"{values.max()}"
            raise ImageError(name, f"{rule}, got {found} (`bits` of its source says how many there are)")
    if signed:
        return (values << 64 - bits) >> 64 - bits
    return values & (2**bits - 1) if spare > 0 else values


def _overlay_in_pixels(data: Any, allocated: int) -> bool:
    """Return whether a graphic is kept in spare bits of the pixels, as the standard allowed until 2004 (C.9.2)."""
    for group in range(0x6000, 0x6020, 2):
        if (group, 0x0100) in data and (group, 0x3000) not in data:
            return int(data[group, 0x0100].value or 0) == allocated
    return False


def _has_own_range(data: Any) -> bool:
    """Return whether the header says which values become black and white, whatever the bits are."""
    return _lut(data, "VOILUTSequence") is not None or _window(data) is not None


def _shown(data: Any, values: NDArray[np.int64], bits: int, name: str) -> NDArray[np.uint8]:
    """Return stored values as they are shown, uint8 of the same shape."""
    x, least, greatest = _rescaled(data, values, _ends(data, bits), name)
    lut, window = _lut(data, "VOILUTSequence"), _window(data)
    if lut is not None:
        x, least, greatest = _through_lut(data, lut, x, least, name)
    elif window is not None:
        x, least, greatest = _windowed(x, *window, _function(data, name)), 0.0, 1.0
    grey = np.clip((x - least) * (255 / (greatest - least)), 0, 255)
    if data.PhotometricInterpretation == "MONOCHROME1":
        grey = 255 - grey
    shown: NDArray[np.uint8] = grey.round().astype(np.uint8)
    shown[_padding(data, values)] = 0
    return shown


def _rescaled(
    data: Any, values: NDArray[np.int64], ends: NDArray[np.int64], name: str
) -> tuple[NDArray[np.float64], float, float]:
    """Return values behind the modality LUT, and the least and the greatest there can be."""
    lut = _lut(data, "ModalityLUTSequence")
    if lut is not None:
        return _through_lut(data, lut, values.astype(np.float64), float(ends[0]), name)
    slope, intercept = (_numbers(data, keyword) for keyword in ("RescaleSlope", "RescaleIntercept"))
    factor, shift = (slope or [1.0])[0], (intercept or [0.0])[0]
    if not (abs(factor) <= _LARGEST and abs(shift) <= _LARGEST and factor != 0):  # NaN neither
        came = f"RescaleSlope = {factor:g} and RescaleIntercept = {shift:g}"
        raise ImageError(name, f"grey values must be rescaled by finite numbers, the slope not 0, got {came}")
    least, greatest = sorted((ends * factor + shift).tolist())
    return values.astype(np.float64) * factor + shift, least, greatest


def _lut(data: Any, keyword: str) -> Any | None:
    """Return the first LUT of a sequence, if it is one."""
    for item in data.get(keyword) or ():
        if item.get("LUTDescriptor") is not None and item.get("LUTData") is not None:
            return item
    return None


def _through_lut(
    data: Any, item: Any, x: NDArray[np.float64], least: float, name: str
) -> tuple[NDArray[np.float64], float, float]:
    """Return what a LUT makes of values that are `least` or more, and the range of its output.

    pydicom's own function wraps the index of a LUT with 8-bit output around at 256.
    """
    count, first = int(item.LUTDescriptor[0]) or 65536, int(item.LUTDescriptor[1])
    if first >= 32768 and least < 0:
        first -= 65536  # where negative values are possible it is signed, whatever it was read as
    entries = lut_entries(data, item.LUTData, count, name)
    index = np.clip(np.rint(x) - first, 0, count - 1).astype(np.int64)
    bits = max(1, int(entries.max()).bit_length())
    return entries[index].astype(np.float64), 0.0, 2.0**bits - 1


def lut_entries(data: Any, content: Any, count: int, name: str) -> NDArray[np.int64]:
    """Return the entries of a LUT, int64 [count]; those of 8 bits may be packed, two in a word (C.11.1.1.1).

    Raises:
        ImageError: There are fewer.
    """
    order = "<" if data.file_meta.TransferSyntaxUID.is_little_endian else ">"
    if not isinstance(content, bytes):
        words = np.atleast_1d(np.asarray(content)).astype(f"{order}u2")
        content = words.tobytes()
    entries = np.frombuffer(content, dtype=f"{order}u2" if len(content) >= 2 * count else np.uint8)
    if len(entries) < count:
        raise ImageError(name, f"a LUT must hold the {count} entries that it names, got {len(entries)}")
    return entries[:count].astype(np.int64)


def _window(data: Any) -> tuple[float, float] | None:
    """Return center and width of the first window that is one."""
    for center, width in zip(_numbers(data, "WindowCenter"), _numbers(data, "WindowWidth"), strict=False):
        if np.isfinite([center, width]).all() and width > 0:
            return center, width
    return None


def _function(data: Any, name: str) -> str:
    function = str(data.get("VOILUTFunction") or "LINEAR").upper()
    if function not in ("LINEAR", "LINEAR_EXACT", "SIGMOID"):
        raise ImageError(name, f"VOILUTFunction must be LINEAR, LINEAR_EXACT or SIGMOID, got {function}")
    return function


def _windowed(x: NDArray[np.float64], center: float, width: float, function: str) -> NDArray[np.float64]:
    """Return values in a window as 0 to 1 (C.11.2.1.2 and C.11.2.1.3)."""
    if function == "SIGMOID":
        with np.errstate(over="ignore"):
            return np.asarray(1 / (1 + np.exp(-4 * (x - center) / width)))
    if function == "LINEAR" and width >= 1:  # with a smaller width the standard leaves only LINEAR_EXACT
        center, width = center - 0.5, width - 1
    if width == 0:
        return (x > center).astype(np.float64)
    return np.clip((x - center) / width + 0.5, 0, 1)


def _padding(data: Any, values: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return which stored values fill what lies outside the image (C.7.5.1.1.2)."""
    value, limit = data.get("PixelPaddingValue"), data.get("PixelPaddingRangeLimit")
    if not isinstance(value, int):
        return np.zeros(values.shape, dtype=np.bool_)
    ends = [end for end in (value, limit) if isinstance(end, int)]
    if data.PixelRepresentation:  # some write them as if the values were not signed
        ends = [end - 65536 if end >= 32768 else end for end in ends]
    filled: NDArray[np.bool_] = (values >= min(ends)) & (values <= max(ends))
    return filled


def _numbers(data: Any, keyword: str) -> list[float]:
    """Return the numbers of an element, none where it is missing or empty; what is no number is NaN."""
    if keyword not in data:
        return []
    value = data.get_item(keyword).value  # as the file has it: pydicom warns of what is no decimal string
    if isinstance(value, bytes):
        value = value.decode("latin-1").strip(" \0").split("\\") if value.strip(b" \0") else []
    several = list(value) if hasattr(value, "__iter__") and not isinstance(value, str) else [value]
    return [_number(one) for one in several]


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return float("nan")
