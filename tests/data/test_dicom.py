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

STORED = np.array([[0, 1000, 2000], [3000, 4000, 4095]], dtype=np.uint16)


def test_without_pydicom_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(
        ImageError, match=r"a\.dcm: a DICOM file needs pydicom: pip install 'labelassemble\[dicom\]'"
    ):
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
