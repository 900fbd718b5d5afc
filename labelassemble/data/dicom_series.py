"""A folder of DICOM slices as one volume, through pydicom (the extra `dicom`).

MONAI's reader sorts by InstanceNumber, takes the distance along the scanner's axis alone, and only warns of slices of
other shapes; here slices are sorted by where they lie, and what does not make one volume is an error.
"""

import os
from collections.abc import Sequence
from importlib import import_module
from io import BytesIO
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from labelassemble.data.dicom import check_plugin, is_dicom
from labelassemble.data.dicom_grey import is_inverted, modality_values
from labelassemble.data.errors import ImageError, PluginError
from labelassemble.data.grid import Grid

_RAS: Final = np.diag([-1.0, -1.0, 1.0, 1.0])  # DICOM counts to the left and to the back
_EVEN: Final = 0.02  # of the distance between slices
_ASIDE: Final = 0.2  # of a pixel


def read_series(folder: str, bits: int | None = None) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Return the volume of a folder, float32 [rows, columns, slices] after slope and intercept, and its affine (RAS).

    Files that are not DICOM are left out. `bits` stands for BitsStored, where it is given.

    Raises:
        ImageError: No DICOM file, several series, slices of other shapes, spacings, directions or photometric
            interpretations, a slice that is missing, aside of the line of the others or there twice, or a file that
            cannot be decoded.
    """
    slices, affine = _sorted(folder, pixels=True)
    return np.stack(
        [_values(data, os.path.join(folder, name), bits) for name, data in slices], axis=2
    ), affine


def series_headers(path: str) -> list[Any]:
    """Return the headers of a folder's slices as `read_series` sorts them, or of one DICOM file; pydicom Datasets.

    Raises:
        ImageError: As `read_series`, or the file does not say where it lies.
    """
    if os.path.isdir(path):
        return [data for _, data in _sorted(path, pixels=False)[0]]
    data = _pydicom(path).dcmread(path, stop_before_pixels=True)
    if _affine([(path, data)]) is None:
        raise ImageError(path, "the DICOM image does not say where it lies")
    return [data]


def series_grid(folder: str) -> Grid:
    """Return shape and place of a folder's volume from the headers; raises as `read_series`."""
    slices, affine = _sorted(folder, pixels=False)
    return Grid((*_shape(slices[0][1]), len(slices)), affine)


def read_slice(
    data: bytes, name: str, bits: int | None = None
) -> tuple[NDArray[np.float32], NDArray[np.float64] | None]:
    """Return the image of a DICOM file, float32 [rows, columns] after slope and intercept, and its affine if it says.

    `bits` stands for BitsStored, where it is given.

    Raises:
        ImageError: It has several frames or no pixels, or cannot be decoded.
    """
    dataset = _pydicom(name).dcmread(BytesIO(data))
    return _values(dataset, name, bits), _affine([(name, dataset)])


def slice_grid(data: bytes, name: str) -> Grid:
    """Return shape and place of a DICOM file from its header."""
    dataset = _pydicom(name).dcmread(BytesIO(data), stop_before_pixels=True)
    return Grid(_shape(dataset), _affine([(name, dataset)]))


def _pydicom(name: str) -> Any:
    try:
        return import_module("pydicom")
    except ImportError:
        raise PluginError(name, "needs pydicom: pip install 'labelassemble[dicom]'") from None


def _sorted(folder: str, *, pixels: bool) -> tuple[list[tuple[str, Any]], NDArray[np.float64]]:
    """Return the slices of a folder from the first place to the last, by file, and the affine of their volume."""
    pydicom = _pydicom(folder)
    slices = []
    for name in sorted(os.listdir(folder)):
        file = os.path.join(folder, name)
        if not os.path.isfile(file):
            continue
        with open(file, "rb") as opened:
            if is_dicom(opened):
                slices.append((name, pydicom.dcmread(opened, stop_before_pixels=not pixels)))
    slices = [(name, data) for name, data in slices if "Rows" in data]  # a DICOMDIR has none
    if not slices:
        raise ImageError(
            folder,
            "the folder has no DICOM images; of other volumes name the files themselves, such as a/*.nii.gz",
        )
    series = {str(data.get("SeriesInstanceUID", "")) for _, data in slices}
    if len(series) > 1:
        raise ImageError(folder, f"the folder must hold one DICOM series, got {len(series)}")
    first_name, first = slices[0]
    for keyword in ("ImageOrientationPatient", "ImagePositionPatient", "PixelSpacing"):
        lacking = next((name for name, data in slices if not data.get(keyword)), None)
        if lacking is not None:
            raise ImageError(folder, f"the slice {lacking} does not say where it lies (no {keyword})")
    for name, data in slices:
        for what, ours, theirs, rounding in (
            ("shape", _shape(data), _shape(first), 0.0),
            ("PixelSpacing", data.PixelSpacing, first.PixelSpacing, 1e-3),
            ("orientation", data.ImageOrientationPatient, first.ImageOrientationPatient, 1e-3),
        ):
            near = np.isclose(np.array(ours, float), np.array(theirs, float), rtol=rounding, atol=rounding)
            if not near.all():
                shown = [f"{float(value):g}" for value in ours]
                wanted = [f"{float(value):g}" for value in theirs]
                raise ImageError(
                    folder, f"the slice {name} has another {what} than {first_name}: {shown} and {wanted}"
                )
    inverted = {name for name, data in slices if is_inverted(data)}
    if 0 < len(inverted) < len(slices):
        raise ImageError(
            folder,
            f"the slice {min(inverted)} is MONOCHROME1 and others are not: they are not of one scale",
        )
    normal = np.cross(*np.array(first.ImageOrientationPatient, float).reshape(2, 3))
    height = {
        name: float(np.dot(normal, np.array(data.ImagePositionPatient, float))) for name, data in slices
    }
    slices.sort(key=lambda item: height[item[0]])
    _check_even(folder, [(name, height[name]) for name, _ in slices])
    _check_straight(folder, slices)
    affine = _affine(slices)
    assert affine is not None  # each slice says where it lies
    return slices, affine


