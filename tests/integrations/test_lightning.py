"""Lightning's Trainer comes to the numbers of ours."""

import csv
import importlib
import re
import socket
import sys
from collections.abc import Mapping
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console

from labelassemble.config import Config, load_config
from labelassemble.errors import LabelAssembleError
from labelassemble.run import train_run
from labelassemble.training.checkpoint import load_checkpoint

lightning = pytest.importorskip("lightning")
sys.path.insert(0, str(Path(__file__).parent))
import lightning_processes  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")  # of Lightning: few steps, one worker, no GPU in use
QUIET = Console(quiet=True)
EXACT = ["train.precision=float32", "train.channels_last=false", "train.device=cpu"]


def fit(config: Config, folder: Path, **changed: Any) -> tuple[dict[str, torch.Tensor], Mapping[str, Any]]:
    """Train by Lightning, and return the network's state and what was logged last."""
    from labelassemble.integrations.lightning import from_config

    parts = from_config(config)
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    arguments = parts.trainer | quiet | {"enable_model_summary": False, "default_root_dir": folder} | changed
    trainer = lightning.Trainer(**arguments)
    trainer.fit(parts.module, parts.data)
    return parts.module.net.state_dict(), trainer.callback_metrics


def test_two_epochs_have_the_numbers_of_our_trainer(
    small_sources: Path, one_thread: None, no_pages: None
) -> None:
    config = load_config(small_sources / "run.yaml", [*EXACT, "loss.ramp_epochs=2", "train.query_lr=0.1"])
    ours = small_sources / "ours"
    train_run(config, ours, resume=False, console=QUIET)
    expected = load_checkpoint(ours / "checkpoints" / "last.pt")["model"]
    with (ours / "metrics.csv").open(newline="") as file:
        last = list(csv.DictReader(file))[-1]
    found, logged = fit(config, small_sources)
    assert list(found) == list(expected)
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    for name in ("train_loss", "train_bce", "train_pseudo", "train_consistency", "val_loss", "val_auc_mean"):
        np.testing.assert_allclose(float(logged[name]), float(last[name]), rtol=1e-6, err_msg=name)
    assert float(last["train_consistency"]) > 0  # the second epoch is past the warm-up
    assert float(logged["val_auc/square"]) == pytest.approx(float(last["val_auc:square"]))


def test_validation_images_without_a_label_train_as_in_our_trainer(
    small_sources: Path, one_thread: None, no_pages: None
) -> None:
    for name in ("north", "south"):
        table = small_sources / f"{name}.csv"
        table.write_text(re.sub(",val,[01]$", ",val,", table.read_text(), flags=re.MULTILINE))
    config = load_config(small_sources / "run.yaml", EXACT)
    ours = small_sources / "ours"
    train_run(config, ours, resume=False, console=QUIET)
    expected = load_checkpoint(ours / "checkpoints" / "last.pt")["model"]
    found, logged = fit(config, small_sources)
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert "train_loss" in logged
    assert "val_loss" not in logged


def test_what_lightning_cannot_honour_is_refused(small_sources: Path) -> None:
    from labelassemble.integrations.lightning import from_config

    path = small_sources / "run.yaml"
    with pytest.raises(LabelAssembleError, match=r"^train\.ema is of labelassemble train alone"):
        from_config(load_config(path, ["train.ema=0.9"]))
    with pytest.raises(LabelAssembleError, match=r"^train\.accumulate is of labelassemble train alone"):
        from_config(load_config(path, ["train.accumulate=2"]))
    with pytest.raises(LabelAssembleError, match=r"accumulate_grad_batches must be 1, .* got 2: "):
        fit(load_config(path, EXACT), small_sources, accumulate_grad_batches=2)


def test_arguments_of_the_trainer(small_sources: Path) -> None:
    from labelassemble.integrations.lightning import from_config

    overrides = ["train.clip_norm=1.5", "train.precision=bfloat16", "train.device=cpu"]
    parts = from_config(load_config(small_sources / "run.yaml", overrides))
    assert parts.trainer == {
        "max_epochs": 2,
        "gradient_clip_val": 1.5,
        "accelerator": "cpu",
        "precision": "bf16-mixed",
    }


def test_gradients_of_float16_are_clipped(small_sources: Path, no_pages: None) -> None:
    from lightning.pytorch.plugins.precision import MixedPrecision

    overrides = ["train.clip_norm=1.0", "train.device=cpu", "train.epochs=1", "model.backbone=cnn_small"]
    config = load_config(small_sources / "run.yaml", overrides)
    scaled = MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu"))  # as Lightning takes it on a GPU
    _, logged = fit(config, small_sources, plugins=[scaled], precision=None)
    assert np.isfinite(float(logged["train_loss"]))


def test_without_lightning_the_import_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lightning", None)
    monkeypatch.delitem(sys.modules, "labelassemble.integrations.lightning", raising=False)
    with pytest.raises(
        ModuleNotFoundError, match=r"needs Lightning .*: pip install 'labelassemble\[lightning\]'"
    ):
        importlib.import_module("labelassemble.integrations.lightning")


def test_the_pages_code_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    page = (Path(__file__).parents[2] / "docs" / "howto" / "lightning.md").read_text(encoding="utf-8")
    code = re.findall(r"^```python\n(.*?)^```$", page, flags=re.MULTILINE | re.DOTALL)
    exec(compile(code[1], "lightning.md", "exec"), {"__name__": "__page__"})


def test_two_processes_have_the_weights_of_one(
    small_sources: Path, one_thread: None, forking: ForkServerContext
) -> None:
    expected = lightning_processes.weights_of(small_sources, 1)
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    # Not a fork of this process: a torch with CUDA refuses gradients in one after it has computed some itself.
    together = forking.Barrier(2)
    begin = lightning_processes.begin
    begun = [forking.Process(target=begin, args=(rank, port, small_sources, together)) for rank in (0, 1)]
    for process in begun:
        process.start()
    for process in begun:
        process.join(300)
        process.kill()
    assert [process.exitcode for process in begun] == [0, 0]
    for rank in (0, 1):
        torch.testing.assert_close(torch.load(small_sources / f"{rank}.pt"), expected, rtol=1e-5, atol=1e-6)
