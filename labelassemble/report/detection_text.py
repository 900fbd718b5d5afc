"""A detection in words: tables as plain text, how they are to be read, and the cautions."""

from collections.abc import Sequence
from typing import Final, TypeVar

from labelassemble.detection_options import PER_CASE
from labelassemble.evaluation.bootstrap import ENOUGH
from labelassemble.evaluation.detection import DetectedClass, Detection
from labelassemble.evaluation.headline import TIED
from labelassemble.evaluation.results import ClassResult
from labelassemble.report.format import (
    FEW,
    number,
    percent,
    plural,
    text_table,
    too_few_negatives,
    with_interval,
)
from labelassemble.report.subgroups import subgroup_lines
from labelassemble.report.text import class_row, headline_lines
from labelassemble.report.unreadable import unreadable_sentence

Result = TypeVar("Result", ClassResult, DetectedClass)

_PATIENTS: Final = (
    "class",
    "source",
    "pos",
    "neg",
    "not counted",
    "AUROC (95% interval)",
    "by bootstrap",
    "AP",
)
_LESIONS: Final = (
    "class",
    "source",
    "cases",
    "lesions found",
    "hit rate (95% interval)",
    "false alarms per case",
    "AP",
    "Dice",
    "surface",
)


def detection_text(detection: Detection) -> str:
    """Return the evaluation of a detection as plain text."""
    evaluation, options = detection.evaluation, detection.options
    several = len(evaluation.sources) > 1
    by_source = evaluation.by_source if several else ()
    patients = [class_row(result) for result in sources_beneath(evaluation.classes, by_source)]
    lesions = [_lesion_row(result) for result in sources_beneath(detection.classes, detection.by_source)]
    lines = [
        f"{evaluation.split} split: {plural(detection.cases, 'case')} of {plural(evaluation.images, 'patient')} from "
        f"{plural(len(evaluation.sources), 'source')}; what is unknown, uncertain or assumed is not counted",
        *filter(None, (unreadable_sentence(evaluation, read=detection.cases, noun="case"),)),
        "",
        f"Patients, by {options.aggregate}:",
        text_table([_PATIENTS, *patients]),
        "",
        *_sensitivity_lines(detection),
        "",
        f"Lesions: found where of a predicted and a drawn one {options.rule}; predicted are voxels of at least "
        f"{options.threshold:g}:",
        text_table([_LESIONS, *lesions]),
        "",
        *_froc_lines(detection.classes),
        *subgroup_lines(evaluation, "patient"),
        *headline_lines(evaluation, "patient"),
    ]
    told = [
        (name, caution)
        for name in (result.name for result in evaluation.classes)
        for caution in detection_cautions(detection, name)
    ]
    if told:
        lines += ["", "Before trusting a figure:", *(f"- {name}: {caution}" for name, caution in told)]
    return "\n".join(lines) + "\n"


def detection_cautions(detection: Detection, name: str) -> tuple[str, ...]:
    """Return what a reader must know before trusting the figures of a class, a sentence each."""
    patients = next(result for result in detection.evaluation.classes if result.name == name)
    lesions, found = detection.of(name), []
    if not patients.known:
        found.append("no patient's state is known, so nothing is defined")
    elif patients.auroc is None:
        state = "has it" if patients.positives else "is without it"
        found.append(
            f"every known patient {state}, so neither AUROC nor sensitivity at a specificity is defined"
        )
    else:
        found += [
            f"only {count} patient{'' if count == 1 else 's'} {state}"
            for count, state in ((patients.positives, "with it"), (patients.negatives, "without it"))
            if count < FEW
        ]
    if patients.interval is not None and patients.interval.lower <= 0.5 <= patients.interval.upper:
        found.append("the interval of the AUROC holds 0.5, so the model may be guessing")
    first, within = detection.evaluation.headline(name), patients.stratified
    within_text = (
        with_interval(None, None) if within is None else with_interval(within.auroc, within.interval)
    )
    if first.within:
        found.append(f"{first.reason}; within sources the AUROC is {within_text}")
    elif patients.source_auroc is not None and patients.source_auroc >= TIED:
        found.append(
            f"knowing only the source of a patient would already give an AUROC of {number(patients.source_auroc)}, so "
            f"the score may be earned by recognising the source; within sources it is {within_text}"
        )
    found += _threshold_cautions(patients)
    if not lesions.cases:
        found.append("no case is known voxel by voxel, so no lesion is counted")
    elif not lesions.lesions:
        found.append("no lesion of it is drawn, so nothing can be found; only false alarms are counted")
    elif lesions.patients_drawn < ENOUGH:
        found.append(
            f"only {plural(lesions.lesions, 'drawn lesion')} of {plural(lesions.patients_drawn, 'patient')}, too few "
            "to say how sure Dice, hit rate, FROC and precision are"
        )
    elif lesions.lesions < FEW:
        found.append(f"only {plural(lesions.lesions, 'drawn lesion')}")
    return tuple(found)


