"""FHIR reports, checked by models made of FHIR's published schemas: R5, and R4B, whose elements here are R4's."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from labelassemble.interoperability import ClassAnswer, ModelStatement, SourceImage, diagnostic_report
from labelassemble.interoperability.fhir import Release
from labelassemble.interoperability.statement import RESEARCH_USE, SCHEME_UID

pydicom = pytest.importorskip("pydicom")
MODEL = ModelStatement("chest", "0.1.0", "0" * 64, "paper", "specificity=0.95", "some images")
ANSWERS = [
    ClassAnswer("Edema", 0.7, 0.5),
    ClassAnswer("No <Finding> &  more", 1e-12, float("inf")),
    ClassAnswer("Übergewicht", 0.5, None),
]


def source(patient: str = "P-17") -> SourceImage:
    header = pydicom.Dataset()
    header.PatientID, header.StudyInstanceUID, header.SOPInstanceUID = patient, "1.2.3", "1.2.3.4"
    header.PatientName = "Yamada^Tarou"
    return SourceImage("x.dcm", header, "DX", "", "", (), "")


@pytest.mark.parametrize(("release", "package"), [("R4", "fhir.resources.R4B"), ("R5", "fhir.resources")])
def test_a_report_is_valid_by_the_published_schema(release: Release, package: str) -> None:
    models = pytest.importorskip(f"{package}.diagnosticreport")
    values = json.loads(json.dumps(diagnostic_report(source(), ANSWERS, MODEL, release=release)))
    report = models.DiagnosticReport.model_validate(values)
    kinds = [contained.get_resource_type() for contained in report.contained]
    assert kinds == ["Device", "Observation", "Observation", "Observation"]
    wrong = diagnostic_report(source(), ANSWERS, MODEL, release="R5" if release == "R4" else "R4")
    with pytest.raises(ValueError, match=r"[Ss]tudy"):  # which the other release names otherwise
        models.DiagnosticReport.model_validate(wrong)


def test_a_report_says_what_was_answered_and_by_which_model() -> None:
    report = diagnostic_report(source(), ANSWERS, MODEL)
    device, first, second, third = report["contained"]
    assert report["result"] == [{"reference": f"#class-{number}"} for number in (1, 2, 3)]
    assert report["status"] == first["status"] == "preliminary"
    assert report["meta"]["security"][0]["code"] == "HRESCH"
    assert report["conclusion"] == RESEARCH_USE
    assert report["subject"] == first["subject"] == {"type": "Patient", "identifier": {"value": "P-17"}}
    assert report["imagingStudy"][0]["identifier"] == {"system": "urn:dicom:uid", "value": "urn:oid:1.2.3"}
    assert [one["text"] for one in device["note"]] == [RESEARCH_USE, *MODEL.lines]
    values = [one["valueQuantity"]["value"] for one in (first, second, third)]
    assert values == [0.7, 1e-12, 0.5]
    assert first["code"]["coding"] == [
        {"system": f"urn:oid:{SCHEME_UID}", "code": "Edema", "display": "Edema"},
    ]
    assert second["code"]["coding"][0]["code"] == "No <Finding> & more"  # a code has single spaces
    decisions = [
        one["interpretation"][0]["coding"][0]["code"] if "interpretation" in one else None
        for one in (first, second, third)
    ]
    assert decisions == ["reached", "below", None]
    assert first["component"][0]["valueQuantity"]["value"] == 0.5
    assert "component" not in second | third
    notes = [one["note"][0]["text"] for one in (first, second, third)]
    assert notes == [
        "threshold at specificity=0.95: 0.5",
        "threshold at specificity=0.95: none: nothing is called positive",
        "threshold at specificity=0.95: no threshold could be chosen",
    ]
    page = ElementTree.fromstring(report["text"]["div"])
    assert RESEARCH_USE in "".join(page.itertext())
    assert "Yamada" not in json.dumps(report)


def test_an_image_without_a_patient_has_no_subject() -> None:
    report = diagnostic_report(source(patient=""), ANSWERS, MODEL)
    assert "subject" not in report
    assert not any("subject" in contained for contained in report["contained"])


def test_a_report_from_the_command_line(
    run: Path, dicom: Callable[..., Path], cli: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    models: Any = pytest.importorskip("fhir.resources.diagnosticreport")
    image = dicom("x.dcm")
    status, out, err = cli("predict", run, image, "--fhir", tmp_path / "fhir", "--fhir-release", "R5")
    assert (status, out) == (0, ""), err
    text = (tmp_path / "fhir" / "x.json").read_text(encoding="utf-8")
    report = models.DiagnosticReport.model_validate_json(text)
    _, printed, _ = cli("predict", run, image)
    expected = [float(cell) for cell in printed.splitlines()[1].split(",")[1:]]
    found = [float(one.valueQuantity.value) for one in report.contained[1:]]
    assert found == pytest.approx(expected, rel=1e-8)
    assert report.subject.identifier.value == "P-17"
    assert not re.search("Tarou|1950|lives alone|Olga", text)
