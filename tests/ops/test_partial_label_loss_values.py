"""partial_label_loss against its float64 reference: values and gradients, whatever options and layout."""

import itertools

import pytest
import torch
from torch import Tensor

from labelassemble.functional import partial_label_loss, partial_label_loss_terms
from labelassemble.ops.partial_label_loss import OpOptions, reference

SHAPES = [(1, 1), (3, 5), (16, 15), (0, 4), (4, 1), (2, 3, 7), (2, 4, 9, 11), (1, 2, 3, 5, 7), (700, 33)]
TOLERANCE = {torch.float64: 1e-12, torch.float32: 2e-5, torch.bfloat16: 2e-5, torch.float16: 2e-5}


def batch(
    shape: tuple[int, ...], dtype: torch.dtype = torch.float32, seed: int = 0
) -> tuple[Tensor, Tensor, Tensor]:
    """Weak and strong logits, and soft targets of which four in ten are unknown."""
    generator = torch.Generator().manual_seed(seed)
    weak, strong = (3 * torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(2))
    targets = torch.rand(shape, generator=generator, dtype=torch.float64)
    targets = torch.where(targets < 0.3, targets.round(), targets)
    targets[torch.rand(shape, generator=generator) < 0.4] = float("nan")
    return weak.to(dtype).requires_grad_(), strong.to(dtype).requires_grad_(), targets.to(dtype)


def agree(weak: Tensor, strong: Tensor | None, targets: Tensor, **options: object) -> None:
    """Values, terms and both gradients agree with the reference in float64."""
    inputs = [tensor for tensor in (weak, strong) if tensor is not None]
    exact = [tensor.detach().double().requires_grad_() for tensor in inputs]
    loss = partial_label_loss(weak, strong, targets, **options)  # type: ignore[arg-type]
    double_targets = targets.double() if targets.is_floating_point() else targets
    expected, terms = reference(exact[0], exact[1] if strong is not None else None, double_targets, **options)  # type: ignore[arg-type]
    tolerance = TOLERANCE[weak.dtype]
    torch.testing.assert_close(loss.double(), expected, rtol=tolerance, atol=tolerance)
    reduction = options.pop("reduction", "mean")
    got = partial_label_loss_terms(weak, strong, targets, OpOptions(**options), reduction=reduction)  # type: ignore[arg-type]
    torch.testing.assert_close(torch.stack(got[1:]), terms, rtol=tolerance, atol=tolerance)
    assert torch.equal(got.total, loss)
    incoming = torch.linspace(0.5, 2, loss.numel()).view(loss.shape)
    gradients = torch.autograd.grad(loss, inputs, incoming.to(loss.dtype), allow_unused=True)
    wanted = torch.autograd.grad(expected, exact, incoming.double(), allow_unused=True)
    rounding = {torch.bfloat16: 4e-3, torch.float16: 5e-4}.get(weak.dtype, tolerance)
    for gradient, want, tensor in zip(gradients, wanted, inputs, strict=True):
        if gradient is None or want is None:
            assert gradient is None
            assert want is None or not want.any()
            continue
        assert gradient.dtype == tensor.dtype
        torch.testing.assert_close(gradient.double(), want, rtol=rounding, atol=max(1e-7, tolerance * 1e-2))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_shapes_and_reductions(shape: tuple[int, ...], reduction: str) -> None:
    agree(*batch(shape), reduction=reduction)
    agree(*batch(shape, torch.float64), reduction=reduction)


