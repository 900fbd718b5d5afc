"""Known targets lie in [0, 1] and weights of classes are not negative: every way to the loss refuses others."""

import math
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch._subclasses import FakeTensorMode

from labelassemble.functional import masked_bce_with_logits, partial_label_loss, partial_label_loss_terms
from labelassemble.loss import MaskedBCEWithLogitsLoss, PartialLabelLoss
from labelassemble.ops.partial_label_loss import reference

NAN = float("nan")
Loss = Callable[[Tensor, Tensor], object]
EXCLUSIVE = torch.tensor([[False, True], [True, False]])
OPS = torch.ops.labelassemble
DOORS: dict[str, Loss] = {
    "masked_bce_with_logits": masked_bce_with_logits,
    "partial_label_loss": lambda z, y: partial_label_loss(z, z, y),
    "partial_label_loss_terms": lambda z, y: partial_label_loss_terms(z, None, y),
    "of entries": lambda z, y: partial_label_loss(z, z, y, reduction="none"),
    "weighted": lambda z, y: partial_label_loss(
        z, z, y, pos_weight=torch.ones(2), class_weight=torch.ones(2)
    ),
    "op": lambda z, y: OPS.partial_label_loss(z, z, y),
    "op of terms": lambda z, y: OPS.partial_label_loss_terms(z, z, y),
    "op of bce": OPS.masked_bce_with_logits,
    "reference": lambda z, y: reference(z, z, y),
    "MaskedBCEWithLogitsLoss": lambda z, y: MaskedBCEWithLogitsLoss()(z, y),
    "scripted": lambda z, y: torch.jit.script(MaskedBCEWithLogitsLoss())(z, y),
    "PartialLabelLoss": lambda z, y: PartialLabelLoss()(z, z, y),
    "terms": lambda z, y: PartialLabelLoss().terms(z, z, y),
    "strong_known": lambda z, y: PartialLabelLoss(strong_known=True)(z, z, y),
    "of entries, strong_known": lambda z, y: PartialLabelLoss(strong_known=True, reduction="none")(z, z, y),
    "by class": lambda z, y: PartialLabelLoss(known_mean="class")(z, z, y),
    "exclusive": lambda z, y: PartialLabelLoss(exclusive=EXCLUSIVE)(z, z, y),
}
TARGETS = {
    "-1.0": (torch.tensor([[1.0, -1.0], [0.0, NAN]]), "NaN where unknown, got -1 at [0, 1]"),
    "-1 after float()": (torch.tensor([[1, 0], [-1, -1]]).float(), "NaN where unknown, got -1 at [1, 0]"),
    "a little": (torch.tensor([[1.0, NAN], [0.0, 1.0001]]), "NaN where unknown, got 1.0001 at [1, 1]"),
    "inf": (torch.tensor([[math.inf, 1.0], [0.0, NAN]]), "NaN where unknown, got inf at [0, 0]"),
    "-inf": (torch.tensor([[1.0, 1.0], [0.0, -math.inf]]), "NaN where unknown, got -inf at [1, 1]"),
    "half": (torch.tensor([[1.0, 2.0], [0.0, NAN]]).half(), "NaN where unknown, got 2 at [0, 1]"),
    "bfloat16": (torch.tensor([[1.0, 255.0], [0.0, NAN]]).bfloat16(), "NaN where unknown, got 255 at [0, 1]"),
    "double": (torch.tensor([[1.0, 1e300], [0.0, NAN]]).double(), "NaN where unknown, got"),
    "-2": (torch.tensor([[1, -2], [0, -1]]), "-1 where unknown, got -2 at [0, 1]"),
    "2": (torch.tensor([[1, 0], [2, -1]], dtype=torch.int8), "-1 where unknown, got 2 at [1, 0]"),
    "int16": (torch.tensor([[1, 0], [0, 300]], dtype=torch.int16), "-1 where unknown, got 300 at [1, 1]"),
    "255": (torch.tensor([[1, 255], [0, 1]], dtype=torch.uint8), "-1 where unknown, got 255 at [0, 1]"),
}


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("targets", TARGETS)
@pytest.mark.filterwarnings("ignore:.*torch.jit:Warning")
def test_every_door_refuses(door: str, targets: str) -> None:
    y, message = TARGETS[targets]
    for z in (torch.zeros(2, 2, requires_grad=True), torch.zeros(2, 2, dtype=torch.bfloat16)):
        with pytest.raises(RuntimeError, match=re.escape(f"targets must lie in [0, 1] or be {message}")):
            DOORS[door](z, y)


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.filterwarnings("ignore:.*torch.jit:Warning")
def test_every_door_takes_what_is_allowed(door: str) -> None:
    z = torch.zeros(2, 2)
    for y in (
        torch.tensor([[1.0, 0.5], [-0.0, NAN]]),
        torch.tensor([[1 + 2e-7, 0.0], [-1e-7, -NAN]]),  # soft labels that add up to a little more than 1
        torch.tensor([[1, 0], [-1, -1]]),
        torch.tensor([[1, 0], [0, 1]], dtype=torch.uint8),
        torch.tensor([[True, False], [True, True]]),
        torch.full((2, 2), NAN),
    ):
        DOORS[door](z, y)


