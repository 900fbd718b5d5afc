"""`excluded` and `class_sums`: layouts under torch's own checks and torch.compile, empty axes, and plain torch."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from labelassemble import _C
from labelassemble.loss import PartialLabelLoss
from labelassemble.ops.class_sums import class_sums
from labelassemble.ops.class_sums import reference as plain_sums
from labelassemble.ops.excluded import excluded
from labelassemble.ops.excluded import reference as plain_excluded

OPS = torch.ops.labelassemble
LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "dense": lambda x: x,
    "transposed spatial axes": lambda x: x.transpose(2, 3),
    "every second class": lambda x: x[:, ::2],
    "every second voxel": lambda x: x[..., ::2],
    "channels last": lambda x: x.to(memory_format=torch.channels_last),
    "channels last, some classes": lambda x: x.to(memory_format=torch.channels_last)[:, :3],
    "rows": lambda x: x[:, :, 0, 0],
    "some classes of rows": lambda x: x[:, :, 0, 0].contiguous()[:, :3],
    "turned rows": lambda x: x[:, :, 0, 0].contiguous()[:3, :3].t(),
    "volumes, axes turned": lambda x: x.unflatten(3, (2, 3)).transpose(2, 4),
}
EMPTY = [(2, 3, 5, 0), (2, 3, 0, 5), (2, 3, 5, 4, 0), (0, 3, 4, 4), (2, 0, 4, 4), (0, 3), (2, 0)]


def drawn(shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """Return logits, and targets of which a third is unknown."""
    generator = torch.Generator().manual_seed(11)
    targets = torch.randint(-1, 2, shape, generator=generator).to(dtype)
    return 3 * torch.randn(shape, dtype=dtype, generator=generator), torch.where(
        targets < 0, math.nan, targets
    )


def all_others(classes: int) -> Tensor:
    return ~torch.eye(classes, dtype=torch.bool)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_opcheck_in_every_layout(layout: str) -> None:
    logits, targets = (LAYOUTS[layout](x) for x in drawn((3, 5, 4, 6)))
    classes = logits.shape[1]
    exclusive = all_others(classes)
    by_image = exclusive.expand(len(logits), classes, classes)
    for matrix in (exclusive, by_image):
        torch.library.opcheck(OPS.excluded.default, (logits, targets, matrix))
        assert torch.equal(excluded(logits, targets, matrix), plain_excluded(logits, targets, matrix))
    torch.library.opcheck(OPS.class_sums.default, (logits.detach().requires_grad_(), targets))
    grad = torch.linspace(-1, 1, 6 * classes, dtype=torch.float64).reshape(6, classes)
    torch.library.opcheck(OPS._class_sums_backward.default, (grad, logits, targets))
    ours, theirs = logits.detach().requires_grad_(), logits.detach().requires_grad_()
    found, want = class_sums(ours, targets), plain_sums(theirs, targets)
    torch.testing.assert_close(found, want, rtol=1e-5, atol=1e-6)
    (found * grad).sum().backward()
    (want * grad).sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad)


def test_channels_last_stays() -> None:
    logits, targets = (x.to(memory_format=torch.channels_last) for x in drawn((2, 3, 4, 6)))
    assert excluded(logits, targets, all_others(3)).stride() == logits.stride()
    grad = torch.ones(6, 3, dtype=torch.float64)
    assert OPS._class_sums_backward(grad, logits, targets).stride() == logits.stride()


@pytest.mark.slow
@pytest.mark.parametrize(
    "layout", ["channels last, some classes", "some classes of rows", "volumes, axes turned"]
)
def test_inductor_compiles_exclusive_classes_in_every_layout(layout: str) -> None:
    logits, targets = drawn((3, 5, 4, 6))
    targets = LAYOUTS[layout](targets)
    loss = PartialLabelLoss(exclusive=all_others(targets.shape[1]))

    def step(logits: Tensor) -> Tensor:
        views = LAYOUTS[layout](logits)
        return loss(views, 2 * views, targets) + class_sums(views, targets)[:2].sum()

    results = []
    for function in (step, torch.compile(step, fullgraph=True)):
        own = logits.clone().requires_grad_()
        value = function(own)
        value.backward()
        results.append((value, own.grad))
    torch.testing.assert_close(results[0], results[1])


@pytest.mark.parametrize("shape", EMPTY)
def test_an_axis_without_entries(shape: tuple[int, ...]) -> None:
    logits, targets = drawn(shape)
    classes = shape[1]
    for matrix in (all_others(classes), all_others(classes).expand(shape[0], classes, classes)):
        for function in (excluded, plain_excluded):
            found = function(logits, targets, matrix)
            assert (found.shape, found.dtype) == (shape, torch.bool)
    for sums in (class_sums, plain_sums):
        own = logits.clone().requires_grad_()
        found = sums(own, targets)
        assert torch.equal(found, torch.zeros(6, classes, dtype=torch.float64))
        (grad,) = torch.autograd.grad(found.sum(), own)
        assert grad.shape == shape


@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 1)])
def test_plain_torch_keeps_float64(shape: tuple[int, ...]) -> None:
    """Two rivals, known by one part in 10^12 alone, are equal in float32."""
    logits = torch.full(shape, 1.0, dtype=torch.float64)
    logits[:, 1] += 1e-12
    targets = torch.full_like(logits, math.nan)
    want = torch.tensor([True, False, True]).reshape(3, *[1] * (len(shape) - 2)).expand(shape)
    for function in (excluded, plain_excluded):
        assert torch.equal(function(logits, targets, all_others(3)), want)


@pytest.mark.parametrize(
    ("logits", "targets", "exclusive", "said"),
    [
        ((2, 3, 4), (2, 1, 4), all_others(3), r"targets must have the shape of logits, got \[2, 1, 4\]"),
        ((3,), (3,), all_others(3), r"logits must be \[B, C, \*spatial\], got \[3\]"),
        (torch.ones(2, 3).long(), (2, 3), all_others(3), "logits must be floating, got"),
        ((2, 3), (2, 3), all_others(2), r"exclusive must have the shape \[C, C\] or \[B, C, C\] of logits"),
        ((2, 3), (2, 3), all_others(3).float(), "exclusive must be bool, got"),
        ((2, 3), torch.ones(2, 3).long(), None, "targets must be floating, got"),
        ((2, 3), torch.ones(2, 3, requires_grad=True), None, "targets must not require a gradient"),
    ],
)
def test_plain_torch_refuses_what_the_op_refuses(
    logits: Tensor | tuple[int, ...],
    targets: Tensor | tuple[int, ...],
    exclusive: Tensor | None,
    said: str,
) -> None:
    logits, targets = (x if isinstance(x, Tensor) else torch.zeros(x) for x in (logits, targets))
    if exclusive is not None:
        for function in (_C.excluded, OPS.excluded, plain_excluded):
            with pytest.raises(RuntimeError, match=f"^excluded: {said}"):
                function(logits, targets, exclusive, 0.5)
    if exclusive is None or not said.startswith("exclusive"):
        for function in (_C.class_sums, OPS.class_sums, plain_sums):
            with pytest.raises(RuntimeError, match=f"^class_sums: {said}"):
                function(logits, targets, 0.5)
