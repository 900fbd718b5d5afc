"""A trained run on other data: classes by name, leaks found and named, the run's own files left alone."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from labelassemble.config import load_config
from labelassemble.data import Table
from labelassemble.errors import LabelAssembleError
from labelassemble.evaluation import calibrate, evaluate, read_calibration, read_predictions
from labelassemble.evaluation.external import prepare_external
from labelassemble.report.text import evaluation_text
from labelassemble.run import train_run


def table(classes, paths, *, splits="test", groups=None, labels=0):
    size = len(paths)
    return Table(
        classes=classes,
        paths=np.array(paths),
        names=np.array(paths),
        groups=np.array(groups if groups is not None else [f"g{p}" for p in paths]),
        splits=np.broadcast_to(np.array(splits), (size,)).copy(),
        sources=np.full(size, "there"),
        labels=np.full((size, len(classes)), labels, np.int8),
        origins=np.zeros((size, len(classes)), np.uint8),
    )


def write_images(folder, names):
    rng = np.random.default_rng(0)
    for name in names:
        Image.fromarray(rng.integers(0, 255, (8, 8), dtype=np.uint8)).save(folder / name)
    return [str(folder / name) for name in names]


def prepare(data, run, folder, **options):
    return prepare_external(data, run, classes=run.classes, name="there", folder=folder, **options)


def test_classes_go_by_name_and_in_the_order_of_the_run(tmp_path):
    paths = write_images(tmp_path, ["a.png", "b.png"])
    run = table(("x", "y", "z"), ["elsewhere.png"], splits="train")
    data = table(("w", "z", "x"), paths, splits="train")
    data.labels.base[:, 1] = 1  # the column of z
    found = prepare(data, run, tmp_path)
    assert found.table.classes == ("x", "z")
    assert found.table.labels.tolist() == [[0, 1], [0, 1]]
    assert set(found.table.splits) == {"test"}
    assert found.remarks == (
        "The run does not know these classes of the data, so they are left out: w.",
        "The data does not label these classes of the run, so they are left out: y.",
    )


def test_what_the_run_has_seen_is_left_out_and_named(tmp_path):
    names = [f"{c}.png" for c in "abcdef"]
    paths = write_images(tmp_path, names)
    (tmp_path / "copies").mkdir()
    copy = str(shutil.copy(paths[1], tmp_path / "copies" / "other-name.png"))
    tested = str(shutil.copy(paths[3], tmp_path / "copies" / "tested.png"))
    run = table(
        ("x",),
        [paths[0], copy, str(tmp_path / "gone.png"), tested],
        splits=["train", "val", "train", "test"],
        groups=["1", "2", "patient", "4"],
    )
    data = table(("x",), paths, groups=["a", "b", "patient", "d", "e", "f"])
    found = prepare(data, run, tmp_path)
    assert found.table.paths.tolist() == paths[3:]  # the copy of a test image is no leak
    assert found.remarks == (
        "The run was trained or tuned on 3 of the 6 images (1 by the same file, 1 by a file of the same content, "
        f"1 by an image of the same patient), so they are left out: {', '.join(paths[:3])}.",
    )


@pytest.mark.parametrize(
    ("learnt", "left"), [("nih:00000013", [1]), ("nih: 13", [1]), ("nih:13", [1]), ("nih:P13", [0, 1])]
)
def test_a_patient_written_another_way_is_the_same(tmp_path, learnt, left):
    paths = write_images(tmp_path, ["a.png", "b.png"])
    run = table(("x",), [str(tmp_path / "c.png")], splits="train", groups=[learnt])
    found = prepare(table(("x",), paths, groups=["nih:13", "nih:14"]), run, tmp_path)
    assert found.table.paths.tolist() == [paths[index] for index in left]


def test_zeros_that_tell_patients_apart_are_left(tmp_path):
    paths = write_images(tmp_path, ["a.png", "b.png"])
    elsewhere = [str(tmp_path / "c.png"), str(tmp_path / "d.png")]
    run = table(("x",), elsewhere, splits="train", groups=["nih:007", "nih:14"])
    found = prepare(table(("x",), paths, groups=["nih:7", "nih:007"]), run, tmp_path)
    assert found.table.paths.tolist() == paths[:1]


def test_a_path_written_another_way_is_the_same_file(tmp_path):
    paths = write_images(tmp_path, ["a.png", "b.png"])
    (tmp_path / "folder").mkdir()
    around = str(tmp_path / "folder" / ".." / "a.png")
    found = prepare(table(("x",), paths), table(("x",), [around], splits="train"), tmp_path)
    assert found.table.paths.tolist() == paths[1:]
    assert "1 by the same file" in found.remarks[0]


def test_mistakes_are_named(tmp_path):
    paths = write_images(tmp_path, ["a.png", "b.png"])
    run = table(("x", "y"), ["elsewhere.png"], splits="train")
    with pytest.raises(LabelAssembleError, match="no class in common: the data labels w, the run knows x, y"):
        prepare(table(("w",), paths), run, tmp_path)
    with pytest.raises(LabelAssembleError, match="the data has no image in its split 'val'"):
        prepare(table(("x",), paths), run, tmp_path, part="val")
    with pytest.raises(
        LabelAssembleError, match=r"on every image of the data, such as .*a\.png: nothing is left"
    ):
        prepare(table(("x",), paths), table(("x",), paths, splits="train"), tmp_path)


def write_clinic(folder: Path) -> Path:
    """Write a third place's images and configuration: another order of classes, one of them unknown to the run."""
    rng = np.random.default_rng(7)
    (folder / "clinic").mkdir()
    lines = ["path,split,ring,stripe,square"]
    for index in range(24):
        pixels = rng.integers(0, 60, (16, 16), dtype=np.uint8)
        if index % 2:
            pixels[:, 7:9] += 150
        Image.fromarray(pixels).save(folder / "clinic" / f"{index}.png")
        lines.append(f"clinic/{index}.png,{'train' if index < 8 else 'test'},0,{index % 2},0")
    lines.append("images/south-1.png,test,0,1,0")  # an image that the run was trained on
    (folder / "clinic.csv").write_text("\n".join(lines) + "\n")
    (folder / "clinic.yaml").write_text("sources:\n  - {name: clinic, reader: csv, path: clinic.csv}\n")
    return folder / "clinic.yaml"


