"""The bootstrap by patient: AUROC over resampled patients, each taken with all of their images or not at all.

A resample takes as many patients as there are, with replacement (Efron and Tibshirani 1993). Since the AUROC
only needs how often each patient was taken, the scores are sorted once, and a resample is a sparse sum of those
counts between neighbouring scores and a cumulative sum, for many replicates at a time.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_array
from scipy.special import ndtr, stdtrit

from labelassemble.errors import LabelAssembleError
from labelassemble.evaluation.metrics import checked_scores, known_masks
from labelassemble.evaluation.proportion import Interval
from labelassemble.evaluation.statistics import delong, mean_auroc_interval

Floats = NDArray[np.float64]
Indices = NDArray[np.intp]
Counts = NDArray[np.floating]

ENOUGH: Final = 10
"""Patients from which on percentiles say something of a figure."""

_NOTHING: Final = 1e-28  # a variance that is rounding
# Replicates computed together: [patients, _CHUNK] of counts stays within a few megabytes of cache.
_CHUNK = 64
# Sums of counts are whole numbers, exact in float32 up to 2^24; half the bytes halve the time. The margin
# is for resamples that take the patients with the most images again and again.
_EXACT_IN_FLOAT32 = 2**21


@dataclass(frozen=True, slots=True)
class Ranking:
    """Positive and negative scores of one class, with the patient each comes from as an index."""

    positives: Floats  # [m]
    negatives: Floats  # [n]
    positive_patients: Indices  # [m], in [0, patients)
    negative_patients: Indices  # [n]


def bootstrap_auroc(
    labels: ArrayLike,
    scores: ArrayLike,
    *,
    groups: ArrayLike | None = None,
    replicates: int = 1000,
    seed: int = 0,
    level: float = 0.95,
    name: str = "the class",
) -> Interval | None:
    """Return the interval of the AUROC from resampled patients, as `auroc_interval_of` makes it.

    Args:
        labels: [N], floating with NaN = unknown, or integer/bool with negative = unknown.
        scores: [N], higher = more positive.
        groups: [N], the patient of each image; default: each its own.
        replicates: how many resamples.
        seed: of the resamples; the same seed gives the same interval.
        level: the confidence, in (0, 1).
        name: the class, for error messages.

    Returns:
        The interval, or None as `auroc_interval_of` says.
    """
    positive, negative = known_masks(labels, name=name)
    values = checked_scores(scores, len(positive), name=name)
    patients = patient_indices(groups, len(positive))
    known = positive | negative
    ranking = Ranking(values[positive], values[negative], patients[positive], patients[negative])
    # Only patients with a known label are resampled.
    labelled = np.unique(patients[known])
    ranking = Ranking(
        ranking.positives,
        ranking.negatives,
        np.searchsorted(labelled, ranking.positive_patients),
        np.searchsorted(labelled, ranking.negative_patients),
    )
    areas = auroc_replicates([ranking], len(labelled), replicates=replicates, seed=seed)[0]
    return auroc_interval_of(ranking, areas, level=level)


def patient_indices(groups: ArrayLike | None, length: int) -> Indices:
    """Return for each image the index [N] of its patient; an empty name is a patient of its own."""
    if groups is None:
        return np.arange(length)
    names = np.asarray(groups).astype(str)
    if names.shape != (length,):
        raise LabelAssembleError(f"groups must have shape {[length]}, got {list(names.shape)}")
    known, index = np.unique(names, return_inverse=True)
    nameless = names == ""
    index[nameless] = len(known) + np.arange(np.count_nonzero(nameless))
    return np.unique(index, return_inverse=True)[1]


def auroc_replicates(rankings: Sequence[Ranking], patients: int, *, replicates: int, seed: int) -> Floats:
    """Return the AUROC of every ranking in every replicate.

    The same resamples serve all rankings, so a mean over classes within a replicate keeps what the classes share.

    Args:
        rankings: R of them.
        patients: how many there are.
        replicates: B, at least 1.
        seed: of the resamples.

    Returns:
        [R, B], NaN where a resample holds no positive or no negative.
    """
    if replicates < 1:
        raise LabelAssembleError(f"replicates must be at least 1, got {replicates}")
    images = max((len(ranking.positives) + len(ranking.negatives) for ranking in rankings), default=0)
    dtype: type[np.floating] = np.float32 if images < _EXACT_IN_FLOAT32 else np.float64
    plans = [_Plan.of(ranking, patients, dtype) for ranking in rankings]
    areas = np.full((len(rankings), replicates), np.nan)
    start = 0
    for counts in resamples(patients, replicates, seed, dtype):
        stop = start + counts.shape[1]
        for row, plan in enumerate(plans):
            if plan is not None:
                areas[row, start:stop] = plan.areas(counts)
        start = stop
    return areas


def auroc_interval_of(ranking: Ranking, areas: Floats, *, level: float = 0.95) -> Interval | None:
    """Return the interval of a ranking's AUROC whose variance is that of its replicates [B].

    With few positives the percentiles of the replicates hold the true AUROC in about 7 of 10 samples where they promise
    95%, so the interval is made as DeLong's is, and holds as often (benchmarks/auroc_intervals.py).

    Returns:
        None as `percentile_interval` says.
    """
    if percentile_interval(areas, level=level) is None:
        return None
    found = delong(
        ranking.positives,
        ranking.negatives,
        positive_groups=ranking.positive_patients,
        negative_groups=ranking.negative_patients,
        level=level,
        variance=float(np.nanvar(areas)),
    )
    return None if found is None else found.interval


def mean_interval_of(rankings: Sequence[Ranking], areas: Floats, *, level: float = 0.95) -> Interval | None:
    """Return the interval of the mean AUROC of rankings of the same patients, made as that of one.

    The replicates say how much the rankings vary together; what each varies alone is held against what is expected
    of so few cases (`mean_auroc_interval`). Percentiles hold the truth too rarely (benchmarks/auroc_intervals.py).

    Args:
        rankings: R of them, each with positives and negatives.
        areas: their replicates, [R, B].
        level: the confidence, in (0, 1).

    Returns:
        None without a ranking, or where in more than half of the resamples one of them holds only one state.
    """
    whole = ~np.isnan(areas).any(axis=0)
    if not len(rankings) or 2 * np.count_nonzero(whole) < areas.shape[1]:
        return None
    alone = float(np.var(areas[:, whole], axis=1).sum()) / len(rankings) ** 2
    together = float(np.var(areas[:, whole].mean(axis=0)))
    # Where nothing varies, nothing shows how much they vary together: as much as they can.
    shared = together / alone if alone > _NOTHING else float(len(rankings))
    cases = [(r.positives, r.negatives, r.positive_patients, r.negative_patients) for r in rankings]
    return mean_auroc_interval(cases, shared=max(1.0, shared), level=level)


def percentile_interval(
    areas: Floats, *, level: float = 0.95, patients: int | None = None
) -> Interval | None:
    """Return the percentile interval of replicates [B].

    Args:
        areas: the replicates.
        level: the confidence, in (0, 1).
        patients: how many the figure rests on: percentiles further out make up for the resamples of few patients being
            too much alike (expanded percentiles, Hesterberg, The American Statistician 2015); default: as they are.

    Returns:
        None ("not defined") where more than half of the resamples hold only one state, or where all agree
        (perfect separation, for one): resampling cannot show errors that never occurred. None with fewer patients than
        `ENOUGH`: too few to say.
    """
    if not 0 < level < 1:
        raise LabelAssembleError(f"level must lie between 0 and 1, got {level}")
    defined = areas[~np.isnan(areas)]
    if 2 * len(defined) < len(areas) or len(defined) == 0 or np.ptp(defined) < 1e-12:
        return None
    tail = 0.5 - level / 2
    if patients is not None:
        if patients < ENOUGH:
            return None
        tail = float(ndtr(np.sqrt(patients / (patients - 1)) * stdtrit(patients - 1, tail)))
    lower, upper = np.quantile(defined, [tail, 1 - tail])
    return Interval(float(lower), float(upper))


def resamples(patients: int, replicates: int, seed: int, dtype: type[np.floating]) -> Iterator[Counts]:
    """Yield [patients, chunk]: how often each patient was taken in each resample of the chunk.

    Args:
        patients: how many there are; as many are taken, with replacement.
        replicates: resamples in all.
        seed: the same seed gives the same resamples.
        dtype: of the counts.
    """
    generator = np.random.default_rng(seed)
    for start in range(0, replicates, _CHUNK):
        counts = np.empty((min(_CHUNK, replicates - start), patients), dtype)
        for row in counts:
            row[:] = np.bincount(
                generator.integers(patients, size=patients, dtype=np.int32), minlength=patients
            )
        yield np.ascontiguousarray(counts.T)


@dataclass(frozen=True, slots=True)
class _Plan:
    """Which patients to sum for each row along the rising score axis.

    "Few" is the rarer state and "many" the other. A row holds a run of many and the run of few right above it,
    so every few of a row beats all many up to and with that row, but for those that it ties with, which count
    one half. A score that few and many share has a row of its own.
    """

    few: csr_array  # [R, patients]
    many: csr_array  # [R + 1, patients], the last row above every few
    tied: csr_array  # [T, patients], the many that tie
    tied_rows: Indices  # [T], with the few of which rows
    few_are_positive: bool

    @classmethod
    def of(cls, ranking: Ranking, patients: int, dtype: type[np.floating]) -> "_Plan | None":
        m, n = len(ranking.positives), len(ranking.negatives)
        if m == 0 or n == 0:
            return None
        positive = (ranking.positives, ranking.positive_patients)
        negative = (ranking.negatives, ranking.negative_patients)
        (few, few_patients), (many, many_patients) = (positive, negative) if m <= n else (negative, positive)
        distinct, few_at = np.unique(few, return_inverse=True)
        many_at = np.searchsorted(distinct, many, side="left")  # the lowest few that is not below it
        ties = many_at < np.searchsorted(distinct, many, side="right")
        below = np.bincount(many_at[~ties], minlength=len(distinct) + 1)[:-1] > 0
        shares = np.bincount(many_at[ties], minlength=len(distinct)) > 0
        # A distinct score starts a row unless it follows the one before with none of the many between them.
        starts = below | shares | np.concatenate([[True], shares[:-1]])
        row = np.append(np.cumsum(starts) - 1, np.count_nonzero(starts))
        tied_rows, tied_at = np.unique(row[many_at[ties]], return_inverse=True)
        rows = int(row[-1])
        return cls(
            _sums(row[few_at], few_patients, (rows, patients), dtype),
            _sums(row[many_at], many_patients, (rows + 1, patients), dtype),
            _sums(tied_at, many_patients[ties], (len(tied_rows), patients), dtype),
            tied_rows,
            m <= n,
        )

    def areas(self, counts: Counts) -> Floats:
        """Return the AUROC [B] for counts [patients, B]."""
        few, many = self.few @ counts, self.many @ counts
        np.cumsum(many, axis=0, out=many)
        beaten = np.einsum("rb,rb->b", few, many[:-1], dtype=np.float64)
        if len(self.tied_rows):
            beaten -= 0.5 * np.einsum("tb,tb->b", few[self.tied_rows], self.tied @ counts, dtype=np.float64)
        pairs = few.sum(axis=0, dtype=np.float64) * many[-1]
        share: Floats = beaten / np.where(pairs > 0, pairs, np.nan)
        return share if self.few_are_positive else 1 - share


def _sums(rows: Indices, patients: Indices, shape: tuple[int, int], dtype: type[np.floating]) -> csr_array:
    where = (rows.astype(np.int32), patients.astype(np.int32))
    return csr_array((np.ones(len(rows), dtype), where), shape=shape)
