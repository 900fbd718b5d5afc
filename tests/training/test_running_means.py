"""What an epoch adds up to, a loss that is not finite, and pseudo-labels that collapse."""

import csv
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from labelassemble.errors import LabelAssembleError
from labelassemble.loss import LossTerms
from labelassemble.training import checkpoint
from labelassemble.training.accumulate import Counts
from labelassemble.training.collapse import CollapseWatch
from labelassemble.training.distributed import SINGLE_PROCESS
from labelassemble.training.running_means import RunningMeans, step_record

NAN = float("nan")


def _terms(total: float, bce: float = 0.0) -> LossTerms:
    return LossTerms(
        torch.tensor(total), *(torch.tensor(v, dtype=torch.float64) for v in (bce, 0.2, 0.3, 1.0, 1.0))
    )


def test_a_record_counts_the_sides_of_pseudo_labels_by_class() -> None:
    logits = torch.tensor([[2.0, -2.0], [0.1, NAN], [-1.0, 3.0]])
    targets = torch.tensor([[NAN, 1.0], [NAN, NAN], [NAN, 0.0]])
    record = step_record(_terms(1.0, 0.5), logits, targets, 0.5)
    assert record.tolist() == pytest.approx([1.0, 0.5, 0.2, 0.3, 2, 0, 3, 1, 0, 1, 0])
    assert step_record(_terms(1.0), logits, targets, 0.6)[4:6].tolist() == [1, 0]


def test_steps_are_added_in_their_order_whenever_they_are_read() -> None:
    logits, targets = torch.tensor([[2.0]]), torch.tensor([[NAN]])
    often, seldom = (RunningMeans(["a"], ["x.png"], SINGLE_PROCESS) for _ in range(2))
    for step, total in enumerate([0.1, 0.2, 0.7]):
        for means in (often, seldom):
            record = step_record(_terms(total), logits, targets, 0.5)
            means.add(step, torch.tensor([0]), record, Counts(images=4, known=3, unknown=1))
        often.read(0)
    assert len(seldom) == 3
    seldom.read(0)
    assert seldom.state_dict() == often.state_dict()
    assert seldom.sums.mean(0) == pytest.approx(1 / 3)
    assert (seldom.sums.images, seldom.sums.known, seldom.sums.unknown, seldom.sums.steps) == (12, 9, 3, 3)
    assert seldom.sums.positive_shares() == (1.0,)
    again = RunningMeans(["a"], ["x.png"], SINGLE_PROCESS)
    again.begin(seldom.state_dict())
    assert again.sums == seldom.sums


def _net() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 3))


@pytest.mark.parametrize("read_every", [1, 20])
def test_a_loss_that_is_not_finite_names_step_term_class_and_files_and_overwrites_nothing(
    train: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read_every: int
) -> None:
    def spoil(epoch: int, step: int, images: Tensor) -> None:
        if (epoch, step) == (1, 1):
            images[2, 0, 0, 0] = float("inf")

    class OneClass(nn.Module):
        """Only the second class looks at the pixel that is infinite."""

        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(63, 3)

        def forward(self, images: Tensor) -> Tensor:
            pixels = images.flatten(1)
            logits: Tensor = self.linear(pixels[:, 1:])
            return torch.cat([logits[:, :1], logits[:, 1:2] + pixels[:, :1] * 0.0, logits[:, 2:]], dim=1)

    original = RunningMeans.__len__
    if read_every > 1:  # as on a GPU: the next steps are made before the losses are seen
        monkeypatch.setattr(
            RunningMeans, "__len__", lambda self: 0 if original(self) < read_every else original(self)
        )
    saved = []
    monkeypatch.setattr(
        checkpoint, "save_checkpoint", lambda path, state, **_: saved.append((path.name, state["epoch"]))
    )
    with pytest.raises(
        LabelAssembleError,
        match=r"the loss is nan in epoch 2, step 2: lower train\.lr or set train\.clip_norm; not finite: .*"
        r"logits of south; images of the batch: image-8\.png, .*image-15\.png; the checkpoints hold the state before",
    ):
        train(OneClass(), spoil=spoil)
    assert saved == [("best.pt", 1), ("last.pt", 1)]


def test_weights_that_are_no_longer_finite_are_not_saved(
    train: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    net = _net()
    step = torch.optim.Adam.step

    def ruining(self: torch.optim.Adam, *args: Any, **others: Any) -> Any:
        step(self, *args, **others)
        if self.state[net[1].weight]["step"] == 3:  # type: ignore[index]
            net[1].weight.data[0] = float("inf")  # type: ignore[index]

    monkeypatch.setattr(torch.optim.Adam, "step", ruining)
    with pytest.raises(
        LabelAssembleError, match=r"the weights '1\.weight' are no longer finite: lower train\.lr"
    ):
        train(net)
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_shares_of_pseudo_labels_are_in_the_metrics_after_warm_up(
    train: Callable[..., Any], tmp_path: Path
) -> None:
    train(_net())
    with (tmp_path / "run" / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    names = [f"pseudo_positive:{name}" for name in ("north", "south", "east")]
    assert [rows[0][name] for name in names] == ["", "", ""]
    shares = [float(rows[1][name]) for name in names]
    assert all(0 <= share <= 1 for share in shares)
    assert any(0 < share < 1 for share in shares)


def test_pseudo_labels_on_one_side_for_three_epochs_are_a_warning() -> None:
    watch = CollapseWatch(["Edema", "Nodule", "Mass"])
    assert watch.update([1.0, 0.0, None]) == []
    assert watch.update([0.9995, 0.5, None]) == []
    (warning,) = watch.update([1.0, 0.0005, None])
    assert "pseudo-labels of 'Edema' have all been positive for 3 epochs (100.00% positive now): " in warning
    assert watch.update([1.0, 0.0, None]) == []  # said once
    (warning,) = watch.update([0.0, 0.0, None])
    assert "'Nodule' have all been negative" in warning
    assert "loss.min_positives" in warning
    assert watch.runs == [-1, -3, 0]


def test_a_warning_names_the_labelled_positives_where_they_are_known() -> None:
    watch = CollapseWatch(["Edema"], [7])
    warnings = [warning for _ in range(3) for warning in watch.update([0.0005])]
    assert len(warnings) == 1
    assert "(0.05% positive now, 7 labelled positives)" in warnings[0]


def test_a_collapse_is_logged_in_training(
    train: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    net = _net()
    with torch.no_grad():
        net[1].bias.fill_(-50.0)  # type: ignore[index, operator, union-attr]
    with caplog.at_level(logging.WARNING):
        train(net, epochs=4, loss={"warmup_epochs": 1}, lr=1e-4)
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 3
    assert all("epoch 4: the pseudo-labels of" in line and "negative" in line for line in lines)
