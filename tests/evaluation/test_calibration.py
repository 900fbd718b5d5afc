"""Calibration: known corrections found again, the rule by which one is kept, and the file."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.special import expit, logit
from sklearn.calibration import _sigmoid_calibration

from labelassemble.errors import LabelAssembleError
from labelassemble.evaluation import (
    Calibration,
    OperatingRule,
    Predictions,
    calibrate,
    choose_calibrator,
    evaluate,
    fit_platt,
    fit_temperature,
    read_calibration,
    reliability_of,
    scaled,
    write_calibration,
)


def draw(size, temperature, seed=0):
    """Return probabilities of positives and of negatives whose logits are `temperature` times too large."""
    rng = np.random.default_rng(seed)
    truth = rng.normal(scale=2.0, size=size)
    positive = rng.random(size) < expit(truth)
    probabilities = expit(truth * temperature)
    return probabilities[positive], probabilities[~positive]


def loss(temperature, positives, negatives):
    z = np.concatenate([logit(positives), -logit(negatives)]) / temperature
    return np.logaddexp(0, -z).sum()


@pytest.mark.parametrize("truth", [0.4, 1.0, 2.5])
def test_a_known_temperature_is_found_again(truth):
    positives, negatives = draw(60_000, truth)
    assert fit_temperature(positives, negatives).value == pytest.approx(truth, rel=0.03)


@given(st.integers(0, 10_000), st.integers(40, 300), st.floats(0.3, 3.0))
def test_it_is_where_scipy_finds_the_least_loss(seed, size, truth):
    positives, negatives = draw(size, truth, seed)
    found = fit_temperature(positives, negatives)
    if found.value is None:
        return
    best = minimize_scalar(
        lambda t: loss(np.exp(t), positives, negatives),
        bounds=np.log([0.1, 10.0]),
        method="bounded",
        options={"xatol": 1e-10},
    )
    assert found.value == pytest.approx(np.exp(best.x), rel=1e-5)
    assert loss(found.value, positives, negatives) <= best.fun * (1 + 1e-12)


def test_overconfident_probabilities_are_mended_and_the_ranking_stays():
    positives, negatives = draw(4000, 3.0)
    temperature = fit_temperature(positives, negatives).value
    before = reliability_of(positives, negatives).error
    after = reliability_of(scaled(positives, temperature), scaled(negatives, temperature)).error
    assert after < 0.25 * before
    assert (np.argsort(scaled(positives, temperature)) == np.argsort(positives)).all()


@pytest.mark.parametrize(
    ("positives", "negatives", "reason"),
    [
        (np.full(9, 0.8), np.full(50, 0.2), "9 positive and 50 negative validation labels are too few"),
        (np.full(50, 0.8), np.array([]), "50 positive and 0 negative"),
        (np.full(20, 0.9), np.full(20, 0.1), "separated with hardly an error"),
        (np.full(20, 0.1), np.full(20, 0.9), "tell the validation labels apart too badly"),
        (np.full(20, 0.5), np.full(20, 0.5), "too badly"),
        (np.full(20, 1.0), np.full(20, 0.0), "hardly an error"),
    ],
)
def test_none_is_fitted_where_there_is_nothing_to_go_by(positives, negatives, reason):
    found = fit_temperature(positives, negatives)
    assert found.value is None
    assert reason in found.reason


def test_certainty_stays_certain_and_none_changes_nothing():
    values = np.array([0.0, 0.2, 0.5, 1.0])
    assert scaled(values, 2.0)[[0, 2, 3]].tolist() == [0.0, 0.5, 1.0]
    assert scaled(values, 2.0)[1] == pytest.approx(1 / 3)
    assert scaled(values, None) is values


def test_mistakes_are_named():
    with pytest.raises(LabelAssembleError, match="is fitted to probabilities, each a number from 0 to 1"):
        fit_temperature([1.2], [0.1])
    with pytest.raises(
        LabelAssembleError, match=r"must be positive and finite and an offset finite, got 0\.0 and 0\.0"
    ):
        scaled([0.5], 0.0)


@pytest.fixture
def predictions():
    rng = np.random.default_rng(1)
    size = 400
    labels = rng.choice(np.array([1, 0, -1], np.int8), (size, 2))
    labels[:, 1] = np.where(np.arange(size) < 12, 1, -1)
    names = np.array([f"image {i}" for i in range(size)])
    return Predictions(
        classes=("often", "rare"),
        labels=labels,
        probabilities=expit(3 * rng.normal(size=(size, 2)) + 2 * (labels == 1)),
        origins=((rng.random((size, 2)) < 0.2) & (labels >= 0)).astype(np.uint8),
        names=names,
        sources=np.full(size, "nih"),
        groups=names,
        splits=np.where(np.arange(size) % 2, "val", "test"),
        paths=names,
    )


def test_choices_are_those_of_the_known_validation_labels(predictions):
    calibration = calibrate(predictions)
    val = predictions.subset_by_split("val")
    targets = val.given_targets()[:, 0]
    positive, negative = targets == 1, targets == 0
    scores, rows = val.probabilities[:, 0], np.arange(len(val))
    expected = choose_calibrator(scores[positive], scores[negative], rows[positive], rows[negative])
    often = calibration.of("often")
    assert calibration.images == 200
    assert expected.method == "platt"
    assert often.temperature == expected.temperature > 1.5
    assert often.offset == expected.offset
    assert often.log_loss == pytest.approx(expected.log_loss, rel=0.02)  # other divisions
    assert often.correction.startswith("temperature ")
    assert "too few" in calibration.of("rare").reason
    assert (calibration.of("rare").temperature, calibration.of("rare").offset) == (1, 0)
    assert calibration.of("rare").thresholds == {}
    assert calibration.of("of another run").reason == "not in the run"
    # Thresholds are on what is answered, and keep the specificity asked for.
    after = calibration.apply(val.probabilities, val.classes)
    for target, threshold in often.by_specificity:
        assert (after[negative, 0] < threshold).mean() >= target
    assert (after[:, 1] == val.probabilities[:, 1]).all()


def test_another_operating_point_can_be_asked_for(predictions):
    val = predictions.subset_by_split("val")
    positive = val.given_targets()[:, 0] == 1
    calibration = calibrate(predictions, OperatingRule.parse("sensitivity=0.8"), data="clinic")
    answered = calibration.apply(val.probabilities, val.classes)[positive, 0]
    threshold = calibration.of("often").threshold(calibration.at)
    assert (answered >= threshold).mean() >= 0.8
    assert (answered > threshold).mean() < 0.8
    assert [target for target, _ in calibration.of("often").by_specificity] == [0.9, 0.95, 0.98]
    assert "clinic" in calibration.chosen_on
    # "rare" has positives alone: enough for a sensitivity, not for a specificity.
    alone = np.sort(val.probabilities[val.given_targets()[:, 1] == 1, 1])
    assert list(calibration.of("rare").thresholds) == ["sensitivity=0.8"]
    assert calibration.of("rare").threshold("sensitivity=0.8") in alone
    negatives = replace(val, labels=np.zeros_like(val.labels))
    found = calibrate(negatives, OperatingRule.parse("sensitivity=0.8"))
    assert list(found.of("often").thresholds) == ["specificity=0.9", "specificity=0.95", "specificity=0.98"]
    assert found.thresholds(["often", "rare"]) is None
    for text in ("specificity", "specificity=1", "accuracy=0.9", "specificity=a"):
        with pytest.raises(LabelAssembleError, match=r"must be specificity=X or sensitivity=X .*, got '"):
            OperatingRule.parse(text)


def test_platt_is_that_of_scikit_learn():
    positives, negatives = draw(500, 2.0, seed=3)
    scores = np.concatenate([positives, negatives])
    a, b = _sigmoid_calibration(logit(scores), np.arange(len(scores)) < len(positives))
    found = fit_platt(positives, negatives)
    assert 1 / found.temperature == pytest.approx(-a, rel=1e-5)
    assert found.offset == pytest.approx(-b, abs=1e-5)
    assert scaled(0.3, *found) == pytest.approx(expit(logit(0.3) / found.temperature + found.offset))


def test_a_correction_is_kept_only_where_cross_validation_says_that_it_helps():
    def chosen(shift, temperature, seed, size=150):
        rng = np.random.default_rng(seed)
        truth = rng.normal(scale=2, size=size)
        positive = rng.random(size) < expit(truth)
        answers = expit(truth * temperature + shift)
        rows = np.arange(size)
        return choose_calibrator(answers[positive], answers[~positive], rows[positive], rows[~positive])

    # Probabilities that are right as they are: nearly always left alone. By chance a few are not.
    assert sum(chosen(0, 1, seed).method != "none" for seed in range(20)) <= 2
    assert all(chosen(0, 3, seed, 300).method in ("temperature", "platt") for seed in range(5))
    assert all(chosen(2, 1, seed).method == "platt" for seed in range(5))
    left = chosen(0, 1, 0)
    assert (left.temperature, left.offset) == (1, 0)
    assert "no clear gain" in left.reason
    assert set(left.log_loss) == {"none", "temperature", "platt"}


def test_images_of_a_patient_are_left_out_together():
    """Forty images of six patients: too few, though there are enough labels."""
    positives, negatives = draw(200, 3.0)
    found = choose_calibrator(
        positives, negatives, np.arange(len(positives)) % 6, np.arange(len(negatives)) % 50
    )
    assert found.method == "none"
    assert "6 positive and 50 negative patients of the validation images are too few" in found.reason


def test_choices_of_another_split_can_be_brought_along(predictions):
    calibration = calibrate(predictions)
    alone = predictions.subset_by_split("test")
    assert evaluate(alone, calibration=calibration) == evaluate(predictions)
    assert evaluate(alone).threshold_split is None


def test_what_is_written_is_read(predictions, tmp_path):
    calibration = calibrate(predictions)
    write_calibration(calibration, tmp_path / "calibration.json")
    assert read_calibration(tmp_path / "calibration.json") == calibration
    document = json.loads((tmp_path / "calibration.json").read_text(encoding="utf-8"))
    assert list(document["classes"]) == ["often", "rare"]
    assert set(document["classes"]["often"]["thresholds"]) == {
        "specificity=0.9", "specificity=0.95", "specificity=0.98"
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "calibration.json: damaged: the file: Invalid JSON"),
        (
            '{"format": 1, "images": 0, "classes": {}}',
            "written by another version of labelassemble: `labelassemble",
        ),
        ('{"classes": []}', "damaged: classes: "),
        ('{"classes": {"a": 1}}', r"damaged: classes\.a: "),
        ('{"classes": {"a": {"temperature": -1}}}', r"damaged: classes\.a\.temperature: "),
        ('{"classes": {"a": {"temperature": "hot"}}}', r"damaged: classes\.a\.temperature: "),
        (
            '{"classes": {"a": {"thresholds": {"specificity=0.95": -1}}}}',
            r"damaged: classes\.a\.thresholds\.specificity=0\.95: ",
        ),
    ],
)
def test_damage_is_named(tmp_path, text, message):
    (tmp_path / "calibration.json").write_text(text)
    with pytest.raises(LabelAssembleError, match=message):
        read_calibration(tmp_path / "calibration.json")
    with pytest.raises(LabelAssembleError, match=r"does not exist: `labelassemble evaluate .*` writes it"):
        read_calibration(tmp_path / "nowhere" / "calibration.json")


def test_without_a_calibration_nothing_is_corrected_and_thresholds_are_absent():
    assert Calibration().temperatures(["a", "b"]) == {"a": 1.0, "b": 1.0}
    assert Calibration().offsets(["a", "b"]) == {"a": 0.0, "b": 0.0}
    assert Calibration().thresholds(["a", "b"]) is None


def test_an_export_gets_what_the_file_has(tmp_path):
    a = {
        "method": "platt",
        "temperature": 1.5,
        "offset": 0.2,
        "thresholds": {"specificity=0.9": 0.2, "specificity=0.95": 0.3},
    }
    b = {"reason": "no positives", "thresholds": {"specificity=0.9": 0.4, "specificity=0.95": None}}
    path = tmp_path / "calibration.json"
    path.write_text(json.dumps({"format": 2, "split": "val", "classes": {"b": b, "a": a}}))
    calibration = read_calibration(path)
    assert calibration.temperatures(["a", "b"]) == {"a": 1.5, "b": 1.0}
    assert calibration.offsets(["a", "b"]) == {"a": 0.2, "b": 0.0}
    assert calibration.thresholds(["a", "b"]) == {"a": 0.3, "b": math.inf}
    assert calibration.thresholds(["a", "b"], "specificity=0.9") == {"a": 0.2, "b": 0.4}
    assert calibration.thresholds(["a", "b", "c"]) == {"a": 0.3, "b": math.inf, "c": None}
    with pytest.raises(
        LabelAssembleError,
        match=r"no threshold for specificity=0\.8, known: specificity=0\.9, specificity=0\.95",
    ):
        calibration.thresholds(["a", "b"], "specificity=0.8")