def _threshold_cautions(result: ClassResult) -> list[str]:
    points = result.operating_points
    if not result.threshold_negatives:
        return ["no validation patient without it, so no threshold and no sensitivity"]
    few = too_few_negatives(result, "validation patients without it")
    found = [few] if few else []
    missed = [
        f"{percent(point.target)} give {percent(point.specificity.value)}"
        for point in points
        if point.specificity.interval is not None and point.specificity.interval.upper < point.target
    ]
    if missed:
        found.append(f"thresholds miss their specificity on these patients: {', '.join(missed)}")
    return found


def sources_beneath(whole: Sequence[Result], by_source: Sequence[Result]) -> list[Result]:
    """Return the result of each class with those of its sources behind it."""
    found: list[Result] = []
    for result in whole:
        found.append(result)
        found.extend(part for part in by_source if part.name == result.name)
    return found


def _lesion_row(result: DetectedClass) -> tuple[str, ...]:
    figures = result.figures
    return (
        result.name if result.source is None else "",
        "all" if result.source is None else result.source,
        str(result.cases),
        f"{result.found} of {result.lesions}",
        with_interval(figures.hit_rate.value, figures.hit_rate.interval),
        with_interval(figures.alarms_per_case.value, figures.alarms_per_case.interval),
        number(figures.average_precision.value),
        with_interval(figures.dice.value, figures.dice.interval),
        with_interval(figures.surface.value, figures.surface.interval),
    )


def _sensitivity_lines(detection: Detection) -> list[str]:
    evaluation = detection.evaluation
    if evaluation.threshold_split is None:
        return ["No validation patients, so no thresholds and no sensitivities."]
    lines = [
        f"Sensitivity for patients at thresholds chosen on the {evaluation.threshold_split} split, with Wilson's 95% "
        "interval:"
    ]
    heading = len(lines)
    for result in evaluation.classes:
        for target, point, needed in result.by_specificity:
            if point is None:
                if result.threshold_negatives:
                    lines.append(
                        f"- {result.name} at {percent(target)}: not given, "
                        f"{result.threshold_negatives} of {needed} validation patients without it"
                    )
                continue
            sensitivity, specificity = point.sensitivity, point.specificity
            if sensitivity.interval is None:
                continue
            lower, upper = (percent(end) for end in sensitivity.interval)
            reached = (
                f"{percent(specificity.value)}, {specificity.successes}/{specificity.trials}"
                if specificity.trials
                else "not defined"
            )
            lines.append(
                f"- {result.name} at {percent(point.target)}: {percent(sensitivity.value)} ({lower} to {upper}), "
                f"{sensitivity.successes}/{sensitivity.trials}; specificity here {reached}"
            )
    return lines if len(lines) > heading else ["No threshold for patients, so no sensitivities: see below."]


def _froc_lines(classes: Sequence[DetectedClass]) -> list[str]:
    rows = [
        (result.name, *(number(estimate.value) for estimate in result.figures.froc))
        for result in classes
        if result.lesions
    ]
    if not rows:
        return []
    header = "class", *(f"{rate:g}" for rate in PER_CASE)
    return ["Share of lesions found at so many false alarms per case:", text_table([header, *rows])]
