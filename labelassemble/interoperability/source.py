"""The header of the DICOM image that an output is about: what the standard's modules need of it, and no more."""

import logging
import os
import re
from dataclasses import dataclass
from importlib import import_module
from io import BytesIO
from types import ModuleType
from typing import Any, Final

import numpy as np

from labelassemble._quiet import quiet
from labelassemble.data.decoding import split_reference
from labelassemble.data.dicom import is_dicom
from labelassemble.data.dicom_headers import header_value
from labelassemble.data.dicom_series import series_headers
from labelassemble.data.images import read_image
from labelassemble.errors import LabelAssembleError

# PS3.3: Patient (C.7.1.1) and General Study (C.7.2.1), type 1 and 2; and the image itself, which is referenced.
_UIDS: Final = ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID")
_TEXTS: Final = (
    *("PatientID", "PatientName", "PatientBirthDate", "PatientSex"),
    *("StudyDate", "StudyTime", "StudyID", "AccessionNumber", "ReferringPhysicianName"),
)
_SEXES: Final = ("M", "F", "O")
_TIMES: Final = {"Date": ("DA", "%Y%m%d"), "Time": ("TM", "%H%M%S")}
_PLACE: Final = (
    *("FrameOfReferenceUID", "ImageOrientationPatient", "ImagePositionPatient", "PixelSpacing"),
    *("Rows", "Columns"),
)
UTF_8: Final = "ISO_IR 192"


@dataclass(frozen=True)
class SourceImage:
    """A DICOM image that is answered.

    Attributes:
        path: as it was given.
        header: a pydicom Dataset with the attributes above; those of patient and study are "" where the image has none.
        modality: such as "DX"; "" where the image does not say.
        frame_of_reference: its UID; "" where the image has none.
        laterality: "R", "L", "B" or "": the side of a paired part of the body.
        orientation: where its rows and columns run to, such as ("L", "F"); () where the image does not say.
        burned_in: "YES", "NO" or "": whether the pixels show who the patient is.
    """

    path: str
    header: Any
    modality: str
    frame_of_reference: str
    laterality: str
    orientation: tuple[str, ...]
    burned_in: str


class StudySeries:
    """A new series for each study, whose instances are counted: one series holds one study."""

    def __init__(self) -> None:
        self._of_study: dict[str, tuple[str, int]] = {}

    def next(self, header: Any) -> tuple[str, int]:
        """Return the UID of the series that an output of an image belongs to, and its number there, from 1 on."""
        study = header.StudyInstanceUID
        uid, number = self._of_study.get(study, (str(highdicom().UID()), 0))
        self._of_study[study] = (uid, number + 1)
        return uid, number + 1


def highdicom() -> ModuleType:
    """Return the package highdicom.

    Raises:
        LabelAssembleError: it is not installed.
    """
    try:
        return import_module("highdicom")
    except ImportError:
        raise LabelAssembleError(
            "DICOM reports and captures need highdicom: pip install 'labelassemble[dicom-sr]'"
        ) from None


def dicom_codes() -> Any:
    """Return the codes that DICOM PS3.16 lists, by scheme and name."""
    return import_module("pydicom.sr.codedict").codes


