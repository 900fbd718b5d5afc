"""DeLong's variance and test against placement values counted pair by pair, and what its interval must obey."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest, norm

from labelassemble.errors import LabelAssembleError
from labelassemble.evaluation import Proportion, delong, paired_delong, wilson
from labelassemble.evaluation.statistics import stratified_paired_delong

# Busy machines are slow at times, which says nothing about the rule.
unhurried = settings(deadline=None, max_examples=60)

tied_scores = st.lists(st.integers(-3, 3).map(float), min_size=1, max_size=8)


def placements(positives, negatives):
    """DeLong's V10 and V01, each pair looked at by itself: O(m n), as the paper writes it."""
    wins = (positives[:, None] > negatives[None, :]) + 0.5 * (positives[:, None] == negatives[None, :])
    return wins.mean(axis=1), wins.mean(axis=0)


def covariance_by_pairs(positives, negatives):
    """DeLong's covariance [2, 2] of two scorers, from scores [2, m] and [2, n]."""
    of_positives, of_negatives = zip(
        *(placements(p, n) for p, n in zip(positives, negatives, strict=True)), strict=True
    )
    return np.cov(of_positives) / positives.shape[1] + np.cov(of_negatives) / negatives.shape[1]


def clustered_variance_by_patient(of_positives, of_negatives, positive_groups, negative_groups):
    """Obuchowski's variance of a mean placement value, each patient looked at by itself."""
    m, n = len(of_positives), len(of_negatives)
    patients = sorted({*positive_groups.tolist(), *negative_groups.tolist()})
    x = [(of_positives[positive_groups == p] - of_positives.mean()).sum() for p in patients]
    y = [(of_negatives[negative_groups == p] - of_negatives.mean()).sum() for p in patients]
    with_positives, with_negatives = len(set(positive_groups.tolist())), len(set(negative_groups.tolist()))
    s10 = with_positives / ((with_positives - 1) * m) * sum(v * v for v in x)
    s01 = with_negatives / ((with_negatives - 1) * n) * sum(v * v for v in y)
    s11 = len(patients) / (len(patients) - 1) * sum(a * b for a, b in zip(x, y, strict=True))
    return s10 / m + s01 / n + 2 * s11 / (m * n)


def generated(seed, *, ties, size=(37, 52)):
    rng = np.random.default_rng(seed)
    shared_positive, shared_negative = rng.normal(size=size[0]) + 1, rng.normal(size=size[1])
    positives = np.stack(
        [shared_positive + rng.normal(size=size[0]), shared_positive + rng.normal(size=size[0])]
    )
    negatives = np.stack(
        [shared_negative + rng.normal(size=size[1]), shared_negative + rng.normal(size=size[1])]
    )
    return (np.round(positives), np.round(negatives)) if ties else (positives, negatives)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_variance_and_test_agree_with_pair_by_pair(seed, ties):
    positives, negatives = generated(seed, ties=ties)
    expected = covariance_by_pairs(positives, negatives)
    areas = [placements(p, n)[0].mean() for p, n in zip(positives, negatives, strict=True)]
    for scorer in range(2):
        result = delong(positives[scorer], negatives[scorer])
        assert result.auroc == pytest.approx(areas[scorer], abs=1e-9)
        assert result.variance == pytest.approx(expected[scorer, scorer], abs=1e-9)
    test = paired_delong(positives, negatives)
    variance = expected[0, 0] + expected[1, 1] - 2 * expected[0, 1]
    difference = areas[0] - areas[1]
    assert test.difference == pytest.approx(difference, abs=1e-9)
    assert test.variance == pytest.approx(variance, abs=1e-9)
    half = 1.959963984540054 * math.sqrt(variance)
    assert test.interval.lower < difference - half < difference + half < test.interval.upper
    assert test.p > 2 * norm.sf(abs(difference) / math.sqrt(variance))


