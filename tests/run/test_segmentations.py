"""DICOM Segmentations read by pydicom alone: each frame lies on the slice that it was drawn on."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from labelassemble._quiet import quiet
from labelassemble.run.segment import Answer
from labelassemble.run.segmentations import Segmentations
from labelassemble.views.volume_options import VolumeOptions
from labelassemble.views.volumes import load_case

pydicom = pytest.importorskip("pydicom")
pytest.importorskip("highdicom")
pytest.importorskip("monai")

Cli = Callable[..., tuple[int, str, str]]
SLICES = 5


def write_slice(path: Path, pixels: NDArray[np.uint16], index: int, **changes: Any) -> None:
    """Write a slice of a sagittal series that begins on the left, 2.5 mm after the one before."""
    data = pydicom.Dataset()
    data.SpecificCharacterSet = "ISO_IR 192"
    said = {
        "SOPClassUID": "1.2.840.10008.5.1.4.1.1.4",
        "SOPInstanceUID": f"1.2.826.0.2.{index + 1}",
        "SeriesInstanceUID": "1.2.826.0.3",
        "StudyInstanceUID": "1.2.826.0.4",
        "FrameOfReferenceUID": "1.2.826.0.5",
        "Modality": "MR",
        "PatientID": "P-17",
        "PatientName": "Yamada^Tarou",
        "PatientComments": "lives alone",
        "Manufacturer": "Maker",
        "InstitutionName": "Clinic",
        "PixelSpacing": [0.8, 0.5],
        "ImageOrientationPatient": [0, 1, 0, 0, 0, -1],
        "ImagePositionPatient": [-7.0 - 2.5 * index, 20.0, 30.0],
        "Rows": pixels.shape[0],
        "Columns": pixels.shape[1],
    } | changes
    with quiet("pydicom", logging.CRITICAL):
        for keyword, value in said.items():
            if value is not None:
                setattr(data, keyword, value)
        data.SamplesPerPixel, data.PhotometricInterpretation, data.PixelRepresentation = 1, "MONOCHROME2", 0
        data.BitsAllocated = data.BitsStored = 16
        data.HighBit = 15
        data.PixelData = pixels.tobytes()
        data.file_meta = pydicom.dataset.FileMetaDataset()
        data.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
        data.save_as(path, enforce_file_format=True)


@pytest.fixture
def series(tmp_path: Path) -> Path:
    """A folder with a series whose values are 1000 where the disc is to be drawn, and 3000 for bar."""
    folder = tmp_path / "series"
    folder.mkdir()
    for index in range(SLICES):
        pixels = np.zeros((6, 7), np.uint16)
        if index in (1, 2):
            pixels[1 : 2 + index, 3:6] = 1000
        if index == 4:
            pixels[5, 0] = 3000
        write_slice(folder / f"{(index * 3 + 1) % SLICES}.dcm", pixels, index)
    return folder


def test_each_frame_lies_on_the_slice_that_it_was_drawn_on(
    detection_run: Path, series: Path, tmp_path: Path
) -> None:
    volume = load_case(str(series), VolumeOptions(patch=(8, 8, 8), window=(0.0, 4000.0)))
    assert volume.stored.shape == (6, 7, SLICES)
    likely = [(volume.image > low) & (volume.image < high) for low, high in ((0.2, 0.3), (0.7, 0.8))]
    answer = Answer(np.stack(likely).astype(np.float32) * np.float32(0.9), volume)
    file = Segmentations(detection_run, [series], tmp_path / "seg").write(str(series), answer)
    assert file == tmp_path / "seg" / "series.dcm"
    found = pydicom.dcmread(file)
    assert found.SOPClassUID == "1.2.840.10008.5.1.4.1.1.66.4"
    assert (found.PatientID, str(found.PatientName)) == ("P-17", "Yamada^Tarou")
    assert (found.StudyInstanceUID, found.FrameOfReferenceUID) == ("1.2.826.0.4", "1.2.826.0.5")
    assert found.ContentQualification == "RESEARCH"
    assert "research use only" in found.SeriesDescription
    content = file.read_bytes()
    assert not any(words in content for words in (b"lives alone", b"Maker", b"Clinic"))
    assert [segment.SegmentLabel for segment in found.SegmentSequence] == ["disc", "bar"]
    [algorithm] = found.SegmentSequence[0].SegmentationAlgorithmIdentificationSequence
    assert "at a probability of at least 0.5" in algorithm.AlgorithmParameters
    assert "model=run" in algorithm.AlgorithmParameters

    sources = {
        str(data.SOPInstanceUID): data for data in (pydicom.dcmread(path) for path in series.glob("*.dcm"))
    }
    frames = found.pixel_array
    drawn = {}
    for frame, about in zip(frames, found.PerFrameFunctionalGroupsSequence, strict=True):
        [derived] = about.DerivationImageSequence
        uid = str(derived.SourceImageSequence[0].ReferencedSOPInstanceUID)
        segment = int(about.SegmentIdentificationSequence[0].ReferencedSegmentNumber)
        place = about.PlanePositionSequence[0].ImagePositionPatient
        assert list(place) == list(sources[uid].ImagePositionPatient)
        drawn[uid, segment] = frame
    expected = {
        (uid, segment): data.pixel_array == value
        for uid, data in sources.items()
        for segment, value in ((1, 1000), (2, 3000))
        if (data.pixel_array == value).any()
    }
    assert drawn.keys() == expected.keys()
    for key, mask in expected.items():
        np.testing.assert_array_equal(drawn[key], mask)
    shared = found.SharedFunctionalGroupsSequence[0]
    assert list(shared.PlaneOrientationSequence[0].ImageOrientationPatient) == [0, 1, 0, 0, 0, -1]
    assert list(shared.PixelMeasuresSequence[0].PixelSpacing) == [0.8, 0.5]


def test_a_slice_from_the_command_line_and_mistakes(
    detection_run: Path, series: Path, made_run: Path, tmp_path: Path, cli: Cli
) -> None:
    image, nowhere = tmp_path / "a.dcm", tmp_path / "b.dcm"
    pixels = np.random.default_rng(0).integers(0, 255, (20, 24)).astype(np.uint16)
    write_slice(image, pixels, 0)
    write_slice(nowhere, pixels, 0, ImagePositionPatient=None)
    no_frame = tmp_path / "c.dcm"
    write_slice(no_frame, pixels, 0, FrameOfReferenceUID=None)
    status, out, err = cli("predict", detection_run, image, "--dicom-seg", tmp_path / "seg")
    assert status == 0, err
    assert out.startswith("path,score:disc,score:bar")
    assert f"labelassemble: {tmp_path / 'seg' / 'a.dcm'}" in err
    assert pydicom.dcmread(tmp_path / "seg" / "a.dcm").Rows == 20
    before = (tmp_path / "seg" / "a.dcm").read_bytes()
    status, _, err = cli("predict", detection_run, image, "--dicom-seg", tmp_path / "seg")
    assert status == 2
    assert "seg/a.dcm is there already: add --overwrite, or choose another folder" in err
    assert (tmp_path / "seg" / "a.dcm").read_bytes() == before
    status, _, err = cli("predict", detection_run, image, "--dicom-seg", tmp_path / "seg", "--overwrite")
    assert status == 0, err
    assert (tmp_path / "seg" / "a.dcm").read_bytes() != before  # whose UIDs are others
    (tmp_path / "x.png").write_bytes(b"")
    for words, sentence in (
        ((detection_run, nowhere), "b.dcm: the DICOM image does not say where it lies"),
        ((detection_run, no_frame), "c.dcm: a DICOM segmentation needs slices with FrameOfReferenceUID, "),
        ((detection_run, tmp_path / "x.png"), "x.png: --dicom-seg takes DICOM images"),
        ((made_run, image), "--dicom-seg is for runs on volumes"),
    ):
        status, _, err = cli("predict", *words, "--dicom-seg", tmp_path / "seg")
        assert status == 2
        assert sentence in err
    for words, sentence in (
        ((series, "--dicom-seg", series), "is a series that is read: choose another folder"),
        ((image, "--dicom-seg", tmp_path), "a.dcm would replace an image that is read"),
        ((image, "--dicom-sr", tmp_path), "is for runs on images"),
    ):
        status, _, err = cli("predict", detection_run, *words)
        assert status == 2
        assert sentence in err
