"""A run that is killed (SIGKILL) again and again ends as one that never was, bit for bit."""

import csv
import os
import signal
from collections.abc import Callable
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from labelassemble.config import load_config
from labelassemble.run import train_run
from labelassemble.run import training as run_module
from labelassemble.training import checkpoint
from labelassemble.training.checkpoint import load_checkpoint
from labelassemble.training.display import Display
from labelassemble.training.history import History
from labelassemble.training.validation import Validation

# Everything that a checkpoint has to hold, on: the sums of an epoch, average, scaler, sampler, parts, plateau.
OPTIONS = [
    "train.epochs=3", "train.batch_size=8", "train.ema=0.9", "train.accumulate=2", "train.clip_norm=1.0",
    "train.sampling=balanced", "train.checkpoint_every=2", "train.plateau={factor: 0.5, patience: 0}",
]  # fmt: skip


def _die(*_: Any, **__: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _die_after_step(done: int) -> None:
    step = Display.step

    def dying(self: Display, epoch: int, now: int, *terms: Any, **others: Any) -> None:
        step(self, epoch, now, *terms, **others)
        if now == done:
            _die()

    Display.step = dying  # type: ignore[method-assign]


def _die_in_write(number: int) -> None:
    """Die when half of a checkpoint is written, the `number`th from now."""
    write, begun = checkpoint._Hashing.write, []

    def dying(self: Any, data: bytes) -> int:
        if not any(one is self for one in begun):
            begun.append(self)
        if len(begun) == number and len(data) > 500:
            write(self, data[: len(data) // 2])
            self.flush()
            _die()
        return write(self, data)

    checkpoint._Hashing.write = dying  # type: ignore[method-assign]


def _die_before_rename(number: int) -> None:
    replace, calls = os.replace, []

    def dying(source: Any, target: Any) -> None:
        calls.append(target)
        if len(calls) == number:
            _die()
        replace(source, target)

    checkpoint.os.replace = dying  # type: ignore[attr-defined]


def _die_in_validation(_: int) -> None:
    Validation.scores = _die  # type: ignore[assignment]


def _die_after_metrics(_: int) -> None:
    add = History.add

    def dying(self: History, row: Any) -> None:
        add(self, row)
        _die()

    History.add = dying  # type: ignore[method-assign]


# Three steps an epoch; what the next is killed at stands where the last one's checkpoint left off.
MOMENTS: list[tuple[Callable[[int], None], int]] = [
    (_die_after_step, 1),  # before there is any checkpoint
    (_die_in_write, 1),  # in the first checkpoint that there ever was
    (_die_in_validation, 0),
    (_die_after_metrics, 0),  # the row is written, the checkpoint is not
    (_die_in_write, 1),
    (_die_in_write, 2),  # best.pt is written, last.pt is not
    (_die_after_step, 5),
    (_die_before_rename, 2),  # a checkpoint is whole under its other name
    (_die_in_validation, 0),
]


def _train(
    folder: Path, overrides: list[str], resume: bool, moment: tuple[Callable[[int], None], int] | None
) -> None:
    torch.set_num_threads(1)
    run_module.evaluate_run = lambda run, table: None  # type: ignore[assignment]  # what comes after training
    if moment is not None:
        moment[0](moment[1])
    config = load_config(folder / "run.yaml", overrides)
    train_run(
        config,
        folder / ("killed" if moment or resume else "whole"),
        resume=resume,
        console=Console(quiet=True),
    )


def _metrics(run: Path) -> list[dict[str, str]]:
    with (run / "metrics.csv").open(newline="") as file:
        return [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]


def _same(one: Any, two: Any, where: str = "") -> None:
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, two), where
    elif isinstance(one, dict):
        assert list(one) == list(two), where
        for key in one:
            if key != "seconds":
                _same(one[key], two[key], f"{where}/{key}")
    elif isinstance(one, (list, tuple)):
        assert len(one) == len(two), where
        for index, pair in enumerate(zip(one, two, strict=True)):
            _same(*pair, f"{where}/{index}")
    else:
        assert one == two, where


@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_a_run_that_is_killed_ends_as_one_that_never_was(
    small_sources: Path, forking: ForkServerContext, precision: str
) -> None:
    overrides = [*OPTIONS, f"train.precision={precision}"]
    moments = MOMENTS if precision == "float32" else MOMENTS[3::4]

    def run(resume: bool, moment: tuple[Callable[[int], None], int] | None) -> int | None:
        process = forking.Process(target=_train, args=(small_sources, overrides, resume, moment))
        process.start()
        process.join(120)
        return process.exitcode

    assert run(False, None) == 0
    for number, moment in enumerate(moments):
        assert run((small_sources / "killed").exists(), moment) == -signal.SIGKILL, f"moment {number}"
    assert run(True, None) == 0
    whole, killed = small_sources / "whole", small_sources / "killed"
    assert len(_metrics(whole)) == 3
    assert _metrics(killed) == _metrics(whole)
    for name in ("last.pt", "best.pt"):
        _same(load_checkpoint(whole / "checkpoints" / name), load_checkpoint(killed / "checkpoints" / name))
    assert {path.name for path in (killed / "checkpoints").iterdir()} == {
        "last.pt",
        "last.previous.pt",
        "best.pt",
    }
