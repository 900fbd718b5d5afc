"""How probabilities of one class are corrected, and whether they are: the maths, without files.

A correction acts on the logit: sigmoid(logit / T + offset). With an offset of 0 that is temperature scaling (Guo et
al., "On Calibration of Modern Neural Networks", ICML 2017, section 4.2), with one it is Platt's scaling ("Probabilistic
Outputs for Support Vector Machines", 1999), whose targets are softened as he does it. T is positive, so the ranking,
and with it AUROC, stays.

The rule: a correction is kept only where cross-validation on validation images says that it helps. Each patient is left
out once in each of a few divisions into `FOLDS` parts; of temperature and Platt, the one with the smaller log loss on
what was left out is taken, if that is below the log loss without a correction by more than its standard error over
patients. Otherwise probabilities stay as the network gives them. benchmarks/calibration.py compares this with other
rules and other corrections on real data.
"""

from collections.abc import Iterator
from typing import Final, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq, minimize
from scipy.special import expit, logit

from labelassemble.errors import LabelAssembleError

Method = Literal["none", "temperature", "platt"]

LEAST: Final = 10
"""With fewer known validation labels of either state, or fewer patients with one, nothing is fitted."""

BOUNDS: Final = (0.1, 10.0)
"""A temperature outside these is none: the labels were separated without an error, or the scores tell nothing."""

FOLDS: Final = 5
"""Parts that the patients are divided into."""

_CERTAIN: Final = 36.0  # the logit of the largest float64 below 1
_SMALL: Final = 2000  # up to so many images the division is repeated, since one alone is a matter of chance
_REPEATS: Final = 5
_STANDARD_ERRORS: Final = 1.0  # that the log loss must fall by

Floats = NDArray[np.float64]


class Temperature(NamedTuple):
    """What was fitted for one class."""

    value: float | None  # None: probabilities are left as they are
    reason: str  # why there is none, "" where there is one


class Platt(NamedTuple):
    """What was fitted for one class: probabilities become sigmoid(logit / temperature + offset)."""

    temperature: float
    offset: float


class Calibrator(NamedTuple):
    """The correction of one class."""

    method: Method
    temperature: float  # 1 without a correction
    offset: float
    reason: str  # why there is none, "" where there is one
    log_loss: dict[str, float]  # cross-validated, by method; empty where there are too few labels


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
    z, positive = _logits(positives, negatives)
    count = int(np.count_nonzero(positive))
    if count < LEAST or len(z) - count < LEAST:
        return Temperature(None, _too_few(count, len(z) - count))
    return _temperature(z, positive)


def _too_few(positives: int, negatives: int, what: str = "validation labels") -> str:
    return f"{positives} positive and {negatives} negative {what} are too few (at least {LEAST} of each)"


def _temperature(z: Floats, positive: NDArray[np.bool_]) -> Temperature:
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


def fit_platt(positives: ArrayLike, negatives: ArrayLike) -> Platt | None:
    """Return temperature and offset by Platt's method: logistic regression on the logit with softened targets.

    A positive counts as (m + 1) / (m + 2) and a negative as 1 / (n + 2), so that labels that are separated without an
    error give a finite answer.

    Args:
        positives: [m], probabilities of the known positives.
        negatives: [n], probabilities of the known negatives.

    Returns:
        None where the temperature that fits best lies outside `BOUNDS` or is negative.

    Raises:
        LabelAssembleError: a value outside [0, 1].
    """
    return _platt(*_logits(positives, negatives))


def _platt(z: Floats, positive: NDArray[np.bool_]) -> Platt | None:
    count = int(np.count_nonzero(positive))
    target = np.where(positive, (count + 1) / (count + 2), 1 / (len(z) - count + 2))

    def loss(weights: Floats) -> tuple[float, Floats]:
        at = weights[0] * z + weights[1]
        off = expit(at) - target
        return float(np.mean(np.logaddexp(0, at) - target * at)), np.array([np.mean(off * z), np.mean(off)])

    low, high = 1 / BOUNDS[1], 1 / BOUNDS[0]
    found = minimize(
        loss,
        np.array([1.0, 0.0]),
        jac=True,
        method="L-BFGS-B",
        bounds=[(low, high), (None, None)],
        options={"ftol": 1e-15, "gtol": 1e-9},
    )
    slope, offset = found.x
    return None if slope <= low or slope >= high else Platt(1 / float(slope), float(offset))


def _logits(positives: ArrayLike, negatives: ArrayLike) -> tuple[Floats, NDArray[np.bool_]]:
    """Return finite logits [m + n] and which of them are of positives."""
    hits, misses = np.asarray(positives, np.float64), np.asarray(negatives, np.float64)
    scores = np.concatenate([hits, misses])
    if not bool(((scores >= 0) & (scores <= 1)).all()):
        raise LabelAssembleError("calibration is fitted to probabilities, each a number from 0 to 1")
    return np.clip(logit(scores), -_CERTAIN, _CERTAIN), np.arange(len(scores)) < len(hits)


