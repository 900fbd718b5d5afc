"""Figures over the lesions of many cases: Dice, surfaces, hit rate, FROC, precision and recall, all by patient.

Every figure is a sum over patients, or a cumulative sum over predicted lesions of falling score, so one function gives
it for any number of times that each patient is taken: once each for the figure itself, as often as a resample takes
them for the bootstrap.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from labelassemble.detection_options import PER_CASE
from labelassemble.evaluation.bootstrap import Counts, percentile_interval, resamples
from labelassemble.evaluation.proportion import Interval

Floats = NDArray[np.float64]

_ALARMS: Final = 3  # row of `lesion_values` that rests on all cases, not on those with a lesion
# Predicted lesions times resamples that are summed at once: tens of megabytes.
_AT_ONCE: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class LesionSums:
    """One class on some cases, summed by patient.

    Attributes:
        cases: whose voxels are known, float64 [P].
        lesions: drawn, [P].
        found: of these, [P].
        alarms: predicted lesions that overlap none, [P].
        dice: sum over cases in which the class is drawn, [P].
        surface: likewise, [P].
        drawn: cases in which the class is drawn, [P].
        scores: of predicted lesions that find one or are a false alarm, falling, [E].
        hits: which of them find one, bool [E].
        patients: whose they are, [E].
    """

    cases: Floats
    lesions: Floats
    found: Floats
    alarms: Floats
    dice: Floats
    surface: Floats
    drawn: Floats
    scores: Floats
    hits: NDArray[np.bool_]
    patients: NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure with its interval, expanded percentiles of the bootstrap by patient.

    None where it is not defined; no interval where fewer patients than `ENOUGH` stand behind it.
    """

    value: float | None
    interval: Interval | None


@dataclass(frozen=True, slots=True)
class LesionCurve:
    """FROC and precision over falling thresholds, one point for every distinct score.

    Attributes:
        thresholds: falling, [K].
        false_alarms: per case, [K].
        recall: share of the drawn lesions that are found, [K].
        precision: share of predicted lesions that find one, of those that find one or none, [K].
    """

    thresholds: Floats
    false_alarms: Floats
    recall: Floats
    precision: Floats


@dataclass(frozen=True, slots=True)
class LesionFigures:
    """What is reached on the lesions of one class.

    Attributes:
        dice: mean over cases in which the class is drawn.
        surface: likewise, of the share of both surfaces that lies within the tolerance.
        hit_rate: share of the drawn lesions that are found.
        alarms_per_case: predicted lesions that find none, per case whose voxels are known.
        average_precision: over lesions, without interpolation; lesions that are missed are never recalled.
        froc: share of lesions found where at most `PER_CASE` false alarms a case are allowed.
    """

    dice: Estimate
    surface: Estimate
    hit_rate: Estimate
    alarms_per_case: Estimate
    average_precision: Estimate
    froc: tuple[Estimate, ...]


def lesion_curve(sums: LesionSums) -> LesionCurve | None:
    """Return FROC and precision; None where no lesion is drawn."""
    lesions, cases = sums.lesions.sum(), sums.cases.sum()
    if not lesions:
        return None
    last = _last_of_ties(sums.scores)
    hits, alarms = (np.cumsum(which)[last].astype(np.float64) for which in (sums.hits, ~sums.hits))
    return LesionCurve(sums.scores[last], alarms / cases, hits / lesions, hits / (hits + alarms))


def patients_behind(sums: LesionSums) -> NDArray[np.int64]:
    """Return on how many patients each row of `lesion_values` rests, int64 [F].

    They are those in which the class is drawn, and for false alarms those whose voxels are known.
    """
    drawn, known = (int(np.count_nonzero(of)) for of in (sums.drawn, sums.cases))
    found = np.full(5 + len(PER_CASE), drawn)
    found[_ALARMS] = known
    return found


