"""What training makes of rules, sampling and the options that are not the paper's."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from torch import nn

from labelassemble.config import load_config
from labelassemble.data import Exclusions
from labelassemble.head import ClassQueryHead
from labelassemble.loss import LossOptions, PartialLabelLoss
from labelassemble.run import train_run
from labelassemble.training.accumulate import Counts
from labelassemble.training.checkpoint import load_checkpoint
from labelassemble.training.collapse import CollapseWatch, known_shares
from labelassemble.training.data import TrainingData
from labelassemble.training.losses import StepLoss


def _batch() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    weak, strong = (2 * torch.randn(6, 3, generator=generator) for _ in range(2))
    targets = torch.randint(-1, 2, (6, 3), generator=generator).float()
    return weak, strong, torch.where(targets < 0, torch.nan, targets)


def _step_loss(exclusions: Exclusions | None, **options: Any) -> StepLoss:
    loss = LossOptions.model_validate({"warmup_epochs": 0, "exclusive": True, **options})
    targets = np.full((10, 3), np.nan, np.float32)
    data = TrainingData(["a", "b", "c"], [], targets, exclusions)
    return StepLoss(loss, data, torch.device("cpu"))


def test_each_image_has_the_rules_of_its_own() -> None:
    matrices = np.zeros((2, 3, 3), np.bool_)
    matrices[1] = ~np.eye(3, dtype=np.bool_)
    exclusions = Exclusions(matrices, np.array([0, 1] * 5))
    rows = torch.tensor([9, 0, 3, 5, 2, 8])
    weak, strong, targets = _batch()
    step_loss = _step_loss(exclusions)
    counts = step_loss.count(targets)
    got = step_loss.terms(weak, strong, targets, rows=rows, part=counts, whole=counts)
    exclusive = torch.from_numpy(matrices)[rows % 2]
    assert torch.equal(got.total, PartialLabelLoss().terms(weak, strong, targets, exclusive=exclusive).total)
    plain = PartialLabelLoss().terms(weak, strong, targets).total
    assert not torch.equal(got.total, plain)
    off = _step_loss(exclusions, exclusive=False)
    assert torch.equal(off.terms(weak, strong, targets, rows=rows, part=counts, whole=counts).total, plain)


def test_warm_up_asks_for_the_strong_view_only_where_known_labels_learn_from_it() -> None:
    for strong_known in (False, True):
        step_loss = _step_loss(None, warmup_epochs=2, strong_known=strong_known)
        assert step_loss.strong == strong_known
        step_loss.begin(2)
        assert step_loss.strong


def test_parts_of_a_batch_know_the_known_labels_of_each_class_in_the_whole() -> None:
    weak, strong, targets = _batch()
    step_loss = _step_loss(None, known_mean="class", strong_known=True)
    whole = step_loss.count(targets)
    assert whole == Counts(6, int((~torch.isnan(targets)).sum()), int(torch.isnan(targets).sum()), whole[3])
    assert list(whole.known_by_class) == (~torch.isnan(targets)).sum(dim=0).tolist()
    total = step_loss.terms(weak, strong, targets, rows=torch.arange(6), part=whole, whole=whole).total
    parts = [
        step_loss.terms(
            weak[part],
            strong[part],
            targets[part],
            rows=torch.arange(6)[part],
            part=step_loss.count(targets[part]),
            whole=whole,
        ).total
        for part in (slice(0, 2), slice(2, 6))
    ]
    torch.testing.assert_close(sum(parts), total)


def _net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU(), ClassQueryHead(8, 3))


@pytest.mark.parametrize("query_lr", [1.0, 0.1, 0.0])
def test_queries_learn_at_their_own_rate(train: Callable[..., Any], query_lr: float) -> None:
    net = _net()
    before = [parameter.detach().clone() for parameter in (net[3].queries, net[3].weight)]
    train(net, steps=1, epochs=1, lr=1e-3, query_lr=query_lr)
    moved = [
        (parameter.detach() - old).abs().max().item()
        for parameter, old in zip((net[3].queries, net[3].weight), before, strict=True)
    ]
    assert moved == pytest.approx([query_lr * 1e-3, 1e-3], rel=0.01)  # Adam's first step is its rate


def test_the_head_alone_learns_its_queries_at_the_full_rate_where_nothing_else_is_trained(
    train: Callable[..., Any],
) -> None:
    net = _net()
    for name, parameter in net.named_parameters():
        parameter.requires_grad_(name == "3.queries")
    before = net[3].queries.detach().clone()
    train(net, steps=1, epochs=1, lr=1e-3, query_lr=0.1)
    assert (net[3].queries.detach() - before).abs().max().item() == pytest.approx(1e-3, rel=0.01)


def test_calling_a_class_far_too_often_is_said_once_after_three_epochs() -> None:
    targets = np.array([[1, np.nan], [0, np.nan], [0, 1], [0, 0]], np.float32)
    assert known_shares(targets) == [0.25, 0.5]
    assert known_shares(np.full((2, 1), np.nan, np.float32)) == [None]
    watch = CollapseWatch(["Edema", "Mass"], known=[0.05, None])
    assert watch.update([0.3, 0.9]) == []
    assert watch.update([0.3, 0.9]) == []
    warnings = watch.update([0.31, 0.9])
    assert len(warnings) == 1
    assert "'Edema' has been called present in unknown labels far more often" in warnings[0]
    assert "31.0% now against 5.0%" in warnings[0]
    assert watch.update([0.31, 0.9]) == []
    assert watch.update([0.14, 0.9]) == []  # within three times and 0.1
    again = CollapseWatch(["Edema", "Mass"], known=[0.05, None])
    again.load_state_dict(watch.state_dict())
    assert (again.over, again.runs) == ([0, 0], [0, 0])
    again.load_state_dict({"one_sided": [2, 0]})  # of a checkpoint before
    assert again.runs == [2, 0]


def _config(folder: Path, *overrides: str) -> Any:
    return load_config(folder / "run.yaml", ["train.epochs=3", *overrides])


def test_a_training_that_ends_early_on_purpose_goes_on_the_same(small_sources: Path) -> None:
    quiet = Console(quiet=True)
    whole = train_run(_config(small_sources), small_sources / "whole", resume=False, console=quiet)
    first = train_run(_config(small_sources), small_sources / "parts", resume=False, console=quiet, until=1)
    assert (first.outcome.epochs, first.evaluation) == (1, None)
    assert whole.outcome.epochs == 3
    train_run(_config(small_sources), small_sources / "parts", resume=True, console=quiet)
    one, two = (
        load_checkpoint(small_sources / name / "checkpoints" / "last.pt") for name in ("whole", "parts")
    )
    assert all(torch.equal(one["model"][name], two["model"][name]) for name in one["model"])
    predictions = [(small_sources / name / "predictions.csv").read_bytes() for name in ("whole", "parts")]
    assert predictions[0] == predictions[1]


@pytest.mark.parametrize(
    ("overrides", "warns"),
    [
        (["train.sampling=balanced"], True),
        (["train.sampling={north: 0.5}"], True),
        ([], False),
        (["train.sampling=balanced", "loss.pseudo_weight=0", "loss.consistency_weight=0"], False),
        (["train.sampling=balanced", "sources.0.exclusive=all"], False),
    ],
)
def test_shares_with_pseudo_labels_and_no_rule_are_a_warning(
    small_sources: Path, overrides: list[str], warns: bool
) -> None:
    console = Console(width=400, file=io.StringIO())
    config = _config(small_sources, *overrides)
    train_run(config, small_sources / "run", resume=False, console=console, until=1)
    assert isinstance(console.file, io.StringIO)
    assert ("in measurement that lowered the AUC" in console.file.getvalue()) == warns


def test_a_source_without_training_images_cannot_have_a_share(small_sources: Path) -> None:
    from labelassemble.errors import LabelAssembleError

    config = _config(small_sources, "train.sampling={nort: 0.5}")
    with pytest.raises(
        LabelAssembleError, match="no source 'nort' has training images, did you mean 'north'"
    ):
        train_run(config, small_sources / "run", resume=False, console=Console(quiet=True))
    assert not (small_sources / "run").exists()  # so that the corrected command begins


def test_validation_counts_no_assumed_label(small_sources: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from labelassemble.run import training

    given: list[np.ndarray] = []
    original = training.fit

    def noting(state: Any, views: Any, validation: Any, *others: Any, **options: Any) -> Any:
        given.append(validation.targets)
        return original(state, views, validation, *others, **options)

    monkeypatch.setattr(training, "fit", noting)
    table = (small_sources / "north.csv").read_text()
    lines = table.splitlines()
    row = next(index for index, line in enumerate(lines) if ",val," in line)
    lines[row] = lines[row][: lines[row].rindex(",")] + ",-2"
    (small_sources / "north.csv").write_text("\n".join(lines) + "\n")
    overrides = [
        "sources.0.exclusive=all",
        "sources.0.uncertain={square: ones}",
        "sources.1.assume={square: negative}",
    ]
    train_run(
        _config(small_sources, *overrides),
        small_sources / "run",
        resume=False,
        console=Console(quiet=True),
        until=1,
    )
    (targets,) = given
    known = ~np.isnan(targets)
    assert known.any(axis=0).all()
    assert known.sum(axis=1).max() == 1  # what its own source labels, and no more
    assert (known.sum(axis=1) == 0).sum() == 1  # the uncertain one


@pytest.mark.parametrize(
    ("overrides", "mixes", "said"),
    [
        ([], False, "Batches are shuffled, since no classes exclude each other"),
        (["sources.0.exclusive=all"], True, "Batches hold as much of every source, since"),
    ],
)
def test_automatic_sampling_goes_by_the_rules(
    small_sources: Path,
    monkeypatch: pytest.MonkeyPatch,
    overrides: list[str],
    mixes: bool,
    said: str,
) -> None:
    from labelassemble.run import training

    given: list[Any] = []
    original = training.Sampler

    def noting(*arguments: Any, **options: Any) -> Any:
        given.append(options["sources"])
        return original(*arguments, **options)

    monkeypatch.setattr(training, "Sampler", noting)
    console = Console(width=400, file=io.StringIO())
    config = _config(small_sources, "train.epochs=1", *overrides)
    assert config.train.sampling == "auto"
    train_run(config, small_sources / "run", resume=False, console=console, until=1)
    assert (given[0] is not None) == mixes
    assert isinstance(console.file, io.StringIO)
    assert said in console.file.getvalue()
