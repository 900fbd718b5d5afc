"""Two runs on the same test images: whose AUROC is higher, and could that be chance?"""

from dataclasses import dataclass, replace

import numpy as np

from labelassemble.data.decoding import plain_paths
from labelassemble.data.predictions import Predictions
from labelassemble.data.text import TextArray
from labelassemble.evaluation.bootstrap import patient_indices
from labelassemble.evaluation.metrics import RocCurve, known_scores, roc_curve
from labelassemble.evaluation.statistics import Interval, PairedTest, delong, paired_delong


@dataclass(frozen=True)
class ComparedClass:
    """What one run reaches on one class of the test split, and its paired test against this run."""

    positives: int
    negatives: int
    auroc: float | None
    interval: Interval | None
    curve: RocCurve | None
    test: (
        PairedTest | None
    )  # this run's AUROC minus the other's; None for this run itself or where `reason` is set
    reason: str  # why there is no test, "" where there is one


def measure(predictions: Predictions, name: str) -> ComparedClass:
    """Return AUROC, interval and ROC curve of a class on the test split."""
    rows = predictions.subset_by_split("test")
    column = rows.column(name)
    targets, scores = rows.given_targets()[:, column], rows.probabilities[:, column]
    positives, negatives = known_scores(targets, scores, name=f"'{name}'")
    patients = patient_indices(rows.groups, len(rows))
    area = delong(
        positives, negatives, positive_groups=patients[targets == 1], negative_groups=patients[targets == 0]
    )
    return ComparedClass(
        positives=len(positives),
        negatives=len(negatives),
        auroc=None if area is None else area.auroc,
        interval=None if area is None else area.interval,
        curve=roc_curve(targets, scores, name=f"'{name}'"),
        test=None,
        reason="",
    )


def compare(this: Predictions, other: Predictions, name: str) -> ComparedClass:
    """Return what `other` reaches on a class, tested against `this` where both saw the same labelled test images.

    Images are matched by path, and the reason says how many are. The test is made only if both runs have the same
    images with a label to count, and the same labels; a test on those that happen to be shared would be of other
    figures than those shown.
    """
    measured = measure(other, name)
    ours, theirs = _counted(this, name), _counted(other, name)
    our_paths, their_paths = plain_paths(ours.paths), plain_paths(theirs.paths)
    reason = ""
    if measured.auroc is None:
        reason = "not defined"
    elif len(np.unique(our_paths)) < len(ours) or len(np.unique(their_paths)) < len(theirs):
        reason = "a test image is listed twice"
    elif len(ours) != len(theirs) or not np.array_equal(np.sort(our_paths), np.sort(their_paths)):
        reason = _other_images(our_paths, their_paths)
    if reason:
        return replace(measured, reason=reason)
    left, right = ours.select(np.argsort(our_paths)), theirs.select(np.argsort(their_paths))
    targets = left.given_targets()[:, left.column(name)]
    if not np.array_equal(targets, right.given_targets()[:, right.column(name)]):
        return replace(measured, reason="other labels")
    scores = np.stack([left.probabilities[:, left.column(name)], right.probabilities[:, right.column(name)]])
    patients = patient_indices(left.groups, len(left))
    positive, negative = targets == 1, targets == 0
    test = paired_delong(
        scores[:, positive],
        scores[:, negative],
        positive_groups=patients[positive],
        negative_groups=patients[negative],
    )
    return replace(measured, test=test, reason="" if test is not None else "not defined")


def _other_images(ours: TextArray, theirs: TextArray) -> str:
    """Return how many of two runs' test images are the same, with an example of both where none is."""
    met = int(ours.isin(theirs.tolist()).sum())
    example = "" if met or not len(ours) or not len(theirs) else f", such as {ours[0]} against {theirs[0]}"
    return f"other test images: {met} of {len(ours)} and {len(theirs)} are the same{example}"


def _counted(predictions: Predictions, name: str) -> Predictions:
    rows = predictions.subset_by_split("test")
    return rows.select(~np.isnan(rows.given_targets()[:, rows.column(name)]))
