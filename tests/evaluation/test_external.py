"""A trained run on other data: classes by name, leaks found and named, the run's own files left alone."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from rich.console import Console

from labelassemble.config import load_config
from labelassemble.data import Table
from labelassemble.data.images import decode_image
from labelassemble.errors import LabelAssembleError
from labelassemble.evaluation import (
    OperatingRule,
    calibrate,
    evaluate,
    read_calibration,
    read_predictions,
    scaled,
)
from labelassemble.evaluation.external import prepare_external
from labelassemble.evaluation.leakage import read_leakage
from labelassemble.export import load_metadata
from labelassemble.report.text import evaluation_text
from labelassemble.run import export_run, load_trained, train_run
from labelassemble.run.monitor import read_log


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


def test_changed_copies_are_found_by_their_looks(tmp_path):
    rng = np.random.default_rng(0)
    pictures = [
        Image.fromarray(rng.integers(0, 255, (6, 6), dtype=np.uint8)).resize((96, 96)) for _ in range(4)
    ]
    for number, picture in enumerate(pictures):
        picture.save(tmp_path / f"{number}.png")
    changed = pictures[0].copy()
    changed.putpixel((5, 5), 255 - changed.getpixel((5, 5)))
    changed.save(tmp_path / "one-pixel.png")
    pictures[1].save(tmp_path / "saved-anew.jpg", quality=85)
    pictures[2].resize((64, 64)).save(tmp_path / "smaller.png")
    paths = [str(tmp_path / name) for name in ("one-pixel.png", "saved-anew.jpg", "smaller.png", "3.png")]
    splits = ["train", "val", "test"]
    run = table(("x",), [str(tmp_path / f"{number}.png") for number in range(3)], splits=splits)
    data = table(("x",), paths)
    assert prepare(data, run, tmp_path).table.paths.tolist() == paths
    found = prepare(data, run, tmp_path, duplicates="looks")
    assert found.table.paths.tolist() == paths[2:]  # the copy of a test image is no leak
    assert "(2 by an image that looks the same)" in found.remarks[0]


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


def check_answers_are_calibrated_alike(run, image, config, cli):
    """One calibration.json is in every command and in the exported model, unless it is that of other weights."""
    raw = [float(cell) for cell in cli("predict", run, image)[1].splitlines()[1].split(",")[1:]]
    document = json.loads((run / "calibration.json").read_text())
    assert "too few" in document["classes"]["square"]["reason"]
    document["classes"]["square"] |= {"method": "platt", "temperature": 2.0, "offset": -1.5}
    (run / "calibration.json").write_text(json.dumps(document))
    expected = [scaled(raw[0], 2.0, -1.5).item(), raw[1]]
    assert abs(expected[0] - raw[0]) > 0.05
    _, text, err = cli("predict", run, image)
    assert err == ""
    assert [float(cell) for cell in text.splitlines()[1].split(",")[1:]] == pytest.approx(expected, abs=1e-8)
    _, text, _ = cli("predict", run, image, "--uncalibrated")
    assert [float(cell) for cell in text.splitlines()[1].split(",")[1:]] == raw

    summary = export_run(run)
    assert summary.metadata.offsets == {"square": -1.5, "stripe": 0.0}
    model = torch.jit.load(run / "model.pt")
    pixels = torch.from_numpy(decode_image(str(image)))[None]
    assert model(pixels)[0].tolist() == pytest.approx(expected, abs=1e-6)

    assert cli("evaluate", run, "--data", config)[0] == 0
    folder = run / "evaluations" / "clinic"
    assert read_leakage(folder) is None
    assert (run / "leakage.json").exists()
    table = pd.read_csv(folder / "predictions.csv")
    assert "uncalibrated:stripe" not in table
    again = scaled(table["uncalibrated:square"].to_numpy(), 2.0, -1.5)
    assert table["probability:square"].to_numpy() == pytest.approx(again, abs=1e-7)
    read = read_predictions(folder / "predictions.csv")
    assert read.probabilities[:, 0] == pytest.approx(table["uncalibrated:square"], abs=1e-9)

    document["checkpoint"] = "0" * 64
    (run / "calibration.json").write_text(json.dumps(document))
    for command in (["predict", run, image], ["export", run], ["evaluate", run, "--data", config]):
        status, _, err = cli(*command)
        assert status == 2
        assert "calibration.json: belongs to other weights than" in err
    (run / "calibration.json").write_text('{"format": 1}')
    assert "written by another version of labelassemble" in cli("predict", run, image)[2]
    (run / "calibration.json").unlink()  # chosen anew from predictions.csv
    _, text, _ = cli("predict", run, image)
    assert [float(cell) for cell in text.splitlines()[1].split(",")[1:]] == raw


def check_an_export_without_a_threshold_says_so(run, caplog):
    document = json.loads((run / "calibration.json").read_text())
    at = document["at"]
    del document["classes"]["square"]["thresholds"][at]  # those of other rules are still there
    assert document["classes"]["square"]["thresholds"]
    (run / "calibration.json").write_text(json.dumps(document))
    caplog.clear()
    thresholds = export_run(run).metadata.thresholds
    assert thresholds is not None
    assert thresholds["square"] is None
    assert thresholds["stripe"] is not None
    assert f"the export has no threshold for 'square', since none could be chosen for {at}" in caplog.text


def check_the_data_says_how_many_may_be_unreadable(run, config, cli):
    """One of 24 images is more than 1%: an error that names the option, which the data's configuration then raises."""
    (config.parent / "clinic" / "3.png").write_bytes(b"no image")
    status, _, err = cli("evaluate", run, "--data", config)
    assert status == 2
    assert "more than views.bad_files_limit = 0.01 allows" in err
    status, out, _ = cli("evaluate", run, "--data", config, "views.bad_files_limit=0.5")
    assert status == 0
    assert "1 of 24 test images could not be read" in out


