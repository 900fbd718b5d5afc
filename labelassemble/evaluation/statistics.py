"""How sure a measured AUROC is: DeLong's variance and paired test.

DeLong, DeLong and Clarke-Pearson, Biometrics 1988; computed by sorting as Sun and Xu, IEEE Signal Processing
Letters 2014. Several images of one patient are not independent: with `groups`, the components are summed within
each patient first (Obuchowski, Biometrics 1997), which equals DeLong's where every patient has one image.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from labelassemble.errors import LabelAssembleError
from labelassemble.evaluation.auroc_interval import (
    Spread,
    auroc_interval,
    difference_interval,
    freedom_of,
    hanley_mcneil,
)
from labelassemble.evaluation.proportion import Interval, normal_quantile

Floats = NDArray[np.float64]

# A variance below this is what rounding leaves of deviations that cancel: each is exact to 1e-16.
_ROUNDING: Final = 1e-28


@dataclass(frozen=True, slots=True)
class DeLong:
    """An AUROC with its sampling variance and confidence interval."""

    auroc: float
    variance: float
    interval: Interval


@dataclass(frozen=True, slots=True)
class PairedTest:
    """The difference of two AUROCs measured on the same images, first minus second."""

    difference: float
    variance: float | None  # DeLong's; None where one patient holds all the positives, or all the negatives
    interval: Interval | None  # of the difference, within [-1, 1]; None where there is no variance to go by
    p: float | None  # two-sided; None where there is no variance to go by and the AUROCs differ


@dataclass(frozen=True, slots=True)
class _Components:
    """Per patient, the summed deviations of the placement values from the AUROC, one row a scorer."""

    auroc: Floats  # [S]
    of_positives: Floats  # [S, P], already divided by the number of positives
    of_negatives: Floats  # [S, Q], already divided by the number of negatives
    patients_with_positives: int
    patients_with_negatives: int
    holders: tuple[NDArray[np.bool_], NDArray[np.bool_]] | None = None
    """Who of the P = Q patients has positives and who has negatives; None: the columns stand for cases instead."""


def delong(
    positives: ArrayLike,
    negatives: ArrayLike,
    *,
    positive_groups: ArrayLike | None = None,
    negative_groups: ArrayLike | None = None,
    level: float = 0.95,
    variance: float | None = None,
) -> DeLong | None:
    """Return the AUROC of positive against negative scores with DeLong's variance and interval.

    The interval is that of `auroc_interval`, whose file says how it holds with few cases. Where one patient holds all
    the positives (or all the negatives) their spread cannot be estimated, so it takes the largest value that an average
    in [0, 1] can have, A (1 - A).

    Args:
        positives: [m], scores of the known positives.
        negatives: [n], scores of the known negatives.
        positive_groups: [m], the patient of each positive; default: each its own.
        negative_groups: [n], the patient of each negative; given if and only if positive_groups is.
        level: the confidence, in (0, 1).
        variance: to take instead of DeLong's, such as that of the bootstrap.

    Returns:
        The result, or None where either side is empty.

    Raises:
        LabelAssembleError: a shape that does not fit, a NaN, or a level outside (0, 1).
    """
    parts = _components(
        np.atleast_2d(np.asarray(positives, np.float64)),
        np.atleast_2d(np.asarray(negatives, np.float64)),
        positive_groups,
        negative_groups,
    )
    if parts is None:
        return None
    area = float(parts.auroc[0])
    spread = _spread(parts)
    if variance is not None:
        spread = spread._replace(variance=variance)
    patients = parts.patients_with_positives, parts.patients_with_negatives
    ends = auroc_interval(area, spread, lambda other: hanley_mcneil(other, *patients), level=level)
    return DeLong(area, spread.variance, Interval(*ends))


def stratified_delong(
    strata: Sequence[tuple[Floats, Floats, NDArray[np.intp], NDArray[np.intp]]], *, level: float = 0.95
) -> DeLong | None:
    """Return the AUROC over pairs of the same stratum, each pair alike, with its variance and interval.

    The strata's AUROCs weigh as many as they have pairs; a patient who is in several strata counts as one in each.

    Args:
        strata: of each the scores of the positives [m] and of the negatives [n], and their patients [m] and [n].
        level: the confidence, in (0, 1).

    Returns:
        None where no stratum has both states.
    """
    measured = []
    for positives, negatives, left, right in strata:
        parts = _components(positives[None], negatives[None], left, right)
        if parts is not None:
            measured.append((len(positives) * len(negatives), parts, _spread(parts)))
    if not measured:
        return None
    pairs = np.array([count for count, _, _ in measured], np.float64)
    weights = pairs / pairs.sum()
    area = float(sum(w * float(parts.auroc[0]) for w, (_, parts, _) in zip(weights, measured, strict=True)))
    cases = [(parts.patients_with_positives, parts.patients_with_negatives) for _, parts, _ in measured]

    def expected(other: float) -> float:
        return float(sum(w**2 * hanley_mcneil(other, *own) for w, own in zip(weights, cases, strict=True)))

    shares = [w**2 * spread.variance for w, (_, _, spread) in zip(weights, measured, strict=True)]
    variance = float(sum(shares))
    uncertain = sum(
        share**2 / max(spread.freedom, 1e-9)
        for share, (_, _, spread) in zip(shares, measured, strict=True)
        if share > 0
    )
    freedom = variance**2 / uncertain if uncertain > 0 else 0.0
    ends = auroc_interval(area, Spread(variance, freedom), expected, level=level)
    return DeLong(area, variance, Interval(*ends))


def mean_auroc_interval(
    cases: Sequence[tuple[Floats, Floats, NDArray[np.intp], NDArray[np.intp]]],
    *,
    shared: float,
    level: float = 0.95,
) -> Interval:
    """Return the interval of the mean of AUROCs that are measured on the same patients, as `auroc_interval` makes it.

    Args:
        cases: of each the scores of the positives [m] and of the negatives [n], and their patients [m] and [n].
        shared: the variance of the mean over what it would be if the AUROCs varied independently, 1 or more.
        level: the confidence, in (0, 1).
    """
    every = [_components(first[None], second[None], left, right) for first, second, left, right in cases]
    parts = [own for own in every if own is not None]
    weight = 1 / len(parts) ** 2
    counts = [(own.patients_with_positives, own.patients_with_negatives) for own in parts]

    def expected(other: float) -> float:
        return shared * weight * float(sum(hanley_mcneil(other, *count) for count in counts))

    spreads = [_spread(own) for own in parts]
    variance = weight * sum(spread.variance for spread in spreads)
    uncertain = sum(
        (weight * spread.variance) ** 2 / max(spread.freedom, 1e-9) for spread in spreads if spread.variance
    )
    # AUROCs that vary together tell less of their variance than as many that do not.
    freedom = variance**2 / uncertain / shared if uncertain > 0 else 0.0
    area = float(np.mean([float(own.auroc[0]) for own in parts]))
    return Interval(*auroc_interval(area, Spread(shared * variance, freedom), expected, level=level))


def _spread(parts: _Components) -> Spread:
    """Return the variance of the only scorer's AUROC and its degrees of freedom."""
    area = float(parts.auroc[0])
    variance = float(_covariance(parts, alone=np.outer(area, 1 - area))[0, 0])
    if variance <= _ROUNDING or not 0 < area < 1:
        return Spread(0.0, 0.0)
    sides = [parts.of_positives[0], parts.of_negatives[0]]
    if parts.holders is not None:
        sides = [side[held] for side, held in zip(sides, parts.holders, strict=True)]
    return Spread(variance, freedom_of(sides))


