"""Two runs on the same test images: whose AUROC is higher, and could that be chance?

A class is compared by the figure that stands first for it (`headline`), the same for all runs: where that of one run
is the AUROC within sources, so are those of the others, and the tests.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from labelassemble.data.decoding import plain_paths
from labelassemble.data.predictions import Predictions
from labelassemble.data.text import TextArray, text_codes
from labelassemble.evaluation.bootstrap import patient_indices
from labelassemble.evaluation.headline import TIED, Headline, headline, source_auroc, stratified_auroc
from labelassemble.evaluation.leakage import Leakage
from labelassemble.evaluation.metrics import RocCurve, known_scores, roc_curve
from labelassemble.evaluation.proportion import Interval
from labelassemble.evaluation.statistics import (
    DeLong,
    PairedTest,
    delong,
    paired_delong,
    stratified_paired_delong,
)


@dataclass(frozen=True)
class ComparedClass:
    """What one run reaches on one class of the test split, and its paired test against this run."""

    positives: int
    negatives: int
    auroc: float | None  # pooled over all sources, as its interval
    interval: Interval | None
    source_auroc: float | None  # what knowing nothing but the image's source reaches
    stratified: DeLong | None  # over pairs of images of the same source
    first: Headline  # what stands first: the pooled figure, or that within sources
    curve: RocCurve | None
    test: (
        PairedTest | None
    )  # this run's AUROC minus the other's; None for this run itself or where `reason` is set
    reason: str  # why there is no test, "" where there is one


class Within(NamedTuple):
    """That a class is compared within sources."""

    run: str  # whose figure is within sources by the rule
    reason: str  # why, a sentence without its full stop


def compared_within(runs: Mapping[str, tuple[ComparedClass, Leakage | None]]) -> Within | None:
    """Return that a class is compared within sources, as the first run is that the rule says it of; None: pooled.

    Args:
        runs: by name, what it reaches on the class, and how well its features tell sources apart (None: not measured).
    """
    for run, (result, leakage) in runs.items():
        first = headline(result, leakage)
        if first.within:
            return Within(run, first.reason)
    return None


def tied_to_source(result: ComparedClass) -> bool:
    """Return whether the class is tied to the source, so that the rule asks for the leakage."""
    return result.source_auroc is not None and result.source_auroc >= TIED


def put_within(result: ComparedClass, reason: str) -> ComparedClass:
    """Return a result whose figure within sources stands first."""
    own = result.stratified
    first = (
        Headline(None, None, True, reason) if own is None else Headline(own.auroc, own.interval, True, reason)
    )
    return replace(result, first=first)


def measure(predictions: Predictions, name: str) -> ComparedClass:
    """Return AUROC, interval and ROC curve of a class on the test split; the pooled figure stands first."""
    rows = predictions.subset_by_split("test")
    column = rows.column(name)
    targets, scores = rows.given_targets()[:, column], rows.probabilities[:, column]
    positives, negatives = known_scores(targets, scores, name=f"'{name}'")
    patients = patient_indices(rows.groups, len(rows))
    sources = text_codes(rows.sources)[1]
    area = delong(
        positives, negatives, positive_groups=patients[targets == 1], negative_groups=patients[targets == 0]
    )
    return ComparedClass(
        positives=len(positives),
        negatives=len(negatives),
        auroc=None if area is None else area.auroc,
        interval=None if area is None else area.interval,
        source_auroc=source_auroc(targets, sources),
        stratified=stratified_auroc(targets, scores, sources, patients),
        first=Headline(None, None) if area is None else Headline(area.auroc, area.interval),
        curve=roc_curve(targets, scores, name=f"'{name}'"),
        test=None,
        reason="",
    )


def compare(
    this: Predictions, other: Predictions, name: str, *, within: Within | None = None, noun: str = "image"
) -> ComparedClass:
    """Return what `other` reaches on a class, tested against `this` where both saw the same labelled test images.

    Images are matched by path, and the reason says how many are. The test is made only if both runs have the same
    images with a label to count, and the same labels; a test on those that happen to be shared would be of other
    figures than those shown. `within`: of pairs from the same source. `noun`: what a row is in the reason.
    """
    measured = measure(other, name)
    if within is not None:
        measured = put_within(measured, within.reason)
    ours, theirs = _counted(this, name), _counted(other, name)
    our_paths, their_paths = plain_paths(ours.paths), plain_paths(theirs.paths)
    reason = ""
    if measured.first.auroc is None:
        reason = "not defined" if within is None else "not defined within sources"
    elif len(np.unique(our_paths)) < len(ours) or len(np.unique(their_paths)) < len(theirs):
        reason = f"a test {noun} is listed twice"
    elif len(ours) != len(theirs) or not np.array_equal(np.sort(our_paths), np.sort(their_paths)):
        reason = _other_images(our_paths, their_paths, noun)
    if reason:
        return replace(measured, reason=reason)
    left, right = ours.select(np.argsort(our_paths)), theirs.select(np.argsort(their_paths))
    targets = left.given_targets()[:, left.column(name)]
    if not np.array_equal(targets, right.given_targets()[:, right.column(name)]):
        return replace(measured, reason="other labels")
    if within is not None and not np.array_equal(left.sources.tolist(), right.sources.tolist()):
        return replace(measured, reason="other names of the sources")
    scores = np.stack([left.probabilities[:, left.column(name)], right.probabilities[:, right.column(name)]])
    patients = patient_indices(left.groups, len(left))
    test = _paired(targets, scores, patients, None if within is None else text_codes(left.sources)[1])
    return replace(measured, test=test, reason="" if test is not None else "not defined")


def _paired(
    targets: NDArray[np.float64],
    scores: NDArray[np.float64],
    patients: NDArray[np.intp],
    sources: NDArray[np.int64] | None,
) -> PairedTest | None:
    """Return the test of scores [2, N], over pairs of the same source where sources [N] are given."""
    positive, negative = targets == 1, targets == 0
    if sources is not None:
        return stratified_paired_delong(
            [
                (
                    scores[:, positive & own],
                    scores[:, negative & own],
                    patients[positive & own],
                    patients[negative & own],
                )
                for own in (sources == code for code in np.unique(sources))
            ]
        )
    return paired_delong(
        scores[:, positive],
        scores[:, negative],
        positive_groups=patients[positive],
        negative_groups=patients[negative],
    )


def _other_images(ours: TextArray, theirs: TextArray, noun: str) -> str:
    """Return how many of two runs' test images are the same, with an example of both where none is."""
    met = int(ours.isin(theirs.tolist()).sum())
    example = "" if met or not len(ours) or not len(theirs) else f", such as {ours[0]} against {theirs[0]}"
    return f"other test {noun}s: {met} of {len(ours)} and {len(theirs)} are the same{example}"


def _counted(predictions: Predictions, name: str) -> Predictions:
    rows = predictions.subset_by_split("test")
    return rows.select(~np.isnan(rows.given_targets()[:, rows.column(name)]))
