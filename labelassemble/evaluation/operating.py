"""What a threshold does to patients: sensitivity and specificity where it is used, and what a call is worth there.

Images of one patient are not independent. The interval of a proportion is Wilson's with the effective number of images:
the number divided by the design effect, the ratio of the variance between patients to that of independent images (Rao
and Scott, Biometrics 1992), never more than the images; with one image per patient it is Wilson's own.

Predictive values at a stated prevalence follow from sensitivity and specificity by Bayes' rule; their intervals
come from those two by MOVER-R (Newcombe, Statistical Methods in Medical Research 2016), as that of the likelihood ratio
does. Net benefit is Vickers and Elkin's (Medical Decision Making 2006).
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.special import expit, logit

from labelassemble.data.predictions import Predictions
from labelassemble.data.subgroup_options import AGE_BANDS
from labelassemble.errors import LabelAssembleError, did_you_mean
from labelassemble.evaluation.bootstrap import ENOUGH, Counts, patient_indices, percentile_interval, resamples
from labelassemble.evaluation.calibration import Calibration
from labelassemble.evaluation.proportion import Interval, wilson
from labelassemble.evaluation.results import MISSING
from labelassemble.evaluation.subgroups import subgroup_values

THRESHOLDS: Final = tuple(step / 100 for step in range(1, 100))
"""The threshold probabilities of a decision curve."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Rate:
    """A proportion of images, with an interval by patient."""

    successes: int
    trials: int
    effective: float  # number of independent images that the interval is worth
    interval: Interval | None  # 95%; None without trials

    @property
    def value(self) -> float | None:
        """The proportion, None without trials."""
        return self.successes / self.trials if self.trials else None


@dataclass(frozen=True, slots=True)
class PredictiveValue:
    """The probability that a call is right, with its 95% interval."""

    value: float
    interval: Interval


@dataclass(frozen=True, slots=True)
class OperatingRow:
    """A class at its threshold on some images."""

    name: str
    of: str  # "all", "source", or a subgroup's name
    value: str  # "", the source, or the subgroup's value
    threshold: float  # inf: nothing is called positive
    patients: int  # with a known label
    sensitivity: Rate
    specificity: Rate
    prevalence: float | None  # as stated
    positive: PredictiveValue | None  # at that prevalence; None without one, or where it is not defined
    negative: PredictiveValue | None


@dataclass(frozen=True, slots=True)
class DecisionCurve:
    """The net benefit of a class by threshold probability, per patient seen."""

    name: str
    prevalence: float
    stated: bool  # else it is that of the images
    model: tuple[float, ...]  # at `THRESHOLDS`
    everybody: tuple[float, ...]  # of calling everybody positive; calling nobody positive is 0
    band: tuple[Interval | None, ...] = ()
    """95% of each of `model`: empty with few patients, None where nothing is called wrongly (or nothing rightly)."""
    better: tuple[bool | None, ...] = ()
    """Whether the 95% of its lead over everybody and nobody lies above 0; likewise."""


def rate_by_patient(hits: NDArray[np.bool_], patients: NDArray[np.intp]) -> Rate:
    """Return the proportion of hits [N] with an interval in which a patient's images count together.

    Where all images or none are hits, the variance between patients cannot be seen, and a patient counts as one image.
    """
    trials, successes = len(hits), int(np.count_nonzero(hits))
    if not trials:
        return Rate(0, 0, 0.0, None)
    codes = np.unique(patients, return_inverse=True)[1]
    count = int(codes.max()) + 1
    share = successes / trials
    effective = float(trials)
    if count < trials and (share in (0, 1) or count == 1):
        effective = float(count)
    elif count < trials:
        between = np.bincount(codes, hits - share)
        variance = count / (count - 1) * float(np.sum(between**2)) / trials**2
        effective = trials / max(1.0, variance * trials / (share * (1 - share)))
    return Rate(successes, trials, effective, wilson(share * effective, effective))


def predictive_values(
    sensitivity: Rate, specificity: Rate, prevalence: float
) -> tuple[PredictiveValue | None, PredictiveValue | None]:
    """Return positive and negative predictive value at a prevalence; None where no such call is made, or unmeasured."""
    s, c = sensitivity.value, specificity.value
    if s is None or c is None:
        return None, None
    odds = prevalence / (1 - prevalence)
    return (
        _predictive(s, sensitivity.interval, 1 - c, specificity.interval, odds),
        _predictive(c, specificity.interval, 1 - s, sensitivity.interval, 1 / odds),
    )