@pytest.mark.parametrize("seed", range(5))
def test_several_images_of_a_patient_agree_with_patient_by_patient(seed):
    rng = np.random.default_rng(seed)
    positives, negatives = generated(seed, ties=True)
    left, right = rng.integers(0, 15, positives.shape[1]), rng.integers(0, 25, negatives.shape[1])
    first, second = placements(positives[0], negatives[0]), placements(positives[1], negatives[1])
    result = delong(positives[0], negatives[0], positive_groups=left, negative_groups=right)
    assert result.variance == pytest.approx(clustered_variance_by_patient(*first, left, right), abs=1e-9)
    test = paired_delong(positives, negatives, positive_groups=left, negative_groups=right)
    # The variance of a difference is that of the differences of placement values.
    differences = [a - b for a, b in zip(first, second, strict=True)]
    assert test.variance == pytest.approx(clustered_variance_by_patient(*differences, left, right), abs=1e-9)


def test_a_patient_an_image_gives_delong_itself():
    positives, negatives = generated(1, ties=True)
    alone = delong(positives[0], negatives[0])
    named = delong(
        positives[0],
        negatives[0],
        positive_groups=[f"p{i}" for i in range(37)],
        negative_groups=[f"n{i}" for i in range(52)],
    )
    assert named.variance == pytest.approx(alone.variance, rel=1e-12)
    assert named.interval == pytest.approx(alone.interval, rel=1e-12)


def test_counting_every_image_twice_adds_no_certainty_when_patients_are_known():
    positives, negatives = generated(2, ties=False)
    once = delong(
        positives[0], negatives[0], positive_groups=np.arange(37), negative_groups=np.arange(37, 89)
    )
    twice = delong(
        np.tile(positives[0], 2),
        np.tile(negatives[0], 2),
        positive_groups=np.tile(np.arange(37), 2),
        negative_groups=np.tile(np.arange(37, 89), 2),
    )
    assert twice.variance == pytest.approx(once.variance, rel=1e-9)


@unhurried
@given(tied_scores, tied_scores)
def test_the_interval_holds_the_estimate_and_stays_within_bounds(positives, negatives):
    result = delong(positives, negatives)
    assert 0 <= result.interval.lower <= result.auroc <= result.interval.upper <= 1
    assert result.interval.lower < result.interval.upper


@unhurried
@given(tied_scores, tied_scores, st.integers(0, 2**31))
def test_the_interval_stays_within_bounds_for_any_patients(positives, negatives, seed):
    rng = np.random.default_rng(seed)
    result = delong(
        positives,
        negatives,
        positive_groups=rng.integers(0, 4, len(positives)),
        negative_groups=rng.integers(0, 4, len(negatives)),
    )
    assert result.variance >= 0
    assert 0 <= result.interval.lower <= result.auroc <= result.interval.upper <= 1


@unhurried
@given(tied_scores, tied_scores)
def test_negated_scores_mirror_the_interval(positives, negatives):
    one = delong(positives, negatives)
    other = delong(-np.array(positives), -np.array(negatives))
    assert other.interval == pytest.approx((1 - one.interval.upper, 1 - one.interval.lower), abs=1e-9)


def test_perfect_separation_has_about_the_interval_of_as_many_successes():
    result = delong(np.arange(10, 20), np.arange(10))
    assert result.auroc == result.interval.upper == 1
    assert result.interval.lower == pytest.approx(wilson(10, 10).lower, abs=0.05)
    rare = delong(np.arange(10, 20), np.arange(-1000, 10))
    assert rare.interval.lower == pytest.approx(wilson(10, 10).lower, abs=0.08)
    # Ten images of two patients are worth two.
    few = delong(
        np.arange(10, 20), np.arange(10), positive_groups=[0, 1] * 5, negative_groups=np.arange(10, 20)
    )
    assert few.interval.lower < result.interval.lower - 0.1


def test_equal_scores_tell_nothing():
    result = delong(np.ones(8), np.ones(20))
    assert result.auroc == 0.5
    assert result.interval == pytest.approx(tuple(wilson(4, 8)), abs=0.03)


def test_a_single_positive_takes_the_largest_variance():
    result = delong([0.9], np.linspace(0, 1, 101))
    spread = np.var(np.linspace(0, 1, 101) < 0.9, ddof=1) / 101
    assert result.variance == pytest.approx(0.9 * 0.1 + spread, rel=0.05)
    assert result.interval.upper - result.interval.lower > 0.8


def test_nothing_to_compare_is_not_defined():
    assert delong([], [0.1]) is None
    assert delong([0.1], []) is None
    assert paired_delong(np.empty((2, 0)), np.ones((2, 3))) is None


