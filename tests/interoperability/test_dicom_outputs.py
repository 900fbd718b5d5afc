"""DICOM outputs read by pydicom alone, without the library that wrote them."""

import csv
import io
import itertools
import re
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from labelassemble.errors import LabelAssembleError
from labelassemble.interoperability import (
    ClassAnswer,
    ModelStatement,
    read_source,
    secondary_capture,
    structured_report,
)
from labelassemble.interoperability.statement import RESEARCH_USE, SCHEME, SCHEME_UID, long_string
from labelassemble.training.checkpoint import checkpoint_sum
from labelassemble.version import __version__

pydicom = pytest.importorskip("pydicom")
pytest.importorskip("highdicom")

Cli = Callable[..., tuple[int, str, str]]
Dicom = Callable[..., Path]

MODEL = ModelStatement("m", "1", "0" * 64, "paper", "specificity=0.95", "some images")
IDENTIFIES = (
    *(
        "PatientAge",
        "PatientAddress",
        "PatientComments",
        "OtherPatientIDs",
        "OperatorsName",
        "InstitutionName",
    ),
    *("StationName", "StudyDescription"),
)
"""What the image says and no module of an output needs."""


def code(item: Any) -> tuple[str, str, str]:
    """Return value, scheme and meaning of a coded entry."""
    return (
        item.get("CodeValue") or item.get("LongCodeValue"),
        item.CodingSchemeDesignator,
        item.CodeMeaning,
    )


def walk(item: Any) -> Iterator[Any]:
    """Yield a content item and all below it."""
    yield item
    for child in item.get("ContentSequence", ()):
        yield from walk(child)


def named(item: Any, meaning: str) -> list[Any]:
    """Return the children of a content item with a name."""
    return [child for child in item.get("ContentSequence", ()) if name(child) == meaning]


def name(item: Any) -> str:
    found: str = item.ConceptNameCodeSequence[0].CodeMeaning if "ConceptNameCodeSequence" in item else ""
    return found


def predicted(cli: Cli, run: Path, image: Path) -> dict[str, float]:
    """Return what `labelassemble predict` prints of an image."""
    _, out, _ = cli("predict", run, image)
    [row] = csv.DictReader(io.StringIO(out))
    return {key.removeprefix("probability:"): float(value) for key, value in row.items() if key != "path"}


@pytest.mark.parametrize(
    ("given", "stored"),
    [
        ("Edema\\left \t lung", "Edema/left lung"),
        ("x" * 64, "x" * 64),
        ("x" * 65, "x" * 61 + "..."),
        (
            "é" * 70,
            "é" * 60 + "...",
        ),  # 61 and the dots are 125 bytes, and the space that makes them even is one more
        ("é" * 63 + "x", "é" * 60 + "..."),
        ("é" * 64, "é" * 64),
    ],
)
def test_texts_fit_into_one_long_string(given: str, stored: str) -> None:
    assert long_string(given) == stored


def test_hostile_names_are_single_values_that_fit(dicom: Dicom, tmp_path: Path) -> None:
    names = ["Edema \\ left", "é" * 70, "x" * 200, "日本 名前", "<&>"]
    model = ModelStatement("run\\of é" + "é" * 63, "1", "0" * 64, "paper", "specificity=0.95", "some images")
    read = read_source(str(dicom("x.dcm")), "--dicom-sr")
    answers = [ClassAnswer(name, 0.5, 0.5) for name in names]
    about = "é" * 1023
    made = {
        "report": structured_report(answers=answers, model=model, source=read, series="1.2", number=1),
        "capture": secondary_capture(
            np.zeros((4, 4, 3), np.uint8), read, model, about=about, series="1.2", number=1
        ),
    }
    for kind, written in made.items():
        written.save_as(tmp_path / kind, enforce_file_format=True)
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # pydicom warns of values that are too long
            found = pydicom.dcmread(tmp_path / kind)
            for element in found.iterall():
                if element.VR in ("LO", "SH", "ST"):
                    assert element.VM <= 1, (kind, element)


