"""An experiment on masks, from the data to its tables, on a few made-up slices."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from rich.console import Console

from labelassemble.data.mask_files import read_mask
from labelassemble.errors import LabelAssembleError
from labelassemble.experiments.case_jobs import CaseTask
from labelassemble.experiments.cases import case_masks, open_cases
from labelassemble.experiments.detection_tables import read_details, write_detection
from labelassemble.experiments.experiment import load_experiment, make_experiment
from labelassemble.experiments.jobs import _VALIDATION, Job, jobs_of
from labelassemble.experiments.summary import write_frame
from labelassemble.run import train_run
from labelassemble.views.volume_options import VolumeOptions

pytest.importorskip("monai")

MASKS = """\
title: "Masks"
paper: "no figure of the paper"
seeds: 1
folds: 2
datasets:
  slices:
    sources:
      - name: slices
        reader: volumes
        root: slices
        images: "*_images.npz"
        path: "slices/{}.csv"
        masks: {files: "{}_masks.npz", labels: {1: x, 5: y}}
    download: "draw some slices"
    validation: 2
    per_patient: 2
settings: [{name: s, data: slices, interest: y, sizes: [all]}]
parts: [{name: a, images: 0.5, labels: interest}, {name: b, images: all, labels: others}]
arms:
  - {name: border, baseline: border, labels: all}
  - {name: full, labels: all}
  - {name: background, labels: background}
  - {name: task, classes: others, parts: [b]}
comparisons: [{arms: [full, background]}, {arms: [full, border]}]
volumes: {patch: [16, 16], threads: 1, overlap: 0.0}
model: {backbone: dynunet_small}
loss: {pseudo_weight: 0.0, consistency_weight: 0.0, warmup_epochs: 0}
train: {epochs: 1, steps_per_epoch: 1, batch_size: 2, early_stop: null}
"""


@pytest.fixture
def values() -> dict[str, Any]:
    """The values of an experiment over `slices`."""
    found: dict[str, Any] = yaml.safe_load(MASKS)
    return found


@pytest.fixture
def slices(tmp_path: Path) -> Path:
    """A data folder with 20 patients of three slices of 32 pixels; half of them show x (1), half y (5), in a corner."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "data" / "slices"
    folder.mkdir(parents=True)
    images = rng.integers(0, 60, (60, 32, 32), dtype=np.uint8)
    masks = np.zeros_like(images)
    for row in range(60):
        where = slice(0, 8) if row // 3 % 2 else slice(20, 28)
        masks[row, where, 4:12] = 5 if row // 3 % 2 else 1
        images[row, where, 4:12] += 150
    np.savez(folder / "train_images.npz", images=images)
    np.savez(folder / "train_masks.npz", masks=masks)
    pd.DataFrame({"patient": [f"p{row // 3}" for row in range(60)]}).to_csv(folder / "train.csv", index=False)
    return tmp_path / "data"


def _open(values: dict[str, Any], slices: Path, cache: Path) -> Any:
    experiment = make_experiment(values)
    volumes = VolumeOptions(patch=(16, 16))
    options = experiment.datasets["slices"]
    return experiment, open_cases("slices", options, data=slices, volumes=volumes, cache=cache)


def test_cases_are_resized_once_and_masks_draw_what_is_asked_for(
    values: dict[str, Any], slices: Path, tmp_path: Path
) -> None:
    _, dataset = _open(values, slices, tmp_path / "cache")
    table = dataset.table
    assert (len(table), table.classes, set(table.splits)) == (40, ("x", "y"), {"train"})
    assert table.labels.sum(axis=0).tolist() == [20, 20]
    first, last = (read_mask(str(table.masks[row])).values for row in (0, 39))
    assert (first.shape, np.unique(first).tolist(), np.unique(last).tolist()) == ((16, 16), [0, 1], [0, 2])
    assert (first[10:14, 2:6] == 1).all()
    assert int((first == 1).sum()) == 16
    only = case_masks(dataset, ["y"])
    assert not read_mask(str(only[0])).values.any()
    assert (read_mask(str(only[39])).values == last).all()
    assert case_masks(dataset, ["y", "x"]) is table.masks
    assert _open(values, slices, tmp_path / "cache")[1].fingerprint == dataset.fingerprint


def test_other_values_of_the_masks_are_other_cases(
    values: dict[str, Any], slices: Path, tmp_path: Path
) -> None:
    first = _open(values, slices, tmp_path / "cache")[1]
    values["datasets"]["slices"]["sources"][0]["masks"]["labels"] = {5: "x", 1: "y"}
    second = _open(values, slices, tmp_path / "cache")[1]
    fresh = _open(values, slices, tmp_path / "fresh")[1]
    of_x = [
        read_mask(str(of.table.masks[0])).values[10, 2] == 1 + of.table.column("x") for of in (first, second)
    ]
    assert of_x == [True, False]
    assert second.fingerprint == fresh.fingerprint != first.fingerprint