def paired_delong(
    positives: ArrayLike,
    negatives: ArrayLike,
    *,
    positive_groups: ArrayLike | None = None,
    negative_groups: ArrayLike | None = None,
    level: float = 0.95,
) -> PairedTest | None:
    """Return the test of two scorers on the same images: difference of AUROCs, its interval and p.

    With few cases DeLong's variance of the difference is badly known, and his test finds differences that are not
    there. So p and interval are made as `difference_interval` says; with many cases they are DeLong's.

    Args:
        positives: [2, m], both scorers' scores of the known positives, in the same order.
        negatives: [2, n], likewise of the known negatives.
        positive_groups: [m], the patient of each positive; default: each its own.
        negative_groups: [n], the patient of each negative; given if and only if positive_groups is.
        level: the confidence of the interval, in (0, 1).

    Returns:
        The test, or None where no positive or no negative is known. Equal AUROCs with no variance between
        them (the same ranking twice) give p = 1; different ones with no variance give p = None, since then
        nothing tells how large a difference chance would make.
    """
    first, second = np.asarray(positives, np.float64), np.asarray(negatives, np.float64)
    if first.ndim != 2 or first.shape[0] != 2 or second.ndim != 2 or second.shape[0] != 2:
        raise LabelAssembleError(
            f"paired scores must have shapes [2, m] and [2, n], got {list(first.shape)} and {list(second.shape)}"
        )
    parts = _components(first, second, positive_groups, negative_groups)
    return None if parts is None else _paired([parts], [1.0], level)


