"""Training from a configuration with each head: a report, and the commands that come after."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from rich.console import Console

from labelassemble.config import load_config
from labelassemble.data.table import Table
from labelassemble.errors import LabelAssembleError
from labelassemble.run import evaluate_run, export_run, load_trained, train_run
from labelassemble.training.source_labels import labels_by_source

QUIET = Console(quiet=True)


@pytest.mark.pages
@pytest.mark.parametrize("head", ["linear", "multi_network", "source_heads", "task_code"])
def test_a_run_with_each_head(small_sources: Path, head: str) -> None:
    run = small_sources / "out"
    config = load_config(small_sources / "run.yaml", [f"model.head={head}"])
    result = train_run(config, run, resume=False, console=QUIET)
    assert result.evaluation is not None
    assert f"densenet_small, head {head}" in (run / "report.html").read_text(encoding="utf-8")

    trained = load_trained(run)
    by_source = head in ("multi_network", "source_heads")
    assert trained.net.needs_sources == by_source
    assert trained.net.sources == ({"north": ("square",), "south": ("stripe",)} if by_source else {})
    before = (run / "predictions.csv").read_bytes()
    evaluate_run(run)
    assert (run / "predictions.csv").read_bytes() == before
    assert export_run(run).metadata.difference <= 1e-5


def test_a_head_by_source_learns_from_known_labels_alone(small_sources: Path) -> None:
    config = load_config(small_sources / "run.yaml", ["model.head=source_heads"])
    assert (config.loss.pseudo_weight, config.loss.consistency_weight) == (0, 0)
    assert load_config(small_sources / "run.yaml").loss.pseudo_weight == 1
    with pytest.raises(
        LabelAssembleError,
        match=r"'loss\.consistency_weight' must be 0 or left out with model\.head multi_network, .* got 0\.5",
    ):
        load_config(small_sources / "run.yaml", ["model.head=multi_network", "loss.consistency_weight=0.5"])


def test_resuming_repeats_a_head_by_source(small_sources: Path) -> None:
    config = load_config(small_sources / "run.yaml", ["model.head=multi_network"])
    whole = small_sources / "whole"
    train_run(config, whole, resume=False, console=QUIET)
    part = small_sources / "part"
    short = load_config(small_sources / "run.yaml", ["model.head=multi_network", "train.epochs=1"])
    train_run(short, part, resume=False, console=QUIET)
    (part / "config.yaml").write_text(config.to_yaml())
    train_run(config, part, resume=True, console=QUIET)
    states = [torch.load(run / "checkpoints/last.pt", weights_only=True)["model"] for run in (whole, part)]
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


def _table(sources: list[str], labels: list[list[int]]) -> Table:
    names = np.array([f"image{row}" for row in range(len(sources))])
    return Table(
        classes=("A", "B"),
        paths=names,
        names=names,
        groups=names,
        splits=np.full(len(names), "train"),
        sources=np.array(sources),
        labels=np.array(labels, dtype=np.int8),
        origins=np.zeros((len(names), 2), dtype=np.uint8),
    )


def _merged(*rows: tuple[str, str, str]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["kept", "kept_source", "merged_source"])


def test_an_image_that_two_sources_have_adds_no_class_to_the_first() -> None:
    table = _table(["x", "x", "y", "z"], [[1, -1], [0, 1], [-1, 0], [-1, -1]])
    own = labels_by_source(table, table.targets(), _merged(("image1", "x", "y")))
    assert own.classes == {"x": ("A",), "y": ("B",)}
    assert own.indices.tolist() == [0, 0, 1, -1]
    nan = float("nan")
    np.testing.assert_array_equal(
        own.targets, np.array([[1, nan], [0, nan], [nan, 0], [nan, nan]], np.float32)
    )
    assert own.foreign == 1
    # Within one source a duplicate is the source's own affair.
    assert labels_by_source(table, table.targets(), _merged(("image1", "x", "x"))).classes["x"] == ("A", "B")


def test_a_class_on_shared_images_alone_is_kept() -> None:
    table = _table(["x", "x"], [[1, 1], [0, -1]])
    own = labels_by_source(table, table.targets(), _merged(("image0", "x", "y")))
    assert own.classes == {"x": ("A", "B")}
    assert own.foreign == 0
