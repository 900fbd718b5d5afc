"""What training counts of [B, C] holds for voxels, [B, C, *spatial], also where an axis is as long as the classes."""

from typing import Any, Final

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from labelassemble.data import Exclusions
from labelassemble.loss import LossOptions, LossTerms
from labelassemble.training import running_means
from labelassemble.training.accumulate import Counts, count, split
from labelassemble.training.data import TrainingData
from labelassemble.training.dice import soft_dice_loss
from labelassemble.training.losses import StepLoss, withhold
from labelassemble.training.running_means import step_record
from labelassemble.views.batch import Batch

SIZES: Final = [(2, 3, 4, 3), (2, 3, 3, 5), (3, 3, 3, 3), (2, 3, 3, 2, 3)]
"""With three classes: the last axis, the one before, and all of them as long as there are classes."""

CLASSES: Final = ("a", "b", "c")


def _batch(size: tuple[int, ...]) -> tuple[Tensor, Tensor, Tensor]:
    """Logits of two views and targets in float64, with a known, a partly known and an unknown class in image 0."""
    weak, strong = (2 * torch.randn(size, dtype=torch.float64) for _ in range(2))
    targets = torch.randint(-1, 2, size).double()
    targets = torch.where(targets < 0, torch.nan, targets)
    targets[0, 1], targets[0, 2] = 0.0, torch.nan
    return weak, strong, targets


def _entries(size: tuple[int, ...]) -> list[tuple[int, ...]]:
    return list(np.ndindex(*size))


@pytest.mark.parametrize("size", SIZES)
def test_known_labels_are_counted_by_class(size: tuple[int, ...]) -> None:
    targets = _batch(size)[2]
    each = [0, 0, 0]
    for index in _entries(size):
        each[index[1]] += not np.isnan(targets[index].item())
    total = sum(each)
    assert count(targets, by_class=True) == Counts(size[0], total, targets.numel() - total, tuple(each))
    assert count(targets) == Counts(size[0], total, targets.numel() - total)
    empty = targets[:0]
    assert count(empty, by_class=True) == Counts(0, 0, 0, (0, 0, 0))


@pytest.mark.parametrize("size", SIZES)
def test_a_record_counts_voxels_by_class(size: tuple[int, ...]) -> None:
    weak, _, targets = _batch(size)
    weak[0, 2, 0, 0], weak[1, 0, 1, 1] = torch.inf, torch.nan
    expected = np.zeros((3, 3))
    for index in _entries(size):
        if np.isnan(targets[index].item()):
            expected[0, index[1]] += 1 / (1 + np.exp(-weak[index].item())) > 0.6
            expected[1, index[1]] += 1
        expected[2, index[1]] += not np.isfinite(weak[index].item())
    *values, dice = (torch.tensor(float(value), dtype=torch.float64) for value in range(7))
    record = step_record(LossTerms(*values), weak, targets, 0.6, dice)
    assert record.tolist() == [0, 1, 2, 3, *expected.flatten().tolist(), 6]


