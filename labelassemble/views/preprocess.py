"""The deterministic view: used in evaluation, and applied by the exported model to a served image."""

from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

SPARE: Final = 0.001
"""How far values may lie outside 0..1: rounding of half precision, where an image was resized."""


def check_unit_range(images: Tensor, spare: float = SPARE) -> None:
    """Raise unless floating images lie in 0..1: those of 0..255, or normalised already, would be answered nonsense.

    Scriptable, so that it travels inside an export. One pass over the values, and on a GPU a wait for it.

    Args:
        images: of any dtype and shape; those that are not floating pass.
        spare: how far outside a value may lie.

    Raises:
        ValueError: a value below 0 or above 1 by more than that, or NaN.
    """
    if not images.is_floating_point() or images.numel() == 0:
        return
    low, high = torch.aminmax(images)
    if not (float(low) >= -spare and float(high) <= 1.0 + spare):  # NaN is neither
        raise ValueError(
            f"images must be uint8 (0..255) or floating in 0..1, got values from {float(low)} to {float(high)}"
        )


def to_unit_range(images: Tensor, channels: int) -> Tensor:
    """Return float32 images in 0..1 with `channels` channels; grey is repeated, colour becomes luma.

    Args:
        images: uint8 (0..255) or floating (0..1), [B, 1 or 3, H, W].
        channels: 1 or 3.

    Raises:
        ValueError: another rank, channel count or dtype.
    """
    if images.dim() != 4 or (images.shape[1] != 1 and images.shape[1] != 3):
        raise ValueError(f"images must have the shape [B, 1 or 3, H, W], got {list(images.shape)}")
    if images.dtype != torch.uint8 and not images.is_floating_point():
        raise ValueError(f"images must be uint8 (0..255) or floating (0..1), got {images.dtype}")
    if channels == 1 and images.shape[1] == 3:
        # ITU-R BT.601 luma, the weights of Pillow's "L" mode. One plane at a time and in place: copies of a large
        # radiograph in float32 take longer than the sums.
        x = images[:, 0:1].to(torch.float32) * 0.299
        x.add_(images[:, 1:2].to(torch.float32), alpha=0.587)
        x.add_(images[:, 2:3].to(torch.float32), alpha=0.114)
    else:
        x = images.to(torch.float32)
    if images.dtype == torch.uint8:
        x = x.div_(255.0)
    return x.expand(-1, channels, -1, -1)


def resize(
    images: Tensor,  # [B, C, H, W]
    size: int,
) -> Tensor:
    """Return float images stretched to [B, C, size, size]: bilinear, antialiased, no-op when they fit."""
    if images.shape[2] == size and images.shape[3] == size:
        return images
    return F.interpolate(images, size=[size, size], mode="bilinear", align_corners=False, antialias=True)


class Preprocess(nn.Module):
    """Turn images of any size into the network's input; scriptable, so that it travels inside an export.

    Args:
        channels: channels that the network takes, 1 or 3.
        size: height and width that the network takes, in pixels. The aspect ratio is not kept.
        mean: subtracted from the values in 0..1, one a channel.
        std: divides after that, one a channel.
    """

    def __init__(
        self,
        channels: int = 1,
        size: int = 224,
        mean: Sequence[float] = (0.5,),
        std: Sequence[float] = (0.25,),
    ) -> None:
        super().__init__()
        if channels not in (1, 3):
            raise ValueError(f"channels must be 1 or 3, got {channels}")
        if len(mean) not in (1, channels) or len(std) not in (1, channels):
            raise ValueError(f"mean and std must have 1 or {channels} values, got {len(mean)} and {len(std)}")
        self.channels: int = channels
        self.size: int = size
        self.register_buffer("mean", _per_channel(mean, channels), persistent=False)
        self.register_buffer("std", _per_channel(std, channels), persistent=False)
        self.mean: Tensor
        self.std: Tensor

    def forward(self, images: Tensor) -> Tensor:
        """Return float32 [B, channels, size, size] from images [B, 1 or 3, H, W], uint8 or floating in 0..1.

        Raises:
            ValueError: another shape or dtype, or floating values outside 0..1.
        """
        check_unit_range(images)
        return self.normalize(resize(to_unit_range(images, self.channels), self.size))

    @torch.jit.export
    def normalize(self, images: Tensor) -> Tensor:
        """Return (images - mean) / std for float images in 0..1, [B, channels, H, W]."""
        return (images - self.mean) / self.std


def _per_channel(values: Sequence[float], channels: int) -> Tensor:
    full = tuple(values) if len(values) == channels else tuple(values) * channels
    return torch.tensor(full, dtype=torch.float32).view(1, channels, 1, 1)
