"""How well scores rank positives above negatives, counted over known labels only.

Every function takes labels of shape [N] in one of two forms: floating with NaN = unknown, or integer/bool with
any negative state = unknown. A class of which only one state is known has no ranking to measure: the answer is
None ("not defined"), never 0.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata

from labelassemble.errors import LabelAssembleError
from labelassemble.evaluation.proportion import Proportion

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class RocCurve:
    """The ROC curve's corners, from (0, 0) to (1, 1), a point for every distinct score."""

    false_positive_rate: Floats  # [K]
    true_positive_rate: Floats  # [K]
    thresholds: Floats  # [K], falling, the first is inf; "positive" means score >= threshold


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """What a threshold gives on some images: those with score >= threshold are called positive."""

    target: float  # the specificity that was asked for when the threshold was chosen
    threshold: float  # inf: no score is high enough, nothing is called positive
    sensitivity: Proportion
    specificity: Proportion


def known_scores(labels: ArrayLike, scores: ArrayLike, *, name: str = "the class") -> tuple[Floats, Floats]:
    """Return the scores of the known positives and of the known negatives.

    Args:
        labels: [N], floating (0, 1, NaN = unknown) or integer/bool (0, 1, negative = unknown).
        scores: [N], any real scale, higher = more positive; infinities are ranked as such.
        name: the class, for error messages.

    Raises:
        LabelAssembleError: another shape, a label that is neither 0, 1 nor unknown, or a NaN score.
    """
    positive, negative = known_masks(labels, name=name)
    values = checked_scores(scores, len(positive), name=name)
    return values[positive], values[negative]


def known_masks(labels: ArrayLike, *, name: str = "the class") -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return where labels [N] are known to be positive and where they are known to be negative, each bool [N]."""
    states = np.asarray(labels)
    if states.ndim != 1:
        raise LabelAssembleError(f"labels of {name} must have one axis, got shape {list(states.shape)}")
    positive, negative = states == 1, states == 0
    unknown = np.isnan(states) if states.dtype.kind == "f" else states < 0
    odd = ~(positive | negative | unknown)
    if odd.any():
        raise LabelAssembleError(f"labels of {name} must be 0, 1 or unknown, got {states[odd][0]}")
    return positive, negative


def checked_scores(scores: ArrayLike, length: int, *, name: str = "the class") -> Floats:
    """Return scores as float64 [length], or say what is wrong with them."""
    values = np.asarray(scores, dtype=np.float64)
    if values.shape != (length,):
        raise LabelAssembleError(
            f"scores of {name} must have the shape of its labels, got {list(values.shape)} and {[length]}"
        )
    nan = np.isnan(values)
    if nan.any():
        raise LabelAssembleError(
            f"scores of {name} must be numbers, got NaN in {int(nan.sum())} of {length}, first in row {nan.argmax()}"
        )
    return values


def auroc(labels: ArrayLike, scores: ArrayLike, *, name: str = "the class") -> float | None:
    """Return the area under the ROC curve, the share of pairs ranked right, a tie counting one half.

    Computed from midranks in float64 (the Mann-Whitney statistic).

    Returns:
        A number in [0, 1], or None where no positive or no negative is known.
    """
    return auroc_of(*known_scores(labels, scores, name=name))


def auroc_of(positives: Floats, negatives: Floats) -> float | None:
    """Return the AUROC of positive scores [m] against negative scores [n], None where either is empty."""
    m, n = len(positives), len(negatives)
    if m == 0 or n == 0:
        return None
    ranks = rankdata(np.concatenate([positives, negatives]))
    return float((ranks[:m].sum() - m * (m + 1) / 2) / (m * n))


def auroc_per_class(
    probabilities: ArrayLike, targets: ArrayLike, *, classes: Sequence[str]
) -> list[float | None]:
    """Return the AUROC of each class during training.

    Args:
        probabilities: [N, C].
        targets: [N, C], as the loss takes them: NaN = unknown. Soft targets, strictly between 0 and 1, stand for
            uncertain labels and are not counted.
        classes: names of the C classes, for error messages.
    """
    scores, states = np.asarray(probabilities, np.float64), np.array(targets, np.float64)
    if scores.ndim != 2 or scores.shape != states.shape or scores.shape[1] != len(classes):
        raise LabelAssembleError(
            f"probabilities and targets must have the same shape [N, {len(classes)}], "
            f"got {list(scores.shape)} and {list(states.shape)}"
        )
    states[(states > 0) & (states < 1)] = np.nan
    return [auroc(states[:, c], scores[:, c], name=f"'{name}'") for c, name in enumerate(classes)]


def average_precision(labels: ArrayLike, scores: ArrayLike, *, name: str = "the class") -> float | None:
    """Return the average precision, sum over thresholds of (recall step) x precision, without interpolation.

    What guessing reaches is the share of positives, not 0.5: read the one beside the other.

    Returns:
        A number in (0, 1], or None where no positive or no negative is known.
    """
    return average_precision_of(*known_scores(labels, scores, name=name))


def average_precision_of(positives: Floats, negatives: Floats) -> float | None:
    """Return the average precision of positive scores [m] and negative scores [n], None where either is empty."""
    if len(positives) == 0 or len(negatives) == 0:
        return None
    _, hits, alarms = _cumulative(positives, negatives)
    precision = hits[1:] / (hits[1:] + alarms[1:])
    return float(np.sum(np.diff(hits) * precision) / len(positives))


def roc_curve(labels: ArrayLike, scores: ArrayLike, *, name: str = "the class") -> RocCurve | None:
    """Return the ROC curve's corners, or None where no positive or no negative is known."""
    positives, negatives = known_scores(labels, scores, name=name)
    if len(positives) == 0 or len(negatives) == 0:
        return None
    thresholds, hits, alarms = _cumulative(positives, negatives)
    return RocCurve(alarms / len(negatives), hits / len(positives), thresholds)


