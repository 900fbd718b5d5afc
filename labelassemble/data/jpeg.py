"""Whether a JPEG is whole, where only Pillow decodes, which fills what is missing with grey and says nothing."""

import re
from io import BytesIO
from typing import Final

import numpy as np
from PIL import Image

# A marker behind code: what is no stuffed zero (FF 00) and no fill byte (FF FF).
_MARKER: Final = re.compile(rb"\xff+[^\x00\xff]")
_SCAN: Final = 0xDA
_FILLINGS: Final = (b"\x55" * 64, b"\xaa" * 64)  # bits that differ everywhere


def whole_by_pillow(data: bytes) -> bool:
    """Return whether the code of a JPEG gives every block of its image.

    The bits that a decoder reads beyond the end of the code decide its pixels: the image is decoded with two different
    fillings before every marker that ends code, and is whole if both give the same. Twice the time of decoding.
    """
    if not data.rstrip(b"\x00\r\n ").endswith(b"\xff\xd9") and b"\xff\xd9" not in data:
        return False
    ends = _ends_of_code(data)
    images = []
    for filling in _FILLINGS:
        pieces = [data[start:end] for start, end in zip([0, *ends], [*ends, len(data)], strict=True)]
        with Image.open(BytesIO(filling.join(pieces)), formats=("JPEG", "MPO")) as image:
            images.append(np.asarray(image))
    return bool(ends) and np.array_equal(images[0], images[1])


def _ends_of_code(data: bytes) -> list[int]:
    """Return where code ends: the places of the markers behind it."""
    ends: list[int] = []
    offset = 2
    while offset + 4 <= len(data) and data[offset] == 0xFF:
        if data[offset + 1] == 0xFF:
            offset += 1
            continue
        if data[offset + 1] == 0xD9:
            break
        scan = data[offset + 1] == _SCAN
        offset += 2 + int.from_bytes(data[offset + 2 : offset + 4], "big")
        while scan:
            found = _MARKER.search(data, offset)
            if found is None:
                return ends
            ends.append(found.start())
            offset = found.end()
            scan = 0xD0 <= data[offset - 1] <= 0xD7  # a restart: more code follows
            if not scan:
                offset = found.end() - 2
    return ends
