"""What PartialLabelLoss does beside the paper's: strong_known, known_mean, exclusive, counts of a larger batch."""

import math

import pytest
import torch
from torch import Tensor

from labelassemble.errors import LabelAssembleError
from labelassemble.functional import excluded, partial_label_loss_terms, sharpen
from labelassemble.loss import LossCounts, PartialLabelLoss
from labelassemble.ops.class_sums import class_sums
from labelassemble.ops.class_sums import reference as plain_sums
from labelassemble.ops.excluded import reference as plain_excluded
from labelassemble.ops.loss_reference import reference
from labelassemble.ops.partial_label_loss import OpOptions

SHAPES = [(6, 5), (1, 1), (0, 3), (3, 4, 2, 3), (2, 1, 3, 2), (2, 3, 3, 2, 3)]


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
    with pytest.raises(RuntimeError, match=r"exclusive must be bool, got"):
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


def whole_volumes(dtype: torch.dtype, *, dims: int = 3) -> tuple[Tensor, Tensor, Tensor]:
    """Return a batch of more than one block of entries a plane, a class of it unknown and one known everywhere."""
    size = (2, 3, 13, 11, 9) if dims == 3 else (2, 3, 37, 35)
    generator = torch.Generator().manual_seed(5)
    weak, strong = (3 * torch.randn(size, generator=generator, dtype=torch.float64) for _ in range(2))
    targets = torch.randint(-1, 2, size, generator=generator).double()
    targets = torch.where(targets < 0, math.nan, targets)
    targets[0, 1], targets[1, 2] = math.nan, 0.0
    return weak.to(dtype), strong.to(dtype), targets.to(dtype)


@pytest.mark.parametrize("order", ["contiguous", "channels_last", "sliced"])
@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("by_image", [False, True])
@pytest.mark.parametrize("detached", [False, True])
def test_dense_logits_in_any_order_against_plain_torch_in_float64(
    order: str, dims: int, by_image: bool, detached: bool
) -> None:
    exclusive = matrix(3)
    exclusive = torch.stack([exclusive, torch.zeros_like(exclusive)]) if by_image else exclusive
    options = OpOptions(0.4, 3.0, 0.5, 2.0, torch.tensor([1.0, 2.0, 0.5]), None, detached)
    weak, strong, targets = whole_volumes(torch.float64, dims=dims)
    views = [view.clone().requires_grad_() for view in (weak, strong)]
    absent = plain_excluded(views[0], targets, exclusive, 0.4)
    want = reference(views[0], views[1], targets, *options[:7], "mean", True, True, absent)
    gradients = torch.autograd.grad(want[0], views)
    last = torch.channels_last if dims == 2 else torch.channels_last_3d

    def laid(tensor: Tensor) -> Tensor:
        tensor = tensor.float()
        if order == "channels_last":
            return tensor.to(memory_format=last)
        return tensor if order == "contiguous" else torch.stack([tensor, tensor], dim=-1)[..., 1]

    inputs = [laid(view).requires_grad_() for view in (weak, strong)]
    found = excluded(inputs[0], laid(targets), exclusive, threshold=0.4)
    assert torch.equal(found, absent)
    got = partial_label_loss_terms(
        inputs[0], inputs[1], laid(targets), options, strong_known=True, absent=found
    )
    torch.testing.assert_close(got.total.double(), want[0].detach(), rtol=2e-6, atol=1e-7)
    torch.testing.assert_close(torch.stack(got[1:]), want[1], rtol=2e-6, atol=1e-7)
    for one, other in zip(torch.autograd.grad(got.total, inputs), gradients, strict=True):
        torch.testing.assert_close(one.double(), other, rtol=1e-4, atol=1e-9)


@pytest.mark.parametrize("with_strong", [False, True])
def test_where_nothing_is_known(with_strong: bool) -> None:
    weak, strong, targets = batch((2, 3, 4, 5))
    targets = torch.full_like(targets, math.nan)
    loss = PartialLabelLoss(
        threshold=0.4,
        temperature=3.0,
        pseudo_weight=0.5,
        consistency_weight=2.0,
        strong_known=True,
        exclusive=matrix(3),
    )
    view = strong if with_strong else None
    want = entry_by_entry(weak, view, targets, matrix(3), strong_known=True, known_mean="entry")
    torch.testing.assert_close(loss(weak, view, targets), want)
    assert loss.terms(weak, view, targets).known == 0


@pytest.mark.parametrize("weights", [(0.0, 0.0), (0.0, 2.0), (0.5, 0.0)])
def test_terms_without_a_weight_are_not_looked_at(weights: tuple[float, float]) -> None:
    """A logit that is not a number matters only where a term with a weight reads it."""
    weak, strong, targets = batch((6, 5))
    unknown = torch.isnan(targets)
    bad_strong = torch.where(unknown, math.nan, strong) if weights[1] == 0 else strong
    loss = PartialLabelLoss(
        threshold=0.4,
        temperature=3.0,
        pseudo_weight=weights[0],
        consistency_weight=weights[1],
        strong_known=True,
        exclusive=matrix(5),
    )
    got = loss.terms(weak, bad_strong, targets)
    want = entry_by_entry(
        weak, strong, targets, matrix(5), strong_known=True, known_mean="entry", weights=weights
    )
    torch.testing.assert_close(got.total, want)
    assert (got.pseudo == 0, got.consistency == 0) == (weights[0] == 0, weights[1] == 0)
    for one, other in zip(
        torch.autograd.grad(got.total, (weak, strong)), torch.autograd.grad(want, (weak, strong)), strict=True
    ):
        torch.testing.assert_close(torch.where(unknown, 0, one), torch.where(unknown, 0, other))
        assert torch.isfinite(one).all()