def _cumulative(positives: Floats, negatives: Floats) -> tuple[Floats, Floats, Floats]:
    """Return thresholds [K] (falling from inf) and how many positives and negatives score at least as high."""
    scores = np.concatenate([positives, negatives])
    order = np.argsort(scores)[::-1]
    falling = scores[order]
    is_positive = order < len(positives)
    last_of_tie = np.append(np.flatnonzero(falling[1:] != falling[:-1]), len(falling) - 1)
    hits = np.cumsum(is_positive)[last_of_tie]
    thresholds = np.concatenate([[np.inf], falling[last_of_tie]])
    return thresholds, np.concatenate([[0.0], hits]), np.concatenate([[0.0], last_of_tie + 1.0 - hits])


def threshold_at_specificity(negatives: Floats, candidates: Floats, specificity: float) -> float:
    """Return the lowest candidate score that calls at most a share 1 - `specificity` of the negatives positive.

    Args:
        negatives: [n], scores of known negatives, n >= 1.
        candidates: [k], scores that may become the threshold (usually all known scores).
        specificity: the share of negatives that must stay below the threshold, in [0, 1].

    Returns:
        One of the candidates, or inf where none is high enough.
    """
    if not 0 <= specificity <= 1:
        raise LabelAssembleError(f"specificity must lie in [0, 1], got {specificity}")
    rising, falling = np.sort(negatives), np.unique(candidates)
    below = np.searchsorted(rising, falling, side="left")
    # The small slack lets 0.95 of 20 negatives be 19, whatever 0.95 * 20 is in binary.
    enough = below >= specificity * len(rising) - 1e-9
    return float(falling[enough.argmax()]) if enough.any() else float("inf")


def threshold_at_sensitivity(positives: Floats, sensitivity: float) -> float:
    """Return the highest score of a positive that calls at least a share `sensitivity` of the positives positive.

    Args:
        positives: [m], scores of known positives, m >= 1.
        sensitivity: the share, above 0, at most 1.
    """
    if not 0 < sensitivity <= 1:
        raise LabelAssembleError(f"sensitivity must lie above 0 and at most 1, got {sensitivity}")
    falling = np.sort(positives)[::-1]
    # The small slack as in `threshold_at_specificity`.
    return float(falling[max(0, int(np.ceil(sensitivity * len(falling) - 1e-9)) - 1)])


def youden_threshold(labels: ArrayLike, scores: ArrayLike) -> float | None:
    """Return the score at which sensitivity + specificity - 1 is greatest, the highest such score.

    Youden, Cancer 1950. What scores at least as much is called positive.

    Args:
        labels: [N], as `known_masks` takes them.
        scores: [N].

    Returns:
        One of the scores of known labels, or None where no positive or no negative is known.
    """
    curve = roc_curve(labels, scores)
    if curve is None:
        return None
    gain = (curve.true_positive_rate - curve.false_positive_rate)[
        1:
    ]  # the first point calls nothing positive
    return float(curve.thresholds[1:][gain >= gain.max() - 1e-12][0])  # ties but for rounding


def at_threshold(positives: Floats, negatives: Floats, threshold: float, *, target: float) -> OperatingPoint:
    """Return sensitivity and specificity of calling positive what scores at least `threshold`."""
    return OperatingPoint(
        target=target,
        threshold=threshold,
        sensitivity=Proportion(int(np.count_nonzero(positives >= threshold)), len(positives)),
        specificity=Proportion(int(np.count_nonzero(negatives < threshold)), len(negatives)),
    )


def sensitivity_at_specificity(
    labels: ArrayLike, scores: ArrayLike, specificity: float, *, name: str = "the class"
) -> OperatingPoint | None:
    """Return the best sensitivity among thresholds whose specificity is at least `specificity`.

    The threshold is chosen and measured on the same images, which flatters it; `evaluate` chooses it on the
    validation split and measures it on the test split.

    Returns:
        The operating point, or None where no positive or no negative is known.
    """
    positives, negatives = known_scores(labels, scores, name=name)
    if len(positives) == 0 or len(negatives) == 0:
        return None
    threshold = threshold_at_specificity(negatives, np.concatenate([positives, negatives]), specificity)
    return at_threshold(positives, negatives, threshold, target=specificity)
