"""Drift: no change cries drift as rarely as it says, a change is found, and what is measured is what scipy measures."""

import numpy as np
import pytest
from scipy.stats import ks_2samp

from labelassemble.errors import LabelAssembleError
from labelassemble.evaluation.drift import ALPHA, LEAST, Observed, drift_of, overall, population_stability


def observed(rng, size, *, classes=6, shift=0.0, unreadable=2):
    common = rng.normal(size=size)  # scores of one image go together
    scores = {
        f"class {c}": 1 / (1 + np.exp(-(common + rng.normal(size=size) + shift * (c == 0))))
        for c in range(classes)
    }
    inputs = {"brightness": rng.normal(0.5, 0.1, size), "contrast": rng.normal(0.2, 0.05, size)}
    return Observed(scores, inputs, size, unreadable)


@pytest.mark.parametrize(("reference", "now"), [(150, 150), (400, 100)])
def test_without_a_change_a_report_cries_drift_as_rarely_as_it_says(reference, now):
    rng = np.random.default_rng(0)
    cried = changed = 0
    for _ in range(150):
        found = drift_of(observed(rng, reference), observed(rng, now))
        cried += any(item.verdict == "drift" for item in found)
        changed += any(item.verdict in ("drift", "small shift") for item in found)
    bound = ALPHA + 3 * np.sqrt(ALPHA * (1 - ALPHA) / 150)
    assert cried / 150 <= changed / 150 <= bound


def test_a_change_is_found_and_named():
    rng = np.random.default_rng(1)
    found = {
        (item.kind, item.name): item
        for item in drift_of(observed(rng, 400), observed(rng, 300, shift=1.5, unreadable=40))
    }
    changed = found["score", "class 0"]
    assert changed.verdict == "drift"
    assert changed.now > changed.reference
    assert changed.psi > 0.25
    assert 0 < changed.distance < 1
    assert found["score", "class 1"].verdict == "no drift seen"
    assert found["unreadable", "unreadable files"].verdict == "drift"
    assert found["unreadable", "unreadable files"].now == pytest.approx(40 / 340)
    assert overall(list(found.values())).startswith("Drift: score of class 0, unreadable files.")


def test_a_shift_that_hardly_matters_is_called_small():
    rng = np.random.default_rng(2)
    found = drift_of(observed(rng, 20_000, classes=1), observed(rng, 20_000, classes=1, shift=0.12))
    assert found[0].verdict == "small shift"
    assert "No drift that matters; small shifts: score of class 0." in overall(found)


def test_measures_are_those_of_their_definitions():
    rng = np.random.default_rng(3)
    a, b = rng.random(200), rng.random(300) ** 1.2
    found = drift_of(Observed({"a": a}, {}, 200, None), Observed({"a": b}, {}, 300, None))[0]
    assert found.p == ks_2samp(a, b).pvalue
    edges = np.quantile(a, np.linspace(0, 1, 11)[1:-1])
    p, q = (np.histogram(x, [-np.inf, *edges, np.inf])[0] + 0.5 for x in (a, b))
    p, q = p / p.sum(), q / q.sum()
    assert found.psi == pytest.approx(np.sum((q - p) * np.log(q / p)))
    assert population_stability(a, a, edges) == 0
    assert sum(found.now_shares) == pytest.approx(1)


def test_with_few_images_nothing_is_said_and_mistakes_are_named():
    rng = np.random.default_rng(4)
    found = drift_of(observed(rng, 200), observed(rng, LEAST - 3, unreadable=1))
    assert {item.verdict for item in found} == {"too few to say"}
    assert overall(found).startswith("Too few to say")
    with pytest.raises(LabelAssembleError, match="no class in common: the log has x, the run a"):
        drift_of(Observed({"a": np.ones(3)}, {}, 3, 0), Observed({"x": np.ones(3)}, {}, 3, 0))


def test_a_log_of_unreadable_files_alone_is_a_drift():
    before = Observed({"x": np.linspace(0, 1, 100)}, {}, images=100, unreadable=0)
    [found] = drift_of(before, Observed({}, {}, images=0, unreadable=80))
    assert (found.name, found.verdict, found.now) == ("unreadable files", "drift", 1.0)
    assert overall([found]).startswith("Drift: unreadable files.")


def test_what_was_not_compared_is_no_all_clear():
    rng = np.random.default_rng(0)
    values = {"x": rng.random(200), "y": rng.random(200)}
    before = Observed(values, {}, images=200, unreadable=0)
    found = drift_of(
        before, Observed({"x": rng.random(200), "y": rng.random(40)}, {}, images=200, unreadable=0)
    )
    assert (
        overall(found)
        == "Too few to say (at least 50 on both sides): score of y. Of the rest: no drift seen."
    )
