"""A whole run over sources in which some files cannot be read."""

import csv
import logging
import re
from pathlib import Path

import pytest
from rich.console import Console

from labelassemble.config import load_config
from labelassemble.data.table import Table
from labelassemble.errors import LabelAssembleError
from labelassemble.report.text import evaluation_text
from labelassemble.run import evaluate_run, train_run
from labelassemble.training.checkpoint import load_checkpoint
from labelassemble.training.history import EpochRow, History

QUIET = Console(quiet=True)
BAD = ("north-0.png", "north-4.png", "north-6.png")  # one of train, val and test


@pytest.fixture
def damaged(small_sources: Path) -> Path:
    for name in BAD:
        path = small_sources / "images" / name
        path.write_bytes(path.read_bytes()[:60])
    return small_sources


@pytest.mark.pages
@pytest.mark.parametrize("backend", ["torch", pytest.param("dali", marks=pytest.mark.dali)])
def test_bad_files_are_named_and_left_out_of_training_and_evaluation(
    damaged: Path, backend: str, caplog: pytest.LogCaptureFixture
) -> None:
    (damaged / "images" / BAD[0]).unlink()
    config = load_config(
        damaged / "run.yaml", [f"views.backend={backend}", "views.bad_files_limit=0.1", "train.epochs=1"]
    )
    result = train_run(config, damaged / "out", resume=False, console=QUIET)
    assert result.evaluation is not None
    with (damaged / "out" / "metrics.csv").open(newline="") as file:
        row = next(csv.DictReader(file))
    assert row["train_known"] == row["train_unknown"] == "23"
    assert float(row["val_loss"]) > 0
    with (damaged / "out" / "predictions.csv").open(newline="") as file:
        predicted = [Path(row["path"]).name for row in csv.DictReader(file)]
    assert len(predicted) == 22
    assert not set(predicted) & set(BAD)
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    for name in BAD:
        assert any(f"{name}: " in warning for warning in warnings), name
    out = damaged / "out"
    [lost] = [image for image in result.evaluation.unreadable if image.split == "test"]
    said = f"1 of {result.evaluation.images + 1} test images could not be read, so no figure counts it: {lost.path} ("
    assert said in (out / "report.html").read_text()
    assert said in re.sub(r"\\(.)", r"\1", (out / "model_card.md").read_text())
    assert said in evaluation_text(result.evaluation)
    assert "1 validation image could not be read, see unreadable.csv." in (out / "report.html").read_text()
    with (out / "unreadable.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert sorted(row["split"] for row in rows) == ["test", "val"]
    assert {Path(row["path"]).name for row in rows} < set(BAD)
    assert all(row["source"] == "north" and "damaged PNG image" in row["reason"] for row in rows)
    table = Table.from_csv(out / "table.csv")
    for path in table.paths[table.splits == "test"].tolist():
        Path(path).write_bytes(b"")
    with pytest.raises(
        LabelAssembleError, match=r"of \d+ images cannot be read, more than views.bad_files_limit"
    ):
        evaluate_run(out)


def test_a_run_stops_where_a_bad_file_is_to_stop_it(damaged: Path) -> None:
    config = load_config(damaged / "run.yaml", ["views.bad_files=stop"])
    with pytest.raises(LabelAssembleError, match=r"north-0\.png: damaged PNG image"):
        train_run(config, damaged / "out", resume=False, console=QUIET)


def test_too_many_bad_files_stop_a_run_with_a_list(damaged: Path) -> None:
    config = load_config(damaged / "run.yaml", ["views.bad_files_limit=0.01"])
    with pytest.raises(
        LabelAssembleError, match=r"1 of 24 images cannot be read, .* allows: .*north-0\.png: damaged"
    ):
        train_run(config, damaged / "out", resume=False, console=QUIET)


def _vanishing(monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    """Remove a file after the first epoch."""
    add = History.add

    def removing(self: History, row: EpochRow) -> None:
        add(self, row)
        path.unlink(missing_ok=True)

    monkeypatch.setattr(History, "add", removing)


def test_a_file_that_vanishes_in_training_is_left_out(
    small_sources: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    _vanishing(monkeypatch, small_sources / "images" / "north-0.png")
    config = load_config(
        small_sources / "run.yaml", ["views.cache_mb=0", "views.bad_files_limit=0.1", "train.epochs=3"]
    )
    train_run(config, small_sources / "out", resume=False, console=QUIET)
    with (small_sources / "out" / "metrics.csv").open(newline="") as file:
        known = [row["train_known"] for row in csv.DictReader(file)]
    # Batches are made two ahead, within an epoch alone: the first epoch has the file, the others lack it.
    assert known == ["24", "23", "23"]
    assert any("north-0.png: " in record.getMessage() for record in caplog.records)


def test_a_file_that_vanishes_stops_training_where_it_is_to(
    small_sources: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _vanishing(monkeypatch, small_sources / "images" / "north-0.png")
    config = load_config(
        small_sources / "run.yaml", ["views.cache_mb=0", "views.bad_files=stop", "train.epochs=3"]
    )
    with pytest.raises(LabelAssembleError, match=r"north-0\.png: "):
        train_run(config, small_sources / "out", resume=False, console=QUIET)
    assert load_checkpoint(small_sources / "out" / "checkpoints" / "last.pt")["epoch"] == 1
