"""Evaluation of a detection: its patients as `Predictions`, and what it reaches on lesions and voxels.

A class is counted in a case only as far as the case's source draws or states it: drawn, it is known in every voxel;
stated to be absent, every voxel is negative; stated to be present but not drawn, the patient counts and no voxel does.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from labelassemble.data.duplicates import merge_labels
from labelassemble.data.predictions import Predictions
from labelassemble.data.states import NEGATIVE, POSITIVE, UNCERTAIN, UNKNOWN
from labelassemble.data.subgroup_options import AGE_BANDS
from labelassemble.data.table import Table
from labelassemble.data.text import text_array
from labelassemble.detection_options import DetectionOptions
from labelassemble.errors import LabelAssembleError
from labelassemble.evaluation.bootstrap import patient_indices
from labelassemble.evaluation.calibration import Calibration, calibrate
from labelassemble.evaluation.detection_case import CaseRecord
from labelassemble.evaluation.evaluate import evaluate
from labelassemble.evaluation.leakage import Leakage
from labelassemble.evaluation.lesion_figures import (
    LesionCurve,
    LesionFigures,
    LesionSums,
    lesion_curve,
    lesion_figures,
)
from labelassemble.evaluation.lesions import LesionKind
from labelassemble.evaluation.results import Evaluation, Unreadable


@dataclass(frozen=True)
class LesionTable:
    """The lesions of many cases, a row each.

    Attributes:
        cases: row of the table, [L].
        columns: of the classes, [L].
        kinds: `LesionKind` codes, [L].
        scores: 0 where missed, [L].
        voxels: [L].
        overlaps: intersection over union of a found lesion and its match, [L].
        centres: a text such as "12 40 7" of each, [L].
        ml: volume, NaN where it is not known, [L].
    """

    cases: NDArray[np.intp]
    columns: NDArray[np.intp]
    kinds: NDArray[np.int8]
    scores: NDArray[np.float64]
    voxels: NDArray[np.int64]
    overlaps: NDArray[np.float64]
    centres: NDArray[np.object_]
    ml: NDArray[np.float64]

    def select(self, rows: NDArray[np.bool_]) -> "LesionTable":
        """Return the lesions chosen by a mask [L]."""
        return LesionTable(*(getattr(self, name)[rows] for name in self.__dataclass_fields__))


@dataclass(frozen=True)
class DetectedClass:
    """What is reached on the lesions of one class, over all sources or over one.

    Attributes:
        name: of the class.
        source: None: all of them.
        cases: whose voxels are known for the class.
        patients: of these cases.
        drawn: cases in which it is drawn.
        patients_drawn: patients of these cases.
        unknown: cases left out, since nobody said where the class is or that it is absent.
        lesions: drawn.
        found: of these.
        alarms: predicted lesions that overlap none.
        repeated: predicted on a lesion that another predicted lesion finds; neither hit nor false alarm.
        figures: with intervals by patient.
        sums: what they are made of, by patient: the distinct names in their order.
        curve: FROC and precision; None where no lesion is drawn.
        sizes: of the drawn lesions: in ml where every one is known, else in voxels, [lesions].
        sizes_found: which of them are found, bool [lesions].
        unit: "ml" or "voxels".
    """

    name: str
    source: str | None
    cases: int
    patients: int
    drawn: int
    patients_drawn: int
    unknown: int
    lesions: int
    found: int
    alarms: int
    repeated: int
    figures: LesionFigures
    sums: LesionSums
    curve: LesionCurve | None
    sizes: NDArray[np.float64]
    sizes_found: NDArray[np.bool_]
    unit: str


@dataclass(frozen=True)
class Detection:
    """The evaluation of a detection on one split.

    Attributes:
        options: what a found lesion is, and what a patient's score is.
        cases: of the split.
        evaluation: of its patients; what it calls images are patients.
        classes: lesions and voxels over all sources, in the order of the table's classes.
        by_source: likewise of each source, where there are several.
    """

    options: DetectionOptions
    cases: int
    evaluation: Evaluation
    classes: tuple[DetectedClass, ...]
    by_source: tuple[DetectedClass, ...]

    def of(self, name: str) -> DetectedClass:
        """Return the result of a class over all sources."""
        return next(result for result in self.classes if result.name == name)


def patients_of(table: Table, records: Sequence[CaseRecord], options: DetectionOptions) -> Predictions:
    """Return the patients of a detection with their scores, in order of first appearance.

    A patient is POSITIVE where one case is, NEGATIVE where all are; what is assumed stays marked as such. The path is
    the patient's name, so that two runs on the same patients are compared by it; a case without a patient's name is one
    of its own. Rows of one path, each with a mask of its own, are one image.

    Args:
        table: a row a case, [N]; what is not said by somebody is not counted.
        records: of the same cases, [N].
        options: how slices make up a patient's score.
    """
    if len(records) != len(table):
        raise LabelAssembleError(f"there must be a record per case ({len(table)}), got {len(records)}")
    code, count = _patient_codes(table)
    again = np.asarray(pd.Series(table.paths.tolist(), dtype=object).duplicated())
    if again.any():
        image, _ = pd.factorize(pd.Series(table.paths.tolist(), dtype=object))
        merged = merge_labels(image, table.labels, table.origins)
        table = replace(table, labels=merged.labels[image], origins=merged.origins[image])
        records = [
            replace(one, slices=0, sums=0 * one.sums) if twice else one
            for one, twice in zip(records, again, strict=True)
        ]
    first = np.zeros(count, np.intp)
    first[code[::-1]] = np.arange(len(table))[::-1]
    labels, origins = _patient_labels(table, code, count)
    rows = table.select(first)
    names = [group or path for group, path in zip(rows.groups.tolist(), rows.paths.tolist(), strict=True)]
    return Predictions(
        classes=table.classes,
        paths=text_array(names),
        names=rows.names,
        groups=rows.groups,
        splits=rows.splits,
        sources=rows.sources,
        labels=labels,
        origins=origins,
        subgroups=rows.subgroups,
        probabilities=_patient_scores(records, code, count, len(table.classes), options),
    )


def _patient_codes(table: Table) -> tuple[NDArray[np.intp], int]:
    """Return the number of each case's patient, [N], in order of first appearance, and how many there are."""
    splits, groups = table.splits.tolist(), table.groups.tolist()
    named = [group or f"::{path}" for group, path in zip(groups, table.paths.tolist(), strict=True)]
    code, _ = pd.factorize(pd.MultiIndex.from_arrays([named, splits]))
    return code, int(code.max(initial=-1)) + 1


