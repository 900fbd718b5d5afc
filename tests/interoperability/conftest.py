"""DICOM images to ask a run about."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from labelassemble._quiet import quiet


@pytest.fixture(scope="session")
def run(made_run: Path) -> Path:
    """The run that is asked."""
    return made_run


@pytest.fixture
def dicom(tmp_path: Path) -> Callable[..., Path]:
    """Write a radiograph that says much: ``dicom(name, keyword=value, ...)``; None leaves an attribute out."""
    pydicom = pytest.importorskip("pydicom")

    def write(name: str, **changes: Any) -> Path:
        data = pydicom.Dataset()
        data.SpecificCharacterSet = "ISO_IR 192"
        said = {
            "SOPClassUID": "1.2.840.10008.5.1.4.1.1.1.1",
            "SOPInstanceUID": "1.2.826.0.1.1",
            "SeriesInstanceUID": "1.2.826.0.1.2",
            "StudyInstanceUID": "1.2.826.0.1.3",
            "FrameOfReferenceUID": "1.2.826.0.1.4",
            "Modality": "DX",
            "PatientID": "P-17",
            "PatientName": "Yamada^Tarou=山田^太郎",
            "PatientBirthDate": "19500102",
            "PatientSex": "F",
            "PatientAge": "070Y",
            "PatientAddress": "1 Street",
            "PatientComments": "lives alone",
            "OtherPatientIDs": "insurance 9",
            "OperatorsName": "Operator^Olga",
            "InstitutionName": "Clinic",
            "StationName": "ROOM-1",
            "Manufacturer": "Maker",
            "DeviceSerialNumber": "SN-1",
            "StudyDate": "20200304",
            "StudyTime": "101112",
            "StudyID": "S1",
            "StudyDescription": "chest of Mr Y",
            "AccessionNumber": "A1",
            "ReferringPhysicianName": "Doctor^Dora",
            "BurnedInAnnotation": "NO",
            "PatientOrientation": ["L", "F"],
        } | changes
        with quiet("pydicom", logging.CRITICAL):  # of values that the standard has not
            for keyword, value in said.items():
                if value is not None:
                    setattr(data, keyword, value)
        pixels = np.random.default_rng(0).integers(0, 255, (20, 24), dtype=np.uint8)
        data.Rows, data.Columns = pixels.shape
        data.SamplesPerPixel, data.PhotometricInterpretation, data.PixelRepresentation = 1, "MONOCHROME2", 0
        data.BitsAllocated = data.BitsStored = 8
        data.HighBit = 7
        data.PixelData = pixels.tobytes()
        data.file_meta = pydicom.dataset.FileMetaDataset()
        data.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
        path = tmp_path / name
        with quiet("pydicom", logging.CRITICAL):
            data.save_as(path, enforce_file_format=True)
        return path

    return write
