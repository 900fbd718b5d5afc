"""Answers in the formats of hospitals, marked as research use: DICOM structured reports and captures, FHIR reports."""

from labelassemble.interoperability.fhir import diagnostic_report
from labelassemble.interoperability.secondary_capture import secondary_capture
from labelassemble.interoperability.source import SourceImage, read_source
from labelassemble.interoperability.statement import ClassAnswer, ModelStatement
from labelassemble.interoperability.structured_report import structured_report

__all__ = [
    "ClassAnswer",
    "ModelStatement",
    "SourceImage",
    "diagnostic_report",
    "read_source",
    "secondary_capture",
    "structured_report",
]
