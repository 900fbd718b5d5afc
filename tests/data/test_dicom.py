"""DICOM: rescale, window, VOI LUT, MONOCHROME1, colour, and files that cannot be shown."""

import io
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from labelassemble.data import ImageError, decode_bytes, decode_image
from labelassemble.data.decoding import Decoding
from labelassemble.data.errors import PluginError

STORED = np.array([[0, 1000, 2000], [3000, 4000, 4095]], dtype=np.uint16)


def test_without_pydicom_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(PluginError, match=r"a\.dcm: needs pydicom: pip install 'labelassemble\[dicom\]'"):
        decode_bytes(b"\0" * 128 + b"DICM", "a.dcm")


@pytest.fixture
def dicom() -> Callable[..., bytes]:
    """Return a function that writes a DICOM file of pixels and further elements."""
    import pydicom
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian

    def write(pixels: np.ndarray, **elements: Any) -> bytes:
        data = pydicom.Dataset()
        data.file_meta = FileMetaDataset()
        data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        data.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.1.1"
        data.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
        data.Rows, data.Columns = pixels.shape[:2]
        data.SamplesPerPixel = 1 if pixels.ndim == 2 else 3
        data.PhotometricInterpretation = "MONOCHROME2" if pixels.ndim == 2 else "RGB"
        data.BitsAllocated = 8 * pixels.itemsize
        data.BitsStored = 12 if pixels.itemsize == 2 else 8
        data.HighBit = data.BitsStored - 1
        data.PixelRepresentation = int(pixels.dtype.kind == "i")
        if pixels.ndim == 3:
            data.PlanarConfiguration = 0
        data.PixelData = pixels.tobytes()
        for name, value in elements.items():
            setattr(data, name, value)
        file = io.BytesIO()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            pydicom.dcmwrite(file, data, enforce_file_format=True)
        return file.getvalue()

    return write


def test_the_range_of_the_stored_bits_becomes_the_grey_range(
    dicom: Callable[..., bytes], tmp_path: Path
) -> None:
    (tmp_path / "a.dcm").write_bytes(dicom(STORED))
    decoded = decode_image(tmp_path / "a.dcm")
    np.testing.assert_array_equal(decoded, np.round(STORED / 4095 * 255).astype(np.uint8)[None])


def test_monochrome1_is_inverted(dicom: Callable[..., bytes]) -> None:
    plain, inverse = (
        decode_bytes(dicom(STORED, PhotometricInterpretation=kind), "a")
        for kind in ("MONOCHROME2", "MONOCHROME1")
    )
    assert plain[0, 0, 0] == 0
    assert np.abs(255 - plain.astype(int) - inverse).max() <= 1


def test_the_window_cuts_and_stretches(dicom: Callable[..., bytes]) -> None:
    decoded = decode_bytes(dicom(STORED, WindowCenter=[2000, 1], WindowWidth=[2000, 1]), "a")[0]
    assert decoded[0, 0] == decoded[0, 1] == 0
    assert decoded[1].tolist() == [255, 255, 255]
    assert 126 <= decoded[0, 2] <= 129


def test_rescaled_values_meet_the_window_in_their_own_units(dicom: Callable[..., bytes]) -> None:
    stored = np.array([[-1000, 0, 1000]], dtype=np.int16)
    elements = {"RescaleSlope": 2, "RescaleIntercept": 100, "WindowCenter": 100, "WindowWidth": 4000}
    decoded = decode_bytes(dicom(stored, **elements), "a")[0, 0]
    assert abs(int(decoded[0]) - 0) <= 1
    assert abs(int(decoded[1]) - 128) <= 1
    assert abs(int(decoded[2]) - 255) <= 1


def test_a_voi_lut_is_applied(dicom: Callable[..., bytes]) -> None:
    import pydicom

    item = pydicom.Dataset()
    item.add_new("LUTDescriptor", "US", [4, 0, 8])
    item.add_new("LUTData", "US", [10, 30, 200, 255])
    stored = np.array([[0, 1, 2, 3]], dtype=np.uint16)
    decoded = decode_bytes(dicom(stored, VOILUTSequence=[item]), "a")
    assert decoded[0, 0].tolist() == [10, 30, 200, 255]


def test_colour(dicom: Callable[..., bytes]) -> None:
    colour = np.random.default_rng(0).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    np.testing.assert_array_equal(decode_bytes(dicom(colour), "a"), colour.transpose(2, 0, 1))


def test_what_cannot_be_shown_is_named(dicom: Callable[..., bytes]) -> None:
    whole = dicom(STORED)
    with pytest.raises(ImageError, match="a DICOM image must have one frame, got 2"):
        decode_bytes(dicom(np.concatenate([STORED, STORED]), Rows=2, NumberOfFrames=2), "a.dcm")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for length in range(132, len(whole) - 1, 5):
            with pytest.raises(ImageError, match=r"^a\.dcm: "):
                decode_bytes(whole[:length], "a.dcm")


