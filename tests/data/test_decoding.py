"""Orientation and bits: what the file says, what its source's options say."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from labelassemble.data import (
    CsvSource,
    ImageError,
    assemble,
    check_images,
    decode_bytes,
    decode_image,
    missing_files,
)
from labelassemble.data.decoding import Decoding, exif_orientation, reference, split_reference, upright
from labelassemble.data.png import read_chunks
from labelassemble.data.table import Table
from labelassemble.views.decode import decode, decode_encoded
from labelassemble.views.encoding import plain_encoding

PICTURE = (np.arange(3 * 5, dtype=np.uint8).reshape(3, 5) * 16)[:, :, None].repeat(8, 0).repeat(8, 1)[..., 0]
IGNORED = Decoding(orientation="ignore")


def tagged(orientation: int, kind: str, pixels: np.ndarray = PICTURE) -> bytes:
    """Return an encoded image with an EXIF orientation."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = io.BytesIO()
    options = {"lossless": True} if kind == "WebP" else {}
    if kind == "TIFF":
        Image.fromarray(pixels).save(file, kind, tiffinfo={0x0112: orientation})
    else:
        Image.fromarray(pixels).save(file, kind, exif=exif, **options)
    return file.getvalue()


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(values: np.ndarray, *before: bytes, after: tuple[bytes, ...] = ()) -> bytes:
    """Return a PNG of grey values uint8 or uint16 [H, W] with further chunks before or after its pixels."""
    height, width = values.shape
    header = struct.pack(">IIBBBBB", width, height, 8 * values.itemsize, 0, 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(values.dtype.newbyteorder(">")).tobytes() for row in values)
    pixels = chunk(b"IDAT", zlib.compress(rows))
    return b"".join(
        [b"\x89PNG\r\n\x1a\n", chunk(b"IHDR", header), *before, pixels, *after, chunk(b"IEND", b"")]
    )


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WebP"])
def test_an_image_is_turned_as_viewers_turn_it(kind: str, orientation: int) -> None:
    data = tagged(orientation, kind)
    with Image.open(io.BytesIO(data)) as image:
        expected = np.atleast_3d(np.asarray(ImageOps.exif_transpose(image))).transpose(2, 0, 1)
    for decoded in (decode_bytes(data, "a"), decode_encoded(data, "a")):
        np.testing.assert_array_equal(decoded, expected)
        assert decoded.flags.c_contiguous
    reference = decode_bytes(tagged(1, kind), "a")
    for decoded in (decode_bytes(data, "a", IGNORED), decode_encoded(data, "a", IGNORED)):
        np.testing.assert_array_equal(decoded, reference)
    assert (plain_encoding(data) is None) == (orientation > 1 or kind in ("TIFF", "WebP", "PNG"))


def test_the_eight_turns() -> None:
    image = np.array([[1, 2, 3], [4, 5, 6]], dtype=np.uint8)
    seen = [upright(image[None], orientation)[0].tolist() for orientation in range(1, 9)]
    assert seen == [
        [[1, 2, 3], [4, 5, 6]],
        [[3, 2, 1], [6, 5, 4]],
        [[6, 5, 4], [3, 2, 1]],
        [[4, 5, 6], [1, 2, 3]],
        [[1, 4], [2, 5], [3, 6]],
        [[4, 1], [5, 2], [6, 3]],
        [[6, 3], [5, 2], [4, 1]],
        [[3, 6], [2, 5], [1, 4]],
    ]


def test_sixteen_bit_and_colour_images_are_turned_too() -> None:
    deep = PICTURE.astype(np.uint16) * 257
    np.testing.assert_array_equal(decode_bytes(tagged(6, "PNG", deep), "a")[0], np.rot90(PICTURE, -1))
    colour = np.stack([PICTURE, PICTURE[::-1], 255 - PICTURE], axis=-1)
    np.testing.assert_array_equal(
        decode_bytes(tagged(8, "PNG", colour), "a"), np.rot90(colour).transpose(2, 0, 1)
    )


def test_the_chunk_of_a_png_may_come_after_its_pixels_and_texts_are_no_exif() -> None:
    exif = Image.Exif()
    exif[0x0112] = 3
    tiff = exif.tobytes().removeprefix(b"Exif\0\0")
    after = png(PICTURE, after=(chunk(b"eXIf", tiff),))
    np.testing.assert_array_equal(decode_encoded(after, "a")[0], PICTURE[::-1, ::-1])
    text = png(PICTURE, chunk(b"tEXt", b"exif\0Exif\0\0" + tiff))
    xmp = png(PICTURE, chunk(b"iTXt", b'XML:com.adobe.xmp\0\0\0\0\0<x tiff:Orientation="3"/>'))
    for data in (text, xmp):
        np.testing.assert_array_equal(decode_encoded(data, "a")[0], PICTURE)


