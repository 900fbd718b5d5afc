"""The confidence interval of an AUROC that holds with few cases.

DeLong's variance is itself an estimate. From three positives, or where a handful of cases alone are ranked wrong, it is
far too small as often as not, and intervals made from it hold the true AUROC in 8 of 10 samples where they promise 95%.
So three things are done, and `benchmarks/auroc_intervals.py` measures what each way of making an interval covers:

1. The variance is held against what Hanley and McNeil's formula (Radiology 1982) gives for such an AUROC and as many
   patients, H. It is never less than the mean of both, weighted by the degrees of freedom of its own estimate (from the
   kurtosis of its components, O'Neill, Statistics 2014) and by `PRIOR`.
2. The interval holds all AUROCs t from which A lies no further than q sqrt(V(t)): the variance is that of the AUROC in
   question, V(t) = V H(t) / H(A), as in Wilson's interval of a proportion (Newcombe, Statistics in Medicine 2006).
3. q is Student's quantile with as many degrees of freedom as stand behind V.

With many cases this is the usual interval; with perfect separation of k cases it is about Wilson's of k in k.
"""

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr, stdtrit

from labelassemble.errors import LabelAssembleError

PRIOR: Final = 6.0
"""Degrees of freedom that Hanley and McNeil's formula counts for."""

_LEAST_EXCESS: Final = (
    -1.2
)  # of kurtosis: that of a uniform distribution, what flat deviations may be taken for
_STEPS: Final = 60  # halvings: the ends are then exact to rounding

Floats = NDArray[np.float64]


class Spread(NamedTuple):
    """A variance, and how well it is known."""

    variance: float
    freedom: float  # degrees of freedom; inf: a bound and no estimate


def freedom_of(sides: Sequence[Floats]) -> float:
    """Return the degrees of freedom of an AUROC's variance (Satterthwaite), inf where no side can be estimated.

    Args:
        sides: of the positives, then of the negatives: per patient who has any, the summed deviation of the placement
            values, already divided by the number of cases; each [k], k >= 1.
    """
    variance, uncertainty = 0.0, 0.0
    for deviations in sides:
        k, squares = len(deviations), deviations**2
        mean = float(squares.mean())
        if k == 1 or mean < 1e-150:
            continue
        own = k / (k - 1) * float(squares.sum())
        excess = max(_LEAST_EXCESS, float((squares**2).mean()) / mean**2 - 3)
        variance += own
        uncertainty += own**2 * (excess / k + 2 / (k - 1)) / 2
    return variance**2 / uncertainty if uncertainty > 0 else float("inf")


def hanley_mcneil(area: float, positives: int, negatives: int) -> float:
    """Return the variance of an AUROC by Hanley and McNeil's formula.

    Their model has a direction: what is rarer is taken to vary more, whichever state it is, and an area below 0.5 is
    that of the negated scores.
    """
    high = max(area, 1 - area)
    two_rare, two_common = high / (2 - high), 2 * high**2 / (1 + high)
    rare, common = sorted((positives, negatives))
    return (high * (1 - high) + (rare - 1) * (two_rare - high**2) + (common - 1) * (two_common - high**2)) / (
        rare * common
    )


def auroc_interval(
    area: float, spread: Spread, expected: Callable[[float], float], *, level: float
) -> tuple[float, float]:
    """Return the confidence interval of an AUROC, within [0, 1], by the method at the head of this file.

    Args:
        area: the AUROC measured.
        spread: its variance by DeLong, and how well that is known.
        expected: the variance that an AUROC is expected to have with as many patients.
        level: the confidence, in (0, 1).

    Raises:
        LabelAssembleError: a level outside (0, 1).
    """
    if not 0 < level < 1:
        raise LabelAssembleError(f"level must lie between 0 and 1, got {level}")
    here = expected(area)
    ratio, freedom = 1.0, 0.0  # without a spread nothing is known but what is expected
    if spread.variance > 1e-28 and here > 0:
        ratio, freedom = spread.variance / here, spread.freedom
        weight = 1.0 if np.isinf(freedom) else freedom / (PRIOR + freedom)
        ratio = max(ratio, weight * ratio + 1 - weight)
    quantile = float(stdtrit(min(PRIOR + freedom, 1e9), 0.5 + level / 2))

    def end(limit: float) -> float:
        outside, inside = limit, area
        for _ in range(_STEPS):
            middle = (outside + inside) / 2
            if (area - middle) ** 2 <= quantile**2 * ratio * expected(middle):
                inside = middle
            else:
                outside = middle
        return inside

    return end(0.0), end(1.0)


def difference_interval(
    difference: float, spread: Spread, expected: float, *, level: float
) -> tuple[tuple[float, float], float]:
    """Return the confidence interval of a difference of two AUROCs, within [-1, 1], and its two-sided p.

    The variance is never less than the mean of itself and the one that is expected, weighted by its own degrees of
    freedom and by `PRIOR`. The quantile is Student's with its own degrees of freedom alone, since what is expected
    rests on a correlation that is measured on the same few cases.

    Args:
        difference: as measured.
        spread: its variance, above 0, and how well that is known.
        expected: the variance that it is expected to have with as many patients.
        level: the confidence, in (0, 1).
    """
    variance, freedom = spread.variance, min(spread.freedom, 1e9)
    weight = freedom / (PRIOR + freedom)
    deviation = float(np.sqrt(max(variance, weight * variance + (1 - weight) * expected)))
    half = float(stdtrit(freedom, 0.5 + level / 2)) * deviation
    p = float(2 * stdtr(freedom, -abs(difference) / deviation))
    return (max(-1.0, difference - half), min(1.0, difference + half)), p
