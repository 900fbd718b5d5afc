"""Sharpening of predicted probabilities into pseudo-labels."""

from torch import Tensor, where


def sharpen(
    probabilities: Tensor,  # any shape
    *,
    threshold: float = 0.5,
    temperature: float = 4.0,
) -> Tensor:
    """Return s(a): probabilities moved towards 1 above the threshold, towards 0 at or below it.

    s(a) = a + (1 - a)/t where a > tau, else a - a/t  (arXiv 2109.12265, section 2.2, tau the threshold, t the
    temperature). t = 1 gives hard labels, t = inf changes nothing.

    Args:
        probabilities: values in [0, 1], any shape and floating dtype.
        threshold: tau, between 0 and 1.
        temperature: t, at least 1.

    Returns:
        Tensor of the same shape and dtype, differentiable.

    Example:
        >>> import torch
        >>> from labelassemble.functional import sharpen
        >>> sharpen(torch.tensor([0.2, 0.5, 0.6]))
        tensor([0.1500, 0.3750, 0.7000])
    """
    moved_up = probabilities + (1 - probabilities) / temperature
    return where(probabilities > threshold, moved_up, probabilities - probabilities / temperature)
