"""Two detections on the same patients: sensitivity against sensitivity, specificity against specificity.

McNemar's exact test (Psychometrika 1947, binomial over the patients on whom the two differ). The interval of the
difference is Newcombe's for paired proportions (Statistics in Medicine 1998, his method 10: Wilson's limits, and the
correlation of the two with a correction for continuity).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom

from labelassemble.data.predictions import Predictions
from labelassemble.evaluation.calibration import SPECIFICITIES, calibrate
from labelassemble.evaluation.proportion import Interval, wilson


@dataclass(frozen=True, slots=True)
class PairedShares:
    """Two shares of the same patients, first minus second.

    Attributes:
        both: patients that count in both.
        first: patients that count in the first alone.
        second: in the second alone.
        patients: in all.
    """

    both: int
    first: int
    second: int
    patients: int

    @property
    def shares(self) -> tuple[float, float]:
        """The two shares."""
        return (self.both + self.first) / self.patients, (self.both + self.second) / self.patients

    @property
    def difference(self) -> float:
        """The first share minus the second."""
        return (self.first - self.second) / self.patients

    @property
    def p(self) -> float:
        """McNemar's exact p, two-sided; 1 where the two never differ."""
        differ = self.first + self.second
        return min(1.0, 2 * float(binom.cdf(min(self.first, self.second), differ, 0.5))) if differ else 1.0

    @property
    def interval(self) -> Interval:
        """The 95% interval of the difference."""
        n, (p1, p2) = self.patients, self.shares
        a, b, c = self.both, self.first, self.second
        d = n - a - b - c
        lower, upper = wilson(a + b, n), wilson(a + c, n)
        assert lower is not None
        assert upper is not None
        cross = float(a * d - b * c)
        if cross > 0:
            cross = max(cross - n / 2, 0.0)
        root = float(np.sqrt(float((a + b) * (c + d)) * float((a + c) * (b + d))))
        phi = cross / root if root else 0.0

        def end(one: float, other: float) -> float:
            return float(np.sqrt(max(0.0, one**2 - 2 * phi * one * other + other**2)))

        return Interval(
            self.difference - end(p1 - lower.lower, upper.upper - p2),
            self.difference + end(lower.upper - p1, p2 - upper.lower),
        )


@dataclass(frozen=True, slots=True)
class CallsTest:
    """Two runs on the patients who have a class, or on those who do not, each at its own threshold.

    Attributes:
        name: of the class.
        first: run.
        second: run.
        figure: "sensitivity" or "specificity".
        target: the specificity that both thresholds were chosen for, on the runs' own validation patients.
        counts: of the patients.
        holm: p, corrected over all tests of the kind.
    """

    name: str
    first: str
    second: str
    figure: Literal["sensitivity", "specificity"]
    target: float
    counts: PairedShares
    holm: float | None = None


def paired_calls(
    name: str, first: tuple[str, Predictions], second: tuple[str, Predictions]
) -> list[CallsTest]:
    """Return the tests of two runs, by name and with predictions of the same test patients and labels.

    A specificity for which a run has too few validation patients without the class is left out. There are no tests
    where a patient has several rows, which are not independent.
    """
    rows = [_by_path(predictions, name) for _, predictions in (first, second)]
    thresholds = [_thresholds(predictions, name) for _, predictions in (first, second)]
    if not thresholds[0] or not thresholds[1]:
        return []
    groups = rows[0].groups[rows[0].groups != ""]
    if len(groups.unique()) < len(groups):
        return []
    targets = rows[0].given_targets()[:, rows[0].column(name)]
    scores = [of.probabilities[:, of.column(name)] for of in rows]
    found = []
    for target in (target for target in SPECIFICITIES if all(target in chosen for chosen in thresholds)):
        called = [one >= threshold[target] for one, threshold in zip(scores, thresholds, strict=True)]
        figures: Sequence[tuple[Literal["sensitivity", "specificity"], list[NDArray[np.bool_]]]] = (
            ("sensitivity", [of[targets == 1] for of in called]),
            ("specificity", [~of[targets == 0] for of in called]),
        )
        for figure, (left, right) in figures:
            if len(left):
                counts = PairedShares(
                    int((left & right).sum()),
                    int((left & ~right).sum()),
                    int((~left & right).sum()),
                    len(left),
                )
                found.append(CallsTest(name, first[0], second[0], figure, target, counts))
    return found


def _by_path(predictions: Predictions, name: str) -> Predictions:
    """Return the test patients with a label to count, in the order of their paths."""
    rows = predictions.subset_by_split("test")
    rows = rows.select(~np.isnan(rows.given_targets()[:, rows.column(name)]))
    return rows.select(np.argsort(rows.paths))


def _thresholds(predictions: Predictions, name: str) -> dict[float, float]:
    """Return the threshold for each specificity that the validation patients without the class suffice for."""
    return dict(calibrate(predictions, correct=False).of(name).by_specificity)