def _check_even(folder: str, heights: Sequence[tuple[str, float]]) -> None:
    """Raise unless the slices lie at even distances."""
    steps = np.diff([height for _, height in heights])
    if not len(steps):
        return
    usual = float(np.median(steps))
    for (before, _), (after, _), step in zip(heights, heights[1:], steps, strict=False):
        if step < 1e-3:
            raise ImageError(folder, f"the slices {before} and {after} lie in the same place")
        if abs(step - usual) > max(_EVEN * usual, 0.01):
            raise ImageError(
                folder,
                f"the slices {before} and {after} are {step:.4g} mm apart where others are {usual:.4g}: "
                "a slice is missing or too many",
            )


def _check_straight(folder: str, slices: Sequence[tuple[str, Any]]) -> None:
    """Raise unless the first voxels of the slices lie in a line; the line of a tilted gantry is not upright."""
    places = np.array([data.ImagePositionPatient for _, data in slices], float)
    line = np.linspace(places[0], places[-1], len(places))
    aside = np.linalg.norm(places - line, axis=1)
    worst = int(aside.argmax())
    if aside[worst] > max(_ASIDE * min(float(value) for value in slices[0][1].PixelSpacing), 0.02):
        raise ImageError(
            folder, f"the slice {slices[worst][0]} lies {aside[worst]:.3g} mm aside of the line of the others"
        )


def _shape(data: Any) -> tuple[int, int]:
    return int(data.Rows), int(data.Columns)


def _affine(slices: Sequence[tuple[str, Any]]) -> NDArray[np.float64] | None:
    """Return the affine of [rows, columns, slices] (DICOM PS3.3, C.7.6.2.1.1), None where the slices do not say."""
    first, last = slices[0][1], slices[-1][1]
    if not all(first.get(key) for key in ("ImageOrientationPatient", "ImagePositionPatient", "PixelSpacing")):
        return None
    across, down = np.array(first.ImageOrientationPatient, float).reshape(2, 3)
    begin, end = np.array(first.ImagePositionPatient, float), np.array(last.ImagePositionPatient, float)
    between_rows, between_columns = (float(value) for value in first.PixelSpacing)
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1] = down * between_rows, across * between_columns
    if len(slices) > 1:
        affine[:3, 2] = (end - begin) / (len(slices) - 1)
    else:
        affine[:3, 2] = np.cross(across, down) * float(first.get("SliceThickness") or 1.0)
    affine[:3, 3] = begin
    return _RAS @ affine


def _values(data: Any, name: str, bits: int | None) -> NDArray[np.float32]:
    """Return the pixels of a slice in the units of its modality: HU for CT."""
    if "PixelData" not in data:
        raise ImageError(name, "the DICOM file has no pixels")
    if int(data.get("NumberOfFrames", 1) or 1) > 1:
        raise ImageError(name, f"a DICOM slice must have one frame, got {data.NumberOfFrames}")
    pixels = import_module("pydicom.pixels")
    check_plugin(data, pixels, name)
    stored = pixels.pixel_array(
        data, index=0, correct_unused_bits=False
    )  # which would cut values off silently
    if stored.ndim != 2:
        raise ImageError(name, f"a DICOM slice must be grey, got {list(stored.shape)}")
    kind = str(data.get("PhotometricInterpretation", ""))
    if kind not in ("MONOCHROME1", "MONOCHROME2"):
        raise ImageError(name, f"a DICOM slice must be MONOCHROME1 or MONOCHROME2, got {kind!r}")
    return modality_values(data, stored, name, bits)
