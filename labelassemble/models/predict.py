"""Probabilities of a network for files, through the deterministic view."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import nn

from labelassemble.views.policy import ViewOptions
from labelassemble.views.torch_backend import evaluation_batches


def predict(
    net: nn.Module,
    paths: Sequence[str],
    views: ViewOptions,
    *,
    batch_size: int = 64,
    advance: Callable[[int], None] | None = None,
) -> np.ndarray:
    """Return the probabilities of every class for each file, float64 [N, C], sigmoid of the network's logits.

    Args:
        net: takes [B, channels, size, size], gives logits [B, C]. Put into eval mode for the call, and back.
        paths: the files.
        views: size, channels and normalisation of the deterministic view.
        batch_size: images a forward pass.
        advance: called with the number of images done after each batch, for a progress display.

    Raises:
        ImageError: a file that is missing or cannot be decoded, by name.
    """
    parameter = next(net.parameters())
    was_training = net.training
    net.eval()
    try:
        parts = []
        with torch.inference_mode():
            for images in evaluation_batches(paths, views, batch_size=batch_size):
                parts.append(torch.sigmoid(net(images.to(parameter.device)).double()).cpu().numpy())
                if advance is not None:
                    advance(len(images))
    finally:
        net.train(was_training)
    if not parts:
        raise ValueError("paths must name at least one file, got none")
    return np.concatenate(parts)