def _predictive(
    right: float, of_right: Interval | None, wrong: float, of_not_wrong: Interval | None, odds: float
) -> PredictiveValue | None:
    """Return right * odds / (right * odds + wrong), its interval from those of `right` and of 1 - `wrong`."""
    if right + wrong == 0 or of_right is None or of_not_wrong is None:
        return None
    (l1, u1), (l2, u2) = of_right, (1 - of_not_wrong.upper, 1 - of_not_wrong.lower)
    square, product = (right * wrong) ** 2, right * wrong
    under, over = (
        (l1 * u2, (2 * right - l1) * (2 * wrong - u2)),
        (u1 * l2, (2 * right - u1) * (2 * wrong - l2)),
    )
    lower = (product - math.sqrt(max(0.0, square - under[0] * under[1]))) / (u2 * (2 * wrong - u2))
    upper = math.inf
    if l2 > 0:
        upper = (product + math.sqrt(max(0.0, square - over[0] * over[1]))) / (l2 * (2 * wrong - l2))
    ends = [1.0 if ratio == math.inf else ratio * odds / (1 + ratio * odds) for ratio in (lower, upper)]
    return PredictiveValue(right * odds / (right * odds + wrong), Interval(*ends))


def check_prevalence(prevalence: Mapping[str, float], classes: Sequence[str]) -> None:
    """Raise unless each prevalence is of one of the classes and between 0 and 1."""
    for name, value in prevalence.items():
        if name not in classes:
            raise LabelAssembleError(f"prevalence: unknown class '{name}'{did_you_mean(name, classes)}")
        if not 0 < value < 1:
            raise LabelAssembleError(
                f"prevalence of '{name}' must lie between 0 and 1, such as 0.02 for 2 in 100, got {value:g}"
            )


def operating_rows(
    rows: Predictions,
    calibration: Calibration,
    *,
    prevalence: Mapping[str, float] | None = None,
    age_bands: Sequence[float] = AGE_BANDS,
) -> tuple[OperatingRow, ...]:
    """Return each class at its threshold over all images, then in each source and in each value of each subgroup.

    Classes without a threshold or without a known label are left out, and so are parts without a known label.

    Args:
        rows: the images to measure on, as the network gives them.
        calibration: its threshold at `Calibration.at` is used.
        prevalence: by class, to state predictive values at.
        age_bands: ages in years, rising, at which a band begins.
    """
    targets, patients = rows.given_targets(), patient_indices(rows.groups, len(rows))
    answered = calibration.apply(rows.probabilities, rows.classes)
    parts = _parts(rows, age_bands)
    found = []
    for column, name in enumerate(rows.classes):
        own = calibration.of(name)
        if calibration.at not in own.thresholds:
            continue
        threshold = own.threshold(calibration.at)
        for of, value, inside in parts:
            known = inside & ~np.isnan(targets[:, column])
            if not known.any():
                continue
            called, positive = answered[known, column] >= threshold, targets[known, column] == 1
            whose = patients[known]
            sensitivity = rate_by_patient(called[positive], whose[positive])
            specificity = rate_by_patient(~called[~positive], whose[~positive])
            stated = (prevalence or {}).get(name)
            worth = (None, None) if stated is None else predictive_values(sensitivity, specificity, stated)
            count = len(np.unique(whose))
            found.append(
                OperatingRow(name, of, value, threshold, count, sensitivity, specificity, stated, *worth)
            )
    return tuple(found)


def _parts(rows: Predictions, age_bands: Sequence[float]) -> list[tuple[str, str, NDArray[np.bool_]]]:
    """Return (of what, its value, which images): all, each source of several, each value of each subgroup."""
    found = [("all", "", np.ones(len(rows), np.bool_))]
    sources = rows.sources.unique().tolist()
    if len(sources) > 1:
        found += [("source", str(source), np.asarray(rows.sources == source)) for source in sources]
    for name, texts in rows.subgroups.items():
        names, code = subgroup_values(name, texts, age_bands)
        found += [(name, value, code == number) for number, value in enumerate(names)]
        found += [(name, "other values", code == len(names)), (name, MISSING, code < 0)]
    return found


