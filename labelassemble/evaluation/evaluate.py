"""Evaluation of a model's predictions: what it reaches per class and per source, and how sure that is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

from labelassemble.data.predictions import Predictions
from labelassemble.data.states import UNCERTAIN, UNKNOWN
from labelassemble.data.text import text_codes
from labelassemble.errors import LabelAssembleError
from labelassemble.evaluation.bootstrap import Ranking, auroc_replicates, patient_indices, percentile_interval
from labelassemble.evaluation.calibration import Calibration, ClassCalibration, calibrate
from labelassemble.evaluation.metrics import at_threshold, auroc_of, average_precision_of
from labelassemble.evaluation.reliability import reliability_of
from labelassemble.evaluation.results import (
    DECISION,
    POOLED,
    ClassResult,
    Evaluation,
    MeanResult,
    OverallResult,
)
from labelassemble.evaluation.statistics import Interval, Proportion, delong


def evaluate(
    predictions: Predictions,
    split: str = "test",
    *,
    calibration: Calibration | None = None,
    bootstrap: int = 1000,
    seed: int = 0,
) -> Evaluation:
    """Return the evaluation of one split.

    Unknown, uncertain and assumed labels are never counted. Thresholds for sensitivity and temperatures are chosen on
    the validation split and then applied to `split`, so the images that they are measured on had no part in them
    (with split="val" they had, which flatters). AUROC has DeLong's interval with several images of a patient summed
    (Obuchowski 1997) and the percentile interval of the bootstrap by patient.

    Args:
        predictions: of a model, for several splits.
        split: which one to evaluate: "train", "val" or "test".
        calibration: thresholds and temperatures of the run; default: chosen on the predictions' own validation split.
        bootstrap: replicates; 0 leaves the bootstrap out.
        seed: of the bootstrap.

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
    columns = _columns(rows, calibration, patients)
    results: list[ClassResult] = []
    by_source: list[ClassResult] = []
    for column in columns:
        choice = calibration.of(column.name)
        source_auroc = _source_auroc(column.targets, source_codes)
        results.append(replace(column.result(choice), source_auroc=source_auroc))
        for source, inside in of_source.items():
            if not np.isnan(column.targets[inside]).all():
                by_source.append(replace(column.select(inside).result(choice), source=source))
    mean_interval = None
    if bootstrap:
        results, mean_interval = _with_bootstrap(columns, results, replicates=bootstrap, seed=seed)
    mean = _mean(results, mean_interval)
    scaled = any(result.temperature is not None for result in results)
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
    )


@dataclass(frozen=True, slots=True)
class _Column:
    """One class on some images, each array [N]."""

    name: str
    labels: NDArray[np.int8]
    assumed: NDArray[np.bool_]
    targets: NDArray[np.float64]
    probabilities: NDArray[np.float64]
    calibrated: NDArray[np.float64]
    patients: NDArray[np.intp]

    def select(self, inside: NDArray[np.bool_]) -> "_Column":
        return _Column(self.name, *(getattr(self, name)[inside] for name in _ARRAYS))

    def ranking(self) -> Ranking:
        positive, negative = self.targets == 1, self.targets == 0
        return Ranking(
            self.probabilities[positive],
            self.probabilities[negative],
            self.patients[positive],
            self.patients[negative],
        )

    def pooled(self, *, scaled: bool) -> ClassResult:
        """Return the result of cases of all classes; without thresholds, since a class has its own."""
        found = self.result(ClassCalibration())
        after = self.calibrated[self.targets == 1], self.calibrated[self.targets == 0]
        return replace(found, calibrated=reliability_of(*after) if scaled else None)

    def result(self, choice: ClassCalibration) -> ClassResult:
        """Return the result over all sources; the bootstrap and what the source alone reaches are left out."""
        positive, negative = self.targets == 1, self.targets == 0
        ranking = self.ranking()
        positives, negatives = ranking.positives, ranking.negatives
        area = delong(
            positives,
            negatives,
            positive_groups=ranking.positive_patients,
            negative_groups=ranking.negative_patients,
        )
        right = np.count_nonzero(positives >= DECISION) + np.count_nonzero(negatives < DECISION)
        return ClassResult(
            name=self.name,
            source=None,
            positives=len(positives),
            negatives=len(negatives),
            unknown=int(np.count_nonzero(self.labels == UNKNOWN)),
            uncertain=int(np.count_nonzero(self.labels == UNCERTAIN)),
            assumed=int(np.count_nonzero(self.assumed)),
            patients=int(np.count_nonzero(np.bincount(self.patients[positive | negative]))),
            auroc=None if area is None else area.auroc,
            interval=None if area is None else area.interval,
            bootstrap=None,
            average_precision=average_precision_of(positives, negatives),
            operating_points=tuple(
                at_threshold(positives, negatives, threshold, target=target)
                for target, threshold in choice.by_specificity
            ),
            threshold_negatives=choice.negatives,
            accuracy=Proportion(int(right), len(positives) + len(negatives)),
            calibration=reliability_of(positives, negatives),
            calibrated=None
            if choice.temperature is None
            else reliability_of(self.calibrated[positive], self.calibrated[negative]),
            temperature=choice.temperature,
            no_temperature=choice.no_temperature,
            source_auroc=None,
        )


