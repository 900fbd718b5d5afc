"""Plots: sound XML in the page's colours whatever is drawn, within their frame, with gaps where nothing is defined."""

import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labelassemble.evaluation import Interval, reliability_of, roc_curve
from labelassemble.report.plots import Series, learning_curve, reliability, roc, strip_low, strip_ticks

unhurried = settings(deadline=None, max_examples=25)
SVG = "{http://www.w3.org/2000/svg}"


def points(path):
    return np.array(re.findall(r"[ML] (-?[\d.]+) (-?[\d.]+)", path.attrib["d"]), float)


def parsed(markup):
    """Return the root of a plot that stays within its frame and brings no colour, font or link of its own."""
    root = ET.fromstring(str(markup))
    _, _, width, height = map(float, root.attrib["viewBox"].split())
    for path in root.iter(f"{SVG}path"):
        if path not in [shape for defined in root.iter(f"{SVG}defs") for shape in defined]:
            assert (points(path) >= 0).all()
            assert (points(path) <= [width, height]).all()
    assert not re.search(r"#[0-9a-f]{6}\b|font-family|url\(|clip-path|<metadata|<style|<!--", markup)
    assert set(re.findall(r'href="(.)', markup)) <= {"#"}
    return root


def lines(root, index):
    """Return what is drawn as a line of the colour `index`, two points or more."""
    style = f"fill: none; .*stroke: var\\(--line-{index}\\)"
    drawn = [path for path in root.iter(f"{SVG}path") if re.search(style, path.attrib.get("style", ""))]
    return [path for path in drawn if len(points(path)) > 1]


def texts(root):
    return [text.text for text in root.iter(f"{SVG}text")]


def test_what_a_plot_shows_stands_in_words_and_is_escaped():
    curve = roc_curve([0, 1], [0.1, 0.2])
    root = parsed(roc([(0, curve)], '<"label"> & more'))
    assert root.attrib["aria-label"] == '<"label"> & more'
    assert root.attrib["role"] == "img"
    assert {"sensitivity", "false alarms (1 \N{MINUS SIGN} specificity)", "0.75"} <= set(texts(root))
    assert roc([(0, curve)], "x") == roc([(0, curve)], "x")  # the same bytes every time


@unhurried
@given(st.integers(0, 2**31), st.integers(1, 3000), st.booleans())
def test_a_roc_curve_keeps_its_shape_with_fewer_points(seed, size, ties):
    rng = np.random.default_rng(seed)
    labels = np.append(rng.integers(0, 2, size), [0, 1])
    scores = rng.normal(size=size + 2) + labels
    curve = roc_curve(labels, np.round(scores, 1) if ties else scores)
    (path,) = lines(parsed(roc([(0, curve)], "roc")), 0)
    drawn = points(path)
    assert len(drawn) <= len(curve.thresholds) + 1
    # From the lower left corner to the upper right one; a point that is left out moves the line by less than its width.
    assert drawn[0].tolist() == [50, 258]
    assert drawn[-1].tolist() == [310, 8]
    area = np.trapezoid(258 - drawn[:, 1], drawn[:, 0]) / (260 * 250)
    exact = np.trapezoid(curve.true_positive_rate, curve.false_positive_rate)
    assert area == pytest.approx(exact, abs=0.01)


def test_a_long_curve_is_thinned():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 50_000)
    markup = roc([(0, roc_curve(labels, rng.normal(size=50_000) + labels))], "roc")
    assert len(markup) < 40_000


defined = st.none() | st.floats(1e-6, 1e6)


@unhurried
@given(
    st.lists(defined, min_size=1, max_size=30).filter(
        lambda values: any(value is not None for value in values)
    )
)
def test_learning_curves_have_gaps_where_nothing_is_defined(values):
    series = [Series("loss", tuple(values))]
    root = parsed(
        learning_curve(range(1, len(values) + 1), series, axis="loss", label="x", top=None, mark=None)
    )
    runs = "".join("." if value is None else "v" for value in values).replace(".", " ").split()
    assert len(lines(root, 0)) == sum(len(run) > 1 for run in runs)
    assert len(list(root.iter(f"{SVG}use"))) == sum(len(run) == 1 for run in runs)


def ticks(root):
    """Return the numbers of the y axis."""
    return [float(text.text) for text in root.iter(f"{SVG}text") if "end" in text.attrib["style"]]


def test_an_auroc_axis_ends_at_1():
    series = [Series("auc", (0.97, 0.999))]
    markup = learning_curve([1, 2], series, axis="AUROC", label="x", top=1.0, mark=2)
    assert max(ticks(parsed(markup))) == 1.0
    assert "stroke-dasharray: 1.5,3.5" in markup  # the mark
    assert "stroke-dasharray: 1.5,3.5" not in learning_curve(
        [1, 2], series, axis="AUROC", label="x", top=1.0, mark=None
    )


@pytest.mark.parametrize("values", [(1.0, 1.0), (0.0, 0.0), (0.2, 0.3)])
def test_an_axis_of_shares_goes_from_0_to_1(values):
    root = parsed(
        learning_curve(
            [1, 2], [Series("share", values)], axis="share", label="x", top=1.0, mark=None, share=True
        )
    )
    assert (min(ticks(root)), max(ticks(root))) == (0.0, 1.0)


@pytest.mark.parametrize("epochs", [[7], [1, 2], list(range(1, 101))])
def test_epochs_are_whole_numbers(epochs):
    series = [Series("loss", tuple(1 / epoch for epoch in epochs))]
    root = parsed(learning_curve(epochs, series, axis="loss", label="x", top=None, mark=None))
    below = [t.text for t in root.iter(f"{SVG}text") if "middle" in t.attrib["style"]]
    assert below[-2:] == ["epoch", "loss"]
    assert {int(text) for text in below[:-2]} <= set(epochs)
    assert 1 <= len(below[:-2]) <= 10


@unhurried
@given(st.tuples(st.floats(0, 1), st.floats(0, 1)).map(sorted))
def test_strips_begin_so_low_that_intervals_fit(values):
    lower, value = values
    low = strip_low([Interval(lower, 1.0)], [value])
    assert 0 <= low <= min(lower, 0.4)
    assert 0.5 in strip_ticks(low)
    assert strip_ticks(low)[-1] == 1.0
    assert len(strip_ticks(low)) <= 10


@pytest.mark.parametrize("size", [1, 2, 500])
def test_reliability_draws_a_point_for_every_bin_with_images(size):
    rng = np.random.default_rng(size)
    measured = reliability_of(rng.random(size), rng.random(size // 2))
    root = parsed(reliability(measured, "x"))
    hints = [title.text for title in root.iter(f"{SVG}title")]
    first = measured.points[0].positives
    assert len(hints) == len(measured.points) == len(list(root.iter(f"{SVG}use")))
    assert hints[0].startswith(f"{first.successes} of {first.trials} positive at mean probability 0.")
    columns = [p for p in root.iter(f"{SVG}path") if "opacity: 0.4" in p.attrib.get("style", "")]
    assert len(columns) == len(measured.points)
    most = max(point.positives.trials for point in measured.points)
    assert str(most) in texts(root)
