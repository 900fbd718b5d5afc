"""A FHIR DiagnosticReport of one image, as JSON values for R4 (4.0.1) or R5 (5.0.0), an Observation for each class.

The observations and the device are contained in the report, which is one resource: what a server takes by one POST.
They are preliminary, and tagged as research. The patient is named by the identifier in the image alone. Classes are
coded by their own names in a scheme of our own: no code of SNOMED or LOINC is claimed for them.
"""

import math
from collections.abc import Sequence
from datetime import UTC, datetime
from html import escape
from typing import Any, Literal, TypeAlias

from labelassemble.interoperability.source import SourceImage
from labelassemble.interoperability.statement import (
    RESEARCH_USE,
    SCHEME_UID,
    THRESHOLD,
    ClassAnswer,
    ModelStatement,
)

Release: TypeAlias = Literal["R4", "R5"]

_SYSTEM = f"urn:oid:{SCHEME_UID}"
_RESEARCH = {
    "system": "http://terminology.hl7.org/CodeSystem/v3-ActReason",
    "code": "HRESCH",
    "display": "healthcare research",
}
_IMAGING = {
    "coding": [
        {
            "system": "http://terminology.hl7.org/CodeSystem/observation-category",
            "code": "imaging",
            "display": "Imaging",
        }
    ]
}


def diagnostic_report(
    source: SourceImage, answers: Sequence[ClassAnswer], model: ModelStatement, *, release: Release = "R4"
) -> dict[str, Any]:
    """Return what a model answers for an image, as the values of a JSON object.

    Args:
        source: the image.
        answers: of each class.
        model: that answers.
        release: of FHIR; a report names the study as `imagingStudy` in R4 and as `study` in R5.
    """
    patient = _patient(source)
    study = {
        "type": "ImagingStudy",
        "identifier": {"system": "urn:dicom:uid", "value": f"urn:oid:{source.header.StudyInstanceUID}"},
    }
    observations = [
        _observation(number, answer, source, model, patient, study)
        for number, answer in enumerate(answers, start=1)
    ]
    return {
        "resourceType": "DiagnosticReport",
        "meta": {"security": [_RESEARCH]},
        "text": {"status": "generated", "div": _narrative(answers, model)},
        "contained": [_device(model), *observations],
        "status": "preliminary",
        "category": [_IMAGING],
        "code": _code("image-classes", "Probabilities of classes of an image"),
        **patient,
        "issued": datetime.now(UTC).isoformat(timespec="seconds"),
        "result": [{"reference": f"#{observation['id']}"} for observation in observations],
        "imagingStudy" if release == "R4" else "study": [study],
        "conclusion": RESEARCH_USE,
    }


def _patient(source: SourceImage) -> dict[str, Any]:
    """Return the subject, nothing where the image names none."""
    number = source.header.PatientID
    return {"subject": {"type": "Patient", "identifier": {"value": number}}} if number else {}


def _device(model: ModelStatement) -> dict[str, Any]:
    return {
        "resourceType": "Device",
        "id": "model",
        "manufacturer": "labelassemble",
        "modelNumber": model.name,
        "version": [
            {"type": {"text": "labelassemble"}, "value": model.version},
            {"type": {"text": "checkpoint"}, "value": f"sha256:{model.checkpoint}"},
        ],
        "note": [{"text": text} for text in (RESEARCH_USE, *model.lines)],
    }


def _observation(
    number: int,
    answer: ClassAnswer,
    source: SourceImage,
    model: ModelStatement,
    patient: dict[str, Any],
    study: dict[str, Any],
) -> dict[str, Any]:
    found: dict[str, Any] = {
        "resourceType": "Observation",
        "id": f"class-{number}",
        "status": "preliminary",
        "category": [_IMAGING],
        "code": _code(answer.name, answer.name),
        **patient,
        "valueQuantity": _quantity(answer.probability),
        "method": {"text": f"labelassemble {model.version}: {model.name}"},
        "device": {"reference": "#model"},
        "derivedFrom": [study | {"display": f"image {source.header.SOPInstanceUID}"}],
        "note": [{"text": f"threshold at {model.rule}: {answer.threshold_text}"}],
    }
    if answer.decision is not None:
        found["interpretation"] = [_code(*answer.decision)]
    if answer.threshold is not None and math.isfinite(answer.threshold):
        found["component"] = [{"code": _code(*THRESHOLD), "valueQuantity": _quantity(answer.threshold)}]
    return found


def _code(value: str, meaning: str) -> dict[str, Any]:
    return {
        "coding": [{"system": _SYSTEM, "code": " ".join(value.split()), "display": meaning}],
        "text": meaning,
    }


def _quantity(value: float) -> dict[str, Any]:
    return {"value": value, "unit": "probability", "system": "http://unitsofmeasure.org", "code": "1"}


def _narrative(answers: Sequence[ClassAnswer], model: ModelStatement) -> str:
    """Return the report for a human reader, as XHTML."""
    rows = "".join(
        f"<tr><td>{escape(answer.name)}</td><td>{answer.probability:.3f}</td>"
        f"<td>{answer.threshold_text}</td></tr>"
        for answer in answers
    )
    return (
        f'<div xmlns="http://www.w3.org/1999/xhtml"><p>{RESEARCH_USE}</p>'
        f"<table><tr><th>class</th><th>probability</th><th>threshold</th></tr>{rows}</table>"
        f"<p>{escape('; '.join(model.lines))}</p></div>"
    )
