"""class_query_logits, pooled_class_query_logits and relu_mean against their references."""

import re

import pytest
import torch
from torch import Tensor

from labelassemble.functional import class_query_logits, pooled_class_query_logits
from labelassemble.ops.class_query_logits import reference
from labelassemble.ops.pooled_class_query_logits import reference as pooled_reference


def head(dtype: torch.dtype = torch.float32, features: int = 9) -> list[Tensor]:
    generator = torch.Generator().manual_seed(2)
    shapes = [(4, 6), (features, 6), (features,)]
    return [torch.randn(shape, generator=generator).to(dtype).requires_grad_() for shape in shapes]


def feature_map(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(3)).to(dtype).requires_grad_()


@pytest.mark.parametrize("batch", [0, 1, 5])
def test_class_query_logits(batch: int) -> None:
    inputs = [feature_map(batch, 9), *head()]
    got, want = class_query_logits(*inputs), reference(*inputs)
    assert torch.equal(got, want)
    for gradient, wanted in zip(
        torch.autograd.grad(got.sum(), inputs), torch.autograd.grad(want.sum(), inputs), strict=True
    ):
        assert torch.equal(gradient, wanted)


LAYOUTS = {
    "contiguous": lambda tensor: tensor,
    "channels_last": lambda tensor: tensor.contiguous(memory_format=torch.channels_last),
    "sliced": lambda tensor: tensor.repeat_interleave(2, dim=3)[..., ::2],
    "cropped": lambda tensor: torch.cat([tensor, tensor], dim=3)[..., : tensor.shape[3]],
    "transposed": lambda tensor: tensor.transpose(2, 3).contiguous().transpose(2, 3),
    "expanded": lambda tensor: tensor[:, :, :1].expand_as(tensor),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", [(2, 9, 5, 6), (3, 9, 1, 1), (1, 9, 30, 31), (0, 9, 4, 4), (2, 130, 2, 3)])
def test_pooled(layout: str, dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    inputs = [
        LAYOUTS[layout](feature_map(*shape, dtype=dtype).detach()).requires_grad_(),
        *head(dtype, shape[1]),
    ]
    exact = [tensor.detach().double().requires_grad_() for tensor in inputs]
    got, want = pooled_class_query_logits(*inputs), pooled_reference(*exact)
    rounding = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 3e-2, torch.float16: 4e-3}[dtype]
    assert got.dtype == dtype
    torch.testing.assert_close(got.double(), want, rtol=rounding, atol=10 * rounding)
    gradients, wanted = torch.autograd.grad(got.sum(), inputs), torch.autograd.grad(want.sum(), exact)
    for gradient, expected in zip(gradients, wanted, strict=True):
        torch.testing.assert_close(gradient.double(), expected, rtol=rounding, atol=10 * rounding)


@pytest.mark.parametrize("spatial", [(7,), (3, 4), (2, 3, 4)])
def test_relu_mean_over_any_number_of_axes(spatial: tuple[int, ...]) -> None:
    image = feature_map(2, 5, *spatial, dtype=torch.float64)
    mean = torch.ops.labelassemble.relu_mean(image)
    torch.testing.assert_close(mean, image.relu().flatten(2).mean(2))


def test_relu_mean_of_no_position_is_nan_as_in_torch() -> None:
    assert torch.ops.labelassemble.relu_mean(torch.zeros(2, 3, 4, 0)).isnan().all()


def test_relu_mean_keeps_nan() -> None:
    image = torch.tensor([[[1.0, float("nan")], [-1.0, 3.0]]])
    mean = torch.ops.labelassemble.relu_mean(image)
    assert mean.isnan().tolist() == [[True, False]]
    assert mean[0, 1] == 1.5


def test_gradients_twice() -> None:
    inputs = [feature_map(2, 3, 2, 2, dtype=torch.float64), *head(torch.float64, 3)]
    assert torch.autograd.gradcheck(pooled_class_query_logits, inputs)
    assert torch.autograd.gradgradcheck(pooled_class_query_logits, inputs)
    assert torch.autograd.gradgradcheck(
        class_query_logits, [feature_map(2, 3, dtype=torch.float64), *inputs[1:]]
    )


def test_opcheck() -> None:
    image = feature_map(2, 9, 3, 3)
    torch.library.opcheck(torch.ops.labelassemble.relu_mean.default, (image,))
    torch.library.opcheck(torch.ops.labelassemble.pooled_class_query_logits.default, (image, *head()))
    torch.library.opcheck(torch.ops.labelassemble.class_query_logits.default, (feature_map(2, 9), *head()))


def test_compile_fullgraph() -> None:
    inputs = [feature_map(2, 9, 3, 3), *head()]
    compiled = torch.compile(pooled_class_query_logits, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(*inputs), pooled_class_query_logits(*inputs))


def test_autocast_multiplies_in_half() -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert class_query_logits(feature_map(2, 9), *head()).dtype == torch.bfloat16


queries, weight, bias = (tensor.detach() for tensor in head())
ERRORS = [
    (
        (torch.zeros(2, 8), queries, weight, bias),
        "features must be [*, D] with the D of weight, got [2, 8] and [9, 6]",
    ),
    ((torch.zeros(2, 9), queries[0], weight, bias), "queries must be [C, K], got [6]"),
    (
        (torch.zeros(2, 9), queries, weight.t(), bias),
        "weight must be [D, K] with the K of queries, got [6, 9]",
    ),
    (
        (torch.zeros(2, 9), queries, weight, bias[:3]),
        "bias must be [D] with the D of weight, got [3] and [9, 6]",
    ),
]


@pytest.mark.parametrize(("arguments", "message"), ERRORS)
def test_errors(arguments: tuple[Tensor, ...], message: str) -> None:
    with pytest.raises(RuntimeError, match=re.escape(f"class_query_logits: {message}")):
        class_query_logits(*arguments)


def test_pooled_errors() -> None:
    with pytest.raises(RuntimeError, match=re.escape("feature_map must be [B, D, *spatial]")):
        pooled_class_query_logits(torch.zeros(2, 9), queries, weight, bias)
    with pytest.raises(RuntimeError, match="relu_mean: feature_map must be float32"):
        torch.ops.labelassemble.relu_mean(torch.zeros(2, 3, 4, dtype=torch.long))