@pytest.mark.parametrize("order", ["<", ">"])
def test_what_is_no_orientation_says_nothing(order: str) -> None:
    def tiff(*entries: tuple[int, int, int, int], start: int = 8, count: int | None = None) -> bytes:
        head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", start)
        number = len(entries) if count is None else count
        rows = b"".join(struct.pack(f"{order}HHIHH", *entry, 0) for entry in entries)
        return head + struct.pack(f"{order}H", number) + rows

    assert exif_orientation(tiff((0x0112, 3, 1, 6))) == 6
    assert exif_orientation(tiff((0x0100, 3, 1, 6), (0x0112, 3, 1, 8), count=900)) == 8
    silent = [
        b"",
        b"II*\0",
        tiff(),
        tiff((0x0112, 3, 1, 9)),
        tiff((0x0112, 3, 1, 0)),
        tiff((0x0112, 4, 1, 6)),
        tiff((0x0112, 3, 2, 6)),
        tiff((0x0112, 3, 1, 0), (0x0112, 3, 1, 6)),
        tiff((0x0112, 3, 1, 6), start=4000),
        tiff((0x0112, 3, 1, 6))[:20],
        tiff((0x0112, 3, 1, 6), count=0),
    ]
    assert [exif_orientation(data) for data in silent] == [1] * len(silent)


def test_values_below_their_significant_bits_are_scaled_by_those() -> None:
    eight = np.arange(0, 256, 5, dtype=np.uint16).reshape(4, 13)
    expected = eight.astype(np.uint8)[None]
    bits = chunk(b"sBIT", b"\x0c")
    stored = np.round(eight / 255 * 4095).astype(np.uint16)
    np.testing.assert_array_equal(decode_bytes(png(stored, bits), "a"), expected)
    shifted = decode_bytes(png(eight * 16, bits), "a")  # all of them multiples of 16
    assert np.abs(shifted.astype(int) - expected).max() <= 1
    scaled = stored << 4 | stored >> 8  # as the standard wants it
    np.testing.assert_array_equal(decode_bytes(png(scaled, bits), "a"), expected)
    assert decode_bytes(png(stored), "a").max() == 16  # nothing says that it has 12 bits


def test_a_dark_image_that_was_scaled_up_stays_dark() -> None:
    dark = np.arange(0, 6000, 500, dtype=np.uint16).reshape(3, 4)  # of 32767
    bits = chunk(b"sBIT", b"\x0f")
    np.testing.assert_array_equal(
        decode_bytes(png(dark * 2, bits), "a")[0], np.round(dark / 32767 * 255).astype(np.uint8)
    )
    odd = dark + 1
    np.testing.assert_array_equal(
        decode_bytes(png(odd, bits), "a")[0], np.round(odd / 32767 * 255).astype(np.uint8)
    )


@pytest.mark.parametrize("data", [b"", b"\x00", b"\x11", b"\x0c\x0c"])
def test_a_wrong_chunk_of_significant_bits_is_ignored(data: bytes) -> None:
    values = np.array([[0, 4095]], dtype=np.uint16)
    assert decode_bytes(png(values, chunk(b"sBIT", data)), "a")[0].tolist() == [[0, 16]]
    assert decode_bytes(png(values, after=(chunk(b"sBIT", b"\x0c"),)), "a")[0].tolist() == [[0, 16]]
    eight = np.array([[0, 15, 255]], dtype=np.uint8)
    assert decode_bytes(png(eight, chunk(b"sBIT", b"\x04")), "a")[0].tolist() == [[0, 15, 255]]


def test_reading_chunks_leaves_the_position() -> None:
    file = io.BytesIO(b"before" + png(PICTURE, chunk(b"sBIT", b"\x0c")))
    file.seek(6)
    assert read_chunks(file) == (None, b"")  # 8 bits
    assert file.tell() == 6


def test_a_source_may_say_how_many_bits_its_values_have() -> None:
    values = np.array([[0, 1000, 4095]], dtype=np.uint16)
    told = Decoding(bits=12)
    assert decode_bytes(png(values), "a", told)[0].tolist() == [[0, 62, 255]]
    assert decode_bytes(png(values), "a", Decoding(bits=13))[0].tolist() == [[0, 31, 127]]
    with pytest.raises(
        ImageError,
        match=r"a: grey values must fit the 12 bits that its source's option `bits` says, got 4096",
    ):
        decode_bytes(png(values + 1), "a", told)
    np.testing.assert_array_equal(decode_bytes(png(PICTURE), "a", told)[0], PICTURE)  # 8 bits are 8 bits


