"""From runs to what they show: a row a run, means with intervals, differences with tests."""

import csv
import io
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, dataclass, replace
from typing import Generic, NamedTuple, TypeVar

import numpy as np
from scipy import stats

from labelassemble.evaluation import wilson
from labelassemble.experiments.jobs import Job, JobResult
from labelassemble.experiments.settings import Comparison, Test

Done = Sequence[tuple[Job, JobResult]]
RowT = TypeVar("RowT")

RATES = ("sensitivity", "specificity", "accuracy")

RUN_COLUMNS = (
    "setting",
    "data",
    "interest",
    "arm",
    "other",
    "size",
    "seed",
    "auc",
    "auc_low",
    "auc_high",
    "test_positives",
    "test_negatives",
    "train_images",
    "train_positives",
    "best_epoch",
    "epochs",
    "seconds",
    "cosine",
    "unknown",
    "unknown_above",
    "unknown_positive",
    "unknown_auc",
    "auc_best",
    "threshold",
    *(f"{rate}{end}" for rate in RATES for end in ("", "_low", "_high")),
    "leakage",
    "leakage_within",
    "fingerprint",
)


@dataclass(frozen=True)
class MeanInterval:
    """A mean over seeds, its standard deviation and its 95% t interval; the last three None with one seed."""

    count: int
    mean: float
    deviation: float | None
    low: float | None
    high: float | None


def mean_interval(
    values: Sequence[float], *, within: tuple[float, float] = (-math.inf, math.inf)
) -> MeanInterval:
    """Return the mean of at least one value with Student's 95% interval, mean -/+ t(n - 1) s / sqrt(n).

    Args:
        values: one a seed.
        within: bounds of what can be, at which the interval is cut: (0, 1) for an AUC.
    """
    array = np.asarray(values, dtype=np.float64)
    mean = float(array.mean())
    if len(array) < 2:
        return MeanInterval(len(array), mean, None, None, None)
    deviation = float(array.std(ddof=1))
    half = float(stats.t.ppf(0.975, len(array) - 1)) * deviation / len(array) ** 0.5
    low, high = max(within[0], mean - half), min(within[1], mean + half)
    return MeanInterval(len(array), mean, deviation, low, high)


class Difference(NamedTuple):
    """A difference of two means over seeds, its 95% interval and two-sided p; None where there is nothing to go by."""

    value: float
    low: float | None
    high: float | None
    p: float | None


def t_test(first: Sequence[float], second: Sequence[float], test: Test) -> Difference:
    """Return mean(first) - mean(second) with interval and p.

    "two-sample-t" is Student's with equal variances (the paper's name for its test), "welch-t" without, "paired-t" is
    of the differences seed by seed.
    """
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    value = float(a.mean() - b.mean())
    paired = test == "paired-t"
    if min(len(a), len(b)) < 2 or (paired and len(a) != len(b)):
        return Difference(value, None, None, None)
    # Where nothing varies there is nothing to test by.
    if np.ptp(a - b) == 0 if paired else np.ptp(a) == 0 and np.ptp(b) == 0:
        return Difference(value, None, None, None)
    result = stats.ttest_rel(a, b) if paired else stats.ttest_ind(a, b, equal_var=test == "two-sample-t")
    interval = result.confidence_interval(0.95)
    return Difference(value, float(interval.low), float(interval.high), float(result.pvalue))


@dataclass(frozen=True)
class Correlation:
    """Pearson's r over so many points, its 95% interval by Fisher's z (None below 4 points) and two-sided p."""

    count: int
    r: float
    low: float | None
    high: float | None
    p: float


def correlation(x: Sequence[float], y: Sequence[float]) -> Correlation | None:
    """Return Pearson's correlation, None below 3 points or where one side does not vary."""
    if len(x) < 3 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return None
    result = stats.pearsonr(x, y)
    low = high = None
    if len(x) > 3:
        interval = result.confidence_interval(0.95)
        low, high = float(interval.low), float(interval.high)
    return Correlation(len(x), float(result.statistic), low, high, float(result.pvalue))


