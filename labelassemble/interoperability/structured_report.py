"""A DICOM structured report of one image: TID 1500, "Measurement Report" (DICOM PS3.16), as an Enhanced SR.

Each class is a measurement group (TID 1501) about the image: the class as "Finding", the probability and its threshold
as numbers without a unit, and how they compare as a qualitative evaluation; the algorithm (TID 4019) names the model.
Classes are coded by their own names in a private scheme: no code of SNOMED or RadLex is claimed for them.
"""

import logging
import math
import uuid
from collections.abc import Sequence
from typing import Any

from labelassemble._quiet import quiet
from labelassemble.errors import LabelAssembleError
from labelassemble.interoperability.source import UTF_8, SourceImage, dicom_codes, highdicom
from labelassemble.interoperability.statement import (
    DECISION,
    RESEARCH_USE,
    SCHEME,
    SCHEME_NAME,
    SCHEME_UID,
    THRESHOLD,
    ClassAnswer,
    ModelStatement,
    equipment,
    long_string,
)

SERIES_NUMBER = 9901
_OBSERVERS = uuid.UUID("58e4a7c1-54c8-4b1b-8f5b-0c5c2f7c3b1d")
_LONGEST_CODE = 16

# What was done to the patient, by modality (CID 100); the header's own words for it are not taken over.
_PROCEDURES = {
    "CT": "CTUnspecifiedBodyRegion",
    "MR": "MRIUnspecifiedBodyRegion",
    "NM": "NMUnspecifiedBodyRegion",
}
_RADIOGRAPHS = ("CR", "DX", "DR", "RG", "XR", "MG", "XA", "RF")


def structured_report(
    source: SourceImage,
    answers: Sequence[ClassAnswer],
    model: ModelStatement,
    *,
    series: str,
    number: int,
) -> Any:
    """Return a pydicom Dataset, ready to be saved: the report of what a model answers for an image.

    It is preliminary and unverified. Patient and study are those of the image, which is the only evidence.

    Args:
        source: the image.
        answers: of each class, at least one.
        model: that answers.
        series: the Series Instance UID of the report.
        number: of the report in the series, from 1 on.

    Raises:
        LabelAssembleError: highdicom is not installed, or the header cannot stand in a report.
    """
    hd = highdicom()
    with quiet("highdicom", logging.CRITICAL):
        try:
            report = hd.sr.EnhancedSR(
                evidence=[source.header],
                content=_content(hd, source, answers, model)[0],
                series_instance_uid=series,
                series_number=SERIES_NUMBER,
                sop_instance_uid=hd.UID(),
                instance_number=number,
                **equipment(model),
                content_qualification=hd.ContentQualificationValues.RESEARCH,
                coding_schemes=[_scheme(hd)],
                is_complete=True,
                is_final=False,
                specific_character_set=UTF_8,
            )
        except ValueError as error:
            raise LabelAssembleError(
                f"{source.path}: no report can be made of its header ({error})"
            ) from None
    return report


def concept(code: tuple[str, str]) -> Any:
    """Return a code of our own, given as value and meaning, as a coded concept."""
    # A backslash would part two values, and tabs are no characters of a code.
    value = " ".join(code[0].replace("\\", "/").split())
    item = highdicom().sr.CodedConcept(value, SCHEME, long_string(code[1]))
    if len(value.encode()) > _LONGEST_CODE and "CodeValue" in item:  # some count bytes, not characters
        del item.CodeValue
        item.LongCodeValue = value
    return item


def _scheme(hd: Any) -> Any:
    item = hd.coding_schemes.CodingSchemeIdentificationItem(SCHEME, name=SCHEME_NAME)
    item.CodingSchemeUID = SCHEME_UID  # which highdicom takes of registered schemes alone
    return item


def _content(hd: Any, source: SourceImage, answers: Sequence[ClassAnswer], model: ModelStatement) -> Any:
    codes, sr = dicom_codes(), hd.sr
    device = sr.DeviceObserverIdentifyingAttributes(
        uid=hd.UID.from_uuid(str(_uuid_of(model))),
        name=f"labelassemble: {model.name}",
        manufacturer_name="labelassemble",
        model_name=model.name,
        serial_number=model.checkpoint,
    )
    procedure = _PROCEDURES.get(source.modality)
    if source.modality in _RADIOGRAPHS:
        procedure = "XRUnspecifiedBodyRegion"
    report = sr.MeasurementReport(
        observation_context=sr.ObservationContext(
            observer_device_context=sr.ObserverContext(codes.DCM.Device, device)
        ),
        procedure_reported=getattr(codes.LN, procedure)
        if procedure
        else concept(("image", "Image of any kind")),
        imaging_measurements=[_group(hd, source, answer, model) for answer in answers],
    )
    root = report[0].ContentSequence
    root.insert(-1, _image_library(hd, source))
    for text in (RESEARCH_USE, *model.lines):
        root.append(
            sr.TextContentItem(codes.DCM.Comment, text, relationship_type=sr.RelationshipTypeValues.CONTAINS)
        )
    return report


def _group(hd: Any, source: SourceImage, answer: ClassAnswer, model: ModelStatement) -> Any:
    codes, sr = dicom_codes(), hd.sr
    measurements = [sr.Measurement(codes.DCM.Probability, answer.probability, codes.UCUM.NoUnits)]
    evaluations = []
    if answer.threshold is not None and math.isfinite(answer.threshold):
        measurements.append(sr.Measurement(concept(THRESHOLD), answer.threshold, codes.UCUM.NoUnits))
    if answer.decision is not None:
        evaluations.append(sr.QualitativeEvaluation(concept(DECISION), concept(answer.decision)))
    return sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=sr.TrackingIdentifier(uid=hd.UID(), identifier=" ".join(answer.name.split())),
        finding_type=concept((answer.name, answer.name)),
        algorithm_id=sr.AlgorithmIdentification(
            name=f"labelassemble: {model.name}", version=model.version, parameters=model.lines
        ),
        measurements=measurements,
        qualitative_evaluations=evaluations,
        source_images=[
            sr.SourceImageForMeasurementGroup(source.header.SOPClassUID, source.header.SOPInstanceUID)
        ],
    )


def _image_library(hd: Any, source: SourceImage) -> Any:
    """Return the image with its frame of reference (TID 1600 and 1601).

    highdicom's own library asks radiographs for more than they need have, such as a pixel spacing.
    """
    codes, sr = dicom_codes(), hd.sr
    contains, context = sr.RelationshipTypeValues.CONTAINS, sr.RelationshipTypeValues.HAS_ACQ_CONTEXT
    group = sr.ContainerContentItem(codes.DCM.ImageLibraryGroup, relationship_type=contains)
    group.ContentSequence = sr.ContentSequence()
    if source.frame_of_reference:
        group.ContentSequence.append(
            sr.UIDRefContentItem(
                codes.DCM.FrameOfReferenceUID, source.frame_of_reference, relationship_type=context
            )
        )
    group.ContentSequence.append(
        sr.ImageContentItem(
            sr.CodedConcept("260753009", "SCT", "Source"),
            source.header.SOPClassUID,
            source.header.SOPInstanceUID,
            relationship_type=contains,
        )
    )
    library = sr.ContainerContentItem(codes.DCM.ImageLibrary, relationship_type=contains)
    library.ContentSequence = sr.ContentSequence([group])
    return library


def _uuid_of(model: ModelStatement) -> uuid.UUID:
    """Return a name of the model as an observer: the same for the same weights."""
    return uuid.uuid5(_OBSERVERS, model.checkpoint)
