"""Parts of a batch add up to the batch."""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from labelassemble.loss import PartialLabelLoss
from labelassemble.training.accumulate import Counts, count, split
from labelassemble.views.batch import Batch

NAN = float("nan")


def _batch(images: int, known_share: float, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    weak, strong = torch.randn(2, images, 3, dtype=torch.float64, generator=generator).unbind()
    targets = (torch.rand(images, 3, generator=generator) < 0.5).double()
    targets[torch.rand(images, 3, generator=generator) >= known_share] = NAN
    return weak, strong, targets


@given(
    images=st.integers(1, 12),
    parts=st.integers(1, 5),
    known_share=st.sampled_from([0.0, 0.3, 1.0]),
    strong=st.booleans(),
)
def test_losses_and_gradients_of_parts_add_up_to_those_of_the_batch(
    images: int, parts: int, known_share: float, strong: bool
) -> None:
    weak, other, targets = _batch(images, known_share)
    criterion = PartialLabelLoss(
        pseudo_weight=0.7,
        consistency_weight=0.3,
        pos_weight=torch.tensor([1.0, 2.0, 0.5], dtype=torch.float64),
        class_weight=torch.tensor([1.0, 0.2, 3.0], dtype=torch.float64),
    )
    weak.requires_grad_()
    other.requires_grad_()
    whole = criterion.terms(weak, other if strong else None, targets)
    expected = torch.autograd.grad(whole.total, [weak, other], allow_unused=True)
    counts, sums = count(targets), torch.zeros(6, dtype=torch.float64)
    batch = Batch(0, torch.arange(images), weak, other if strong else None, targets)
    for part in split(batch, parts, keep_empty=True):
        divisors = counts.divisors(count(part.targets))
        terms = criterion.terms(part.weak, part.strong, part.targets, counts=divisors)
        terms.total.backward()
        sums += torch.stack([term.detach().double() for term in terms])
    torch.testing.assert_close(
        sums, torch.stack([term.detach().double() for term in whole]), rtol=1e-12, atol=0
    )
    for tensor, gradient in zip([weak, other], expected, strict=True):
        if gradient is not None:
            torch.testing.assert_close(tensor.grad, gradient, rtol=1e-12, atol=1e-16)


def test_means_of_parts_would_be_another_loss() -> None:
    """What the sums over global counts are for: known labels lie unevenly among the parts."""
    weak, strong, _ = _batch(4, 1.0)
    targets = torch.full((4, 3), NAN, dtype=torch.float64)
    targets[0], targets[3, 0] = 1.0, 0.0
    criterion = PartialLabelLoss()
    whole = criterion(weak, strong, targets)
    means = (criterion(weak[:2], strong[:2], targets[:2]) + criterion(weak[2:], strong[2:], targets[2:])) / 2
    assert abs(float(means - whole)) > 0.01


def test_parts_without_an_image_are_left_out_or_kept() -> None:
    batch = Batch(3, torch.arange(2), torch.zeros(2, 1, 4, 4), None, torch.zeros(2, 3))
    assert [len(part.rows) for part in split(batch, 4, keep_empty=False)] == [1, 1]
    assert [len(part.rows) for part in split(batch, 4, keep_empty=True)] == [1, 1, 0, 0]
    assert [part.step for part in split(batch, 2, keep_empty=False)] == [3, 3]
    assert count(torch.tensor([[1.0, NAN], [NAN, NAN]])) == Counts(images=2, known=1, unknown=3)


def _losses(run: Path) -> list[float]:
    with (run / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return [float(row[name]) for row in rows for name in ("train_loss", "train_bce", "train_consistency")]


@pytest.mark.parametrize("parts", [2, 3])
def test_a_network_without_batch_norm_learns_the_same_in_parts(
    train: Callable[..., Any], tmp_path: Path, parts: int
) -> None:
    torch.manual_seed(1)
    whole = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.Tanh(), nn.Linear(16, 3))
    divided = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.Tanh(), nn.Linear(16, 3))
    divided.load_state_dict(whole.state_dict())
    (tmp_path / "parts").mkdir()
    train(whole)
    train(divided, folder="parts", accumulate=parts)
    assert _losses(tmp_path / "parts") == pytest.approx(_losses(tmp_path / "run"), rel=1e-5)
    for one, two in zip(whole.parameters(), divided.parameters(), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-6)
