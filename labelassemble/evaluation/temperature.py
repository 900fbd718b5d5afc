"""Temperature scaling: one number a class that makes probabilities less, or more, sure of themselves.

Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, section 4.2: probabilities become
sigmoid(logit / T), T fitted on validation images. Each class has its own T here, since each is a yes-or-no question
of its own, with its own sources and its own share of positives; the ranking within a class, and with it AUROC,
stays as it is.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq
from scipy.special import expit, logit

from labelassemble.errors import LabelAssembleError

Floats = NDArray[np.float64]

LEAST: Final = 10
"""With fewer known validation labels of either state no temperature is fitted."""

BOUNDS: Final = (0.1, 10.0)
"""A temperature outside these is none: the labels were separated without an error, or the scores tell nothing."""

_CERTAIN: Final = 36.0  # the logit of the largest float64 below 1


@dataclass(frozen=True, slots=True)
class Temperature:
    """What was fitted for one class."""

    value: float | None  # None: probabilities are left as they are
    reason: str  # why there is none, "" where there is one


def fit_temperature(positives: ArrayLike, negatives: ArrayLike) -> Temperature:
    """Return the temperature that gives the known labels the least negative log-likelihood.

    With b = 1/T that is the sum of log(1 + exp(-b z)) over positives and of log(1 + exp(b z)) over negatives, z the
    logits: convex in b, so its derivative, the sum of z (sigmoid(b z) - y), has one root, found by Brent's method.

    Args:
        positives: [m], probabilities of the known positives.
        negatives: [n], probabilities of the known negatives.

    Returns:
        A temperature within `BOUNDS`, or none with the reason: fewer than `LEAST` labels of a state, or a minimum
        outside the bounds.

    Raises:
        LabelAssembleError: a value outside [0, 1].
    """
    hits, misses = np.asarray(positives, np.float64), np.asarray(negatives, np.float64)
    scores = np.concatenate([hits, misses])
    if not bool(((scores >= 0) & (scores <= 1)).all()):
        raise LabelAssembleError("temperatures are fitted to probabilities, each a number from 0 to 1")
    if len(hits) < LEAST or len(misses) < LEAST:
        return Temperature(
            None,
            f"{len(hits)} positive and {len(misses)} negative validation labels are too few "
            f"(at least {LEAST} of each)",
        )
    z = np.clip(logit(scores), -_CERTAIN, _CERTAIN)
    positive = np.arange(len(z)) < len(hits)

    def slope(b: float) -> float:
        return float(np.sum(z * (expit(b * z) - positive)))

    low, high = 1 / BOUNDS[1], 1 / BOUNDS[0]
    if not slope(low) < 0 < slope(high):
        cause = (
            "the validation labels are separated with hardly an error"
            if slope(low) < 0
            else "the probabilities tell the validation labels apart too badly"
        )
        return Temperature(None, f"none from {BOUNDS[0]:g} to {BOUNDS[1]:g} fits best: {cause}")
    return Temperature(1 / float(brentq(slope, low, high, xtol=1e-12)), "")


def scaled(probabilities: ArrayLike, temperature: float | None) -> Floats:
    """Return sigmoid(logit(p) / temperature) of probabilities of any shape; None leaves them as they are.

    Raises:
        LabelAssembleError: a temperature that is not positive and finite.
    """
    values = np.asarray(probabilities, np.float64)
    if temperature is None:
        return values
    if not (np.isfinite(temperature) and temperature > 0):
        raise LabelAssembleError(f"a temperature must be positive and finite, got {temperature}")
    calibrated: Floats = expit(logit(values) / temperature)
    return calibrated
