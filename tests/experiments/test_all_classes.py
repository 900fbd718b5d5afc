"""Experiments over all classes: what each arm trains on, what it is chosen and measured by, and what is written."""

import csv
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from labelassemble.errors import LabelAssembleError
from labelassemble.experiments.experiment import make_experiment
from labelassemble.experiments.plots import COLOURS, draw
from labelassemble.experiments.released_loss import ReleasedLoss
from labelassemble.experiments.summary import runs_frame
from labelassemble.loss import PartialLabelLoss
from labelassemble.run import training

CLASSES = ("square", "stripe", "dot")


@pytest.fixture
def table(tiny: dict[str, Any]) -> dict[str, Any]:
    """Two sources with a class in common, and arms of every kind."""
    return tiny | {
        "figure": "arms",
        "reference": "full",
        "settings": [{"name": "shapes", "data": "shapes", "sizes": ["all"]}],
        "parts": [
            {"name": "a", "images": 0.25, "labels": ["square", "stripe"]},
            {"name": "b", "images": "all", "labels": ["stripe", "dot"]},
        ],
        "arms": [
            {"name": "networks", "model": {"head": "multi_network"}},
            {"name": "heads", "model": {"head": "source_heads"}},
            {"name": "code", "model": {"head": "task_code"}},
            {"name": "masked"},
            {"name": "hard", "loss": {"pseudo_weight": 1.0, "consistency_weight": 1.0, "temperature": 1.0}},
            {
                "name": "none",
                "loss": {"pseudo_weight": 1.0, "consistency_weight": 1.0, "temperature": np.inf},
            },
            {"name": "released", "criterion": "released", "loss": {"pseudo_weight": 1.0}},
            {"name": "full", "labels": "all"},
        ],
        "comparisons": [{"arms": ["masked", "full"]}, {"arms": ["heads", "full"], "tests": ["paired-t"]}],
    }


def _csv(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(StringIO(path.read_text())))


@pytest.mark.pages
def test_all_arms_from_end_to_end(table: dict[str, Any], shapes: Path, tmp_path: Path, run: Any) -> None:
    output = tmp_path / "out"
    report, text = run(table, output, shapes)
    assert len(report.runs) == 16
    assert "16/16  shapes, full, n = all, seed 1  AUC " in text
    first = report.runs[report.runs["seed"] == 0].set_index("arm")
    aucs = first[[f"auc:{name}" for name in CLASSES]]
    assert first["auc"].tolist() == pytest.approx(aucs.mean(axis=1).tolist())
    assert first[["auc_low", "auc_high"]].isna().all(axis=None)
    images = int(first.loc["full", "train_images"])
    assert set(map(tuple, first[["test_positives", "test_negatives", "train_images"]].to_numpy())) == {
        (30, 60, images)
    }
    # A quarter of the images lacks one label, the others another; nothing is hidden from full labels.
    assert (first["unknown"]["masked"], first["unknown"]["full"]) == (images, 0)
    assert first["train_positives"]["full"] == images
    assert first["train_positives"]["masked"] < images
    assert first.loc["masked", ["unknown_above", "unknown_positive"]].between(0.0, 1.0).all()
    assert first["unknown_auc"].notna()["masked"]
    # Every option has an effect.
    assert first["auc"].nunique() == len(first)

    rows = _csv(output / "runs.csv")
    assert list(rows[0])[-3:] == ["auc:square", "auc:stripe", "auc:dot"]
    by_class = [row for row in _csv(output / "means.csv") if row["of"]]
    assert len(by_class) == 8 * 3
    assert {(row["seeds"], row["setting"], row["size"]) for row in by_class} == {("2", "shapes", "all")}
    mine = [float(row["auc:dot"]) for row in rows if row["arm"] == "code"]
    (found,) = (row for row in by_class if (row["arm"], row["of"]) == ("code", "dot"))
    assert float(found["mean"]) == pytest.approx(np.mean(mine), abs=1e-5)
    assert sum(row["of"] != "" for row in _csv(output / "differences.csv")) == 3 * 3
    text = (output / "table.md").read_text()
    assert "Mean of the AUCs of all classes on the test images" in text
    assert "| shapes | all | masked |  | dot | 2 | " in text
    assert "| shapes | all |  | dot | heads - full | " in text
    assert (output / "figure.png").read_bytes().startswith(b"\x89PNG")

    _, text = run(table, output, shapes)
    assert "16 runs, 16 done before" in text  # t = inf too comes back from its file