def check_a_site_chooses_its_own(run, config, cli):
    """`labelassemble calibrate` chooses on some patients, measures on the others, and is in use in every command."""
    rule = "sensitivity=0.9"
    status, out, err = cli("calibrate", run, "--data", config, "--at", rule, "--prevalence", "stripe=0.02")
    assert (status, err) == (0, "")
    folder = run / "calibrations" / "clinic"
    assert {path.name for path in folder.iterdir()} == {
        "calibration.json", "data.yaml", "decision_curve.csv", "leakage.json", "operating_points.csv",
        "predictions.csv", "report.html", "table.csv",
    }  # fmt: skip
    site = read_calibration(run / "calibration.json")
    assert (folder / "calibration.json").read_bytes() == (run / "calibration.json").read_bytes()
    assert (site.data, site.at) == ("clinic", rule)
    assert f"At thresholds for a sensitivity of at least 90%, chosen on {site.chosen_on}:" in out
    assert "PPV and NPV of stripe at a prevalence of 2%." in out
    assert f"Written anew: {run / 'model.pt'}" in out
    predictions = read_predictions(folder / "predictions.csv")
    chosen, rest = (predictions.subset_by_split(split) for split in ("val", "test"))
    assert len(chosen) + len(rest) == 24
    assert not set(chosen.groups) & set(rest.groups)
    assert site.of("stripe").positives == (chosen.labels[:, 1] == 1).sum()
    # Nobody at the site has a square, so that no sensitivity can be kept there: that of the run stays.
    own = calibrate(read_predictions(run / "predictions.csv"), OperatingRule.parse(rule)).of("square")
    kept = f"“clinic” has no positive label among its {len(chosen)} to choose by"
    assert site.of("square") == own.model_copy(update={"kept": kept})
    assert (
        f"square: correction and threshold are those of the run's own validation images, since {kept}" in out
    )
    [row] = (folder / "operating_points.csv").read_text().splitlines()[1:2]
    assert row.startswith("square,all,,")
    threshold = site.of("stripe").threshold(rule)
    assert load_metadata(run / "model.pt").thresholds == {
        "square": site.of("square").threshold(rule), "stripe": threshold
    }  # fmt: skip
    # Evaluated anew, the run keeps its site's calibration until it is sent back.
    assert cli("evaluate", run)[0] == 0
    assert read_calibration(run / "calibration.json") == site
    assert "chosen on the validation images of “clinic”" in (run / "report.html").read_text(encoding="utf-8")
    assert cli("calibrate", run)[0] == 0
    assert read_calibration(run / "calibration.json").data == ""
    # The data's own split decides where it is asked for; it has no "val".
    for arguments, message in (
        (["--data", config, "--own-split"], "got 0 of 24 of the data's own split 'val'"),
        (["--data", config, "--at", "0.95"], "must be specificity=X or sensitivity=X"),
        (
            ["--data", config, "--prevalence", "stripes=0.1"],
            "unknown class 'stripes', did you mean 'stripe'?",
        ),
        (
            ["--data", config, "--prevalence", "stripe=0.1", "--prevalence", "stripe=0.2"],
            "--prevalence gives 'stripe' twice",
        ),
        (["--data", config, "--prevalence", "stripe"], "--prevalence must be CLASS=SHARE, such as"),
        (["--data", config, "--share", "1"], "the share of patients must lie between 0 and 1, got 1"),
        (["--own-split"], "go with --data CONFIG"),
        (["--share", "0.3"], "go with --data CONFIG"),
        (["--seed", "1"], "go with --data CONFIG"),
    ):
        status, _, err = cli("calibrate", run, *arguments)
        assert (status, len(err.splitlines())) == (2, 1)
        assert message in err