@dataclass(frozen=True)
class ArmRow:
    """An arm at one size of a setting (and one assembled class, where there is one)."""

    setting: str
    size: int | str
    arm: str
    other: str | None
    auc: MeanInterval


@dataclass(frozen=True)
class DifferenceRow:
    """Two arms compared at one size of a setting, over the seeds that both have."""

    setting: str
    size: int | str
    other: str | None
    first: str
    second: str
    seeds: int
    test: Test
    difference: Difference


@dataclass(frozen=True)
class Gain:
    """What assembling one class brought: mean over seeds of AUC with it minus AUC of the arm compared with."""

    setting: str
    size: int | str
    arm: str
    other: str
    seeds: int
    gain: MeanInterval
    cosine: float


def runs_csv(done: Done) -> str:
    """Return a row a run as CSV with the columns `RUN_COLUMNS`, and where the metric is over all classes
    ``auc:CLASS`` of each.
    """
    over_all = [result for job, result in done if job.setting.interest is None]
    classes = list(dict.fromkeys(name for result in over_all for name in result.class_auc))
    rows = [
        [
            job.setting.name,
            job.setting.data,
            job.setting.interest,
            job.arm.name,
            job.other,
            job.size,
            job.seed,
            *(r.auc, r.low, r.high, r.positives, r.negatives, r.train_images, r.train_positives),
            *(r.best_epoch, r.epochs, r.seconds, r.cosine),
            *(r.unknown, r.unknown_above, r.unknown_positive, r.unknown_auc, r.auc_best),
            r.threshold,
            *run_rates(r.positives, r.negatives, r.true_positives, r.true_negatives),
            *(r.leakage, r.leakage_within),
            job.fingerprint,
            *(r.class_auc.get(name) for name in classes),
        ]
        for job, r in done
    ]
    return to_csv((*RUN_COLUMNS, *(f"auc:{name}" for name in classes)), rows)


def run_rates(
    positives: int, negatives: int, true_positives: int | None, true_negatives: int | None
) -> list[float | None]:
    """Return sensitivity, specificity and accuracy of a run, each with the ends of Wilson's interval; nine numbers."""
    hits = (true_positives, true_negatives)
    both = None if true_positives is None or true_negatives is None else true_positives + true_negatives
    cells: list[float | None] = []
    for successes, trials in zip((*hits, both), (positives, negatives, positives + negatives), strict=True):
        interval = None if successes is None else wilson(successes, trials)
        if successes is None or interval is None:
            cells += [None, None, None]
        else:
            cells += [successes / trials, *interval]
    return cells


