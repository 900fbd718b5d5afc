"""An evaluation in words: a table as plain text, what to be cautious about, what source leakage means."""

from typing import Final

from labelassemble.evaluation.headline import TIED
from labelassemble.evaluation.leakage import LEAST, Leakage
from labelassemble.evaluation.results import ClassResult, Evaluation
from labelassemble.report.format import (
    ENOUGH,
    FEW,
    interval_text,
    number,
    percent,
    plural,
    text_table,
    too_few_negatives,
    with_interval,
)
from labelassemble.report.subgroups import subgroup_lines
from labelassemble.report.unreadable import unreadable_sentence

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
"""What stands above `evaluation_rows`."""


def evaluation_rows(evaluation: Evaluation) -> list[tuple[str, ...]]:
    """Return the results as text under `ROW_HEADER`: every class, then the sources that label it, then the mean."""
    rows = []
    for result in evaluation.classes:
        rows.append(class_row(result))
        within = [r for r in evaluation.by_source if r.name == result.name]
        rows += [class_row(r) for r in within if len(evaluation.sources) > 1]
    mean = with_interval(evaluation.mean.auroc, None), interval_text(evaluation.mean.bootstrap)
    rows.append((f"mean of {len(evaluation.mean.classes)}", "all", "", "", "", *mean, ""))
    if len(evaluation.classes) == 1:
        return rows
    shown = evaluation.overall if len(evaluation.sources) > 1 else evaluation.overall[:1]
    for overall in shown[1:]:
        named = f"mean of {len(overall.mean.classes)}", overall.source or ""
        rows.append((*named, "", "", "", number(overall.mean.auroc), "", ""))
    return [*rows, *(class_row(overall.pooled) for overall in shown)]


def evaluation_text(evaluation: Evaluation) -> str:
    """Return the evaluation as plain text: a table, how to read it, and the cautions."""
    rows = [ROW_HEADER, *evaluation_rows(evaluation)]
    lines = [
        f"{evaluation.split} split: {evaluation.images} images of {evaluation.patients} patients from "
        f"{plural(len(evaluation.sources), 'source')}; unknown, uncertain and assumed labels are not counted",
        *filter(None, (unreadable_sentence(evaluation),)),
        "",
        text_table(rows),
        "",
        *_operating_lines(evaluation),
        "",
        *_calibration_lines(evaluation),
        *subgroup_lines(evaluation),
    ]
    lines += headline_lines(evaluation)
    told = [(result.name, caution) for result in evaluation.classes for caution in cautions(result)]
    if told:
        lines += ["", "Before trusting a figure:", *(f"- {name}: {caution}" for name, caution in told)]
    return "\n".join(lines) + "\n"


def headline_lines(evaluation: Evaluation, noun: str = "image") -> list[str]:
    """Return for each class whose figure within sources stands before the pooled one what it is and why."""
    lines = [
        f"- {result.name}: {with_interval(first.auroc, first.interval)} within sources, "
        f"pooled {with_interval(result.auroc, result.interval)}: {first.reason}"
        for result in evaluation.classes
        if (first := evaluation.headline(result.name)).within
    ]
    mean = evaluation.mean_of_headlines
    if lines and len(mean.classes) > 1:
        lines.append(
            f"- mean of {len(mean.classes)}: {number(mean.auroc)} with these figures, pooled "
            f"{with_interval(evaluation.mean.auroc, evaluation.mean.bootstrap)}"
        )
    return ["", f"AUROC to go by, of pairs of {noun}s from the same source:", *lines] if lines else []


