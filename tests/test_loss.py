"""The loss modules and the options of a configuration's `loss:` section."""

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from labelassemble.errors import LabelAssembleError
from labelassemble.functional import partial_label_loss
from labelassemble.loss import LossOptions, MaskedBCEWithLogitsLoss, PartialLabelLoss


def test_module_passes_every_option_on() -> None:
    torch.manual_seed(0)
    weak, strong, targets = torch.randn(4, 3), torch.randn(4, 3), torch.randint(-1, 2, (4, 3))
    options = {
        "threshold": 0.3,
        "temperature": 2.0,
        "pseudo_weight": 0.7,
        "consistency_weight": 0.2,
        "detach_target": False,
        "reduction": "sum",
    }
    by_class = {"pos_weight": torch.tensor([1.0, 2.0, 3.0]), "class_weight": torch.tensor([0.5, 1.0, 2.0])}
    loss = PartialLabelLoss(**options, **by_class)  # type: ignore[arg-type]
    want = partial_label_loss(weak, strong, targets, **options, **by_class)  # type: ignore[arg-type]
    assert torch.equal(loss(weak, strong, targets), want)
    assert torch.equal(loss.terms(weak, strong, targets).total, want)
    assert loss(weak, strong, targets) != PartialLabelLoss()(weak, strong, targets)


def test_terms_add_up_and_count() -> None:
    torch.manual_seed(0)
    weak, strong = torch.randn(4, 3, requires_grad=True), torch.randn(4, 3, requires_grad=True)
    targets = torch.tensor([[1, 0, -1]] * 4)
    terms = PartialLabelLoss(pseudo_weight=0.5, consistency_weight=0.25).terms(weak, strong, targets)
    total = terms.bce + 0.5 * terms.pseudo + 0.25 * terms.consistency
    torch.testing.assert_close(terms.total.double(), total, rtol=1e-6, atol=0)
    assert (terms.known.item(), terms.unknown.item()) == (8, 4)
    assert terms.total.requires_grad
    assert not terms.bce.requires_grad


def test_a_schedule_sets_the_weights() -> None:
    weak, targets = torch.ones(2, 2), torch.tensor([[1.0, float("nan")]] * 2)
    loss = PartialLabelLoss()
    loss.pseudo_weight = 0.0
    assert torch.equal(loss(weak, None, targets), MaskedBCEWithLogitsLoss()(weak, targets))


def test_masked_bce_is_torchs_own_on_known_labels() -> None:
    torch.manual_seed(0)
    logits, targets, pos_weight = torch.randn(8, 5), torch.rand(8, 5), torch.rand(5)
    want = nn.BCEWithLogitsLoss(pos_weight=pos_weight)(logits, targets)
    torch.testing.assert_close(MaskedBCEWithLogitsLoss(pos_weight=pos_weight)(logits, targets), want)


@pytest.mark.parametrize("module", [PartialLabelLoss, MaskedBCEWithLogitsLoss])
def test_scripted_module_gives_the_same(module: type[nn.Module]) -> None:
    loss = module(pos_weight=[1.0, 2.0])
    logits, targets = torch.tensor([[0.5, -1.0]]), torch.tensor([[1.0, 0.0]])
    arguments = (logits, None, targets) if module is PartialLabelLoss else (logits, targets)
    assert torch.equal(torch.jit.script(loss)(*arguments), loss(*arguments))


def test_buffers_move_with_the_module_and_pos_weight_alone_is_saved() -> None:
    loss = PartialLabelLoss(pos_weight=[1.0, 2.0], class_weight=[1.0, 1.0]).double()
    assert loss.pos_weight is not None
    assert loss.pos_weight.dtype == torch.float64
    assert list(loss.state_dict()) == ["pos_weight"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"threshold": 0.0}, "threshold must lie between 0 and 1, got 0.0"),
        ({"temperature": 0.9}, "temperature must be at least 1, got 0.9"),
        ({"pseudo_weight": -1}, "pseudo_weight must be finite and not negative, got -1"),
        ({"consistency_weight": float("inf")}, "consistency_weight must be finite and not negative, got inf"),
        ({"reduction": "average"}, "reduction must be mean, sum or none, got 'average'"),
        (
            {"pos_weight": [[1.0, 2.0], [1.0, 2.0]]},
            r"pos_weight must be one value or one a class, \[C\] or \[C, 1, ...\], got the shape \[2, 2\]",
        ),
        (
            {"class_weight": torch.ones(2).cfloat()},
            "class_weight must be numbers, got torch.complex64",
        ),
    ],
)
def test_wrong_options(options: dict[str, object], message: str) -> None:
    with pytest.raises(LabelAssembleError, match=message):
        PartialLabelLoss(**options)  # type: ignore[arg-type]


def test_terms_of_entries_are_refused() -> None:
    with pytest.raises(LabelAssembleError, match="terms and counts need reduction mean or sum"):
        PartialLabelLoss(reduction="none").terms(torch.zeros(1, 1), None, torch.zeros(1, 1))


def test_loss_options_are_the_papers_and_closed() -> None:
    options = LossOptions()
    assert (options.threshold, options.temperature, options.warmup_epochs) == (0.5, 4.0, 5)
    assert LossOptions(pos_weight={"Edema": 2}).pos_weight == {"Edema": 2.0}
    assert LossOptions(pos_weight="balanced").pos_weight == "balanced"
    for wrong in ({"treshold": 0.5}, {"threshold": 1.0}, {"temperature": 0.5}, {"pseudo_weight": -1.0}):
        with pytest.raises(ValidationError):
            LossOptions(**wrong)  # type: ignore[arg-type]
    with pytest.raises(ValidationError, match="frozen"):
        options.threshold = 0.4