_ARRAYS = tuple(item.name for item in fields(_Column))[1:]


def _columns(rows: Predictions, calibration: Calibration, patients: NDArray[np.intp]) -> list[_Column]:
    """Return the classes of the split's images."""
    targets, calibrated = rows.given_targets(), calibration.apply(rows.probabilities, rows.classes)
    return [
        _Column(
            name=name,
            labels=rows.labels[:, index],
            assumed=rows.assumed[:, index],
            targets=targets[:, index],
            probabilities=rows.probabilities[:, index],
            calibrated=calibrated[:, index],
            patients=patients,
        )
        for index, name in enumerate(rows.classes)
    ]


def _overall(
    columns: Sequence[_Column],
    by_source: Sequence[ClassResult],
    of_source: Mapping[str, NDArray[np.bool_]],
    mean: MeanResult,
    *,
    scaled: bool,
) -> tuple[OverallResult, ...]:
    """Return the results of all classes together, over all sources and over each."""
    pool = _Column(POOLED, *(np.concatenate([getattr(c, name) for c in columns]) for name in _ARRAYS))
    overall = [OverallResult(None, mean, pool.pooled(scaled=scaled))]
    for source, inside in of_source.items():
        pooled = pool.select(np.tile(inside, len(columns))).pooled(scaled=scaled)
        within = [result for result in by_source if result.source == source]
        overall.append(OverallResult(source, _mean(within, None), replace(pooled, source=source)))
    return tuple(overall)


def _with_bootstrap(
    columns: Sequence[_Column], results: Sequence[ClassResult], *, replicates: int, seed: int
) -> tuple[list[ClassResult], Interval | None]:
    """Return the results with their intervals by patient, and that of their mean: the same patients for all classes."""
    rankings = [column.ranking() for column in columns]
    patients = int(columns[0].patients.max()) + 1
    areas = auroc_replicates(rankings, patients, replicates=replicates, seed=seed)
    defined = [index for index, result in enumerate(results) if result.auroc is not None]
    if not defined:
        return list(results), None
    pairs = zip(results, areas, strict=True)
    found = [replace(result, bootstrap=percentile_interval(area)) for result, area in pairs]
    return found, percentile_interval(areas[defined].mean(axis=0))


def _mean(results: Sequence[ClassResult], interval: Interval | None) -> MeanResult:
    aurocs = {result.name: result.auroc for result in results if result.auroc is not None}
    return MeanResult(tuple(aurocs), float(np.mean(list(aurocs.values()))) if aurocs else None, interval)


def _source_auroc(targets: NDArray[np.float64], sources: NDArray[np.int64]) -> float | None:
    """Return the AUROC [0.5, 1] of scoring every image by the share of positives in its source, None for one source."""
    known = ~np.isnan(targets)
    codes, states = sources[known], targets[known]
    if len(np.unique(codes)) < 2:
        return None
    images = np.bincount(codes)
    rates = np.bincount(codes, states) / np.maximum(images, 1)
    scores = rates[codes]
    return auroc_of(scores[states == 1], scores[states == 0])
