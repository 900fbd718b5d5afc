"""Means, intervals and tests against scipy, and against values worked out by hand."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from labelassemble.experiments.detection_tables import read_details
from labelassemble.experiments.experiment import SHIPPED, Comparison, Experiment, load_experiment
from labelassemble.experiments.pooled import MEAN, Pooled, arm_differences, arm_figures
from labelassemble.experiments.summary import (
    by_class,
    by_source,
    correlation,
    differences,
    gains,
    mean_interval,
    means,
    read_runs,
    runs_frame,
    t_test,
    write_frame,
)


def test_mean_and_interval() -> None:
    values = [0.9, 0.92, 0.95]
    found = mean_interval(values)
    low, high = stats.t.interval(0.95, 2, loc=np.mean(values), scale=stats.sem(values))
    assert found == pytest.approx((3, np.mean(values), np.std(values, ddof=1), low, high))
    assert mean_interval([0.9])[:2] == (1, 0.9)
    assert np.isnan(mean_interval([0.9])[2:]).all()


def test_an_interval_of_an_auc_ends_at_one() -> None:
    found = mean_interval([0.95, 1.0], within=(0.0, 1.0))
    assert found.high == 1.0
    assert found.low < 0.95


def test_two_sample_t_by_hand() -> None:
    # Means 2 and 5, pooled variance 1, so t = -3 / sqrt(2/3) with 4 degrees of freedom.
    found = t_test([1.0, 2.0, 3.0], [4.0, 5.0, 6.0], "two-sample-t")
    assert found.difference == -3.0
    assert found.p == pytest.approx(2 * stats.t.sf(3 / (2 / 3) ** 0.5, 4))
    half = stats.t.ppf(0.975, 4) * (2 / 3) ** 0.5
    assert (found.low, found.high) == (pytest.approx(-3 - half), pytest.approx(-3 + half))


@pytest.mark.parametrize("test", ["two-sample-t", "welch-t", "paired-t"])
def test_tests_against_scipy(test: str) -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(0.8, 0.02, 6), rng.normal(0.78, 0.05, 6)
    expected = {
        "two-sample-t": stats.ttest_ind(a, b),
        "welch-t": stats.ttest_ind(a, b, equal_var=False),
        "paired-t": stats.ttest_rel(a, b),
    }[test]
    found = t_test(a.tolist(), b.tolist(), test)  # type: ignore[arg-type]
    assert found.p == pytest.approx(expected.pvalue)
    assert found.low == pytest.approx(expected.confidence_interval().low)


def test_nothing_to_test_by() -> None:
    assert t_test([0.5], [0.4], "two-sample-t") == pytest.approx((0.1, np.nan, np.nan, np.nan), nan_ok=True)
    assert np.isnan(t_test([0.5, 0.5], [0.4, 0.4], "two-sample-t").p)
    assert np.isnan(t_test([0.75, 0.5], [0.5, 0.25], "paired-t").p)  # the same difference twice
    assert np.isnan(t_test([0.5, 0.6, 0.7], [0.4, 0.5], "paired-t").p)


def test_correlation() -> None:
    x, y = [0.0, 0.1, 0.2, 0.4, 0.5], [1.0, 1.5, 1.2, 2.0, 2.2]
    found = correlation(x, y)
    assert found is not None
    expected = stats.pearsonr(x, y)
    assert (found.points, found.r, found.p) == (
        5,
        pytest.approx(expected.statistic),
        pytest.approx(expected.pvalue),
    )
    z, half = np.arctanh(expected.statistic), 1.959964 / 2**0.5
    assert found.low == pytest.approx(np.tanh(z - half), rel=1e-6)
    assert found.high == pytest.approx(np.tanh(z + half), rel=1e-6)
    assert correlation([0.0, 1.0], [0.0, 1.0]) is None
    assert correlation([0.0, 0.0, 0.0], [0.0, 1.0, 2.0]) is None


def _runs() -> pd.DataFrame:
    """Two seeds of an arm alone and of one assembled with two classes; the third seed lacks one."""
    rows: list[dict[str, object]] = []
    for seed, auc in enumerate((0.7, 0.8, 0.75)):
        place = {"setting": "s", "size": "all", "seed": seed, "interest": "cat"}
        rows.append(place | {"arm": "alone", "auc": auc, "auc@east": auc - 0.1, "test_positives@east": 3})
        for other, gain in (("dog", 0.1), ("car", 0.05 * seed)):
            if (seed, other) != (2, "car"):
                found = {"auc": auc + gain, "cosine": 0.1 * seed, "auc@east": 0.5}
                rows.append(place | {"arm": "pair", "other": other} | found)
    return runs_frame(rows)


PAIR = [Comparison(arms=("pair", "alone"), tests=("paired-t",))]


def test_means_over_seeds() -> None:
    found = means(_runs())
    assert found[["arm", "other", "seeds"]].fillna("").to_numpy().tolist() == [
        ["alone", "", 3],
        ["pair", "dog", 3],
        ["pair", "car", 2],
    ]
    assert found["mean"].tolist() == pytest.approx([0.75, 0.85, 0.775])
    assert found["high"].max() == 1.0  # where an AUC ends


def test_an_arm_that_assembles_nothing_is_compared_with_each_that_does() -> None:
    found = differences(_runs(), PAIR)
    assert found[["other", "seeds"]].to_numpy().tolist() == [["dog", 3], ["car", 2]]
    assert found["difference"].tolist() == pytest.approx([0.1, 0.025])
    gained = gains(_runs(), PAIR)
    assert gained["mean"].tolist() == pytest.approx([0.1, 0.025])
    assert gained["cosine"].tolist() == pytest.approx([0.1, 0.05])


def test_what_is_measured_within_sources() -> None:
    found = by_source(_runs())
    assert set(found["of"]) == {"east"}
    assert means(found, of=True)["mean"].tolist() == pytest.approx([0.65, 0.5, 0.5])
    inside = differences(found, PAIR, of=True)
    assert inside[["of", "other"]].to_numpy().tolist() == [["east", "dog"], ["east", "car"]]
    assert len(by_source(_runs().drop(columns=["auc@east", "test_positives@east"]))) == 0


def test_classes_are_of_runs_without_one_of_interest() -> None:
    runs = runs_frame(
        [{"setting": "s", "arm": "a", "size": "3", "seed": 0, "auc": 0.7, "auc:x": 0.6, "auc:y": 0.8}]
    )
    assert by_class(runs)[["of", "auc"]].to_numpy().tolist() == [["x", 0.6], ["y", 0.8]]
    assert not len(by_class(runs.assign(interest="x")))


def test_a_frame_is_the_same_after_csv_but_for_digits(tmp_path: Path) -> None:
    runs = _runs().assign(auc=0.123456789)
    write_frame(runs, tmp_path / "runs.csv")
    text = (tmp_path / "runs.csv").read_text()
    assert "0.123457" in text
    again = read_runs(tmp_path / "runs.csv")
    assert again["auc"].tolist() == [0.123457] * len(runs)
    assert list(again.columns) == list(runs.columns)
    assert again["size"].tolist() == runs["size"].tolist()
    (tmp_path / "old.csv").write_text("setting,arm,size,seed,auc\ns,a,30,0,0.5\n")
    old = read_runs(tmp_path / "old.csv")
    assert (old["size"].item(), bool(old["steps"].isna().item())) == ("30", True)


def _says_what_masks_say(text: str, name: str, experiment: Experiment) -> None:
    """Check Dice, hit rate and AUROC of every arm, and the differences in Dice."""
    patients, lesions = read_details(PAPER / name)
    for setting in dict.fromkeys(patients["setting"]):
        mine, own = (frame[frame["setting"] == setting] for frame in (patients, lesions))
        pooled = Pooled(mine, own, experiment.folds, replicates=2)
        found = arm_figures(pooled)
        shown = found["figure"].isin(["dice", "hit_rate", "auroc"]) & (found["class"] != MEAN)
        for value in found.loc[shown, "value"]:
            assert f"{value:.3f}" in text
        differ = arm_differences(pooled, experiment.comparisons)
        for value in differ.loc[differ["figure"] == "dice", "value"]:
            assert f"{value:+.3f}" in text


PAPER = Path(__file__).parents[2] / "benchmarks" / "paper"


@pytest.mark.parametrize("name", [name for name in SHIPPED if (PAPER / name).exists()])
def test_results_md_says_what_the_committed_runs_say(name: str) -> None:
    runs, experiment = read_runs(PAPER / name / "runs.csv"), load_experiment(name)
    page = "RESULTS.md" if experiment.volumes is None else "DETECTION.md"
    text = (PAPER / page).read_text(encoding="utf-8")
    arms = {arm.name for arm in experiment.arms}
    assert set(runs["arm"]) <= arms if name == "few-positives-nih" else set(runs["arm"]) == arms
    assert set(runs["setting"]) <= {setting.name for setting in experiment.settings}
    if experiment.volumes is not None:
        _says_what_masks_say(text, name, experiment)
    elif name in ("figure-1c", "figure-1c-converged"):
        for _, points in gains(runs, experiment.comparisons).groupby(["setting", "arm"]):
            found = correlation(points["cosine"].tolist(), points["mean"].tolist())
            assert found is not None
            assert f"| {found.r:.2f} | {found.low:.2f} to {found.high:+.2f} | {found.p:.2f} |" in text
    elif name == "ablations":
        for row in differences(runs, experiment.comparisons[:-1]).itertuples():
            if row.test == "paired-t":
                assert f"{row.difference:+.3f}" in text
    else:
        found = means(runs)
        shown = found[~found["arm"].str.startswith("assembled-")]  # of these RESULTS.md says nothing
        for mean in shown["mean"]:
            assert f"{mean:.3f}" in text
    if name == "few-positives":
        for row in differences(runs, experiment.comparisons).itertuples():
            if row.first == "recommended":
                assert f"{row.difference:+.3f}" in text
                assert f"({row.low:+.3f} to {row.high:+.3f})" in text
    if name == "covid-few-labels":
        inside = means(by_source(runs), of=True)
        for mean in inside.loc[inside["arm"].isin(["alone", "assembled", "pseudo-labels"]), "mean"]:
            assert f"{mean:.3f}" in text
