"""How sure a measured proportion is: Wilson's interval."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.special import ndtri

from labelassemble.errors import LabelAssembleError


class Interval(NamedTuple):
    """A confidence interval, lower <= upper."""

    lower: float
    upper: float


@dataclass(frozen=True, slots=True)
class Proportion:
    """So many successes in so many trials."""

    successes: int
    trials: int

    @property
    def value(self) -> float | None:
        """The share of successes, None without trials."""
        return self.successes / self.trials if self.trials else None

    @property
    def interval(self) -> Interval | None:
        """Wilson's 95% interval, None without trials."""
        return wilson(self.successes, self.trials)


def wilson(successes: float, trials: float, *, level: float = 0.95) -> Interval | None:
    """Return Wilson's score interval of a proportion, within [0, 1]; None without trials.

    Args:
        successes: how many, in [0, trials]; need not be whole.
        trials: of how many; need not be whole, as an effective number is not.
        level: the confidence, in (0, 1).
    """
    z = normal_quantile(level)
    if not 0 <= successes <= trials:
        raise LabelAssembleError(f"successes must lie in [0, {trials}], got {successes}")
    if trials == 0:
        return None
    share = successes / trials
    shrink = 1 + z * z / trials
    middle = (share + z * z / (2 * trials)) / shrink
    half = z * np.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials)) / shrink
    return Interval(float(max(0.0, min(middle - half, share))), float(min(1.0, max(middle + half, share))))


def normal_quantile(level: float) -> float:
    """Return how many standard deviations from the mean hold the share `level`, in (0, 1), of a normal distribution."""
    if not 0 < level < 1:
        raise LabelAssembleError(f"level must lie between 0 and 1, got {level}")
    return float(ndtri(0.5 + level / 2))