def twelve_bit_tiff(values: np.ndarray, white_is_zero: bool = False) -> bytes:
    """Return a little-endian TIFF of 12-bit grey values, two in three bytes, [H, even W]."""
    height, width = values.shape
    pairs = values.reshape(-1, 2).astype(np.uint32)
    packed = np.stack(
        [pairs[:, 0] >> 4, (pairs[:, 0] & 15) << 4 | pairs[:, 1] >> 8, pairs[:, 1] & 255], axis=1
    ).astype(np.uint8)
    entries = [
        (256, 4, width),
        (257, 4, height),
        (258, 3, 12),
        (259, 3, 1),
        (262, 3, 0 if white_is_zero else 1),
        (273, 4, 8),
        (277, 3, 1),
        (278, 4, height),
        (279, 4, packed.size),
    ]
    rows = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in entries)
    start = 8 + packed.size
    return (
        b"II*\0"
        + struct.pack("<I", start)
        + packed.tobytes()
        + struct.pack("<H", len(entries))
        + rows
        + b"\0" * 4
    )


def test_a_tiff_of_twelve_bits_has_their_range() -> None:
    values = np.array([[0, 16, 2048, 4080]], dtype=np.uint16)
    assert decode_bytes(twelve_bit_tiff(values), "a")[0].tolist() == [[0, 1, 128, 254]]


def test_a_tiff_whose_zero_is_white_is_inverted(tmp_path: Path) -> None:
    values = np.array([[0, 32768, 65535]], dtype=np.uint16)
    Image.fromarray(values).save(tmp_path / "a.tiff", tiffinfo={262: 0})
    with Image.open(tmp_path / "a.tiff") as image:
        assert image.tag_v2[262] == 0
    assert decode_image(tmp_path / "a.tiff")[0].tolist() == [[255, 127, 0]]


@pytest.mark.parametrize(
    ("path", "how"),
    [
        ("a.png", Decoding()),
        ("a.png::bits=12", Decoding(bits=12)),
        ("a.tar::b/c.png::orientation=ignore", Decoding(orientation="ignore")),
        ("a.png::bits=9,orientation=ignore", Decoding(9, "ignore")),
    ],
)
def test_how_an_image_is_decoded_travels_behind_its_path(path: str, how: Decoding) -> None:
    plain, found = split_reference(path)
    assert found == how
    assert reference(plain, how) == path
    assert split_reference(f"{path}::bits=16") == (plain, Decoding(bits=16))


def test_what_only_looks_like_options_is_a_path() -> None:
    for path in ("a::bits=x", "a::bits=12.png", "::orientation=exif", "a.npz::bits::12", "a:bits=12", ""):
        assert split_reference(path) == (path, Decoding())


def test_the_options_of_a_source_reach_every_reader_of_its_table(tmp_path: Path) -> None:
    values = np.arange(0, 4096, 273, dtype=np.uint16).reshape(4, 4)
    (tmp_path / "a.png").write_bytes(png(values))
    (tmp_path / "b.jpg").write_bytes(tagged(6, "JPEG"))
    (tmp_path / "t.csv").write_text("path,Mass\na.png,1\nb.jpg,0\n")
    told = CsvSource(name="told", path=tmp_path / "t.csv", bits=12, orientation="ignore")
    plain = CsvSource(name="plain", path=tmp_path / "t.csv")
    table = assemble([told]).table
    assert [Path(path).name for path in table.paths.tolist()] == [
        "a.png::bits=12,orientation=ignore",
        "b.jpg::bits=12,orientation=ignore",
    ]
    for read in (decode_image, decode):
        np.testing.assert_array_equal(read(table.paths[0])[0], np.round(values / 4095 * 255))
        assert read(table.paths[1]).shape == (1, *PICTURE.shape)
    assert missing_files(table.paths.tolist()) == []
    assert check_images(table).bad == ()
    table.to_csv(tmp_path / "table.csv")
    assert Table.from_csv(tmp_path / "table.csv") == table
    for search in ("path", "content", "looks"):  # the same files, however they are read
        assert len(assemble([told, plain], duplicates=search).table) == 2
    (tmp_path / "a.png").unlink()
    assert missing_files(table.paths.tolist()) == [table.paths[0]]
    with pytest.raises(ImageError, match=r"a\.png: cannot be opened"):
        decode_image(table.paths[0])
