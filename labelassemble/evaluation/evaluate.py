"""Evaluation of a model's predictions: what it reaches per class and per source, and how sure that is."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

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
from labelassemble.evaluation.statistics import Proportion, delong


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
    the validation split and then applied to `split`, so they have not seen the images that they are measured on
    (with split="val" they have, and flatter). AUROC has DeLong's interval with several images of a patient summed
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
    targets = rows.given_targets()
    calibrated = calibration.apply(rows.probabilities, predictions.classes)
    patients = patient_indices(rows.groups, len(rows))
    sources, source_codes = text_codes(rows.sources)

    everything = np.ones(len(rows), np.bool_)
    results: list[ClassResult] = []
    by_source: list[ClassResult] = []
    rankings: list[Ranking] = []
    for column, name in enumerate(predictions.classes):
        choice = calibration.of(name)
        of_class = _Column(
            name=name,
            labels=rows.labels[:, column],
            assumed=rows.assumed[:, column],
            targets=targets[:, column],
            probabilities=rows.probabilities[:, column],
            calibrated=calibrated[:, column],
            patients=patients,
        )
        whole = of_class.result(everything, None, choice)
        results.append(replace(whole, source_auroc=_source_auroc(targets[:, column], source_codes)))
        rankings.append(of_class.ranking())
        for code, source in enumerate(sources):
            inside = source_codes == code
            if not np.isnan(targets[inside, column]).all():
                by_source.append(of_class.result(inside, str(source), choice))

    defined = [index for index, result in enumerate(results) if result.auroc is not None]
    mean_interval = None
    if bootstrap and defined:
        areas = auroc_replicates(rankings, int(patients.max()) + 1, replicates=bootstrap, seed=seed)
        results = [
            replace(result, bootstrap=percentile_interval(area))
            for result, area in zip(results, areas, strict=True)
        ]
        mean_interval = percentile_interval(areas[defined].mean(axis=0))
    pool = _Column(
        name=POOLED,
        labels=rows.labels.ravel(),
        assumed=rows.assumed.ravel(),
        targets=targets.ravel(),
        probabilities=rows.probabilities.ravel(),
        calibrated=calibrated.ravel(),
        patients=np.repeat(patients, len(predictions.classes)),
    )
    mean = MeanResult(
        tuple(results[index].name for index in defined),
        _mean_of(results),
        mean_interval,
    )
    scaled = any(calibration.of(name).temperature is not None for name in predictions.classes)
    overall = [OverallResult(None, mean, pool.pooled(None, None, scaled=scaled))]
    for code, source in enumerate(sources):
        within = [result for result in by_source if result.source == source and result.auroc is not None]
        of_source = MeanResult(tuple(result.name for result in within), _mean_of(within), None)
        inside = np.repeat(source_codes == code, len(predictions.classes))
        pooled = pool.pooled(inside, str(source), scaled=scaled)
        overall.append(OverallResult(str(source), of_source, pooled))
    return Evaluation(
        split=split,
        threshold_split=calibration.split if calibration.images else None,
        images=len(rows),
        patients=int(patients.max()) + 1,
        sources=tuple(str(source) for source in sources),
        classes=tuple(results),
        by_source=tuple(by_source),
        mean=mean,
        overall=tuple(overall),
        replicates=bootstrap,
        seed=seed,
    )


@dataclass(frozen=True, slots=True)
class _Column:
    """One class on the images of the split, each array [N]."""

    name: str
    labels: NDArray[np.int8]
    assumed: NDArray[np.bool_]
    targets: NDArray[np.float64]
    probabilities: NDArray[np.float64]
    calibrated: NDArray[np.float64]
    patients: NDArray[np.intp]

    def ranking(self) -> Ranking:
        positive, negative = self.targets == 1, self.targets == 0
        return Ranking(
            self.probabilities[positive],
            self.probabilities[negative],
            self.patients[positive],
            self.patients[negative],
        )

    def pooled(self, inside: NDArray[np.bool_] | None, source: str | None, *, scaled: bool) -> ClassResult:
        """Return what the cases `inside` [N] give (None: all); without thresholds, since a class has its own."""
        where = np.ones(len(self.targets), np.bool_) if inside is None else inside
        found = self.result(where, source, ClassCalibration(positives=0, negatives=0))
        positive, negative = where & (self.targets == 1), where & (self.targets == 0)
        after = reliability_of(self.calibrated[positive], self.calibrated[negative]) if scaled else None
        return replace(found, calibrated=after)

    def result(self, inside: NDArray[np.bool_], source: str | None, choice: ClassCalibration) -> ClassResult:
        """Return what the images `inside` [N] give."""
        positive, negative = inside & (self.targets == 1), inside & (self.targets == 0)
        positives, negatives = self.probabilities[positive], self.probabilities[negative]
        labels = self.labels[inside]
        area = delong(
            positives,
            negatives,
            positive_groups=self.patients[positive],
            negative_groups=self.patients[negative],
        )
        right = np.count_nonzero(positives >= DECISION) + np.count_nonzero(negatives < DECISION)
        return ClassResult(
            name=self.name,
            source=source,
            positives=len(positives),
            negatives=len(negatives),
            unknown=int(np.count_nonzero(labels == UNKNOWN)),
            uncertain=int(np.count_nonzero(labels == UNCERTAIN)),
            assumed=int(np.count_nonzero(self.assumed[inside])),
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


def _mean_of(results: Sequence[ClassResult]) -> float | None:
    values = [result.auroc for result in results if result.auroc is not None]
    return float(np.mean(values)) if values else None


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
