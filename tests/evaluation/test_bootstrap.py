"""The bootstrap by patient against scikit-learn's weighted AUROC on the very same draws."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ndtri
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from labelassemble.errors import LabelAssembleError
from labelassemble.evaluation import auroc, bootstrap_auroc, delong
from labelassemble.evaluation.bootstrap import (
    Ranking,
    auroc_replicates,
    mean_interval_of,
    patient_indices,
    percentile_interval,
)

# Busy machines are slow at times, which says nothing about the rule.
unhurried = settings(deadline=None, max_examples=25)


def draws(patients, replicates, seed):
    """How often each patient is drawn in each replicate, [replicates, patients]."""
    generator = np.random.default_rng(seed)
    return [
        np.bincount(generator.integers(patients, size=patients, dtype=np.int32), minlength=patients)
        for _ in range(replicates)
    ]


@unhurried
@given(
    st.integers(0, 2**31),
    st.integers(4, 60),
    st.sampled_from([0, 1, 5]),
    st.sampled_from([3, 20]),
    st.floats(0.1, 0.9),
)
def test_every_replicate_is_the_auroc_of_the_drawn_patients(seed, size, decimals, patients, prevalence):
    rng = np.random.default_rng(seed)
    labels = (rng.random(size) < prevalence).astype(int)
    labels[:2] = 0, 1
    scores = np.round(rng.random(size), decimals)
    index = patient_indices(rng.integers(0, patients, size), size)
    positive, negative = labels == 1, labels == 0
    ranking = Ranking(scores[positive], scores[negative], index[positive], index[negative])
    areas = auroc_replicates([ranking], index.max() + 1, replicates=70, seed=seed)[0]
    for area, counts in zip(areas, draws(index.max() + 1, 70, seed), strict=True):
        weights = counts[index]
        if weights[positive].sum() == 0 or weights[negative].sum() == 0:
            assert np.isnan(area)
        else:
            assert area == pytest.approx(roc_auc_score(labels, scores, sample_weight=weights), abs=1e-9)


def test_interval_is_near_delongs_and_repeats():
    rng = np.random.default_rng(0)
    labels = (rng.random(800) < 0.3).astype(float)
    scores = rng.normal(size=800) + labels
    labels[rng.random(800) < 0.4] = np.nan
    interval = bootstrap_auroc(labels, scores, replicates=2000, seed=7)
    expected = delong(scores[labels == 1], scores[labels == 0]).interval
    assert interval == pytest.approx(expected, abs=0.01)
    assert interval.lower < auroc(labels, scores) < interval.upper
    assert bootstrap_auroc(labels, scores, replicates=2000, seed=7) == interval
    assert bootstrap_auroc(labels, scores, replicates=2000, seed=8) != interval


def test_copies_of_an_image_add_no_certainty_when_the_patient_is_known():
    rng = np.random.default_rng(0)
    labels = (rng.random(300) < 0.3).astype(float)
    scores = rng.normal(size=300) + labels
    groups = np.array([f"p{i:03d}" for i in range(300)])
    once = bootstrap_auroc(labels, scores, groups=groups)
    four = [np.tile(array, 4) for array in (labels, scores, groups)]
    assert bootstrap_auroc(four[0], four[1], groups=four[2]) == pytest.approx(once, abs=1e-9)
    by_image = bootstrap_auroc(four[0], four[1])
    assert by_image.upper - by_image.lower < 0.6 * (once.upper - once.lower)


def test_patients_without_a_name_are_patients_of_their_own():
    index = patient_indices(["a", "", "a", ""], 4)
    assert index[0] == index[2]
    assert len({int(i) for i in index}) == 3
    assert sorted(set(index.tolist())) == [0, 1, 2]


@pytest.mark.parametrize(
    ("labels", "scores"),
    [
        ([1.0, 1.0, np.nan], [0.1, 0.2, 0.3]),  # one state
        ([1.0, 1.0, 0.0, 0.0], [3.0, 4.0, 1.0, 2.0]),  # perfect: resampling cannot show an error
        ([1.0, 1.0, 0.0, 0.0], [1.0, 1.0, 1.0, 1.0]),  # nothing but ties
    ],
)
def test_what_resampling_cannot_show_is_not_defined(labels, scores):
    assert bootstrap_auroc(labels, scores) is None


def test_an_interval_needs_half_of_the_replicates():
    areas = np.array([0.5, 0.6, 0.7, np.nan, np.nan, np.nan])
    assert percentile_interval(areas) == pytest.approx((0.505, 0.695))
    areas[0] = np.nan
    assert percentile_interval(areas) is None


def test_the_interval_by_patient_covers_the_truth_with_few_positives():
    """The percentiles hold it in 0.6 to 0.7 of these samples."""
    rng, auroc_of_all = np.random.default_rng(0), 0.8
    shift, held = 2**0.5 * norm.ppf(auroc_of_all), 0
    labels, patients = np.repeat([1, 0], [6, 80]), np.arange(86) // 2
    for seed in range(60):
        noise = (rng.normal(size=43)[patients] + rng.normal(size=86)) / 2**0.5
        interval = bootstrap_auroc(labels, noise + shift * labels, groups=patients, replicates=100, seed=seed)
        held += interval is not None and interval.lower <= auroc_of_all <= interval.upper
    assert held / 60 >= 0.88


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: bootstrap_auroc([1, 0], [0.5, 0.1], replicates=0), "replicates must be at least 1, got 0"),
        (
            lambda: bootstrap_auroc([1, 0], [0.5, 0.1], groups=["a"]),
            r"groups must have shape \[2\], got \[1\]",
        ),
        (lambda: bootstrap_auroc([1, 0], [0.5, np.nan], name="'Mass'"), "scores of 'Mass' must be numbers"),
        (lambda: bootstrap_auroc([1, 0, 1], [0.5, 0.1, 0.0], level=1.0), "level must lie between 0 and 1"),
    ],
)
def test_mistakes_are_named(call, message):
    with pytest.raises(LabelAssembleError, match=message):
        call()


def test_the_interval_of_a_mean_holds_the_truth_with_few_positives():
    """The percentiles of the mean hold it in 0.75 of these samples."""
    rng, held = np.random.default_rng(0), []
    for seed in range(60):
        shared = rng.standard_normal(103)
        rankings = []
        for area in (0.7, 0.9):
            few = rng.choice(103, 3, replace=False)
            many = np.setdiff1d(np.arange(103), few)
            scores = (shared + rng.standard_normal(103)) / np.sqrt(2)
            scores[few] += np.sqrt(2) * ndtri(area)
            rankings.append(Ranking(scores[few], scores[many], few, many))
        interval = mean_interval_of(rankings, auroc_replicates(rankings, 103, replicates=60, seed=seed))
        held.append(interval is not None and interval.lower <= 0.8 <= interval.upper)
    assert np.mean(held) > 0.9


def test_one_class_alone_has_the_interval_of_its_auroc():
    rng = np.random.default_rng(0)
    ranking = Ranking(rng.normal(1, 1, 30), rng.normal(0, 1, 50), np.arange(30), np.arange(30, 80))
    areas = auroc_replicates([ranking], 80, replicates=50, seed=0)
    assert mean_interval_of([ranking], areas) == pytest.approx(
        delong(ranking.positives, ranking.negatives).interval
    )


def test_few_patients_have_no_percentiles_and_some_have_wider_ones():
    values = np.random.default_rng(0).normal(size=1000)
    assert percentile_interval(values, patients=9) is None
    lower, upper = percentile_interval(values, patients=10)
    plain = percentile_interval(values)
    # Student's 2.262 times sqrt(10 / 9) against the normal 1.96.
    assert (upper - lower) / (plain.upper - plain.lower) == pytest.approx(2.384 / 1.96, rel=0.1)
    assert percentile_interval(values, patients=10**6) == pytest.approx(plain, abs=0.01)
