"""Experiments over all classes: what each arm trains on, what it is chosen and measured by, and what is written."""

import csv
import json
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from labelassemble.errors import LabelAssembleError
from labelassemble.experiments import train_job
from labelassemble.experiments.figures import COLOURS, arms_figure
from labelassemble.experiments.jobs import Job
from labelassemble.experiments.loading import make_experiment
from labelassemble.experiments.released_loss import ReleasedLoss
from labelassemble.experiments.settings import NetOptions
from labelassemble.experiments.summary import ArmRow, mean_interval
from labelassemble.experiments.train_job import make_net
from labelassemble.head import ClassQueryHead
from labelassemble.loss import PartialLabelLoss
from labelassemble.models import AssembleNet
from labelassemble.views.options import ViewOptions

CLASSES = ("square", "stripe", "dot")


@pytest.fixture
def table(tiny: dict[str, Any]) -> dict[str, Any]:
    """Two sources with a class in common, and arms of every kind."""
    return tiny | {
        "figure": "arms",
        "reference": "full",
        "metric": "mean_auc",
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


def test_all_arms_from_end_to_end(table: dict[str, Any], shapes: Path, tmp_path: Path, run: Any) -> None:
    output = tmp_path / "out"
    report, text = run(table, output, shapes)
    assert len(report.done) == 16
    assert "16/16  shapes, full, n = all, seed 1  AUC " in text
    results = {job.arm.name: result for job, result in report.done if job.seed == 0}
    for result in results.values():
        assert set(result.class_auc) == set(CLASSES)
        aucs = [auc for auc in result.class_auc.values() if auc is not None]
        assert len(aucs) == 3
        assert result.auc == pytest.approx(np.mean(aucs))
        assert (result.low, result.high) == (None, None)
        assert (result.positives, result.negatives, result.train_images) == (30, 60, 108)
    # A quarter of 108 images lacks one label, the others another; nothing is hidden from full labels.
    assert (results["masked"].unknown, results["full"].unknown) == (108, 0)
    assert results["full"].train_positives == 108
    assert results["masked"].train_positives < 108
    shares = [results["masked"].unknown_above, results["masked"].unknown_positive]
    assert all(share is not None and 0.0 <= share <= 1.0 for share in shares)
    assert results["masked"].unknown_auc is not None
    # Every option has an effect.
    assert len({result.auc for result in results.values()}) == len(results)

    rows = _csv(output / "runs.csv")
    assert list(rows[0])[-3:] == ["auc:square", "auc:stripe", "auc:dot"]
    for row in rows:
        assert float(row["auc"]) == pytest.approx(
            np.mean([float(row[f"auc:{c}"]) for c in CLASSES]), abs=1e-5
        )
    by_class = _csv(output / "classes.csv")
    assert len(by_class) == 8 * 3
    assert {(row["seeds"], row["setting"], row["size"]) for row in by_class} == {("2", "shapes", "all")}
    mine = [float(row["auc:dot"]) for row in rows if row["arm"] == "code"]
    (found,) = (row for row in by_class if (row["arm"], row["class"]) == ("code", "dot"))
    assert float(found["auc_mean"]) == pytest.approx(np.mean(mine), abs=1e-5)
    assert len(_csv(output / "class_differences.csv")) == 3 * 3
    text = (output / "table.md").read_text()
    assert "Mean of the AUCs of all classes on the test images" in text
    assert "| class | networks | heads | code | masked | hard | none | released | full |" in text
    assert "with p of the paired t-test (seed by seed)" in text
    for pair in ("masked - full", "heads - full"):  # each with the test that its comparison names first
        assert f"| class | {pair} |" in text
    assert (output / "figure.png").read_bytes().startswith(b"\x89PNG")

    _, text = run(table, output, shapes)
    assert "16 runs, 16 done before" in text  # t = inf too comes back from its file


class _Caught(Exception):
    pass


def _caught(
    table: dict[str, Any], arm: str, shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Any
) -> dict[str, Any]:
    """Return what training is called with for an arm."""
    caught: dict[str, Any] = {}

    def fit(state: Any, views: Any, validation: Any, *others: Any) -> None:
        caught.update(state=state, net=state.net, data=state.data, views=views, validation=validation)
        raise _Caught

    monkeypatch.setattr(train_job, "fit", fit)
    table["arms"] = [values for values in table["arms"] if values["name"] == arm]
    with pytest.raises(_Caught):
        run(table | {"comparisons": [], "reference": None}, tmp_path / "out", shapes)
    return caught


@pytest.mark.parametrize("arm", ["networks", "heads"])
def test_a_network_with_a_part_a_source_gets_each_images_source(
    arm: str, table: dict[str, Any], shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Any
) -> None:
    caught = _caught(table, arm, shapes, tmp_path, monkeypatch, run)
    assert caught["net"].sources == {"a": ("square", "stripe"), "b": ("stripe", "dot")}
    batch = next(iter(caught["views"].epoch(0, strong=False)))
    labelled = ~torch.isnan(batch.targets)
    assert labelled[:, 1].all()
    sources = caught["data"].sources[batch.rows]
    assert (sources == labelled[:, 2].long().numpy()).all()
    assert set(sources.tolist()) == {0, 1}


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
    batch = next(iter(caught["views"].epoch(0, strong=False)))
    sources = caught["data"].sources[batch.rows]
    assert (sources == torch.where(torch.isnan(batch.targets[:, 0]), -1, 0).numpy()).all()


def test_what_the_other_arms_train_with(
    table: dict[str, Any], shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Any
) -> None:
    full = _caught(dict(table), "full", shapes, tmp_path, monkeypatch, run)
    assert not np.isnan(full["data"].targets).any()
    assert type(full["state"].loss.criterion) is PartialLabelLoss
    masked = _caught(dict(table), "masked", shapes, tmp_path, monkeypatch, run)
    assert np.isnan(masked["data"].targets).sum(axis=0).tolist() == [81, 0, 27]
    assert full["data"].paths == masked["data"].paths
    assert masked["data"].sources is None
    released = _caught(dict(table), "released", shapes, tmp_path, monkeypatch, run)
    assert type(released["state"].loss.criterion) is ReleasedLoss


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


def test_the_aucs_of_all_classes_are_kept_with_a_class_of_interest_too(
    tiny: dict[str, Any], shapes: Path, tmp_path: Path, run: Any
) -> None:
    report, _ = run(tiny, tmp_path / "out", shapes, seeds=1)
    (_, binary), (_, multi) = report.done
    assert binary.class_auc == {"square": binary.auc}
    assert list(multi.class_auc) == list(CLASSES)
    assert multi.class_auc["square"] == pytest.approx(multi.auc)
    assert "auc:square" not in (tmp_path / "out" / "runs.csv").read_text()
    assert not (tmp_path / "out" / "classes.csv").exists()


def test_the_last_epoch_and_the_chosen_one_are_measured_alike(
    table: dict[str, Any], shapes: Path, tmp_path: Path, run: Any
) -> None:
    table["arms"] = [{"name": "masked"}]
    table |= {"comparisons": [], "reference": None, "checkpoint": "last"}
    report, _ = run(table, tmp_path / "out", shapes, seeds=1)
    ((_, result),) = report.done
    assert result.auc == result.auc_best  # of one epoch


def test_results_of_before_there_were_classes_count(
    tiny: dict[str, Any], shapes: Path, tmp_path: Path, run: Any
) -> None:
    first, _ = run(tiny, tmp_path / "out", shapes, seeds=1)
    for path in (tmp_path / "out" / "jobs").glob("*.json"):
        values = json.loads(path.read_text())
        del values["result"]["class_auc"]
        for options in values["settings"]["options"]:
            options.pop("queries", None)
            options.pop("learn_queries", None)
        path.write_text(json.dumps(values))
    second, text = run(tiny, tmp_path / "out", shapes, seeds=1)
    assert "2 runs, 2 done before" in text
    assert [result.auc for _, result in second.done] == [result.auc for _, result in first.done]
    assert second.done[0][1].class_auc == {}


def _jobs(values: dict[str, Any], shapes: Path, tmp_path: Path, run: Any) -> dict[str, Job]:
    report, _ = run(values, tmp_path / "out", shapes, seeds=1, budget=0.0)
    return {job.arm.name: job for job in report.missing}


def test_what_a_job_is_says_each_new_option_and_nothing_of_the_usual(
    table: dict[str, Any], tiny: dict[str, Any], shapes: Path, tmp_path: Path, run: Any
) -> None:
    usual = _jobs(tiny, shapes, tmp_path, run)["multi-class"]
    assert not {"metric", "labels", "criterion"} & set(usual.settings)
    table["arms"] += [
        {"name": "random", "model": {"queries": "random"}},
        {"name": "fixed", "model": {"learn_queries": False}},
        {"name": "criterion", "criterion": "released"},
    ]
    jobs = _jobs(table, shapes, tmp_path, run)
    assert len({job.fingerprint for job in jobs.values()}) == len(jobs) == 11
    assert jobs["full"].settings["labels"] == "all"
    assert jobs["criterion"].settings["criterion"] == "released"
    assert jobs["masked"].settings["metric"] == "mean_auc"


def _head(seed: int = 0, **options: Any) -> ClassQueryHead:
    net = make_net(NetOptions(**options), CLASSES, views=ViewOptions(size=32), seed=seed)
    assert isinstance(net, AssembleNet)
    assert isinstance(net.head, ClassQueryHead)
    return net.head


def test_queries() -> None:
    usual, random, fixed = _head(), _head(queries="random"), _head(learn_queries=False)
    assert torch.equal(usual.queries, torch.eye(3))
    assert usual.queries.requires_grad
    torch.testing.assert_close(random.queries.detach().norm(dim=1), torch.ones(3))
    assert not torch.equal(random.queries, _head(1, queries="random").queries)
    assert torch.equal(random.queries, _head(queries="random").queries)
    assert torch.equal(random.weight, usual.weight)  # the rest of the network starts as without
    assert torch.equal(fixed.queries, torch.eye(3))
    assert not fixed.queries.requires_grad
    assert fixed.weight.requires_grad


def test_fixed_queries_stay_in_training(
    table: dict[str, Any], shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Any
) -> None:
    ends: dict[str, torch.Tensor] = {}
    real = train_job.fit

    def fit(state: Any, *others: Any) -> Any:
        outcome = real(state, *others)
        net = state.net
        ends[str(net.head.queries.requires_grad)] = net.head.queries.detach().clone()
        return outcome

    monkeypatch.setattr(train_job, "fit", fit)
    table["arms"] = [{"name": "learned"}, {"name": "fixed", "model": {"learn_queries": False}}]
    run(table | {"comparisons": [], "reference": None}, tmp_path / "out", shapes, seeds=1)
    assert torch.equal(ends["False"], torch.eye(3))
    assert not torch.equal(ends["True"], torch.eye(3))


def test_a_class_that_no_source_labels(table: dict[str, Any], shapes: Path, tmp_path: Path, run: Any) -> None:
    table["parts"][1]["labels"] = ["stripe"]
    table["arms"] = table["arms"][1:2]
    with pytest.raises(LabelAssembleError, match="cannot answer 'dot': no source labels it for training"):
        run(table | {"comparisons": [], "reference": None}, tmp_path / "out", shapes)


def test_a_part_that_labels_what_is_not_there(
    table: dict[str, Any], shapes: Path, tmp_path: Path, run: Any
) -> None:
    table["parts"][1]["labels"] = ["stripe", "dott"]
    with pytest.raises(
        LabelAssembleError,
        match="part 'b' labels 'dott', which dataset 'shapes' does not have, did you mean 'dot'",
    ):
        run(table, tmp_path / "out", shapes)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"metric": "auc"}, "setting 'shapes' must name its class of interest for the metric auc"),
        ({"metric": "mean"}, "'metric': input should be 'auc' or 'mean_auc', got 'mean'"),
        (
            {"settings": [{"name": "s", "data": "shapes", "sizes": [3], "interest": "dot"}]},
            "setting 's' must leave out interest and others: the metric mean_auc is over all classes",
        ),
        ({"parts": [{"name": "a", "labels": "interest"}]}, "part 'a' speaks of a class of interest"),
        ({"parts": [{"name": "a", "positives": 3}]}, "part 'a' speaks of a class of interest"),
        ({"parts": [{"name": "a", "images": 1.5}]}, "'parts.0.images"),
        ({"arms": [{"name": "full", "classes": "pair"}]}, "arm 'full' must have all classes for the metric"),
        ({"reference": "ful"}, "reference names no arm: 'ful', did you mean 'full'"),
        (
            {"arms": [{"name": "full", "model": {"head": "linear", "queries": "random"}}]},
            "queries and learn_queries are of the head class_query, but the head is linear",
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


def test_the_figure_of_arms_with_and_without_a_reference(table: dict[str, Any]) -> None:
    experiment = make_experiment(table)
    aucs = {"masked": [0.7], "full": [0.8, 0.9]}  # one seed has no interval, the other arms no run
    rows = [ArmRow("shapes", "all", arm, None, mean_interval(values)) for arm, values in aucs.items()]
    drawn = arms_figure(experiment, rows, experiment.settings, "svg").decode()
    without = arms_figure(make_experiment(table | {"reference": None}), rows, experiment.settings, "svg")
    assert COLOURS[2] in drawn
    assert COLOURS[2] not in without.decode()
    assert arms_figure(experiment, rows, experiment.settings, "png").startswith(b"\x89PNG")
    sized = [ArmRow("shapes", size, "masked", None, mean_interval([0.7])) for size in (10, 20, 30)]
    assert (
        arms_figure(experiment, sized, experiment.settings, "svg").decode().count('id="axes_') == 4
    )  # of 2 x 2
