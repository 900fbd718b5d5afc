"""The order in memory of a network's weights."""

import torch
from torch import nn


def to_channels_last(network: nn.Module, dims: int = 2) -> None:
    """Put the weights and buffers of convolutions into channels-last order, in place.

    Not by `nn.Module.to`, which refuses a network that has tensors of five axes beside those of four (Swin).

    Args:
        network: on any device.
        dims: spatial axes of its images.
    """
    order = torch.channels_last if dims == 2 else torch.channels_last_3d
    for tensor in (*network.parameters(), *network.buffers()):
        if tensor.dim() == dims + 2:
            tensor.data = tensor.data.contiguous(memory_format=order)
