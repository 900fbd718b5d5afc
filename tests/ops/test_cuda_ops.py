"""The CUDA kernels against the float64 reference.

Marked cuda and run by benchmarks/gpu.sh where a GPU is; tests/cuda_on_cpu runs them without one.
"""

import functools
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from labelassemble.functional import partial_label_loss, partial_label_loss_terms
from labelassemble.ops.partial_label_loss import OpOptions, reference

sys.path.insert(0, str(Path(__file__).parent))
from cuda_device import DEVICE, in_a_graph

pytestmark = pytest.mark.cuda
NAN = float("nan")


def batch(shape: tuple[int, ...], dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    weak, strong = (3 * torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(2))
    targets = torch.rand(shape, generator=generator, dtype=torch.float64)
    targets[torch.rand(shape, generator=generator) < 0.4] = NAN
    weak, strong, targets = (tensor.to(DEVICE, dtype) for tensor in (weak, strong, targets))
    return weak.requires_grad_(), strong.requires_grad_(), targets


SHAPES = [(1, 1), (16, 15), (0, 4), (64, 15), (1024, 15), (4097, 15), (2, 4, 33, 17), (2, 3, 32, 32, 33)]
DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]
OPTIONS = [
    {},
    {"detach_target": False, "reduction": "sum"},
    {"reduction": "none"},
    {"consistency_weight": 0.0},
]


def agree(weak: Tensor, strong: Tensor, targets: Tensor, **options: object) -> None:
    exact = [tensor.detach().double().requires_grad_() for tensor in (weak, strong)]
    loss = partial_label_loss(weak, strong, targets, **options)  # type: ignore[arg-type]
    known = targets.double() if targets.is_floating_point() else targets
    want, _ = reference(exact[0], exact[1], known, **options)  # type: ignore[arg-type]
    tolerance = 1e-12 if weak.dtype == torch.float64 else 2e-5
    torch.testing.assert_close(loss.double(), want, rtol=tolerance, atol=tolerance)
    gradients = torch.autograd.grad(loss.sum(), (weak, strong), allow_unused=True)
    wanted = torch.autograd.grad(want.sum(), exact, allow_unused=True)
    rounding = {torch.bfloat16: 4e-3, torch.float16: 5e-4}.get(weak.dtype, tolerance)
    for gradient, expected in zip(gradients, wanted, strict=True):
        if gradient is not None:
            assert expected is not None
            torch.testing.assert_close(gradient.double(), expected, rtol=rounding, atol=1e-6)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("options", OPTIONS, ids=["default", "sum", "none", "pseudo"])
def test_agrees_with_the_reference_sanitizer(
    shape: tuple[int, ...], dtype: torch.dtype, options: dict[str, object]
) -> None:
    agree(*batch(shape, dtype), **options)
    by_class = torch.linspace(0.5, 2, shape[1], device=DEVICE)
    agree(*batch(shape, dtype), pos_weight=by_class, class_weight=by_class, **options)


def test_layouts_and_integer_targets_sanitizer() -> None:
    weak, strong, targets = batch((3, 5, 20, 31), torch.float32)
    last = [
        tensor.detach().contiguous(memory_format=torch.channels_last) for tensor in (weak, strong, targets)
    ]
    agree(last[0].requires_grad_(), last[1].requires_grad_(), last[2])
    agree(last[0], strong, targets)
    states = torch.where(targets.isnan(), -1, targets.round()).to(torch.int8)
    agree(weak, strong, states)


def test_same_bits_from_run_to_run_and_in_a_graph() -> None:
    weak, strong, targets = batch((2, 4, 32, 32, 32), torch.float32)

    def step() -> tuple[Tensor, ...]:
        loss = partial_label_loss(weak, strong, targets)
        gradients = torch.autograd.grad(loss, (weak, strong))
        return loss.detach(), *gradients  # no graph is kept that belongs to the stream of another step

    first = step()
    for _ in range(5):
        assert all(torch.equal(a, b) for a, b in zip(first, step(), strict=True))
    captured = in_a_graph(step)
    assert all(torch.equal(a, b) for a, b in zip(first, captured, strict=True))


@pytest.mark.parametrize("value", [-1.5, 2.0, float("inf"), -float("inf")])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(64, 15), (4111, 1)])
def test_what_is_not_allowed_is_nan_and_raises_at_the_next_call(
    shape: tuple[int, ...], dtype: torch.dtype, value: float
) -> None:
    """As the first entry of a pack, within one, and as the last entry of all."""
    weak, strong, targets = batch(shape, dtype)
    for place in (0, 45, targets.numel() - 1):
        wrong = targets.clone()
        wrong.view(-1)[place] = value
        loss = partial_label_loss(weak, strong, wrong)
        assert loss.isnan()  # read, so the kernel has ended
        with pytest.raises(
            RuntimeError, match=rf"must lie in \[0, 1\] or be unknown, got {value:g} in an earlier call"
        ):
            partial_label_loss(weak, strong, targets)
    agree(weak, strong, targets)