def test_how_many_patients_choose_the_epoch_makes_another_job(
    values: dict[str, Any], slices: Path, tmp_path: Path
) -> None:
    def job(key: str, validation: int | None) -> Job:
        renamed = values["datasets"]["slices"] | {"validation": validation}
        setting = values["settings"][0] | {"data": key}
        experiment = make_experiment(values | {"datasets": {key: renamed}, "settings": [setting]})
        return jobs_of(experiment, experiment.settings[0], dataset, [0])[0]

    _, dataset = _open(values, slices, tmp_path / "cache")
    mine = {job("slices", validation).fingerprint for validation in (None, 2, 3, 20)}
    assert len(mine) == 4
    # What the shipped experiment has is its default: results of before this was told apart are still known.
    usual, other = job("brain", 20), job("brain", 19)
    assert usual.fingerprint not in {other.fingerprint, *mine}
    assert (usual.settings["validation"], other.settings["validation"]) == (20, 19)
    shipped = load_experiment("detection").datasets
    assert {key: options.validation for key, options in shipped.items()} == _VALIDATION


def test_what_parts_draw_of_named_classes_hangs_on_the_class_of_interest(
    values: dict[str, Any], slices: Path, tmp_path: Path
) -> None:
    _, dataset = _open(values, slices, tmp_path / "cache")
    for labels, count in (("parts", 2), ("all", 1)):
        values["arms"] = [{"name": "named", "classes": ["x", "y"], "labels": labels}]
        values["comparisons"] = []
        found = set()
        for interest in ("x", "y"):
            setting = values["settings"][0] | {"interest": interest}
            experiment = make_experiment(values | {"settings": [setting]})
            found.add(jobs_of(experiment, experiment.settings[0], dataset, [0])[0].fingerprint)
        assert len(found) == count


def test_names_that_look_like_nothing_are_names(tmp_path: Path) -> None:
    names = ["NA", "None", "null", "nan", "007"]
    about = {"setting": names, "arm": names, "seed": 0, "fold": 0, "patient": names, "class": names}
    patients = pd.DataFrame(about | {"label": 1, "score": [np.nan, 0.25, 0.5, 0.75, 1.0], "cases": np.nan})
    write_frame(patients, tmp_path / "patients.csv")
    write_frame(pd.DataFrame(about | {"score": 0.5, "hit": 1}), tmp_path / "lesions.csv")
    read, lesions = read_details(tmp_path)
    pd.testing.assert_frame_equal(read, patients)
    for frame in (read, lesions):
        for column in ("setting", "arm", "patient", "class"):
            assert frame[column].tolist() == names


def test_a_class_that_a_mask_does_not_draw_is_named(
    values: dict[str, Any], slices: Path, tmp_path: Path
) -> None:
    values["datasets"]["slices"]["sources"] += [
        values["datasets"]["slices"]["sources"][0]
        | {"name": "other", "masks": {"files": "{}_masks.npz", "labels": {1: "x", 5: "z"}}}
    ]
    values["datasets"]["slices"]["together"] = True
    with pytest.raises(
        LabelAssembleError, match="dataset 'slices': the masks of an experiment must draw every class"
    ):
        _open(values, slices, tmp_path / "cache")


def test_what_is_not_drawn_is_unknown_or_background(
    values: dict[str, Any], slices: Path, tmp_path: Path
) -> None:
    experiment, dataset = _open(values, slices, tmp_path / "cache")
    jobs = {
        job.arm.name: job for job in jobs_of(experiment, experiment.settings[0], dataset, [0]) if not job.fold
    }
    found = {}
    for name in ("full", "background", "task"):
        task = CaseTask.of(experiment, jobs[name], dataset, tmp_path / name)
        config = task.config()
        found[name] = {source.name: source for source in config.sources}
        assert config.classes == (("x",) if name == "task" else ("y", "x"))
        assert set(config.sources[-1].read().splits) == {"val", "test"}
    assert list(found["task"]) == ["b", "held-out"]
    assert found["full"]["a"].masks.labels == {1: "x", 2: "y"}
    assert (found["background"]["a"].masks.labels, found["background"]["a"].classes) == ({2: "y"}, ("x",))
    read = found["background"]["a"].read()
    assert (read.labels[:, read.column("x")] == 0).all()
    assert read.drawn(0) == {2: read.column("y")}