def test_the_report_says_what_predict_answers(run: Path, dicom: Dicom, cli: Cli, tmp_path: Path) -> None:
    image = dicom("x.dcm")
    status, out, err = cli("predict", run, image, "--dicom-sr", tmp_path / "sr")
    assert (status, out) == (0, ""), err
    assert err.strip() == f"labelassemble: {tmp_path / 'sr' / 'x.dcm'}"
    report = pydicom.dcmread(tmp_path / "sr" / "x.dcm")
    source = pydicom.dcmread(image)
    for keyword in (
        "PatientID",
        "PatientName",
        "PatientBirthDate",
        "PatientSex",
        "StudyInstanceUID",
        "StudyDate",
    ):
        assert report[keyword].value == source[keyword].value, keyword
    assert report.Modality == "SR"
    assert report.SOPClassUID == "1.2.840.10008.5.1.4.1.1.88.22"  # Enhanced SR
    assert (report.VerificationFlag, report.PreliminaryFlag) == ("UNVERIFIED", "PRELIMINARY")
    assert report.ContentQualification == "RESEARCH"
    assert "research use only" in report.SeriesDescription
    [scheme] = [
        one for one in report.CodingSchemeIdentificationSequence if one.CodingSchemeDesignator == SCHEME
    ]
    assert scheme.CodingSchemeUID == SCHEME_UID
    [study] = report.CurrentRequestedProcedureEvidenceSequence
    [evidence] = study.ReferencedSeriesSequence[0].ReferencedSOPSequence
    assert evidence.ReferencedSOPInstanceUID == source.SOPInstanceUID

    assert report.ContentTemplateSequence[0].TemplateIdentifier == "1500"
    comments = [item.TextValue for item in named(report, "Comment")]
    assert comments[0] == RESEARCH_USE
    checkpoint = checkpoint_sum(run / "checkpoints" / "best.pt")
    lines = {
        "model=chest",
        f"labelassemble={__version__}",
        f"checkpoint=sha256:{checkpoint}",
        "preset=recommended",
        "thresholds=specificity=0.95",
        "calibration and thresholds chosen on=the validation images of the run",
    }
    assert set(comments[1:]) == lines
    [procedure] = named(report, "Procedure reported")
    assert code(procedure.ConceptCodeSequence[0])[:2] == ("43468-8", "LN")  # XR unspecified body region
    frames = [item.UID for item in walk(report) if name(item) == "Frame of Reference UID"]
    assert frames == [source.FrameOfReferenceUID]

    expected = predicted(cli, run, image)
    groups = named(named(report, "Imaging Measurements")[0], "Measurement Group")
    found = {}
    for group in groups:
        [finding] = named(group, "Finding")
        [value] = named(group, "Probability")
        assert value.MeasuredValueSequence[0].MeasurementUnitsCodeSequence[0].CodeValue == "1"
        assert {item.TextValue for item in named(group, "Algorithm Parameters")} == lines
        decisions = [
            code(item.ConceptCodeSequence[0]) for item in group.ContentSequence if item.ValueType == "CODE"
        ]
        assert {scheme for _, scheme, _ in decisions} == {SCHEME}
        coded, scheme, meaning = code(finding.ConceptCodeSequence[0])
        assert coded == meaning
        thresholds = [
            float(item.MeasuredValueSequence[0].NumericValue)
            for item in named(group, "Threshold of the probability")
        ]
        found[meaning] = (
            value.MeasuredValueSequence[0].FloatingPointValue,
            thresholds,
            [value for value, _, _ in decisions if value in ("reached", "below")],
        )
    assert list(found) == list(expected)
    assert [value for value, _, _ in found.values()] == pytest.approx(list(expected.values()), rel=1e-8)
    assert [rest for _, *rest in found.values()] == [
        [[1e-9], ["reached"]],
        [[0.999999], ["below"]],
        [[], ["below"]],  # nothing is called positive
        [[], []],
    ]


def test_no_more_of_the_patient_is_copied_than_the_modules_need(
    run: Path, dicom: Dicom, cli: Cli, tmp_path: Path
) -> None:
    image = dicom("x.dcm")
    assert cli("predict", run, image, "--dicom-sr", tmp_path / "sr")[0] == 0
    assert cli("explain", run, image, "-o", tmp_path / "heat", "--dicom-sc")[0] == 0
    for file in (tmp_path / "sr" / "x.dcm", tmp_path / "heat" / "x.dcm"):
        data = pydicom.dcmread(file)
        assert not [keyword for keyword in IDENTIFIES if keyword in data]
        text = file.read_bytes()
        for words in (
            b"Olga",
            b"lives alone",
            b"insurance",
            b"Clinic",
            b"ROOM-1",
            b"Maker",
            b"SN-1",
            b"Mr Y",
        ):
            assert words not in text


