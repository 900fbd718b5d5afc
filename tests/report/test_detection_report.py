"""The page, the card, the files and the lines of a detection."""

import csv
from pathlib import Path

import numpy as np
import pytest

from labelassemble.data.table import Table
from labelassemble.detection_options import DetectionOptions
from labelassemble.evaluation.calibration import calibrate
from labelassemble.evaluation.detection import evaluate_detection, lesion_table, patients_of
from labelassemble.evaluation.detection_case import CaseRecord, ClassRecord, DetectionCase
from labelassemble.evaluation.lesions import lesions_of
from labelassemble.report.detection import DetectionResults, PlacedSlice, write_detection_report
from labelassemble.report.detection_files import (
    FIGURE_COLUMNS,
    LESION_COLUMNS,
    write_detection,
    write_lesions,
)
from labelassemble.report.detection_slices import SliceChoice
from labelassemble.report.detection_text import detection_text
from labelassemble.report.record import RunRecord

OPTIONS = DetectionOptions()
CLASSES = ("PDAC", "cyst")
SHAPE = (12, 10, 4)


def case(lesion: float, alarm: float, *, labels: tuple[int, int] = (1, -1)) -> DetectionCase:
    """Return a volume with a lesion of PDAC that has probability `lesion`, and one of `alarm` elsewhere."""
    probabilities, mask = np.full((2, *SHAPE), 0.1), np.zeros(SHAPE, np.uint8)
    if labels[0] == 1:
        mask[2:5, 2:5, 1:3] = 1
        probabilities[0, 2:5, 2:5, 1:3] = lesion
    probabilities[0, 9:11, 7:9, 3] = alarm
    return DetectionCase(probabilities, np.array(labels, np.int8), mask, {1: 0}, (2.0, 2.0, 5.0))


CASES = [case(0.9, 0.0), case(0.3, 0.8), case(0.0, 0.6, labels=(0, 0)), case(0.0, 0.1, labels=(0, 1))]


def record(one: DetectionCase) -> CaseRecord:
    """Return the record with Dice and surface given, without MONAI."""
    drawn = one.drawn(0)
    assert drawn is not None
    lesions = lesions_of(one.probabilities[0], drawn, OPTIONS)
    some = (0.5, 0.75) if drawn.any() else (None, None)
    score = one.probabilities.max(axis=(1, 2, 3))
    return CaseRecord(4, 4 * score, score, (ClassRecord(*some, lesions), None), 0.02)


@pytest.fixture(scope="module")
def found() -> tuple[Table, list[CaseRecord], DetectionResults]:
    """Return a table, its records and what is reached, thresholds by two validation patients without the class."""
    return made(1)


def made(repeats: int) -> tuple[Table, list[CaseRecord], DetectionResults]:
    """Return the same, where so many times two validation patients are without the class."""
    cases, validation = [*CASES] * (repeats + 1), 4 * repeats
    table = Table(
        classes=CLASSES,
        paths=[f"/scans/{row}.nii.gz" for row in range(len(cases))],
        names=[""] * len(cases),
        groups=[f"p{row}" for row in range(len(cases))],
        splits=["val"] * validation + ["test"] * 4,
        sources=["msd"] * len(cases),
        labels=np.stack([one.labels for one in cases]),
        origins=np.zeros((len(cases), 2), np.uint8),
    )
    records = [record(one) for one in cases]
    patients = patients_of(table, records, OPTIONS)
    calibration = calibrate(patients, correct=False)
    detection = evaluate_detection(table, records, OPTIONS, calibration=calibration, bootstrap=50)
    choice = SliceChoice(CLASSES, ["PDAC", "absent"], OPTIONS.threshold)
    for row, one in enumerate(cases[validation:], start=validation):
        choice.offer(row, one, records[row], one.probabilities[0] / 2)
    slices = tuple(
        PlacedSlice(
            item.name,
            item.kind,
            f"{item.row}.nii.gz",
            "msd",
            f"p{item.row}",
            item.score,
            0.25,
            item.voxels,
            item.index,
            item.image,
            item.truth,
            item.prediction,
        )
        for item in choice.shown()
    )
    return table, records, DetectionResults(patients, calibration, detection, None, slices)


def run_record(path: Path, table: Table) -> RunRecord:
    """Return the record of a run of volumes that only a page or a card is made of."""
    return RunRecord(
        path=path,
        classes=CLASSES,
        interest=("PDAC",),
        config={"model": {"backbone": "dynunet"}, "volumes": {"patch": [96, 96, 96], "window": [-100, 240]}},
        config_text="volumes: {}",
        environment=None,
        table=table,
        curves=None,
        trained=None,
    )


def test_slices_are_the_largest_found_and_missed_lesion_and_the_surest_false_alarm(
    found: tuple[Table, list[CaseRecord], DetectionResults],
) -> None:
    shown = [
        (item.name, item.kind, item.case, item.index, item.voxels, item.score) for item in found[2].slices
    ]
    assert shown == [
        ("PDAC", "found", "4.nii.gz", 1, 18, 0.9),
        ("PDAC", "missed", "5.nii.gz", 1, 18, 0.0),
        ("PDAC", "false alarm", "5.nii.gz", 3, 4, 0.8),
    ]
    assert all(item.truth.startswith("data:image/png;base64,") for item in found[2].slices)
    assert found[2].slices[0].image != found[2].slices[0].truth


