"""What a user does with a trained run from the command line, on a run on slices with masks."""

import csv
import io
import json
import re
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
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
    assert "Statistics of the cases were not compared: of volumes there are none." in out


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


def spoken_of(text: str) -> list[str]:
    """Return the lines of a text, or of a page without its code, that speak of images, but for what is said of all."""
    text = re.sub(r"(?s)<(style|script|pre|svg)\b.*?</\1>|<[^>]+>", " ", text)
    general = ("Research on learning from images that", "Not for images of another kind", "applies to its images",
               "From left to right: the image, what is drawn")  # fmt: skip
    return [
        line
        for line in text.splitlines()
        if re.search(r"\bimages?\b", line) and not any(map(line.count, general))
    ]


def test_what_is_said_of_a_run_on_volumes_is_of_cases(detection_run: Path, evaluated: Path, cli: Cli) -> None:
    run, folder = evaluated, detection_run.parent
    log = run.parent / "scores.csv"
    cases = sorted((folder / "site").glob("*[0-9].png"))
    (run.parent / "west").mkdir()
    shutil.copy(folder / "own" / "1.png", run.parent / "west" / "again.png")  # what the run was tuned on
    shutil.copy(folder / "site" / "0.png", run.parent / "west" / "0.png")
    shutil.copy(folder / "site" / "0_mask.png", run.parent / "west")
    rows_of = [f"west/{name}.png,west/0_mask.png,w{name}\n" for name in ("again", "0")]
    (run.parent / "west.csv").write_text("image,mask,patient\n" + "".join(rows_of))
    west = (folder / "site.yaml").read_text().replace("site", "west")
    (run.parent / "west.yaml").write_text(west)
    other = run.parent / "other"
    shutil.copytree(run, other)
    assert cli("evaluate", other)[0] == 0
    said = ""
    for command in (
        ("assemble", folder / "own.yaml", "--check-images", "split.val=0"),
        ("evaluate", run),
        ("evaluate", run, "--data", run.parent / "west.yaml"),
        ("calibrate", run),
        ("predict", run, *cases, "-o", log),
        ("compare", run, other, "--output", run.parent / "compare.html"),
        ("monitor", run, "--predictions", log, "-o", run.parent / "monitor.html"),
    ):
        status, out, err = cli(*command)
        assert status == 0, (command, err)
        said += out + err
    assert "own     30" in said
    assert "tuned on 1 of the 2 cases (1 by a file of the same content)" in said
    assert "24 cases in the log" in said
    assert spoken_of(said) == []
    pages = [run.parent / "compare.html", run.parent / "monitor.html", run / "report.html"]
    for page in (*pages, run / "model_card.md"):
        assert spoken_of(page.read_text()) == []
    status, _, err = cli("evaluate", run, "--data", folder / "own.yaml", "--split", "train")
    assert (status, "trained or tuned on every case of the data" in err) == (2, True)


def test_lists_and_shards_of_cases_are_answered_part_by_part(
    detection_run: Path, tmp_path: Path, cli: Cli
) -> None:
    cases = sorted(detection_run.parent.glob("site/?.png"))
    damaged = tmp_path / "damaged.png"
    damaged.write_bytes(cases[0].read_bytes()[:40])
    pq.write_table(
        pa.table({"path": [str(path) for path in (*cases[:3], damaged)]}), tmp_path / "list.parquet"
    )
    with tarfile.open(tmp_path / "shard.tar", "w") as tar:
        for path in cases[3:5]:
            tar.add(path, path.name)
    folder = tmp_path / "answers"
    command = ("predict", detection_run, tmp_path / "list.parquet", tmp_path / "shard.tar", "-o", folder)
    status, out, err = cli(*command)
    assert status == 0, err
    assert "part-00000.parquet: 4 cases, 1 cannot be read" in out
    assert "0 parts answered, 2 were there, of 2 in all" in cli(*command)[1]
    table = pd.read_parquet(folder)
    assert list(table.columns) == ["path", "score:disc", "score:bar", "error"]
    status, out, err = cli("predict", detection_run, *cases[:5])
    assert status == 0, err
    alone = pd.read_csv(io.StringIO(out))
    read = table["error"].isna()
    np.testing.assert_allclose(table.loc[read].iloc[:, 1:3], alone.iloc[:, 1:], rtol=1e-6)
    assert table.loc[~read, "path"].tolist() == [str(damaged)]
    assert table.loc[~read].iloc[:, 1:3].isna().all(axis=None)
    status, _, err = cli(*command, "--uncalibrated")
    assert (status, "are for runs on images" in err) == (2, True)
