"""A small training on batches of which the last of an epoch is smaller."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from torch import nn

from labelassemble.data import Exclusions
from labelassemble.head import ClassQueryHead
from labelassemble.loss import LossOptions
from labelassemble.training.checkpoint import Checkpoints
from labelassemble.training.data import TrainingData
from labelassemble.training.distributed import SINGLE_PROCESS
from labelassemble.training.logging import TrainingLog
from labelassemble.training.loop import fit
from labelassemble.training.options import TrainOptions
from labelassemble.training.state import TrainState
from labelassemble.views.bad_files import BadFiles
from labelassemble.views.batch import Batch

from .conftest import CLASSES, no_validation

NAN = float("nan")
STEPS = 6


class ShapedViews:
    """Batches of random 8x8 images, the last of an epoch smaller; the same ones for the same epoch and step."""

    def __init__(self, *, steps: int = STEPS, size: int = 8, last: int = 5) -> None:
        self.steps, self._sizes = steps, [size] * (steps - 1) + [last]
        self.bad_files = BadFiles(steps * size, policy="skip", limit=0.5)

    def epoch(self, epoch: int, *, strong: bool, first_step: int = 0) -> Iterator[Batch]:
        for step in range(first_step, self.steps):
            yield self.batch(epoch, step, strong=strong)

    def batch(self, epoch: int, step: int, *, strong: bool, size: int | None = None) -> Batch:
        count = self._sizes[step] if size is None else size
        generator = torch.Generator().manual_seed(1000 * epoch + step)
        images = torch.randn(count, 1, 8, 8, generator=generator)
        targets = (images.mean((1, 2, 3))[:, None] > torch.tensor([-0.1, 0.0, 0.1])).float()
        targets[torch.rand(targets.shape, generator=generator) < 0.5] = NAN
        other = images + 0.3 * torch.randn(images.shape, generator=generator)
        return Batch(step, torch.arange(count) + step * 8, images, other if strong else None, targets)


def small_net() -> nn.Sequential:
    """Return a network with norms and dropout on 8x8 images, the same in each call."""
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Dropout2d(0.2),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        ClassQueryHead(32, CLASSES),
    )


def small_state(
    net: nn.Module, *, loss: dict[str, Any] | None = None, exclusive: bool = False, **options: Any
) -> TrainState:
    """Return the training of a network, with these options of training and loss.

    Args:
        net: the network.
        loss: options of the loss.
        exclusive: every other image has classes that exclude each other.
        options: of the training.
    """
    rows = STEPS * 8
    targets = np.zeros((rows, len(CLASSES)), np.float32)
    targets[:4, :2] = 1.0
    exclusions = None
    if exclusive:
        matrices = np.zeros((2, 3, 3), np.bool_)
        matrices[1] = ~np.eye(3, dtype=np.bool_)
        exclusions = Exclusions(matrices, np.arange(rows) % 2)
    data = TrainingData(CLASSES, [f"image-{row}.png" for row in range(rows)], targets, exclusions)
    loss_options = LossOptions.model_validate({"warmup_epochs": 1, **(loss or {})})
    train = {"epochs": 2, "lr": 1e-2, "early_stop": None, "precision": "float32", **options}
    return TrainState(net, data, loss_options, TrainOptions.model_validate(train))


def fit_into(
    state: TrainState, folder: Path, *, until: int | None = None, views: ShapedViews | None = None
) -> str:
    """Train, and return what metrics.csv says of the epochs but for the times."""
    folder.mkdir(exist_ok=True)
    views = views or ShapedViews()
    log = TrainingLog(folder, Console(quiet=True), state, steps=views.steps)
    checkpoints = Checkpoints(folder / "checkpoints", {}, SINGLE_PROCESS)
    fit(state, views, no_validation(), log, checkpoints, until=until)
    rows = (folder / "metrics.csv").read_text().splitlines()
    timed = [
        index for index, name in enumerate(rows[0].split(",")) if name in ("seconds", "images_per_second")
    ]
    return "\n".join(
        ",".join(cell for index, cell in enumerate(row.split(",")) if index not in timed) for row in rows
    )


def assert_alike(one: nn.Module, two: nn.Module, *, tolerance: float = 0.0) -> None:
    """Check that two networks have the same weights and buffers."""
    expected = two.state_dict()
    for name, value in one.state_dict().items():
        torch.testing.assert_close({name: value}, {name: expected[name]}, rtol=tolerance, atol=tolerance)