def test_evaluate_on_other_data_from_the_command_line(small_sources, cli):
    run = small_sources / "out"
    train_run(load_config(small_sources / "run.yaml"), run, resume=False, console=Console(quiet=True))
    own = {path: path.read_bytes() for path in run.iterdir() if path.is_file()}
    calibration = read_calibration(run / "calibration.json")
    again = calibrate(read_predictions(run / "predictions.csv"))  # which has 9 digits of each probability
    assert calibration.of("square").thresholds == pytest.approx(again.of("square").thresholds, rel=1e-8)
    config = write_clinic(small_sources)

    status, out, err = cli("evaluate", run, "--data", config)
    assert (status, err) == (0, "")
    assert "out on other data" in out
    assert "left out: ring." in out
    assert re.search(r"trained or tuned on 1 of the 25 images .*images/south-1\.png", out)
    folder = run / "evaluations" / "clinic"
    assert {path.name for path in folder.iterdir()} == {
        "data.yaml", "predictions.csv", "report.html", "table.csv",
    }  # fmt: skip
    predictions = read_predictions(folder / "predictions.csv")
    assert predictions.classes == ("square", "stripe")
    assert len(predictions) == 24
    assert set(predictions.splits) == {"test"}
    assert (predictions.labels[:, 1] == [index % 2 for index in range(24)]).all()
    assert evaluation_text(evaluate(predictions, calibration=calibration)) in out
    page = re.sub(r"\s+", " ", (folder / "report.html").read_text(encoding="utf-8"))
    assert "The model of the run “out” on other data: “clinic”, 24 images from 1 source (clinic)" in page
    assert "images/south-1.png" in page
    assert {path: path.read_bytes() for path in own} == own

    # Again, its test split alone, and into another folder.
    other = small_sources / "elsewhere"
    status, out, _ = cli("evaluate", run, "--data", config, "--split", "test", "-o", other)
    assert status == 0
    assert len(read_predictions(other / "predictions.csv")) == 16
    assert cli("evaluate", run, "--data", config)[0] == 0  # the same evaluation may be done again

    for arguments, message in (
        (["--data", config, "-o", run], "is the folder of a run: choose another one"),
        (["--data", config, "-o", small_sources], "holds something else than an evaluation"),
        (["--data", config, "--split", "tets"], "--split must be all, train, val or test, got 'tets'"),
        (["--split", "test"], "go with --data CONFIG"),
        (["--data", small_sources / "none.yaml"], "no such configuration file"),
    ):
        status, _, err = cli("evaluate", run, *arguments)
        assert status == 2
        assert message in err
        assert len(err.splitlines()) == 1
    assert {path: path.read_bytes() for path in own} == own

    status, out, err = cli("predict", run, small_sources / "images/south-1.png", "--calibrated")
    assert status == 0
    assert "'square' is not scaled: 3 positive and 3 negative validation labels are too few" in err
    (run / "calibration.json").unlink()
    status, _, err = cli("predict", run, small_sources / "images/south-1.png", "--calibrated")
    assert status == 2
    assert "calibration.json does not exist: `labelassemble evaluate" in err
