"""AUROC, average precision, ROC points and thresholds against scikit-learn, and rules that hold for all inputs."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn import metrics as sk

from labelassemble.errors import LabelAssembleError
from labelassemble.evaluation import (
    auroc,
    auroc_per_class,
    average_precision,
    roc_curve,
    sensitivity_at_specificity,
    youden_threshold,
)

# Busy machines are slow at times, which says nothing about the rule.
unhurried = settings(deadline=None, max_examples=60)

# Whole numbers make ties common and survive monotone maps exactly.
scores_of = st.integers(-5, 5).map(float)


@st.composite
def labelled_scores(draw, max_size=12):
    """Labels (0, 1, NaN) and scores, with at least one positive and one negative."""
    size = draw(st.integers(2, max_size))
    labels = draw(hnp.arrays(np.float64, size, elements=st.sampled_from([0.0, 1.0, np.nan])))
    labels[0], labels[1] = 1.0, 0.0
    return labels, draw(hnp.arrays(np.float64, size, elements=scores_of))


def generated(seed, ties):
    rng = np.random.default_rng(seed)
    labels = (rng.random(400) < 0.2).astype(float)
    scores = rng.normal(size=400) + labels
    labels[rng.random(400) < 0.4] = np.nan
    return labels, np.round(scores, 1) if ties else scores


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_agrees_with_scikit_learn(seed, ties):
    labels, scores = generated(seed, ties)
    known = ~np.isnan(labels)
    assert auroc(labels, scores) == pytest.approx(sk.roc_auc_score(labels[known], scores[known]), abs=1e-9)
    expected = sk.average_precision_score(labels[known], scores[known])
    assert average_precision(labels, scores) == pytest.approx(expected, abs=1e-9)
    curve = roc_curve(labels, scores)
    fpr, tpr, thresholds = sk.roc_curve(labels[known], scores[known], drop_intermediate=False)
    np.testing.assert_allclose(curve.false_positive_rate, fpr, atol=1e-9)
    np.testing.assert_allclose(curve.true_positive_rate, tpr, atol=1e-9)
    np.testing.assert_allclose(curve.thresholds, thresholds, atol=1e-9)


def test_integer_labels_mean_the_same_as_floating_ones():
    labels, scores = generated(0, ties=True)
    states = np.where(np.isnan(labels), -1, labels).astype(np.int8)
    states[np.flatnonzero(states == -1)[::2]] = -2
    assert auroc(states, scores) == auroc(labels, scores)


@unhurried
@given(labelled_scores())
def test_auroc_flips_when_scores_are_negated(case):
    labels, scores = case
    area = auroc(labels, scores)
    assert 0 <= area <= 1
    assert auroc(labels, -scores) == pytest.approx(1 - area, abs=1e-12)


@unhurried
@given(labelled_scores())
def test_only_the_order_of_scores_counts(case):
    labels, scores = case
    for mapped in (3 * scores + 7, scores**3, np.exp(scores)):
        assert auroc(labels, mapped) == auroc(labels, scores)
        assert average_precision(labels, mapped) == average_precision(labels, scores)


@unhurried
@given(labelled_scores())
def test_unknown_labels_change_nothing(case):
    labels, scores = case
    known = ~np.isnan(labels)
    assert auroc(labels, scores) == auroc(labels[known], scores[known])
    assert average_precision(labels, scores) == average_precision(labels[known], scores[known])


@unhurried
@given(labelled_scores(), st.sampled_from([0.0, 0.5, 0.9, 0.95, 1.0]))
def test_sensitivity_is_the_best_that_the_roc_curve_offers(case, specificity):
    labels, scores = case
    point = sensitivity_at_specificity(labels, scores, specificity)
    curve = roc_curve(labels, scores)
    allowed = 1 - curve.false_positive_rate >= specificity - 1e-9
    assert point.sensitivity.value == pytest.approx(curve.true_positive_rate[allowed].max())
    assert point.specificity.value >= specificity - 1e-9


def test_infinite_scores_are_ranked():
    assert auroc([1, 0, 1, 0], [np.inf, -np.inf, 3.0, 2.0]) == 1.0


def test_no_score_is_high_enough_when_a_negative_tops_them_all():
    point = sensitivity_at_specificity([1, 0, 0], [0.5, 0.9, 0.1], 1.0)
    assert point.threshold == np.inf
    assert point.sensitivity.value == 0


@pytest.mark.parametrize("labels", [[1.0, 1.0], [0.0, 0.0], [np.nan, np.nan], [1.0, np.nan], []])
def test_one_state_only_is_not_defined(labels):
    scores = np.linspace(0, 1, len(labels))
    assert auroc(np.array(labels), scores) is None
    assert average_precision(np.array(labels), scores) is None
    assert roc_curve(np.array(labels), scores) is None
    assert sensitivity_at_specificity(np.array(labels), scores, 0.9) is None


def test_each_class_by_itself_and_soft_targets_left_out():
    targets = np.array([[1, 1], [0, 0.7], [np.nan, 1], [0, np.nan]])
    probabilities = np.array([[0.4, 0.1], [0.6, 0.2], [0.1, 0.3], [0.2, 0.4]])
    assert auroc_per_class(probabilities, targets, classes=["a", "b"]) == [0.5, None]


@pytest.mark.parametrize(
    ("labels", "scores", "message"),
    [
        ([1, 0], [0.5, np.nan], r"scores of 'Edema' must be numbers, got NaN in 1 of 2, first in row 1"),
        ([1, 0], [0.5], r"scores of 'Edema' must have the shape of its labels, got \[1\] and \[2\]"),
        ([1, 0.5], [0.5, 0.1], r"labels of 'Edema' must be 0, 1 or unknown, got 0.5"),
        ([[1, 0]], [0.5, 0.1], r"labels of 'Edema' must have one axis, got shape \[1, 2\]"),
    ],
)
def test_what_is_wrong_is_named(labels, scores, message):
    with pytest.raises(LabelAssembleError, match=message):
        auroc(labels, scores, name="'Edema'")


def test_shapes_per_class_are_checked():
    with pytest.raises(LabelAssembleError, match=r"the same shape \[N, 3\], got \[4, 2\] and \[4, 2\]"):
        auroc_per_class(np.zeros((4, 2)), np.zeros((4, 2)), classes=["a", "b", "c"])
    with pytest.raises(LabelAssembleError, match=r"scores of 'b' must be numbers"):
        auroc_per_class([[0.1, np.nan]], [[1.0, 1.0]], classes=["a", "b"])


def test_specificity_is_a_share():
    with pytest.raises(LabelAssembleError, match=r"specificity must lie in \[0, 1\], got 95"):
        sensitivity_at_specificity([1, 0], [0.5, 0.1], 95)


def test_youden_by_hand() -> None:
    labels, scores = [0, 0, 1, 0, 1, 1], [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]
    # 2/3 + 1 at 0.5; at 0.3 it is 1 + 2/3 too, and the highest is taken.
    assert youden_threshold(labels, scores) == 0.5
    assert youden_threshold([np.nan, *labels], [0.0, *scores]) == 0.5
    assert youden_threshold([1, 1], [0.1, 0.2]) is None
    assert youden_threshold([0, 1], [0.5, 0.5]) == 0.5