@pytest.mark.parametrize("place", [0, 7, 8, 31, 32, 100, 511, 512, 16384, 20000, 20010])
@pytest.mark.parametrize("weighted", [False, True])
def test_one_among_many_is_found(place: int, weighted: bool) -> None:
    """In a vector, in the rest after the vectors, in any block and chunk."""
    y = (torch.rand(6670, 3) > 0.5).float()
    y[torch.rand(6670, 3) > 0.5] = NAN
    z, weight = torch.randn(6670, 3), torch.ones(3) if weighted else None
    masked_bce_with_logits(z, y, pos_weight=weight)
    y.view(-1)[place - 1 if place == 20010 else place] = -1
    at = [(place - (place == 20010)) // 3, (place - (place == 20010)) % 3]
    with pytest.raises(RuntimeError, match=re.escape(f"got -1 at {at}")):
        masked_bce_with_logits(z, y, pos_weight=weight)
    with pytest.raises(RuntimeError, match="got -1 at"):
        masked_bce_with_logits(z.t().contiguous().t(), y, pos_weight=weight)


def test_it_can_be_switched_off() -> None:
    z, y = torch.zeros(1, 2), torch.tensor([[2.0, -1.0]])
    assert masked_bce_with_logits(z, y, validate=False) == pytest.approx(math.log(2))
    assert reference(z, None, y, validate=False)[0] == pytest.approx(math.log(2))
    assert OPS.masked_bce_with_logits(z, y, validate=False) == pytest.approx(math.log(2))


def test_autocast() -> None:
    z, y = torch.zeros(1, 2), torch.tensor([[2.0, -1.0]])
    with torch.autocast("cpu"), pytest.raises(RuntimeError, match="got 2 at"):
        partial_label_loss(z, z.bfloat16(), y)


def test_compiled_code_raises_and_what_has_no_values_does_not() -> None:
    z, y = torch.zeros(2, 2), torch.tensor([[1.0, -1.0], [0.0, 1.0]])
    compiled = torch.compile(masked_bce_with_logits, fullgraph=True, backend="aot_eager")
    with pytest.raises(RuntimeError, match="got -1 at"):
        compiled(z, y)
    assert compiled(z, y.abs()) == pytest.approx(math.log(2))
    with FakeTensorMode() as mode:
        fake, targets = mode.from_tensor(z), mode.from_tensor(y)
        assert masked_bce_with_logits(fake, targets, pos_weight=fake[0]).shape == ()
        assert reference(fake, fake, targets, pos_weight=fake[0])[0].shape == ()
    meta = torch.empty(2, 2, device="meta")
    assert reference(meta, meta, meta, pos_weight=meta[0])[0].shape == ()


def test_the_reference_is_nan_where_it_cannot_raise() -> None:
    z, y = torch.zeros(2, 2), torch.tensor([[1.0, -1.0], [0.0, NAN]])
    compiled = torch.compile(reference, fullgraph=True, backend="aot_eager")
    assert compiled(z, None, y)[0].isnan()
    assert compiled(z, None, y.abs())[0].isfinite()
    each = torch.func.vmap(lambda z, y: reference(z[None], None, y[None])[0])(z, y)
    assert each.isnan().tolist() == [True, False]


@pytest.mark.parametrize("name", ["pos_weight", "class_weight"])
@pytest.mark.parametrize(
    ("weight", "message"),
    [
        (torch.tensor([1.0, -1.0]), "must be finite and not negative, got -1"),
        (torch.tensor([NAN, 1.0]), "must be finite and not negative, got nan"),
        (torch.tensor([1.0, math.inf]).bfloat16(), "must be finite and not negative, got inf"),
        (torch.ones(3), "must have one value a class, [2], got [3]"),
        (torch.ones(2, 1), "must have one value a class, [2], got [2, 1]"),
    ],
)
def test_weights_of_classes_are_checked_alike(name: str, weight: Tensor, message: str) -> None:
    z, y = torch.zeros(3, 2), torch.ones(3, 2)
    for call in (
        lambda: masked_bce_with_logits(z, y, **{name: weight}),
        lambda: partial_label_loss(z, z, y, **{name: weight}),
        lambda: OPS.partial_label_loss_terms(z, z, y, **{name: weight}),
        lambda: OPS.masked_bce_with_logits(z, y, **{name: weight}),
        lambda: reference(z, z, y, **{name: weight}),
    ):
        with pytest.raises(RuntimeError, match=re.escape(f"{name} {message}")):
            call()
    if "finite" in message:
        for module in (MaskedBCEWithLogitsLoss, PartialLabelLoss):
            with pytest.raises(ValueError, match=re.escape(f"{name} {message}")):
                module(**{name: weight})


FALLBACK = """
import sys
sys.modules["labelassemble._C"] = None
import torch, warnings
warnings.simplefilter("ignore")
from labelassemble import PartialLabelLoss
try:
    PartialLabelLoss()(torch.zeros(1, 2), None, torch.tensor([[1.0, -1.0]]))
except RuntimeError as error:
    print(error)
"""


def test_without_the_native_library_the_sentence_is_the_same(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError) as native:
        partial_label_loss(torch.zeros(1, 2), None, torch.tensor([[1.0, -1.0]]))
    result = subprocess.run(
        [sys.executable, "-c", FALLBACK], env=os.environ, capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == str(native.value)
