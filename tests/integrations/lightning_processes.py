"""What two processes of Lightning train, begun by test_lightning.py."""

import os
import traceback
import warnings
from multiprocessing.synchronize import Barrier
from pathlib import Path

import lightning
import numpy as np
import torch

from labelassemble import ClassQueryHead
from labelassemble.loss_options import LossOptions
from labelassemble.training.data import TrainingData
from labelassemble.training.options import TrainOptions
from labelassemble.views.options import ViewOptions


def weights_of(folder: Path, devices: int) -> torch.Tensor:
    """Train a network without norms on images of which the first half have 2 known labels, and return its queries."""
    from labelassemble.integrations.lightning import PartialLabelData, PartialLabelModule

    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Flatten(), ClassQueryHead(256, ["square", "stripe"]))
    paths = [str(folder / "images" / f"{name}-{row}.png") for name in ("north", "south") for row in range(6)]
    targets = np.full((12, 2), np.nan, np.float32)
    targets[:6, 0], targets[6], targets[7, 1] = np.arange(6) % 2, 1, 0
    data = TrainingData(["square", "stripe"], paths, targets)
    options = TrainOptions(batch_size=6, lr=1e-2)
    loss = LossOptions(warmup_epochs=0, known_mean="class")
    parts = (
        PartialLabelModule(net, data, loss=loss, train=options),
        PartialLabelData(data, ViewOptions(size=16), loss=loss, train=options),
    )
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    strategy = "ddp" if devices > 1 else "auto"
    trainer = lightning.Trainer(
        max_epochs=3,
        accelerator="cpu",
        devices=devices,
        strategy=strategy,
        enable_model_summary=False,
        **quiet,
    )
    trainer.fit(*parts)
    return torch.cat([parameter.detach().flatten() for parameter in net.parameters()])


def begin(rank: int, port: int, folder: Path, together: Barrier) -> None:
    """Be one of two processes that torchrun starts."""
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "GROUP_RANK": "0"}
    os.environ |= {"TORCHELASTIC_RUN_ID": "none"}
    warnings.simplefilter("ignore")
    try:
        torch.save(weights_of(folder, 2), folder / f"{rank}.pt")
        together.wait(300)  # gloo's last exchange is over in both
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)  # without the end of gloo's threads, which may wait for a lock of Python
