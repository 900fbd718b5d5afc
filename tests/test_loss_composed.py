"""What PartialLabelLoss composes of the ops: strong_known, known_mean, exclusive, counts of a larger batch."""

import math

import pytest
import torch
from torch import Tensor

from labelassemble.errors import LabelAssembleError
from labelassemble.functional import excluded, sharpen
from labelassemble.loss import LossCounts, PartialLabelLoss

SHAPES = [(6, 5), (1, 1), (0, 3), (3, 4, 2, 3)]


def batch(shape: tuple[int, ...], dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    weak, strong = (3 * torch.randn(shape, dtype=dtype, generator=generator) for _ in range(2))
    targets = torch.randint(-1, 2, shape, generator=generator).to(dtype)
    return weak.requires_grad_(), strong.requires_grad_(), torch.where(targets < 0, math.nan, targets)


def matrix(classes: int) -> Tensor:
    """Return that neighbours exclude each other."""
    own = torch.zeros(classes, classes, dtype=torch.bool)
    for index in range(classes - 1):
        own[index, index + 1] = own[index + 1, index] = True
    return own


def entry_by_entry(
    weak: Tensor,
    strong: Tensor | None,
    targets: Tensor,
    exclusive: Tensor | None,
    *,
    strong_known: bool,
    known_mean: str,
    weights: tuple[float, float] = (0.5, 2.0),
    tau: float = 0.4,
    class_weight: Tensor | None = None,
    reduction: str = "mean",
) -> Tensor:
    """Return the loss by loops over entries, in words of the formulas."""
    classes = weak.shape[1]
    rows = weak.movedim(1, -1).reshape(-1, classes)
    views = rows if strong is None else strong.movedim(1, -1).reshape(-1, classes)
    labels = targets.movedim(1, -1).reshape(-1, classes)
    known_of: list[list[Tensor]] = [[] for _ in range(classes)]
    unknown: list[Tensor] = []
    for z, zs, y in zip(rows, views, labels, strict=True):
        a, s = torch.sigmoid(z), torch.sigmoid(zs)
        for c in range(classes):
            w = 1.0 if class_weight is None else class_weight[c]
            if not torch.isnan(y[c]):
                terms = [-(y[c] * torch.log(p) + (1 - y[c]) * torch.log(1 - p)) for p in (a[c], s[c])]
                both = strong_known and strong is not None
                known_of[c].append(w * (sum(terms) / 2 if both else terms[0]))
                continue
            rivals = [] if exclusive is None else [r for r in range(classes) if exclusive[c, r]]
            out = any(
                (not torch.isnan(y[r]) and y[r] > tau) or (torch.isnan(y[r]) and a[r] > tau and a[r] > a[c])
                for r in rivals
            )
            target = torch.zeros_like(a[c]) if out else sharpen(a[c], threshold=tau, temperature=3.0).detach()
            term = weights[0] * (a[c] - target) ** 2
            if strong is not None:
                term = term + weights[1] * (s[c] - target) ** 2
            unknown.append(w * term)
    zero = (rows * 0).sum()
    if reduction == "sum":
        return zero + sum([term for terms in known_of for term in terms] + unknown, zero)
    if known_mean == "class":
        means = [sum(terms) / len(terms) for terms in known_of if terms]
        known = sum(means, zero) / max(len(means), 1)
    else:
        every = [term for terms in known_of for term in terms]
        known = sum(every, zero) / max(len(every), 1)
    return known + sum(unknown, zero) / max(len(unknown), 1)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("strong_known", [False, True])
@pytest.mark.parametrize("known_mean", ["entry", "class"])
@pytest.mark.parametrize("rules", [False, True])
@pytest.mark.parametrize("with_strong", [False, True])
def test_values_and_gradients_against_loops(
    shape: tuple[int, ...], strong_known: bool, known_mean: str, rules: bool, with_strong: bool
) -> None:
    weak, strong, targets = batch(shape)
    exclusive = matrix(shape[1]) if rules else None
    class_weight = torch.linspace(0.5, 2.0, shape[1], dtype=torch.float64)
    loss = PartialLabelLoss(
        threshold=0.4,
        temperature=3.0,
        pseudo_weight=0.5,
        consistency_weight=2.0,
        class_weight=class_weight,
        strong_known=strong_known,
        known_mean=known_mean,  # type: ignore[arg-type]
        exclusive=exclusive,
    )
    view = strong if with_strong else None
    got = loss(weak, view, targets)
    want = entry_by_entry(
        weak,
        view,
        targets,
        exclusive,
        strong_known=strong_known,
        known_mean=known_mean,
        class_weight=class_weight,
    )
    torch.testing.assert_close(got, want)
    gradients = torch.autograd.grad(got, (weak, strong), allow_unused=True)
    expected = torch.autograd.grad(want, (weak, strong), allow_unused=True)
    for one, other in zip(gradients, expected, strict=True):
        if other is not None and one is not None:
            torch.testing.assert_close(one, other)
        else:
            assert one is None or not one.any()
    terms = loss.terms(weak, view, targets)
    torch.testing.assert_close(terms.total, want)
    together = terms.bce + 0.5 * terms.pseudo + 2.0 * terms.consistency
    torch.testing.assert_close(together, want.detach(), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("strong_known", [False, True])
@pytest.mark.parametrize("reduction", ["sum", "none"])
def test_other_reductions(strong_known: bool, reduction: str) -> None:
    weak, strong, targets = batch((6, 5))
    options = {"threshold": 0.4, "temperature": 3.0, "pseudo_weight": 0.5, "consistency_weight": 2.0}
    loss = PartialLabelLoss(
        **options,
        strong_known=strong_known,
        exclusive=matrix(5),
        reduction=reduction,  # type: ignore[arg-type]
    )
    want = entry_by_entry(
        weak, strong, targets, matrix(5), strong_known=strong_known, known_mean="entry", reduction="sum"
    )
    got = loss(weak, strong, targets)
    assert got.shape == (() if reduction == "sum" else (6, 5))
    torch.testing.assert_close(got.sum(), want)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_lower_precision(dtype: torch.dtype) -> None:
    weak, strong, targets = batch((40, 5))
    loss = PartialLabelLoss(strong_known=True, known_mean="class", exclusive=matrix(5))
    half = [tensor.detach().to(dtype).requires_grad_() for tensor in (weak, strong)]
    got = loss(*half, targets.to(dtype))
    want = loss(*(tensor.double() for tensor in half), targets)
    assert got.dtype == torch.float32
    torch.testing.assert_close(got.double(), want, rtol=1e-4, atol=1e-5)
    got.backward()
    assert all(tensor.grad is not None and bool(torch.isfinite(tensor.grad).all()) for tensor in half)


@pytest.mark.parametrize("known_mean", ["entry", "class"])
def test_parts_with_the_counts_of_the_whole_add_up(known_mean: str) -> None:
    weak, strong, targets = batch((12, 5))
    loss = PartialLabelLoss(strong_known=True, known_mean=known_mean, exclusive=matrix(5))  # type: ignore[arg-type]
    whole = loss(weak, strong, targets)
    known = ~torch.isnan(targets)
    counts = LossCounts(int(known.sum()), int((~known).sum()), known.sum(dim=0).tolist())
    parts = [
        loss.terms(weak[rows], strong[rows], targets[rows], counts=counts).total
        for rows in (slice(0, 2), slice(2, 7), slice(7, 12), slice(12, 12))
    ]
    torch.testing.assert_close(sum(parts), whole)


def test_the_highest_of_several_rivals_that_are_called_stays() -> None:
    exclusive = ~torch.eye(3, dtype=torch.bool)
    nan = math.nan
    logits = torch.tensor([[2.0, 1.0, -1.0], [-2.0, -1.0, -3.0], [2.0, 3.0, 1.0], [2.0, 3.0, 1.0]])
    targets = torch.tensor([[nan] * 3, [nan] * 3, [nan, 0.0, nan], [1.0, nan, nan]])
    assert excluded(logits, targets, exclusive).tolist() == [
        [False, True, True],  # 0 is called and the highest
        [False, False, False],  # none is called
        [False, False, True],  # 1 is known to be absent, 0 stays
        [False, True, True],  # 0 is known, however high 1 is
    ]
    by_image = torch.stack([exclusive, exclusive, exclusive & False, exclusive])
    assert excluded(logits, targets, by_image).tolist()[2] == [False] * 3
    integers = torch.nan_to_num(targets, nan=-1).long()
    assert torch.equal(excluded(logits, integers, exclusive), excluded(logits, targets, exclusive))
    spatial = excluded(logits[..., None], targets[..., None], exclusive)
    assert torch.equal(spatial[..., 0], excluded(logits, targets, exclusive))


def test_wrong_options_are_one_sentence() -> None:
    with pytest.raises(LabelAssembleError, match="known_mean must be entry or class, got 'row'"):
        PartialLabelLoss(known_mean="row")  # type: ignore[arg-type]
    with pytest.raises(LabelAssembleError, match="known_mean class needs reduction mean, got 'sum'"):
        PartialLabelLoss(known_mean="class", reduction="sum")
    counts = LossCounts(3, 3)
    with pytest.raises(LabelAssembleError, match=r"needs counts\.known_by_class of all 3 classes, got None"):
        PartialLabelLoss(known_mean="class").terms(torch.zeros(2, 3), None, torch.zeros(2, 3), counts=counts)
    assert PartialLabelLoss(exclusive=[[False, True], [True, False]]).exclusive is not None
    with pytest.raises(RuntimeError, match=r"exclusive must be bool, got torch\.float32"):
        PartialLabelLoss().terms(torch.zeros(2, 2), None, torch.zeros(2, 2), exclusive=torch.ones(2, 2))
    with pytest.raises(LabelAssembleError, match=r"exclusive must be bool \[C, C\], got torch.float32"):
        PartialLabelLoss(exclusive=torch.eye(3))
    with pytest.raises(LabelAssembleError, match="must be symmetric, and no class can exclude itself"):
        PartialLabelLoss(exclusive=torch.eye(3, dtype=torch.bool))
    with pytest.raises(RuntimeError, match=r"exclusive must have the shape \[C, C\] or \[B, C, C\]"):
        PartialLabelLoss(exclusive=matrix(4))(torch.zeros(2, 3), None, torch.zeros(2, 3))


def test_scripting_refuses_what_it_cannot_do() -> None:
    scripted = torch.jit.script(PartialLabelLoss(strong_known=True))
    with pytest.raises(torch.jit.Error, match="cannot be scripted"):
        scripted(torch.zeros(2, 3), torch.zeros(2, 3), torch.zeros(2, 3))