def test_more_axes_than_kernels_take_sanitizer() -> None:
    weak, strong, targets = (tensor.detach() for tensor in batch((2, 3, *[2] * 8), torch.float32))
    turned = [0, 1, 9, 2, 8, 3, 7, 4, 6, 5]
    agree(weak.permute(turned).requires_grad_(), strong[..., :1].expand_as(strong).requires_grad_(), targets)
    agree(weak.permute(turned).requires_grad_(), strong.requires_grad_(), targets, reduction="none")
    image = weak.permute(0, 1, *reversed(turned[2:])).repeat_interleave(2, -1)[..., ::2].requires_grad_()
    mean = torch.ops.labelassemble.relu_mean(image)
    torch.testing.assert_close(mean, image.relu().flatten(2).mean(2))
    (gradient,) = torch.autograd.grad(mean.sum(), image)
    torch.testing.assert_close(gradient, (image > 0).float() / 256)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(16, 15), (3, 4, 9, 7), (2, 3, 5, 300)])
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_both_views_of_known_labels_and_absent_ones_sanitizer(
    dtype: torch.dtype, shape: tuple[int, ...], reduction: Any
) -> None:
    weak, strong, targets = batch(shape, dtype)
    absent = targets.isnan() & (strong.detach() > 0)
    for marked, detached, consistency in ((None, True, 2.0), (absent, True, 2.0), (absent, False, 0.0)):
        options = OpOptions(0.4, 3.0, 0.5, consistency, None, None, detached)
        found = partial_label_loss_terms(
            weak, strong, targets, options, reduction=reduction, strong_known=True, absent=marked
        )
        exact = [view.detach().double().requires_grad_() for view in (weak, strong)]
        want, terms = reference(*exact, targets, *options[:7], reduction, True, True, marked)
        rounding = {torch.float64: 1e-9}.get(dtype, 1e-4)
        torch.testing.assert_close(found.total.double(), want, rtol=rounding, atol=rounding)
        torch.testing.assert_close(torch.stack(found[1:]), terms, rtol=rounding, atol=rounding)
        gradients = torch.autograd.grad(found.total.sum(), (weak, strong))
        rounding = {torch.float64: 1e-9, torch.float32: 1e-5}.get(dtype, 2e-2)
        for one, other in zip(gradients, torch.autograd.grad(want.sum(), exact), strict=True):
            torch.testing.assert_close(one.double(), other, rtol=rounding, atol=rounding)


@pytest.mark.parametrize(
    ("dtype", "reduction", "strong_known"),
    [
        (torch.float32, "sum", False),
        (torch.float32, "sum", True),
        (torch.float32, "none", True),
        (torch.bfloat16, "sum", True),
        (torch.float16, "sum", False),
        (torch.float64, "sum", True),
    ],
)
@pytest.mark.parametrize("value", [float("inf"), -float("inf"), NAN, 87.0, -87.0, 300.0, -300.0, 20.0, 0.0])
def test_extremes(dtype: torch.dtype, reduction: Any, strong_known: bool, value: float) -> None:
    """Each extreme logit, of each view, beside each kind of target, one at a time: NaN must not hide the others."""
    for view in range(2):
        for target in (0.0, 1.0, 0.25, NAN):
            logits = [torch.full((3, 7), 0.3, device=DEVICE, dtype=dtype) for _ in range(2)]
            logits[view][1, 2] = value
            targets = torch.full((3, 7), NAN, device=DEVICE, dtype=dtype)
            targets[0], targets[1, 2] = 1.0, target
            weak, strong = (tensor.requires_grad_() for tensor in logits)
            options = OpOptions(0.5, 4.0, 0.5, 2.0, None, None, True)
            found = partial_label_loss_terms(
                weak, strong, targets, options, reduction=reduction, strong_known=strong_known
            )
            exact = [tensor.detach().double().requires_grad_() for tensor in (weak, strong)]
            want, terms = reference(
                *exact, targets.double(), *options[:7], reduction, True, strong_known, None
            )
            close = functools.partial(torch.testing.assert_close, rtol=1e-5, atol=1e-6, equal_nan=True)
            close(found.total.double(), want)
            close(torch.stack(found[1:]).double(), terms.double())
            gradients = torch.autograd.grad(found.total.sum(), (weak, strong))
            rounding = {torch.bfloat16: 4e-3, torch.float16: 1e-3}.get(dtype, 1e-5)
            for one, other in zip(gradients, torch.autograd.grad(want.sum(), exact), strict=True):
                close(one.double(), other, rtol=rounding)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_view_that_no_term_reads_of_an_entry_has_no_part_in_its_gradient(dtype: torch.dtype) -> None:
    """Of an unknown entry the strong view, where known ones learn from both and there is no consistency term."""
    weak, strong, targets = batch((33, 5), dtype)
    strong = torch.where(targets.isnan(), NAN, strong.detach()).requires_grad_()
    options = OpOptions(consistency_weight=0.0)
    terms = partial_label_loss_terms(weak, strong, targets, options, strong_known=True)
    assert terms.total.isfinite()
    for gradient in torch.autograd.grad(terms.total, (weak, strong)):
        assert gradient.isfinite().all()
    assert (gradient[targets.isnan()] == 0).all()


def test_terms_count_on_the_device() -> None:
    weak, strong, targets = batch((1024, 15), torch.float32)
    terms = partial_label_loss_terms(weak, strong, targets)
    assert terms.known.item() == (~targets.isnan()).sum().item()
    assert terms.unknown.device.type == DEVICE


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_relu_mean_sanitizer(dtype: torch.dtype, memory_format: torch.memory_format) -> None:
    image = (
        torch.randn(4, 70, 7, 9, device=DEVICE)
        .to(dtype)
        .contiguous(memory_format=memory_format)
        .requires_grad_()
    )
    mean = torch.ops.labelassemble.relu_mean(image)
    want = image.detach().double().relu().mean((2, 3))
    rounding = {torch.bfloat16: 1e-2, torch.float16: 1e-3, torch.float32: 1e-5}.get(dtype, 1e-12)
    torch.testing.assert_close(mean.double(), want, rtol=rounding, atol=rounding)
    (gradient,) = torch.autograd.grad(mean.sum(), image)
    torch.testing.assert_close(gradient.double(), (image > 0).double() / 63, rtol=rounding, atol=rounding)
