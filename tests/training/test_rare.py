"""Classes with few labelled positives can be left out of pseudo-labelling."""

import csv
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from labelassemble.loss import PartialLabelLoss
from labelassemble.training.losses import labelled_positives, withheld_classes, withhold

NAN = float("nan")
TARGETS = np.array([[1, 0, NAN], [1, NAN, 0.75], [NAN, 0, 0.25], [1, 0, 1]], np.float32)


def _net(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.Tanh(), nn.Linear(16, 3))


def _rows(run: Path) -> list[dict[str, str]]:
    with (run / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_positives_are_counted_by_class_and_too_few_are_withheld() -> None:
    positives = labelled_positives(TARGETS)
    assert positives == [3, 0, 2]
    withheld = withheld_classes(positives, 3)
    assert withheld is not None
    assert withheld.tolist() == [False, True, True]
    assert withheld_classes(positives, 0) is None
    assert withheld_classes([3, 4], 3) is None


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("threshold", [0.1, 0.5])
@pytest.mark.parametrize("views", [1, 2])
def test_a_withheld_class_teaches_by_its_known_labels_alone(
    dtype: torch.dtype, threshold: float, views: int
) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = [(3 * torch.randn(16, 3, generator=generator)).to(dtype).requires_grad_() for _ in range(views)]
    weak, strong = logits[0], logits[1] if views == 2 else None
    targets = (torch.rand(16, 3, generator=generator) < 0.5).to(dtype)
    targets[torch.rand(16, 3, generator=generator) < 0.5] = NAN
    withheld = torch.tensor([False, True, False])
    criterion = PartialLabelLoss(threshold=threshold)
    entries = PartialLabelLoss(threshold=threshold, reduction="none")

    plain = criterion.terms(weak, strong, targets)
    wanted = torch.autograd.grad(plain.total, logits)
    terms = criterion.terms(*withhold(weak, strong, targets, withheld), targets)
    found = torch.autograd.grad(terms.total, logits)

    unknown = torch.isnan(targets)
    assert terms.bce == plain.bce
    assert (terms.known, terms.unknown) == (plain.known, plain.unknown)
    of_class = torch.where(unknown, entries(weak, strong, targets), 0.0).sum(dim=0)[withheld].sum()
    expected = (plain.total - of_class / unknown.sum()).detach()
    torch.testing.assert_close(terms.total.detach(), expected, rtol=1e-5, atol=1e-7)
    silent = unknown & withheld
    for gradient, before in zip(found, wanted, strict=True):
        assert (gradient[silent] == 0).all()
        assert torch.equal(gradient[~silent], before[~silent])
        assert (before[silent] != 0).any()


def test_training_withholds_by_the_labels_says_so_and_reports_no_share(
    train: Callable[..., Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        train(_net(), epochs=5, loss={"warmup_epochs": 1, "min_positives": 3}, train_targets=TARGETS)
    said = [record.getMessage() for record in caplog.records]
    assert (
        "no pseudo-labels for classes with fewer than 3 labelled positives: 'south' (0), 'east' (2)" in said
    )
    last = _rows(tmp_path / "run")[-1]
    assert last["pseudo_positive:north"] != ""
    assert last["pseudo_positive:south"] == last["pseudo_positive:east"] == ""
    assert not any("'south' have all been" in line for line in said)


def test_with_every_class_withheld_training_is_masked_cross_entropy(
    train: Callable[..., Any], tmp_path: Path
) -> None:
    for folder in ("masked", "parts"):
        (tmp_path / folder).mkdir()
    withheld, masked, parts = _net(), _net(), _net()
    train(withheld, epochs=3, loss={"min_positives": 1})
    train(masked, folder="masked", epochs=3, loss={"pseudo_weight": 0.0, "consistency_weight": 0.0})
    train(parts, folder="parts", epochs=3, loss={"min_positives": 1}, accumulate=3)
    last = _rows(tmp_path / "run")[-1]
    assert (last["pseudo_weight"], last["train_pseudo"], last["train_consistency"]) == ("1", "0", "0")
    for net in (withheld, parts):
        for one, two in zip(net.parameters(), masked.parameters(), strict=True):
            torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-6)


def test_by_default_nothing_is_withheld(train: Callable[..., Any], tmp_path: Path) -> None:
    train(_net())
    assert float(_rows(tmp_path / "run")[-1]["train_pseudo"]) > 0


def test_collapse_does_not_come_to_a_withheld_class(train: Callable[..., Any]) -> None:
    """Few positives and biased logits: with pseudo-labels the logits of unknown labels sink, withheld they stay."""

    def sunk(min_positives: int) -> Tensor:
        net = _net()
        with torch.no_grad():
            net[3].bias.fill_(-1.0)  # type: ignore[operator, union-attr]
            net[3].weight.mul_(0.1)  # type: ignore[operator, union-attr]
        before = net[3].bias.detach().clone()  # type: ignore[operator, union-attr]
        options = {"warmup_epochs": 0, "min_positives": min_positives, "class_weight": {"north": 0.0}}
        train(net, epochs=3, loss=options)
        after: Tensor = net[3].bias  # type: ignore[assignment]
        return (after - before).detach()

    assert float(sunk(0)[1]) < float(sunk(1)[1])