class _Caught(Exception):
    pass


def _caught(
    values: dict[str, Any], arm: str, shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Any
) -> dict[str, Any]:
    """Return what training is called with for an arm."""
    caught: dict[str, Any] = {}

    def fit(state: Any, views: Any, validation: Any, *_: Any, **__: Any) -> None:
        caught.update(net=state.net, data=state.data, loss=state.loss, views=views, validation=validation)
        raise _Caught

    monkeypatch.setattr(training, "fit", fit)
    values["arms"] = [arms for arms in values["arms"] if arms["name"] == arm]
    with pytest.raises(_Caught):
        run(values | {"comparisons": [], "reference": None}, tmp_path / "out", shapes)
    return caught


@pytest.mark.parametrize("arm", ["networks", "heads"])
def test_a_network_with_a_part_a_source_gets_each_images_source(
    arm: str, table: dict[str, Any], shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Any
) -> None:
    caught = _caught(table, arm, shapes, tmp_path, monkeypatch, run)
    assert caught["net"].sources == {"a": ("square", "stripe"), "b": ("stripe", "dot")}
    data = caught["data"]
    labelled = ~np.isnan(data.targets)
    assert labelled[:, 1].all()
    assert (data.sources == labelled[:, 2]).all()
    assert set(data.sources.tolist()) == {0, 1}


def test_a_source_that_labels_none_of_the_networks_classes_teaches_nothing(
    tiny: dict[str, Any], shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Any
) -> None:
    tiny["parts"] = [
        {"name": "a", "images": "size", "labels": ["dot"]},
        {"name": "b", "images": "size", "labels": ["square"]},
    ]
    tiny["arms"] = [{"name": "heads", "classes": "interest", "model": {"head": "source_heads"}}]
    caught = _caught(tiny, "heads", shapes, tmp_path, monkeypatch, run)
    assert caught["net"].sources == {"b": ("square",)}
    data = caught["data"]
    assert (data.sources == np.where(np.isnan(data.targets[:, 0]), -1, 0)).all()


def test_what_the_other_arms_train_with(
    table: dict[str, Any], shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Any
) -> None:
    full = _caught(dict(table), "full", shapes, tmp_path, monkeypatch, run)
    assert not np.isnan(full["data"].targets).any()
    assert full["loss"]._kind is PartialLabelLoss
    masked = _caught(dict(table), "masked", shapes, tmp_path, monkeypatch, run)
    images = len(masked["data"].paths)
    quarter = round(images / 4)
    assert np.isnan(masked["data"].targets).sum(axis=0).tolist() == [images - quarter, 0, quarter]
    assert full["data"].paths == masked["data"].paths
    assert masked["data"].sources is None
    released = _caught(dict(table), "released", shapes, tmp_path, monkeypatch, run)
    assert released["loss"]._kind is ReleasedLoss


def test_the_epoch_is_chosen_by_all_classes_and_by_the_same_labels(
    table: dict[str, Any], shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Any
) -> None:
    for arm in ("masked", "full"):
        validation = _caught(dict(table), arm, shapes, tmp_path, monkeypatch, run)["validation"]
        assert list(validation.interest) == [0, 1, 2]
        assert not np.isnan(validation.targets).any()


def test_the_epoch_is_chosen_by_the_class_of_interest_alone_where_there_is_one(
    tiny: dict[str, Any], shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Any
) -> None:
    caught = _caught(tiny, "multi-class", shapes, tmp_path, monkeypatch, run)
    assert list(caught["validation"].interest) == [0]
    assert np.isnan(caught["validation"].targets).all(axis=0).tolist() == [False, True, True]


def test_the_last_epoch_and_the_chosen_one_are_measured_alike(
    table: dict[str, Any], shapes: Path, tmp_path: Path, run: Any
) -> None:
    table["arms"] = [{"name": "masked"}]
    table |= {"comparisons": [], "reference": None, "checkpoint": "last"}
    report, _ = run(table, tmp_path / "out", shapes, seeds=1)
    row = report.runs.iloc[0]
    assert row["auc"] == row["auc_best"]  # of one epoch