def test_the_capture_shows_the_heat_maps_and_names_its_source(
    run: Path, dicom: Dicom, cli: Cli, tmp_path: Path
) -> None:
    image = dicom("x.dcm", PatientOrientation=["R", "F"], ImageLaterality="L")
    status, out, err = cli("explain", run, image, "--classes", "Edema", "-o", tmp_path / "heat", "--dicom-sc")
    assert status == 0, err
    assert out.splitlines()[:2] == [str(tmp_path / "heat" / "x.png"), str(tmp_path / "heat" / "x.dcm")]
    capture, source = pydicom.dcmread(tmp_path / "heat" / "x.dcm"), pydicom.dcmread(image)
    assert capture.SOPClassUID == "1.2.840.10008.5.1.4.1.1.7"
    for keyword in (
        "PatientID",
        "PatientName",
        "StudyInstanceUID",
        "FrameOfReferenceUID",
        "BurnedInAnnotation",
    ):
        assert capture[keyword].value == source[keyword].value, keyword
    assert list(capture.PatientOrientation) == ["R", "F"]
    assert capture.Laterality == "L"
    [reference] = capture.SourceImageSequence
    assert reference.ReferencedSOPInstanceUID == source.SOPInstanceUID
    assert list(capture.ImageType)[:2] == ["DERIVED", "SECONDARY"]
    assert capture.ContentQualification == "RESEARCH"
    many = ", ".join(["Edema"] * 400)
    read = read_source(str(image), "--dicom-sc")
    cut = secondary_capture(np.zeros((4, 4, 3), np.uint8), read, MODEL, about=many, series="1.2", number=1)
    assert "thresholds=specificity=0.95" in cut.DerivationDescription
    assert len(cut.DerivationDescription) == 1024
    for words in (
        RESEARCH_USE,
        "Grad-CAM heat maps of Edema",
        "preset=recommended",
        "thresholds=specificity=0.95",
    ):
        assert words in capture.DerivationDescription
    pixels = capture.pixel_array
    assert pixels.shape == (capture.Rows, capture.Columns, 3)
    assert np.ptp(pixels) == 255


def test_reports_of_a_study_are_a_series_and_files_of_one_name_stay_apart(
    run: Path, dicom: Dicom, cli: Cli, tmp_path: Path
) -> None:
    (tmp_path / "a").mkdir()
    images = [
        dicom("x.dcm"),
        dicom("a/x.dcm", SOPInstanceUID="1.2.826.0.1.9"),
        dicom("y.dcm", StudyInstanceUID="1.2.826.0.1.8"),
    ]
    status, out, err = cli("predict", run, *images, "--dicom-sr", tmp_path / "sr", "-o", tmp_path / "a.csv")
    assert (status, out) == (0, ""), err
    assert (tmp_path / "a.csv").read_text().count("\n") == 4
    reports = [pydicom.dcmread(tmp_path / "sr" / file) for file in ("x.dcm", "x-2.dcm", "y.dcm")]
    assert [report.InstanceNumber for report in reports] == [1, 2, 1]
    assert reports[0].SeriesInstanceUID == reports[1].SeriesInstanceUID != reports[2].SeriesInstanceUID
    assert len({report.SOPInstanceUID for report in reports}) == 3


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"PatientID": None, "PatientName": None, "PatientBirthDate": None, "PatientSex": None}, ("", "")),
        ({"PatientID": "", "PatientName": "Single"}, ("", "Single")),
        (
            {"PatientSex": "unknown", "PatientBirthDate": "spring", "StudyDate": "?"},
            ("P-17", "Yamada^Tarou=山田^太郎"),
        ),
        (
            {"StudyDate": "1997.04.24", "StudyTime": "10:11:12", "PatientOrientation": ["AFR", "PF"]},
            ("P-17", "Yamada^Tarou=山田^太郎"),
        ),
        ({"SpecificCharacterSet": "ISO_IR 100", "PatientName": "Müller^Jörg"}, ("P-17", "Müller^Jörg")),
        ({"FrameOfReferenceUID": None, "PatientOrientation": None, "Modality": None}, None),
    ],
)
def test_incomplete_headers_are_reported_on_as_they_are(
    dicom: Dicom, tmp_path: Path, changes: dict[str, Any], expected: tuple[str, str] | None
) -> None:
    source = read_source(str(dicom("x.dcm", **changes)), "--dicom-sr")
    answers, pixels = [ClassAnswer("Edema", 0.5, None)], np.zeros((4, 4, 3), np.uint8)
    for made in (
        structured_report(source, answers, MODEL, series="1.2.3", number=1),
        secondary_capture(pixels, source, MODEL, about="", series="1.2.4", number=1),
    ):
        made.save_as(tmp_path / "made.dcm")
        found = pydicom.dcmread(tmp_path / "made.dcm")
        if expected is None:
            assert not [item for item in walk(found) if name(item) == "Frame of Reference UID"]
            assert "FrameOfReferenceUID" not in found
            assert not found.get("PatientOrientation")
        else:
            assert (found.PatientID or "", str(found.PatientName or "")) == expected
        assert re.fullmatch(r"(\d{8})?", found.StudyDate or "")
        assert re.fullmatch(r"(\d{6})?", found.StudyTime or "")


