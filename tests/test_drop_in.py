"""The drop-in: an ordinary torch classifier and its training loop, of which two lines change."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from labelassemble import ClassQueryHead, MaskedBCEWithLogitsLoss

FINDINGS = ["Edema", "Nodule", "COVID-19"]


def train(head: nn.Module, criterion: Callable[[Tensor, Tensor], Tensor], targets: Tensor) -> list[float]:
    """Somebody else's loop, which knows nothing of labelassemble; returns the losses."""
    torch.manual_seed(0)
    images = torch.randn(48, 1, 8, 8)
    body = nn.Sequential(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten())
    model = nn.Sequential(body, head)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-2)
    losses = []
    for _ in range(40):
        loss = criterion(model(images), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


@pytest.fixture
def targets() -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return (torch.rand(48, len(FINDINGS), generator=generator) > 0.5).float()


def test_the_loss_alone_changes_nothing_where_everything_is_known(targets: Tensor) -> None:
    torch.manual_seed(0)
    head = nn.Linear(32, len(FINDINGS))
    state = {name: value.clone() for name, value in head.state_dict().items()}
    before = train(head, nn.BCEWithLogitsLoss(), targets)
    head.load_state_dict(state)
    after = train(head, MaskedBCEWithLogitsLoss(), targets)
    assert after == pytest.approx(before, rel=1e-4)


def test_two_lines_changed_learn_from_targets_with_unknowns(targets: Tensor) -> None:
    targets[::2, 0] = float("nan")  # the first source never looked for Edema
    targets[1::2, 2] = float("nan")  # the second one never for COVID-19
    torch.manual_seed(0)
    losses = train(nn.Linear(32, len(FINDINGS)), nn.BCEWithLogitsLoss(), targets)
    assert all(loss != loss for loss in losses)  # NaN from the first step on

    torch.manual_seed(0)
    head = ClassQueryHead(32, FINDINGS)  # was: nn.Linear(32, len(FINDINGS))
    criterion = MaskedBCEWithLogitsLoss()  # was: nn.BCEWithLogitsLoss()
    losses = train(head, criterion, targets)
    assert losses[-1] < 0.8 * losses[0]
