"""A run that learns from masks, end to end on made-up slices: what it leaves, resuming, what goes wrong."""

import csv
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console

from labelassemble.config import load_config
from labelassemble.errors import LabelAssembleError
from labelassemble.run import load_trained, train_run
from labelassemble.run.folder import load_segmenter
from labelassemble.training.checkpoint import load_checkpoint
from labelassemble.training.display import Display
from labelassemble.training.interrupt import TrainingInterrupted

pytest.importorskip("monai")
sys.path.insert(0, str(Path(__file__).parent))
from made_slices import write_slices

QUIET = Console(quiet=True)


def _metrics(run: Path) -> list[dict[str, str]]:
    with (run / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        row.pop("seconds")
    return rows


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the sources, with a whole run in `out`."""
    folder, threads = tmp_path_factory.mktemp("slices"), torch.get_num_threads()
    torch.set_num_threads(1)  # as in every test, or sums are in another order
    train_run(load_config(write_slices(folder)), folder / "out", resume=False, console=QUIET)
    torch.set_num_threads(threads)
    return folder


def test_a_run_leaves_what_later_commands_need(whole: Path) -> None:
    rows = _metrics(whole / "out")
    assert [row["pseudo_weight"] for row in rows] == ["0", "1"]
    # 14 training slices of one patch each; every voxel is labelled for one of the two classes
    assert {row["train_known"] for row in rows} == {row["train_unknown"] for row in rows} == {str(14 * 256)}
    assert float(rows[0]["train_consistency"]) == 0 < float(rows[1]["train_consistency"])
    assert 0 < float(rows[1]["train_dice"]) < 1
    for name in ("val_auc:disc", "val_auc:bar", "val_dice:disc", "val_dice:bar"):
        assert 0 <= float(rows[1][name]) <= 1
    trained = load_segmenter(whole / "out")
    assert trained.net.classes == ("disc", "bar")
    assert trained.volumes.patch == (16, 16)
    with pytest.raises(LabelAssembleError, match="is a run on volumes with masks"):
        load_trained(whole / "out")


def test_a_run_stopped_within_an_epoch_goes_on_bit_for_bit(
    whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = Display.step

    def signalled(self: Display, epoch: int, done: int, *terms: Any, **others: Any) -> None:
        step(self, epoch, done, *terms, **others)
        if done == 6:
            os.kill(os.getpid(), signal.SIGTERM)

    config, run = load_config(whole / "run.yaml"), whole / "parts"
    with monkeypatch.context() as patch:
        patch.setattr(Display, "step", signalled)
        with pytest.raises(TrainingInterrupted):
            train_run(config, run, resume=False, console=QUIET)
    state = load_checkpoint(run / "checkpoints" / "last.pt")
    assert (state["epoch"], state["step"]) == (1, 2)
    train_run(config, run, resume=True, console=QUIET)
    assert _metrics(run) == _metrics(whole / "out")
    for name in ("last.pt", "best.pt"):
        one, two = (load_checkpoint(whole / part / "checkpoints" / name) for part in ("out", "parts"))
        assert all(torch.equal(one["model"][key], two["model"][key]) for key in one["model"])


def test_a_run_goes_on_from_another_with_a_new_class(whole: Path) -> None:
    changes = ["sources.0.masks.labels={1: disc, 2: ring}", "train.epochs=1", "train.steps_per_epoch=1"]
    config = load_config(whole / "run.yaml", changes)
    train_run(config, whole / "more", resume=False, console=QUIET, start_from=whole / "out")
    origin = json.loads((whole / "more" / "from.json").read_text())
    assert (origin["kept"], origin["added"]) == (["disc", "bar"], ["ring"])
    assert load_segmenter(whole / "more").net.classes == ("disc", "ring", "bar")
    for change, sentence in (
        ("sources.1.masks.labels={3: beam}", "knows the class 'bar'"),
        ("volumes.window=[0, 255]", r"volumes\.window must be that of the run"),
    ):
        with pytest.raises(LabelAssembleError, match=sentence):
            train_run(
                load_config(whole / "run.yaml", [change]),
                whole / "no",
                resume=False,
                console=QUIET,
                start_from=whole / "out",
            )


def test_evaluate_and_predict_answer_from_the_command_line(
    whole: Path, cli: Callable[..., tuple[int, str, str]]
) -> None:
    run = whole / "out"
    before = (run / "predictions.csv").read_bytes()
    status, out, _ = cli("evaluate", run)
    assert status == 0
    assert "test split: 2 cases of 2 patients from 2 sources" in out
    assert "Lesions: found where" in out
    for name in ("lesions.csv", "detection.csv", "report.html", "model_card.md", "calibration.json"):
        assert (run / name).exists(), name
    assert (run / "predictions.csv").read_bytes() == before
    status, out, error = cli("predict", run, whole / "south-7.png", "-o", whole / "mask.nii.gz")
    assert status == 0
    assert out.startswith("path,score:disc,score:bar\n")
    assert "1 disc, 2 bar" in error
    assert (whole / "mask_probabilities.nii.gz").exists()
    with (run / "predictions.csv").open(newline="") as file:
        kept = next(row for row in csv.DictReader(file) if row["path"].endswith("south7"))
    assert float(out.split(",")[-1]) == pytest.approx(float(kept["probability:bar"]), rel=1e-6)
    slices = [whole / f"north-{index}.png" for index in (1, 2)]
    for arguments, sentence in (
        ((*slices, "-o", whole / "m.nii.gz"), "is the mask of one volume, got 2"),
        ((slices[0], "-o", whole / "m.png"), "its name must end in .nii.gz"),
        ((slices[0], "--uncalibrated"), "are for runs on images"),
    ):
        status, _, error = cli("predict", run, *arguments)
        assert status == 2
        assert sentence in error
    assert cli("predict", run, *slices, "-o", whole / "scores.csv")[0] == 0
    assert len((whole / "scores.csv").read_text().splitlines()) == 3


def test_evaluate_takes_other_cases(whole: Path, cli: Callable[..., tuple[int, str, str]]) -> None:
    run, other = whole / "out", whole / "other"
    other.mkdir()
    write_slices(other)
    (other / "data.yaml").write_text(
        "sources:\n  - {name: north, reader: volumes, path: north.csv, masks: {labels: {1: disc}}}\n"
        "volumes: {patch: [16, 16]}\n"
    )
    status, out, _ = cli("evaluate", run, "--data", other / "data.yaml", "--output", other / "out")
    assert status == 0
    assert "The run was trained or tuned on 9 of the 10 cases" in out
    assert "test split: 1 case of 1 patient from 1 source" in out
    rows = (other / "north.csv").read_text().replace("north", "west")
    (other / "west.csv").write_text(rows)
    for index in range(10):
        for name in (f"north-{index}.png", f"north-{index}-mask.png"):
            pixels = np.asarray(Image.open(other / name)).copy()
            pixels[0, 0] = 0 if "mask" in name else index + 1  # another file
            Image.fromarray(pixels).save(other / name.replace("north", "west"))
    (other / "data.yaml").write_text(
        "sources:\n  - {name: west, reader: volumes, path: west.csv, masks: {labels: {1: disc}}}\n"
        "volumes: {patch: [16, 16]}\n"
    )
    status, out, _ = cli("evaluate", run, "--data", other / "data.yaml", "--output", other / "out")
    assert status == 0
    assert "The data does not label these classes of the run, so they are left out: bar." in out
    assert "test split: 10 cases of 10 patients from 1 source" in out
    for name in ("data.yaml", "table.csv", "predictions.csv", "lesions.csv", "detection.csv", "report.html"):
        assert (other / "out" / name).exists(), name
    assert not (other / "out" / "model_card.md").exists()
    (other / "images.yaml").write_text("sources: [{name: west, reader: csv, path: west.csv}]\n")
    status, _, error = cli("evaluate", run, "--data", other / "images.yaml")
    assert status == 2
    assert "needs the section `volumes` too" in error


def test_a_patch_that_does_not_fit_the_network_is_named_before_anything_is_written(whole: Path) -> None:
    config = load_config(whole / "run.yaml", ["volumes.patch=[20, 16]"])
    with pytest.raises(LabelAssembleError, match=r"multiples of 8 .* got \[20, 16\]"):
        train_run(config, whole / "no", resume=False, console=QUIET)
    assert not (whole / "no").exists()


def test_patients_of_whom_no_voxel_is_known_train_and_are_not_counted(
    tmp_path: Path, cli: Callable[..., tuple[int, str, str]]
) -> None:
    config = write_slices(tmp_path)
    rng = np.random.default_rng(5)
    with (tmp_path / "north.csv").open("a") as file:
        for name, split in (("a", "train"), ("b", "val"), ("c", "test")):
            Image.fromarray(rng.integers(0, 255, (16, 16), np.uint8)).save(tmp_path / f"{name}.png")
            file.write(f"{name}.png,,{name},{split}\n")
    status, out, error = cli("train", config, "-o", tmp_path / "out", "train.epochs=1")
    assert status == 0, error
    (row,) = _metrics(tmp_path / "out")
    known, unknown = int(row["train_known"]), int(row["train_unknown"])
    assert known + unknown == 15 * 2 * 256
    assert 13 * 256 <= known <= 14 * 256  # a batch may take another case twice, in place of the unknown one
    assert np.isfinite(float(row["train_loss"]))
    assert "test split: 3 cases of 3 patients" in out
    with (tmp_path / "out" / "predictions.csv").open(newline="") as file:
        (mine,) = [row for row in csv.DictReader(file) if row["path"].endswith(":c")]
    assert (mine["label:disc"], mine["label:bar"]) == ("", "")
    assert 0 < float(mine["probability:disc"]) < 1
    with (tmp_path / "out" / "lesions.csv").open(newline="") as file:
        assert not [row for row in csv.DictReader(file) if "c.png" in str(row)]
