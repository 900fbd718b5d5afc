"""From runs over several sources to what they show: within each source, at the threshold, and of the leakage.

Two uncertainties stand side by side: over seeds, which deal the training images and draw initial weights, Student's
interval of the mean; over test images, which all seeds share, DeLong's interval of an AUC and Wilson's of a share.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from labelassemble.evaluation import wilson
from labelassemble.experiments.jobs import Job, JobResult
from labelassemble.experiments.measures import SourceResult
from labelassemble.experiments.settings import Comparison
from labelassemble.experiments.summary import (
    RATES,
    DifferenceRow,
    Done,
    MeanInterval,
    Under,
    difference_rows_under,
    mean_interval,
    run_rates,
    to_csv,
)

EVERYWHERE = "all"
"""What CSV files call the test images of all sources together."""


@dataclass(frozen=True)
class Share:
    """A share of test images: its mean over seeds, and Wilson's 95% interval of that mean in so many images."""

    trials: int
    mean: MeanInterval
    low: float
    high: float


@dataclass(frozen=True)
class PlaceRow:
    """An arm at one size of a setting, on the test images of one source or of all.

    Attributes:
        setting, size, arm: what it is.
        place: the source, or `EVERYWHERE`.
        positives, negatives, assumed: test images with a known label, and how many of these labels are assumed.
        auc: over seeds; None where it is not defined.
        low, high: DeLong's 95% interval, each end the mean over the runs.
        sensitivity, specificity, accuracy: at the threshold; None without such images.
    """

    setting: str
    size: int | str
    arm: str
    place: str
    positives: int
    negatives: int
    assumed: int
    auc: MeanInterval | None
    low: float | None
    high: float | None
    sensitivity: Share | None
    specificity: Share | None
    accuracy: Share | None


@dataclass(frozen=True)
class LeakageRow:
    """How well an arm's features tell the sources apart: over seeds, and among images with the same label."""

    setting: str
    size: int | str
    arm: str
    auc: MeanInterval
    within: MeanInterval | None


def of_several_sources(done: Done) -> list[tuple[Job, JobResult]]:
    """Return the runs that were measured source by source."""
    return [(job, result) for job, result in done if result.sources]


def places_of(job: Job, result: JobResult) -> list[SourceResult]:
    """Return the results of a run on all test images, the first, and on those of each source."""
    everywhere = SourceResult(
        EVERYWHERE,
        result.positives,
        result.negatives,
        sum(row.assumed for row in result.sources),
        result.auc,
        result.low,
        result.high,
        result.true_positives,
        result.true_negatives,
    )
    return [everywhere, *result.sources]


def place_rows(done: Done) -> list[PlaceRow]:
    """Return means over seeds for every arm, size and place, in the order of the jobs."""
    grouped: dict[tuple[str, int | str, str, str], list[SourceResult]] = {}
    for job, result in of_several_sources(done):
        for place in places_of(job, result):
            key = (job.setting.name, job.size, job.arm.name, place.source)
            grouped.setdefault(key, []).append(place)
    return [_place_row(*key, runs) for key, runs in grouped.items()]


def _place_row(setting: str, size: int | str, arm: str, place: str, runs: Sequence[SourceResult]) -> PlaceRow:
    first = runs[0]  # the test images are the same in all
    aucs = [run.auc for run in runs if run.auc is not None]
    hits = [run.true_positives for run in runs if run.true_positives is not None]
    cleared = [run.true_negatives for run in runs if run.true_negatives is not None]
    return PlaceRow(
        setting,
        size,
        arm,
        place,
        first.positives,
        first.negatives,
        first.assumed,
        mean_interval(aucs, within=(0.0, 1.0)) if aucs else None,
        _mean([run.low for run in runs]),
        _mean([run.high for run in runs]),
        _share(hits, first.positives),
        _share(cleared, first.negatives),
        _share([a + b for a, b in zip(hits, cleared, strict=True)], first.positives + first.negatives),
    )


def _share(successes: Sequence[int], trials: int) -> Share | None:
    if not successes or not trials:
        return None
    interval = wilson(float(np.mean(successes)), trials)
    assert interval is not None
    return Share(trials, mean_interval([n / trials for n in successes], within=(0.0, 1.0)), *interval)


def _mean(values: Sequence[float | None]) -> float | None:
    there = [value for value in values if value is not None]
    return float(np.mean(there)) if there else None


def leakage_rows(done: Done) -> list[LeakageRow]:
    """Return means over seeds of the leakage, in the order of the jobs; runs without it are left out."""
    grouped: dict[tuple[str, int | str, str], list[JobResult]] = {}
    for job, result in of_several_sources(done):
        if result.leakage is not None:
            grouped.setdefault((job.setting.name, job.size, job.arm.name), []).append(result)
    rows = []
    for key, results in grouped.items():
        within = [r.leakage_within for r in results if r.leakage_within is not None]
        auc = mean_interval([r.leakage for r in results if r.leakage is not None], within=(0.0, 1.0))
        rows.append(LeakageRow(*key, auc, mean_interval(within, within=(0.0, 1.0)) if within else None))
    return rows


def within_differences(done: Done, comparisons: Sequence[Comparison]) -> list[Under[DifferenceRow]]:
    """Return the tests of an experiment within each source where the AUC is defined."""
    return difference_rows_under(
        of_several_sources(done), comparisons, lambda result: {row.source: row.auc for row in result.sources}
    )


def sources_csv(done: Done) -> str:
    """Return a row a run and source as CSV, with DeLong's and Wilson's intervals of each run."""
    header = (
        *("setting", "arm", "size", "seed", "source", "positives", "negatives", "assumed"),
        *("auc", "auc_low", "auc_high"),
        *(f"{rate}{end}" for rate in RATES for end in ("", "_low", "_high")),
        "fingerprint",
    )
    rows = []
    for job, result in of_several_sources(done):
        for place in places_of(job, result):
            shares = run_rates(place.positives, place.negatives, place.true_positives, place.true_negatives)
            rows.append(
                (job.setting.name, job.arm.name, job.size, job.seed, *place[:7], *shares, job.fingerprint)
            )
    return to_csv(header, rows)


def places_csv(rows: Sequence[PlaceRow]) -> str:
    """Return `place_rows` as CSV: Student's interval over seeds (`_low`), and the test images' own (`_test_low`)."""
    ends = ("", "_low", "_high", "_test_low", "_test_high")
    header = (
        *("setting", "size", "arm", "place", "positives", "negatives", "assumed", "seeds"),
        *(f"{name}{end}" for name in ("auc", *RATES) for end in ends),
    )
    cells: list[list[object]] = []
    for row in rows:
        auc, shares = row.auc, (row.sensitivity, row.specificity, row.accuracy)
        counts = [
            value.count for value in (auc, *(s.mean for s in shares if s is not None)) if value is not None
        ]
        cell: list[object] = [
            *(row.setting, row.size, row.arm, row.place, row.positives, row.negatives, row.assumed),
            max(counts, default=0),
        ]
        cell += [None] * 5 if auc is None else [auc.mean, auc.low, auc.high, row.low, row.high]
        for share in shares:
            if share is None:
                cell += [None] * 5
            else:
                cell += [share.mean.mean, share.mean.low, share.mean.high, share.low, share.high]
        cells.append(cell)
    return to_csv(header, cells)
