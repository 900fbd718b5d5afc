"""What an evaluation says: results per class and source, what to be cautious about, and both as text."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from labelassemble.evaluation.calibration import SPECIFICITIES
from labelassemble.evaluation.metrics import OperatingPoint
from labelassemble.evaluation.reliability import Reliability
from labelassemble.evaluation.statistics import Interval, Proportion

DECISION: Final = 0.5
"""The probability from which on an image counts as called positive, for accuracy."""

FEW: Final = 30
"""Fewer cases of a state than this are pointed out: one case more or less then moves the result."""

POOLED: Final = "all labels pooled"
"""What stands for the name of a class where every known label of every class is one case."""

LEAK: Final = 0.7
"""From which AUROC of the source alone on a class is pointed out as perhaps learnt from the source."""

ROW_HEADER: Final = (
    "class",
    "source",
    "pos",
    "neg",
    "not counted",
    "AUROC (95% interval)",
    "by patient",
    "AP",
)
"""What stands above `Evaluation.rows`."""


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
    assumed: int  # positives and negatives that nobody gave
    patients: int  # with a known label
    auroc: float | None
    interval: Interval | None  # DeLong's, 95%, with images summed by patient
    bootstrap: Interval | None  # by patient, 95%, percentile; all sources only
    average_precision: float | None
    operating_points: tuple[OperatingPoint, ...]  # thresholds from `Evaluation.threshold_split`
    threshold_negatives: int  # known negatives that the thresholds were chosen by
    accuracy: Proportion  # at probability 0.5
    calibration: Reliability | None  # of the probabilities as the model gives them
    calibrated: Reliability | None  # after temperature scaling; None without a temperature
    temperature: float | None  # fitted on `Evaluation.threshold_split`; None: see no_temperature
    no_temperature: str
    source_auroc: float | None  # what knowing nothing but the image's source reaches; all sources only

    @property
    def known(self) -> int:
        """Positives and negatives, together."""
        return self.positives + self.negatives

    @property
    def commoner(self) -> float | None:
        """The accuracy of always naming the commoner state; None without a known label."""
        return max(self.positives, self.negatives) / self.known if self.known else None

    def cautions(self) -> tuple[str, ...]:
        """Return what a reader must know before trusting the figures, a sentence each."""
        found = []
        if self.known == 0:
            return ("no image has a known label, so nothing is defined",)
        if self.auroc is None:
            state = "negative" if self.positives == 0 else "positive"
            return (f"every known label is {state}, so AUROC is not defined",)
        for count, state in ((self.positives, "positive"), (self.negatives, "negative")):
            if count < FEW:
                found.append(f"only {count} {state}{'' if count == 1 else 's'}")
        if self.auroc in (0, 1):
            found.append(
                "the two states are separated without an error, so the interval follows from the numbers of cases alone"
            )
        if self.interval is not None and self.interval.lower <= 0.5 <= self.interval.upper:
            found.append("the interval holds 0.5, so the model may be guessing")
        if self.interval is not None and self.interval.upper < 0.5:
            found.append("worse than guessing: positives score lower than negatives")
        if self.source_auroc is not None and self.source_auroc >= LEAK:
            found.append(
                f"knowing only the source of an image would already give an AUROC of {number(self.source_auroc)}, "
                "so the model may have learnt to tell the sources apart; see the figures within one source"
            )
        if self.operating_points and self.threshold_negatives < 1 / (1 - SPECIFICITIES[-1]):
            found.append(
                f"thresholds rest on {self.threshold_negatives} validation "
                f"negative{'' if self.threshold_negatives == 1 else 's'}"
            )
        missed = [
            f"{percent(point.target)} give {percent(point.specificity.value)}"
            for point in self.operating_points
            if point.specificity.interval is not None and point.specificity.interval.upper < point.target
        ]
        if missed:
            found.append(f"thresholds miss their specificity on these images: {', '.join(missed)}")
        return tuple(found)


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

    def of(self, name: str, source: str | None = None) -> ClassResult | None:
        """Return the result of a class, over all sources or one; None where there is none."""
        results: Sequence[ClassResult] = self.classes if source is None else self.by_source
        return next((r for r in results if r.name == name and r.source == source), None)

    def within(self, name: str) -> tuple[ClassResult, ...]:
        """Return the results of a class within each source that has one; none where all images are of one source."""
        if len(self.sources) < 2:
            return ()
        return tuple(r for r in self.by_source if r.name == name and r.auroc is not None)

    def rows(self) -> list[tuple[str, ...]]:
        """Return the results as text under `ROW_HEADER`: every class, then the sources that label it, then the mean."""
        rows = []
        for result in self.classes:
            rows.append(_row(result))
            within = [r for r in self.by_source if r.name == result.name]
            rows += [_row(r) for r in within if len(self.sources) > 1]
        mean = with_interval(self.mean.auroc, None), interval_text(self.mean.bootstrap)
        rows.append((f"mean of {len(self.mean.classes)}", "all", "", "", "", *mean, ""))
        if len(self.classes) == 1:
            return rows
        shown = self.overall if len(self.sources) > 1 else self.overall[:1]
        for overall in shown[1:]:
            named = f"mean of {len(overall.mean.classes)}", overall.source or ""
            rows.append((*named, "", "", "", number(overall.mean.auroc), "", ""))
        return [*rows, *(_row(overall.pooled) for overall in shown)]

    def to_text(self) -> str:
        """Return the evaluation as plain text: a table, how to read it, and the cautions."""
        rows = [ROW_HEADER, *self.rows()]
        widths = [max(len(row[column]) for row in rows) for column in range(len(ROW_HEADER))]
        lines = [
            f"{self.split} split: {self.images} images of {self.patients} patients from {len(self.sources)} "
            f"source{'' if len(self.sources) == 1 else 's'}; unknown, uncertain and assumed labels are not counted",
            "",
        ]
        lines += [
            "  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows
        ]
        lines += ["", *_operating_lines(self), "", *_calibration_lines(self)]
        cautions = [(result.name, caution) for result in self.classes for caution in result.cautions()]
        if cautions:
            lines += [
                "",
                "Before trusting a figure:",
                *(f"- {name}: {caution}" for name, caution in cautions),
            ]
        return "\n".join(lines) + "\n"


NOT_DEFINED: Final = "not defined"


def number(value: float | None) -> str:
    """Return a figure with three decimals; one that only rounding makes 0 or 1 says so."""
    if value is None:
        return NOT_DEFINED
    if value != 1 and round(value, 3) == 1:
        return ">0.999"
    if value != 0 and round(value, 3) == 0:
        return "<0.001"
    return f"{value:.3f}"


def percent(value: float | None) -> str:
    """Return a share as a percentage with at most one decimal; one that only rounding makes 0 or 100 says so."""
    if value is None:
        return NOT_DEFINED
    if value != 1 and round(100 * value, 1) == 100:
        return ">99.9%"
    if value != 0 and round(100 * value, 1) == 0:
        return "<0.1%"
    return f"{100 * value:.1f}".removesuffix(".0") + "%"


def interval_text(interval: Interval | None) -> str:
    """Return "0.871 to 0.943"."""
    return NOT_DEFINED if interval is None else f"{number(interval.lower)} to {number(interval.upper)}"


def with_interval(value: float | None, interval: Interval | None) -> str:
    """Return "0.913 (0.871 to 0.943)", or without the interval where there is none."""
    return number(value) if interval is None else f"{number(value)} ({interval_text(interval)})"


def _row(result: ClassResult) -> tuple[str, ...]:
    return (
        result.name if result.source is None else "",
        "all" if result.source is None else result.source,
        str(result.positives),
        str(result.negatives),
        str(result.unknown + result.uncertain + result.assumed),
        with_interval(result.auroc, result.interval),
        "" if result.bootstrap is None else interval_text(result.bootstrap),
        number(result.average_precision),
    )


def _calibration_lines(evaluation: Evaluation) -> list[str]:
    lines = ["Reliability error (ECE) of the probabilities as given, and after temperature scaling:"]
    pooled = [overall.pooled for overall in evaluation.overall[:1] if len(evaluation.classes) > 1]
    for result in [*evaluation.classes, *pooled]:
        if result.calibration is None:
            continue
        if result.calibrated is None:
            after = f"not scaled ({result.no_temperature})" if result.no_temperature else "not scaled"
        else:
            after = f"then {number(result.calibrated.error)}"
            if result.temperature is not None:
                after += f" with temperature {result.temperature:.2f}"
        lines.append(f"- {result.name}: {number(result.calibration.error)}, {after}")
    return lines if len(lines) > 1 else ["No known label, so calibration is not defined."]


def _operating_lines(evaluation: Evaluation) -> list[str]:
    if evaluation.threshold_split is None:
        return ["No validation images, so no thresholds and no sensitivities."]
    lines = [f"Sensitivity at thresholds chosen on the {evaluation.threshold_split} split:"]
    if evaluation.split == evaluation.threshold_split:
        lines[0] = "Sensitivity at thresholds chosen on these same images, which flatters it:"
    for result in evaluation.classes:
        points = [
            f"{percent(point.sensitivity.value)} at {percent(point.target)} "
            f"(specificity here {percent(point.specificity.value)})"
            for point in result.operating_points
        ]
        if points:
            lines.append(f"- {result.name}: " + ", ".join(points))
    return lines