def test_second_derivatives() -> None:
    weak, strong, targets = batch((2, 3, 2, 2))
    absent = excluded(weak, targets, matrix(3))
    for detached in (False, True):
        options = OpOptions(pseudo_weight=0.5, consistency_weight=2.0, detach_target=detached)

        def total(a: Tensor, b: Tensor, options: OpOptions = options) -> Tensor:
            return partial_label_loss_terms(a, b, targets, options, strong_known=True, absent=absent).total

        if not detached:  # a pseudo-label that is a constant is none to finite differences
            assert torch.autograd.gradcheck(total, (weak, strong))
            assert torch.autograd.gradgradcheck(total, (weak, strong))
        plain = reference(weak, strong, targets, *options[:7], "mean", True, True, absent)[0]
        first = torch.autograd.grad(total(weak, strong), (weak, strong), create_graph=True)
        other = torch.autograd.grad(plain, (weak, strong), create_graph=True)
        for one, two in zip(first, other, strict=True):
            torch.testing.assert_close(one, two)


def test_what_is_absent_must_fit() -> None:
    weak, strong, targets = batch((2, 3))
    with pytest.raises(
        RuntimeError, match=r"absent must have the shape of logits_weak, got \[2, 2\] and \[2, 3\]"
    ):
        partial_label_loss_terms(weak, strong, targets, absent=torch.zeros(2, 2, dtype=torch.bool))
    with pytest.raises(RuntimeError, match="absent must be bool, got Double"):
        partial_label_loss_terms(weak, strong, targets, absent=torch.zeros_like(weak))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("order", ["contiguous", "channels_last", "sliced", "turned"])
def test_sums_by_class(dtype: torch.dtype, order: str) -> None:
    weak, _, targets = whole_volumes(dtype)
    weak[0, 0, 0, 0, 0], weak[1, 1, 2, 3, 4] = math.nan, math.inf
    targets[0, 0, 0, 0, 0] = math.nan
    if order == "channels_last":
        weak = weak.to(memory_format=torch.channels_last_3d)
    elif order == "sliced":
        weak, targets = weak[..., 1:], targets[..., 1:]
    elif order == "turned":
        weak, targets = weak.transpose(2, 4), targets.transpose(2, 4)
    ours, theirs = (weak.clone(memory_format=torch.preserve_format).requires_grad_() for _ in range(2))
    found, want = class_sums(ours, targets, 0.4), plain_sums(theirs, targets, 0.4)
    torch.testing.assert_close(found, want, rtol=1e-5, atol=1e-6)
    assert torch.equal(found[3:], want[3:])
    factors = torch.linspace(-1, 1, 18, dtype=torch.float64).reshape(6, 3)
    (one,), (other,) = (
        torch.autograd.grad((sums * factors).sum(), view) for sums, view in ((found, ours), (want, theirs))
    )
    finite = torch.isfinite(weak)
    rounding = {torch.bfloat16: 1e-2, torch.float16: 2e-3}.get(dtype, 1e-4)  # of the result, at most one step
    torch.testing.assert_close(one[finite], other[finite], rtol=rounding, atol=1e-6)


def test_derivatives_of_sums_by_class() -> None:
    weak, _, targets = batch((2, 3, 2, 2))
    assert torch.autograd.gradcheck(lambda z: class_sums(z, targets)[:2], weak)
    assert torch.autograd.gradgradcheck(lambda z: class_sums(z, targets)[:2], weak)
    assert class_sums(weak[:0], targets[:0]).tolist() == [[0.0] * 3] * 6


@pytest.mark.parametrize("shape", [(2, 3, 5, 0), (2, 3, 0, 5), (0, 3, 4), (2, 0, 4), (0, 3), (2, 0)])
def test_nothing_is_excluded_and_summed_where_nothing_is(shape: tuple[int, ...]) -> None:
    logits = torch.zeros(shape, requires_grad=True)
    found = excluded(logits, torch.zeros(shape), torch.zeros(shape[1], shape[1], dtype=torch.bool))
    assert (found.shape, found.dtype) == (logits.shape, torch.bool)
    sums = class_sums(logits, torch.zeros(shape))
    assert sums.tolist() == [[0.0] * shape[1]] * 6
    sums.sum().backward()
    assert logits.grad is not None


def test_what_is_compiled_holds_both_ops() -> None:
    seen: list[str] = []

    def backend(module: torch.fx.GraphModule, _: object) -> torch.fx.GraphModule:
        seen.extend(str(node.target) for node in module.graph.nodes)
        return module

    logits = torch.randn(2, 6, 4, 3)[:, :3].transpose(2, 3)
    rules = ~torch.eye(3, dtype=torch.bool)
    targets = torch.full(logits.shape, torch.nan)

    def both(z: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return excluded(z, targets, rules), class_sums(z, targets)

    absent, sums = torch.compile(both, backend=backend, fullgraph=True)(logits)
    assert torch.equal(absent, excluded(logits, targets, rules))
    torch.testing.assert_close(sums, class_sums(logits, targets))
    for op in ("excluded", "class_sums"):
        assert [name for name in seen if op in name], seen
