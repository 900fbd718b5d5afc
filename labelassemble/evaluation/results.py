"""What an evaluation gives: results per class, per source and overall."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from labelassemble.evaluation.calibration import SPECIFICITIES, negatives_needed
from labelassemble.evaluation.headline import Headline, headline
from labelassemble.evaluation.leakage import Leakage
from labelassemble.evaluation.metrics import OperatingPoint
from labelassemble.evaluation.proportion import Interval, Proportion
from labelassemble.evaluation.reliability import Reliability
from labelassemble.evaluation.statistics import DeLong

DECISION: Final = 0.5
"""The probability from which on an image counts as called positive, for accuracy."""

POOLED: Final = "all labels pooled"
"""What stands for the name of a class where every known label of every class is one case."""

MISSING: Final = "missing"
"""What stands for a value of a subgroup where an image has none."""


@dataclass(frozen=True, slots=True)
class ClassResult:
    """What the model reaches on one class, over all sources or over one; None = not defined.

    The five counts add up to the images of the split (and source). Only positives and negatives are counted in
    any figure.
    """

    name: str
    source: str | None  # None: all of them
    positives: int
    negatives: int
    unknown: int
    uncertain: int
    assumed: int  # positives and negatives that follow from an option or a rule
    patients: int  # with a known label
    auroc: float | None
    interval: Interval | None  # DeLong's, 95%, with images summed by patient
    bootstrap: Interval | None  # by patient, 95%; all sources only
    average_precision: float | None
    operating_points: tuple[OperatingPoint, ...]  # thresholds from `Evaluation.threshold_split`
    threshold_negatives: int  # known negatives that the thresholds were chosen by
    accuracy: Proportion  # at an answered probability of 0.5
    calibration: Reliability | None  # of the probabilities as the model gives them
    calibrated: Reliability | None  # of the probabilities as they are answered; None without a correction
    correction: str  # chosen on `Evaluation.threshold_split`, in words; "": see no_correction
    no_correction: str
    source_auroc: float | None  # what knowing nothing but the image's source reaches; all sources only
    stratified: DeLong | None = None  # over pairs of images of the same source; all sources only

    @property
    def known(self) -> int:
        """Positives and negatives, together."""
        return self.positives + self.negatives

    @property
    def by_specificity(self) -> tuple[tuple[float, OperatingPoint | None, int], ...]:
        """(specificity, its point, negatives that a threshold for it needs), for each of `SPECIFICITIES`."""
        points = {point.target: point for point in self.operating_points}
        return tuple((target, points.get(target), negatives_needed(target)) for target in SPECIFICITIES)

    @property
    def too_few_negatives(self) -> tuple[tuple[float, int], ...]:
        """(specificity, negatives that it needs), where the thresholds' negatives are some but too few for it."""
        return tuple(
            (target, needed)
            for target, point, needed in self.by_specificity
            if point is None and 0 < self.threshold_negatives < needed
        )

    @property
    def commoner(self) -> float | None:
        """The accuracy of always naming the commoner state; None without a known label."""
        return max(self.positives, self.negatives) / self.known if self.known else None


@dataclass(frozen=True, slots=True)
class MeanResult:
    """The plain mean of AUROC over the classes where it is defined."""

    classes: tuple[str, ...]
    auroc: float | None
    bootstrap: Interval | None  # the same resampled patients for all classes


@dataclass(frozen=True, slots=True)
class OverallResult:
    """All classes together, over all sources or over one.

    The mean takes each class as it is, so a rare one weighs as much as a common one. The pool takes every known label
    of every class as one case of one ranking: whether the probabilities of different classes can be held against
    one threshold. Its AUROC rises with how much the classes differ in how common they are, so it flatters; its
    accuracy and calibration error have no such fault.
    """

    source: str | None  # None: all of them
    mean: MeanResult
    pooled: ClassResult  # of the class `POOLED`


@dataclass(frozen=True, slots=True)
class SubgroupValue:
    """What the model reaches on the images that have one value of a subgroup."""

    value: str  # "female", "18 to 39", `MISSING`, "5 other values"
    images: int
    classes: tuple[ClassResult, ...]  # in the order of the predictions' classes
    apart: bool  # one value or band; False for what is missing and for rare values taken together


@dataclass(frozen=True, slots=True)
class SubgroupGap:
    """How far apart the best and the worst value of a subgroup are on one class.

    They are picked by the same images that the difference is measured on, so the interval is widened (Bonferroni) to
    hold for all pairs of values at once: one that lies above 0 says that some values differ.
    """

    name: str
    best: str
    worst: str
    difference: float  # of the two AUROCs, 0 or more
    interval: (
        Interval | None
    )  # 95% for all pairs together, by the bootstrap over patients; None: nothing to go by
    values: int  # that have enough positives and negatives to be among the pairs


@dataclass(frozen=True, slots=True)
class SubgroupResult:
    """The evaluation by one column of the table, such as sex."""

    name: str
    missing: int  # images
    values: tuple[SubgroupValue, ...]  # last what is rare, then what is missing, where there is any
    gaps: tuple[SubgroupGap, ...]  # of the classes that two values or more have enough cases of


@dataclass(frozen=True, slots=True)
class Unreadable:
    """An image that could not be read, and so counts in no figure."""

    path: str
    split: str
    source: str
    reason: str


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The evaluation of one split."""

    split: str
    threshold_split: str | None  # where thresholds come from: "val", or None where there is no validation
    images: int
    patients: int
    sources: tuple[str, ...]
    classes: tuple[ClassResult, ...]  # all sources, in the order of the predictions' classes
    by_source: tuple[ClassResult, ...]  # classes that a source labels, class by class
    mean: MeanResult
    overall: tuple[OverallResult, ...]  # all sources, then each
    replicates: int  # of the bootstrap; 0: none
    seed: int
    subgroups: tuple[SubgroupResult, ...] = ()
    leakage: Leakage | None = None  # of the features; None: not measured
    unreadable: tuple[Unreadable, ...] = ()  # images of the split that are not among `images`
    unreadable_elsewhere: int = 0  # images of other splits: validation images, which thresholds lack

    def of(self, name: str, source: str | None = None) -> ClassResult | None:
        """Return the result of a class, over all sources or one; None where there is none."""
        results: Sequence[ClassResult] = self.classes if source is None else self.by_source
        return next((r for r in results if r.name == name and r.source == source), None)

    def headline(self, name: str) -> Headline:
        """Return the figure of a class over all sources that stands first, by the rule of `headline`."""
        result = self.of(name)
        return Headline(None, None) if result is None else headline(result, self.leakage)

    @property
    def mean_of_headlines(self) -> MeanResult:
        """The mean of the figures that stand first; without an interval where one of them is within sources."""
        shown = {result.name: self.headline(result.name) for result in self.classes}
        if not any(first.within for first in shown.values()):
            return self.mean
        values = {name: first.auroc for name, first in shown.items() if first.auroc is not None}
        return MeanResult(tuple(values), sum(values.values()) / len(values) if values else None, None)

    def within(self, name: str) -> tuple[ClassResult, ...]:
        """Return the results of a class within each source that has one; none where all images are of one source."""
        if len(self.sources) < 2:
            return ()
        return tuple(r for r in self.by_source if r.name == name and r.auroc is not None)
