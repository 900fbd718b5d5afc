"""What is measured beside the AUC: the operating point, the AUC within each source, and how sources are told apart."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch import nn

from labelassemble.evaluation import delong, roc_curve
from labelassemble.evaluation.leakage import source_leakage
from labelassemble.evaluation.metrics import known_masks
from labelassemble.experiments.stack import Stack
from labelassemble.models.predict import predict
from labelassemble.views.options import ViewOptions


class SourceResult(NamedTuple):
    """The test images of one source.

    Attributes:
        source: its name.
        positives, negatives: images with a known label of the class of interest, assumed ones included.
        assumed: how many of these labels are assumed.
        auc: AUROC among them; None where it is not defined.
        low, high: DeLong's 95% interval, over patients.
        true_positives, true_negatives: of them, at the threshold; None without one.
    """

    source: str
    positives: int
    negatives: int
    assumed: int
    auc: float | None
    low: float | None
    high: float | None
    true_positives: int | None
    true_negatives: int | None


class Measures(NamedTuple):
    """What `measure` returns.

    Attributes:
        threshold: what is called positive scores at least this; None where validation images leave it open.
        true_positives, true_negatives: test images that it calls right; None without it.
        leakage: the AUC with which a regression on the network's features tells the sources of the test images apart;
            None without several sources.
        leakage_within: likewise among images with the same label of the class of interest.
        sources: a row a source, in order of first appearance; empty where there is one source.
    """

    threshold: float | None
    true_positives: int | None
    true_negatives: int | None
    leakage: float | None
    leakage_within: float | None
    sources: tuple[SourceResult, ...]


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
    gain = curve.true_positive_rate - curve.false_positive_rate
    gain = gain[1:]  # the first point calls nothing positive
    return float(curve.thresholds[1:][gain >= gain.max() - 1e-12][0])  # ties but for rounding


def measure(
    net: nn.Module,
    stack: Stack,
    scores: NDArray[np.float64],
    features: NDArray[np.float32] | None,
    *,
    column: int,
    views: ViewOptions,
) -> Measures:
    """Return what is measured of a trained network on the test images, at a threshold from the validation images.

    The threshold is Youden's, by the labels of the class of interest that somebody gave to the validation images; test
    images are held against assumed labels too.

    Args:
        net: whose first output is the class of interest.
        stack: the images.
        scores: of that class for the test images, [N], in the order of their rows.
        features: of these images, float32 [N, D]; None where the network gives none.
        column: of that class in the stack's targets.
        views: of the deterministic view.
    """
    rows, chosen_by = stack.rows("test"), stack.rows("val")
    chosen_by = chosen_by[~np.isnan(stack.given[chosen_by, column])]
    threshold = None
    if len(chosen_by):
        by = predict(net, stack.paths(chosen_by), views, batch_size=256)[:, 0]
        threshold = youden_threshold(stack.given[chosen_by, column], by)
    truth = stack.targets[rows, column]
    called = np.zeros(len(rows), dtype=np.bool_) if threshold is None else scores >= threshold
    right = _right(truth, called, threshold)
    leak = leak_within = None
    found: list[SourceResult] = []
    if stack.sources is not None and len(np.unique(stack.sources)) > 1:
        sources = stack.sources[rows]
        for name in dict.fromkeys(stack.sources.tolist()):
            mine = sources == name
            found.append(
                _of_source(
                    name,
                    truth[mine],
                    scores[mine],
                    patients=stack.groups[rows][mine],
                    assumed=0 if stack.assumed is None else int(stack.assumed[rows[mine], column].sum()),
                    right=_right(truth[mine], called[mine], threshold),
                )
            )
        if features is not None:
            leakage = source_leakage(features, sources, stack.groups[rows], truth[:, None].astype(np.float64))
            if leakage is not None:
                leak, leak_within = leakage.auc, leakage.within
    return Measures(threshold, *right, leak, leak_within, tuple(found))


def _right(
    truth: NDArray[np.float32], called: NDArray[np.bool_], threshold: float | None
) -> tuple[int | None, int | None]:
    """Return how many positives are called positive and how many negatives are not; None without a threshold."""
    if threshold is None:
        return None, None
    return int(called[truth == 1].sum()), int((~called[truth == 0]).sum())


def _of_source(
    name: str,
    truth: NDArray[np.float32],
    scores: NDArray[np.float64],
    *,
    patients: NDArray[np.str_],
    assumed: int,
    right: tuple[int | None, int | None],
) -> SourceResult:
    positive, negative = known_masks(truth)
    area = delong(
        scores[positive],
        scores[negative],
        positive_groups=patients[positive],
        negative_groups=patients[negative],
    )
    return SourceResult(
        name,
        int(positive.sum()),
        int(negative.sum()),
        assumed,
        None if area is None else area.auroc,
        None if area is None else area.interval.lower,
        None if area is None else area.interval.upper,
        *right,
    )