def lut(*entries: int, first: int = 0, bits: int = 16, count: int | None = None) -> Any:
    """Return an item of a LUT sequence."""
    import pydicom

    item = pydicom.Dataset()
    item.add_new("LUTDescriptor", "US", [len(entries) if count is None else count, first, bits])
    item.add_new("LUTData", "US", [int(entry) for entry in entries])
    return item


def palette(table: np.ndarray, bits: int, first: int = 0) -> dict[str, Any]:
    """Return the elements of a palette, [entries, 3]."""
    elements: dict[str, Any] = {"PhotometricInterpretation": "PALETTE COLOR"}
    for colour, column in zip(("Red", "Green", "Blue"), table.T, strict=True):
        elements[f"{colour}PaletteColorLookupTableDescriptor"] = [len(table) % 65536, first, bits]
        elements[f"{colour}PaletteColorLookupTableData"] = np.ascontiguousarray(column).tobytes()
    return elements


@pytest.mark.parametrize(
    "window", [{"WindowCenter": 100, "WindowWidth": 0}, {"WindowCenter": 5}, {"WindowWidth": 3}]
)
def test_a_window_that_is_none_is_ignored(dicom: Callable[..., bytes], window: dict[str, Any]) -> None:
    np.testing.assert_array_equal(
        decode_bytes(dicom(STORED, **window), "a"), decode_bytes(dicom(STORED), "a")
    )


def test_the_first_window_with_a_width_counts(dicom: Callable[..., bytes]) -> None:
    several = dicom(STORED, WindowCenter=[7, 2000, 1], WindowWidth=[0, 2000, 5])
    one = dicom(STORED, WindowCenter=2000, WindowWidth=2000)
    np.testing.assert_array_equal(decode_bytes(several, "a"), decode_bytes(one, "a"))


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        ("LINEAR", [0, 128, 255]),
        ("LINEAR_EXACT", [0, 128, 255]),
        ("SIGMOID", [30, 128, 225]),
        ("", [0, 128, 255]),
    ],
)
def test_the_function_of_a_window(dicom: Callable[..., bytes], function: str, expected: list[int]) -> None:
    stored = np.array([[1000, 2000, 3000]], dtype=np.uint16)  # the middle and the ends of the window
    decoded = decode_bytes(dicom(stored, WindowCenter=2000, WindowWidth=2000, VOILUTFunction=function), "a")
    assert decoded[0, 0].tolist() == expected


def test_a_window_of_another_function_is_named(dicom: Callable[..., bytes]) -> None:
    data = dicom(STORED, WindowCenter=2000, WindowWidth=2000, VOILUTFunction="CUBIC")
    with pytest.raises(
        ImageError, match="a: VOILUTFunction must be LINEAR, LINEAR_EXACT or SIGMOID, got CUBIC"
    ):
        decode_bytes(data, "a")


def test_narrow_windows(dicom: Callable[..., bytes]) -> None:
    stored = np.array([[99, 100, 101]], dtype=np.uint16)
    one = decode_bytes(dicom(stored, WindowCenter=100, WindowWidth=1), "a")
    assert one[0, 0].tolist() == [0, 255, 255]
    share = dicom(stored, RescaleSlope=0.01, RescaleIntercept=0, WindowCenter=1, WindowWidth=0.02)
    assert decode_bytes(share, "a")[0, 0].tolist() == [0, 128, 255]