def check_what_is_answered_is_compared(run, images, cli):
    """`labelassemble monitor` takes what predict wrote, and lines of JSON."""
    log = run / "log.csv"
    assert cli("predict", run, *images, "-o", log)[0] == 0
    status, out, err = cli("monitor", run, "--predictions", log)
    assert (status, err) == (0, "")
    assert "Too few to say" in out
    assert "24 images in the log against" in out
    for quantity in ("score of square", "score of stripe", "brightness", "contrast"):
        assert quantity in out
    assert "Too few to say" in (run / "monitor" / "log.html").read_text(encoding="utf-8")

    served = run / "scores.jsonl"
    lines = [
        {
            "model": "m",
            "version": "1",
            "brightness": 0.2 + i / 1000,
            "contrast": 0.1,
            "scores": {"stripe": i / 100},
        }
        for i in range(80)
    ]
    lines += [{"model": "m", "version": "1", "unreadable": True}] * 20
    served.write_text("".join(json.dumps(line) + "\n" for line in lines))
    now, _ = read_log(served, load_trained(str(run)).views)
    assert (now.images, now.unreadable, len(now.scores["stripe"])) == (80, 20, 80)
    assert now.inputs["brightness"][79] == pytest.approx(0.279)
    status, out, _ = cli("monitor", run, "--predictions", served)
    assert status == 0
    assert "unreadable files" in out
    assert "Not compared, since the log has no scores of them: square." in out
    served.write_text(
        '\ufeff{"scores": {"stripe": 0.5}, "unreadable": false}\n\n{"scores": {"str{"scores": {"stripe": 0.1}}\n'
        '{"scores": {"stripe": 1}}\n{"unreadable": true}\n{"sco'
    )
    now, remarks = read_log(served, load_trained(run).views)
    assert (now.images, now.unreadable, now.scores["stripe"].tolist()) == (2, 1, [0.5, 1.0])
    assert remarks == ("Left out, since they are not valid JSON: 2 of the log's lines (first: line 3).",)
    served.write_text("path,probability:stripe\na.png,0.5\nb.png,\n")
    now, _ = read_log(served, load_trained(run).views)
    assert (now.images, now.unreadable) == (1, 1)
    served.write_text("path,probability:stripe\na.png,0.5\nb.png,\na.png,0.5\n")
    now, remarks = read_log(served, load_trained(run).views)
    assert (now.images, now.unreadable) == (1, 1)
    assert remarks == ("Left out, since another row of the log has their path: 1 of its rows.",)
    for text, message in (
        (
            '{"brightness": 200, "scores": {"stripe": 1}}\n',
            "line 1: brightness must be a number between 0 and 1",
        ),
        ('{"status": 200}\n', "line 1: each line must be an object with scores"),
        ('{"scores": ', "line 1: not valid JSON"),
        ("a,b\n1,2\n", "a log must have columns probability:CLASS"),
        ("", "no CSV"),
        ('{"scores": [0.1]}\n', "line 1: scores must be an object"),
        ('{"scores": null}\n', "line 1: scores must be an object"),
        (
            '{"scores": {"stripe": NaN}}\n',
            "line 1: the score of 'stripe' must be a number between 0 and 1, got NaN",
        ),
        ('{"scores": {"stripe": null}}\n', "got null"),
        ('{"scores": {"stripe": 1.5}}\n', "got 1.5"),
        ("path,probability:stripe\na.png,0.5\nb.png,nan\n", "row 2: probability:stripe must be a number"),
        ("probability:square,probability:stripe\n0.5,\n", "row 1: probability:stripe must be a number"),
        ("probability:square,probability:stripe\n0.5,-1\n", "got '-1'"),
    ):
        served.write_text(text)
        status, _, err = cli("monitor", run, "--predictions", served)
        assert (status, len(err.splitlines())) == (2, 1)
        assert message in err