OPTIONS = {
    "threshold": [0.5, 0.2, 0.95],
    "temperature": [4.0, 1.0, float("inf")],
    "weights": [(1.0, 1.0), (0.0, 1.0), (0.7, 0.0), (0.0, 0.0)],
    "detach_target": [True, False],
    "by_class": ["neither", "pos", "class", "both"],
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_every_option(dtype: torch.dtype, reduction: str) -> None:
    weak, strong, targets = batch((5, 6, 3), dtype)
    pos_weight, class_weight = torch.linspace(0, 3, 6).to(dtype), torch.linspace(0.5, 2, 6).to(dtype)
    for threshold, temperature, weights, detach, by_class in itertools.product(*OPTIONS.values()):
        agree(
            weak,
            strong,
            targets,
            threshold=threshold,
            temperature=temperature,
            pseudo_weight=weights[0],
            consistency_weight=weights[1],
            detach_target=detach,
            pos_weight=pos_weight if by_class in ("pos", "both") else None,
            class_weight=class_weight if by_class in ("class", "both") else None,
            reduction=reduction,
        )


@pytest.mark.parametrize("detach_target", [True, False])
def test_no_strong_view(detach_target: bool) -> None:
    weak, _, targets = batch((7, 5))
    agree(weak, None, targets, detach_target=detach_target)
    agree(weak, None, targets, pseudo_weight=0.0)


@pytest.mark.parametrize(
    "dtype", [torch.int8, torch.int16, torch.int32, torch.int64, torch.uint8, torch.bool]
)
def test_integer_targets(dtype: torch.dtype) -> None:
    weak, strong, targets = batch((16, 15))
    states = torch.where(targets.isnan(), -1, targets.round())
    states = states.clamp(min=0) if dtype in (torch.uint8, torch.bool) else states
    agree(weak, strong, states.to(dtype))


@pytest.mark.parametrize("logits", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("targets", [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int8])
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_dtypes(logits: torch.dtype, targets: torch.dtype, reduction: str) -> None:
    weak, strong, soft = batch((33, 17), logits)
    known = (
        soft.to(targets)
        if targets.is_floating_point
        else torch.where(soft.isnan(), -1, soft.round()).to(targets)
    )
    agree(weak, strong, known, reduction=reduction)
    loss = partial_label_loss(weak, strong, known, reduction=reduction)  # type: ignore[arg-type]
    assert loss.dtype == (torch.float64 if logits == torch.float64 else torch.float32)


LAYOUTS = {
    "channels_last": lambda tensor: tensor.contiguous(memory_format=torch.channels_last),
    "transposed": lambda tensor: tensor.transpose(0, 1).contiguous().transpose(0, 1),
    "sliced": lambda tensor: tensor.repeat_interleave(2, dim=-1)[..., ::2],
    "strided rows": lambda tensor: torch.cat([tensor, tensor], dim=2)[:, :, : tensor.shape[2]],
    "flipped axes": lambda tensor: tensor.permute(3, 2, 1, 0).contiguous().permute(3, 2, 1, 0),
    "expanded": lambda tensor: tensor[:1].expand_as(tensor),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_layouts(layout: str, dtype: torch.dtype, reduction: str) -> None:
    weak, strong, targets = (LAYOUTS[layout](tensor.detach()) for tensor in batch((3, 5, 20, 31), dtype))
    class_weight = torch.linspace(0.5, 2, 5)
    for mixed in (strong, strong.contiguous()):
        views = (weak.requires_grad_(), mixed.requires_grad_(), targets)
        agree(*views, reduction=reduction)
        agree(*views, reduction=reduction, class_weight=class_weight, pos_weight=class_weight)


def test_gradient_keeps_the_memory_format() -> None:
    weak, strong, targets = batch((2, 3, 8, 8))
    weak = weak.detach().contiguous(memory_format=torch.channels_last).requires_grad_()
    partial_label_loss(weak, strong, targets).backward()
    assert weak.grad is not None
    assert weak.grad.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("detach_target", [True, False])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_gradcheck(detach_target: bool, reduction: str) -> None:
    weak, strong, targets = batch((3, 5, 2), torch.float64)
    # With the pseudo-label taken as a constant the loss is not the gradient's integral: the terms that it
    # enters are left out of the numerical check, and compared with the reference elsewhere.
    weight = 0.0 if detach_target else 1.0

    def loss(weak: Tensor, strong: Tensor) -> Tensor:
        return partial_label_loss(
            weak,
            strong,
            targets,
            pseudo_weight=weight,
            consistency_weight=weight,
            detach_target=detach_target,
            class_weight=torch.linspace(0.5, 2, 5, dtype=torch.float64),
            reduction=reduction,  # type: ignore[arg-type]
        )

    assert torch.autograd.gradcheck(loss, (weak, strong), fast_mode=False)