def lesion_figures(sums: LesionSums, *, replicates: int, seed: int) -> LesionFigures:
    """Return the figures with their intervals.

    Args:
        sums: of one class.
        replicates: of the bootstrap by patient; 0 leaves it out.
        seed: of the bootstrap; the same patients are taken for every class.
    """
    patients = len(sums.cases)
    values = lesion_values(sums, np.ones((patients, 1)))[:, 0]
    intervals: list[Interval | None] = [None] * len(values)
    if replicates:
        rows = lesion_replicates(sums, replicates=replicates, seed=seed)
        rests_on = patients_behind(sums).tolist()
        intervals = [percentile_interval(row, patients=n) for row, n in zip(rows, rests_on, strict=True)]
    found = [
        Estimate(None if np.isnan(value) else float(value), None if np.isnan(value) else interval)
        for value, interval in zip(values, intervals, strict=True)
    ]
    dice, surface, hit_rate, alarms, precision, *froc = found
    return LesionFigures(dice, surface, hit_rate, alarms, precision, tuple(froc))


def lesion_replicates(sums: LesionSums, *, replicates: int, seed: int) -> Floats:
    """Return every figure in every resample of patients, [figures, replicates]; see `lesion_values`.

    Two runs on the same patients have the same resamples, so that their differences are paired.
    """
    found = [
        lesion_values(sums, counts) for counts in resamples(len(sums.cases), replicates, seed, np.float64)
    ]
    return np.concatenate(found, axis=1)


def lesion_values(sums: LesionSums, counts: Counts) -> Floats:
    """Return the figures where each patient is taken a number of times.

    Args:
        sums: of one class.
        counts: how often, [P, B].

    Returns:
        [figures, B] in the order of `LesionFigures`, NaN where one is not defined.
    """
    lesions, cases = sums.lesions @ counts, sums.cases @ counts
    ratios = [
        _ratio(over @ counts, under)
        for over, under in (
            (sums.dice, sums.drawn @ counts),
            (sums.surface, sums.drawn @ counts),
            (sums.found, lesions),
            (sums.alarms, cases),
        )
    ]
    step = max(1, _AT_ONCE // max(1, len(sums.scores)))
    ranked = [
        _ranked(
            sums, counts[:, first : first + step], lesions[first : first + step], cases[first : first + step]
        )
        for first in range(0, counts.shape[1], step)
    ]
    return np.concatenate([np.stack(ratios), np.concatenate(ranked, axis=1)])


def _ranked(sums: LesionSums, counts: Counts, lesions: Floats, cases: Floats) -> Floats:
    """Return average precision and FROC, [1 + rates, B]."""
    last = _last_of_ties(sums.scores)
    taken = counts[sums.patients]
    zero = np.zeros((1, counts.shape[1]))
    hits = np.concatenate([zero, np.cumsum(taken * sums.hits[:, None], axis=0)[last]])
    alarms = np.concatenate([zero, np.cumsum(taken * ~sums.hits[:, None], axis=0)[last]])
    precision = _ratio(hits[1:], hits[1:] + alarms[1:])
    precision = np.nan_to_num(precision)  # nobody taken who has such a score, so no step either
    rows = [_ratio((np.diff(hits, axis=0) * precision).sum(axis=0), lesions)]
    for rate in PER_CASE:
        # The small slack lets 0.1 of 10 cases be 1, whatever it is in binary.
        allowed = np.count_nonzero(alarms <= rate * cases + 1e-9, axis=0)
        rows.append(_ratio(np.take_along_axis(hits, allowed[None] - 1, axis=0)[0], lesions))
    return np.stack(rows)


def _last_of_ties(scores: Floats) -> NDArray[np.intp]:
    """Return the last place of each distinct score, [K]."""
    if not len(scores):
        return np.zeros(0, np.intp)
    return np.append(np.flatnonzero(scores[1:] != scores[:-1]), len(scores) - 1)


def _ratio(over: Floats, under: Floats) -> Floats:
    found: Floats = np.divide(
        over, under, out=np.full(np.broadcast_shapes(over.shape, under.shape), np.nan), where=under > 0
    )
    return found
