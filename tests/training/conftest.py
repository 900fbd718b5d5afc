"""A training on tensors alone: no files, a few small steps."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from torch import Tensor, nn

from labelassemble.loss import LossOptions
from labelassemble.training.checkpoint import Checkpoints
from labelassemble.training.data import TrainingData
from labelassemble.training.distributed import SINGLE_PROCESS
from labelassemble.training.logging import TrainingLog
from labelassemble.training.loop import Outcome, fit
from labelassemble.training.options import TrainOptions
from labelassemble.training.state import TrainState
from labelassemble.training.validation import Validation
from labelassemble.views.bad_files import BadFiles
from labelassemble.views.batch import Batch
from labelassemble.views.options import ViewOptions

CLASSES = ("north", "south", "east")


class TensorViews:
    """Batches of random 8x8 images, half of their labels unknown; the same ones for the same epoch and step."""

    def __init__(
        self, *, batch_size: int = 8, steps: int = 3, spoil: Callable[[int, int, Tensor], None]
    ) -> None:
        self.steps = steps
        self.bad_files = BadFiles(steps * batch_size, policy="skip", limit=0.5)
        self._batch_size = batch_size
        self._spoil = spoil

    def epoch(self, epoch: int, *, strong: bool, first_step: int = 0) -> Iterator[Batch]:
        for step in range(first_step, self.steps):
            generator = torch.Generator().manual_seed(1000 * epoch + step)
            images = torch.randn(self._batch_size, 1, 8, 8, generator=generator)
            targets = (images.mean((1, 2, 3))[:, None] > torch.tensor([-0.1, 0.0, 0.1])).float()
            targets[torch.rand(targets.shape, generator=generator) < 0.5] = float("nan")
            other = images + 0.3 * torch.randn(images.shape, generator=generator)
            self._spoil(epoch, step, images)
            rows = torch.arange(self._batch_size) + step * self._batch_size
            yield Batch(step, rows, images, other if strong else None, targets)


def _leave(epoch: int, step: int, images: Tensor) -> None:
    pass


@pytest.fixture(autouse=True)
def _quick(one_thread: None, no_pages: None) -> None:
    """Train on one thread, and write no report's page."""


@pytest.fixture
def train(tmp_path: Path) -> Callable[..., Outcome]:
    """Train a network on tensors into a folder; every option of training and loss may be given."""

    def run(
        net: nn.Module,
        *,
        folder: str = "run",
        loss: dict[str, Any] | None = None,
        resume: dict[str, Any] | None = None,
        spoil: Callable[[int, int, Tensor], None] = _leave,
        validation: Validation | None = None,
        steps: int = 3,
        train_targets: np.ndarray | None = None,
        **options: Any,
    ) -> Outcome:
        views = TensorViews(steps=steps, spoil=spoil)
        train_options = TrainOptions.model_validate({"epochs": 2, "lr": 1e-2, "early_stop": None, **options})
        if train_targets is None:
            train_targets = np.zeros((steps * 8, len(CLASSES)), np.float32)
        data = TrainingData(CLASSES, [f"image-{row}.png" for row in range(steps * 8)], train_targets)
        loss_options = LossOptions.model_validate({"warmup_epochs": 1, **(loss or {})})
        state = TrainState(net, data, loss_options, train_options)
        if resume is not None:
            state.load_state_dict(resume)
        log = TrainingLog(tmp_path / folder, Console(quiet=True), state, steps=steps)
        checkpoints = Checkpoints(tmp_path / folder / "checkpoints", {}, SINGLE_PROCESS)
        return fit(state, views, validation or no_validation(), log, checkpoints)

    (tmp_path / "run").mkdir()
    return run


def no_validation() -> Validation:
    """Return no validation images."""

    def auroc(probabilities: np.ndarray, targets: np.ndarray) -> Sequence[float | None]:
        raise AssertionError("there is nothing to score")

    views = ViewOptions(size=8, channels=1)
    bad_files = BadFiles(0, policy="skip", limit=0.0)
    return Validation([], np.zeros((0, len(CLASSES))), views, auroc, [0], bad_files)
