"""The transforms in plain torch, a batch at a time, on any device, with given random numbers."""

import torch
from torch import Tensor
from torch.nn import functional as F

from labelassemble.views.noise import NoiseBank, windows
from labelassemble.views.options import StrongOptions, WeakOptions
from labelassemble.views.params import StrongParams, WeakParams
from labelassemble.views.transfer import to_device


def weak_view(
    images: Tensor,  # [B, C, H, W], float32 in 0..1
    options: WeakOptions,
    params: WeakParams,
    bank: NoiseBank,
) -> Tensor:
    """Return weakly augmented copies, clamped to 0..1: flip and rotation, then Gaussian noise."""
    x = flip_and_rotate(images, params.mirrored, params.radians, turns=options.rotate > 0.0)
    if options.noise > 0.0:
        x.add_(_stacked(bank.gaussian, params.noise_at, x), alpha=options.noise)
    return x.clamp_(0.0, 1.0)


def strong_view(
    images: Tensor,  # [B, C, H, W], float32 in 0..1
    options: StrongOptions,
    params: StrongParams,
    bank: NoiseBank,
) -> Tensor:
    """Return strongly augmented copies, clamped to 0..1.

    In this order: flip and rotation, brightness, contrast, saturation, Gaussian noise, salt and pepper, erasing.
    """
    x = flip_and_rotate(images, params.mirrored, params.radians, turns=options.rotate > 0.0)
    x = jitter(x, params.brightness, params.contrast, params.saturation)
    if options.noise > 0.0:
        x.add_(_stacked(bank.gaussian, params.noise_at, x), alpha=options.noise)
    if options.salt_pepper > 0.0:
        x = salt_and_pepper(x, options.salt_pepper, _stacked(bank.uniform, params.salt_at, x[:, :1]))
    if options.erase > 0.0:
        fill_boxes(x, params.box, windows(bank.uniform, params.box_at, tuple(x.shape[1:])))
    return x.clamp_(0.0, 1.0)


def flip_and_rotate(
    images: Tensor,  # [B, C, H, W]
    mirrored: Tensor,  # [B], bool
    radians: Tensor,  # [B]
    *,
    turns: bool = True,
) -> Tensor:
    """Return copies flipped left to right where `mirrored`, then turned counter-clockwise, zeros outside.

    Both are one resampling (bilinear), so that nothing is blurred twice; without `turns` a flip is exact.
    """
    if not turns:
        return torch.where(to_device(mirrored, images.device).view(-1, 1, 1, 1), images.flip(3), images)
    count, _, height, width = images.shape
    # Where a pixel of the output comes from, in grid_sample's coordinates (-1..1 over each side).
    ratio = height / width
    cos, sin = radians.cos(), radians.sin()
    sign = 1.0 - 2.0 * mirrored.to(torch.float32)
    weights = to_device(torch.stack((sign * cos, -sign * sin * ratio, sin / ratio, cos)), images.device)
    x_by_x, x_by_y, y_by_x, y_by_y = weights[:, :, None, None]
    x = ((torch.arange(width, device=images.device) * 2 + 1) / width - 1).view(1, 1, -1)
    y = ((torch.arange(height, device=images.device) * 2 + 1) / height - 1).view(1, -1, 1)
    grid = torch.empty((count, height, width, 2), device=images.device)
    torch.add(x_by_x * x, x_by_y * y, out=grid[..., 0])
    torch.add(y_by_x * x, y_by_y * y, out=grid[..., 1])
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def jitter(
    images: Tensor,  # [B, C, H, W]
    brightness: Tensor,  # [B]
    contrast: Tensor,  # [B]
    saturation: Tensor,  # [B]
) -> Tensor:
    """Return images with brightness, then contrast about the mean, then saturation scaled by these factors.

    Grey images have no saturation to change.
    """
    device = images.device
    scale = to_device(brightness * contrast, device).view(-1, 1, 1, 1)
    shift = to_device(brightness * (1.0 - contrast), device).view(-1, 1, 1, 1)
    x = images * scale + images.mean(dim=(1, 2, 3), keepdim=True) * shift
    if images.shape[1] == 3:
        grey = 0.299 * x[:, 0:1] + 0.587 * x[:, 1:2] + 0.114 * x[:, 2:3]
        x = grey + (x - grey) * to_device(saturation, device).view(-1, 1, 1, 1)
    return x


def salt_and_pepper(
    images: Tensor,  # [B, C, H, W]
    share: float,
    uniform: Tensor,  # [B, 1, H, W]
) -> Tensor:
    """Return images with that share of pixels black or white, half each, all channels of a pixel alike."""
    x = images.masked_fill(uniform < share / 2, 0.0)
    return x.masked_fill((uniform >= share / 2) & (uniform < share), 1.0)


def fill_boxes(
    images: Tensor,  # [B, C, H, W], changed in place
    boxes: Tensor,  # [B, 4]: top, left, height, width in pixels
    noise: list[Tensor],  # B of [C, H, W]
) -> None:
    """Replace one rectangle of each image by noise; a rectangle without height replaces nothing."""
    for image, box, fill in zip(images, boxes.int().tolist(), noise, strict=True):
        top, left, tall, wide = box
        area = (slice(None), slice(top, top + tall), slice(left, left + wide))
        image[area] = fill[area]


def _stacked(values: Tensor, at: Tensor, like: Tensor) -> Tensor:
    return torch.stack(windows(values, at, tuple(like.shape[1:])))
