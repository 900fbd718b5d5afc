"""Means, intervals and tests against scipy, and against values worked out by hand."""

import csv
from dataclasses import astuple
from io import StringIO

import numpy as np
import pytest
from scipy import stats

from labelassemble.experiments.summary import correlation, mean_interval, t_test, to_csv


def test_mean_and_interval() -> None:
    values = [0.9, 0.92, 0.95]
    found = mean_interval(values)
    low, high = stats.t.interval(0.95, 2, loc=np.mean(values), scale=stats.sem(values))
    assert astuple(found) == pytest.approx((3, np.mean(values), np.std(values, ddof=1), low, high))
    assert astuple(mean_interval([0.9])) == (1, 0.9, None, None, None)


def test_an_interval_of_an_auc_ends_at_one() -> None:
    found = mean_interval([0.95, 1.0], within=(0.0, 1.0))
    assert found.high == 1.0
    assert found.low is not None
    assert found.low < 0.95


def test_two_sample_t_by_hand() -> None:
    # Means 2 and 5, pooled variance 1, so t = -3 / sqrt(2/3) with 4 degrees of freedom.
    found = t_test([1.0, 2.0, 3.0], [4.0, 5.0, 6.0], "two-sample-t")
    assert found.value == -3.0
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
    assert t_test([0.5], [0.4], "two-sample-t") == pytest.approx((0.1, None, None, None))
    assert t_test([0.5, 0.5], [0.4, 0.4], "two-sample-t").p is None
    assert t_test([0.75, 0.5], [0.5, 0.25], "paired-t").p is None  # the same difference twice
    assert t_test([0.5, 0.6, 0.7], [0.4, 0.5], "paired-t").p is None


def test_correlation() -> None:
    x, y = [0.0, 0.1, 0.2, 0.4, 0.5], [1.0, 1.5, 1.2, 2.0, 2.2]
    found = correlation(x, y)
    assert found is not None
    expected = stats.pearsonr(x, y)
    assert (found.count, found.r, found.p) == (
        5,
        pytest.approx(expected.statistic),
        pytest.approx(expected.pvalue),
    )
    z, half = np.arctanh(expected.statistic), 1.959964 / 2**0.5
    assert found.low == pytest.approx(np.tanh(z - half), rel=1e-6)
    assert found.high == pytest.approx(np.tanh(z + half), rel=1e-6)
    assert correlation([0.0, 1.0], [0.0, 1.0]) is None
    assert correlation([0.0, 0.0, 0.0], [0.0, 1.0, 2.0]) is None


def test_csv_cells() -> None:
    text = to_csv(("a", "b", "c"), [(None, 0.123456789, "x, y")])
    assert list(csv.reader(StringIO(text))) == [["a", "b", "c"], ["", "0.123457", "x, y"]]
