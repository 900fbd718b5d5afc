"""Source leakage: 0.5 where sources are alike, 1 where they are not, and what labels explain is taken out."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from labelassemble.errors import LabelAssembleError
from labelassemble.evaluation import Predictions
from labelassemble.evaluation.leakage import leakage_of, multinomial_regression, source_leakage
from labelassemble.report.text import leakage_sentences


def draw(size, width=12, *, sources=("a", "b"), images=2, seed=0):
    """Return normal features, sources and patients with a few images each, and unknown targets."""
    rng = np.random.default_rng(seed)
    patients = np.repeat(np.arange(size // images), images)
    source = np.array(sources)[patients % len(sources)]
    groups = np.array([f"p{p}" for p in patients])
    return rng, rng.normal(size=(size, width)), source, groups, np.full((size, 1), np.nan)


def test_sources_that_are_alike_are_not_told_apart():
    found = [source_leakage(*draw(400, seed=seed)[1:]).auc for seed in range(6)]
    assert np.mean(found) == pytest.approx(0.5, abs=0.04)
    assert max(abs(np.array(found) - 0.5)) < 0.12


def test_a_patient_is_never_on_both_sides():
    # Features that name the patient and nothing else: whoever saw the patient would know the source.
    rng, _, source, groups, targets = draw(300, images=5)
    names, patient = np.unique(groups, return_inverse=True)
    features = rng.normal(size=(len(names), 64))[patient]
    assert source_leakage(features, source, groups, targets).auc < 0.65
    alone = np.array([""] * 300)
    assert source_leakage(features, source, alone, targets).auc > 0.9


def test_sources_that_differ_are_told_apart():
    _, features, source, groups, targets = draw(300, sources=("a", "b", "c"))
    features[:, 0] += 8 * (source == "a")
    found = source_leakage(features, source, groups, targets)
    assert found.sources[0].auc > 0.999
    assert {leak.source: leak.images for leak in found.sources} == {"a": 100, "b": 100, "c": 100}
    assert found.sources[1].auc == pytest.approx(0.75, abs=0.1)  # told from a, not from c
    assert found.auc == pytest.approx(np.mean([leak.auc for leak in found.sources]))
    assert found.within is None
    features[:, 1] += 8 * (source == "b")
    found = source_leakage(features, source, groups, targets)
    assert found.auc > 0.999
    assert "AUC of 1.00" in leakage_sentences(found)[0]
    assert "trust the figures within each source" in leakage_sentences(found)[1]
    assert "No class is labelled by two of the sources" in leakage_sentences(found)[2]


def test_what_labels_explain_is_taken_out():
    rng, features, source, groups, targets = draw(600)
    targets[:, 0] = rng.random(600) < np.where(source == "a", 0.9, 0.1)
    features[:, 0] += 6 * targets[:, 0]  # the finding shows, the source does not
    found = source_leakage(features, source, groups, targets)
    assert found.auc > 0.8
    assert found.within == pytest.approx(0.5, abs=0.08)
    assert "among images with the same label" in leakage_sentences(found)[0]
    assert "hardly anything" in leakage_sentences(found)[1]
    features[:, 1] += 6 * (source == "a")
    assert source_leakage(features, source, groups, targets).within > 0.99


def test_the_regression_is_scikit_learns():
    rng = np.random.default_rng(3)
    x, classes = rng.normal(size=(200, 7)), rng.integers(0, 3, 200)
    x[:, 0] += classes
    ours = multinomial_regression(x, classes, 3)
    theirs = LogisticRegression(C=1.0, tol=1e-8, max_iter=1000).fit(x, classes)
    assert pytest.approx(theirs.coef_, abs=2e-3) == ours[:-1].T
    probabilities = np.exp(x @ ours[:-1] + ours[-1])
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    assert probabilities == pytest.approx(theirs.predict_proba(x), abs=1e-3)


def test_few_patients_are_left_out_and_named():
    _, features, source, groups, targets = draw(200)
    source = source.astype("U4")
    source[:6] = "tiny"
    found = source_leakage(features, source, groups, targets)
    assert found.left_out == ("tiny",)
    assert "Left out, with fewer than 10 patients: tiny." in leakage_sentences(found)
    assert source_leakage(features, np.full(200, "a"), groups, targets) is None
    assert source_leakage(features[:18], source[:18], groups[:18], targets[:18]) is None


def test_test_images_are_used_and_else_validation_ones():
    _, features, source, groups, _ = draw(400)
    splits = np.array(["val", "test"])[np.arange(400) // 2 // 2 % 2]
    base = {
        "classes": ("a finding",),
        "labels": np.zeros((400, 1), np.int8),
        "probabilities": np.full((400, 1), 0.5),
        "origins": np.zeros((400, 1), np.uint8),
        "names": groups,
        "groups": groups,
        "splits": splits,
        "paths": groups,
    }
    predictions = Predictions(sources=source, **base)
    assert leakage_of(predictions, lambda rows: features[rows]).split == "test"
    one = np.where(splits == "test", "a", source)
    found = leakage_of(Predictions(sources=one, **base), lambda rows: features[rows])
    assert found.split == "val"
    assert "the sources of validation images" in leakage_sentences(found)[0]
    assert leakage_of(Predictions(sources=np.full(400, "a"), **base), lambda rows: features[rows]) is None
    assert leakage_of(predictions, lambda _: None) is None  # a network without features


def test_mistakes_are_named():
    _, features, source, groups, targets = draw(100)
    with pytest.raises(LabelAssembleError, match="features must be finite"):
        source_leakage(np.where(features > 1, np.nan, features), source, groups, targets)
    with pytest.raises(LabelAssembleError, match=r"for 100 images, got \[99, 12\] and \[100, 1\]"):
        source_leakage(features[1:], source, groups, targets)