def test_delong_covers_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    truth = norm.cdf(1 / math.sqrt(2))
    held = 0
    for _ in range(400):
        interval = delong(rng.normal(1, 1, 25), rng.normal(0, 1, 60)).interval
        held += interval.lower <= truth <= interval.upper
    assert 0.90 <= held / 400 <= 0.99


@pytest.mark.parametrize(("positives", "auroc"), [(3, 0.8), (3, 0.95), (5, 0.9), (20, 0.99)])
def test_the_interval_covers_the_truth_with_few_positives(positives, auroc):
    """DeLong's on the logit scale holds it in 0.80 to 0.88 of these samples."""
    rng, shift = np.random.default_rng(2), math.sqrt(2) * norm.ppf(auroc)
    held = 0
    for _ in range(400):
        interval = delong(rng.normal(shift, 1, positives), rng.normal(0, 1, 200)).interval
        held += interval.lower <= auroc <= interval.upper
    assert held / 400 >= 0.93


def test_with_many_cases_the_interval_is_the_usual_one():
    rng = np.random.default_rng(3)
    found = delong(rng.normal(1, 1, 2000), rng.normal(0, 1, 8000))
    half = 1.96 * math.sqrt(found.variance)
    assert found.interval == pytest.approx((found.auroc - half, found.auroc + half), abs=0.0005)


def test_patients_with_several_images_are_covered_too():
    rng = np.random.default_rng(1)
    truth = norm.cdf(1 / math.sqrt(2))
    held = {"by image": 0, "by patient": 0}
    for _ in range(300):
        # Four images a patient that differ little: worth hardly more than one.
        positives = np.repeat(rng.normal(1, 0.95, 25), 4) + rng.normal(0, math.sqrt(1 - 0.95**2), 100)
        negatives = np.repeat(rng.normal(0, 0.95, 40), 4) + rng.normal(0, math.sqrt(1 - 0.95**2), 160)
        left, right = np.repeat(np.arange(25), 4), np.repeat(np.arange(25, 65), 4)
        by_patient = delong(positives, negatives, positive_groups=left, negative_groups=right).interval
        by_image = delong(positives, negatives).interval
        held["by patient"] += by_patient.lower <= truth <= by_patient.upper
        held["by image"] += by_image.lower <= truth <= by_image.upper
    assert held["by patient"] / 300 >= 0.90
    assert held["by image"] / 300 <= 0.80


def test_the_paired_test_rejects_about_as_often_as_it_says():
    rng = np.random.default_rng(3)
    rejected = 0
    for _ in range(400):
        positive, negative = rng.normal(1, 1, 40), rng.normal(0, 1, 60)
        test = paired_delong(
            np.stack([positive + rng.normal(size=40), positive + rng.normal(size=40)]),
            np.stack([negative + rng.normal(size=60), negative + rng.normal(size=60)]),
        )
        rejected += test.p < 0.05
    assert 0.01 <= rejected / 400 <= 0.10


@pytest.mark.parametrize(("positives", "auroc"), [(3, 0.6), (3, 0.8), (5, 0.7)])
def test_the_paired_test_does_not_cry_wolf_with_few_positives(positives, auroc):
    """DeLong's own p is below 0.05 in 0.10 to 0.15 of these samples."""
    rng, shift = np.random.default_rng(0), math.sqrt(2) * norm.ppf(auroc)
    rejected = 0
    for _ in range(400):
        scores = math.sqrt(0.5) * (rng.normal(size=(2, positives + 200)) + rng.normal(size=positives + 200))
        rejected += paired_delong(scores[:, :positives] + shift, scores[:, positives:]).p < 0.05
    assert rejected / 400 <= 0.06


def test_with_many_cases_the_paired_test_is_delongs():
    rng = np.random.default_rng(4)
    positives, negatives = rng.normal(1, 1, (2, 4000)), rng.normal(0, 1, (2, 6000))
    positives[1] += 0.02
    test = paired_delong(positives, negatives)
    deviation = math.sqrt(test.variance)
    assert test.p == pytest.approx(2 * norm.sf(abs(test.difference) / deviation), abs=2e-3)
    assert test.interval.upper == pytest.approx(test.difference + 1.96 * deviation, rel=2e-2)


