"""What a user does with a trained run from the command line, on a run on slices with masks."""

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("monai")
pytest.importorskip("nibabel")

Cli = Callable[..., tuple[int, str, str]]


def rows(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text().splitlines()))


def test_a_run_is_evaluated_calibrated_at_a_site_and_monitored(
    detection_run: Path, evaluated: Path, cli: Cli
) -> None:
    run, site = evaluated, detection_run.parent / "site.yaml"
    status, out, err = cli("evaluate", run, "--prevalence", "disc=0.1")
    assert status == 0, err
    assert (
        "At thresholds for a specificity of at least 95%, chosen on the validation patients of the run" in out
    )
    assert "PPV and NPV of disc at a prevalence of 10%." in out
    own = rows(run / "operating_points.csv")
    assert [(row["class"], row["of"], row["patients"]) for row in own] == [
        ("disc", "all", "12"),
        ("bar", "all", "12"),
    ]
    assert own[0]["prevalence"] == "0.1"
    assert not (run / "decision_curve.csv").exists()
    page = (run / "report.html").read_text()
    assert "At the threshold in use" in page
    assert "patients of</th>" in page
    before = json.loads((run / "calibration.json").read_text())
    assert before["classes"]["disc"]["temperature"] == 1.0

    status, out, err = cli("evaluate", run, "--data", site, "--prevalence", "bar=0.2")
    assert status == 0, err
    assert "PPV and NPV of bar at a prevalence of 20%." in out
    assert (run / "evaluations" / "site" / "operating_points.csv").exists()

    status, out, err = cli(
        "calibrate", run, "--data", site, "--at", "sensitivity=0.8", "--prevalence", "disc=0.1"
    )
    assert status == 0, err
    assert "Thresholds were chosen on" in out
    assert "- disc: no correction (the score is no probability)" in out
    assert "chosen on the validation patients of “site”" in out
    assert "In use from now on" in out
    there = json.loads((run / "calibration.json").read_text())
    assert (there["data"], there["at"]) == ("site", "sensitivity=0.8")
    assert there["classes"]["disc"]["method"] == "none"
    chosen = [row for row in rows(run / "calibrations" / "site" / "predictions.csv") if row["split"] == "val"]
    assert there["images"] == len(chosen) > 4

    status, out, err = cli("evaluate", run)  # the site's thresholds stay in use
    assert status == 0, err
    assert "sensitivity of at least 80%, chosen on the validation patients of “site”" in out
    assert json.loads((run / "calibration.json").read_text()) == there

    status, out, err = cli("calibrate", run)
    assert status == 0, err
    assert "In use: thresholds (specificity=0.95) of the 12 validation patients of the run." in out
    back = json.loads((run / "calibration.json").read_text())
    for name, own in back["classes"].items():  # predictions.csv has nine digits
        for rule, threshold in before["classes"][name]["thresholds"].items():
            assert own["thresholds"][rule] == (threshold and pytest.approx(threshold, rel=1e-6))

    log = run.parent / "scores.csv"
    cases = sorted((detection_run.parent / "site").glob("*[0-9].png"))
    assert cli("predict", run, *cases, "-o", log)[0] == 0
    status, out, err = cli("monitor", run, "--predictions", log)
    assert status == 0, err
    assert "Statistics of the images were not compared: of volumes there are none." in out


def test_explain_says_where_the_map_comes_from(detection_run: Path, tmp_path: Path, cli: Cli) -> None:
    case = detection_run.parent / "own" / "0.png"
    status, _, err = cli("explain", detection_run, case, "-o", tmp_path / "heat")
    assert status == 2
    assert err.count("\n") == 1
    assert f"labelassemble predict {detection_run} {case} -o mask.nii.gz" in err


def test_predict_replaces_none_of_its_inputs(detection_run: Path, tmp_path: Path, cli: Cli) -> None:
    nibabel = pytest.importorskip("nibabel")
    for name in ("mask.nii.gz", "mask_probabilities.nii.gz"):
        scan = tmp_path / name
        nibabel.save(nibabel.Nifti1Image(np.zeros((16, 16), np.uint8), np.eye(4)), scan)
        before = scan.read_bytes()
        (tmp_path / "link.nii.gz").unlink(missing_ok=True)
        (tmp_path / "link.nii.gz").symlink_to(scan)
        for given in (scan, tmp_path / "link.nii.gz"):
            status, _, err = cli("predict", detection_run, given, "-o", tmp_path / "mask.nii.gz")
            assert status == 2
            assert "would replace what is read" in err
            assert scan.read_bytes() == before
        scan.unlink()
    shutil.copy(detection_run.parent / "own" / "0.png", tmp_path / "0.png")
    assert cli("predict", detection_run, tmp_path / "0.png", "-o", tmp_path / "0.png")[0] == 2
    table = detection_run.parent / "own.csv"
    before = table.read_bytes()
    status, _, err = cli("assemble", detection_run.parent / "own.yaml", "-o", table)
    assert (status, "would replace what is read" in err) == (2, True)
    assert table.read_bytes() == before
