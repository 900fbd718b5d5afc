"""Figures of detections over the pooled patients of all folds, and differences of two arms, by patient bootstrap.

A seed tests every patient once. A figure is that of all patients of a seed together, the mean over seeds; a resample
takes the same patients for all arms, classes and seeds, so that differences are paired.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from labelassemble.detection_options import PER_CASE
from labelassemble.evaluation.bootstrap import Ranking, auroc_replicates, percentile_interval
from labelassemble.evaluation.lesion_figures import (
    LesionSums,
    lesion_replicates,
    lesion_values,
    patients_behind,
)
from labelassemble.evaluation.metrics import auroc_of
from labelassemble.experiments.experiment import Comparison

Floats = NDArray[np.float64]
Counts = NDArray[np.int64]

FIGURES: Final = (
    *("dice", "surface", "hit_rate", "alarms", "average_precision"),
    *(f"froc@{rate:g}" for rate in PER_CASE),
    "auroc",
)
"""In the order of `LesionFigures`; the last is that of the patients' scores."""
MEAN: Final = "mean"
"""Stands for the mean over the classes."""
_REPLICATES: Final = 1000


@dataclass(frozen=True)
class Found:
    """Figures of one arm and class.

    Attributes:
        seeds: over which the values are means.
        values: float64 [F].
        replicates: of every resample, float64 [F, B].
        patients: on how many each figure rests, int64 [F]: those in which the class is drawn, for false alarms those
            whose voxels are known, for the AUROC the fewer of those with and without the class; of several classes or
            arms the fewest.
    """

    seeds: tuple[int, ...]
    values: Floats
    replicates: Floats
    patients: Counts

    def minus(self, other: "Found") -> "Found":
        """Return the differences."""
        return Found(
            self.seeds,
            self.values - other.values,
            self.replicates - other.replicates,
            np.minimum(self.patients, other.patients),
        )


class Pooled:
    """Patients and predicted lesions of one setting.

    Args:
        patients: a row per arm, seed, fold, class and patient; see `detail_frames`.
        lesions: a row per predicted lesion.
        folds: a seed of an arm counts where it has all of them.
        replicates: of the bootstrap.
    """

    def __init__(
        self, patients: pd.DataFrame, lesions: pd.DataFrame, folds: int, *, replicates: int = _REPLICATES
    ) -> None:
        whole = patients.groupby(["arm", "seed"])["fold"].transform("nunique") == folds
        self._patients = patients[whole]
        self._lesions = lesions
        self._names = np.unique(self._patients["patient"].astype(str))
        self._replicates = replicates
        self._known: dict[tuple[str, str, int], tuple[Floats, Floats, Counts]] = {}

    @property
    def count(self) -> int:
        """How many patients."""
        return len(self._names)

    def arms(self) -> list[str]:
        """Return the arms of which a seed is whole, in the order of the frame."""
        return list(dict.fromkeys(self._patients["arm"]))

    def classes(self, arm: str) -> list[str]:
        """Return the classes of an arm."""
        return list(dict.fromkeys(self._patients.loc[self._patients["arm"] == arm, "class"]))

    def seeds(self, *arms: str) -> list[int]:
        """Return the seeds that are whole for each of the arms."""
        of = [set(self._patients.loc[self._patients["arm"] == arm, "seed"].tolist()) for arm in arms]
        return sorted(set.intersection(*of))

    def of(self, arm: str, classes: Sequence[str], seeds: Sequence[int]) -> Found:
        """Return the figures of an arm, the mean over classes and seeds; NaN where one of the classes has none."""
        parts = [self._one(arm, name, seed) for name in classes for seed in seeds]
        values, replicates = (np.mean([part[index] for part in parts], axis=0) for index in (0, 1))
        return Found(tuple(seeds), values, replicates, np.min([part[2] for part in parts], axis=0))

    def _one(self, arm: str, name: str, seed: int) -> tuple[Floats, Floats, Counts]:
        key = (arm, name, seed)
        if key not in self._known:
            chosen = self._of(self._patients, *key)
            sums = self._sums(chosen, self._of(self._lesions, *key))
            drawn = lesion_values(sums, np.ones((self.count, 1)))[:, 0]
            lesions = lesion_replicates(sums, replicates=self._replicates, seed=0)
            area, areas, fewer = self._auroc(chosen)
            rests_on = np.append(patients_behind(sums), fewer)
            if chosen["cases"].isna().any():  # a baseline, which draws nothing
                drawn, lesions = np.full_like(drawn, np.nan), np.full_like(lesions, np.nan)
            self._known[key] = np.append(drawn, area), np.concatenate([lesions, areas[None]]), rests_on
        return self._known[key]

    def _of(self, frame: pd.DataFrame, arm: str, name: str, seed: int) -> pd.DataFrame:
        if not len(frame):
            return frame
        chosen = (frame["arm"] == arm) & (frame["class"] == name) & (frame["seed"] == seed)
        found: pd.DataFrame = frame[chosen]
        return found

    def _at(self, frame: pd.DataFrame) -> NDArray[np.intp]:
        at: NDArray[np.intp] = np.searchsorted(self._names, frame["patient"].astype(str).to_numpy())
        return at

    def _sums(self, patients: pd.DataFrame, lesions: pd.DataFrame) -> LesionSums:
        def by_patient(key: str) -> Floats:
            weights = patients[key].fillna(0).to_numpy(np.float64)
            return np.bincount(self._at(patients), weights, self.count).astype(np.float64)

        lesions = lesions.sort_values("score", ascending=False, kind="stable") if len(lesions) else lesions
        empty = not len(lesions)
        return LesionSums(
            cases=by_patient("cases"),
            lesions=by_patient("lesions"),
            found=by_patient("found"),
            alarms=by_patient("alarms"),
            dice=by_patient("dice"),
            surface=by_patient("surface"),
            drawn=by_patient("drawn"),
            scores=np.zeros(0) if empty else lesions["score"].to_numpy(np.float64),
            hits=np.zeros(0, np.bool_) if empty else lesions["hit"].to_numpy() == 1,
            patients=np.zeros(0, np.intp) if empty else self._at(lesions),
        )

    def _auroc(self, patients: pd.DataFrame) -> tuple[float, Floats, int]:
        at, scores = self._at(patients), patients["score"].to_numpy(np.float64)
        has, lacks = (patients["label"].to_numpy() == state for state in (1, 0))
        fewer = min(len(np.unique(at[has])), len(np.unique(at[lacks])))
        area = auroc_of(scores[has], scores[lacks])
        if area is None:
            return np.nan, np.full(self._replicates, np.nan), fewer
        ranking = Ranking(scores[has], scores[lacks], at[has], at[lacks])
        areas = auroc_replicates([ranking], self.count, replicates=self._replicates, seed=0)[0]
        return area, areas, fewer