def stratified_paired_delong(
    strata: Sequence[tuple[Floats, Floats, NDArray[np.intp], NDArray[np.intp]]], *, level: float = 0.95
) -> PairedTest | None:
    """Return the test of two scorers' AUROCs over pairs of the same stratum, as `stratified_delong` measures them.

    Args:
        strata: of each the scores of the positives [2, m] and of the negatives [2, n], and their patients [m] and [n].
        level: the confidence of the interval, in (0, 1).

    Returns:
        None where no stratum has both states.
    """
    measured = [
        (positives.shape[1] * negatives.shape[1], parts)
        for positives, negatives, left, right in strata
        if (parts := _components(positives, negatives, left, right)) is not None
    ]
    every = sum(count for count, _ in measured)
    if not measured:
        return None
    return _paired([parts for _, parts in measured], [count / every for count, _ in measured], level)


def _paired(strata: Sequence[_Components], weights: Sequence[float], level: float) -> PairedTest:
    """Return the test of two scorers' weighted AUROCs."""
    normal_quantile(level)
    difference = float(sum(w * (p.auroc[0] - p.auroc[1]) for w, p in zip(weights, strata, strict=True)))
    same = all(_same_ranking(parts) for parts in strata)
    if all(min(p.patients_with_positives, p.patients_with_negatives) == 1 for p in strata):
        return PairedTest(difference, None, None, 1.0 if same else None)
    spreads = [_spread_of_difference(parts) for parts in strata]
    variances = [w**2 * spread.variance for w, (spread, _) in zip(weights, spreads, strict=True)]
    variance = sum(variances)
    if variance <= _ROUNDING:
        return PairedTest(difference, 0.0, None, 1.0 if same else None)
    uncertain = sum(own**2 / spread.freedom for own, (spread, _) in zip(variances, spreads, strict=True))
    spread = Spread(variance, variance**2 / uncertain if uncertain > 0 else float("inf"))
    expected = sum(w**2 * own for w, (_, own) in zip(weights, spreads, strict=True))
    ends, p = difference_interval(difference, spread, expected, level=level)
    return PairedTest(difference, variance, Interval(*ends), p)


def _spread_of_difference(parts: _Components) -> tuple[Spread, float]:
    """Return the variance of the difference of two AUROCs, and what it is expected to be."""
    patients = parts.patients_with_positives, parts.patients_with_negatives
    alone = [hanley_mcneil(float(area), *patients) for area in parts.auroc]
    covariance = _covariance(parts, alone=np.diag(alone))  # without correlation: more than it can be
    variance = max(0.0, float(covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]))
    both = float(np.sqrt(max(0.0, covariance[0, 0] * covariance[1, 1])))
    correlation = float(np.clip(covariance[0, 1] / both, 0, 1)) if both > _ROUNDING else 0.0
    expected = alone[0] + alone[1] - 2 * correlation * float(np.sqrt(alone[0] * alone[1]))
    sides = [parts.of_positives[0] - parts.of_positives[1], parts.of_negatives[0] - parts.of_negatives[1]]
    squares = [
        (k / (k - 1) * float((side**2).sum()), k - 1)
        for side, k in zip(sides, patients, strict=True)
        if k > 1
    ]
    uncertain = sum(own**2 / freedom for own, freedom in squares)
    freedom = sum(own for own, _ in squares) ** 2 / uncertain if uncertain > 1e-300 else float("inf")
    return Spread(variance, freedom), expected