def choose_calibrator(
    positives: ArrayLike,
    negatives: ArrayLike,
    positive_patients: ArrayLike,
    negative_patients: ArrayLike,
    *,
    standard_errors: float = _STANDARD_ERRORS,
) -> Calibrator:
    """Return the correction of one class by the rule of this module.

    Args:
        positives: [m], probabilities of the known positives.
        negatives: [n], probabilities of the known negatives.
        positive_patients: [m], the patient of each, as an index.
        negative_patients: [n].
        standard_errors: that the log loss must fall by.

    Raises:
        LabelAssembleError: a value outside [0, 1].
    """
    z, positive = _logits(positives, negatives)
    count = int(np.count_nonzero(positive))
    if count < LEAST or len(z) - count < LEAST:
        return Calibrator("none", 1.0, 0.0, _too_few(count, len(z) - count), {})
    patients = np.unique(
        np.concatenate([np.asarray(positive_patients), np.asarray(negative_patients)]), return_inverse=True
    )[1]
    ill, well = (len(np.unique(patients[state])) for state in (positive, ~positive))
    if min(ill, well) < LEAST:
        return Calibrator("none", 1.0, 0.0, _too_few(ill, well, "patients of the validation images"), {})
    losses = cross_validated_loss(z, positive, patients)
    means = {name: float(loss.mean()) for name, loss in losses.items()}
    temperature, platt = _temperature(z, positive), _platt(z, positive)
    fitted: dict[Method, tuple[float, float]] = {}
    if temperature.value is not None:
        fitted["temperature"] = temperature.value, 0.0
    if platt is not None:
        fitted["platt"] = platt.temperature, platt.offset
    if not fitted:
        return Calibrator("none", 1.0, 0.0, temperature.reason or "no correction fits", means)
    best = min(fitted, key=lambda name: means[name])
    gain, error = _mean_by_patient(losses["none"] - losses[best], patients)
    if not gain > standard_errors * error:
        reason = (
            f"cross-validated log loss {means['none']:.3f} as the model gives them, {means[best]:.3f} at best with a "
            f"correction (standard error of the difference {error:.3f}): no clear gain"
        )
        return Calibrator("none", 1.0, 0.0, reason, means)
    return Calibrator(best, *fitted[best], "", means)


def cross_validated_loss(
    z: Floats, positive: NDArray[np.bool_], patients: NDArray[np.intp]
) -> dict[str, Floats]:
    """Return the log loss [N] of each image when its patient is left out, by method, the mean over the divisions.

    Where a method cannot be fitted without a part, that part is left uncorrected.

    Args:
        z: logits [N].
        positive: the labels [N].
        patients: the index of each image's patient [N], without gaps.
    """
    losses: dict[str, Floats] = {name: np.zeros(len(z)) for name in ("none", "temperature", "platt")}
    divisions = list(_divisions(positive, patients))
    for fold in divisions:
        for part in range(FOLDS):
            left_out = fold == part
            rest, states, at = z[~left_out], positive[~left_out], z[left_out]
            temperature, platt = _temperature(rest, states).value, _platt(rest, states)
            corrected = {
                "none": at,
                "temperature": at if temperature is None else at / temperature,
                "platt": at if platt is None else at / platt.temperature + platt.offset,
            }
            for name, values in corrected.items():
                signed = np.where(positive[left_out], -values, values)
                losses[name][left_out] += np.logaddexp(0, signed) / len(divisions)
    return losses


def _divisions(positive: NDArray[np.bool_], patients: NDArray[np.intp]) -> Iterator[NDArray[np.int64]]:
    """Yield the part of each image [N]: as many patients with a positive in each, drawn with fixed seeds."""
    ill = np.bincount(patients, positive) > 0
    for seed in range(_REPEATS if len(positive) <= _SMALL else 1):
        order = np.random.default_rng(seed).permutation(len(ill))
        order = order[np.argsort(ill[order], kind="stable")]
        fold = np.empty(len(ill), np.int64)
        fold[order] = np.arange(len(ill)) % FOLDS
        yield fold[patients]


def _mean_by_patient(values: Floats, patients: NDArray[np.intp]) -> tuple[float, float]:
    """Return the mean of values [N] and its standard error with the images of a patient taken together."""
    mean = float(values.mean())
    sums = np.bincount(patients, values - mean)
    count = len(sums)
    return mean, float(np.sqrt(count / (count - 1) * np.sum(sums**2)) / len(values))


def scaled(probabilities: ArrayLike, temperature: float | None, offset: float = 0.0) -> Floats:
    """Return sigmoid(logit(p) / temperature + offset) of probabilities of any shape; None leaves them as they are.

    Raises:
        LabelAssembleError: a temperature that is not positive and finite, or an offset that is not finite.
    """
    values = np.asarray(probabilities, np.float64)
    if temperature is None:
        return values
    if not (np.isfinite(temperature) and temperature > 0 and np.isfinite(offset)):
        raise LabelAssembleError(
            f"a temperature must be positive and finite and an offset finite, got {temperature} and {offset}"
        )
    if temperature == 1 and offset == 0:
        return values
    calibrated: Floats = expit(logit(values) / temperature + offset)
    return calibrated
