"""The scores of volumes against plain NumPy and scikit-learn, and what training counts of masks."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from labelassemble.data.masks import value_targets
from labelassemble.loss_options import LossOptions
from labelassemble.training.class_weights import class_weights
from labelassemble.training.collapse import CollapseWatch
from labelassemble.training.data import VoxelCounts
from labelassemble.training.volume_validation import VoxelSums, scores_of, voxel_sums


def test_scores_are_those_of_all_known_voxels_together() -> None:
    rng = np.random.default_rng(0)
    cases = [
        (rng.integers(0, 3, size), {1: 0, 2: 1}, np.array([1, 1, label], np.int8))
        for size, label in (((6, 3), 0), ((3, 3, 3), -1), ((4, 5), 0))
    ]
    sums, kept = [], []
    for mask, drawn, labels in cases:
        odds = rng.normal(0, 3, (3, *mask.shape))
        probabilities = (1 / (1 + np.exp(-odds))).astype(np.float32)
        known = value_targets(int(mask.max()), drawn, labels, 3)
        sums.append(voxel_sums(probabilities, mask, known))
        kept.append((probabilities.reshape(3, -1), known[:, mask].reshape(3, -1)))
    scores = scores_of(VoxelSums(*(np.sum([one[index] for one in sums], axis=0) for index in range(4))), [1])
    p, y = (np.concatenate([pair[index] for pair in kept], axis=1) for index in (0, 1))
    there = ~np.isnan(y)
    assert there[2].sum() == 18 + 20  # the second case says nothing of the third class
    right = np.where(y == 1, p, 1 - p)[there]
    assert scores.loss == pytest.approx(-np.log(right.astype(np.float64)).mean(), rel=1e-6)
    for column in (0, 1):
        assert scores.auc[column] == pytest.approx(roc_auc_score(y[column], p[column]), abs=2e-3)
        called = p[column] > 0.5
        dice = 2 * (called & (y[column] == 1)).sum() / (called.sum() + (y[column] == 1).sum())
        assert scores.dice[column] == pytest.approx(dice, rel=1e-12)
    assert scores.auc[2] is None
    assert scores.dice[2] is None
    assert scores.dice_interest == scores.dice[1]


def test_without_a_known_voxel_nothing_is_defined() -> None:
    known = np.full((2, 1), np.nan, np.float32)
    sums = voxel_sums(np.full((2, 4, 4), 0.3, np.float32), np.zeros((4, 4), np.uint8), known)
    scores = scores_of(sums, [0])
    assert (scores.loss, scores.auc_interest, scores.dice_interest) == (None, None, None)


def test_certain_wrong_answers_have_a_finite_loss() -> None:
    known = value_targets(1, {1: 0}, np.array([1], np.int8), 1)
    sums = voxel_sums(np.array([[[0.0, 1.0]]], np.float32), np.array([[1, 0]]), known)
    assert np.isfinite(sums.loss).all()
    assert scores_of(sums, [0]).auc == (0.0,)


def test_a_balanced_weight_counts_voxels() -> None:
    options = LossOptions(pos_weight="balanced")
    voxels = VoxelCounts(np.array([10.0, 0.0]), np.array([1000.0, 500.0]))
    weight, _ = class_weights(options, ["a", "b"], np.ones((3, 2), np.float32), voxels)
    assert weight is not None
    assert weight.tolist() == [99.0, 1.0]
    assert voxels.shares() == [0.01, 0.0]


def test_rare_voxels_are_no_collapse_and_none_at_all_is_one() -> None:
    watch = CollapseWatch(["lesion"], [5], [0.002], voxels=True)
    assert [watch.update([0.0004]) for _ in range(5)] == [[]] * 5
    assert [len(watch.update([1e-5])) for _ in range(3)] == [0, 0, 1]
    of_images = CollapseWatch(["lesion"], [5], [0.002])
    assert [len(of_images.update([0.0004])) for _ in range(3)] == [0, 0, 1]
