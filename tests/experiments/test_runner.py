"""An experiment goes on where it was, takes no other settings' results for its own, and keeps to its budget."""

import csv
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from typer.testing import CliRunner

from labelassemble import cli
from labelassemble.errors import LabelAssembleError
from labelassemble.experiments import runner
from labelassemble.experiments.jobs import Task
from labelassemble.experiments.runner import Clock, missing_text
from labelassemble.experiments.summary import COSINES


class _Stopped(Exception):
    pass


@pytest.mark.pages
def test_an_experiment_from_end_to_end(tiny: dict[str, Any], shapes: Path, tmp_path: Path, run: Any) -> None:
    output = tmp_path / "out"
    report, text = run(tiny, output, shapes)
    assert len(report.runs) == 4
    assert not report.missing
    assert "Left out: dataset 'elsewhere' is not at hand: fetch the idx files" in text
    assert "4/4  squares, multi-class, n = 12, seed 1  AUC " in text
    with (output / "runs.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["arm"], row["seed"]) for row in rows] == [
        ("binary", "0"),
        ("multi-class", "0"),
        ("binary", "1"),
        ("multi-class", "1"),
    ]
    assert all(
        0.0 <= float(row["auc_low"]) <= float(row["auc"]) <= float(row["auc_high"]) <= 1.0 for row in rows
    )
    assert {(row["test_positives"], row["test_negatives"], row["train_images"]) for row in rows} == {
        ("10", "20", "12")
    }
    table = (output / "table.md").read_text()
    assert "| squares | 12 |  |  | multi-class - binary |" in table
    assert "two-sample t-test (Student's, equal variances)" in table
    assert "- dataset 'elsewhere' is not at hand" in table
    assert (output / "figure.svg").read_text().startswith("<?xml")
    assert (output / "figure.png").read_bytes().startswith(b"\x89PNG")
    assert not list(output.glob("work/*/checkpoints"))


def test_it_goes_on_where_it_was_interrupted(
    tiny: dict[str, Any], shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Any
) -> None:
    real, trained = Task.train, []

    def stops_at_the_third(task: Task) -> Any:
        if len(trained) == 2:
            raise _Stopped
        trained.append(task.job.arm.name)
        return real(task)

    monkeypatch.setattr(Task, "train", stops_at_the_third)
    with pytest.raises(_Stopped):
        run(tiny, tmp_path / "out", shapes)

    def counted(task: Task) -> Any:
        trained.append(task.job.arm.name)
        return real(task)

    monkeypatch.setattr(Task, "train", counted)
    report, text = run(tiny, tmp_path / "out", shapes)
    assert "4 runs, 2 done before" in text
    assert trained == report.runs["arm"].tolist()  # each once
    whole, _ = run(tiny, tmp_path / "whole", shapes)
    assert report.runs["auc"].tolist() == whole.runs["auc"].tolist()


def test_a_result_of_other_settings_does_not_count(
    tiny: dict[str, Any], shapes: Path, tmp_path: Path, run: Any
) -> None:
    first, _ = run(tiny, tmp_path / "out", shapes, seeds=1)
    tiny["train"]["lr"] = 2e-3
    second, text = run(tiny, tmp_path / "out", shapes, seeds=1)
    assert "2 runs, 0 done before; 2 results of other runs or settings" in text
    assert set(first.runs["fingerprint"]).isdisjoint(second.runs["fingerprint"])
    for path in (tmp_path / "out" / "jobs").glob("*.json"):
        values = json.loads(path.read_text())
        path.write_text(json.dumps(values | {"fingerprint": "0" * 16}))
    _, text = run(tiny, tmp_path / "out", shapes, seeds=1)
    assert "2 runs, 0 done before" in text


def test_a_default_that_has_changed_counts_and_an_option_that_is_new_does_not(
    tiny: dict[str, Any], shapes: Path, tmp_path: Path, run: Any
) -> None:
    tiny["arms"] = tiny["arms"][:1]
    tiny["comparisons"] = []
    run(tiny, tmp_path / "out", shapes, seeds=1)
    (path,) = (tmp_path / "out" / "jobs").glob("*.json")
    values = json.loads(path.read_text())
    options = values["settings"]["options"][-1]
    assert options.pop("weight_decay") == 0.0  # as if the option had not been there then
    path.write_text(json.dumps(values))
    _, text = run(tiny, tmp_path / "out", shapes, seeds=1)
    assert "1 runs, 1 done before" in text
    options["plateau"]["factor"] = 0.1  # as if this had been the default then
    path.write_text(json.dumps(values))
    _, text = run(tiny, tmp_path / "out", shapes, seeds=1)
    assert "1 runs, 0 done before" in text


def test_another_seed_or_size_is_another_job_and_more_seeds_keep_the_first(
    tiny: dict[str, Any], shapes: Path, tmp_path: Path, run: Any
) -> None:
    run(tiny, tmp_path / "out", shapes, seeds=1)
    report, text = run(tiny, tmp_path / "out", shapes, seeds=2)
    assert "4 runs, 2 done before" in text
    assert report.runs["fingerprint"].nunique() == 4


