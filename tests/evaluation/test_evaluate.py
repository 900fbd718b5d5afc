"""Evaluation whole: what is counted, where thresholds come from, and what the reader is told."""

import dataclasses

import numpy as np
import pytest

from labelassemble.errors import LabelAssembleError
from labelassemble.evaluation import (
    Predictions,
    Proportion,
    auroc,
    average_precision,
    bootstrap_auroc,
    calibrate,
    delong,
    evaluate,
    wilson,
)
from labelassemble.report.text import ROW_HEADER, cautions, evaluation_rows, evaluation_text


def make(labels, probabilities, *, splits="test", sources="nih", groups=None, assumed=None, classes=None):
    labels = np.atleast_2d(np.asarray(labels, np.int8).T).T
    size, count = labels.shape
    names = np.array([f"image {i}" for i in range(size)])
    return Predictions(
        classes=classes or tuple(f"class {c}" for c in range(count)),
        labels=labels,
        probabilities=np.atleast_2d(np.asarray(probabilities, float).T).T,
        origins=np.zeros(labels.shape, np.uint8) if assumed is None else np.asarray(assumed, np.uint8),
        names=names,
        sources=np.broadcast_to(np.asarray(sources), (size,)),
        groups=names if groups is None else np.asarray(groups),
        splits=np.broadcast_to(np.asarray(splits), (size,)),
        paths=names,
    )


@pytest.fixture
def several():
    """600 images of 200 patients from two sources, three classes, every label state, some assumed, val and test."""
    rng = np.random.default_rng(0)
    patients = rng.integers(0, 200, 600)
    labels = rng.choice(np.array([1, 0, 0, 0, -1, -2], np.int8), (600, 3))
    sources = rng.choice(["nih", "covid"], 600)
    labels[sources == "covid", 2] = -1
    probabilities = 1 / (1 + np.exp(-rng.normal(size=(600, 3)) - (labels == 1)))
    assumed = (rng.random((600, 3)) < 0.1) & (labels >= 0)
    return make(
        labels,
        probabilities,
        splits=np.where(patients < 80, "val", "test"),
        sources=sources,
        groups=[f"p{p}" for p in patients],
        assumed=assumed,
    )


def answered(predictions):
    """Return the test images with the probabilities that are answered."""
    rows = predictions.subset_by_split("test")
    corrected = calibrate(predictions).apply(rows.probabilities, rows.classes)
    return dataclasses.replace(rows, probabilities=corrected)


def test_every_figure_is_that_of_its_own_function(several):
    evaluation = evaluate(several)
    rows = answered(several)
    assert evaluation.images == len(rows)
    assert evaluation.patients == len(set(rows.groups.tolist()))
    for column, result in enumerate(evaluation.classes):
        targets, scores = rows.given_targets()[:, column], rows.probabilities[:, column]
        positive, negative = targets == 1, targets == 0
        assert (result.positives, result.negatives) == (positive.sum(), negative.sum())
        states = (result.unknown, result.uncertain, result.assumed)
        assert states == (
            (rows.labels[:, column] == -1).sum(),
            (rows.labels[:, column] == -2).sum(),
            rows.assumed[:, column].sum(),
        )
        assert result.known + sum(states) == len(rows)
        assert result.patients == len(set(rows.groups[positive | negative].tolist()))
        assert result.auroc == pytest.approx(auroc(targets, scores), abs=1e-12)
        assert result.average_precision == pytest.approx(average_precision(targets, scores), abs=1e-12)
        expected = delong(
            scores[positive],
            scores[negative],
            positive_groups=rows.groups[positive],
            negative_groups=rows.groups[negative],
        )
        assert result.interval == pytest.approx(expected.interval, abs=1e-12)
        right = (scores[positive] >= 0.5).sum() + (scores[negative] < 0.5).sum()
        assert result.accuracy.value == pytest.approx(right / result.known)
        assert result.accuracy.interval == wilson(right, result.known)
    assert evaluation.mean.auroc == pytest.approx(np.mean([result.auroc for result in evaluation.classes]))
    assert evaluation.mean.bootstrap.lower < evaluation.mean.auroc < evaluation.mean.bootstrap.upper


def test_a_source_counts_its_own_images_only(several):
    evaluation = evaluate(several, bootstrap=0)
    pairs = [(result.name, result.source) for result in evaluation.by_source]
    assert sorted(pairs) == [(f"class {c}", s) for c in (0, 1) for s in ("covid", "nih")] + [
        ("class 2", "nih")
    ]
    rows = several.subset_by_split("test")
    inside = rows.select(rows.sources == "covid")
    result = evaluation.of("class 1", "covid")
    assert result.auroc == pytest.approx(
        auroc(inside.given_targets()[:, 1], inside.probabilities[:, 1]), abs=1e-12
    )
    assert evaluation.of("class 2", "covid") is None


