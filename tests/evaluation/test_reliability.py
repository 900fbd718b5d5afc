"""Reliability error and reliability curve."""

import numpy as np
import pytest

from labelassemble.errors import LabelAssembleError
from labelassemble.evaluation import Proportion, reliability_of


def by_hand(probabilities, labels, bins):
    """ECE as the paper writes it, bin by bin."""
    total = 0.0
    for b in range(bins):
        low, high = b / bins, (b + 1) / bins
        inside = (probabilities >= low) & ((probabilities < high) | ((b == bins - 1) & (probabilities == 1)))
        if inside.any():
            gap = abs(labels[inside].mean() - probabilities[inside].mean())
            total += inside.sum() / len(labels) * gap
    return total


@pytest.mark.parametrize("bins", [1, 10, 16])
def test_agrees_with_bin_by_bin(bins):
    rng = np.random.default_rng(0)
    probabilities = rng.random(500)
    labels = (rng.random(500) < probabilities**2).astype(float)
    result = reliability_of(probabilities[labels == 1], probabilities[labels == 0], bins=bins)
    assert result.error == pytest.approx(by_hand(probabilities, labels, bins), abs=1e-12)
    assert sum(point.positives.trials for point in result.points) == 500
    assert sum(point.positives.successes for point in result.points) == labels.sum()


def test_points_are_where_the_images_are():
    result = reliability_of(np.array([0.95, 1.0]), np.array([0.0, 0.05, 0.96]))
    low, high = result.points
    assert low.mean_probability == pytest.approx(0.025)
    assert low.positives == Proportion(0, 2)
    assert high.mean_probability == pytest.approx(0.97)
    assert high.positives == Proportion(2, 3)
    assert result.error == pytest.approx((2 * 0.025 + 3 * abs(2 / 3 - 0.97)) / 5)


def test_certainty_that_is_right_has_no_error():
    result = reliability_of(np.ones(3), np.zeros(4))
    assert result.error == 0


def test_one_state_is_enough_and_none_is_not():
    assert reliability_of(np.empty(0), np.array([0.2])).error == pytest.approx(0.2)
    assert reliability_of(np.empty(0), np.empty(0)) is None


def test_mistakes_are_named():
    with pytest.raises(
        LabelAssembleError, match=r"calibration needs probabilities in \[0, 1\], got 0.5 to 1.5"
    ):
        reliability_of(np.array([1.5]), np.array([0.5]))
    with pytest.raises(LabelAssembleError, match="bins must be at least 1, got 0"):
        reliability_of(np.array([0.5]), np.array([0.5]), bins=0)
