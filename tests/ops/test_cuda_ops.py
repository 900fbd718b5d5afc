"""The CUDA kernels against the float64 reference; marked cuda, run by benchmarks/gpu.sh where a GPU is."""

import os

import pytest
import torch
from torch import Tensor

from labelassemble.functional import partial_label_loss, partial_label_loss_terms
from labelassemble.ops.partial_label_loss import reference

pytestmark = pytest.mark.cuda
NAN = float("nan")


@pytest.fixture(autouse=True)
def device() -> None:
    if not torch.cuda.is_available():
        if os.environ.get("LABELASSEMBLE_FAIL_WITHOUT_CUDA") == "1":
            pytest.fail("no CUDA device, and LABELASSEMBLE_FAIL_WITHOUT_CUDA=1")
        pytest.skip("no CUDA device")


def batch(shape: tuple[int, ...], dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    weak, strong = (3 * torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(2))
    targets = torch.rand(shape, generator=generator, dtype=torch.float64)
    targets[torch.rand(shape, generator=generator) < 0.4] = NAN
    weak, strong, targets = (tensor.to("cuda", dtype) for tensor in (weak, strong, targets))
    return weak.requires_grad_(), strong.requires_grad_(), targets


SHAPES = [(1, 1), (16, 15), (0, 4), (64, 15), (1024, 15), (4097, 15), (2, 4, 33, 17), (2, 3, 64, 64, 32)]
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
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_agrees_with_the_reference_sanitizer(
    shape: tuple[int, ...], dtype: torch.dtype, options: dict[str, object]
) -> None:
    agree(*batch(shape, dtype), **options)
    by_class = torch.linspace(0.5, 2, shape[1], device="cuda")
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
    weak, strong, targets = batch((2, 4, 64, 64, 16), torch.float32)

    def step() -> tuple[Tensor, ...]:
        loss = partial_label_loss(weak, strong, targets)
        return loss, *torch.autograd.grad(loss, (weak, strong))

    first = step()
    for _ in range(5):
        assert all(torch.equal(a, b) for a, b in zip(first, step(), strict=True))
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):  # fails where the host waits for the device
        captured = step()
    graph.replay()
    torch.cuda.synchronize()
    assert all(torch.equal(a, b) for a, b in zip(first, captured, strict=True))


def test_terms_count_on_the_device() -> None:
    weak, strong, targets = batch((1024, 15), torch.float32)
    terms = partial_label_loss_terms(weak, strong, targets)
    assert terms.known.item() == (~targets.isnan()).sum().item()
    assert terms.unknown.is_cuda


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_relu_mean_sanitizer(dtype: torch.dtype, memory_format: torch.memory_format) -> None:
    image = (
        torch.randn(4, 70, 7, 9, device="cuda")
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