def _components(
    positives: Floats, negatives: Floats, positive_groups: ArrayLike | None, negative_groups: ArrayLike | None
) -> _Components | None:
    """Return the placement values' deviations by patient, for scores [S, m] and [S, n]."""
    if np.isnan(positives).any() or np.isnan(negatives).any():
        raise LabelAssembleError("scores must be numbers, got NaN")
    m, n = positives.shape[1], negatives.shape[1]
    if m == 0 or n == 0:
        return None
    # A case's midrank among all, less its midrank among its own kind, counts the other kind (Sun and Xu): a binary
    # search in the other kind, sorted, gives the same count in less time than ranking all cases.
    won = _below(positives, np.sort(negatives, axis=1)) / n  # share of negatives below each positive
    lost = 1 - _below(negatives, np.sort(positives, axis=1)) / m  # share of positives above each negative
    area = won.mean(axis=1)
    of_positives, of_negatives = (won - area[:, None]) / m, (lost - area[:, None]) / n
    if positive_groups is None and negative_groups is None:
        return _Components(area, of_positives, of_negatives, m, n)
    left, right = np.asarray(positive_groups), np.asarray(negative_groups)
    if left.shape != (m,) or right.shape != (n,):
        raise LabelAssembleError(
            f"groups must be given for every score or for none, got {list(left.shape)} and {list(right.shape)} "
            f"for {m} positives and {n} negatives"
        )
    names, patient = np.unique(np.concatenate([left, right]), return_inverse=True)
    size = len(names)
    holders = np.bincount(patient[:m], minlength=size) > 0, np.bincount(patient[m:], minlength=size) > 0
    return _Components(
        area,
        np.stack([np.bincount(patient[:m], row, size) for row in of_positives]),
        np.stack([np.bincount(patient[m:], row, size) for row in of_negatives]),
        int(holders[0].sum()),
        int(holders[1].sum()),
        holders,
    )


def _below(scores: Floats, rising: Floats) -> Floats:
    """Return how many of `rising` [S, n] each of `scores` [S, m] exceeds, a tie counting one half, [S, m]."""
    pairs = zip(scores, rising, strict=True)
    return np.stack([(np.searchsorted(b, a, "left") + np.searchsorted(b, a, "right")) / 2 for a, b in pairs])


def _covariance(parts: _Components, *, alone: Floats) -> Floats:
    """Return the covariance [S, S] of the AUROCs (Obuchowski 1997, equations 5 to 8).

    `alone` [S, S] stands in for the share of a side that one patient holds, which cannot be estimated.
    """
    total = np.zeros_like(alone)
    for deviations, holders in (
        (parts.of_positives, parts.patients_with_positives),
        (parts.of_negatives, parts.patients_with_negatives),
    ):
        total += holders / (holders - 1) * (deviations @ deviations.T) if holders > 1 else alone
    patients = parts.of_positives.shape[1]
    if parts.holders is not None and patients > 1:
        # Patients who have both states tie the two sides together.
        cross = parts.of_positives @ parts.of_negatives.T
        total += patients / (patients - 1) * (cross + cross.T)
    return total


def _same_ranking(parts: _Components) -> bool:
    """Return whether two scorers place every patient's images alike, up to rounding."""
    return bool(
        np.allclose(parts.auroc[0], parts.auroc[1], rtol=0, atol=1e-12)
        and np.allclose(parts.of_positives[0], parts.of_positives[1], rtol=0, atol=1e-12)
        and np.allclose(parts.of_negatives[0], parts.of_negatives[1], rtol=0, atol=1e-12)
    )