def arm_figures(pooled: Pooled) -> pd.DataFrame:
    """Return a row per arm, class (and `MEAN` of several) and figure: seeds, value, low, high."""
    rows = []
    for arm in pooled.arms():
        classes, seeds = pooled.classes(arm), pooled.seeds(arm)
        for name, of in _with_mean(classes):
            rows += [{"arm": arm, "class": name, **row} for row in _rows(pooled.of(arm, of, seeds))]
    return pd.DataFrame(rows, columns=["arm", "class", "figure", "seeds", "value", "low", "high"])


def arm_differences(pooled: Pooled, comparisons: Sequence[Comparison]) -> pd.DataFrame:
    """Return a row per comparison, class that both arms have (and `MEAN`) and figure: seeds, value, low, high."""
    rows, there = [], pooled.arms()
    for first, second in (comparison.arms for comparison in comparisons):
        if first not in there or second not in there or not (seeds := pooled.seeds(first, second)):
            continue
        shared = [name for name in pooled.classes(first) if name in pooled.classes(second)]
        for name, of in _with_mean(shared):
            found = pooled.of(first, of, seeds).minus(pooled.of(second, of, seeds))
            rows += [{"first": first, "second": second, "class": name, **row} for row in _rows(found)]
    columns = ["first", "second", "class", "figure", "seeds", "value", "low", "high"]
    return pd.DataFrame(rows, columns=columns)


def _with_mean(classes: Sequence[str]) -> list[tuple[str, Sequence[str]]]:
    found: list[tuple[str, Sequence[str]]] = [(name, [name]) for name in classes]
    return found + ([(MEAN, classes)] if len(classes) > 1 else [])


def _rows(found: Found) -> list[dict[str, object]]:
    """Return the figures that are defined, with their expanded percentiles; none of too few patients."""
    rows: list[dict[str, object]] = []
    of = zip(FIGURES, found.values, found.replicates, found.patients.tolist(), strict=True)
    for figure, value, replicates, patients in of:
        if np.isnan(value):
            continue
        interval = percentile_interval(replicates, patients=patients)
        low, high = (np.nan, np.nan) if interval is None else interval
        rows.append(
            {"figure": figure, "seeds": len(found.seeds), "value": float(value), "low": low, "high": high}
        )
    return rows