@pytest.mark.parametrize("keyword", ["PatientID", "PatientName", "ReferringPhysicianName"])
def test_a_value_that_is_several_is_one_sentence(dicom: Dicom, keyword: str) -> None:
    path = dicom("x.dcm", **{keyword: "A\\B"})
    with pytest.raises(
        LabelAssembleError, match=rf"x\.dcm: .* must have one {keyword}, got several"
    ) as raised:
        read_source(str(path), "--dicom-sr")
    assert "A\\B" not in str(raised.value)  # a person's name


def test_mistakes_are_one_sentence(run: Path, dicom: Dicom, cli: Cli, tmp_path: Path) -> None:
    from PIL import Image

    png = tmp_path / "a.png"
    Image.new("L", (16, 16)).save(png)
    image = dicom("x.dcm")
    unnamed = dicom("z.dcm", StudyInstanceUID=None)
    sr = ("--dicom-sr", tmp_path / "sr")
    for words, sentence in (
        (
            ("predict", run, png, *sr),
            "a.png: --dicom-sr takes DICOM images, since what is not DICOM names no patient",
        ),
        (("predict", run, png, "--fhir", tmp_path / "f"), "a.png: --fhir takes DICOM images"),
        (("explain", run, png, "-o", tmp_path / "h", "--dicom-sc"), "a.png: --dicom-sc takes DICOM images"),
        (
            ("predict", run, unnamed, *sr),
            "must have SOPClassUID, SOPInstanceUID, SeriesInstanceUID, StudyInstanceUID, ",
        ),
        (("predict", run, tmp_path / "none.dcm", *sr), "none.dcm: cannot be opened"),
        (("predict", run, image, "--dicom-sr", tmp_path), "x.dcm would replace an image that is read"),
        (("explain", run, image, "-o", tmp_path, "--dicom-sc"), "x.dcm would replace an image that is read"),
        (("predict", run, image, *sr, "--uncalibrated"), "leave --uncalibrated out"),
        (
            ("predict", run, image, "--fhir", tmp_path / "f", "--fhir-release", "R3"),
            "must be R4 or R5, got 'R3'",
        ),
    ):
        status, out, err = cli(*words)
        assert (status, out) == (2, ""), words
        assert sentence in err
        assert len(err.splitlines()) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "x.dcm", "z.dcm"]


@pytest.mark.parametrize(
    ("command", "file"),
    [
        (("predict", "{run}", "{image}", "--dicom-sr", "{out}"), "x.dcm"),
        (("predict", "{run}", "{image}", "--fhir", "{out}"), "x.json"),
        (("explain", "{run}", "{image}", "-o", "{out}", "--dicom-sc"), "x.dcm"),
    ],
)
def test_a_file_of_another_patient_is_not_replaced_silently(
    run: Path, dicom: Dicom, cli: Cli, tmp_path: Path, command: tuple[str, ...], file: str
) -> None:
    (tmp_path / "other").mkdir()
    first, second = dicom("x.dcm"), dicom("other/x.dcm", PatientID="P-18")
    out = tmp_path / "out"

    def call(image: Path, *more: object) -> tuple[int, str, str]:
        return cli(*(word.format(run=run, image=image, out=out) for word in command), *more)

    assert call(first)[0] == 0
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    status, printed, err = call(second)
    assert (status, printed) == (2, "")
    assert err == (
        f"labelassemble: {out}/{file} is there already: add --overwrite, or choose another folder\n"
    )
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    status, printed, err = call(second, dicom("y.dcm"), "--overwrite")
    assert status == 0, err
    assert b"P-18" in (out / file).read_bytes()
    status, printed, err = call(second, dicom("y.dcm"))
    assert f"{out}/{file} and 1 more are there already: add --overwrite" in err


def test_without_highdicom_it_says_what_to_install(
    run: Path, dicom: Dicom, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "highdicom", None)
    for words in (
        ("predict", "--dicom-sr", tmp_path / "sr"),
        ("explain", "--dicom-sc", "-o", tmp_path / "heat"),
    ):
        status, _, err = cli(words[0], run, dicom("x.dcm"), *words[1:])
        assert status == 2
        assert "pip install 'labelassemble[dicom-sr]'" in err
    assert cli("predict", run, dicom("x.dcm"), "--fhir", tmp_path / "fhir")[0] == 0


def test_a_name_that_is_too_long_or_has_a_backslash_is_a_code_still() -> None:
    from labelassemble.interoperability.structured_report import concept

    long = "a" * 80
    item = concept((long, long))
    assert item.LongCodeValue == long
    assert item.CodeMeaning == "a" * 61 + "..."
    assert concept(("tab\there", "tab\there")).CodeValue == "tab here"
    assert concept((r"a\b", r"a\b")).CodeValue == "a/b"
    assert list(itertools.chain(code(concept(("x", "y"))))) == ["x", SCHEME, "y"]
