"""The random numbers of views, drawn once for all backends, from the seed, the pass and the row."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from labelassemble.views.options import StrongOptions, ViewOptions, WeakOptions

_WEAK = 3  # uniform numbers of an image's weak view
_STRONG = 13  # of its strong view


class WeakParams(NamedTuple):
    """The random numbers of B weak views.

    Attributes:
        mirrored: whether the image is flipped left to right, bool [B].
        radians: angle of rotation, counter-clockwise on the screen, float32 [B].
        noise_at: where the window of Gaussian noise begins, float64 [B] in 0..1.
    """

    mirrored: Tensor
    radians: Tensor
    noise_at: Tensor


class StrongParams(NamedTuple):
    """The random numbers of B strong views.

    Attributes:
        mirrored: whether the image is flipped left to right, bool [B].
        radians: angle of rotation, counter-clockwise on the screen, float32 [B].
        brightness: factor, float32 [B].
        contrast: factor about the mean, float32 [B].
        saturation: factor about the grey image, float32 [B].
        noise_at: where the window of Gaussian noise begins, float64 [B] in 0..1.
        salt_at: where the window of uniform values that place salt and pepper begins, float64 [B].
        box: top, left, height and width of the rectangle that is lost, in pixels, float32 [B, 4]; no height: none.
        box_at: where the window of uniform values that fill the rectangle begins, float64 [B].
    """

    mirrored: Tensor
    radians: Tensor
    brightness: Tensor
    contrast: Tensor
    saturation: Tensor
    noise_at: Tensor
    salt_at: Tensor
    box: Tensor
    box_at: Tensor


class AugmentationParams(NamedTuple):
    """The random numbers of both views of B images; None for a view that a list of kornia's makes."""

    weak: WeakParams | None
    strong: StrongParams | None


def draw_params(
    options: ViewOptions, *, seed: int, passes: Sequence[int], rows: Sequence[int]
) -> AugmentationParams:
    """Return the random numbers of the views of `rows` in the passes over the table that they belong to.

    An image's numbers come from (seed, pass, row) alone: its views are the same whatever the batch size, the workers,
    the processes, the backend, and where a run was interrupted.
    """
    numbers = np.empty((len(rows), _WEAK + _STRONG))
    for index, (one_pass, row) in enumerate(zip(passes, rows, strict=True)):
        # The last number keeps these apart from the shuffle of a pass, which comes from [seed, pass].
        numbers[index] = np.random.default_rng([seed, one_pass, row, 1]).random(_WEAK + _STRONG)
    u = torch.from_numpy(numbers).T
    weak = _weak(options.weak, u[:_WEAK]) if isinstance(options.weak, WeakOptions) else None
    strong = None
    if isinstance(options.strong, StrongOptions):
        strong = _strong(options.strong, options.size, u[_WEAK:])
    return AugmentationParams(weak, strong)


def _weak(options: WeakOptions, u: Tensor) -> WeakParams:
    return WeakParams(u[0] < options.flip, _radians(u[1], options.rotate), u[2])


def _strong(options: StrongOptions, size: int, u: Tensor) -> StrongParams:
    return StrongParams(
        mirrored=u[0] < options.flip,
        radians=_radians(u[1], options.rotate),
        brightness=_factor(u[2], options.brightness),
        contrast=_factor(u[3], options.contrast),
        saturation=_factor(u[4], options.saturation),
        noise_at=u[5],
        salt_at=u[6],
        box=_boxes(u[7:12], options.erase, options.erase_area, size),
        box_at=u[12],
    )


def _radians(u: Tensor, degrees: float) -> Tensor:
    return ((u * 2 - 1) * math.radians(degrees)).float()


def _factor(u: Tensor, strength: float) -> Tensor:
    return (1.0 + strength * (u * 2 - 1)).float()


def _boxes(u: Tensor, probability: float, area: tuple[float, float], size: int) -> Tensor:
    """Return rectangles as random erasing draws them (Zhong et al., AAAI 2020), float32 [B, 4].

    The share of the area is uniform in `area`, the logarithm of the aspect ratio between 0.3 and 1/0.3.
    """
    chosen, share, aspect, top, left = u
    share = area[0] + (area[1] - area[0]) * share
    aspect = torch.exp(math.log(0.3) * (2 * aspect - 1))
    tall = (torch.sqrt(share * aspect) * size).round().clamp(1, size)
    wide = (torch.sqrt(share / aspect) * size).round().clamp(1, size)
    top = (top * (size - tall + 1)).floor()
    left = (left * (size - wide + 1)).floor()
    box = torch.stack((top, left, tall, wide), 1)
    return torch.where((chosen < probability)[:, None], box, torch.zeros_like(box)).float()
