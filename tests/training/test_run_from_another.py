"""`labelassemble train CONFIG --from RUN`: a disease that is added later."""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from rich.console import Console

from labelassemble.cli import main
from labelassemble.config import load_config
from labelassemble.errors import LabelAssembleError
from labelassemble.run import export_run, load_trained, train_run
from labelassemble.training.interrupt import TrainingInterrupted
from labelassemble.training.start import read_origin

QUIET = Console(quiet=True)
NEW = ("classes=[stripe, square]", "interest=[stripe]")


@pytest.fixture(scope="module")
def trained_once(
    tmp_path_factory: pytest.TempPathFactory, write_small_sources: Callable[[Path], Path]
) -> Path:
    folder = write_small_sources(tmp_path_factory.mktemp("old"))
    text = (folder / "run.yaml").read_text()
    (folder / "old.yaml").write_text(text.replace("  - {name: south, reader: csv, path: south.csv}\n", ""))
    train_run(load_config(folder / "old.yaml"), folder / "old", resume=False, console=QUIET)
    return folder / "old"


@pytest.fixture
def learnt(small_sources: Path, trained_once: Path) -> Path:
    """A run that knows squares alone, a copy for each test."""
    return Path(shutil.copytree(trained_once, small_sources / "old"))


def _images(count: int = 6) -> torch.Tensor:
    return torch.randn(count, 1, 16, 16, generator=torch.Generator().manual_seed(1))


@pytest.mark.pages
def test_a_new_class_learns_alone(small_sources: Path, learnt: Path) -> None:
    config = load_config(small_sources / "run.yaml", [*NEW, "train.freeze_known=true"])
    run = small_sources / "new"
    train_run(config, run, resume=False, console=QUIET, start_from=learnt)
    before, after = load_trained(learnt).net, load_trained(run).net
    assert after.classes == ("stripe", "square")
    torch.testing.assert_close(after(_images())[:, 1:], before(_images()), rtol=0, atol=1e-6)
    for key, value in before.backbone.state_dict().items():
        assert torch.equal(after.backbone.state_dict()[key], value), key
    origin = read_origin(run / "from.json")
    assert origin is not None
    assert (origin.run, origin.kept, origin.added) == (str(learnt.resolve()), ("square",), ("stripe",))
    assert json.loads((run / "environment.json").read_text())["from"]["added"] == ["stripe"]
    assert str(learnt.resolve()) in (run / "report.html").read_text(encoding="utf-8")
    assert export_run(run).metadata.classes == ("stripe", "square")


@pytest.mark.parametrize(
    "option", ["train.freeze_known=true", "train.freeze_backbone=true", "train.epochs=2"]
)
def test_resuming_needs_neither_the_option_nor_the_other_run(
    small_sources: Path, learnt: Path, option: str
) -> None:
    config = load_config(small_sources / "run.yaml", [*NEW, option])
    whole, part = small_sources / "whole", small_sources / "part"
    train_run(config, whole, resume=False, console=QUIET, start_from=learnt)

    one = config.model_copy(update={"train": config.train.model_copy(update={"epochs": 1})})
    train_run(one, part, resume=False, console=QUIET, start_from=learnt)
    (part / "config.yaml").write_text(config.to_yaml())
    shutil.rmtree(learnt)
    train_run(config, part, resume=True, console=QUIET)
    states = [torch.load(run / "checkpoints/last.pt", weights_only=True)["model"] for run in (whole, part)]
    assert all(torch.equal(states[0][key], value) for key, value in states[1].items())


def test_a_run_stopped_before_its_first_checkpoint_begins_from_there_again(
    small_sources: Path, learnt: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*arguments: object, **more: object) -> None:
        raise TrainingInterrupted(0, 0)

    config = load_config(small_sources / "run.yaml", [*NEW, "train.freeze_known=true", "train.epochs=1"])
    run = small_sources / "new"
    with monkeypatch.context() as patch:
        patch.setattr("labelassemble.run.training.fit", stop)
        with pytest.raises(TrainingInterrupted):
            train_run(config, run, resume=False, console=QUIET, start_from=learnt)
    train_run(config, run, resume=True, console=QUIET)
    before, after = load_trained(learnt).net, load_trained(run).net
    torch.testing.assert_close(after(_images())[:, 1:], before(_images()), rtol=0, atol=1e-6)


def test_the_command_line_says_what_is_kept_and_added(
    small_sources: Path, learnt: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["train", small_sources / "run.yaml", *NEW, "train.epochs=1", "train.freeze_backbone=true"]
    arguments += ["--from", learnt, "-o", small_sources / "new"]
    monkeypatch.setattr(sys, "argv", ["labelassemble", *map(str, arguments)])
    with pytest.raises(SystemExit, match=r"^0$"):
        main()
    said = (
        f"Goes on from {learnt.resolve()} after epoch {load_trained(learnt).epoch}: keeps square; adds stripe"
    )
    assert said in capsys.readouterr().out


def test_mistakes_leave_no_run_behind(small_sources: Path, learnt: Path) -> None:
    run = small_sources / "new"

    def refused(*overrides: str, match: str, start_from: Path | None = learnt, resume: bool = False) -> None:
        def train() -> None:
            config = load_config(small_sources / "run.yaml", [*NEW, *overrides])
            train_run(config, run, resume=resume, console=QUIET, start_from=start_from)

        with pytest.raises(LabelAssembleError, match=match):
            train()
        assert not run.exists()

    refused("train.freeze_known=true", match="give that run with --from", start_from=None)
    refused(
        "train.freeze_known=true", "train.weight_decay=0.1", match="weight_decay must be 0 with freeze_known"
    )
    refused("model.head=linear", match="head of the run that it goes on from, class_query, got linear")
    refused("views.size=32", match=r"views\.size must be that of the run that it goes on from, 16, got 32")
    refused(match="leave one of them out", resume=True)
    refused(match="holds no trained model", start_from=small_sources)


def test_a_damaged_note_is_named(tmp_path: Path) -> None:
    assert read_origin(tmp_path / "from.json") is None
    (tmp_path / "from.json").write_text("{")
    with pytest.raises(LabelAssembleError, match=r"from\.json: does not say where the run goes on from"):
        read_origin(tmp_path / "from.json")
