"""Classes at the threshold in use, and their decision curves: in words, on the page, as CSV."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from labelassemble._files import write_text
from labelassemble.evaluation.bootstrap import ENOUGH
from labelassemble.evaluation.calibration import Calibration, OperatingRule
from labelassemble.evaluation.operating import (
    THRESHOLDS,
    DecisionCurve,
    OperatingRow,
    PredictiveValue,
    Rate,
)
from labelassemble.report import plots
from labelassemble.report.format import NOT_DEFINED, interval_text, number, percent, plural, text_table
from labelassemble.report.sections import Plot
from labelassemble.report.subgroups import ROWS

OPERATING_FILE: Final = "operating_points.csv"
BENEFIT_FILE: Final = "decision_curve.csv"

_CURVES: Final = 4
"""Decision curves on a page, at most."""


def rule_text(calibration: Calibration | None) -> str:
    """Return by what the thresholds were chosen: "specificity of at least 95%"."""
    rule = OperatingRule.parse((calibration or Calibration()).at)
    return f"{rule.figure} of at least {100 * rule.value:g}%"


def operating_lines(
    rows: Sequence[OperatingRow], calibration: Calibration, *, of_patients: bool = False
) -> list[str]:
    """Return the rows as lines of plain text; none without rows.

    Args:
        rows: the classes at their thresholds.
        calibration: whose thresholds they are.
        of_patients: whether the thresholds are those of patients' scores, as of a detection, and not of images.
    """
    if not rows:
        return []
    stated = any(row.prevalence is not None for row in rows)
    shown = rows if len(rows) <= ROWS else [row for row in rows if row.of in ("all", "source")]
    header = ["class", "of", "threshold", "sensitivity (by patient)", "specificity (by patient)"]
    cells = [
        [
            row.name if row.of == "all" else "",
            _of(row),
            _threshold(row),
            rate_text(row.sensitivity),
            rate_text(row.specificity),
            *([predictive_text(row.positive), predictive_text(row.negative)] if stated else []),
        ]
        for row in shown
    ]
    lines = [
        f"At thresholds for a {rule_text(calibration)}, chosen on "
        f"{calibration.chosen_on_patients if of_patients else calibration.chosen_on}:",
        "",
        text_table([header + (["PPV", "NPV"] if stated else []), *cells]),
    ]
    if len(shown) < len(rows):
        lines.append(f"({len(rows) - len(shown)} rows of subgroups more: see {OPERATING_FILE})")
    prevalence = {row.name: row.prevalence for row in rows if row.prevalence is not None}
    lines += [
        f"PPV and NPV of {name} at a prevalence of {100 * value:g}%." for name, value in prevalence.items()
    ]
    return lines


def threshold_cautions(calibration: Calibration) -> list[str]:
    """Return for each class what to know of its threshold: that it is not the site's, is none, or rests on few."""
    rule = OperatingRule.parse(calibration.at)
    kept: dict[str, list[str]] = {}
    for name, own in calibration.classes.items():
        if own.kept and calibration.at in own.thresholds:
            kept.setdefault(own.kept, []).append(name)
    found = [
        f"{', '.join(names)}: correction and threshold are those of the run's own validation images, since {why}"
        for why, names in kept.items()
    ]
    state = "negative" if rule.figure == "specificity" else "positive"
    for name, own in calibration.classes.items():
        count = own.negatives if rule.figure == "specificity" else own.positives
        if calibration.at not in own.thresholds:
            found.append(f"{name}: no threshold, since no {state} label was there to choose one by")
        elif own.thresholds[calibration.at] is None:
            found.append(
                f"{name}: nothing is called positive, since {plural(own.positives, 'positive label')} and "
                f"{plural(own.negatives, 'negative label')} give no threshold for a {rule_text(calibration)}"
            )
        elif count * (1 - rule.value) < 1 - 1e-9:
            found.append(f"{name}: the threshold rests on {plural(count, f'{state} label')}")
    return found


def shown_rows(rows: Sequence[OperatingRow], interest: Sequence[str]) -> tuple[OperatingRow, ...]:
    """Return the rows for the page: subgroups of the classes of interest only."""
    return tuple(row for row in rows if row.of in ("all", "source") or row.name in interest)