def to_csv(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return rows as CSV; None is an empty cell, a number has six significant digits."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(header)
    for row in rows:
        writer.writerow(
            ["" if cell is None else f"{cell:.6g}" if isinstance(cell, float) else cell for cell in row]
        )
    return buffer.getvalue()


def arm_rows(done: Done) -> list[ArmRow]:
    """Return mean AUCs over seeds, in the order of the jobs; runs without an AUC are left out."""
    grouped: dict[tuple[str, int | str, str, str | None], list[float]] = {}
    for job, result in done:
        if result.auc is not None:
            key = (job.setting.name, job.size, job.arm.name, job.other)
            grouped.setdefault(key, []).append(result.auc)
    return [ArmRow(*key, mean_interval(values, within=(0.0, 1.0))) for key, values in grouped.items()]


def _by_seed(done: Done, setting: str, size: int | str, arm: str, other: str | None) -> dict[int, float]:
    return {
        job.seed: result.auc
        for job, result in done
        if (job.setting.name, job.size, job.arm.name) == (setting, size, arm)
        and job.other in (None, other)
        and result.auc is not None
    }


def difference_rows(done: Done, comparisons: Sequence[Comparison]) -> list[DifferenceRow]:
    """Return the tests of an experiment; each over the seeds that both arms have."""
    places = dict.fromkeys((job.setting.name, job.size, job.other) for job, _ in done)
    rows = []
    for setting, size, other in places:
        for comparison in comparisons:
            first, second = (_by_seed(done, setting, size, arm, other) for arm in comparison.arms)
            seeds = sorted(first.keys() & second.keys())
            if not seeds:
                continue
            for test in comparison.tests:
                difference = t_test([first[s] for s in seeds], [second[s] for s in seeds], test)
                rows.append(
                    DifferenceRow(setting, size, other, *comparison.arms, len(seeds), test, difference)
                )
    return rows


class Under(NamedTuple, Generic[RowT]):
    """A row of one class, or within one source: its name and the row."""

    name: str
    row: RowT


Aucs = Callable[[JobResult], Mapping[str, float | None]]
"""A result's AUCs by name: of every class, or within every source."""


def arm_rows_under(done: Done, aucs: Aucs) -> list[Under[ArmRow]]:
    """Return the rows of `arm_rows` for every name that has an AUC somewhere."""
    return [Under(name, row) for name, runs in _by_name(done, aucs) for row in arm_rows(runs)]


def difference_rows_under(
    done: Done, comparisons: Sequence[Comparison], aucs: Aucs
) -> list[Under[DifferenceRow]]:
    """Return the rows of `difference_rows` for every name that has an AUC somewhere."""
    return [
        Under(name, row) for name, runs in _by_name(done, aucs) for row in difference_rows(runs, comparisons)
    ]


def _by_name(done: Done, aucs: Aucs) -> list[tuple[str, Done]]:
    """Return the runs for each name, as if its AUC were theirs."""
    found = [(job, result, aucs(result)) for job, result in done]
    names = dict.fromkeys(name for *_, mine in found for name, auc in mine.items() if auc is not None)
    return [
        (name, [(job, replace(result, auc=mine.get(name))) for job, result, mine in found]) for name in names
    ]


def means_csv(rows: Sequence[tuple[str | None, ArmRow]], column: str) -> str:
    """Return means as CSV; `column` is what the text beside each row is."""
    header = ("setting", "size", "arm", column, "seeds", "auc_mean", "auc_sd", "auc_low", "auc_high")
    return to_csv(header, [(r.setting, r.size, r.arm, name, *astuple(r.auc)) for name, r in rows])


def differences_csv(rows: Sequence[tuple[str | None, DifferenceRow]], column: str) -> str:
    """Return tests as CSV; `column` is what the text beside each row is."""
    header = ("setting", "size", column, "first", "second", "seeds", "test", "difference", "low", "high", "p")
    return to_csv(
        header,
        [(d.setting, d.size, name, d.first, d.second, d.seeds, d.test, *d.difference) for name, d in rows],
    )


def gains_csv(gained: Sequence[Gain]) -> str:
    """Return gains as CSV, a row an assembled class."""
    header = (
        "setting",
        "size",
        "arm",
        "other",
        "cosine",
        "seeds",
        "gain",
        "gain_sd",
        "gain_low",
        "gain_high",
    )
    return to_csv(header, [(g.setting, g.size, g.arm, g.other, g.cosine, *astuple(g.gain)) for g in gained])


def gains(done: Done, comparisons: Sequence[Comparison]) -> list[Gain]:
    """Return what each assembled class brought in each compared arm."""
    found = []
    places = dict.fromkeys((job.setting.name, job.size, job.other) for job, _ in done if job.other)
    for setting, size, other in places:
        assert other is not None
        for comparison in comparisons:
            first, second = (_by_seed(done, setting, size, arm, other) for arm in comparison.arms)
            cosines = {
                job.seed: result.cosine
                for job, result in done
                if (job.setting.name, job.size, job.arm.name, job.other)
                == (setting, size, comparison.arms[0], other)
                and result.cosine is not None
            }
            seeds = sorted(first.keys() & second.keys() & cosines.keys())
            if seeds:
                gain = mean_interval([first[seed] - second[seed] for seed in seeds])
                cosine = float(np.mean([cosines[seed] for seed in seeds]))
                found.append(Gain(setting, size, comparison.arms[0], other, len(seeds), gain, cosine))
    return found
