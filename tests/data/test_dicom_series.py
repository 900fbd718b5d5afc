"""A folder of DICOM slices as one volume: sorted by place, in its units, and what does not make a volume."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from labelassemble.data.errors import ImageError
from labelassemble.data.fingerprints import content_fingerprints
from labelassemble.data.text import text_array
from labelassemble.data.volumes import read_grid, read_volume

ACROSS, DOWN = np.array([0.0, 1.0, 0.0]), np.array([0.0, 0.0, -1.0])  # a sagittal series


def write(path: Path, pixels: np.ndarray, **elements: Any) -> None:
    import pydicom
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian

    data = pydicom.Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    data.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    data.Rows, data.Columns = pixels.shape
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated, data.BitsStored, data.HighBit = 16, 16, 15
    data.PixelRepresentation = 0
    data.PixelData = pixels.astype(np.uint16).tobytes()
    data.RescaleSlope, data.RescaleIntercept = "2", "-1024"
    for name, value in elements.items():
        setattr(data, name, value)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pydicom.dcmwrite(path, data, enforce_file_format=True)


def slices(count: int = 4) -> list[dict[str, Any]]:
    """Return the elements of a series of slices of 5 rows and 6 columns, 2.5 mm apart."""
    return [
        {
            "pixels": np.arange(30).reshape(5, 6) + 100 * index,
            "SeriesInstanceUID": "1.2.9",
            "InstanceNumber": count - index,
            "PixelSpacing": [0.8, 0.5],
            "ImageOrientationPatient": [*ACROSS, *DOWN],
            "ImagePositionPatient": [-7.0 - 2.5 * index, 20.0, 30.0],
        }
        for index in range(count)
    ]


def series(folder: Path, items: list[dict[str, Any]]) -> str:
    folder.mkdir(exist_ok=True)
    for index, item in enumerate(items):
        # names tell nothing of the order
        write(folder / f"{(index * 7 + 3) % 10}.dcm", **item)
    (folder / "notes.txt").write_text("no slice")
    return str(folder)


def test_a_series_is_a_volume_in_its_units_and_in_its_place(tmp_path: Path) -> None:
    path = series(tmp_path / "a", slices())
    values, affine = read_volume(path)
    assert affine is not None
    assert values.shape == (5, 6, 4)
    assert values.dtype == np.float32
    for index, item in enumerate(slices()):
        # the voxel of each slice, row and column lies where DICOM's equation puts it, and has its value
        row, column = 3, 4
        place = np.array(item["ImagePositionPatient"]) + DOWN * 0.8 * row + ACROSS * 0.5 * column
        voxel = np.linalg.solve(affine, [-place[0], -place[1], place[2], 1])[:3]
        np.testing.assert_allclose(voxel[:2], [row, column], atol=1e-9)
        expected = 2 * item["pixels"][row, column] - 1024
        assert values[row, column, round(voxel[2])] == expected, index
    grid = read_grid(path)
    assert grid.shape == values.shape
    assert grid.affine is not None
    np.testing.assert_array_equal(grid.affine, affine)
    np.testing.assert_allclose(grid.spacing(), [0.8, 0.5, 2.5])
    assert grid.sides() in ("IPR", "IPL")


def test_it_is_the_volume_that_nibabel_would_turn_the_same_way(tmp_path: Path) -> None:
    pytest.importorskip("monai")
    from labelassemble.views.volume_options import VolumeOptions
    from labelassemble.views.volumes import load_case

    path = series(tmp_path / "a", slices())
    volume = load_case(path, VolumeOptions(patch=(8, 8, 8), window=(-1024.0, 1024.0)))
    assert volume.image.shape == (4, 6, 5)  # right, front, top
    stack = np.stack([item["pixels"] for item in slices()])  # to the right of the patient, down, to the back
    expected = np.clip(2 * stack.transpose(0, 2, 1)[:, ::-1, ::-1] / 2048, 0, 1)
    np.testing.assert_allclose(volume.image, expected, atol=1e-6)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"SeriesInstanceUID": "1.2.8"}, "the folder must hold one DICOM series, got 2"),
        (
            {"ImagePositionPatient": [-13.0, 20.0, 30.0]},
            r"are 3\.5 mm apart where others are 2\.5: a slice is missing",
        ),
        ({"ImagePositionPatient": [-9.5, 20.0, 30.0]}, "lie in the same place"),
        (
            {"PixelSpacing": [0.8, 0.6]},
            r"has another PixelSpacing than .*: \['0.8', '0.6'\] and \['0.8', '0.5'\]",
        ),
        ({"ImageOrientationPatient": [1, 0, 0, 0, 0, -1]}, "has another orientation than"),
        ({"pixels": np.zeros((5, 7))}, "has another shape than"),
        ({"PixelSpacing": None}, "does not say where it lies \\(no PixelSpacing\\)"),
    ],
)
def test_what_is_no_volume_is_one_sentence(tmp_path: Path, changed: dict[str, Any], message: str) -> None:
    items = slices()
    items[2] = {**items[2], **changed}
    if "ImagePositionPatient" in changed and changed["ImagePositionPatient"][0] == -13.0:
        items[3]["ImagePositionPatient"] = [-15.5, 20.0, 30.0]
    path = series(tmp_path / "a", items)
    for read in (read_volume, read_grid):
        with pytest.raises(ImageError, match=rf"^{path}: .*{message}"):
            read(path)


def test_a_slice_with_one_row_more_has_another_shape(tmp_path: Path) -> None:
    items = [{**item, "pixels": np.zeros((1200 + (index == 2), 3))} for index, item in enumerate(slices())]
    path = series(tmp_path / "a", items)
    for read in (read_volume, read_grid):
        with pytest.raises(
            ImageError, match=r"has another shape than .*: \['1201', '3'\] and \['1200', '3'\]"
        ):
            read(path)


def test_slices_without_an_extent_or_in_colour_are_one_sentence(tmp_path: Path) -> None:
    path = series(tmp_path / "flat", [{**item, "PixelSpacing": [0, 1]} for item in slices()])
    for read in (read_volume, read_grid):
        with pytest.raises(ImageError, match=rf"^{path}: the header gives the voxels no place"):
            read(path)
    items = slices()
    items[0] = {**items[0], "NumberOfFrames": 2}
    with pytest.raises(ImageError, match=rf"^{tmp_path}/frames/.*: a DICOM slice must have one frame"):
        read_volume(series(tmp_path / "frames", items))


def test_folders_without_a_file_are_not_the_same_case(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name / "inside").mkdir(parents=True)
    numbers, failed = content_fingerprints(text_array([f"{tmp_path}/a", f"{tmp_path}/b"]))
    assert numbers.tolist() == [0, 1]
    assert failed.all()


def test_a_folder_without_slices_or_with_a_damaged_one(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ImageError, match="the folder has no DICOM images"):
        read_volume(str(tmp_path / "empty"))
    path = series(tmp_path / "a", slices())
    file = next(Path(path).glob("*.dcm"))
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(ImageError, match=rf"^{path}: damaged or cut off"):
        read_volume(path)


def test_a_file_of_one_slice(tmp_path: Path) -> None:
    write(tmp_path / "one", **slices(1)[0])
    values, affine = read_volume(str(tmp_path / "one"))
    np.testing.assert_array_equal(values, 2 * slices(1)[0]["pixels"] - 1024)
    assert affine is not None
    assert read_grid(str(tmp_path / "one")).shape == (5, 6)
    np.testing.assert_allclose(np.linalg.norm(affine[:3, :2], axis=0), [0.8, 0.5])


def test_a_tilted_gantry_is_a_volume_and_a_slice_aside_is_none(tmp_path: Path) -> None:
    items = slices()
    for index, item in enumerate(items):
        item["ImagePositionPatient"] = [-7.0 - 2.5 * index, 20.0, 30.0 + 0.7 * index]
    affine = read_volume(series(tmp_path / "tilted", items)).affine
    assert affine is not None
    np.testing.assert_allclose(affine[:3, 2], [2.5, 0, 0.7], atol=1e-6)
    items[2]["ImagePositionPatient"][2] += 0.3
    with pytest.raises(
        ImageError, match=r"aside: the slice \d.dcm lies 0.3 mm aside of the line of the others"
    ):
        read_volume(series(tmp_path / "aside", items))


def test_slices_that_are_bright_where_values_are_low_are_inverted_without_units(tmp_path: Path) -> None:
    plain = read_volume(series(tmp_path / "plain", slices())).values
    inverted = [{**item, "PhotometricInterpretation": "MONOCHROME1"} for item in slices()]
    found = read_volume(series(tmp_path / "inverted", inverted)).values
    np.testing.assert_allclose(found, 2 * 65535 - 2 * 1024 - plain, rtol=1e-6)
    units = [{**item, "Modality": "CT"} for item in inverted]
    np.testing.assert_array_equal(read_volume(series(tmp_path / "units", units)).values, plain)
    with pytest.raises(ImageError, match=r"the slice \d.dcm is MONOCHROME1 and others are not"):
        read_volume(series(tmp_path / "both", [*inverted[:2], *slices()[2:]]))


@pytest.mark.parametrize("slope", ["0", "nan", "1e31"])
def test_a_rescale_that_is_none_is_one_sentence(tmp_path: Path, slope: str) -> None:
    items = slices()
    items[1]["RescaleSlope"] = slope
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        folder = series(tmp_path / "a", items)
    with pytest.raises(ImageError, match=r"grey values must be rescaled by finite numbers, the slope not 0"):
        read_volume(folder)


def test_bits_beyond_those_that_are_stored_are_no_values(tmp_path: Path) -> None:
    items = [{**item, "BitsStored": 8, "HighBit": 7} for item in slices()]
    items[1]["pixels"] = items[1]["pixels"] + 256
    with pytest.raises(ImageError, match="grey values must fit BitsStored = 8"):
        read_volume(series(tmp_path / "a", items))
    items = [{**item, "PhotometricInterpretation": "PALETTE COLOR"} for item in slices()]
    with pytest.raises(
        ImageError, match="a DICOM slice must be MONOCHROME1 or MONOCHROME2, got 'PALETTE COLOR'"
    ):
        read_volume(series(tmp_path / "b", items))