def patient_means(table: Table, values: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the means over the cases of each patient, [patients, D], in the order of `patients_of`.

    Args:
        table: a row a case, [N].
        values: of the same cases, [N, D].
    """
    code, count = _patient_codes(table)
    sums = np.zeros((count, values.shape[1]))
    np.add.at(sums, code, values)
    return sums / np.bincount(code, minlength=count)[:, None]


def _patient_labels(
    table: Table, code: NDArray[np.intp], count: int
) -> tuple[NDArray[np.int8], NDArray[np.uint8]]:
    """Return labels and origins of the patients, each [count, C]."""

    def some(which: NDArray[np.bool_]) -> NDArray[np.bool_]:
        found = np.zeros((count, which.shape[1]), np.bool_)
        np.logical_or.at(found, code, which)
        return found

    positive, negative = table.labels == POSITIVE, table.labels == NEGATIVE
    given = some(positive & table.given)
    is_positive, is_negative = some(positive), ~some(~negative)
    labels = np.where(some(table.labels == UNCERTAIN), np.int8(UNCERTAIN), np.int8(UNKNOWN))
    labels[is_negative], labels[is_positive] = NEGATIVE, POSITIVE
    origins = np.zeros((count, table.labels.shape[1]), np.uint8)
    np.maximum.at(origins, code, table.origins)
    # One case that somebody calls positive is enough; a negative patient needs all of them.
    origins[given | ~(is_positive | is_negative)] = 0
    assumed = np.zeros_like(origins)
    np.maximum.at(assumed, code, np.where(positive, table.origins, 0).astype(np.uint8))
    return labels.astype(np.int8), np.where(is_positive & ~given, assumed, origins).astype(np.uint8)


def _patient_scores(
    records: Sequence[CaseRecord], code: NDArray[np.intp], count: int, classes: int, options: DetectionOptions
) -> NDArray[np.float64]:
    """Return the patients' scores, [count, C]."""
    found = np.zeros((count, classes))
    if not records:
        return found
    if options.patient_score == "maximum":
        np.maximum.at(found, code, np.stack([record.peaks for record in records]))
        return found
    np.add.at(found, code, np.stack([record.sums for record in records]))
    slices = np.bincount(code, [record.slices for record in records], count)
    return np.minimum(found / slices[:, None], 1.0)  # a mean of numbers up to 1 may end a rounding above it


def lesion_table(records: Sequence[CaseRecord]) -> LesionTable:
    """Return the lesions of the cases whose voxels are known, case by case and class by class."""
    found = [
        (row, column, one.lesions, record.voxel_ml)
        for row, record in enumerate(records)
        for column, one in enumerate(record.classes)
        if one is not None and len(one.lesions)
    ]
    counts = [len(lesions) for _, _, lesions, _ in found]
    ml = np.repeat(np.array([np.nan if ml is None else ml for *_, ml in found], np.float64), counts)
    parts = [lesions for _, _, lesions, _ in found]
    voxels = np.concatenate([np.zeros(0, np.int64), *(part.voxels for part in parts)])
    centres = [" ".join(map(str, row)) for part in parts for row in part.centres.tolist()]
    return LesionTable(
        cases=np.repeat(np.array([row for row, *_ in found], np.intp), counts),
        columns=np.repeat(np.array([column for _, column, *_ in found], np.intp), counts),
        kinds=np.concatenate([np.zeros(0, np.int8), *(part.kinds for part in parts)]),
        scores=np.concatenate([np.zeros(0), *(part.scores for part in parts)]),
        voxels=voxels,
        overlaps=np.concatenate([np.zeros(0), *(part.overlaps for part in parts)]),
        centres=np.array(centres, dtype=object),
        ml=voxels * ml,
    )


def evaluate_detection(
    table: Table,
    records: Sequence[CaseRecord],
    options: DetectionOptions,
    *,
    split: str = "test",
    calibration: Calibration | None = None,
    bootstrap: int = 1000,
    seed: int = 0,
    age_bands: Sequence[float] = AGE_BANDS,
    leakage: Leakage | None = None,
    unreadable: Sequence[Unreadable] = (),
) -> Detection:
    """Return the evaluation of one split's cases.

    Args:
        table: a row a case, [N], with those of the validation split: thresholds of patients are chosen on them.
        records: of the same cases, [N], by the same options.
        options: what a found lesion is, and what a patient's score is.
        split: which one to evaluate.
        calibration: thresholds in use; default: chosen on the validation split.
        bootstrap: replicates by patient; 0 leaves them out.
        seed: of the bootstrap.
        age_bands: ages in years, rising, at which a band begins, where the table carries ages.
        leakage: how well the network's features tell sources of patients apart.
        unreadable: cases without a prediction.

    Raises:
        LabelAssembleError: another split, or one without cases.
    """
    patients = patients_of(table, records, options)
    evaluation = evaluate(
        patients,
        split,
        calibration=calibrate(patients, correct=False) if calibration is None else calibration,
        bootstrap=bootstrap,
        seed=seed,
        age_bands=age_bands,
        leakage=leakage,
        unreadable=unreadable,
    )
    inside = np.flatnonzero(table.splits == split)
    rows, own = table.select(inside), [records[row] for row in inside.tolist()]
    lesions = lesion_table(own)
    codes, everything = patient_indices(rows.groups, len(rows)), np.ones(len(rows), np.bool_)
    parts: list[tuple[str | None, NDArray[np.bool_]]] = [(None, everything)]
    if len(evaluation.sources) > 1:
        parts += [(source, np.asarray(rows.sources == source)) for source in evaluation.sources]
    found = [
        _detected(name, column, source, chosen, own, lesions, codes, replicates=bootstrap, seed=seed)
        for source, chosen in parts
        for column, name in enumerate(rows.classes)
    ]
    return Detection(
        options,
        len(rows),
        evaluation,
        tuple(result for result in found if result.source is None),
        tuple(result for result in found if result.source is not None and result.cases),
    )


def _detected(
    name: str,
    column: int,
    source: str | None,
    chosen: NDArray[np.bool_],
    records: Sequence[CaseRecord],
    lesions: LesionTable,
    codes: NDArray[np.intp],
    *,
    replicates: int,
    seed: int,
) -> DetectedClass:
    """Return the result of one class on the chosen cases."""
    known = np.array([record.classes[column] is not None for record in records], np.bool_) & chosen
    own = lesions.select((lesions.columns == column) & chosen[lesions.cases])
    drawn = own.kinds <= LesionKind.MISSED
    sums, with_lesion = _sums(column, known, records, own, codes)
    in_ml = not np.isnan(own.ml[drawn]).any()
    return DetectedClass(
        name=name,
        source=source,
        cases=int(known.sum()),
        patients=len(np.unique(codes[known])),
        drawn=with_lesion,
        patients_drawn=int(np.count_nonzero(sums.drawn)),
        unknown=int((chosen & ~known).sum()),
        lesions=int(drawn.sum()),
        found=int((own.kinds == LesionKind.FOUND).sum()),
        alarms=int((own.kinds == LesionKind.FALSE_ALARM).sum()),
        repeated=int((own.kinds == LesionKind.REPEATED).sum()),
        figures=lesion_figures(sums, replicates=replicates, seed=seed),
        sums=sums,
        curve=lesion_curve(sums),
        sizes=own.ml[drawn] if in_ml else own.voxels[drawn].astype(np.float64),
        sizes_found=own.kinds[drawn] == LesionKind.FOUND,
        unit="ml" if in_ml else "voxels",
    )


def _sums(
    column: int,
    known: NDArray[np.bool_],
    records: Sequence[CaseRecord],
    lesions: LesionTable,
    codes: NDArray[np.intp],
) -> tuple[LesionSums, int]:
    """Return the sums by patient of one class, and in how many cases it is drawn."""
    patients = int(codes.max()) + 1
    rows = np.flatnonzero(known)
    of_cases = [records[row].classes[column] for row in rows.tolist()]
    dice = np.array([np.nan if of is None or of.dice is None else of.dice for of in of_cases], np.float64)
    surface = np.array(
        [np.nan if of is None or of.surface is None else of.surface for of in of_cases], np.float64
    )
    drawn = ~np.isnan(dice)
    whose = codes[lesions.cases]

    def count(of: NDArray[np.intp], weights: NDArray[np.floating] | None = None) -> NDArray[np.float64]:
        return np.bincount(of, weights, patients).astype(np.float64)

    predicted = (lesions.kinds == LesionKind.FOUND) | (lesions.kinds == LesionKind.FALSE_ALARM)
    order = np.flatnonzero(predicted)[np.argsort(-lesions.scores[predicted], kind="stable")]
    return LesionSums(
        cases=count(codes[rows]),
        lesions=count(whose[lesions.kinds <= LesionKind.MISSED]),
        found=count(whose[lesions.kinds == LesionKind.FOUND]),
        alarms=count(whose[lesions.kinds == LesionKind.FALSE_ALARM]),
        dice=count(codes[rows][drawn], dice[drawn]),
        surface=count(codes[rows][drawn], surface[drawn]),
        drawn=count(codes[rows][drawn]),
        scores=lesions.scores[order],
        hits=lesions.kinds[order] == LesionKind.FOUND,
        patients=whose[order],
    ), int(drawn.sum())
