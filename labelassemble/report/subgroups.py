"""The evaluation by subgroups as text, as CSV, and as the sentences that belong to it."""

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from labelassemble._files import write_text
from labelassemble.evaluation.calibrators import LEAST
from labelassemble.evaluation.results import (
    MISSING,
    ClassResult,
    Evaluation,
    SubgroupGap,
    SubgroupResult,
    SubgroupValue,
)
from labelassemble.report.format import (
    FEW,
    difference,
    interval_text,
    percent,
    plural,
    text_table,
    with_interval,
)

SUBGROUPS_FILE: Final = "subgroups.csv"
TARGET: Final = 0.95
"""The specificity at whose threshold sensitivity and specificity are shown."""
ROWS: Final = 60
"""A subgroup of more rows is not printed but stands in the file alone."""
_HEADER: Final = (
    "subgroup",
    "class",
    "pos",
    "neg",
    "AUROC (95% interval)",
    "by patient",
    f"sensitivity at {percent(TARGET)}",
    "specificity there",
)
_COLUMNS: Final = (
    "subgroup",
    "value",
    "class",
    "images",
    "positives",
    "negatives",
    "unknown",
    "uncertain",
    "assumed",
    "patients",
    "auroc",
    "auroc_lower",
    "auroc_upper",
    "bootstrap_lower",
    "bootstrap_upper",
)


def subgroup_lines(evaluation: Evaluation, noun: str = "image") -> list[str]:
    """Return the evaluation by subgroups as lines of plain text; none without subgroups.

    Args:
        evaluation: with its subgroups.
        noun: what its figures count: an image, or a patient.
    """
    lines: list[str] = []
    for subgroup in evaluation.subgroups:
        rows = [
            _cells(value, result)
            for index in range(len(evaluation.classes))
            for value in subgroup.values
            for result in (value.classes[index],)
        ]
        lines += [
            "",
            f"By {subgroup.name}{_missing(subgroup, evaluation, noun)}:",
            "",
            text_table([_HEADER, *rows])
            if len(rows) <= ROWS
            else f"({len(rows)} rows: see {SUBGROUPS_FILE})",
        ]
        lines += [f"- {sentence}" for sentence in gap_sentences(subgroup)]
    note = gap_note(evaluation, noun)
    return lines + (["", note] if note else [])


def gap_sentences(subgroup: SubgroupResult) -> tuple[str, ...]:
    """Return how far apart the best and the worst value are, a sentence per class, or that nothing can be compared."""
    if not subgroup.gaps:
        return (
            f"{subgroup.name}: no class has two groups with {LEAST} positives and {LEAST} negatives each, so no groups "
            "are compared",
        )
    return tuple(gap_sentence(gap) for gap in subgroup.gaps)


def gap_sentence(gap: SubgroupGap) -> str:
    """Return how far apart the best and the worst value of a subgroup are on one class."""
    if gap.difference == 0:
        return f"{gap.name}: no group is above another"
    said = f"{gap.name}: {gap.best} is above {gap.worst} by {difference(gap.difference, gap.interval)}"
    if gap.interval is None:
        return f"{said}, without an interval, so nothing can be said of it"
    if gap.interval.lower <= 0:
        return f"{said}: the interval holds 0, so no difference is shown"
    return f"{said}: the interval lies above 0"


def gap_note(evaluation: Evaluation, noun: str = "image") -> str:
    """Return how the gaps are to be read; "" without any. `noun` is what the figures count."""
    gaps = [gap for subgroup in evaluation.subgroups for gap in subgroup.gaps if gap.interval is not None]
    if not gaps:
        return ""
    several = (
        f" Of {len(gaps)} such intervals, chance alone puts about one in twenty above 0."
        if len(gaps) > 1
        else ""
    )
    return (
        f"The groups that are furthest apart are picked by the same {noun}s, so the interval of a gap is widened to "
        f"hold for all pairs of groups at once; groups with fewer than {LEAST} positives or negatives are left out of "
        "it."
        f"{several} A gap may come from other patients, devices or ways of labelling: it says nothing of the cause."
    )


def write_subgroups(evaluation: Evaluation, folder: Path) -> None:
    """Write subgroups.csv, a row per subgroup, value and class, or take away an older one where there are no subgroups.

    Raises:
        LabelAssembleError: The file cannot be written.
    """
    path = folder / SUBGROUPS_FILE
    if not evaluation.subgroups:
        path.unlink(missing_ok=True)
        return
    targets = [point.target for result in evaluation.classes for point in result.operating_points]
    shares = [
        f"{name}_at_{target:g}{end}"
        for target in dict.fromkeys(targets)
        for name in ("sensitivity", "specificity")
        for end in ("", "_lower", "_upper")
    ]
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, [*_COLUMNS, *shares], restval="", lineterminator="\n")
    writer.writeheader()
    for row in _csv_rows(evaluation):
        writer.writerow(
            {
                key: f"{value:.9g}" if isinstance(value, float) else value
                for key, value in row.items()
                if value is not None
            }
        )
    write_text(path, buffer.getvalue())


def _csv_rows(evaluation: Evaluation) -> Iterator[dict[str, str | int | float | None]]:
    for subgroup in evaluation.subgroups:
        for value in subgroup.values:
            for result in value.classes:
                row: dict[str, str | int | float | None] = {
                    "subgroup": subgroup.name,
                    "value": value.value,
                    "class": result.name,
                    "images": value.images,
                    "auroc": result.auroc,
                }
                for name in ("positives", "negatives", "unknown", "uncertain", "assumed", "patients"):
                    row[name] = getattr(result, name)
                for name, interval in (("auroc", result.interval), ("bootstrap", result.bootstrap)):
                    row[f"{name}_lower"], row[f"{name}_upper"] = interval or (None, None)
                for point in result.operating_points:
                    for name in ("sensitivity", "specificity"):
                        share, key = getattr(point, name), f"{name}_at_{point.target:g}"
                        row[key] = share.value
                        row[f"{key}_lower"], row[f"{key}_upper"] = share.interval or (None, None)
                yield row


def _cells(value: SubgroupValue, result: ClassResult) -> tuple[str, ...]:
    found = [point for point in result.operating_points if point.target == TARGET]
    shares = [
        with_interval(share.value, share.interval) if share.trials else ""
        for point in found
        for share in (point.sensitivity, point.specificity)
    ]
    return (
        value.value,
        result.name,
        _count(result.positives),
        _count(result.negatives),
        with_interval(result.auroc, result.interval),
        "" if result.bootstrap is None else interval_text(result.bootstrap),
        *(shares or ["", ""]),
    )


def _count(cases: int) -> str:
    return f"{cases} (few)" if 0 < cases < FEW else str(cases)


def _missing(subgroup: SubgroupResult, evaluation: Evaluation, noun: str) -> str:
    if not subgroup.missing:
        return ""
    return f" ({MISSING} for {subgroup.missing} of {plural(evaluation.images, noun)})"