def read_source(path: str, option: str) -> SourceImage:
    """Return the header of a DICOM image.

    Args:
        path: a file, or `container::member`; the options of its source may stand behind it.
        option: of the command line that asks for it, as errors name it.

    Raises:
        ImageError: it cannot be read.
        LabelAssembleError: it is no DICOM, or has no UID by which an output could name it.
    """
    name, _ = split_reference(path)
    content = read_image(path)
    if not isinstance(content, bytes) or not is_dicom(BytesIO(content)):
        raise LabelAssembleError(
            f"{name}: {option} takes DICOM images, since what is not DICOM names no patient to report on"
        )
    try:
        pydicom = import_module("pydicom")
    except ImportError:
        raise LabelAssembleError("DICOM files need pydicom: pip install 'labelassemble[dicom]'") from None
    with quiet("pydicom", logging.CRITICAL):
        try:
            image = pydicom.dcmread(BytesIO(content), stop_before_pixels=True)
            return SourceImage(
                path=name,
                header=_reduced(image, name),
                modality=_text(image, "Modality"),
                frame_of_reference=_text(image, "FrameOfReferenceUID"),
                laterality=_text(image, "ImageLaterality") or _text(image, "Laterality"),
                orientation=tuple(filter(None, _text(image, "PatientOrientation").split("\\"))),
                burned_in=_text(image, "BurnedInAnnotation").upper(),
            )
        except LabelAssembleError:
            raise
        except Exception as error:  # pydicom answers damage with many types
            raise LabelAssembleError(f"{name}: the DICOM header cannot be read ({error})") from None


def _reduced(image: Any, name: str) -> Any:
    """Return what an output may have of a header, as a Dataset of its own."""
    said = {keyword: _text(image, keyword) for keyword in (*_UIDS, *_TEXTS)}
    missing = [keyword for keyword in _UIDS if not said[keyword]]
    if missing:
        raise LabelAssembleError(
            f"{name}: a DICOM image to report on must have {', '.join(_UIDS)}, got no {', '.join(missing)}"
        )
    several = [keyword for keyword, value in said.items() if "\\" in value]
    if several:
        raise LabelAssembleError(
            f"{name}: a DICOM image to report on must have one {several[0]}, got several (a backslash parts values)"
        )
    header = import_module("pydicom").Dataset()
    header.SpecificCharacterSet = UTF_8
    for keyword, value in said.items():
        setattr(header, keyword, value)
    return header


def read_series_source(path: str) -> list[Any]:
    """Return the headers of a series' slices in the order of the volume's last axis, with where each of them lies.

    Args:
        path: a folder of DICOM slices, or one DICOM image.

    Raises:
        ImageError: they make no volume.
        LabelAssembleError: they are no DICOM, or lack a UID or the frame of reference.
    """
    if not os.path.isdir(path):
        read_source(path, "--dicom-seg")
    with quiet("pydicom", logging.CRITICAL):
        headers = []
        for image in series_headers(path):
            header = _reduced(image, path)
            lacking = [keyword for keyword in _PLACE if not image.get(keyword)]
            if lacking:
                raise LabelAssembleError(
                    f"{path}: a DICOM segmentation needs slices with {', '.join(_PLACE)}, got no {', '.join(lacking)}"
                )
            for keyword in (*_PLACE, "SliceThickness", "Modality"):
                if image.get(keyword):
                    setattr(header, keyword, image[keyword].value)
            header.PositionReferenceIndicator = ""
            headers.append(header)
    _fill_thickness(headers)
    return headers


def _fill_thickness(headers: list[Any]) -> None:
    """Give slices that do not say how thick they are the distance between them; one by itself 1 mm, as its mask."""
    first, last = (np.array(header.ImagePositionPatient, float) for header in (headers[0], headers[-1]))
    distance = float(np.linalg.norm(last - first)) / (len(headers) - 1) if len(headers) > 1 else 1.0
    for header in headers:
        if not header.get("SliceThickness"):
            header.SliceThickness = f"{distance:.6g}"


def _text(image: Any, keyword: str) -> str:
    """Return an attribute as text, "" where there is none, or one that no output may have."""
    text = header_value(image, keyword).strip("\\ ")
    if keyword == "PatientSex":
        return text.upper() if text.upper() in _SEXES else ""
    if keyword == "PatientOrientation":
        return text if re.fullmatch(r"[APRLHF]+\\[APRLHF]+", text) else ""
    if keyword[-4:] not in _TIMES or not text:
        return text
    kind, form = _TIMES[keyword[-4:]]
    try:  # that of 1993, with points or colons, is read too
        return str(getattr(import_module("pydicom.valuerep"), kind)(text).strftime(form))
    except ValueError:
        return ""
