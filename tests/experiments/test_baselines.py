"""What a border, a histogram and 8x8 pixels see, and a patient's score by them."""

import numpy as np
import pytest

from labelassemble.experiments.baselines import baseline_features, patient_scores


def test_the_border_is_blind_to_the_middle_and_the_thumbnail_to_detail() -> None:
    image = np.zeros((64, 64), np.uint8)
    middle, edge, fine = image.copy(), image.copy(), image.copy()
    middle[8:56, 8:56] = 200
    edge[0, 0] = 200
    fine[0:8:2, 0:8] = 100  # half of a pixel of the thumbnail
    border = baseline_features([image, middle, edge], "border")
    assert border.shape == (3, 16 * 16 - 12 * 12)
    assert np.array_equal(border[0], border[1])
    assert border[2].sum() == 200 / 16
    small = baseline_features([fine], "thumbnail")
    assert small.shape == (1, 64)
    assert small[0, 0] == 50
    assert not small[0, 1:].any()


def test_a_histogram_has_shares_and_volumes_have_a_border_too() -> None:
    image = np.array([[0, 7], [8, 255]], np.uint8)
    found = baseline_features([image], "histogram")[0]
    assert found[[0, 1, 31]].tolist() == [0.5, 0.25, 0.25]
    assert baseline_features([np.zeros((35, 51, 20), np.uint8)], "border").shape == (1, 16**3 - 12**3)


def test_a_patients_score_is_the_mean_of_its_cases_and_follows_what_can_be_seen() -> None:
    rng = np.random.default_rng(0)
    patients = np.repeat(np.arange(60), 3)
    labels = np.stack([patients % 2 == 0, rng.random(180) < 0.5], axis=1)
    features = rng.normal(size=(180, 5)) + 2.0 * labels[:, :1]
    splits = [np.flatnonzero(np.isin(patients // 20, part)) for part in (0, 1, 2)]
    scores = patient_scores(features, labels, patients, splits)
    assert scores.shape == (20, 2)
    even = np.arange(40, 60) % 2 == 0
    assert scores[even, 0].min() > scores[~even, 0].max()
    one = patient_scores(features, labels, np.arange(180), splits)
    assert scores[0, 0] == pytest.approx(one[:3, 0].mean(), abs=0.05)
