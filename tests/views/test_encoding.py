import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from labelassemble.data.errors import ImageError
from labelassemble.data.images import decode_bytes, decode_image
from labelassemble.views.decode import decode, decode_encoded
from labelassemble.views.encoding import Plain, as_pnm, plain_encoding

GREY = np.arange(12 * 10, dtype=np.uint8).reshape(12, 10)
COLOUR = np.stack((GREY, GREY[::-1], 255 - GREY), -1)


def _encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def _pngs() -> dict[str, bytes]:
    info = PngImagePlugin.PngInfo()
    info.add_text("Comment", "a chunk before the pixels")
    return {
        "grey": _encoded(Image.fromarray(GREY), "PNG"),
        "colour": _encoded(Image.fromarray(COLOUR), "PNG"),
        "with text": _encoded(Image.fromarray(GREY), "PNG", pnginfo=info),
        "one transparent level": _encoded(Image.fromarray(GREY), "PNG", transparency=7),
        "alpha": _encoded(Image.fromarray(np.dstack((COLOUR, GREY))), "PNG"),
        "palette": _encoded(Image.fromarray(COLOUR).quantize(8), "PNG"),
        "16 bits": _encoded(Image.fromarray(GREY.astype(np.uint16) * 257), "PNG"),
        "1 bit": _encoded(Image.fromarray(GREY > 60), "PNG"),
    }


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("grey", Plain("png", 1, 12, 10)),
        ("colour", Plain("png", 3, 12, 10)),
        ("with text", Plain("png", 1, 12, 10)),
        ("one transparent level", None),
        ("alpha", None),
        ("palette", None),
        ("16 bits", None),
        ("1 bit", None),
    ],
)
def test_plain_png_is_told_from_what_decoders_read_differently(name: str, plain: Plain | None) -> None:
    assert plain_encoding(_pngs()[name]) == plain


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}])
def test_plain_jpeg(options: dict[str, object]) -> None:
    assert plain_encoding(_encoded(Image.fromarray(GREY), "JPEG", **options)) == Plain("jpeg", 1, 12, 10)
    assert plain_encoding(_encoded(Image.fromarray(COLOUR), "JPEG", **options)) == Plain("jpeg", 3, 12, 10)


def test_other_jpegs_and_formats_are_not_plain() -> None:
    assert plain_encoding(_encoded(Image.fromarray(COLOUR).convert("CMYK"), "JPEG")) is None
    assert plain_encoding(_encoded(Image.fromarray(GREY), "TIFF")) is None
    assert plain_encoding(b"") is None


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_what_is_cut_off_anywhere_is_not_plain(kind: str) -> None:
    data = _encoded(Image.fromarray(COLOUR), kind)
    assert all(plain_encoding(data[:end]) is None for end in range(len(data) - 1))
    if kind == "JPEG":
        assert plain_encoding(data + b"\x00" * 8) is not None  # padding is common, and harmless


@pytest.mark.parametrize("name", list(_pngs()))
def test_the_quick_reader_gives_the_pixels_of_the_reference(name: str) -> None:
    data = _pngs()[name]
    pixels = decode_encoded(data, name)
    assert np.array_equal(pixels, decode_bytes(data, name))
    assert pixels.flags.c_contiguous


def test_every_kind_of_file_decodes_as_the_reference_does(paths: list[str]) -> None:
    for path in paths:
        assert np.array_equal(decode(path), decode_image(path))


@pytest.mark.parametrize("quick", [False, True])
def test_a_damaged_png_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quick: bool) -> None:
    if not quick:
        monkeypatch.setattr("labelassemble.views.decode._png_reader", lambda: None)
    data = bytearray(_pngs()["colour"])
    data[60] ^= 0xFF  # Pillow alone would read it, and give other pixels
    (tmp_path / "damaged.png").write_bytes(data)
    with pytest.raises(ImageError, match=r"damaged\.png: damaged PNG image: a check sum"):
        decode(str(tmp_path / "damaged.png"))
    with pytest.raises(ImageError, match=r"missing\.png: cannot be opened"):
        decode(str(tmp_path / "missing.png"))


@pytest.mark.parametrize("pixels", [GREY[None], np.moveaxis(COLOUR, -1, 0)])
def test_pnm_holds_the_pixels(pixels: np.ndarray) -> None:
    assert np.array_equal(decode_bytes(as_pnm(pixels), "x.pnm"), pixels)
