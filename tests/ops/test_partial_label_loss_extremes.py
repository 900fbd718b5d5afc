"""partial_label_loss at the ends of its domain: infinities, NaN, far tails, thresholds, nothing at all."""

import math

import pytest
import torch
from torch import Tensor

from labelassemble.functional import masked_bce_with_logits, partial_label_loss, partial_label_loss_terms
from labelassemble.ops.partial_label_loss import OpOptions, reference

INF, NAN = float("inf"), float("nan")
DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]


def entry(z: float, y: float, dtype: torch.dtype = torch.float32) -> tuple[float, float]:
    """Loss and gradient of one known entry."""
    logits = torch.tensor([[z]], dtype=dtype, requires_grad=True)
    loss = masked_bce_with_logits(logits, torch.tensor([[y]]))
    (gradient,) = torch.autograd.grad(loss, logits)
    return loss.item(), gradient.item()


@pytest.mark.parametrize("dtype", DTYPES)
def test_infinite_and_huge_logits_of_known_entries(dtype: torch.dtype) -> None:
    huge = 1e4
    assert entry(INF, 1.0, dtype) == (0.0, 0.0)
    assert entry(-INF, 0.0, dtype) == (0.0, 0.0)
    assert entry(INF, 0.0, dtype) == (INF, 1.0)
    assert entry(-INF, 1.0, dtype) == (INF, -1.0)
    assert entry(INF, 0.5, dtype) == (INF, 0.5)
    rounded = torch.tensor(huge).to(dtype).item()
    assert entry(huge, 1.0, dtype) == (0.0, 0.0)
    assert entry(-huge, 1.0, dtype) == (rounded, -1.0)
    assert entry(huge, 0.25, dtype) == (pytest.approx(0.75 * rounded), 0.75)


def test_weight_of_zero_takes_an_infinite_term_away() -> None:
    logits = torch.tensor([[-INF]], requires_grad=True)
    loss = masked_bce_with_logits(logits, torch.ones(1, 1), pos_weight=torch.zeros(1))
    (gradient,) = torch.autograd.grad(loss, logits)
    assert (loss.item(), gradient.item()) == (0.0, 0.0)


@pytest.mark.parametrize("z", [20.0, 50.0, 80.0, 86.0])
def test_far_tails_keep_their_relative_accuracy(z: float) -> None:
    """log1p(exp(-z)) and the gradient are exp(-z), not 0."""
    loss, gradient = entry(z, 1.0)
    assert loss == pytest.approx(math.exp(-z), rel=1e-6)
    assert gradient == pytest.approx(-math.exp(-z), rel=1e-6)


def ulps(got: Tensor, exact: Tensor) -> Tensor:
    """Distance in units of the last place of float32."""
    rounded = exact.float()
    spacing = torch.nextafter(rounded.abs(), torch.tensor(INF)).double() - rounded.abs().double()
    return (got.double() - exact).abs() / spacing


def test_accuracy_in_ulps() -> None:
    """What the kernel's head states: losses within 4 ulp, gradients within 8, over all magnitudes."""
    magnitudes = torch.cat([torch.logspace(-30, 0, 3000), torch.linspace(0, 20, 30000)])
    z = torch.cat([magnitudes, -magnitudes]).view(-1, 1)
    for y in (0.0, 1.0):
        logits = z.clone().requires_grad_()
        loss = masked_bce_with_logits(logits, torch.full_like(z, y), reduction="none")
        (gradient,) = torch.autograd.grad(loss.sum(), logits)
        signed = z.double() * (1 - 2 * y)  # loss = softplus(signed)
        exact = signed.clamp(min=0) + torch.log1p(torch.exp(-signed.abs()))
        assert ulps(loss.detach(), exact).max() < 4
        sigmoid = torch.where(signed < 0, signed.exp() / (1 + signed.exp()), 1 / (1 + (-signed).exp()))
        assert ulps(gradient * (1 - 2 * y), sigmoid).max() < 8


@pytest.mark.parametrize("position", [0, 5, 15, 16, 31, 32, 40])
@pytest.mark.parametrize("view", ["weak", "strong"])
@pytest.mark.parametrize("known", [True, False])
def test_nan_logits_give_nan_wherever_they_count(position: int, view: str, known: bool) -> None:
    views = {"weak": torch.zeros(1, 41), "strong": torch.zeros(1, 41)}
    views[view][0, position] = NAN
    targets = torch.full((1, 41), 1.0 if known else NAN)
    loss = partial_label_loss(views["weak"], views["strong"], targets)
    assert loss.isnan() == (view == "weak" or not known)


def test_nan_with_an_odd_payload_is_still_nan() -> None:
    bits = torch.tensor([[0x7FFFFFFF, 0x7F800001, 0x7FC12345, 0x7FC00000]], dtype=torch.int32)
    logits = bits.view(torch.float32).repeat(1, 9)
    for targets in (torch.ones_like(logits), torch.full_like(logits, NAN)):
        assert partial_label_loss(logits, None, targets, reduction="none").isnan().all()


