"""Decoding: channels, bit depths, alpha, and every way in which a file can be bad."""

import os
import pickle
import struct
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from labelassemble.data import ImageError, decode_bytes, decode_image

RAMP = np.arange(12, dtype=np.uint8).reshape(3, 4) * 20


def test_grey_stays_one_channel(tmp_path: Path) -> None:
    Image.fromarray(RAMP).save(tmp_path / "grey.png")
    decoded = decode_image(tmp_path / "grey.png")
    assert decoded.dtype == np.uint8
    np.testing.assert_array_equal(decoded, RAMP[None])


def test_colour_has_three_channels(tmp_path: Path) -> None:
    colour = np.random.default_rng(0).integers(0, 256, (5, 4, 3), dtype=np.uint8)
    Image.fromarray(colour).save(tmp_path / "colour.png")
    np.testing.assert_array_equal(decode_image(tmp_path / "colour.png"), colour.transpose(2, 0, 1))


@pytest.mark.parametrize("mode", ["CMYK", "YCbCr"])
def test_other_colour_spaces_become_rgb(tmp_path: Path, mode: str) -> None:
    Image.new("RGB", (4, 3), (200, 10, 10)).convert(mode).save(tmp_path / "x.tiff")
    decoded = decode_image(tmp_path / "x.tiff")
    assert decoded.shape == (3, 3, 4)
    assert decoded[0].min() > 180
    assert decoded[1].max() < 40


def test_alpha_is_composed_on_black(tmp_path: Path) -> None:
    colour = np.zeros((1, 3, 4), dtype=np.uint8)
    colour[0, :, :3] = 200
    colour[0, :, 3] = [0, 128, 255]
    Image.fromarray(colour).save(tmp_path / "rgba.png")
    np.testing.assert_array_equal(decode_image(tmp_path / "rgba.png")[:, 0], [[0, 100, 200]] * 3)
    grey = colour[..., 2:].copy()
    Image.fromarray(grey).save(tmp_path / "la.png")
    np.testing.assert_array_equal(decode_image(tmp_path / "la.png")[:, 0], [[0, 100, 200]])


def test_palette_and_transparency(tmp_path: Path) -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putpixel((1, 0), 1)
    image.save(tmp_path / "p.png")
    np.testing.assert_array_equal(decode_image(tmp_path / "p.png")[:, 0], [[10, 40], [20, 50], [30, 60]])
    image.save(tmp_path / "transparent.png", transparency=0)
    np.testing.assert_array_equal(
        decode_image(tmp_path / "transparent.png")[:, 0], [[0, 40], [0, 50], [0, 60]]
    )
    image.save(tmp_path / "levels.png", transparency=b"\x00\xff")
    np.testing.assert_array_equal(decode_image(tmp_path / "levels.png")[:, 0], [[0, 40], [0, 50], [0, 60]])
    Image.fromarray(RAMP).save(tmp_path / "grey.png", transparency=220)
    expected = np.where(RAMP == 220, 0, RAMP)[None]
    np.testing.assert_array_equal(decode_image(tmp_path / "grey.png"), expected)


def test_one_bit_becomes_black_and_white(tmp_path: Path) -> None:
    Image.fromarray(RAMP > 100).save(tmp_path / "bits.png")
    np.testing.assert_array_equal(decode_image(tmp_path / "bits.png")[0], np.where(RAMP > 100, 255, 0))


@pytest.mark.parametrize("suffix", ["png", "tiff"])
def test_sixteen_bits_scale_by_257(tmp_path: Path, suffix: str) -> None:
    values = np.array([[0, 128, 129, 257, 32768, 65406, 65535]], dtype=np.uint16)
    Image.fromarray(values).save(tmp_path / f"deep.{suffix}")
    decoded = decode_image(tmp_path / f"deep.{suffix}")
    np.testing.assert_array_equal(decoded[0], np.round(values / 257).astype(np.uint8))


