"""Classes with too few labelled positives to be pseudo-labelled: what is guessed of them would be learned."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from labelassemble.ops.composed_loss import silenced


def labelled_positives(targets: np.ndarray) -> list[int]:
    """Return how many of targets [N, C] (NaN = unknown) are positive, by class; a soft one above a half is."""
    return [int(count) for count in (targets > 0.5).sum(axis=0)]


def withheld_classes(positives: Sequence[int], at_least: int) -> Tensor | None:
    """Return bool [C], True for a class with fewer labelled positives than `at_least`; None if no class has fewer."""
    withheld = torch.tensor([count < at_least for count in positives])
    return withheld if bool(withheld.any()) else None


def withhold(
    logits_weak: Tensor,  # [B, C]
    logits_strong: Tensor | None,  # [B, C]
    targets: Tensor,  # [B, C], NaN = unknown
    withheld: Tensor,  # bool [C]
) -> tuple[Tensor, Tensor | None]:
    """Return the logits for the loss, where a withheld class's unknown labels count nothing in any term.

    Their value and their gradient in both terms for unknown labels are exactly zero; they still count in the divisor,
    as with a class weight of 0, so that the other classes' terms stay what they are.
    """
    silent = torch.isnan(targets) & withheld
    return silenced(logits_weak, silent), None if logits_strong is None else silenced(logits_strong, silent)