def test_infinite_logits_of_unknown_entries_are_certain() -> None:
    weak = torch.tensor([[INF, -INF, INF, -INF]], requires_grad=True)
    strong = torch.tensor([[INF, INF, -INF, -INF]], requires_grad=True)
    loss = partial_label_loss(weak, strong, torch.full((1, 4), NAN), reduction="none")
    assert loss.tolist() == [[0.0, 1.0, 1.0, 0.0]]
    for gradient in torch.autograd.grad(loss.sum(), (weak, strong)):
        assert torch.equal(gradient, torch.zeros(1, 4))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_exactly_the_threshold_is_not_above_it(dtype: torch.dtype) -> None:
    logits = torch.zeros(1, 33, dtype=dtype)  # a = 0.5 exactly
    loss = partial_label_loss(
        logits, None, torch.full_like(logits, NAN), threshold=0.5, temperature=2.0, reduction="none"
    )
    assert torch.equal(loss, torch.full_like(loss, 0.25**2))  # moved down by a/t
    just_below = math.nextafter(0.5, 0)
    above = partial_label_loss(
        logits.double(),
        None,
        torch.full_like(logits, NAN),
        threshold=just_below,
        temperature=4.0,
        detach_target=False,
    )
    assert above.item() == pytest.approx((0.5 / 4) ** 2)


KINDS = {
    "all known": torch.ones(3, 4),
    "none known": torch.full((3, 4), NAN),
    "empty": torch.ones(0, 4),
    "no class": torch.ones(3, 0),
    "one class": torch.tensor([[1.0], [NAN]]),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_missing_kinds_of_entries_give_finite_values(kind: str, reduction: str) -> None:
    targets = KINDS[kind]
    weak, strong = (torch.full_like(targets, 0.3).requires_grad_() for _ in range(2))
    loss = partial_label_loss(weak, strong, targets, reduction=reduction)  # type: ignore[arg-type]
    want = reference(weak, strong, targets, reduction=reduction)[0]  # type: ignore[arg-type]
    torch.testing.assert_close(loss, want)
    gradients = torch.autograd.grad(loss.sum(), (weak, strong))
    assert all(gradient.isfinite().all() for gradient in gradients)
    if kind == "all known":
        assert not gradients[1].any()


def test_a_masked_entry_has_gradient_zero_in_the_term_that_masks_it() -> None:
    targets = torch.tensor([[1.0, NAN]] * 20)
    weak, strong = torch.randn(20, 2, requires_grad=True), torch.randn(20, 2, requires_grad=True)
    bce = partial_label_loss(weak, strong, targets, pseudo_weight=0.0, consistency_weight=0.0)
    gradient, none = torch.autograd.grad(bce, (weak, strong), allow_unused=True)
    assert not gradient[:, 1].any()
    assert none is None
    (gradient,) = torch.autograd.grad(partial_label_loss(weak, strong, targets), strong)
    assert not gradient[:, 0].any()


def test_weights_of_zero_skip_their_term_whatever_is_in_it() -> None:
    weak, strong = torch.zeros(2, 2), torch.full((2, 2), NAN)
    targets = torch.tensor([[1.0, NAN], [0.0, NAN]])
    weak[:, 1] = NAN
    loss = partial_label_loss(weak, strong, targets, pseudo_weight=0.0, consistency_weight=0.0)
    assert loss.item() == pytest.approx(math.log(2))
    terms = partial_label_loss_terms(torch.zeros(2, 2), strong, targets, OpOptions(consistency_weight=0.0))
    assert terms.consistency == 0
    assert terms.pseudo > 0


def test_same_input_same_bits_whatever_the_number_of_threads() -> None:
    torch.manual_seed(0)
    weak, strong = (
        torch.randn(3, 5, 200, 101, requires_grad=True),
        torch.randn(3, 5, 200, 101, requires_grad=True),
    )
    targets = torch.where(torch.rand(3, 5, 200, 101) < 0.5, torch.rand(3, 5, 200, 101), NAN)
    threads = torch.get_num_threads()
    results = []
    try:
        for number in (1, 2, 3, 1):
            torch.set_num_threads(number)
            loss = partial_label_loss(weak, strong, targets, class_weight=torch.rand(5).fill_(0.7))
            results.append([loss, *torch.autograd.grad(loss, (weak, strong))])
    finally:
        torch.set_num_threads(threads)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_every_half_precision_number_is_read_and_written_right(dtype: torch.dtype) -> None:
    """All 65,536 logits, against float32 logits of the same values; gradients round to nearest."""
    logits = torch.arange(-(2**15), 2**15, dtype=torch.int16).view(dtype).view(-1, 1).clone()
    logits = logits[~logits.isnan()].view(-1, 1).requires_grad_()
    wide = logits.detach().float().requires_grad_()
    targets = torch.tensor([[0.0], [1.0], [NAN]])
    for target in targets:
        losses = [partial_label_loss(z, None, target.expand_as(z), reduction="none") for z in (logits, wide)]
        assert torch.equal(losses[0], losses[1])
        incoming = torch.linspace(-3, 3, len(logits)).view(-1, 1)
        gradients = [
            torch.autograd.grad(loss, z, incoming)[0] for loss, z in zip(losses, (logits, wide), strict=True)
        ]
        assert torch.equal(gradients[0], gradients[1].to(dtype))
