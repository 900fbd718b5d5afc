"""Which AUROC of a class stands first: the pooled one, or the one within sources. One rule for every page and table.

A model that recognises the hospital ranks pairs of images from two hospitals right wherever hospitals differ in how
common a finding is, whatever it sees of the finding. Pairs from one source have no such fault. So where the features
alone tell the sources apart, and the class is tied to the source, the figure that stands first is the source-stratified
AUROC: of all pairs of a positive and a negative image of the same source, the share that is ranked right.
"""

from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from labelassemble.evaluation.leakage import Leakage
from labelassemble.evaluation.metrics import auroc_of
from labelassemble.evaluation.proportion import Interval
from labelassemble.evaluation.statistics import DeLong, stratified_delong

TELLING: Final = 0.7
"""From which AUC on the features tell the sources apart."""
TIED: Final = 0.7
"""From which AUROC of the source alone on a class is tied to it."""


class Measured(Protocol):
    """What the rule asks of a result of one class over all sources."""

    @property
    def auroc(self) -> float | None: ...
    @property
    def interval(self) -> Interval | None: ...
    @property
    def source_auroc(self) -> float | None: ...
    @property
    def stratified(self) -> DeLong | None: ...


@dataclass(frozen=True, slots=True)
class Headline:
    """The figure that stands first.

    Attributes:
        auroc: None where it is not defined.
        interval: 95%.
        within: it is of pairs from the same source.
        reason: why it is, a sentence without its full stop; "" for the pooled one.
    """

    auroc: float | None
    interval: Interval | None
    within: bool = False
    reason: str = ""


def headline(result: Measured, leakage: Leakage | None) -> Headline:
    """Return the figure of a class that stands first.

    Args:
        result: of the class over all sources.
        leakage: how well the features tell the sources apart; None where it was not measured: the pooled one stands.
    """
    tied = result.source_auroc is not None and result.source_auroc >= TIED
    telling = 0.0 if leakage is None else max(leakage.auc, leakage.within or 0.0)
    if not tied or telling < TELLING or result.auroc is None:
        return Headline(result.auroc, result.interval)
    reason = (
        f"the features alone tell the sources apart (AUC {telling:.2f}), and knowing nothing but the source would give "
        f"{result.source_auroc:.2f}, so the pooled figure may be earned by recognising the source"
    )
    if result.stratified is None:
        reason += "; no source has both positives and negatives, so nothing can be said within sources"
        return Headline(None, None, True, reason)
    return Headline(result.stratified.auroc, result.stratified.interval, True, reason)


def stratified_auroc(
    targets: NDArray[np.float64],
    scores: NDArray[np.float64],
    sources: NDArray[np.int64],
    patients: NDArray[np.intp],
) -> DeLong | None:
    """Return the AUROC over pairs of the same source; None where no source has both states, or there is but one source.

    Args:
        targets: 1, 0 or NaN = not counted, [N].
        scores: [N].
        sources: of each image, [N].
        patients: of each image, [N].
    """
    known = ~np.isnan(targets)
    if len(np.unique(sources[known])) < 2:
        return None
    positive, negative = targets == 1, targets == 0
    return stratified_delong(
        [
            (
                scores[positive & own],
                scores[negative & own],
                patients[positive & own],
                patients[negative & own],
            )
            for own in (sources == code for code in np.unique(sources[known]))
        ]
    )


def source_auroc(targets: NDArray[np.float64], sources: NDArray[np.int64]) -> float | None:
    """Return the AUROC [0.5, 1] of scoring every image by the share of positives in its source, None for one source."""
    known = ~np.isnan(targets)
    codes, states = sources[known], targets[known]
    if len(np.unique(codes)) < 2:
        return None
    images = np.bincount(codes)
    rates = np.bincount(codes, states) / np.maximum(images, 1)
    scores = rates[codes]
    return auroc_of(scores[states == 1], scores[states == 0])
