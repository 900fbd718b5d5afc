"""What an arm's network sees of the images: all of them, or what no finding can be read from.

Images of a disease and images without it often come from different hospitals, and devices, crops and file pipelines
differ. Where a network that sees nothing but the border, or a thumbnail, is about as good as one that sees the whole
image, the figure of neither says that a finding was recognised (after Maguolo and Nanni, Information Fusion 2021, who
blacked out the middle of the images, with the lungs).
"""

import os
from dataclasses import replace
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from labelassemble.experiments.settings import Sees
from labelassemble.experiments.stack import Stack

BORDER: Final = 8
"""The border is as wide as the side divided by this."""
THUMBNAIL: Final = 8
"""Side of the thumbnail, in pixels."""

_BLOCK: Final = 1024  # images at a time, so that floats of a large stack need not fit in memory


def seen(stack: Stack, sees: Sees) -> Stack:
    """Return the stack with images as `sees` says, made at the first call and kept beside the stack's own file.

    Args:
        stack: the images; "whole" returns it as it is.
        sees: see `border` and `thumbnail`.
    """
    if sees == "whole":
        return stack
    file = stack.file.with_name(f"{stack.file.stem}-{sees}.npz")
    if not file.exists():
        with np.load(stack.file, allow_pickle=False) as archive:
            images = archive["images"]
        change = border if sees == "border" else thumbnail
        parts = [change(images[start : start + _BLOCK]) for start in range(0, len(images), _BLOCK)]
        unfinished = file.with_name(f".{os.getpid()}-{file.name}")
        np.savez(unfinished, images=np.concatenate(parts))
        os.replace(unfinished, file)
    return replace(stack, file=file)


def border(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return images [N, S, S] or [N, S, S, 3] that are black but for a border of S / `BORDER` pixels, at least one."""
    width = max(1, images.shape[1] // BORDER)
    left = images.copy()
    left[:, width:-width, width:-width] = 0
    return left


def thumbnail(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return images [N, S, S] or [N, S, S, 3] averaged to 8x8 pixels and enlarged again, each pixel a square."""
    side = images.shape[1]
    pixels = torch.from_numpy(images.reshape(len(images), side, side, -1)).permute(0, 3, 1, 2).float()
    small = functional.interpolate(pixels, size=(THUMBNAIL, THUMBNAIL), mode="area").round()
    large = functional.interpolate(small, size=(side, side), mode="nearest-exact")
    return large.to(torch.uint8).permute(0, 2, 3, 1).reshape(images.shape).contiguous().numpy()
