"""partial_label_loss as an op: registration, compilation, errors, and what it refuses."""

import re

import pytest
import torch
from torch import Tensor

from labelassemble.functional import partial_label_loss

weak = torch.zeros(4, 3)
targets = torch.full((4, 3), float("nan"))


def batch(requires_grad: bool, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    logits = [
        torch.randn(6, 5, generator=generator).to(dtype).requires_grad_(requires_grad) for _ in range(2)
    ]
    labels = torch.randint(-1, 2, (6, 5), generator=generator)
    return logits[0], logits[1], labels


@pytest.mark.parametrize("requires_grad", [False, True])
@pytest.mark.parametrize("op", ["partial_label_loss", "partial_label_loss_terms"])
@pytest.mark.parametrize("strong", [True, False])
def test_opcheck(op: str, requires_grad: bool, strong: bool) -> None:
    first, second, labels = batch(requires_grad)
    torch.library.opcheck(
        getattr(torch.ops.labelassemble, op).default, (first, second if strong else None, labels)
    )


def test_opcheck_of_every_entry_and_of_bce() -> None:
    first, second, labels = batch(True)
    op = torch.ops.labelassemble.partial_label_loss.default
    torch.library.opcheck(op, (first, second, labels), {"reduction": "none", "detach_target": False})
    torch.library.opcheck(torch.ops.labelassemble.masked_bce_with_logits.default, (first, labels))


def test_compile_fullgraph() -> None:
    first, second, labels = batch(True)

    def step(first: Tensor, second: Tensor) -> Tensor:
        return partial_label_loss(first * 2, second * 2, labels)

    eager = step(first, second)
    wanted = torch.autograd.grad(eager, (first, second))
    compiled = torch.compile(step, fullgraph=True, backend="aot_eager")(first, second)
    assert torch.equal(compiled, eager)
    for gradient, want in zip(torch.autograd.grad(compiled, (first, second)), wanted, strict=True):
        assert torch.equal(gradient, want)


def test_meta_tensors_give_shapes_without_data() -> None:
    first = torch.empty(7, 3, device="meta", dtype=torch.bfloat16)
    loss = torch.ops.labelassemble.partial_label_loss(first, None, first, reduction="none")
    assert (loss.device.type, loss.shape, loss.dtype) == ("meta", (7, 3), torch.float32)


def test_inference_mode() -> None:
    first, second, labels = batch(False)
    with torch.inference_mode():
        inside = partial_label_loss(first, second, labels)
    assert torch.equal(inside, partial_label_loss(first, second, labels))


ERRORS = [
    ({"targets": torch.zeros(4, 2)}, "targets must have the shape of logits_weak, got [4, 2] and [4, 3]"),
    (
        {"logits_strong": torch.zeros(3, 4)},
        "logits_strong must have the shape of logits_weak, got [3, 4] and [4, 3]",
    ),
    (
        {"logits_strong": weak.double()},
        "logits_strong must have the dtype of logits_weak, got Double and Float",
    ),
    ({"logits_weak": weak.int()}, "logits_weak must be float32, float64, float16 or bfloat16, got Int"),
    (
        {"logits_weak": torch.zeros(()), "targets": torch.zeros(())},
        "logits_weak must be [B, C, *spatial], got []",
    ),
    ({"targets": weak.to(torch.complex64)}, "targets must be floating, integer or bool, got ComplexFloat"),
    ({"targets": weak.to("meta")}, "targets must be on the device of logits_weak, got meta and cpu"),
    (
        {"logits_strong": weak.to("meta")},
        "logits_strong must be on the device of logits_weak, got meta and cpu",
    ),
    ({"pos_weight": torch.ones(4)}, "pos_weight must have one value a class, [3], got [4]"),
    ({"class_weight": torch.ones(3, 1)}, "class_weight must have one value a class, [3], got [3, 1]"),
    (
        {"pos_weight": torch.tensor([1, -0.5, 1])},
        "pos_weight must be finite and not negative, got -0.5",
    ),
    (
        {"class_weight": torch.tensor([1, 1, torch.nan]).double()},
        "class_weight must be finite and not negative, got nan",
    ),
    (
        {"pos_weight": torch.tensor([1, 0, 1, 0, torch.inf]).half()[::2]},
        "pos_weight must be finite and not negative, got inf",
    ),
    ({"class_weight": torch.ones(3, device="meta")}, "class_weight must be on cpu as logits_weak, got meta"),
    ({"threshold": 1.0}, "threshold must lie between 0 and 1, got 1"),
    ({"threshold": float("nan")}, "threshold must lie between 0 and 1, got nan"),
    ({"temperature": 0.5}, "temperature must be at least 1, got 0.5"),
    ({"pseudo_weight": -1.0}, "pseudo_weight must be finite and not negative, got -1"),
    ({"pseudo_weight": -float("nan")}, "pseudo_weight must be finite and not negative, got nan"),
    ({"consistency_weight": float("inf")}, "consistency_weight must be finite and not negative, got inf"),
    ({"reduction": "avg"}, "reduction must be mean, sum or none, got avg"),
]


@pytest.mark.parametrize(("change", "message"), ERRORS, ids=[message[:40] for _, message in ERRORS])
def test_errors(change: dict[str, object], message: str) -> None:
    arguments: dict[str, object] = {"logits_weak": weak, "logits_strong": None, "targets": targets} | change
    with pytest.raises(RuntimeError, match=re.escape(f"partial_label_loss: {message}")):
        partial_label_loss(**arguments)  # type: ignore[arg-type]


def test_terms_of_entries_are_sums() -> None:
    tensors = batch(False)
    op = torch.ops.labelassemble.partial_label_loss_terms
    entries, terms = op(*tensors, reduction="none")
    assert torch.equal(entries, partial_label_loss(*tensors, reduction="none"))
    torch.testing.assert_close(terms, op(*tensors, reduction="sum")[1])


def test_the_private_backward_checks_its_arguments() -> None:
    backward = torch.ops.labelassemble._partial_label_loss_backward
    rest = (weak, None, targets, None, None, torch.zeros(5).double())
    with pytest.raises(RuntimeError, match="options must be 7 numbers, got 2"):
        backward(torch.ones(()), *rest, [0.5, 4.0], True, False)
    with pytest.raises(RuntimeError, match="grad must be Float, got Double"):
        backward(torch.ones(()).double(), *rest, [0.5, 4.0, 1.0, 1.0, 1.0, 1.0, 0.0], True, False)


def test_the_op_takes_all_but_logits_as_constants() -> None:
    op = torch.ops.labelassemble.partial_label_loss
    ones = torch.ones(3, requires_grad=True)
    with pytest.raises(
        RuntimeError, match="pos_weight must not require a gradient: the op takes it as a constant"
    ):
        op(weak, None, targets, pos_weight=ones)
    with pytest.raises(RuntimeError, match="targets must not require a gradient"):
        op(weak, None, targets.clone().requires_grad_())
    with pytest.raises(RuntimeError, match="class_weight must be floating, got Long"):
        op(weak, None, targets, class_weight=torch.ones(3, dtype=torch.long))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_takes_half_logits_and_gives_float(dtype: torch.dtype) -> None:
    first, second, labels = batch(True)
    with torch.autocast("cpu", dtype=dtype):
        loss = partial_label_loss(first.to(dtype), second, labels)
    assert loss.dtype == torch.float32
    loss.backward()
    assert torch.equal(loss, partial_label_loss(first.to(dtype).float(), second, labels))
