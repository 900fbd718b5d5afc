"""Pooled figures are those of all patients together, and differences are paired by patient."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from labelassemble.evaluation.metrics import auroc_of
from labelassemble.experiments.detection_tables import _verdict_table
from labelassemble.experiments.experiment import Comparison
from labelassemble.experiments.pooled import FIGURES, MEAN, Pooled, arm_differences, arm_figures


def _frames(*, better: float = 0.1, baseline: bool = False) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return 40 patients in two folds of two arms and two classes, the second arm better by so much Dice."""
    rng = np.random.default_rng(0)
    rows: list[dict[str, Any]] = []
    lesions: list[dict[str, Any]] = []
    base = rng.random(40)
    for arm, more in (("one", 0.0), ("two", better)):
        for name in ("x", "y"):
            for patient in range(40):
                has = patient % 2 == (name == "y")
                about = {"setting": "s", "arm": arm, "seed": 0, "fold": patient // 20}
                found = has and (patient % 4 < 2 or arm == "two")
                rows.append(
                    about
                    | {"patient": f"p{patient}", "class": name, "label": int(has)}
                    | {"score": base[patient] * 0.5 + 0.3 * has, "cases": 2.0, "lesions": 2.0 * has}
                    | {"found": float(found), "alarms": 1.0 * (patient % 5 == 0)}
                    | {"dice": (base[patient] + 2 * more) * has, "surface": 0.5 * has, "drawn": 2.0 * has}
                )
                if found:
                    lesions.append(about | {"patient": f"p{patient}", "class": name, "score": 0.9, "hit": 1})
                if patient % 5 == 0:
                    lesions.append(about | {"patient": f"p{patient}", "class": name, "score": 0.6, "hit": 0})
    frame = pd.DataFrame(rows)
    if baseline:
        frame.loc[
            frame["arm"] == "two", ["cases", "lesions", "found", "alarms", "dice", "surface", "drawn"]
        ] = np.nan
    return frame, pd.DataFrame(lesions)


def _fewer(patients: pd.DataFrame, lesions: pd.DataFrame, count: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return so many patients of each fold."""
    kept = {f"p{20 * fold + index}" for fold in range(2) for index in range(count)}
    first, second = (frame[frame["patient"].isin(kept)] for frame in (patients, lesions))
    return first, second


def _value(frame: pd.DataFrame, figure: str, **keys: str) -> Any:
    chosen = frame["figure"] == figure
    for key, value in keys.items():
        chosen &= frame[key] == value
    (row,) = frame[chosen].itertuples()
    return row


def test_figures_are_of_all_patients_of_all_folds_together() -> None:
    patients, lesions = _frames()
    pooled = Pooled(patients, lesions, 2, replicates=200)
    found = arm_figures(pooled)
    assert pooled.count == 40
    of = patients[(patients["arm"] == "one") & (patients["class"] == "x")]
    name = {"arm": "one", "class": "x"}
    assert _value(found, "dice", **name).value == pytest.approx(of["dice"].sum() / of["drawn"].sum())
    assert _value(found, "hit_rate", **name).value == of["found"].sum() / of["lesions"].sum() == 0.25
    assert _value(found, "alarms", **name).value == 8 / 80
    assert _value(found, "froc@0.125", **name).value == 0.25
    has = of["label"] == 1
    area = auroc_of(of.loc[has, "score"].to_numpy(), of.loc[~has, "score"].to_numpy())
    row = _value(found, "auroc", **name)
    assert row.value == area
    assert row.low < area < row.high
    both = [_value(found, "dice", arm="one", **{"class": one}).value for one in ("x", "y")]
    assert _value(found, "dice", arm="one", **{"class": MEAN}).value == pytest.approx(np.mean(both))


def test_differences_are_paired_so_what_is_the_same_for_every_patient_has_no_spread() -> None:
    patients, lesions = _frames(better=0.1)
    found = arm_differences(Pooled(patients, lesions, 2, replicates=200), [Comparison(arms=("two", "one"))])
    dice = _value(found, "dice", **{"class": "x"})
    assert dice.value == pytest.approx(0.1)
    assert np.isnan(dice.low) or dice.high - dice.low < 1e-9
    hits = _value(found, "hit_rate", **{"class": "x"})
    assert hits.value == pytest.approx(0.25)
    assert 0 < hits.low < 0.25 < hits.high
    assert _value(found, "auroc", **{"class": MEAN}).value == 0


def test_seeds_are_averaged_and_one_that_lacks_a_fold_does_not_count() -> None:
    patients, lesions = _frames()
    more = patients.assign(seed=1, dice=patients["dice"] * 2)
    whole = Pooled(
        pd.concat([patients, more]), pd.concat([lesions, lesions.assign(seed=1)]), 2, replicates=50
    )
    first = Pooled(patients, lesions, 2, replicates=50)
    assert whole.seeds("one", "two") == [0, 1]
    key = {"arm": "one", "class": "x"}
    alone, both = (_value(arm_figures(of), "dice", **key) for of in (first, whole))
    assert both.value == pytest.approx(1.5 * alone.value)
    assert both.seeds == 2
    cut = more[(more["arm"] == "two") | (more["fold"] == 0)]
    part = Pooled(pd.concat([patients, cut]), lesions, 2, replicates=50)
    assert (part.seeds("one"), part.seeds("two")) == ([0], [0, 1])


def test_a_baseline_has_patients_and_no_lesions() -> None:
    patients, lesions = _frames(baseline=True)
    found = arm_figures(Pooled(patients, lesions[lesions["arm"] == "one"], 2, replicates=50))
    assert set(found.loc[found["arm"] == "two", "figure"]) == {"auroc"}


def test_intervals_are_wider_than_percentiles_by_the_patients_behind_them() -> None:
    pooled = Pooled(*_frames(), 2, replicates=200)
    found = pooled.of("one", ["x"], [0])
    rests_on = {name: int(count) for name, count in zip(FIGURES, found.patients, strict=True)}
    assert (rests_on["dice"], rests_on["froc@1"], rests_on["alarms"], rests_on["auroc"]) == (20, 20, 40, 20)
    for figure in ("dice", "auroc"):
        row = _value(arm_figures(pooled), figure, arm="one", **{"class": "x"})
        low, high = np.quantile(found.replicates[FIGURES.index(figure)], [0.025, 0.975])
        assert row.low < low < high < row.high


def test_fewer_than_ten_patients_with_or_without_the_class_have_no_interval() -> None:
    pooled = Pooled(*_fewer(*_frames(), 8), 2, replicates=200)
    figures = arm_figures(pooled)
    differences = arm_differences(pooled, [Comparison(arms=("two", "one"))])
    alarms = _value(figures, "alarms", arm="one", **{"class": "x"})
    assert alarms.low < alarms.value < alarms.high  # of all 16 patients
    for name in ("x", "y", MEAN):
        for figure in ("dice", "hit_rate", "froc@1", "auroc"):
            one = _value(figures, figure, arm="one", **{"class": name})
            assert np.isfinite(one.value)
            assert np.isnan([one.low, one.high]).all()
            between = _value(differences, figure, **{"class": name})
            assert np.isnan([between.low, between.high]).all()


@pytest.mark.parametrize(
    ("lows", "said"),
    [((0.1, 0.2), "yes"), ((0.1, -0.2), "no"), ((0.1, np.nan), "not known"), ((-0.1, np.nan), "no")],
)
def test_a_verdict_is_not_known_where_an_interval_is_not(lows: tuple[float, float], said: str) -> None:
    rows = [
        {"setting": "s", "first": "net", "second": second, "class": "x", "figure": "auroc", "seeds": 1}
        | {"value": 0.3, "low": low, "high": 0.4 if np.isfinite(low) else np.nan}
        for second, low in zip(("border", "thumbnail"), lows, strict=True)
    ]
    assert _verdict_table(pd.DataFrame(rows))[-1].split("|")[-2].strip() == said
