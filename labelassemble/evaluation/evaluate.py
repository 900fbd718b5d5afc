"""Evaluation of a model's predictions: what it reaches per class and per source, and how sure that is."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from labelassemble.data.predictions import Predictions
from labelassemble.data.subgroup_options import AGE_BANDS
from labelassemble.data.text import text_codes
from labelassemble.errors import LabelAssembleError
from labelassemble.evaluation.bootstrap import (
    auroc_interval_of,
    auroc_replicates,
    mean_interval_of,
    patient_indices,
)
from labelassemble.evaluation.calibration import Calibration, calibrate
from labelassemble.evaluation.class_column import ARRAYS, ClassColumn, class_columns
from labelassemble.evaluation.headline import source_auroc, stratified_auroc
from labelassemble.evaluation.leakage import Leakage
from labelassemble.evaluation.proportion import Interval
from labelassemble.evaluation.results import (
    POOLED,
    ClassResult,
    Evaluation,
    MeanResult,
    OverallResult,
    Unreadable,
)
from labelassemble.evaluation.subgroups import evaluate_subgroups


def evaluate(
    predictions: Predictions,
    split: str = "test",
    *,
    calibration: Calibration | None = None,
    bootstrap: int = 1000,
    seed: int = 0,
    age_bands: Sequence[float] = AGE_BANDS,
    leakage: Leakage | None = None,
    unreadable: Sequence[Unreadable] = (),
) -> Evaluation:
    """Return the evaluation of one split.

    Unknown, uncertain and assumed labels are never counted. Thresholds for sensitivity and calibration are chosen on
    the validation split and then applied to `split`, so the images that they are measured on had no part in them
    (with split="val" they had, which flatters). AUROC has DeLong's interval with several images of a patient summed
    (Obuchowski 1997) and that of the bootstrap by patient. Each subgroup that the predictions carry
    is evaluated in the same way.

    Args:
        predictions: of a model, for several splits.
        split: which one to evaluate: "train", "val" or "test".
        calibration: corrections and thresholds of the run; default: chosen on the predictions' own validation split.
        bootstrap: replicates; 0 leaves the bootstrap out.
        seed: of the bootstrap.
        age_bands: ages in years, rising, at which a band begins, where the predictions carry ages.
        leakage: how well the model's features tell the sources apart, which decides on the figures that stand first.
        unreadable: images without a prediction, to be counted and, of the split, named.

    Raises:
        LabelAssembleError: another split, or one without images.
    """
    if bootstrap < 0:
        raise LabelAssembleError(f"bootstrap must be 0 or more replicates, got {bootstrap}")
    rows = predictions.subset_by_split(split)
    if not len(rows):
        held = ", ".join(sorted(set(predictions.splits.tolist()))) or "none"
        raise LabelAssembleError(f"the predictions hold no images of the split '{split}', only of: {held}")
    calibration = calibrate(predictions) if calibration is None else calibration
    patients = patient_indices(rows.groups, len(rows))
    sources, source_codes = text_codes(rows.sources)
    of_source = {str(source): source_codes == code for code, source in enumerate(sources)}
    columns = class_columns(rows, calibration, patients)
    results: list[ClassResult] = []
    by_source: list[ClassResult] = []
    for column in columns:
        choice = calibration.of(column.name)
        result = replace(
            column.result(choice),
            source_auroc=source_auroc(column.targets, source_codes),
            stratified=stratified_auroc(column.targets, column.probabilities, source_codes, patients),
        )
        results.append(result)
        for source, inside in of_source.items():
            if not np.isnan(column.targets[inside]).all():
                by_source.append(replace(column.select(inside).result(choice), source=source))
    mean_interval = None
    if bootstrap:
        results, mean_interval = _with_bootstrap(columns, results, replicates=bootstrap, seed=seed)
    mean = _mean(results, mean_interval)
    scaled = any(bool(result.correction) for result in results)
    return Evaluation(
        split=split,
        threshold_split=calibration.split if calibration.images else None,
        images=len(rows),
        patients=int(patients.max()) + 1,
        sources=tuple(of_source),
        classes=tuple(results),
        by_source=tuple(by_source),
        mean=mean,
        overall=_overall(columns, by_source, of_source, mean, scaled=scaled),
        replicates=bootstrap,
        seed=seed,
        subgroups=evaluate_subgroups(
            rows, columns, calibration, age_bands=age_bands, replicates=bootstrap, seed=seed
        ),
        leakage=leakage,
        unreadable=tuple(image for image in unreadable if image.split == split),
        unreadable_elsewhere=sum(image.split != split for image in unreadable),
    )


def _overall(
    columns: Sequence[ClassColumn],
    by_source: Sequence[ClassResult],
    of_source: Mapping[str, NDArray[np.bool_]],
    mean: MeanResult,
    *,
    scaled: bool,
) -> tuple[OverallResult, ...]:
    """Return the results of all classes together, over all sources and over each."""
    pool = ClassColumn(POOLED, *(np.concatenate([getattr(c, name) for c in columns]) for name in ARRAYS))
    overall = [OverallResult(None, mean, pool.pooled(scaled=scaled))]
    for source, inside in of_source.items():
        pooled = pool.select(np.tile(inside, len(columns))).pooled(scaled=scaled)
        within = [result for result in by_source if result.source == source]
        overall.append(OverallResult(source, _mean(within, None), replace(pooled, source=source)))
    return tuple(overall)


def _with_bootstrap(
    columns: Sequence[ClassColumn], results: Sequence[ClassResult], *, replicates: int, seed: int
) -> tuple[list[ClassResult], Interval | None]:
    """Return the results with their intervals by patient, and that of their mean: the same patients for all classes."""
    rankings = [column.ranking() for column in columns]
    patients = int(columns[0].patients.max()) + 1
    areas = auroc_replicates(rankings, patients, replicates=replicates, seed=seed)
    defined = [index for index, result in enumerate(results) if result.auroc is not None]
    if not defined:
        return list(results), None
    found = [
        replace(result, bootstrap=auroc_interval_of(ranking, area))
        for result, ranking, area in zip(results, rankings, areas, strict=True)
    ]
    return found, mean_interval_of([rankings[index] for index in defined], areas[defined])


def _mean(results: Sequence[ClassResult], interval: Interval | None) -> MeanResult:
    aurocs = {result.name: result.auroc for result in results if result.auroc is not None}
    return MeanResult(tuple(aurocs), float(np.mean(list(aurocs.values()))) if aurocs else None, interval)