def decision_curves(
    rows: Predictions,
    calibration: Calibration,
    *,
    prevalence: Mapping[str, float] | None = None,
    replicates: int = 1000,
    seed: int = 0,
) -> tuple[DecisionCurve, ...]:
    """Return the decision curve of each class of which both states are known.

    At a threshold probability t the net benefit is sensitivity * prevalence - (1 - specificity) * (1 - prevalence) *
    t / (1 - t): true positives, less false ones at the exchange rate that t stands for. At a stated prevalence, answers
    are moved by the difference of its logit from that of the validation images that the calibration was chosen on.

    The band is of expanded percentiles of resampled patients, at each threshold by itself; there is none where fewer
    than `ENOUGH` patients have either state, nor at a threshold at which the two states are told apart without an error
    (or with nothing else): resampling cannot show errors that never occurred.

    Args:
        rows: the images to measure on, as the network gives them.
        calibration: as it is in use.
        prevalence: by class; default: that of the images.
        replicates: resamples; 0 leaves the bands out.
        seed: of the resamples.
    """
    targets, patients = rows.given_targets(), patient_indices(rows.groups, len(rows))
    answered = calibration.apply(rows.probabilities, rows.classes)
    found = []
    for column, name in enumerate(rows.classes):
        positive, negative = targets[:, column] == 1, targets[:, column] == 0
        if not positive.any() or not negative.any():
            continue
        scores, own = answered[:, column], calibration.of(name)
        stated = (prevalence or {}).get(name)
        if stated is not None and own.positives and own.negatives:
            scores = expit(logit(scores) + logit(stated) - np.log(own.positives / own.negatives))
        known = np.unique(patients[positive | negative])
        called = [
            _called(scores[state], np.searchsorted(known, patients[state]), len(known))
            for state in (positive, negative)
        ]
        share, model, everybody = _benefit(called, np.ones((len(known), 1)), stated)
        curve = DecisionCurve(
            name,
            float(share[0]),
            stated is not None,
            tuple(model[:, 0].tolist()),
            tuple(everybody[:, 0].tolist()),
        )
        least = min(len(np.unique(patients[state])) for state in (positive, negative))
        if replicates and least >= ENOUGH:
            curve = _with_band(
                curve, called, stated, least, resamples(len(known), replicates, seed, np.float64)
            )
        found.append(curve)
    return tuple(found)


def _called(scores: Floats, patients: NDArray[np.intp], count: int) -> csr_array:
    """Return how many images of each patient lie between neighbouring thresholds, [thresholds + 1, patients]."""
    above = np.searchsorted(THRESHOLDS, scores, side="right")
    return csr_array((np.ones(len(scores)), (above, patients)), shape=(len(THRESHOLDS) + 1, count))


def _benefit(
    called: Sequence[csr_array], counts: NDArray[np.floating], stated: float | None
) -> tuple[Floats, Floats, Floats]:
    """Return prevalence [B] and the net benefit [thresholds, B] of model and everybody, patients taken [P, B] times."""
    sums = [of @ counts for of in called]
    images = [of.sum(axis=0) for of in sums]
    with np.errstate(invalid="ignore"):  # a resample without either state
        rates = [
            np.cumsum(of[::-1], axis=0)[::-1][1:] / total for of, total in zip(sums, images, strict=True)
        ]
    share = images[0] / (images[0] + images[1]) if stated is None else np.full(counts.shape[1], stated)
    odds = (np.array(THRESHOLDS) / (1 - np.array(THRESHOLDS)))[:, None]
    cost = (1 - share) * odds
    return share, rates[0] * share - rates[1] * cost, share - cost


def _with_band(
    curve: DecisionCurve,
    called: Sequence[csr_array],
    stated: float | None,
    patients: int,
    taken: Iterator[Counts],
) -> DecisionCurve:
    """Return a curve with its band; `patients` have the rarer state."""
    values = [_benefit(called, counts, stated)[1:] for counts in taken]
    model, everybody = (np.concatenate(of, axis=1) for of in zip(*values, strict=True))
    lead = model - np.maximum(everybody, 0)
    band: list[Interval | None] = []
    better: list[bool | None] = []
    for index, flawless in enumerate(_flawless(called)):
        if flawless:
            band.append(None)
            better.append(None)
            continue
        ends = percentile_interval(model[index], patients=patients)
        ahead = percentile_interval(lead[index], patients=patients)
        # Where all resamples agree, as at a threshold that calls nobody, the band is what they agree on.
        band.append(ends or Interval(curve.model[index], curve.model[index]))
        better.append(ahead is not None and ahead.lower > 0)
    return replace(curve, band=tuple(band), better=tuple(better))


def _flawless(called: Sequence[csr_array]) -> NDArray[np.bool_]:
    """Return at which thresholds [thresholds] all images of one state are called and none of the other."""
    sums = [np.asarray(of.sum(axis=1)) for of in called]
    hits = [np.cumsum(of[::-1])[::-1][1:] for of in sums]
    every, none = ([hit == of.sum() for hit, of in zip(hits, sums, strict=True)], [hit == 0 for hit in hits])
    flawless: NDArray[np.bool_] = (every[0] & none[1]) | (none[0] & every[1])
    return flawless
