"""An exponential moving average of a network's weights (Polyak and Juditsky, SIAM J. Control Optim. 1992)."""

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn


class Ema:
    """A copy of a network whose weights, BatchNorm's statistics among them, follow the trained one's slowly.

    After the t-th step each value becomes d * average + (1 - d) * trained with d = min(decay, (1 + t) / (10 + t)), so
    that the initial weights of a short training are soon forgotten. What is no floating value is copied.

    Args:
        net: the network that is trained.
        decay: d in the long run, between 0 and 1.

    Attributes:
        net: the average, in eval mode.
    """

    def __init__(self, net: nn.Module, decay: float) -> None:
        self.net = copy.deepcopy(net).eval().requires_grad_(False)
        self._decay = decay
        self._updates = 0
        trained, average = _values(net), _values(self.net)
        pairs = list(zip(average, trained, strict=True))
        self._floating = [pair for pair in pairs if pair[0].is_floating_point()]
        self._other = [pair for pair in pairs if not pair[0].is_floating_point()]

    @torch.no_grad()
    def update(self) -> None:
        """Follow the trained network, which has just made a step."""
        self._updates += 1
        decay = min(self._decay, (1 + self._updates) / (10 + self._updates))
        average, trained = [a for a, _ in self._floating], [b for _, b in self._floating]
        get_ema_multi_avg_fn(decay)(average, trained, self._updates)  # type: ignore[no-untyped-call]
        for kept, value in self._other:
            kept.copy_(value)

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint keeps."""
        return {"model": self.net.state_dict(), "updates": self._updates}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what a checkpoint kept."""
        self.net.load_state_dict(state["model"])
        self._updates = state["updates"]


def _values(net: nn.Module) -> list[Tensor]:
    return [*net.parameters(), *net.buffers()]
