"""The transforms of the policy in plain torch, a batch at a time, with their parameters drawn per image."""

import math

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from labelassemble.views.policy import StrongOptions, WeakOptions


def weak_view(
    images: Tensor,  # [B, C, H, W], float in 0..1
    options: WeakOptions,
    generator: Generator,
) -> Tensor:
    """Return weakly augmented copies, clamped to 0..1: flip and rotation, then Gaussian noise."""
    x = flip_and_rotate(images, options.flip, options.rotate, generator)
    return gaussian_noise(x, options.noise, generator).clamp_(0.0, 1.0)


def strong_view(
    images: Tensor,  # [B, C, H, W], float in 0..1
    options: StrongOptions,
    generator: Generator,
) -> Tensor:
    """Return strongly augmented copies, clamped to 0..1.

    In this order: flip and rotation, brightness, contrast, saturation, Gaussian noise, salt and pepper, erasing.
    """
    x = flip_and_rotate(images, options.flip, options.rotate, generator)
    x = color_jitter(x, options.brightness, options.contrast, options.saturation, generator)
    x = gaussian_noise(x, options.noise, generator)
    x = salt_and_pepper(x, options.salt_pepper, generator)
    x = erase(x, options.erase, options.erase_area, generator)
    return x.clamp_(0.0, 1.0)


def flip_and_rotate(images: Tensor, flip: float, degrees: float, generator: Generator) -> Tensor:
    """Return images flipped left to right with probability `flip` and turned by up to `degrees`, zeros outside.

    Both are one resampling (bilinear), so that nothing is blurred twice; without rotation a flip is exact.
    """
    count = images.shape[0]
    mirrored = torch.rand(count, generator=generator) < flip
    angles = (torch.rand(count, generator=generator) * 2 - 1) * math.radians(degrees)
    if degrees == 0.0:
        return torch.where(mirrored.view(-1, 1, 1, 1), images.flip(3), images)
    cos, sin, zero = angles.cos(), angles.sin(), torch.zeros(count)
    sign = 1.0 - 2.0 * mirrored.to(torch.float32)
    # Rows of the map from output to input coordinates; grid_sample's axes are scaled by the image's sides.
    ratio = images.shape[2] / images.shape[3]
    theta = torch.stack(
        (torch.stack((sign * cos, -sin * ratio, zero), 1), torch.stack((sign * sin / ratio, cos, zero), 1)), 1
    )
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def gaussian_noise(images: Tensor, std: float, generator: Generator) -> Tensor:
    """Return images plus independent Gaussian noise of standard deviation `std`."""
    if std == 0.0:
        return images.clone()
    return images + std * torch.randn(images.shape, generator=generator)


def salt_and_pepper(images: Tensor, share: float, generator: Generator) -> Tensor:
    """Return images with that share of pixels black or white, half each, all channels of a pixel alike."""
    if share == 0.0:
        return images
    draw = torch.rand((images.shape[0], 1, *images.shape[2:]), generator=generator)
    x = images.masked_fill(draw < share / 2, 0.0)
    return x.masked_fill((draw >= share / 2) & (draw < share), 1.0)


def color_jitter(
    images: Tensor, brightness: float, contrast: float, saturation: float, generator: Generator
) -> Tensor:
    """Return images with brightness, contrast and saturation scaled by factors drawn from [1 - s, 1 + s]."""

    def factor(strength: float) -> Tensor:
        return (1.0 + strength * (torch.rand(images.shape[0], generator=generator) * 2 - 1)).view(-1, 1, 1, 1)

    x = images * factor(brightness)
    mean = x.mean(dim=(1, 2, 3), keepdim=True)
    x = mean + (x - mean) * factor(contrast)
    if images.shape[1] == 3:
        grey = 0.299 * x[:, 0:1] + 0.587 * x[:, 1:2] + 0.114 * x[:, 2:3]
        x = grey + (x - grey) * factor(saturation)
    return x


def erase(images: Tensor, probability: float, area: tuple[float, float], generator: Generator) -> Tensor:
    """Return images in which, with that probability, one rectangle is replaced by uniform noise.

    Random erasing (Zhong et al., AAAI 2020): the share of the area is uniform in `area`, the logarithm of the aspect
    ratio uniform between 0.3 and 1/0.3.
    """
    if probability == 0.0:
        return images
    count, channels, height, width = images.shape
    chosen, share, aspect, top, left = torch.rand((5, count), generator=generator)
    share = area[0] + (area[1] - area[0]) * share
    aspect = torch.exp(math.log(0.3) * (2 * aspect - 1))
    tall = (torch.sqrt(share * aspect) * height).round().clamp(1, height)
    wide = (torch.sqrt(share / aspect) * width).round().clamp(1, width)
    top = (top * (height - tall + 1)).floor()
    left = (left * (width - wide + 1)).floor()
    rows = torch.arange(height).view(1, -1)
    columns = torch.arange(width).view(1, -1)
    in_rows = (rows >= top[:, None]) & (rows < (top + tall)[:, None])
    in_columns = (columns >= left[:, None]) & (columns < (left + wide)[:, None])
    mask = in_rows[:, None, :, None] & in_columns[:, None, None, :] & (chosen < probability).view(-1, 1, 1, 1)
    noise = torch.rand((count, channels, height, width), generator=generator)
    return torch.where(mask, noise, images)