def test_a_record_takes_the_sums_that_are_there_and_makes_them_on_the_cpu_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Elsewhere class_sums is plain torch, with several tensors of floats where masks are enough."""
    weak, _, targets = _batch(SIZES[0])
    terms = LossTerms(*torch.zeros(6, dtype=torch.float64))
    monkeypatch.setattr(running_means, "class_sums", lambda *_: pytest.fail("called"))
    sums = torch.arange(18, dtype=torch.float64).reshape(6, 3)
    assert step_record(terms, weak, targets, 0.6, sums=sums)[4:7].tolist() == [12, 13, 14]
    terms = LossTerms(*(term.to("meta") for term in terms))
    assert step_record(terms, weak.to("meta"), targets.to("meta"), 0.6).shape == (14,)


@pytest.mark.parametrize("size", SIZES)
def test_withheld_classes_are_silent_in_every_voxel_and_no_others(size: tuple[int, ...]) -> None:
    weak, strong, targets = _batch(size)
    found = withhold(weak, strong, targets, torch.tensor([False, True, False]))
    for view, given in zip(found, (weak, strong), strict=True):
        assert view is not None
        for index in _entries(size):
            silent = index[1] == 1 and np.isnan(targets[index].item())
            assert view[index].item() == (-1e4 if silent else given[index].item())


def _sigmoid(z: float) -> float:
    return float(1 / (1 + np.exp(-z)))


def _plain(
    weak: NDArray[np.float64],
    strong: NDArray[np.float64],
    targets: NDArray[np.float64],
    *,
    withheld: frozenset[int],
    pos_weight: tuple[float, ...],
    class_weight: tuple[float, ...],
    exclusive: NDArray[np.bool_],  # [B, C, C]
    by_class: bool,
    dice_weight: float,
) -> float:
    """The loss of `StepLoss` with strong_known by a loop over the voxels, tau 0.5 and t 4."""
    size, classes = weak.shape, weak.shape[1]
    bce, known, unlabelled, unknown = np.zeros(classes), np.zeros(classes), 0.0, 0
    sums = np.zeros((2, 3, classes))
    for index in _entries(size):
        b, c, place = index[0], index[1], index[2:]
        y = targets[index]
        if not np.isnan(y):
            known[c] += 1
            for view, z in enumerate((weak[index], strong[index])):
                a = _sigmoid(z)
                bce[c] -= class_weight[c] * (pos_weight[c] * y * np.log(a) + (1 - y) * np.log(1 - a)) / 2
                sums[view, :, c] += (a * y, a, y)
            continue
        unknown += 1
        if c in withheld:
            continue
        a = _sigmoid(weak[index])
        pseudo = a + (1 - a) / 4 if a > 0.5 else a - a / 4
        for rival in range(classes):
            if not exclusive[b, c, rival]:
                continue
            theirs, label = weak[(b, rival, *place)], targets[(b, rival, *place)]
            called = not np.isnan(label) or (rival not in withheld and _sigmoid(theirs) > 0.5)
            present = label > 0.5 if not np.isnan(label) else called and theirs > weak[index]
            pseudo = 0.0 if present else pseudo
        unlabelled += class_weight[c] * ((a - pseudo) ** 2 + (_sigmoid(strong[index]) - pseudo) ** 2)
    there = known > 0
    first = (bce[there] / known[there]).mean() if by_class else bce.sum() / known.sum()
    dice = 1 - (2 * sums[:, 0] + 1e-5) / (sums[:, 1] + sums[:, 2] + 1e-5)
    second = (np.array(class_weight) * dice)[:, there].sum(axis=1).mean() / there.sum()
    return float(first + unlabelled / unknown + dice_weight * second)


@pytest.mark.parametrize("by_class", [False, True])
@pytest.mark.parametrize("size", SIZES)
def test_the_loss_of_a_step_is_that_of_a_plain_loop(size: tuple[int, ...], by_class: bool) -> None:
    weak, strong, targets = _batch(size)
    matrices = np.zeros((2, 3, 3), np.bool_)
    matrices[1, 0, 2] = matrices[1, 2, 0] = True
    pattern = np.array([1, 0, 1])[: size[0]]
    cases = np.array([[1, 1, np.nan], [1, 0, np.nan], [1, 1, 1]], np.float32)[: size[0]]
    cases[:, 2] = np.where(np.arange(size[0]) == 0, 1, np.nan)  # one labelled positive: withheld below two
    options: dict[str, Any] = {
        "warmup_epochs": 0,
        "strong_known": True,
        "exclusive": True,
        "min_positives": 2,
        "known_mean": "class" if by_class else "entry",
        "pos_weight": {"a": 3.0},
        "class_weight": {"b": 0.5, "c": 2.0},
        "dice_weight": 0.7,
    }
    data = TrainingData(CLASSES, [], cases, Exclusions(matrices, pattern))
    step_loss = StepLoss(LossOptions.model_validate(options), data, torch.device("cpu"))
    assert step_loss.withheld is not None
    counts = step_loss.count(targets)
    weak.requires_grad_()
    rows = torch.arange(size[0])
    terms = step_loss.terms(weak, strong, targets, rows=rows, part=counts, whole=counts)
    expected = _plain(
        weak.detach().numpy(),
        strong.numpy(),
        targets.numpy(),
        withheld=frozenset(np.flatnonzero(step_loss.withheld.numpy()).tolist()),
        pos_weight=(3.0, 1.0, 1.0),
        class_weight=(1.0, 0.5, 2.0),
        exclusive=matrices[pattern],
        by_class=by_class,
        dice_weight=0.7,
    )
    assert terms.total.item() == pytest.approx(expected, rel=1e-9)
    terms.total.backward()  # type: ignore[no-untyped-call]
    assert weak.grad is not None
    silent = torch.isnan(targets) & step_loss.withheld.view(-1, *[1] * (len(size) - 2))
    assert not weak.grad[silent].any()


@pytest.mark.parametrize("size", SIZES)
def test_parts_add_up_to_the_whole_loss(size: tuple[int, ...]) -> None:
    weak, strong, targets = _batch(size)
    data = TrainingData(CLASSES, [], np.ones((size[0], 3), np.float32))
    options = LossOptions(warmup_epochs=0, strong_known=True, known_mean="class")
    step_loss = StepLoss(options, data, torch.device("cpu"))
    whole = step_loss.count(targets)
    rows = torch.arange(size[0])
    total = step_loss.terms(weak, strong, targets, rows=rows, part=whole, whole=whole).total
    parts = list(split(Batch(0, rows, weak, strong, targets), 2, keep_empty=True))
    found = [
        step_loss.terms(
            part.weak,
            part.strong,
            part.targets,
            rows=part.rows,
            part=step_loss.count(part.targets),
            whole=whole,
        ).total.item()
        for part in parts
    ]
    assert len(found) == 2
    assert sum(found) == pytest.approx(total.item(), rel=1e-12)


@pytest.mark.parametrize("size", SIZES)
def test_dice_is_monais_over_the_known_voxels(size: tuple[int, ...]) -> None:
    losses = pytest.importorskip("monai.losses")
    logits, _, targets = _batch(size)
    targets[:, 2] = torch.nan  # wholly unknown
    logits.requires_grad_()
    loss = soft_dice_loss(logits, targets)
    known = ~torch.isnan(targets)
    by_class = losses.DiceLoss(batch=True, reduction="none")(
        torch.sigmoid(logits.detach()) * known, torch.nan_to_num(targets) * known
    )
    assert loss.item() == pytest.approx(by_class.flatten()[:2].mean().item(), rel=1e-6)
    loss.backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None
    assert not logits.grad[~known].any()
    assert logits.grad[known].all()


def test_dice_without_a_known_voxel_is_zero_without_gradient_and_a_weight_of_zero_skips_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    logits = torch.randn(2, 3, 4, 4, requires_grad=True)
    targets = torch.full((2, 3, 4, 4), torch.nan)
    loss = soft_dice_loss(logits, targets)
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.item() == 0
    assert logits.grad is not None
    assert not logits.grad.any()
    empty = soft_dice_loss(logits[:0], targets[:0], images=4)
    assert empty.item() == 0
    monkeypatch.delattr("labelassemble.training.losses.soft_dice_loss")
    data = TrainingData(CLASSES, [], np.ones((2, 3), np.float32))
    step_loss = StepLoss(LossOptions(), data, torch.device("cpu"))
    counts = step_loss.count(targets)
    terms = step_loss.terms(logits, None, targets, rows=torch.arange(2), part=counts, whole=counts)
    assert terms.dice is None


def test_infinite_logits_of_unknown_voxels_leave_dice_and_its_gradient_finite() -> None:
    logits = torch.tensor([[[[torch.nan, 1.0], [torch.inf, -2.0]]]], requires_grad=True)
    targets = torch.tensor([[[[torch.nan, 1.0], [torch.nan, 0.0]]]])
    loss = soft_dice_loss(logits, targets)
    loss.backward()  # type: ignore[no-untyped-call]
    assert bool(torch.isfinite(loss))
    assert logits.grad is not None
    assert bool(torch.isfinite(logits.grad).all())
