"""What nn.BCEWithLogitsLoss and nn.Linear take, the drop-ins take, with the same results."""

import re
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from labelassemble import ClassQueryHead, MaskedBCEWithLogitsLoss, PartialLabelLoss
from labelassemble.errors import LabelAssembleError

NAN = float("nan")
C = 3


def known(*shape: int) -> tuple[Tensor, Tensor]:
    return torch.randn(*shape), torch.rand(*shape)


SHAPES: dict[str, tuple[tuple[int, ...], dict[str, Any]]] = {
    "nothing": ((4, C), {}),
    "[B]": ((5,), {}),
    "[B], weights": ((5,), {"pos_weight": torch.tensor(2.0), "weight": torch.rand(5)}),
    "pos_weight []": ((4, C), {"pos_weight": torch.tensor(2.5)}),
    "pos_weight [1]": ((4, C), {"pos_weight": torch.tensor([2.5])}),
    "pos_weight [C]": ((4, C), {"pos_weight": torch.rand(C)}),
    "pos_weight [1, C]": ((4, C), {"pos_weight": torch.rand(1, C)}),
    "pos_weight [C, 1, 1]": ((2, C, 4, 5), {"pos_weight": torch.rand(C, 1, 1)}),
    "pos_weight [1, C, 1, 1]": ((2, C, 4, 5), {"pos_weight": torch.rand(1, C, 1, 1)}),
    "pos_weight of whole numbers": ((4, C), {"pos_weight": torch.tensor([1, 2, 3])}),
    "weight [C]": ((4, C), {"weight": torch.rand(C)}),
    "weight [B, 1]": ((4, C), {"weight": torch.rand(4, 1)}),
    "weight [B, C]": ((4, C), {"weight": torch.rand(4, C), "pos_weight": torch.rand(C)}),
    "weight [W]": ((2, C, 4, 5), {"weight": torch.rand(5)}),
}


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize(("shape", "options"), SHAPES.values(), ids=SHAPES)
def test_masked_bce_takes_what_torchs_own_takes(
    shape: tuple[int, ...], options: dict[str, Any], reduction: str
) -> None:
    logits, targets = known(*shape)
    logits.requires_grad_()
    theirs = nn.BCEWithLogitsLoss(reduction=reduction, **options)
    ours = MaskedBCEWithLogitsLoss(reduction=reduction, **options)  # type: ignore[arg-type]
    got, want = ours(logits, targets), theirs(logits, targets)
    torch.testing.assert_close(got, want)
    for a, b in zip(
        torch.autograd.grad(got.sum(), logits), torch.autograd.grad(want.sum(), logits), strict=True
    ):
        torch.testing.assert_close(a, b)
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    ours.load_state_dict(theirs.state_dict())


def test_weights_of_entries_leave_unknown_ones_alone() -> None:
    logits, targets = torch.randn(2, 2, requires_grad=True), torch.tensor([[1.0, NAN], [0.0, NAN]])
    weight = torch.tensor([[1.0, 5.0], [3.0, 7.0]])
    loss = MaskedBCEWithLogitsLoss(weight)(logits, targets)
    want = nn.BCEWithLogitsLoss(weight[:, 0])(logits[:, 0], targets[:, 0])
    torch.testing.assert_close(loss, want)
    loss.backward()
    assert logits.grad is not None
    assert torch.equal(logits.grad[:, 1], torch.zeros(2))


@pytest.mark.parametrize(
    "weights", [2, 2.5, torch.tensor(2.0), torch.tensor([2]), [2, 2, 2], torch.full((C, 1), 2.0)]
)
@pytest.mark.parametrize("name", ["pos_weight", "class_weight"])
def test_partial_label_loss_takes_the_same_weights(name: str, weights: Any) -> None:
    shape = (4, C, 6) if isinstance(weights, Tensor) and weights.dim() == 2 else (4, C)
    logits, targets = torch.randn(shape), torch.rand(shape)
    targets[::2] = NAN
    given = float(torch.as_tensor(weights, dtype=torch.float32).flatten()[0])
    want = PartialLabelLoss(**{name: torch.full((C,), given)})  # type: ignore[arg-type]
    for options in (
        {},
        {"strong_known": True},
        {"known_mean": "class"},
        {"reduction": "none", "strong_known": True},
    ):
        loss = PartialLabelLoss(**{name: weights}, **options)  # type: ignore[arg-type]
        want = PartialLabelLoss(**{name: torch.full((C,), given)}, **options)  # type: ignore[arg-type]
        torch.testing.assert_close(loss(logits, 2 * logits, targets), want(logits, 2 * logits, targets))
    scripted = torch.jit.script(PartialLabelLoss(**{name: weights}))  # type: ignore[arg-type]
    torch.testing.assert_close(
        scripted(logits, None, targets),
        PartialLabelLoss(**{name: weights})(logits, None, targets),  # type: ignore[arg-type]
    )


