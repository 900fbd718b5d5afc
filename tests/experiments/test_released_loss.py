"""The released loss against a loop written as its sentence says, and what it leaves unknown cells."""

import math

import pytest
import torch

from labelassemble.experiments.released_loss import ReleasedLoss
from labelassemble.loss import PartialLabelLoss

NAN = float("nan")
WEAK = torch.tensor([[0.3, -1.2, 2.0], [-0.4, 0.9, 0.0]], dtype=torch.float64)
STRONG = torch.tensor([[0.1, -0.8, 1.0], [0.4, 1.9, -2.0]], dtype=torch.float64)
TARGETS = torch.tensor([[1.0, NAN, 0.0], [NAN, 1.0, NAN]], dtype=torch.float64)


def _by_hand(threshold: float, temperature: float) -> float:
    total, count = 0.0, 0
    for b in range(2):
        for c in range(3):
            y = float(TARGETS[b, c])
            if math.isnan(y):
                continue
            a = 1 / (1 + math.exp(-float(WEAK[b, c])))
            strong = 1 / (1 + math.exp(-float(STRONG[b, c])))
            sharp = a + (1 - a) / temperature if a > threshold else a - a / temperature
            total += -y * math.log(a) - (1 - y) * math.log(1 - a) + (a - sharp) ** 2 + (strong - sharp) ** 2
            count += 1
    return total / count


@pytest.mark.parametrize(("threshold", "temperature"), [(0.5, 4.0), (0.65, 2.0), (0.5, 1.0), (0.5, math.inf)])
def test_it_is_the_mean_of_all_three_terms_over_the_known_cells(threshold: float, temperature: float) -> None:
    loss = ReleasedLoss(threshold=threshold, temperature=temperature)
    terms = loss.terms(WEAK, STRONG, TARGETS)
    assert float(terms.total) == pytest.approx(_by_hand(threshold, temperature))
    assert float(loss(WEAK, STRONG, TARGETS)) == float(terms.total)
    assert float(terms.total) == pytest.approx(float(terms.bce + terms.pseudo + terms.consistency))
    assert (int(terms.known), int(terms.unknown)) == (3, 3)


@pytest.mark.parametrize("detach", [True, False])
def test_gradients(detach: bool) -> None:
    weak, strong = WEAK.clone().requires_grad_(), STRONG.clone().requires_grad_()
    loss = ReleasedLoss(detach_target=detach)
    loss(weak, strong, TARGETS).backward()
    assert weak.grad is not None
    assert strong.grad is not None
    unknown = torch.isnan(TARGETS)
    assert (weak.grad[unknown] == 0).all()
    assert (strong.grad[unknown] == 0).all()
    assert (weak.grad[~unknown] != 0).all()
    if not detach:
        assert torch.autograd.gradcheck(lambda w, s: loss(w, s, TARGETS), (weak, strong))
        detached = torch.autograd.grad(ReleasedLoss()(weak, strong, TARGETS), weak)[0]
        assert not torch.allclose(detached, weak.grad)


def test_weights_of_nought_leave_the_masked_cross_entropy() -> None:
    loss = ReleasedLoss(pseudo_weight=0.0, consistency_weight=0.0, pos_weight=[2.0, 1.0, 3.0])
    plain = PartialLabelLoss(pseudo_weight=0.0, consistency_weight=0.0, pos_weight=[2.0, 1.0, 3.0])
    assert float(loss(WEAK, STRONG, TARGETS)) == pytest.approx(float(plain(WEAK, STRONG, TARGETS)))
    assert float(loss(WEAK, None, TARGETS)) == pytest.approx(float(plain(WEAK, None, TARGETS)))


def test_weights_of_terms_and_classes_count() -> None:
    terms = ReleasedLoss(pseudo_weight=0.5, consistency_weight=2.0).terms(WEAK, STRONG, TARGETS)
    expected = terms.bce + 0.5 * terms.pseudo + 2.0 * terms.consistency
    assert float(terms.total) == pytest.approx(float(expected))
    first = ReleasedLoss(class_weight=[1.0, 0.0, 0.0])(WEAK, STRONG, TARGETS)
    alone = TARGETS.clone()
    alone[:, 1:] = NAN
    assert float(first) * 3 == pytest.approx(
        float(ReleasedLoss()(WEAK, STRONG, alone))
    )  # of 3 cells, 1 counts


def test_nothing_known_is_nothing() -> None:
    weak = WEAK.clone().requires_grad_()
    total = ReleasedLoss()(weak, STRONG, torch.full_like(TARGETS, NAN))
    assert float(total.detach()) == 0.0
    total.backward()
    assert weak.grad is not None
    assert (weak.grad == 0).all()
