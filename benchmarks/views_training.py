"""A training step fed by the views against the same step fed with one tensor: what decoding and transforms cost it."""

import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from harness import device_name
from torch import Tensor
from views_compared import FILES, make_files, open_ours

from labelassemble import MaskedBCEWithLogitsLoss
from labelassemble.models import AssembleNet
from labelassemble.views.choice import choose_backend
from labelassemble.views.options import ViewOptions

ROUNDS = 3
WARM_STEPS = 5
STEPS = 24  # of an epoch


@dataclass(frozen=True)
class TrainingRow:
    """Images a second of a training step, in a step of `batch` images with two views each."""

    device: str
    backbone: str
    format: str
    backend: str
    size: int
    batch: int
    from_tensor: float  # images a second, median over the rounds
    from_views: float
    share: float  # from_views over from_tensor


def training(backbone: str, kind: str, *, size: int, batch: int, seconds: float) -> TrainingRow:
    """Measure a step (bfloat16 on a GPU, Adam, channels_last) in turns of `seconds` with each feed, and print it."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    channels = 3 if "colour" in kind else 1
    net = AssembleNet(backbone, classes=["a", "b"], in_channels=channels).to(
        device, memory_format=torch.channels_last
    )
    criterion = MaskedBCEWithLogitsLoss()
    optimizer = torch.optim.Adam(net.parameters())
    targets = torch.zeros(2 * batch, 2, device=device)

    def step(images: Tensor) -> None:
        with torch.autocast(device, dtype=torch.bfloat16, enabled=device == "cuda"):
            logits = net(images.to(device, memory_format=torch.channels_last))
        loss = criterion(logits.float(), targets[: len(logits)])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    def rate(feed: Iterator[Tensor]) -> float:
        for _ in range(WARM_STEPS):  # also what was made ahead while the other feed was measured
            step(next(feed))
        _finish(device)
        images, start = 0, time.perf_counter()
        while not images or time.perf_counter() < start + seconds:
            views = next(feed)
            step(views)
            images += len(views) // 2
        _finish(device)
        return images / (time.perf_counter() - start)

    with tempfile.TemporaryDirectory() as top:
        paths = make_files(Path(top), kind)
        paths = (paths * (STEPS * batch // FILES + 1))[: STEPS * batch]
        options = ViewOptions(channels=channels, size=size, cache_mb=0)
        choice = choose_backend(options, torch.device(device))
        views = open_ours(choice, paths, options, device, batch=batch)

        def fed() -> Iterator[Tensor]:
            for epoch in range(10**9):
                for one in views.epoch(epoch, strong=True):
                    assert one.strong is not None
                    yield torch.cat([one.weak, one.strong])

        def synthetic() -> Iterator[Tensor]:
            images = torch.rand(2 * batch, channels, size, size, device=device)
            while True:
                yield images

        feeds = (synthetic(), fed())
        found = [[rate(feed) for feed in feeds] for _ in range(ROUNDS)]
        feeds[1].close()
    ceiling, reached = (statistics.median(one[place] for one in found) for place in (0, 1))
    name = torch.cuda.get_device_name() if device == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    print(
        f"{name}, {os.cpu_count()} processors: {backbone}, {kind}, {size}x{size}, {batch} images a step, "
        f"views by {choice.name} ({choice.reason}): {ceiling:.1f} images/s from a tensor, {reached:.1f} from the "
        f"views, {reached / ceiling:.0%}"
    )
    return TrainingRow(
        device=device_name(device),
        backbone=backbone,
        format=kind,
        backend=choice.name,
        size=size,
        batch=batch,
        from_tensor=ceiling,
        from_views=reached,
        share=reached / ceiling,
    )


def _finish(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()