def test_a_budget_that_is_spent_starts_nothing_and_says_what_is_missing(
    tiny: dict[str, Any], shapes: Path, tmp_path: Path, run: Any
) -> None:
    report, _ = run(tiny, tmp_path / "out", shapes, budget=0.0)
    assert not len(report.runs)
    assert missing_text(report.missing) == (
        "  squares, binary, n = 12: 2 runs\n  squares, multi-class, n = 12: 2 runs"
    )
    assert not list((tmp_path / "out").glob("runs.csv"))


def test_a_job_that_would_not_fit_is_not_started(
    tiny: dict[str, Any], shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Any
) -> None:
    now = [0.0]
    monkeypatch.setattr(runner.time, "monotonic", lambda: now[0])
    report, _ = run(tiny, tmp_path / "out", shapes, seeds=1, budget=0.0)
    clock = Clock(100.0)
    binary, multi = report.missing
    assert clock.fits(binary)
    clock.add(binary, 60.0)
    now[0] = 39.0
    assert clock.fits(binary)
    assert clock.fits(multi)  # as the longest of its setting, of which it knows
    assert clock.left([binary, multi]) == 120.0
    now[0] = 41.0
    assert not clock.fits(binary)
    clock.add(multi, 10.0)
    assert clock.fits(multi)


def test_no_dataset_at_hand(tiny: dict[str, Any], tmp_path: Path, run: Any) -> None:
    with pytest.raises(LabelAssembleError, match="none of the experiment's datasets is at hand"):
        run(tiny, tmp_path / "out", tmp_path / "nowhere")


def test_a_class_that_the_data_lack(tiny: dict[str, Any], shapes: Path, tmp_path: Path, run: Any) -> None:
    tiny["settings"][0]["interest"] = "sqare"
    with pytest.raises(LabelAssembleError, match="has no class 'sqare', did you mean 'square'"):
        run(tiny, tmp_path / "out", shapes)


def test_a_setting_that_is_not_there(tiny: dict[str, Any], shapes: Path, tmp_path: Path, run: Any) -> None:
    with pytest.raises(LabelAssembleError, match="no setting is called 'sqares', did you mean 'squares'"):
        run(tiny, tmp_path / "out", shapes, only=["sqares"])


@pytest.mark.pages
def test_pairs_pseudo_labels_and_the_last_epoch(
    tiny: dict[str, Any], shapes: Path, tmp_path: Path, run: Any
) -> None:
    tiny |= {
        "figure": "similarity",
        "checkpoint": "last",
        "settings": [{**tiny["settings"][0], "others": "each"}],
        "parts": [
            {"name": "a", "images": "size", "labels": "interest"},
            {"name": "b", "images": 20, "labels": "other"},
        ],
        "arms": [
            {"name": "alone", "classes": "interest", "parts": ["a"]},
            {"name": "pseudo", "classes": "pair", "loss": {"pseudo_weight": 1.0, "consistency_weight": 1.0}},
        ],
        "comparisons": [{"arms": ["pseudo", "alone"], "tests": ["paired-t"]}],
    }
    report, _ = run(tiny, tmp_path / "out", shapes)
    alone, pair, other = report.runs.iloc[:3].to_dict("records")
    assert [row["arm"] for row in (alone, pair, other)] == ["alone", "pseudo", "pseudo"]
    assert (pair["other"], other["other"]) == ("stripe", "dot")
    assert alone["unknown"] == 0
    assert pd.isna([alone["other"], alone["cosine"], alone["unknown_above"]]).all()
    assert pair["unknown"] == 20
    for name in (*COSINES, "unknown_above", "auc_best"):
        assert pd.notna(pair[name]), name
    assert all(abs(pair[name]) <= 1 + 1e-6 for name in COSINES)
    gains = pd.read_csv(tmp_path / "out" / "gains.csv")
    assert gains["other"].tolist() == ["stripe", "dot"]
    assert (tmp_path / "out" / "figure.svg").exists()


def test_the_command(shapes: Path, tmp_path: Path, tiny: dict[str, Any]) -> None:
    import yaml

    file = tmp_path / "tiny.yaml"
    file.write_text(yaml.safe_dump(tiny))
    out = tmp_path / "out"
    arguments = [
        "experiment",
        str(file),
        "train.lr=2e-3",
        "--data",
        str(shapes),
        "-o",
        str(out),
        "--seeds",
        "1",
    ]
    result = CliRunner().invoke(cli.app, arguments)
    assert result.exit_code == 0, result.output
    assert f"Table: {out / 'table.md'}" in result.output
    assert "lr: 2e-3" in (out / "experiment.yaml").read_text()
    result = CliRunner().invoke(cli.app, [*arguments[:-1], "2", "--budget", "0"])
    assert "The budget ended before 2 runs:\n  squares, binary, n = 12: 1 runs" in result.output
