"""Resizing as two matrix products, for compilers and formats without an operator for it."""

import torch
from torch import Tensor


def resize_by_products(
    images: Tensor,  # [B, C, H, W]
    size: int,
) -> Tensor:
    """Return images stretched to [B, C, size, size], as `labelassemble.views.preprocess.resize` gives them.

    The antialiased bilinear filter is linear and separable, so it is a product with [size, H] and one with [W, size].
    Where the sides fit already, both matrices are exactly the identity.

    Args:
        images: floating; height and width may be symbols of a traced program.
        size: height and width of what comes back.
    """
    rows = _weights(images.shape[2], size, images.device)
    columns = _weights(images.shape[3], size, images.device)
    return torch.matmul(rows, torch.matmul(images, columns.t()))


def _weights(length: int, size: int, device: torch.device) -> Tensor:
    """Return float32 [size, length]: a triangle as wide as the scale (at least 1) around each output pixel's centre.

    In float32 step by step as torch's own kernel, whose rounding of the positions is 1e-5 of a pixel's value.
    """
    scale = torch.full([], length / size, dtype=torch.float32, device=device)
    centers = (torch.arange(size, dtype=torch.float32, device=device) + 0.5) * scale
    pixels = torch.arange(length, dtype=torch.float32, device=device)
    distances = (pixels - centers[:, None] + 0.5) * (1.0 / scale.clamp(min=1.0))
    weights = (1.0 - distances.abs()).clamp(min=0.0)
    return weights / weights.sum(1, keepdim=True)
