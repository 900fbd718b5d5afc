"""One rule for what is damaged: whatever reads a file, and whatever format it has."""

from collections.abc import Callable
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from labelassemble._native import FORMATS
from labelassemble.data import ImageError, decode_bytes
from labelassemble.data.formats import format_of, jpeg_is_whole, program_formats
from labelassemble.views.decode import decode_encoded

HEIGHT, WIDTH = 64, 72


def _picture(channels: int = 1) -> Image.Image:
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    noise = np.random.default_rng(0).normal(0, 6, (HEIGHT, WIDTH))
    grey = np.clip(100 + 50 * np.sin(x / 9) + 40 * np.cos(y / 7) + noise, 0, 255).astype(np.uint8)
    return Image.fromarray(grey if channels == 1 else np.stack([grey, grey[::-1], 255 - grey], axis=-1))


def _saved(image: Image.Image, format: str, **options: object) -> bytes:
    file = BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def _cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


def _cut_with_its_end(data: bytes) -> bytes:
    return data[: len(data) // 2] + b"\xff\xd9"


def _zeros(data: bytes) -> bytes:
    return data[: len(data) // 2] + bytes(len(data) - len(data) // 2 - 2) + b"\xff\xd9"


def _hole(data: bytes) -> bytes:
    return data[: len(data) // 2] + data[len(data) // 2 + 200 :]


JPEGS = {
    "grey": _saved(_picture(), "JPEG"),
    "colour": _saved(_picture(3), "JPEG"),
    "optimised": _saved(_picture(3), "JPEG", optimize=True),
    "progressive": _saved(_picture(3), "JPEG", progressive=True),
    "restarts": _saved(_picture(3), "JPEG", restart_marker_blocks=3),
    "inks": _saved(_picture(3).convert("CMYK"), "JPEG"),
}


@pytest.fixture(params=[True, False], ids=["native", "pillow"])
def native(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """With the decoders of the programs and, where they were not built, with Pillow."""
    if not request.param:
        monkeypatch.setattr("labelassemble.data.formats._images", None)
    return bool(request.param)


# Pillow alone does not tell of code that is wrong but long enough.
@pytest.mark.parametrize(
    ("damage", "native"),
    [
        *((damage, True) for damage in (_cut, _cut_with_its_end, _zeros, _hole)),
        *((damage, False) for damage in (_cut, _cut_with_its_end)),
    ],
    indirect=["native"],
)
@pytest.mark.parametrize("kind", JPEGS)
@pytest.mark.usefixtures("native")
def test_a_jpeg_without_all_its_code_is_damaged(kind: str, damage: Callable[[bytes], bytes]) -> None:
    assert jpeg_is_whole(JPEGS[kind])
    assert decode_bytes(JPEGS[kind], "x").shape[1:] == (HEIGHT, WIDTH)
    with pytest.raises(ImageError, match="damaged"):
        decode_bytes(damage(JPEGS[kind]), "x")
    with pytest.raises(ImageError, match="damaged"):
        decode_encoded(damage(JPEGS[kind]), "x")


def test_a_progressive_jpeg_that_ends_between_two_scans_is_damaged() -> None:
    if "JPEG" not in program_formats():
        pytest.skip("Pillow does not say which scans a JPEG has")
    data = JPEGS["progressive"]
    third = [at for at in range(len(data)) if data[at : at + 2] == b"\xff\xda"][3]
    with pytest.raises(ImageError, match="damaged JPEG image: scans of the image are missing"):
        decode_bytes(data[:third] + b"\xff\xd9", "x")


@pytest.mark.usefixtures("native")
def test_what_follows_the_image_or_pads_it_is_no_damage() -> None:
    data = JPEGS["grey"]
    np.testing.assert_array_equal(decode_bytes(data + b"trailing", "x"), decode_bytes(data, "x"))
    padded = data[:-2] + bytes(4) + data[-2:]
    np.testing.assert_array_equal(decode_bytes(padded, "x"), decode_bytes(data, "x"))
    png = _saved(_picture(), "PNG")
    np.testing.assert_array_equal(decode_bytes(png + b"trailing", "x"), decode_bytes(png, "x"))


@pytest.mark.usefixtures("native")
@pytest.mark.parametrize("reader", [decode_bytes, decode_encoded])
def test_a_png_that_lacks_a_chunk_or_has_a_wrong_check_sum_is_damaged(
    reader: Callable[[bytes, str], object],
) -> None:
    data = _saved(_picture(), "PNG", pnginfo=None, dpi=(96, 96))
    for damaged in (
        data[:-12],  # without IEND
        data[:-30],
        data.replace(b"pHYs", b"pHYS"),  # not of the pixels, but no longer what was written
        data[:-9] + b"IENE" + data[-5:],
    ):
        with pytest.raises(ImageError, match="damaged PNG image"):
            reader(damaged, "x")


OTHERS = {
    "tiff": _saved(_picture(3), "TIFF"),
    "tiff lzw": _saved(_picture(3), "TIFF", compression="tiff_lzw"),
    "tiff deflate": _saved(_picture(), "TIFF", compression="tiff_adobe_deflate"),
    "webp": _saved(_picture(3), "WEBP"),
    "webp lossless": _saved(_picture(3), "WEBP", lossless=True),
    "bmp": _saved(_picture(), "BMP"),
    "pgm": _saved(_picture(), "PPM"),
    "deep pgm": b"P5 60 40 4095\n" + np.arange(2400).astype(">u2").tobytes(),
}


@pytest.mark.usefixtures("native")
@pytest.mark.parametrize("kind", OTHERS)
def test_what_promises_more_than_there_is_is_damaged(kind: str) -> None:
    data = OTHERS[kind]
    assert decode_bytes(data, "x").ndim == 3
    for length in (len(data) - 1, len(data) * 3 // 4, len(data) // 3):
        if kind.startswith("tiff") and length == len(data) - 1:
            continue  # what is cut off there is no pixel
        with pytest.raises(ImageError, match="damaged"):
            decode_bytes(data[:length], "x")


@pytest.mark.usefixtures("native")
def test_other_formats_are_refused_by_name() -> None:
    for format in ("GIF", "ICO", "JPEG2000"):
        data = _saved(_picture().resize((32, 32)), format)
        assert format_of(data) is None
        with pytest.raises(
            ImageError, match="x: not an image of a known kind: expected PNG, JPEG, TIFF, WebP"
        ):
            decode_bytes(data, "x")


def test_the_programs_read_what_python_reads() -> None:
    """Pixel for pixel what Pillow gives, where its format has one reading."""
    if set(program_formats()) != set(FORMATS):
        pytest.skip(f"this build reads {program_formats()}")
    grey, colour = _picture(), _picture(3)
    deep = Image.fromarray((np.asarray(grey).astype(np.uint16) * 257 + 3) % 65000)
    exif = Image.Exif()
    exif[0x0112] = 6
    files = {f"{kind} {format}": _saved(image, format)
             for format in ("PNG", "TIFF", "BMP", "WEBP", "PPM")
             for kind, image in (("grey", grey), ("colour", colour))}  # fmt: skip
    files |= JPEGS | OTHERS
    files["deep png"], files["deep tiff"] = _saved(deep, "PNG"), _saved(deep, "TIFF")
    files["deep ppm"] = _saved(deep, "PPM")
    files["palette tiff"] = _saved(colour.quantize(30), "TIFF")
    files["inks tiff"] = _saved(colour.convert("CMYK"), "TIFF", compression="tiff_lzw")
    files["alpha webp"] = _saved(colour.convert("RGBA"), "WEBP", lossless=True)
    for format in ("JPEG", "PNG", "WEBP", "TIFF"):
        files[f"turned {format}"] = _saved(colour, format, exif=exif)
    for name, data in files.items():
        read = decode_bytes(data, name)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("labelassemble.data.formats._images", None)
            np.testing.assert_array_equal(read, decode_bytes(data, name), err_msg=name)