def test_a_voi_lut_has_the_bits_that_its_entries_have(dicom: Callable[..., bytes]) -> None:
    ramp = np.arange(4096)
    expected = np.round(STORED / 4095 * 255).astype(np.uint8)[None]
    for bits in (12, 16):  # the second claims more than it has
        decoded = decode_bytes(dicom(STORED, VOILUTSequence=[lut(*ramp, bits=bits)]), "a")
        np.testing.assert_array_equal(decoded, expected)
    eight = decode_bytes(dicom(STORED, VOILUTSequence=[lut(*(ramp // 16), bits=8)]), "a")
    np.testing.assert_array_equal(eight[0], STORED // 16)
    packed = lut(*(ramp // 16).astype(np.uint8).view("<u2"), bits=8, count=4096)
    np.testing.assert_array_equal(decode_bytes(dicom(STORED, VOILUTSequence=[packed]), "a"), eight)


def test_a_voi_lut_meets_rescaled_values(dicom: Callable[..., bytes]) -> None:
    item = lut(10, 30, 200, 255, first=65526, bits=8)  # -10, read as not signed
    stored = np.array([[0, 1, 2, 3, 4]], dtype=np.uint16)
    decoded = decode_bytes(dicom(stored, RescaleSlope=1, RescaleIntercept=-10, VOILUTSequence=[item]), "a")
    assert decoded[0, 0].tolist() == [10, 30, 200, 255, 255]


def test_a_lut_that_is_cut_off_is_named(dicom: Callable[..., bytes]) -> None:
    with pytest.raises(ImageError, match="a LUT must hold the 4096 entries that it names, got 8"):
        decode_bytes(dicom(STORED, VOILUTSequence=[lut(1, 2, 3, 4, count=4096)]), "a")


def test_a_modality_lut_gives_the_range(dicom: Callable[..., bytes]) -> None:
    stored = np.array([[0, 1, 2, 3]], dtype=np.uint16)
    decoded = decode_bytes(dicom(stored, ModalityLUTSequence=[lut(0, 1023, 511, 255, bits=10)]), "a")
    assert decoded[0, 0].tolist() == [0, 255, 127, 64]


@pytest.mark.parametrize(("slope", "intercept"), [("nan", 0), ("inf", 0), (1, "-inf"), (0, 5)])
def test_a_rescale_that_is_not_finite_is_named(
    dicom: Callable[..., bytes], slope: Any, intercept: Any
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data = dicom(STORED, RescaleSlope=slope, RescaleIntercept=intercept)
    with pytest.raises(
        ImageError, match=r"a: grey values must be rescaled by finite numbers, the slope not 0, got"
    ):
        decode_bytes(data, "a")


def test_bits_stored_that_are_wrong(dicom: Callable[..., bytes]) -> None:
    ten = dicom(STORED, BitsStored=10, HighBit=9)
    with pytest.raises(ImageError, match="a: grey values must fit BitsStored = 10, got 4095"):
        decode_bytes(ten, "a")
    expected = decode_bytes(dicom(STORED), "a")
    np.testing.assert_array_equal(decode_bytes(ten, "a", Decoding(bits=12)), expected)
    sixteen = dicom(STORED, BitsStored=16, HighBit=15)
    assert decode_bytes(sixteen, "a").max() == 16
    np.testing.assert_array_equal(decode_bytes(sixteen, "a", Decoding(bits=12)), expected)
    with pytest.raises(ImageError, match="must fit the option `bits` = 11 of its source, got 4095"):
        decode_bytes(sixteen, "a", Decoding(bits=11))


def test_an_overlay_in_the_pixels_is_left_out(dicom: Callable[..., bytes]) -> None:
    import io

    import pydicom

    data = pydicom.dcmread(io.BytesIO(dicom(STORED | 0x8000)))
    data.add_new((0x6000, 0x0100), "US", 16)
    data.add_new((0x6000, 0x0102), "US", 15)
    file = io.BytesIO()
    pydicom.dcmwrite(file, data, enforce_file_format=True)
    np.testing.assert_array_equal(decode_bytes(file.getvalue(), "a"), decode_bytes(dicom(STORED), "a"))
    with pytest.raises(ImageError, match="must fit BitsStored = 12"):
        decode_bytes(dicom(STORED | 0x8000), "a")


def test_values_in_the_upper_bits(dicom: Callable[..., bytes]) -> None:
    expected = decode_bytes(dicom(STORED), "a")
    np.testing.assert_array_equal(decode_bytes(dicom(STORED << 4, HighBit=15), "a"), expected)
    np.testing.assert_array_equal(decode_bytes(dicom(STORED, HighBit=15), "a"), expected)  # they lie below


def test_signed_values(dicom: Callable[..., bytes]) -> None:
    stored = np.array([[-2048, -1, 0, 2047]], dtype=np.int16)
    decoded = decode_bytes(dicom(stored), "a")
    assert decoded[0, 0].tolist() == [0, 127, 128, 255]
    np.testing.assert_array_equal(decode_bytes(dicom(stored & 0xFFF), "a"), decoded)  # spare bits are 0
    with pytest.raises(ImageError, match="must fit BitsStored = 12, got -3000 to 0"):
        decode_bytes(dicom(np.array([[-3000, 0]], dtype=np.int16)), "a")


@pytest.mark.parametrize("kind", ["MONOCHROME1", "MONOCHROME2"])
def test_padding_is_black(dicom: Callable[..., bytes], kind: str) -> None:
    plain = decode_bytes(dicom(STORED, PhotometricInterpretation=kind), "a")
    one = decode_bytes(dicom(STORED, PhotometricInterpretation=kind, PixelPaddingValue=1000), "a")
    np.testing.assert_array_equal(one, np.where(STORED == 1000, 0, plain))
    several = dicom(STORED, PhotometricInterpretation=kind, PixelPaddingValue=0, PixelPaddingRangeLimit=1000)
    np.testing.assert_array_equal(decode_bytes(several, "a"), np.where(STORED <= 1000, 0, plain))


def test_the_shape_of_the_presentation_lut_says_nothing_new(dicom: Callable[..., bytes]) -> None:
    for kind, shape in (("MONOCHROME1", "INVERSE"), ("MONOCHROME2", "IDENTITY")):
        plain = decode_bytes(dicom(STORED, PhotometricInterpretation=kind), "a")
        said = decode_bytes(dicom(STORED, PhotometricInterpretation=kind, PresentationLUTShape=shape), "a")
        np.testing.assert_array_equal(said, plain)


def test_a_palette_gives_its_colours(dicom: Callable[..., bytes]) -> None:
    rng = np.random.default_rng(0)
    table = rng.integers(0, 256, (256, 3), dtype=np.uint8)
    indices = rng.integers(0, 256, (5, 6), dtype=np.uint8)
    expected = table[indices].transpose(2, 0, 1)
    np.testing.assert_array_equal(decode_bytes(dicom(indices, **palette(table, 8)), "a"), expected)
    for deep in (table.astype(np.uint16) * 257, table.astype(np.uint16)):  # the second claims 16 bits
        np.testing.assert_array_equal(decode_bytes(dicom(indices, **palette(deep, 16)), "a"), expected)
    many = rng.integers(0, 256, (4096, 3), dtype=np.uint8)
    np.testing.assert_array_equal(
        decode_bytes(dicom(STORED, **palette(many, 8)), "a"), many[STORED].transpose(2, 0, 1)
    )
    some = decode_bytes(dicom(indices, **palette(table[:10], 8, first=100)), "a")
    np.testing.assert_array_equal(some, table[np.clip(indices.astype(int) - 100, 0, 9)].transpose(2, 0, 1))


def test_ybr_is_converted(dicom: Callable[..., bytes]) -> None:
    from PIL import Image

    colour = np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    ybr = np.asarray(Image.fromarray(colour).convert("YCbCr"))
    full = decode_bytes(dicom(ybr, PhotometricInterpretation="YBR_FULL"), "a")
    assert np.abs(full.astype(int) - colour.transpose(2, 0, 1)).max() <= 3
    planes = decode_bytes(
        dicom(
            ybr,
            PhotometricInterpretation="YBR_FULL",
            PlanarConfiguration=1,
            PixelData=ybr.transpose(2, 0, 1).tobytes(),
        ),
        "a",
    )
    np.testing.assert_array_equal(planes, full)


def test_kinds_that_have_no_rule_are_named(dicom: Callable[..., bytes]) -> None:
    with pytest.raises(
        ImageError, match="of one channel must be MONOCHROME1, MONOCHROME2 or PALETTE COLOR, got 'RGB'"
    ):
        decode_bytes(dicom(STORED, PhotometricInterpretation="RGB"), "a")
    deep = np.zeros((4, 5, 3), dtype=np.uint16)
    with pytest.raises(ImageError, match="in colour must be 8-bit RGB, got uint16"):
        decode_bytes(dicom(deep), "a")


@pytest.mark.parametrize(
    ("syntax", "codec"),
    [
        ("1.2.840.10008.1.2.4.57", "libjpeg"),  # JPEG Lossless
        ("1.2.840.10008.1.2.4.70", "libjpeg"),
        ("1.2.840.10008.1.2.4.80", "libjpeg"),  # JPEG-LS
        ("1.2.840.10008.1.2.4.81", "libjpeg"),
        ("1.2.840.10008.1.2.4.51", "libjpeg"),  # JPEG Extended, of which Pillow reads 8 bits
        ("1.2.840.10008.1.2.4.201", "openjpeg"),  # HTJ2K
        ("1.2.840.10008.1.2.4.203", "openjpeg"),
    ],
)
def test_a_compression_without_its_plug_in_is_not_called_damage(
    syntax: str, codec: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pydicom = pytest.importorskip("pydicom")
    decoder = pydicom.pixels.get_decoder(pydicom.uid.UID(syntax))
    for installed in set(decoder.available_plugins) - {"pillow"}:  # such as pyjpegls, which highdicom brings
        monkeypatch.delitem(decoder._available, installed)
    data = pydicom.Dataset()
    data.file_meta = pydicom.dataset.FileMetaDataset()
    data.file_meta.TransferSyntaxUID = pydicom.uid.UID(syntax)
    data.Rows, data.Columns, data.BitsAllocated, data.BitsStored, data.HighBit = 2, 3, 16, 12, 11
    data.SamplesPerPixel, data.PixelRepresentation = 1, 0
    data.PhotometricInterpretation = "MONOCHROME2"
    data.PixelData = pydicom.encaps.encapsulate([b"\xff\xd8\xff\xd9"])
    path = tmp_path / "a.dcm"
    data.preamble = bytes(128)
    data.save_as(path)
    with pytest.raises(
        PluginError, match=rf"a\.dcm: needs a plug-in for .*: pip install pylibjpeg pylibjpeg-{codec}$"
    ):
        decode_image(path)