def test_an_experiment_on_masks_from_end_to_end(
    values: dict[str, Any], slices: Path, tmp_path: Path, run: Any
) -> None:
    output = tmp_path / "out"
    values["arms"] = [values["arms"][0], values["arms"][2]]
    values["comparisons"] = [{"arms": ["background", "border"]}]
    values["train"]["epochs"] = 2
    experiment, dataset = _open(values, slices, output / "cache")
    begun = jobs_of(experiment, experiment.settings[0], dataset, [0])[2]
    task = CaseTask.of(experiment, begun, dataset, output / "work" / begun.name)
    train_run(task.config(), task.run, resume=True, console=Console(quiet=True), until=1)
    half = (task.run / "metrics.csv").read_text()
    report, text = run(values, output, slices, budget=1000.0)
    assert not report.missing
    assert "2/4  s, border, n = all, seed 0, fold 1  AUC 1.0000" in text
    assert "4/4  s, background, n = all, seed 0, fold 1  Dice " in text
    assert report.runs[["arm", "fold"]].to_numpy().tolist() == [
        [arm, fold] for arm in ("border", "background") for fold in (0, 1)
    ]
    whole = (task.run / "metrics.csv").read_text()
    assert whole.startswith(half)  # it went on from there
    assert (len(half.splitlines()), len(whole.splitlines())) == (2, 3)
    assert not list(output.glob("work/*/checkpoints"))
    patients, lesions = read_details(output)
    assert patients.groupby(["arm", "class"])["patient"].nunique().tolist() == [20] * 4
    names = [set(of) for _, of in patients.groupby("arm")["patient"]]
    assert names[0] == names[1] == {f"slices:p{patient}" for patient in range(20)}
    table = (output / "table.md").read_text()
    assert "## s (slices, 20 patients)" in table
    assert "| s | background - border | mean | 1 |" in table
    assert "above border" in table
    found = pd.read_csv(output / "figures.csv")
    assert found[found["arm"] == "border"]["figure"].unique().tolist() == ["auroc"]
    assert (output / "figure.svg").read_text().startswith("<?xml")
    _, text = run(values, output, slices)
    assert "4 runs, 4 done before" in text
    (tmp_path / "again").mkdir()
    write_detection(make_experiment(values), patients, lesions, tmp_path / "again")
    same = pd.read_csv(tmp_path / "again" / "figures.csv")
    pd.testing.assert_frame_equal(same, found, rtol=1e-4)


def test_what_is_for_the_other_kind_of_experiment_is_refused(
    values: dict[str, Any], tiny: dict[str, Any]
) -> None:
    values["arms"][1]["transform"] = "border"
    with pytest.raises(LabelAssembleError, match="arm 'full': `transform` is for images"):
        make_experiment(values)
    tiny["arms"][0]["baseline"] = "border"
    with pytest.raises(LabelAssembleError, match="arm 'binary': `baseline` is for masks"):
        make_experiment(tiny)
    del values["arms"][1]["transform"]
    for change, sentence in (
        ({"parts": [{"name": "a", "positives": 3}]}, "part 'a': `positives` is for images"),
        ({"parts": [{"name": "a", "times": 2}]}, "part 'a': `times` is for images"),
        ({"checkpoint": "last"}, "the experiment: `checkpoint: last` is for images"),
    ):
        with pytest.raises(LabelAssembleError, match=sentence):
            make_experiment(values | change)
    two = {"settings": [values["settings"][0] | {"sizes": [4, 8]}]}
    with pytest.raises(LabelAssembleError, match=r"setting 's': `sizes` takes one size .*, got 4, 8"):
        make_experiment(values | two)
    alone = {"arms": [{"name": "border", "baseline": "border"}, *values["arms"][1:]]}
    with pytest.raises(LabelAssembleError, match=r"arm 'border': .* needs `labels: all`, got 'parts'"):
        make_experiment(values | alone)
    del tiny["arms"][0]["baseline"]
    with pytest.raises(LabelAssembleError, match="the experiment: `folds` is for masks"):
        make_experiment(tiny | {"folds": 3})
    values["settings"][0]["arms"] = ["ful"]
    with pytest.raises(LabelAssembleError, match="setting 's' names no arm: 'ful', did you mean 'full'"):
        make_experiment(values)
    values["settings"][0]["arms"] = ["full"]
    values["arms"][1]["labels"] = "parts"
    values["arms"][1] |= {"classes": ["x"], "parts": ["a"]}
    make_experiment(values)


def test_the_shipped_one_compares_what_it_runs() -> None:
    experiment = load_experiment("detection")
    for setting in experiment.settings:
        names = [arm.name for arm in experiment.arms_of(setting)]
        assert any(set(comparison.arms) <= set(names) for comparison in experiment.comparisons)
