"""A bank of random values: pixel noise that is the same on every device and in every backend."""

import torch
from torch import Tensor

_SPREAD = 2**21  # values from which a window's beginning is chosen
_ALIGN = 16  # values, so that a window begins on a cache line


class NoiseBank:
    """Gaussian and uniform values, drawn once; an image's noise is a window of them with a start of its own.

    Every device has another generator, and a decoding library has a third; a window has the same values everywhere
    and costs a copy instead of new random values. Windows of two images may overlap, shifted; two equal ones meet about
    once in 100,000 images.

    Args:
        seed: of the values.
        window: the largest number of values that one image takes.
        device: where they are kept.
    """

    def __init__(self, seed: int, window: int, device: torch.device | str = "cpu") -> None:
        generator = torch.Generator().manual_seed(seed)
        self.gaussian: Tensor = torch.randn(_SPREAD + window, generator=generator).to(device)
        self.uniform: Tensor = torch.rand(_SPREAD + window, generator=generator).to(device)


def windows(
    values: Tensor,
    at: Tensor,  # [B], in 0..1
    shape: tuple[int, ...],
) -> list[Tensor]:
    """Return B windows of `values`, each a view in `shape`, that begin where `at` says."""
    count = torch.Size(shape).numel()
    starts = (at.double() * (_SPREAD // _ALIGN)).long() * _ALIGN
    return [values[start : start + count].view(shape) for start in starts.tolist()]
