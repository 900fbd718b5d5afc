"""Whether a probability means what it says: of the images given 0.8, are 8 in 10 positive?"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from labelassemble.errors import LabelAssembleError
from labelassemble.evaluation.proportion import Proportion

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class ReliabilityPoint:
    """The images whose probability fell into one bin."""

    mean_probability: float
    positives: Proportion  # how many of them are positive; .value is the height of the reliability curve


@dataclass(frozen=True, slots=True)
class Reliability:
    """The expected calibration error and the reliability curve that it sums up."""

    error: float  # in [0, 1]: mean |share of positives - mean probability| over bins, weighted by images
    points: tuple[ReliabilityPoint, ...]  # by rising probability, empty bins left out


def reliability_of(positives: Floats, negatives: Floats, *, bins: int = 10) -> Reliability | None:
    """Return ECE (Naeini, Cooper and Hauskrecht 2015) in bins of equal width on [0, 1].

    Args:
        positives: [m], probabilities of the known positives.
        negatives: [n], probabilities of the known negatives.
        bins: how many; a probability on an edge belongs to the bin above it, 1 to the last.

    Returns:
        The calibration, or None where no label is known. One state alone is enough: calibration needs no pairs.

    Raises:
        LabelAssembleError: a value outside [0, 1], or fewer than one bin.
    """
    if bins < 1:
        raise LabelAssembleError(f"bins must be at least 1, got {bins}")
    probabilities = np.concatenate([positives, negatives])
    if len(probabilities) == 0:
        return None
    if not (probabilities.min() >= 0 and probabilities.max() <= 1):
        raise LabelAssembleError(
            f"calibration needs probabilities in [0, 1], got {probabilities.min():.9g} to {probabilities.max():.9g}"
        )
    index = np.minimum((probabilities * bins).astype(np.intp), bins - 1)
    images = np.bincount(index, minlength=bins)
    mass = np.bincount(index, probabilities, bins)
    hits = np.bincount(index[: len(positives)], minlength=bins)
    error = float(np.abs(hits - mass).sum() / len(probabilities))
    points = tuple(
        ReliabilityPoint(float(mass[b] / images[b]), Proportion(int(hits[b]), int(images[b])))
        for b in np.flatnonzero(images)
    )
    return Reliability(error, points)
