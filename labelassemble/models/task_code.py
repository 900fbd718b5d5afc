"""TaskCodeHead: a small head whose weights are generated for each image and class (DoDNet)."""

from collections.abc import MutableMapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from labelassemble.named_classes import NamedClasses

_WIDTH = 8  # channels of the dynamic head (DoDNet, section 3.4)


class TaskCodeHead(NamedClasses):
    """Dynamic head conditioned on a one-hot task code: features [B, D] to logits [B, C].

    After DoDNet (Zhang et al., CVPR 2021, arXiv 2011.10217, section 3): the code of a task, here of a class, is
    joined to the globally pooled features; one layer, the controller, generates from them the weights of a head of
    three 1x1 convolutions with 8 channels; that head reads the features reduced to 8 channels. Here it reads pooled
    features, so its convolutions are matrix products, and it gives one logit a task instead of two masks. Each class
    is answered from its own code, whatever source an image is from.

    Parameters, all initialised as torch's default as in the authors' code: `reduce` [8, D], and `controller`
    [153, D + C] with 153 = 8 * 8 + 8 * 8 + 8 * 1 weights and 8 + 8 + 1 biases.

    Args:
        in_features: D, the length of a feature vector.
        classes: names of the C classes, in the order of the columns.
    """

    def __init__(self, in_features: int, classes: Sequence[str]) -> None:
        super().__init__()
        self.classes = list(classes)
        self.in_features = in_features
        self.out_features = len(classes)
        self.width = _WIDTH
        self.reduce = nn.Linear(in_features, self.width)
        generated = 2 * self.width * (self.width + 1) + self.width + 1
        self.controller = nn.Linear(in_features + len(classes), generated)

    def forward(self, features: Tensor) -> Tensor:
        """Return the logits [B, C]."""
        images, classes, width = features.shape[0], self.out_features, self.width
        # The controller on features joined to a one-hot code: what the features give, plus the code's own column.
        of_features, of_codes = torch.split(self.controller.weight, [self.in_features, classes], dim=1)
        shared = F.linear(features, of_features, self.controller.bias)
        generated = shared[:, None] + of_codes.t()  # [B, C, 153]
        first, second, last, bias1, bias2, bias3 = torch.split(
            generated, [width * width, width * width, width, width, width, 1], dim=2
        )
        x = self.reduce(features)[:, None, :, None]  # [B, 1, 8, 1]
        x = torch.relu(first.reshape(images, classes, width, width) @ x + bias1[..., None])
        x = torch.relu(second.reshape(images, classes, width, width) @ x + bias2[..., None])
        logits: Tensor = (last[..., None] * x).sum(dim=[2, 3]) + bias3[..., 0]
        return logits

    @torch.jit.unused
    def _put_in_order(self, state: MutableMapping[str, Any], prefix: str, order: list[int]) -> None:
        key = f"{prefix}controller.weight"
        weight = state.get(key)
        if (
            isinstance(weight, Tensor)
            and weight.dim() == 2
            and weight.shape[1] == self.in_features + len(order)
        ):
            state[key] = torch.cat(
                [weight[:, : self.in_features], weight[:, self.in_features :][:, order]], dim=1
            )

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, classes={self.out_features}"