def test_what_is_not_counted_cannot_change_anything(several):
    left_out = np.isnan(several.given_targets())
    probabilities = np.where(left_out, 1 - several.probabilities, several.probabilities)
    assert evaluate(dataclasses.replace(several, probabilities=probabilities)) == evaluate(several)
    # Turning an assumed label round neither.
    labels = np.where(several.assumed, 1 - several.labels, several.labels).astype(np.int8)
    assert evaluate(dataclasses.replace(several, labels=labels)) == evaluate(several)


def test_the_bootstrap_is_that_of_the_class_alone():
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 2, 200)
    scores = np.clip(rng.normal(0.5, 0.2, 200) + 0.1 * labels, 0, 1)
    groups = [f"p{p}" for p in rng.integers(0, 60, 200)]
    result = evaluate(make(labels, scores, groups=groups), bootstrap=300, seed=5).classes[0]
    assert result.bootstrap == bootstrap_auroc(labels, scores, groups=groups, replicates=300, seed=5)


def test_no_bootstrap_when_none_is_asked_for(several):
    evaluation = evaluate(several, bootstrap=0)
    assert [result.bootstrap for result in evaluation.classes] == [None] * 3
    assert evaluation.mean.bootstrap is None
    assert evaluation.mean.auroc is not None


def test_thresholds_come_from_validation_and_are_applied_to_test():
    val = np.linspace(0.01, 1.0, 100)  # 100 negatives; 90 of them lie below 0.91
    labels = [0] * 100 + [1, 1, 1, 1, 0, 0]
    scores = [*val, 0.95, 0.92, 0.5, 0.1, 0.93, 0.2]
    result = evaluate(make(labels, scores, splits=["val"] * 100 + ["test"] * 6), bootstrap=0).classes[0]
    at_90, at_95, at_98 = result.operating_points
    assert at_90.threshold == pytest.approx(0.91)
    assert (at_90.sensitivity.successes, at_90.sensitivity.trials) == (2, 4)
    assert (at_90.specificity.successes, at_90.specificity.trials) == (1, 2)
    assert at_95.threshold == pytest.approx(0.96)
    assert at_98.threshold == pytest.approx(0.99)
    assert at_98.sensitivity.successes == 0
    assert result.threshold_negatives == 100


def test_without_validation_there_are_no_thresholds():
    evaluation = evaluate(make([1, 0, 1, 0], [0.9, 0.1, 0.4, 0.5]))
    assert evaluation.threshold_split is None
    assert evaluation.classes[0].operating_points == ()
    assert "no thresholds and no sensitivities" in evaluation_text(evaluation)


def test_a_class_with_one_state_is_not_defined_and_not_in_the_mean():
    labels = np.array([[1, 1, -1], [0, 1, -1], [1, 1, -1], [0, 1, -1]])
    scores = np.array([[0.9, 0.5, 0.5], [0.1, 0.6, 0.5], [0.3, 0.7, 0.5], [0.4, 0.8, 0.5]])
    evaluation = evaluate(make(labels, scores))
    _, one_state, nothing = evaluation.classes
    for result in (one_state, nothing):
        assert (result.auroc, result.interval, result.bootstrap, result.average_precision) == (None,) * 4
    assert cautions(one_state) == ("every known label is positive, so AUROC is not defined",)
    assert cautions(nothing) == ("no image has a known label, so nothing is defined",)
    assert nothing.accuracy.value is None
    assert evaluation.mean.classes == ("class 0",)
    assert evaluation.mean.auroc == evaluation.classes[0].auroc
    lines = evaluation_text(evaluation).splitlines()
    assert next(line for line in lines if line.startswith("class 1")).count("not defined") == 2


def test_no_class_defined_gives_no_mean():
    evaluation = evaluate(make([1, 1], [0.1, 0.2]))
    assert (evaluation.mean.auroc, evaluation.mean.bootstrap, evaluation.mean.classes) == (None, None, ())
    assert "mean of 0" in evaluation_text(evaluation)


def test_few_cases_are_pointed_out():
    result = evaluate(make([1] * 12 + [0] * 40, np.linspace(1, 0, 52))).classes[0]
    assert cautions(result)[0] == "only 12 positives"
    assert "separated without an error" in cautions(result)[1]
    assert result.interval.lower == pytest.approx(wilson(12, 12).lower, abs=0.06)


def test_a_source_that_gives_the_answer_away_is_pointed_out():
    labels = np.array([1] * 90 + [0] * 10 + [1] * 10 + [0] * 90)
    sources = np.array(["clinic"] * 100 + ["archive"] * 100)
    # The model knows the source and nothing else.
    scores = np.where(sources == "clinic", 0.8, 0.2)
    evaluation = evaluate(make(labels, scores, sources=sources))
    result = evaluation.classes[0]
    assert result.source_auroc == pytest.approx(auroc(labels, sources == "clinic"), abs=1e-12)
    assert result.source_auroc == pytest.approx(0.9)
    assert any("knowing only the source" in caution for caution in cautions(result))
    assert "knowing only the source" in evaluation_text(evaluation)
    assert result.auroc == pytest.approx(0.9)
    assert evaluation.of("class 0", "clinic").auroc == 0.5


