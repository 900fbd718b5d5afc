"""Which figure of a class stands first, pooled or within sources: one rule for report, card and console."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from labelassemble.evaluation import Predictions, auroc, evaluate
from labelassemble.evaluation.headline import headline, stratified_auroc
from labelassemble.evaluation.leakage import Leakage
from labelassemble.evaluation.statistics import delong
from labelassemble.report.model_card import model_card
from labelassemble.report.page import report_page
from labelassemble.report.record import OtherRun, Results, RunRecord
from labelassemble.report.text import evaluation_text

LEAK = Leakage("test", 400, (), 0.95, 0.9, ())


def predictions(*, rates=(0.1, 0.9), size=200):
    """Two sources; the scores know the source well and the finding hardly."""
    rng = np.random.default_rng(0)
    source = np.repeat([0, 1], size)
    labels = (np.arange(2 * size) % size < np.array(rates)[source] * size).astype(np.int8)
    scores = rng.normal(0, 1, 2 * size) + 3 * source + 0.3 * labels
    paths = np.array([f"{i}.png" for i in range(2 * size)])
    return Predictions(
        ("COVID-19",),
        paths,
        paths,
        paths,
        np.full(2 * size, "test"),
        np.array(["nih", "clinic"])[source],
        labels[:, None],
        np.zeros((2 * size, 1), np.uint8),
        probabilities=1 / (1 + np.exp(-scores))[:, None],
    )


def test_within_sources_every_pair_counts_alike():
    rng = np.random.default_rng(1)
    targets, scores = rng.choice([0.0, 1.0, np.nan], 90), rng.normal(size=90)
    sources, patients = rng.integers(0, 3, 90), np.arange(90)
    won = pairs = 0
    for code in range(3):
        own = sources == code
        p, n = scores[own & (targets == 1)], scores[own & (targets == 0)]
        won, pairs = won + (p[:, None] > n).sum(), pairs + len(p) * len(n)
    found = stratified_auroc(targets, scores, sources, patients)
    assert found.auroc == pytest.approx(won / pairs, abs=1e-12)
    assert found.interval.lower < found.auroc < found.interval.upper
    assert stratified_auroc(targets, scores, np.zeros(90, int), patients) is None
    known = ~np.isnan(targets)
    assert stratified_auroc(np.where(known, sources == 1, np.nan), scores, sources, patients) is None


def test_one_stratum_has_delongs_variance_and_interval():
    rng = np.random.default_rng(2)
    scores, targets, sources = rng.normal(size=60), np.tile([0.0, 1.0, 1.0], 20), np.repeat([0, 1], [50, 10])
    targets[50:] = 0  # the second source has no positive
    found = stratified_auroc(targets, scores, sources, np.arange(60))
    alone = delong(scores[:50][targets[:50] == 1], scores[:50][targets[:50] == 0])
    assert found.variance == pytest.approx(alone.variance, rel=1e-12)
    assert found.interval == pytest.approx(alone.interval, abs=1e-9)


def test_where_features_tell_the_sources_and_the_class_is_tied_to_them_the_figure_within_sources_stands_first():
    evaluation = evaluate(predictions(), leakage=LEAK)
    first = evaluation.headline("COVID-19")
    assert evaluation.classes[0].auroc > 0.8
    assert first.within
    assert 0.45 < first.auroc < 0.7
    assert first.reason.startswith("the features alone tell the sources apart (AUC 0.95)")


@pytest.mark.parametrize(
    ("rates", "leakage"),
    [((0.1, 0.9), None), ((0.1, 0.9), replace(LEAK, auc=0.69, within=0.6)), ((0.3, 0.4), LEAK)],
)
def test_elsewhere_the_pooled_figure_stands_first(rates, leakage):
    evaluation = evaluate(predictions(rates=rates), leakage=leakage)
    first = evaluation.headline("COVID-19")
    assert (first.auroc, first.within) == (evaluation.classes[0].auroc, False)
    assert "AUROC to go by" not in evaluation_text(evaluation)


def test_where_no_source_has_both_states_nothing_stands_first():
    evaluation = evaluate(predictions(rates=(0.0, 1.0)), leakage=LEAK)
    assert headline(evaluation.classes[0], LEAK).auroc is None
    assert "no source has both positives and negatives" in evaluation_text(evaluation)
    page = report_page(record(), Results(predictions(), evaluation=evaluation, leakage=LEAK), (), None, None)
    assert "cannot be told apart" in page
    assert "not defined within sources" in page


def record():
    return RunRecord(Path("run"), ("COVID-19",), ("COVID-19",), {}, None, None, None, None, None)


def test_page_card_and_console_have_the_same_figure_first():
    rows = predictions()
    results = Results(rows, evaluation=evaluate(rows, leakage=LEAK), leakage=LEAK)
    first = results.evaluation.headline("COVID-19")
    pooled, within = f"{results.evaluation.classes[0].auroc:.3f}", f"{first.auroc:.3f}"
    assert f"COVID-19: {within} (" in evaluation_text(results.evaluation)
    [facts] = [section.facts for section in model_card(record(), results) if section.title == "Results"]
    assert facts[0][1].startswith(f"AUROC {within} (")
    assert f"within sources (pooled {pooled}" in facts[0][1]
    page = report_page(record(), results, (), None, None)
    assert f'<span class="big">{within}</span>' in page
    assert f"Pooled over all sources: {pooled} (" in page
    assert "and one without from the same source" in page
    assert auroc(rows.given_targets()[:, 0], rows.probabilities[:, 0]) > 0.8


def test_runs_side_by_side_in_a_report_follow_the_rule():
    rows = predictions()
    results = Results(rows, evaluation=evaluate(rows), leakage=None)
    better = replace(rows, probabilities=np.clip(rows.probabilities + 0.3 * (rows.labels == 1), 0, 1))
    others = [OtherRun("leaking", "", rows, None, LEAK), OtherRun("better", "", better, None)]
    page = report_page(record(), results, others, None, None)
    within = evaluate(rows, leakage=LEAK).headline("COVID-19").auroc
    assert f"{within:.3f} (" in page
    assert f"pooled {results.evaluation.classes[0].auroc:.3f} (" in page
    assert "it is not to go by: in leaking, the features alone tell the sources apart (AUC 0.95)" in page
    alone = report_page(record(), results, [replace(others[0], leakage=None)], None, None)
    assert "within sources; " not in alone


def test_the_mean_is_that_of_the_figures_above_it():
    one, plain = predictions(), predictions(rates=(0.5, 0.5))
    both = replace(
        one,
        classes=("COVID-19", "Edema"),
        labels=np.hstack([one.labels, plain.labels]),
        origins=np.zeros((len(one), 2), np.uint8),
        probabilities=np.hstack([one.probabilities, plain.probabilities]),
    )
    evaluation = evaluate(both, leakage=LEAK, bootstrap=0)
    shown = [evaluation.headline(name).auroc for name in both.classes]
    assert [evaluation.headline(name).within for name in both.classes] == [True, False]
    mean = evaluation.mean_of_headlines
    assert mean.auroc == pytest.approx(np.mean(shown))
    assert abs(mean.auroc - evaluation.mean.auroc) > 0.05
    assert mean.bootstrap is None
    text = f"{mean.auroc:.3f}"
    assert f"- mean of 2: {text} with these figures, pooled " in evaluation_text(evaluation)
    assert evaluate(both, bootstrap=0).mean_of_headlines.auroc == evaluate(both, bootstrap=0).mean.auroc