def test_depths_that_have_no_rule_are_refused(tmp_path: Path) -> None:
    Image.fromarray(RAMP.astype(np.float32)).save(tmp_path / "float.tiff")
    with pytest.raises(ImageError, match=r"float\.tiff: a.* image must have whole numbers"):
        decode_image(tmp_path / "float.tiff")
    Image.fromarray(np.full((2, 2), 70000, dtype=np.int32)).save(tmp_path / "int.tiff")
    with pytest.raises(ImageError, match=r"int\.tiff: grey values must fit 16 bits, got 70000"):
        decode_image(tmp_path / "int.tiff")


def test_bad_files_are_named_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"gone\.png: cannot be opened \(No such file or directory\)"):
        decode_image(tmp_path / "gone.png")
    with pytest.raises(ImageError, match="an image must be a file, got a folder"):
        decode_image(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ImageError, match="an image must be a file, got not a regular file"):
        decode_image(tmp_path / "pipe")
    with pytest.raises(ImageError, match="cannot be opened"):
        decode_image("a\0b.png")
    (tmp_path / "text.png").write_text("hello")
    with pytest.raises(ImageError, match=r"text\.png: not an image of a known kind"):
        decode_image(tmp_path / "text.png")
    (tmp_path / "empty.png").write_bytes(b"")
    with pytest.raises(ImageError, match=r"empty\.png: not an image of a known kind"):
        decode_image(tmp_path / "empty.png")


@pytest.mark.parametrize("suffix", ["png", "jpeg", "tiff", "bmp"])
def test_a_file_cut_anywhere_gives_an_error_or_an_image(tmp_path: Path, suffix: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (16, 16), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / f"whole.{suffix}")
    data = (tmp_path / f"whole.{suffix}").read_bytes()
    reasons = []
    lengths = range(0, len(data), 7)
    for length in lengths:
        try:
            assert decode_bytes(data[:length], "cut").shape == (1, 16, 16)
        except ImageError as error:
            reasons.append(str(error))
    assert len(reasons) > len(lengths) / 2
    assert all(reason.startswith("cut: ") for reason in reasons)


def _bomb(kind: str) -> bytes:
    """Return the start of a file whose header promises 100,000 x 100,000 pixels, or the most that its format allows."""
    if kind == "png":
        header = b"IHDR" + struct.pack(">IIBBBBB", 100_000, 100_000, 8, 0, 0, 0, 0)
        chunks = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
        for name in (b"IDAT", b"IEND"):
            chunks += struct.pack(">I", 0) + name + struct.pack(">I", zlib.crc32(name))
        return b"\x89PNG\r\n\x1a\n" + chunks
    if kind == "bmp":
        return b"BM" + bytes(8) + struct.pack("<IIiiHHI", 54, 40, 100_000, 100_000, 1, 24, 0) + bytes(20)
    if kind == "pgm":
        return b"P5 100000 100000 255\n"
    file = BytesIO()
    Image.fromarray(RAMP).save(file, {"tiff": "TIFF", "jpeg": "JPEG", "webp": "WEBP"}[kind])
    data = bytearray(file.getvalue())
    if kind == "jpeg":
        frame = data.index(b"\xff\xc0")
        data[frame + 5 : frame + 9] = b"\xff\xdc\xff\xdc"
    elif kind == "webp":
        frame = data.index(b"\x9d\x01\x2a")
        data[frame + 3 : frame + 7] = b"\xff\x3f\xff\x3f"
    else:
        for tag in (256, 257):
            entry = data.index(struct.pack("<HHI", tag, 4, 1))
            data[entry + 8 : entry + 12] = struct.pack("<I", 100_000)
    return bytes(data)


@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize("kind", ["png", "jpeg", "tiff", "webp", "bmp", "pgm"])
def test_a_decompression_bomb_is_one_sentence(
    kind: str, native: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not native:
        monkeypatch.setattr("labelassemble.data.formats._images", None)
    with pytest.raises(ImageError, match=r"x: an image must have at most 89478485 pixels"):
        decode_bytes(_bomb(kind), "x")


def test_the_error_survives_a_worker_process() -> None:
    error = pickle.loads(pickle.dumps(ImageError("a.png", "broken")))
    assert (type(error), str(error), error.path, error.reason) == (
        ImageError,
        "a.png: broken",
        "a.png",
        "broken",
    )