def cautions(result: ClassResult) -> tuple[str, ...]:
    """Return what a reader must know before trusting the figures, a sentence each."""
    found = []
    if result.known == 0:
        return ("no image has a known label, so nothing is defined",)
    if result.auroc is None:
        state = "negative" if result.positives == 0 else "positive"
        return (f"every known label is {state}, so AUROC is not defined",)
    for count, state in ((result.positives, "positive"), (result.negatives, "negative")):
        if count < FEW:
            found.append(f"only {plural(count, state)}")
    if result.auroc in (0, 1):
        found.append(
            "the two states are separated without an error, so the interval follows from the numbers of cases alone"
        )
    if result.interval is not None and result.interval.lower <= 0.5 <= result.interval.upper:
        found.append("the interval holds 0.5, so the model may be guessing")
    if result.interval is not None and result.interval.upper < 0.5:
        rare = min(result.positives, result.negatives)
        found.append(
            "worse than guessing: positives score lower than negatives"
            if rare >= ENOUGH
            else "positives score lower than negatives, but these are too few to say that it is worse than guessing"
        )
    if result.source_auroc is not None and result.source_auroc >= TIED:
        found.append(
            f"knowing only the source of an image would already give an AUROC of {number(result.source_auroc)}, "
            "so the model may have learnt to tell the sources apart; see the figures within one source"
        )
    if few := too_few_negatives(result, "validation negatives"):
        found.append(few)
    missed = [
        f"{percent(point.target)} give {percent(point.specificity.value)}"
        for point in result.operating_points
        if point.specificity.interval is not None and point.specificity.interval.upper < point.target
    ]
    if missed:
        found.append(f"thresholds miss their specificity on these images: {', '.join(missed)}")
    return tuple(found)


def leakage_sentences(leakage: Leakage, noun: str = "image") -> tuple[str, ...]:
    """Return what the source leakage means, in plain words; `noun`: what was measured, "image" or "patient"."""
    a_noun = f"an {noun}" if noun == "image" else f"a {noun}"
    found = [
        f"From the model's features alone, a simple classifier tells the sources of {leakage.images_of} {noun}s apart "
        f"with an AUC of {leakage.auc:.2f} (0.5: not at all; 1: always)"
        + (
            "."
            if leakage.within is None
            else f", and of {leakage.within:.2f} among {noun}s with the same label."
        )
    ]
    figure = leakage.auc if leakage.within is None else leakage.within
    if figure >= 0.8:
        found.append(
            f"The model sees where {a_noun} comes from. Where sources differ in how common a finding is, a figure "
            "over all sources may be earned by recognising the source: trust the figures within each source."
        )
    elif figure >= 0.6:
        found.append(
            f"The model sees something of where {a_noun} comes from, so look at the figures within each source too."
        )
    else:
        found.append(f"The features show hardly anything of where {a_noun} comes from.")
    if leakage.within is None:
        found.append(
            "No class is labelled by two of the sources, so what the sources' findings explain of this cannot be "
            "taken out."
        )
    if leakage.left_out:
        found.append(f"Left out, with fewer than {LEAST} patients: {', '.join(leakage.left_out)}.")
    return tuple(found)


def class_row(result: ClassResult) -> tuple[str, ...]:
    """Return the cells of a class, perhaps within a source: counts, AUROC with intervals, average precision."""
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
    lines = [
        "Calibration error (ECE) of the probabilities as the network gives them, and as they are answered:"
    ]
    pooled = [overall.pooled for overall in evaluation.overall[:1] if len(evaluation.classes) > 1]
    for result in [*evaluation.classes, *pooled]:
        if result.calibration is None:
            continue
        if result.calibrated is None:
            after = f"not corrected ({result.no_correction})" if result.no_correction else "not corrected"
        else:
            after = f"then {number(result.calibrated.error)}"
            if result.correction:
                after += f" with {result.correction}"
        lines.append(f"- {result.name}: {number(result.calibration.error)}, {after}")
    return lines if len(lines) > 1 else ["No known label, so calibration is not defined."]


def _operating_lines(evaluation: Evaluation) -> list[str]:
    if evaluation.threshold_split is None:
        return ["No validation images, so no thresholds and no sensitivities."]
    lines = [f"Sensitivity at thresholds chosen on the {evaluation.threshold_split} split:"]
    if evaluation.split == evaluation.threshold_split:
        lines[0] = "Sensitivity at thresholds chosen on these same images, which flatters it:"
    for result in evaluation.classes:
        if not result.threshold_negatives:
            continue
        points = [
            f"not given at {percent(target)}"
            if point is None
            else f"{percent(point.sensitivity.value)} at {percent(target)} "
            f"(specificity here {percent(point.specificity.value)})"
            for target, point, _ in result.by_specificity
        ]
        lines.append(f"- {result.name}: " + ", ".join(points))
    if len(lines) > 1:
        return lines
    return [
        f"No class has a negative label in the {evaluation.threshold_split} split, so no thresholds and no "
        "sensitivities."
    ]
