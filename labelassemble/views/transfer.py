"""Copies from the host to a GPU for which neither of the two waits."""

import torch
from torch import Tensor


def pinned_for(tensor: Tensor, device: torch.device) -> Tensor:
    """Return a tensor of the host in memory that a GPU reads by itself, if `device` is one; else the tensor."""
    if device.type != "cuda" or tensor.device.type != "cpu" or not tensor.numel():
        return tensor
    return tensor.pin_memory()


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Return a tensor on a device.

    A plain copy to a GPU ends when the GPU has done all that was asked of it before. This one is asked for like any
    other work: torch keeps the pinned memory until it is done.
    """
    return pinned_for(tensor, device).to(device, non_blocking=True)