@pytest.mark.parametrize(
    "options",
    [{}, {"strong_known": True}, {"exclusive": [[False]]}, {"reduction": "none", "strong_known": True}],
)
def test_logits_without_an_axis_of_classes_are_those_of_one(options: dict[str, Any]) -> None:
    weak, strong, targets = torch.randn(6), torch.randn(6), torch.tensor([1, 0, -1, -1, 1, 0])
    loss = PartialLabelLoss(**options)
    got, want = loss(weak, strong, targets), loss(weak[:, None], strong[:, None], targets[:, None])
    torch.testing.assert_close(got, want[:, 0] if want.dim() else want)
    with pytest.raises(
        RuntimeError, match=re.escape("targets must have the shape of logits_weak, got [5] and [6]")
    ):
        PartialLabelLoss()(weak, strong, targets[:5])


def test_a_state_dict_of_an_earlier_version_loads_strictly() -> None:
    for loss in (
        PartialLabelLoss(pos_weight=[1.0, 2.0]),
        MaskedBCEWithLogitsLoss(2.0, pos_weight=[1.0, 2.0]),
    ):
        loss.load_state_dict({})
        assert loss.pos_weight is not None
        assert loss.pos_weight.tolist() == [1.0, 2.0]
        with pytest.raises(RuntimeError, match="Unexpected key"):
            loss.load_state_dict({"other": torch.zeros(1)})


def test_without_validation_nothing_is_refused() -> None:
    logits, wrong = torch.zeros(1, 2), torch.tensor([[1.0, 3.0]])
    for loss in (
        PartialLabelLoss(validate=False),
        PartialLabelLoss(validate=False, strong_known=True),
        PartialLabelLoss(validate=False, strong_known=True, reduction="none"),
    ):
        assert bool(loss(logits, logits, wrong).isfinite().all())
        loss.validate = True
        with pytest.raises(RuntimeError, match=r"targets must lie in \[0, 1\]"):
            loss(logits, logits, wrong)
    assert bool(MaskedBCEWithLogitsLoss(validate=False)(logits, wrong).isfinite())
    scripted = torch.jit.script(MaskedBCEWithLogitsLoss(validate=False))
    assert bool(scripted(logits, wrong).isfinite())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size_average": True}, "size_average is not taken, got True: use reduction"),
        ({"reduce": False}, "reduce is not taken, got False: use reduction"),
        ({"weight": torch.tensor([1.0, -2.0])}, "weight must be finite and not negative, got -2"),
        ({"pos_weight": torch.ones(2, 3)}, r"pos_weight must be one value or one a class, .* shape \[2, 3\]"),
        ({"pos_weight": torch.ones(3, requires_grad=True)}, "pos_weight must not require a gradient"),
        ({"pos_weight": torch.ones(3).bool()}, "pos_weight must be numbers, got torch.bool"),
    ],
)
def test_what_is_not_taken_is_a_sentence(options: dict[str, Any], message: str) -> None:
    with pytest.raises(LabelAssembleError, match=message):
        MaskedBCEWithLogitsLoss(**options)


def test_pos_weights_of_another_number_of_classes_are_refused() -> None:
    for shape in ((4,), (2, 1, 1)):
        with pytest.raises(RuntimeError, match=r"pos_weight must have one value a class, \[3\]"):
            MaskedBCEWithLogitsLoss(pos_weight=torch.ones(shape))(*known(2, 3, 4, 4))


def test_head_takes_what_linear_takes() -> None:
    head, linear = ClassQueryHead(5, ["a", "b"], dtype=torch.float64), nn.Linear(5, 2)
    assert (head.in_features, head.out_features) == (linear.in_features, linear.out_features)
    assert head.weight.dtype == torch.float64
    assert ClassQueryHead(5, 2, device="meta").queries.device.type == "meta"
    folded = head.to_linear()
    for shape in ((5,), (3, 5), (2, 3, 5), (0, 5)):
        features = torch.randn(shape, dtype=torch.float64)
        torch.testing.assert_close(head(features), folded(features))
        torch.testing.assert_close(torch.jit.script(head)(features), folded(features))
    with pytest.raises(RuntimeError, match=re.escape("features must be [*, D] with the D of weight")):
        head(torch.zeros(3, 4))
    head.add_classes(["c"])
    assert head.out_features == 3


def test_head_begins_anew() -> None:
    torch.manual_seed(3)
    head = ClassQueryHead(5, 2, query_dim=4)
    begun = {name: value.clone() for name, value in head.named_parameters()}
    parameters = list(head.parameters())
    with torch.no_grad():
        for parameter in parameters:
            parameter.add_(1.0)
    torch.manual_seed(3)
    head.reset_parameters()
    for name, value in head.named_parameters():
        assert torch.equal(value, begun[name])
    assert [a is b for a, b in zip(head.parameters(), parameters, strict=True)] == [True] * 3
