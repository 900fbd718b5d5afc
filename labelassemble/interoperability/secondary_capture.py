"""A DICOM Secondary Capture of a picture that was made of an image, such as its heat maps."""

import logging
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from labelassemble._quiet import quiet
from labelassemble.errors import LabelAssembleError
from labelassemble.interoperability.source import UTF_8, SourceImage, highdicom
from labelassemble.interoperability.statement import RESEARCH_USE, ModelStatement, cut, equipment

SERIES_NUMBER: Final = 9902
_LONGEST_TEXT: Final = 1024  # of a Short Text
_SOURCE_IMAGE: Final = ("121322", "DCM", "Source image for image processing operation")


def secondary_capture(
    pixels: NDArray[np.uint8],  # [H, W, 3]
    source: SourceImage,
    model: ModelStatement,
    *,
    about: str,
    series: str,
    number: int,
) -> Any:
    """Return a pydicom Dataset, ready to be saved: a picture in colour that was made of an image.

    Patient, study and frame of reference are those of the image, which is named as the source.

    Args:
        pixels: of the picture.
        source: the image.
        model: that it shows something of.
        about: what it shows.
        series: the Series Instance UID of the captures.
        number: of the capture in the series, from 1 on.

    Raises:
        LabelAssembleError: highdicom is not installed, or the header cannot stand in a capture.
    """
    hd, header = highdicom(), source.header
    with quiet("highdicom", logging.CRITICAL):
        try:
            capture = hd.sc.SCImage.from_ref_dataset(
                header,
                pixels,
                photometric_interpretation="RGB",
                bits_allocated=8,
                coordinate_system="PATIENT",
                patient_orientation=("L", "F"),  # highdicom wants one, of its own kinds; the image's follows
                series_instance_uid=series,
                series_number=SERIES_NUMBER,
                sop_instance_uid=hd.UID(),
                instance_number=number,
                **equipment(model),
                content_qualification=hd.ContentQualificationValues.RESEARCH,
                transfer_syntax_uid="1.2.840.10008.1.2.1",
                specific_character_set=UTF_8,
            )
        except ValueError as error:
            raise LabelAssembleError(
                f"{source.path}: no capture can be made of its header ({error})"
            ) from None
    for keyword, value in _about_picture(hd, source, "\n".join((RESEARCH_USE, *model.lines, about))).items():
        setattr(capture, keyword, value)
    return capture


def _about_picture(hd: Any, source: SourceImage, description: str) -> dict[str, Any]:
    """Return what a capture says of its picture, by keyword."""
    reference = hd.sr.value_types.Dataset()
    for keyword in ("SOPClassUID", "SOPInstanceUID"):
        setattr(reference, f"Referenced{keyword}", source.header[keyword].value)
    reference.add_new("PurposeOfReferenceCodeSequence", "SQ", [hd.sr.CodedConcept(*_SOURCE_IMAGE)])
    found: dict[str, Any] = {
        # The picture has panels beside each other: they are turned like the image, if the image says how.
        "PatientOrientation": list(source.orientation) or None,
        "Laterality": source.laterality if source.laterality in ("R", "L") else None,
        "ConversionType": "WSD",  # workstation: nothing was digitised
        "SourceImageSequence": [reference],
        "DerivationDescription": cut(description, _LONGEST_TEXT),
    }
    if source.frame_of_reference:
        found |= {"FrameOfReferenceUID": source.frame_of_reference, "PositionReferenceIndicator": ""}
    if source.burned_in in ("YES", "NO"):
        found["BurnedInAnnotation"] = source.burned_in
    return found
