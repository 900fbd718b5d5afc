"""Drawn cases of the CUDA kernels against the float64 reference: dtypes, layouts, options, gradients, autocast.

Marked cuda; tests/cuda_on_cpu runs them without a GPU.
"""

import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from labelassemble.functional import partial_label_loss_terms
from labelassemble.ops.partial_label_loss import OpOptions, Reduction, known_mask, reference

sys.path.insert(0, str(Path(__file__).parent))
from cuda_device import DEVICE

pytestmark = pytest.mark.cuda

LOGITS = [torch.float32, torch.float64, torch.float16, torch.bfloat16]
INTEGERS = [torch.int8, torch.uint8, torch.int16, torch.int32, torch.int64, torch.bool]
SHAPES = [
    (1, 1),
    (5, 3),
    (33, 15),
    (450, 14),
    (2, 3, 5),
    (2, 3, 17, 11),
    (3, 5, 4, 8),
    (2, 3, 5, 7, 4),
    (2, 2, 9, 16, 11),
]
ROUNDING = {torch.float32: 2e-5, torch.float64: 1e-11, torch.float16: 1e-3, torch.bfloat16: 8e-3}


def channels_last(tensor: Tensor) -> Tensor:
    return tensor if tensor.dim() < 3 else tensor.movedim(1, -1).contiguous().movedim(-1, 1)


def misaligned(tensor: Tensor) -> Tensor:
    room = torch.empty(tensor.numel() + 1, dtype=tensor.dtype, device=tensor.device)
    return room[1:].view(tensor.shape).copy_(tensor)


LAYOUTS: list[Callable[[Tensor], Tensor]] = [
    lambda tensor: tensor,
    channels_last,
    lambda tensor: tensor.repeat_interleave(2, dim=-1)[..., ::2],
    lambda tensor: tensor.transpose(0, -1).contiguous().transpose(0, -1),
    lambda tensor: tensor[:1].expand_as(tensor),
    misaligned,
]


class Case(NamedTuple):
    """What one call is given."""

    weak: Tensor
    strong: Tensor | None
    targets: Tensor
    options: OpOptions
    reduction: Reduction
    autocast: bool


def draw(rng: random.Random) -> Case:
    shape, dtype = rng.choice(SHAPES), rng.choice(LOGITS)
    kinds = [dtype, torch.float32, *LOGITS, *INTEGERS]  # the flat loops are for the first two
    kind = rng.choice(kinds)
    same = rng.choice(LAYOUTS) if rng.random() < 0.6 else None

    def lay_out(tensor: Tensor) -> Tensor:
        return (same or rng.choice(LAYOUTS))(tensor.to(DEVICE))

    generator = torch.Generator().manual_seed(rng.randrange(1 << 30))
    autocast = rng.random() < 0.1 and dtype == torch.float32
    views = [
        rng.choice([1.0, 4.0, 30.0]) * torch.randn(shape, generator=generator, dtype=torch.float64)
        for _ in range(2)
    ]
    weak = lay_out(views[0].to(dtype))
    strong = lay_out(views[1].to(torch.bfloat16 if autocast else dtype)) if rng.random() < 0.8 else None
    unknown = torch.rand(shape, generator=generator) < rng.choice([0.0, 0.4, 1.0])
    soft = torch.rand(shape, generator=generator)
    if kind in LOGITS:
        targets = torch.where(unknown, torch.nan, soft).to(kind)
    else:
        targets = (soft > 0.5).to(kind)
        if kind not in (torch.bool, torch.uint8):
            targets[unknown] = -1
    by_class = [
        torch.rand(shape[1], generator=generator).to(DEVICE, rng.choice(LOGITS))
        if rng.random() < 0.25
        else None
        for _ in range(2)
    ]
    options = OpOptions(
        threshold=rng.choice([0.5, 0.3, 0.77]),
        temperature=rng.choice([1.0, 4.0, 1.5, float("inf")]),
        pseudo_weight=rng.choice([1.0, 0.0, 0.3]),
        consistency_weight=rng.choice([1.0, 0.0, 2.5]),
        pos_weight=by_class[0],
        class_weight=by_class[1],
        detach_target=rng.random() < 0.6,
    )
    reductions: list[Reduction] = ["mean", "sum", "none"]
    return Case(weak, strong, lay_out(targets), options, rng.choice(reductions), autocast)


def check(rng: random.Random) -> None:
    case = draw(rng)
    targets = case.targets
    weak = case.weak.detach().requires_grad_()
    strong = None if case.strong is None else case.strong.detach().requires_grad_()
    views = [weak] if strong is None else [weak, strong]
    exact = [view.detach().double().requires_grad_() for view in views]
    with torch.autocast(DEVICE, torch.bfloat16, enabled=case.autocast):
        terms = partial_label_loss_terms(weak, strong, targets, case.options, reduction=case.reduction)
    known = targets.double() if targets.is_floating_point() else targets
    want, want_terms = reference(
        exact[0],
        None if strong is None else exact[1],
        known,
        reduction=case.reduction,
        **case.options._asdict(),
    )
    tolerance = 1e-11 if weak.dtype == torch.float64 else 2e-5
    torch.testing.assert_close(terms.total.double(), want, rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(torch.stack(terms[1:]), want_terms, rtol=tolerance, atol=tolerance)
    assert terms.known.item() == known_mask(targets).sum().item()
    # Neither of one value nor dense, as what comes after the loss may leave it.
    gradient = torch.rand(*want.shape, 2, generator=torch.Generator().manual_seed(1)).to(DEVICE)[..., 0]
    wanted = torch.autograd.grad(want, exact, gradient.double(), allow_unused=True)
    got = torch.autograd.grad(terms.total, views, gradient.to(terms.total.dtype), allow_unused=True)
    for ours, theirs, view in zip(got, wanted, views, strict=True):
        expected = torch.zeros_like(view, dtype=torch.float64) if theirs is None else theirs
        ours = torch.zeros_like(view) if ours is None else ours
        torch.testing.assert_close(ours.double(), expected, rtol=ROUNDING[view.dtype], atol=2e-6)


def check_relu_mean(rng: random.Random) -> None:
    shape = rng.choice([(2, 3, 1, 1), (3, 33, 5, 4), (1, 40, 7, 7), (2, 5, 3, 4, 5), (2, 9, 40)])
    dtype = rng.choice(LOGITS)
    image = torch.randn(shape, generator=torch.Generator().manual_seed(rng.randrange(1 << 30))).to(
        DEVICE, dtype
    )
    image = rng.choice(LAYOUTS)(image).detach().requires_grad_()
    mean = torch.ops.labelassemble.relu_mean(image)
    exact = image.detach().double().requires_grad_()
    want = exact.relu().flatten(2).mean(2)
    torch.testing.assert_close(mean.double(), want, rtol=ROUNDING[dtype], atol=1e-6)
    gradient = torch.rand(want.shape, generator=torch.Generator().manual_seed(1)).to(DEVICE, dtype)
    (ours,) = torch.autograd.grad(mean, image, gradient)
    (theirs,) = torch.autograd.grad(want, exact, gradient.double())
    torch.testing.assert_close(ours.double(), theirs, rtol=ROUNDING[dtype], atol=1e-6)


@pytest.mark.parametrize("part", range(11))
def test_loss(part: int) -> None:
    for index in range(50):
        seed = 50 * part + index
        try:
            check(random.Random(seed))
        except (AssertionError, RuntimeError) as error:
            raise AssertionError(f"the case of seed {seed}: {error}") from error


def test_relu_mean() -> None:
    for seed in range(50):
        check_relu_mean(random.Random(seed))