def test_evaluate_on_other_data_from_the_command_line(small_sources, cli, caplog):
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
        "data.yaml", "decision_curve.csv", "leakage.json", "operating_points.csv", "predictions.csv", "report.html",
        "table.csv",
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

    check_answers_are_calibrated_alike(run, small_sources / "images/south-1.png", config, cli)
    check_a_site_chooses_its_own(run, config, cli)
    check_what_is_answered_is_compared(run, sorted((small_sources / "clinic").glob("*.png")), cli)
    check_an_export_without_a_threshold_says_so(run, caplog)
    check_the_data_says_how_many_may_be_unreadable(run, config, cli)


@pytest.mark.parametrize(
    ("register", "split", "told"),
    [("other", "train", True), ("other", "test", False), ("city", "train", False)],
)
def test_ids_of_the_data_that_coincide_with_those_of_training_are_a_remark(tmp_path, register, split, told):
    paths = write_images(tmp_path, ["a.png", "b.png", "c.png"])
    numbers = np.random.default_rng(0).choice(10**8, 60, replace=False).tolist()
    known = [f"{register}:{number}" for number in numbers]
    run = table(("x",), [f"{number}.png" for number in numbers], splits=split, groups=known)
    data = table(("x",), paths, groups=["city:1", *(f"city:{number}" for number in numbers[:2])])
    if register == "city":
        data = table(("x",), paths, groups=["city:1", "city:2", "city:3"])
    remarks = prepare(data, run, tmp_path).remarks
    assert bool(remarks) == told
    if told:
        assert remarks[0].startswith(
            "2 patient ids are in both 'city' (3 patients) and 'other' (60), such as '"
        )
        assert "say `patients: other` in the source of the data, and they are left out." in remarks[0]


def test_ids_that_chance_may_give_are_said_to_be_taken_as_others(tmp_path):
    paths = write_images(tmp_path, ["a.png", "b.png", "c.png"])
    run = table(
        ("x",), [f"{i}.png" for i in range(9)], splits="train", groups=[f"nih:nih{i}" for i in range(9)]
    )
    data = table(("x",), paths, groups=["here:nih1", "here:nih2", "here:nih30"])
    [remark] = prepare(data, run, tmp_path).remarks
    assert remark == (
        "2 patient ids are in both 'here' (3 patients) and 'nih' (9), such as 'nih1', 'nih2', where chance would give "
        "as many; the run was trained or tuned on 'nih'. They were taken as other patients. If they are the same "
        "patients, the result is flattered: say `patients: nih` in the source of the data, and they are left out."
    )
