"""Figures at a threshold: sensitivity, specificity, predictive values, net benefit; by definition and by simulation."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import expit, logit

from labelassemble.errors import LabelAssembleError
from labelassemble.evaluation import Calibration, OperatingRule, Predictions, calibrate, wilson
from labelassemble.evaluation.calibration import ClassCalibration
from labelassemble.evaluation.operating import (
    THRESHOLDS,
    check_prevalence,
    decision_curves,
    operating_rows,
    predictive_values,
    rate_by_patient,
)
from labelassemble.report.operating import benefit_plots, operating_lines, threshold_cautions, write_operating


def test_one_image_per_patient_gives_wilson():
    hits = np.arange(40) < 31
    rate = rate_by_patient(hits, np.arange(40))
    assert (rate.successes, rate.trials, rate.effective) == (31, 40, 40)
    assert rate.interval == wilson(31, 40)
    assert rate_by_patient(hits[:0], np.arange(0)).interval is None


def test_images_that_are_copies_count_as_one():
    """Ten images of each patient, all alike, tell no more than one: the effective number is about that of patients."""
    hits = np.repeat(np.arange(40) < 31, 10)
    rate = rate_by_patient(hits, np.repeat(np.arange(40), 10))
    assert rate.effective == pytest.approx(40, rel=0.03)
    assert rate.interval == pytest.approx(wilson(31, 40), abs=0.005)
    assert rate_by_patient(np.ones(400, bool), np.repeat(np.arange(40), 10)).interval == wilson(40, 40)
    assert rate_by_patient(hits[:10], np.zeros(10, int)).effective == 1


def test_the_interval_by_patient_holds_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(0)
    held = np.zeros(2)
    for _ in range(600):
        patients = np.repeat(np.arange(60), rng.integers(1, 7, 60))
        of_patient = rng.beta(1.6, 0.4, 60)  # mean 0.8, images of a patient much alike
        hits = rng.random(len(patients)) < of_patient[patients]
        for index, interval in enumerate(
            (rate_by_patient(hits, patients).interval, wilson(hits.sum(), len(hits)))
        ):
            held[index] += interval.lower <= 0.8 <= interval.upper
    assert held[0] / 600 > 0.92
    assert held[1] / 600 < 0.9


def test_predictive_values_are_those_of_bayes():
    sensitivity = rate_by_patient(np.arange(50) < 45, np.arange(50))
    specificity = rate_by_patient(np.arange(200) < 190, np.arange(200))
    positive, negative = predictive_values(sensitivity, specificity, 0.02)
    assert positive.value == pytest.approx(0.9 * 0.02 / (0.9 * 0.02 + 0.05 * 0.98))
    assert negative.value == pytest.approx(0.95 * 0.98 / (0.95 * 0.98 + 0.1 * 0.02))
    assert positive.interval.lower < positive.value < positive.interval.upper
    # The interval holds the truth as often as it says.
    rng, held, truth = np.random.default_rng(1), 0, positive.value
    for _ in range(500):
        s = rate_by_patient(rng.random(50) < 0.9, np.arange(50))
        c = rate_by_patient(rng.random(200) < 0.95, np.arange(200))
        lower, upper = predictive_values(s, c, 0.02)[0].interval
        held += lower <= truth <= upper
    assert held / 500 > 0.93
    never = rate_by_patient(np.zeros(50, bool), np.arange(50))
    always = rate_by_patient(np.ones(200, bool), np.arange(200))
    assert predictive_values(never, always, 0.1)[0] is None  # nothing is called positive
    assert predictive_values(never, rate_by_patient(np.zeros(0, bool), np.zeros(0, int)), 0.1) == (None, None)


@pytest.fixture
def predictions():
    rng = np.random.default_rng(2)
    size = 600
    truth = rng.normal(-1, 2, size)
    labels = (rng.random(size) < expit(truth)).astype(np.int8)[:, None]
    labels[:20] = -1
    names = np.array([f"image {i}" for i in range(size)])
    return Predictions(
        classes=("edema",),
        labels=labels,
        probabilities=expit(truth)[:, None],
        origins=np.zeros((size, 1), np.uint8),
        names=names,
        sources=np.where(np.arange(size) % 3, "here", "there"),
        groups=np.array([f"p{i // 2}" for i in range(size)]),
        splits=np.where(np.arange(size) % 4 < 2, "val", "test"),
        paths=names,
        subgroups={"sex": np.where(np.arange(size) % 5, "female", "")},
    )


def test_each_source_and_subgroup_has_the_threshold_in_use(predictions, tmp_path):
    calibration = calibrate(predictions, OperatingRule.parse("sensitivity=0.85"))
    rows = predictions.subset_by_split("test")
    found = operating_rows(rows, calibration, prevalence={"edema": 0.05})
    assert [(row.of, row.value) for row in found] == [
        ("all", ""), ("source", "here"), ("source", "there"), ("sex", "female"), ("sex", "missing")
    ]  # fmt: skip
    threshold = calibration.of("edema").threshold("sensitivity=0.85")
    answered, known = calibration.apply(rows.probabilities, rows.classes)[:, 0], rows.labels[:, 0] >= 0
    for row, inside in zip(found[1:3], (rows.sources == "here", rows.sources == "there"), strict=True):
        chosen = inside & known
        positive = rows.labels[:, 0] == 1
        assert row.threshold == threshold
        assert row.sensitivity.successes == (answered[chosen & positive] >= threshold).sum()
        assert row.specificity.successes == (answered[chosen & ~positive] < threshold).sum()
        assert row.specificity.trials == (chosen & ~positive).sum()
        assert row.patients == len(set(rows.groups[chosen]))
        assert row.positive.value < row.negative.value
    lines = "\n".join(operating_lines(found, calibration))
    assert (
        "At thresholds for a sensitivity of at least 85%, chosen on the validation images of the run:"
        in lines
    )
    assert "source: there" in lines
    assert "PPV and NPV of edema at a prevalence of 5%." in lines
    write_operating(found, decision_curves(rows, calibration), tmp_path)
    written = (tmp_path / "operating_points.csv").read_text().splitlines()
    assert len(written) == 6
    assert written[1].startswith(f"edema,all,,{threshold:.9g},")
    assert len((tmp_path / "decision_curve.csv").read_text().splitlines()) == 100


def test_a_threshold_that_is_missing_or_rests_on_few_is_named():
    at = "specificity=0.95"
    states = {
        "all ill": ClassCalibration(positives=30),
        "silent": ClassCalibration(negatives=4, thresholds={at: None}),
        "few": ClassCalibration(positives=5, negatives=19, thresholds={at: 0.5}),
        "enough": ClassCalibration(positives=5, negatives=20, thresholds={at: 0.5}),
        "kept": ClassCalibration(negatives=20, thresholds={at: 0.5}, kept="“here” has no label to choose by"),
    }
    assert threshold_cautions(Calibration(at=at, classes=states)) == [
        "kept: correction and threshold are those of the run's own validation images, since “here” has no label to "
        "choose by",
        "all ill: no threshold, since no negative label was there to choose one by",
        "silent: nothing is called positive, since 0 positive labels and 4 negative labels give no threshold for a "
        "specificity of at least 95%",
        "few: the threshold rests on 19 negative labels",
    ]
    few = {"x": ClassCalibration(positives=9, negatives=50, thresholds={"sensitivity=0.9": 0.2})}
    assert threshold_cautions(Calibration(at="sensitivity=0.9", classes=few)) == [
        "x: the threshold rests on 9 positive labels"
    ]
    none = {"x": ClassCalibration(negatives=50, thresholds={at: 0.2})}
    assert threshold_cautions(Calibration(at="sensitivity=0.9", classes=none)) == [
        "x: no threshold, since no positive label was there to choose one by"
    ]


def test_net_benefit_is_that_of_its_definition(predictions):
    rows = predictions.subset_by_split("test")
    plain = Calibration(classes={"edema": ClassCalibration(positives=30, negatives=70)})
    [curve] = decision_curves(rows, plain)
    known = rows.labels[:, 0] >= 0
    truth, scores = rows.labels[known, 0] == 1, rows.probabilities[known, 0]
    for t in (0.1, 0.5, 0.9):
        called, at = scores >= t, THRESHOLDS.index(t)
        expected = ((called & truth).sum() - (called & ~truth).sum() * t / (1 - t)) / len(truth)
        assert curve.model[at] == pytest.approx(expected, abs=1e-12)
        everybody = (truth.sum() - (~truth).sum() * t / (1 - t)) / len(truth)
        assert curve.everybody[at] == pytest.approx(everybody, abs=1e-12)
    # At a stated prevalence answers are moved, since they were right at another one.
    [rare] = decision_curves(rows, plain, prevalence={"edema": 0.02})
    moved = expit(logit(scores) + logit(0.02) - logit(0.3))
    called = moved >= 0.1
    expected = called[truth].mean() * 0.02 - called[~truth].mean() * 0.98 * 0.1 / 0.9
    assert rare.model[THRESHOLDS.index(0.1)] == pytest.approx(expected, abs=1e-12)
    [plot] = benefit_plots([rare], ["edema"])
    assert "At a prevalence of 2%, as stated." in plot.note
    with pytest.raises(LabelAssembleError, match="unknown class 'edem', did you mean 'edema'"):
        check_prevalence({"edem": 0.1}, ["edema"])
    with pytest.raises(
        LabelAssembleError, match=r"must lie between 0 and 1, such as 0\.02 for 2 in 100, got 2"
    ):
        check_prevalence({"edema": 2}, ["edema"])


def drawn(rng, positives, negatives, images=1):
    """Predictions of a scorer that answers the true probability, of patients with some images each."""
    labels = np.repeat(np.array([1] * positives + [0] * negatives, np.int8), images)
    scores = expit(1.5 * labels - 0.75 + rng.normal(size=len(labels)))
    names = np.array([f"p{i}" for i in range(positives + negatives)])
    return Predictions(
        classes=("edema",),
        labels=labels[:, None],
        probabilities=scores[:, None],
        origins=np.zeros((len(labels), 1), np.uint8),
        names=np.array([f"i{i}" for i in range(len(labels))]),
        sources=np.full(len(labels), "here"),
        groups=np.repeat(names, images),
        splits=np.full(len(labels), "test"),
        paths=np.array([f"i{i}" for i in range(len(labels))]),
    )


def test_the_band_of_net_benefit_holds_the_truth():
    rng, plain = np.random.default_rng(0), Calibration()
    [truth] = decision_curves(drawn(rng, 20_000, 60_000), plain, prevalence={"edema": 0.25}, replicates=0)
    assert truth.band == truth.better == ()
    at = [THRESHOLDS.index(t) for t in (0.1, 0.3, 0.5)]
    held = []
    for _ in range(100):
        [curve] = decision_curves(drawn(rng, 15, 45), plain, prevalence={"edema": 0.25}, replicates=100)
        held.append([curve.band[i].lower <= truth.model[i] <= curve.band[i].upper for i in at])
    assert np.mean(held) > 0.9
    # As the definition has it: images of a patient are taken together, so copies make no narrower band.
    few = drawn(rng, 30, 90)
    copies = np.repeat(np.arange(len(few)), 5)
    once, often = (decision_curves(rows, plain, replicates=50)[0] for rows in (few, few.select(copies)))
    np.testing.assert_allclose(once.band, often.band, atol=1e-12)
    assert any(once.better)
    [silent] = decision_curves(drawn(rng, 9, 90), plain)
    [plot] = benefit_plots([silent], ["edema"])
    assert "No band: with fewer than 10 patients of either state there are too few to say." in plot.note
    [plot] = benefit_plots([once], ["edema"])
    assert f"the lead is clear of 0 at {once.better.count(True)} thresholds." in plot.note


@pytest.mark.parametrize("stated", [{}, {"edema": 0.2}])
def test_where_nothing_is_called_wrongly_there_is_no_band(stated, tmp_path):
    rows = drawn(np.random.default_rng(0), 12, 30)
    apart = np.where(rows.labels == 1, 0.805, 0.105)  # called rightly from 0.11 to 0.8
    [curve] = decision_curves(replace(rows, probabilities=apart), Calibration(), prevalence=stated)
    right = [0.11 <= t <= 0.8 for t in THRESHOLDS]
    assert [ends is None for ends in curve.band] == right
    assert [ahead is None for ahead in curve.better] == right
    assert curve.better.count(True) == 0  # calling everybody, or nobody, is no lead
    assert {ends for t, ends in zip(THRESHOLDS, curve.band, strict=True) if t > 0.8} == {(0, 0)}
    if stated:
        at = THRESHOLDS.index(0.05)
        assert curve.band[at] == (curve.everybody[at], curve.everybody[at])
    [plot] = benefit_plots([curve], ["edema"])
    assert (
        "the lead is clear of 0 at 0 thresholds. No band at 70 thresholds, at which these images" in plot.note
    )
    write_operating([], [curve], tmp_path)
    written = [line.split(",") for line in (tmp_path / "decision_curve.csv").read_text().splitlines()[1:]]
    assert [line[-2:] == ["", ""] for line in written] == right
    [reverse] = decision_curves(replace(rows, probabilities=1 - apart), Calibration(), prevalence=stated)
    assert reverse.band.count(None) == reverse.better.count(None) > 60
    assert not any(reverse.better)
