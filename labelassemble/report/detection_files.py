"""A detection as files of the run's folder: lesions.csv, a row a lesion, and detection.csv, a row a figure."""

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import numpy as np

from labelassemble._files import write_text
from labelassemble.data.table import Table
from labelassemble.detection_options import PER_CASE
from labelassemble.evaluation.detection import DetectedClass, Detection, LesionTable
from labelassemble.evaluation.lesions import KINDS, LesionKind
from labelassemble.evaluation.proportion import Interval
from labelassemble.evaluation.results import ClassResult

LESIONS_FILE: Final = "lesions.csv"
DETECTION_FILE: Final = "detection.csv"

LESION_COLUMNS: Final = (
    "case",  # path of the volume or slice
    "patient",
    "source",
    "split",
    "class",
    "kind",  # found, missed, false alarm, repeated
    "score",  # highest probability of the predicted lesion; empty where missed
    "voxels",  # of the drawn lesion; of the predicted one where none is drawn
    "ml",  # its volume; empty where it is not known
    "overlap",  # intersection over union of a found lesion and its match; else empty
    "centre",  # of its bounding box, in voxels from 0
)
FIGURE_COLUMNS: Final = (
    "split",
    "class",
    "source",  # empty: all of them
    "of",  # patients, lesions, voxels
    "figure",
    "value",
    "lower",  # 95% interval: DeLong's (auroc), Wilson's (sensitivity, specificity), else by patient bootstrap
    "upper",
    "successes",  # of a share
    "trials",
)


def write_lesions(table: Table, lesions: LesionTable, folder: Path) -> None:
    """Write lesions.csv.

    Args:
        table: a row a case.
        lesions: of these cases.
        folder: the run's.

    Raises:
        LabelAssembleError: the file cannot be written.
    """
    rows = table.select(lesions.cases)
    missed = lesions.kinds == LesionKind.MISSED
    found = lesions.kinds == LesionKind.FOUND
    columns = [
        rows.paths.tolist(),
        rows.groups.tolist(),
        rows.sources.tolist(),
        rows.splits.tolist(),
        [table.classes[column] for column in lesions.columns.tolist()],
        [KINDS[LesionKind(kind)] for kind in lesions.kinds.tolist()],
        _cells(np.where(missed, np.nan, lesions.scores)),
        [str(voxels) for voxels in lesions.voxels.tolist()],
        _cells(lesions.ml),
        _cells(np.where(found, lesions.overlaps, np.nan)),
        lesions.centres.tolist(),
    ]
    write_text(folder / LESIONS_FILE, _csv(LESION_COLUMNS, zip(*columns, strict=True)))


def write_detection(detection: Detection, folder: Path) -> None:
    """Write detection.csv: every figure over all sources, then those of each source.

    Raises:
        LabelAssembleError: the file cannot be written.
    """
    evaluation = detection.evaluation
    rows = [
        (evaluation.split, *row)
        for result in (*evaluation.classes, *(evaluation.by_source if len(evaluation.sources) > 1 else ()))
        for row in _patient_rows(result)
    ]
    rows += [
        (evaluation.split, *row)
        for detected in (*detection.classes, *detection.by_source)
        for row in _lesion_rows(detected)
    ]
    write_text(folder / DETECTION_FILE, _csv(FIGURE_COLUMNS, rows))


def _patient_rows(result: ClassResult) -> Iterator[tuple[str, ...]]:
    head = result.name, result.source or "", "patients"
    counts = str(result.positives), str(result.known)
    yield *head, "positives", _cell(float(result.positives)), "", "", *counts
    yield *head, "auroc", *_with(result.auroc, result.interval), "", ""
    if result.source is None:
        yield *head, "auroc_by_bootstrap", *_with(result.auroc, result.bootstrap), "", ""
    yield *head, "average_precision", *_with(result.average_precision, None), "", ""
    for target, point, _ in result.by_specificity:
        if point is None:
            for name in ("threshold", "sensitivity", "specificity"):
                yield *head, f"{name}@{target:g}", "", "", "", "", ""
            continue
        yield *head, f"threshold@{point.target:g}", f"{point.threshold:.9g}", "", "", "", ""
        for name, share in (("sensitivity", point.sensitivity), ("specificity", point.specificity)):
            both = str(share.successes), str(share.trials)
            yield *head, f"{name}@{point.target:g}", *_with(share.value, share.interval), *both


def _lesion_rows(result: DetectedClass) -> Iterator[tuple[str, ...]]:
    head, figures = (result.name, result.source or ""), result.figures
    for of, name, estimate in (
        ("voxels", "dice", figures.dice),
        ("voxels", "surface_dice", figures.surface),
        ("lesions", "hit_rate", figures.hit_rate),
        ("lesions", "false_alarms_per_case", figures.alarms_per_case),
        ("lesions", "average_precision", figures.average_precision),
        *(
            ("lesions", f"found@{rate:g}", estimate)
            for rate, estimate in zip(PER_CASE, figures.froc, strict=True)
        ),
    ):
        counts = ("", "")
        if name == "hit_rate":
            counts = str(result.found), str(result.lesions)
        elif name == "false_alarms_per_case":
            counts = str(result.alarms), str(result.cases)
        elif of == "voxels":
            counts = "", str(result.drawn)
        yield *head, of, name, *_with(estimate.value, estimate.interval), *counts
    yield *head, "lesions", "repeated", str(result.repeated), "", "", "", ""


def _with(value: float | None, interval: Interval | None) -> tuple[str, str, str]:
    if value is None:
        return "", "", ""
    low, high = ("", "") if interval is None else (_cell(interval.lower), _cell(interval.upper))
    return _cell(value), low, high


def _cells(values: np.ndarray) -> list[str]:
    return ["" if value != value else _cell(value) for value in values.tolist()]


def _cell(value: float) -> str:
    return f"{value:.9g}"


def _csv(header: Sequence[str], rows: "Iterator[tuple[str, ...]] | Sequence[tuple[str, ...]]") -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return buffer.getvalue()