def test_what_makes_a_job_another_one(
    table: dict[str, Any], tiny: dict[str, Any], shapes: Path, tmp_path: Path, run: Any
) -> None:
    table["arms"] += [
        {"name": "random", "model": {"queries": "random"}},
        {"name": "fixed", "train": {"query_lr": 0}},
        {"name": "rule", "sources": {"exclusive": "all"}},
        {"name": "border", "transform": "border"},
    ]
    report, _ = run(table, tmp_path / "out", shapes, seeds=1, budget=0.0)
    jobs = {job.arm.name: job for job in report.missing}
    assert len({job.fingerprint for job in jobs.values()}) == len(jobs) == 12
    assert jobs["full"].settings["arm"] == {"labels": "all"}
    assert jobs["masked"].settings["arm"] == {}


def test_a_part_that_labels_what_is_not_there(
    table: dict[str, Any], shapes: Path, tmp_path: Path, run: Any
) -> None:
    table["parts"][1]["labels"] = ["stripe", "dott"]
    with pytest.raises(
        LabelAssembleError, match="part 'b': dataset 'shapes' has no class 'dott', did you mean 'dot'"
    ):
        run(table, tmp_path / "out", shapes)


def test_a_setting_may_leave_classes_out(
    table: dict[str, Any], shapes: Path, tmp_path: Path, run: Any
) -> None:
    table["settings"][0]["classes"] = ["stripe", "square"]
    table["parts"][1]["labels"] = ["stripe"]
    report, _ = run(table, tmp_path / "out", shapes, seeds=1, budget=0.0)
    assert report.missing[0].classes == ("stripe", "square")
    table["settings"][0]["classes"] = ["strip"]
    with pytest.raises(LabelAssembleError, match="has no class 'strip', did you mean 'stripe'"):
        run(table, tmp_path / "out", shapes)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"metric": "auc"}, "unknown key 'metric'"),
        (
            {"settings": [{"name": "s", "data": "shapes", "sizes": [3], "others": "each"}]},
            "others are assembled with a class of interest, and setting 's' names no class of interest",
        ),
        (
            {"parts": [{"name": "a", "labels": "interest"}]},
            "part 'a' speaks of one by labels or positives, and setting",
        ),
        (
            {"parts": [{"name": "a", "positives": 3}]},
            "part 'a' speaks of one by labels or positives, and setting",
        ),
        ({"parts": [{"name": "a", "images": 1.5}]}, "'parts.0.images"),
        ({"arms": [{"name": "full", "classes": "pair"}]}, "arm 'full' has the classes 'pair', and setting"),
        ({"reference": "ful"}, "reference names no arm: 'ful', did you mean 'full'"),
        (
            {"arms": [{"name": "full", "model": {"head": "linear", "queries": "random"}}]},
            "queries are of the head class_query, but the head is linear",
        ),
        (
            {"arms": [{"name": "full", "criterion": "released", "train": {"accumulate": 2}}]},
            "arm 'full': the released loss does not add up over parts of a batch, train.accumulate must be 1, got 2",
        ),
    ],
)
def test_mistakes(table: dict[str, Any], change: dict[str, Any], message: str) -> None:
    table |= {"comparisons": []} | change
    if "arms" in change:
        table["reference"] = None
    with pytest.raises(LabelAssembleError) as raised:
        make_experiment(table)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


def test_the_figure_of_arms_with_and_without_a_reference(table: dict[str, Any], tmp_path: Path) -> None:
    experiment = make_experiment(table)
    place = {"setting": "shapes", "size": "all"}
    aucs = [
        ("masked", 0, 0.7),
        ("full", 0, 0.8),
        ("full", 1, 0.9),
    ]  # one seed has no interval, other arms no run
    runs = runs_frame([place | {"arm": arm, "seed": seed, "auc": auc} for arm, seed, auc in aucs])
    draw(experiment, runs, tmp_path / "with.svg")
    draw(make_experiment(table | {"reference": None}), runs, tmp_path / "without.svg")
    assert COLOURS[2] in (tmp_path / "with.svg").read_text()
    assert COLOURS[2] not in (tmp_path / "without.svg").read_text()
    draw(experiment, runs, tmp_path / "with.png")
    assert (tmp_path / "with.png").read_bytes().startswith(b"\x89PNG")
    sized = runs_frame(
        [{"setting": "shapes", "size": n, "arm": "masked", "seed": 0, "auc": 0.7} for n in "123"]
    )
    draw(experiment, sized, tmp_path / "sized.svg")
    assert (tmp_path / "sized.svg").read_text().count('id="axes_') == 3  # side by side
    assert "<text" in (tmp_path / "sized.svg").read_text()  # text is text