def strata_of(sizes, seed=0):
    rng = np.random.default_rng(seed)
    first = 0
    for m, n in sizes:
        yield (
            rng.normal(0.5, 1, (2, m)),
            rng.normal(0, 1, (2, n)),
            np.arange(m) + first,
            np.arange(n) + first + m,
        )
        first += m + n


def test_the_paired_test_of_strata_weighs_pairs_alike():
    strata = list(strata_of([(6, 30), (20, 10), (5, 0)]))
    found = stratified_paired_delong(strata)
    won = sum((p[:, :, None] > n[:, None, :]).sum(axis=(1, 2)) for p, n, _, _ in strata) / (180 + 200)
    assert found.difference == pytest.approx(won[0] - won[1], abs=1e-12)
    parts = [paired_delong(p, n) for p, n, _, _ in strata[:2]]
    expected = (180 / 380) ** 2 * parts[0].variance + (200 / 380) ** 2 * parts[1].variance
    assert found.variance == pytest.approx(expected, rel=1e-12)
    assert found.interval.lower < found.difference < found.interval.upper


def test_one_stratum_is_the_paired_test():
    [stratum] = strata_of([(8, 25)])
    found, alone = stratified_paired_delong([stratum]), paired_delong(*stratum[:2])
    assert (found.difference, found.variance, found.p) == pytest.approx(
        (alone.difference, alone.variance, alone.p)
    )
    assert stratified_paired_delong([]) is None
    assert stratified_paired_delong(list(strata_of([(3, 0), (0, 4)]))) is None


def test_a_stratum_with_one_positive_patient_counts_as_uncertain_as_it_can_be():
    strata = list(strata_of([(1, 30), (12, 40)]))
    found, alone = stratified_paired_delong(strata), paired_delong(*strata[1][:2])
    assert found.variance > (480 / 510) ** 2 * alone.variance
    assert stratified_paired_delong(strata[:1]).p is None


def test_the_same_ranking_twice_differs_by_nothing():
    positives, negatives = generated(0, ties=False)
    test = paired_delong(
        np.stack([positives[0], np.exp(positives[0])]), np.stack([negatives[0], np.exp(negatives[0])])
    )
    assert (test.difference, test.p, test.interval) == (0, 1, None)


def test_a_difference_without_variance_has_no_p():
    test = paired_delong([[3, 4, 5], [1, 1, 1]], [[0, 1, 2], [1, 1, 1]])
    assert test.difference == 0.5
    assert (test.variance, test.p, test.interval) == (0, None, None)


def test_one_patient_with_all_positives_gives_no_test():
    test = paired_delong(
        [[3.0, 4.0], [1.0, 2.0]],
        [[0.0, 1.0, 3.5], [1.0, 5.0, 0.0]],
        positive_groups=["a", "a"],
        negative_groups=["b", "c", "d"],
    )
    assert (test.variance, test.p, test.interval) == (None, None, None)


@pytest.mark.parametrize(("successes", "trials"), [(0, 1), (1, 1), (3, 10), (10, 10), (0, 50), (499, 1000)])
def test_wilson_agrees_with_scipy(successes, trials):
    expected = binomtest(successes, trials).proportion_ci(method="wilson")
    assert wilson(successes, trials) == pytest.approx((expected.low, expected.high), abs=1e-9)


@unhurried
@given(st.integers(1, 200).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_holds_the_share(case):
    successes, trials = case
    interval = wilson(successes, trials)
    assert 0 <= interval.lower <= successes / trials <= interval.upper <= 1


def test_a_proportion_of_nothing_is_not_defined():
    assert Proportion(0, 0).value is None
    assert Proportion(0, 0).interval is None


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: wilson(3, 2), r"successes must lie in \[0, 2\], got 3"),
        (lambda: wilson(1, 2, level=95), r"level must lie between 0 and 1, got 95"),
        (lambda: delong([np.nan], [0.0]), r"scores must be numbers, got NaN"),
        (
            lambda: delong([1.0], [0.0], positive_groups=["a"]),
            r"groups must be given for every score or for none",
        ),
        (lambda: paired_delong([1.0], [0.0]), r"shapes \[2, m\] and \[2, n\], got \[1\] and \[1\]"),
    ],
)
def test_mistakes_are_named(call, message):
    with pytest.raises(LabelAssembleError, match=message):
        call()
