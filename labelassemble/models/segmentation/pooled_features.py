"""Features of a whole volume: the mean over every voxel of the windows in which a network sees it."""

from types import TracebackType

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn


class PooledFeatures:
    """Adds up what a backbone gives while the network answers volumes; a context."""

    def __init__(self, backbone: nn.Module) -> None:
        self._backbone = backbone
        self._means: list[Tensor] = []  # [B, D] of each call

    def __enter__(self) -> "PooledFeatures":
        self._hook = self._backbone.register_forward_hook(self._add)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._hook.remove()

    def _add(self, _backbone: nn.Module, images: tuple[Tensor], features: Tensor) -> None:
        means = features.flatten(2).mean(-1, dtype=torch.float32).cpu()
        if len(means) == 2 and torch.equal(*images[0]):  # `predict_volume` gives a lone window twice
            means = means[:1]
        self._means.append(means)

    def take(self) -> NDArray[np.float32]:
        """Return the mean over the windows since the last call, float32 [D]."""
        windows = torch.cat(self._means)
        self._means.clear()
        return windows.mean(0).numpy()
