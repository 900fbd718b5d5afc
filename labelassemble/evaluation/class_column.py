"""One class on some images: what every figure of an evaluation is made from."""

from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

from labelassemble.data.predictions import Predictions
from labelassemble.data.states import UNCERTAIN, UNKNOWN
from labelassemble.evaluation.bootstrap import Ranking
from labelassemble.evaluation.calibration import Calibration, ClassCalibration
from labelassemble.evaluation.metrics import at_threshold, average_precision_of
from labelassemble.evaluation.proportion import Proportion
from labelassemble.evaluation.reliability import Reliability, reliability_of
from labelassemble.evaluation.results import DECISION, ClassResult
from labelassemble.evaluation.statistics import delong


@dataclass(frozen=True, slots=True)
class ClassColumn:
    """One class on some images, each array [N]."""

    name: str
    labels: NDArray[np.int8]
    assumed: NDArray[np.bool_]
    targets: NDArray[np.float64]
    uncalibrated: NDArray[np.float64]  # as the network gives them
    probabilities: NDArray[np.float64]  # as they are answered
    patients: NDArray[np.intp]

    def select(self, inside: NDArray[np.bool_]) -> "ClassColumn":
        return ClassColumn(self.name, *(getattr(self, name)[inside] for name in ARRAYS))

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
        return replace(found, calibrated=self._reliability() if scaled else None)

    def _reliability(self) -> Reliability | None:
        return reliability_of(self.probabilities[self.targets == 1], self.probabilities[self.targets == 0])

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
            calibration=reliability_of(self.uncalibrated[positive], self.uncalibrated[negative]),
            calibrated=None if choice.method == "none" else self._reliability(),
            correction=choice.correction,
            no_correction=choice.reason,
            source_auroc=None,
        )


ARRAYS = tuple(item.name for item in fields(ClassColumn))[1:]
"""The names of the arrays of a `ClassColumn`."""


def class_columns(
    rows: Predictions, calibration: Calibration, patients: NDArray[np.intp]
) -> list[ClassColumn]:
    """Return the classes of the split's images."""
    targets, answered = rows.given_targets(), calibration.apply(rows.probabilities, rows.classes)
    return [
        ClassColumn(
            name=name,
            labels=rows.labels[:, index],
            assumed=rows.assumed[:, index],
            targets=targets[:, index],
            uncalibrated=rows.probabilities[:, index],
            probabilities=answered[:, index],
            patients=patients,
        )
        for index, name in enumerate(rows.classes)
    ]