def test_one_source_alone_gives_no_source_figure(several):
    evaluation = evaluate(several)
    assert evaluation.classes[2].source_auroc is None  # only one source labels it
    assert evaluation.classes[0].source_auroc >= 0.5


def test_a_threshold_that_does_not_carry_over_is_pointed_out():
    rng = np.random.default_rng(0)
    labels = np.array([0] * 200 + [1] * 100 + [0] * 300)
    scores = np.concatenate([rng.uniform(0, 0.3, 200), rng.uniform(0.2, 1, 100), rng.uniform(0.1, 0.6, 300)])
    result = evaluate(make(labels, scores, splits=["val"] * 200 + ["test"] * 400)).classes[0]
    assert any(
        caution.startswith("thresholds miss their specificity on these images: 90% give ")
        for caution in cautions(result)
    )


def test_another_split_can_be_evaluated(several):
    evaluation = evaluate(several, "val")
    assert evaluation.images == int((several.splits == "val").sum())
    assert "on these same images, which flatters it" in evaluation_text(evaluation)


def test_rows_have_the_shape_of_their_header(several):
    rows = evaluation_rows(evaluate(several))
    assert {len(row) for row in rows} == {len(ROW_HEADER)}
    firsts = ["class 0", "", "", "class 1", "", "", "class 2", "", "mean of 3", "mean of 3", "mean of 2"]
    assert [row[0] for row in rows] == [*firsts, "all labels pooled", "", ""]
    assert [row[1] for row in rows[-6:]] == ["all", "nih", "covid", "all", "nih", "covid"]


def test_overall_is_the_mean_of_classes_and_the_pool_of_labels(several):
    evaluation = evaluate(several)
    rows = answered(several)
    assert [overall.source for overall in evaluation.overall] == [None, "nih", "covid"]
    for overall in evaluation.overall:
        inside = rows if overall.source is None else rows.select(rows.sources == overall.source)
        targets, scores = inside.given_targets(), inside.probabilities
        assert overall.pooled.auroc == pytest.approx(auroc(targets.ravel(), scores.ravel()), abs=1e-12)
        aurocs = [auroc(targets[:, c], scores[:, c]) for c in range(3)]
        defined = [value for value in aurocs if value is not None]
        assert overall.mean.auroc == pytest.approx(np.mean(defined), abs=1e-12)
        assert len(overall.mean.classes) == len(defined) == (2 if overall.source == "covid" else 3)
        right = ((scores >= 0.5) == targets)[~np.isnan(targets)]
        assert overall.pooled.accuracy == Proportion(right.sum(), len(right))
    whole = evaluation.overall[0]
    assert whole.mean == evaluation.mean
    # A patient's labels of several classes are taken together.
    known = ~np.isnan(rows.given_targets())
    groups = np.broadcast_to(np.asarray(rows.groups)[:, None], known.shape)
    positive, negative = rows.given_targets() == 1, rows.given_targets() == 0
    expected = delong(
        rows.probabilities[positive],
        rows.probabilities[negative],
        positive_groups=groups[positive],
        negative_groups=groups[negative],
    )
    assert whole.pooled.interval == pytest.approx(expected.interval, abs=1e-12)


def test_one_class_has_no_overall_rows():
    rows = evaluation_rows(evaluate(make([[1], [0]] * 4, [[0.7], [0.2]] * 4)))
    assert [row[0] for row in rows] == ["class 0", "mean of 1"]


def test_the_same_seed_gives_the_same_evaluation(several):
    assert evaluate(several, seed=3) == evaluate(several, seed=3)
    assert evaluate(several, seed=3) != evaluate(several, seed=4)


def test_mistakes_are_named(several):
    with pytest.raises(
        LabelAssembleError, match="split must be train, val or test, got 'tests', did you mean 'test'"
    ):
        evaluate(several, "tests")
    with pytest.raises(LabelAssembleError, match="no images of the split 'train', only of: test, val"):
        evaluate(several, "train")
    with pytest.raises(LabelAssembleError, match="bootstrap must be 0 or more replicates, got -1"):
        evaluate(several, bootstrap=-1)


@pytest.mark.parametrize(("positives", "said"), [(9, "too few to say"), (10, "worse than guessing: ")])
def test_worse_than_guessing_needs_enough_positives(positives, said):
    rng = np.random.default_rng(0)
    labels = np.repeat([1, 0], [positives, 200])
    rows = make(labels, np.where(labels == 1, 0.1, 0.8) + 0.1 * rng.random(len(labels)))
    result = evaluate(rows, bootstrap=0).classes[0]
    assert result.interval.upper < 0.5
    assert any(said in caution for caution in cautions(result))


def test_without_thresholds_the_console_says_so():
    rows = make([1, 1, 1, 0], [0.9, 0.8, 0.4, 0.1], splits=["val", "val", "test", "test"])
    text = evaluation_text(evaluate(rows, bootstrap=0))
    assert "No class has a negative label in the val split, so no thresholds and no sensitivities." in text
    assert "Sensitivity at thresholds" not in text
