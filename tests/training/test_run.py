"""Training end to end on small sources: what a run leaves, resuming, and what goes wrong."""

import csv
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console

from labelassemble.config import load_config
from labelassemble.data import Table
from labelassemble.errors import LabelAssembleError
from labelassemble.run import assemble_config, evaluate_on, evaluate_run, load_trained, train_run
from labelassemble.training.display import Display
from labelassemble.training.interrupt import TrainingInterrupted

QUIET = Console(quiet=True)


def _metrics(run: Path) -> list[dict[str, str]]:
    with (run / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        row.pop("seconds")
    return rows


@pytest.mark.pages
def test_a_run_leaves_what_later_commands_need(small_sources: Path) -> None:
    run = small_sources / "out"
    result = train_run(load_config(small_sources / "run.yaml"), run, resume=False, console=QUIET)
    assert result.outcome.epochs == 2
    assert result.evaluation is not None
    assert result.evaluation.of("square") is not None
    for name in (
        "config.yaml",
        "environment.json",
        "table.csv",
        "metrics.csv",
        "checkpoints/last.pt",
        "checkpoints/best.pt",
        "predictions.csv",
        "report.html",
    ):
        assert (run / name).stat().st_size > 0, name
    assert (run / "notes.txt").read_text() == ""  # nothing was odd
    rows = _metrics(run)
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert [row["pseudo_weight"] for row in rows] == ["0", "1"]
    assert float(rows[0]["train_consistency"]) == 0
    assert float(rows[1]["train_consistency"]) > 0
    # Every image is labelled for one of the two classes.
    assert rows[0]["train_known"] == rows[0]["train_unknown"] == "24"
    trained = load_trained(run)
    assert trained.net.classes == ("square", "stripe")
    assert trained.interest == ("square",)

    before = (run / "predictions.csv").read_bytes()
    evaluate_run(run)
    assert (run / "predictions.csv").read_bytes() == before


@pytest.mark.pages
def test_images_of_another_depth_are_a_warning_before_training_and_on_other_data(small_sources: Path) -> None:
    config = small_sources / "run.yaml"
    file = Path(str(assemble_config(load_config(config), QUIET).table.paths[0]))
    with Image.open(file) as image:
        grey = np.asarray(image.convert("L")).astype(np.uint16)
    Image.fromarray(np.where(grey > 30, 4095, 17).astype(np.uint16)).save(file)
    console = Console(record=True, width=400)
    run = small_sources / "out"
    train_run(load_config(config, ["train.epochs=1"]), run, resume=False, console=console)
    warning = "uses 6% of the grey range, the first"
    assert console.export_text().count(warning) == 1
    assert "set `bits: 12` of the source" in (run / "report.html").read_text()
    _, external = evaluate_on(run, load_config(config), name="other", part="test", output=None, console=QUIET)
    assert sum(warning in remark for remark in external.remarks) == 1


def test_hidden_labels_are_kept_beside_the_table(small_sources: Path) -> None:
    (small_sources / "both.csv").write_text(
        "path,split,square,stripe\n" + "".join(f"images/north-{i}.png,train,{i % 2},0\n" for i in range(8))
    )
    config = load_config(
        small_sources / "run.yaml",
        ["train.epochs=1", "sources.0={name: both, reader: csv, path: both.csv, hide: [stripe]}",
         "sources.1={name: south, reader: csv, path: south.csv}", "classes=[square, stripe]"],
    )  # fmt: skip
    train_run(config, small_sources / "out", resume=False, console=QUIET)
    hidden = Table.from_csv(small_sources / "out" / "hidden.csv")
    table = Table.from_csv(small_sources / "out" / "table.csv")
    rows = table.sources == "both"
    assert (table.labels[rows, 1] == -1).all()
    kept = hidden.labels[np.isin(hidden.names, table.names[rows]), hidden.classes.index("stripe")]
    assert (kept == 0).sum() == rows.sum() == 8


def test_training_learns(small_sources: Path) -> None:
    config = load_config(
        small_sources / "run.yaml", ["train.epochs=12", "train.lr=3e-3", "loss.warmup_epochs=12"]
    )
    train_run(config, small_sources / "out", resume=False, console=QUIET)
    losses = [float(row["train_loss"]) for row in _metrics(small_sources / "out")]
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize(
    ("overrides", "stops"),
    [
        ([], (1, 3, 5)),
        (
            ["views.weak=[{RandomAffine: {degrees: 9}}]", "views.strong=[{RandomGaussianNoise: {std: 0.1}}]"],
            (3,),
        ),
    ],
    ids=["built-in policy", "lists of kornia's"],
)
def test_a_resumed_run_has_the_losses_of_one_that_never_stopped(
    small_sources: Path, monkeypatch: pytest.MonkeyPatch, overrides: list[str], stops: tuple[int, ...]
) -> None:
    config = load_config(small_sources / "run.yaml", overrides)
    whole = small_sources / "whole"
    train_run(config, whole, resume=False, console=QUIET)
    step = Display.step
    for stop_at in stops:

        def stopping(
            self: Display, epoch: int, done: int, *terms: Any, stop_at: int = stop_at, **others: Any
        ) -> None:
            step(self, epoch, done, *terms, **others)
            if done == stop_at:
                os.kill(os.getpid(), signal.SIGINT)

        parts = small_sources / f"parts-{stop_at}"
        with monkeypatch.context() as patch:
            patch.setattr(Display, "step", stopping)
            with pytest.raises(TrainingInterrupted, match=r"after step [123]"):
                train_run(config, parts, resume=False, console=QUIET)
        assert (parts / "checkpoints" / "last.pt").exists()
        train_run(config, parts, resume=True, console=QUIET)

        assert _metrics(parts) == _metrics(whole)
        one, two = (load_trained(run).net.state_dict() for run in (whole, parts))
        assert all(torch.equal(one[key], two[key]) for key in one)
        assert (parts / "predictions.csv").read_bytes() == (whole / "predictions.csv").read_bytes()


def test_a_run_is_neither_overwritten_nor_mixed_with_another(small_sources: Path) -> None:
    run = small_sources / "out"
    config = load_config(small_sources / "run.yaml", ["train.epochs=1"])
    train_run(config, run, resume=False, console=QUIET)
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    with pytest.raises(LabelAssembleError, match="holds a run already: go on with it by --resume"):
        train_run(config, run, resume=False, console=QUIET)
    other = load_config(small_sources / "run.yaml", ["train.epochs=1", "train.lr=0.5"])
    with pytest.raises(LabelAssembleError, match="was begun with another 'train'"):
        train_run(other, run, resume=True, console=QUIET)
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


def test_a_resumed_run_does_not_train_on_what_it_held_out(small_sources: Path) -> None:
    run = small_sources / "out"
    config = load_config(small_sources / "run.yaml", ["train.epochs=1"])
    train_run(config, run, resume=False, console=QUIET)
    table = (run / "table.csv").read_text()
    north = small_sources / "north.csv"
    north.write_text(north.read_text().replace(",test,", ",train,"))
    with pytest.raises(
        LabelAssembleError,
        match=r"out: 6 images that the run has held out so far would be trained on, such as .*north-6\.png",
    ):
        train_run(config, run, resume=True, console=QUIET)
    assert (run / "table.csv").read_text() == table


def test_a_corrupt_image_is_named_and_what_was_written_stays(small_sources: Path) -> None:
    (small_sources / "images" / "south-3.png").write_bytes(b"rubbish")
    run = small_sources / "out"
    with pytest.raises(LabelAssembleError, match=r"south-3\.png"):
        train_run(load_config(small_sources / "run.yaml"), run, resume=False, console=QUIET)
    assert (run / "table.csv").exists()


def test_a_loss_that_is_not_finite_stops_training(small_sources: Path) -> None:
    config = load_config(small_sources / "run.yaml", ["train.lr=1e30", "train.epochs=20"])
    with pytest.raises(
        LabelAssembleError, match=r"the loss is (nan|inf) in epoch \d+, step \d+: lower train\.lr"
    ):
        train_run(config, small_sources / "out", resume=False, console=QUIET)


def test_an_unknown_class_of_interest_is_named(small_sources: Path) -> None:
    config = load_config(small_sources / "run.yaml", ["interest=[squore]"])
    with pytest.raises(LabelAssembleError, match="squore"):
        train_run(config, small_sources / "out", resume=False, console=QUIET)
    assert not (small_sources / "out").exists()


def test_densenet121_trains_a_few_steps(small_sources: Path) -> None:
    config = load_config(
        small_sources / "run.yaml",
        ["model.backbone=densenet121", "views.size=32", "train.epochs=1", "train.steps_per_epoch=3",
         "loss.warmup_epochs=0"],
    )  # fmt: skip
    result = train_run(config, small_sources / "out", resume=False, console=QUIET)
    assert result.outcome.steps == 3
    assert float(_metrics(small_sources / "out")[0]["train_consistency"]) > 0