def benefit_plots(curves: Sequence[DecisionCurve], interest: Sequence[str]) -> tuple[Plot, ...]:
    """Return the decision curves of the first few classes of interest."""
    found = []
    for curve in [curve for curve in curves if curve.name in interest][:_CURVES]:
        better = [
            t
            for t, model, everybody in zip(THRESHOLDS, curve.model, curve.everybody, strict=True)
            if model > max(0.0, everybody) + 1e-12
        ]
        share = f"{100 * curve.prevalence:.3g}%"
        note = f"At a prevalence of {share}{', as stated' if curve.stated else ', that of these images'}. "
        note += (
            f"More use than calling everybody or nobody positive at {len(better)} of {len(THRESHOLDS)} thresholds, "
            f"from {better[0]:g} to {better[-1]:g}."
            if better
            else "At no threshold of more use than calling everybody or nobody positive."
        )
        if curve.band:
            note += (
                f" The band is a 95% interval by patient, at each threshold by itself; the lead is clear of 0 at "
                f"{plural(curve.better.count(True), 'threshold')}."
            )
            if None in curve.better:
                note += (
                    f" No band at {plural(curve.better.count(None), 'threshold')}, at which these images show no error "
                    "(or nothing else): resampling cannot show what never occurred."
                )
        else:
            note += f" No band: with fewer than {ENOUGH} patients of either state there are too few to say."
        legend = ((0, "the model", ""), (1, "everybody positive", ""))
        svg = plots.decision_curve(THRESHOLDS, curve, f"decision curve of {curve.name}")
        found.append(Plot(curve.name, svg, legend, note))
    return tuple(found)


def rate_text(rate: Rate) -> str:
    """Return "91.2% (80.1% to 97.0%), 31/34"."""
    if rate.interval is None:
        return NOT_DEFINED
    lower, upper = (percent(end) for end in rate.interval)
    return f"{percent(rate.value)} ({lower} to {upper}), {rate.successes}/{rate.trials}"


def predictive_text(value: PredictiveValue | None) -> str:
    """Return "0.210 (0.150 to 0.290)"."""
    return NOT_DEFINED if value is None else f"{number(value.value)} ({interval_text(value.interval)})"


def _of(row: OperatingRow) -> str:
    return row.of if row.of == "all" else f"{row.of}: {row.value}"


def _threshold(row: OperatingRow) -> str:
    return "never" if row.threshold == float("inf") else f"{row.threshold:.3g}"


def write_operating(rows: Sequence[OperatingRow], curves: Sequence[DecisionCurve], folder: Path) -> None:
    """Write operating_points.csv and decision_curve.csv, each where there is something to write.

    Raises:
        LabelAssembleError: a file cannot be written.
    """
    if rows:
        ends = ("", "_lower", "_upper")
        names = [figure + end for figure in ("sensitivity", "specificity", "ppv", "npv") for end in ends]
        header = [
            "class",
            "of",
            "value",
            "threshold",
            "patients",
            "positives",
            "called",
            "negatives",
            "not_called",
        ]
        table = [[*header, *names[:6], "prevalence", *names[6:]]]
        for row in rows:
            yes, no = row.sensitivity, row.specificity
            table.append(
                [
                    row.name, row.of, row.value, f"{row.threshold:.9g}", str(row.patients),
                    str(yes.trials), str(yes.successes), str(no.trials), str(no.successes),
                    *_cells(yes), *_cells(no), _cell(row.prevalence), *_cells(row.positive), *_cells(row.negative),
                ]
            )  # fmt: skip
        write_text(folder / OPERATING_FILE, _csv(table))
    if curves:
        columns = ["prevalence", "threshold", "net_benefit", "everybody_positive"]
        table = [["class", *columns, "net_benefit_lower", "net_benefit_upper"]]
        for curve in curves:
            for index, point in enumerate(zip(THRESHOLDS, curve.model, curve.everybody, strict=True)):
                limits = (curve.band[index] if curve.band else None) or (None, None)
                cells: list[float | None] = [curve.prevalence, *point, *limits]
                table.append([curve.name, *map(_cell, cells)])
        write_text(folder / BENEFIT_FILE, _csv(table))


def _csv(table: Sequence[Sequence[str]]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows(table)
    return buffer.getvalue()


def _cells(figure: Rate | PredictiveValue | None) -> list[str]:
    if figure is None or figure.interval is None:
        return ["", "", ""]
    return [_cell(figure.value), *map(_cell, figure.interval)]


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:.9g}"