def test_the_files_have_a_row_a_lesion_and_a_row_a_figure(
    found: tuple[Table, list[CaseRecord], DetectionResults], tmp_path: Path
) -> None:
    table, records, results = found
    assert results.detection is not None
    write_lesions(table, lesion_table(records), tmp_path)
    write_detection(results.detection, tmp_path)
    with open(tmp_path / "lesions.csv", encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == "test"]
    assert tuple(rows[0]) == LESION_COLUMNS
    assert [(row["patient"], row["kind"], row["score"], row["voxels"], row["ml"]) for row in rows] == [
        ("p4", "found", "0.9", "18", "0.36"),
        ("p5", "missed", "", "18", "0.36"),
        ("p5", "false alarm", "0.8", "4", "0.08"),
        ("p6", "false alarm", "0.6", "4", "0.08"),
    ]
    assert (rows[0]["case"], rows[0]["overlap"], rows[0]["centre"]) == ("/scans/4.nii.gz", "1", "3 3 1")
    with open(tmp_path / "detection.csv", encoding="utf-8", newline="") as file:
        figures = list(csv.DictReader(file))
    assert tuple(figures[0]) == FIGURE_COLUMNS
    value = {(row["class"], row["of"], row["figure"]): row["value"] for row in figures}
    assert value["PDAC", "lesions", "hit_rate"] == "0.5"
    assert value["PDAC", "lesions", "false_alarms_per_case"] == "0.5"
    assert value["PDAC", "voxels", "dice"] == "0.5"
    assert value["PDAC", "lesions", "repeated"] == "0"
    assert value["PDAC", "voxels", "surface_dice"] == "0.75"
    assert value["cyst", "lesions", "hit_rate"] == ""  # no voxel of it is known
    by_name = {(row["class"], row["figure"]): row for row in figures}
    point = by_name["PDAC", "sensitivity@0.95"]  # which so few validation patients cannot give
    assert (point["value"], point["lower"], point["trials"]) == ("", "", "")


def test_the_text_says_how_figures_are_made_and_what_to_be_cautious_about(
    found: tuple[Table, list[CaseRecord], DetectionResults],
) -> None:
    assert found[2].detection is not None
    text = detection_text(found[2].detection)
    assert text.startswith("test split: 4 cases of 4 patients from 1 source")
    assert "found where of a predicted and a drawn one their intersection over union is at least 0.1" in text
    assert "by the mean over all slices of the mean of a slice's highest 1% of voxels" in text
    assert "- PDAC at 95%: not given, 2 of 20 validation patients without it" in text
    assert "- PDAC: only 2 drawn lesions" in text
    assert "- cyst: no case is known voxel by voxel, so no lesion is counted" in text


def test_the_page_and_the_card_show_patients_lesions_and_slices(
    found: tuple[Table, list[CaseRecord], DetectionResults], tmp_path: Path
) -> None:
    table, _, results = found
    run = run_record(tmp_path, table)
    page = write_detection_report(run, results).read_text(encoding="utf-8")
    text = " ".join(page.split())
    assert (
        "Given one patient with <b>PDAC</b> and one without, the model scores the one with it higher 100%"
        in text
    )
    assert "not given<small>2 of 20 validation patients</small>" in text
    assert "It finds 1 of 2 lesions." in text
    assert "PDAC: FROC" in text
    assert "PDAC: sizes of lesions" in text
    assert '<i class="swatch bar-0"></i><span class="name">found</span>' in text
    assert text.count("data:image/png") == 9
    assert "5.nii.gz, slice 3, 4 voxels, msd" in text
    assert "Thresholds for sensitivity were chosen on the validation patients" in text
    card = (tmp_path / "model_card.md").read_text(encoding="utf-8")
    assert "patches of 96 x 96 x 96 voxels, the voxels of the files, window -100 to 240" in card
    assert "1 of 2 lesions found with 0.500 false alarms per case" in card
    empty = write_detection_report(run, DetectionResults()).read_text(encoding="utf-8")
    assert "has no predictions for test cases" in empty


def test_a_specificity_is_given_where_the_validation_patients_suffice(tmp_path: Path) -> None:
    table, _, results = made(10)
    assert results.detection is not None
    write_detection(results.detection, tmp_path)
    with (tmp_path / "detection.csv").open(newline="") as file:
        by_name = {(row["class"], row["figure"]): row for row in csv.DictReader(file)}
    point = by_name["PDAC", "sensitivity@0.95"]
    assert (point["successes"], point["trials"]) == ("2", "2")
    assert 0 < float(point["lower"]) < 1
    assert by_name["PDAC", "sensitivity@0.98"]["value"] == ""
    text = detection_text(results.detection)
    assert "- PDAC at 95%: 100% (34.2% to 100%), 2/2; specificity here 100%, 2/2" in text
    assert "- PDAC at 98%: not given, 20 of 50 validation patients without it" in text
    run = run_record(tmp_path, table)
    page = " ".join(write_detection_report(run, results).read_text(encoding="utf-8").split())
    assert "the model calls positive 2 of 2 patients with <b>PDAC</b> (100%) and 0 of 2 without it." in page


def test_a_page_is_written_where_validation_patients_suffice_for_a_low_specificity_alone(
    tmp_path: Path,
) -> None:
    table, _, results = made(5)
    assert results.detection is not None
    text = detection_text(results.detection)
    assert "- PDAC at 95%: not given, 10 of 20 validation patients without it" in text
    page = " ".join(
        write_detection_report(run_record(tmp_path, table), results).read_text(encoding="utf-8").split()
    )
    assert "Given one patient with <b>PDAC</b> and one without" in page
