"""Drawings: sound XML whatever is drawn, within their frame, and with gaps where nothing is defined."""

import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labelassemble.evaluation import Interval, reliability_of, roc_curve
from labelassemble.report.plots import (
    Series,
    learning_curve,
    reliability,
    roc,
    strip,
    strip_low,
    strip_scale,
)
from labelassemble.report.svg import Svg

unhurried = settings(deadline=None, max_examples=60)
SVG = "{http://www.w3.org/2000/svg}"


def parsed(markup):
    root = ET.fromstring(str(markup))
    _, _, width, height = map(float, root.attrib["viewBox"].split())
    for path in root.iter(f"{SVG}path"):
        points = [tuple(map(float, pair.split())) for pair in re.sub("[MZ]", "", path.attrib["d"]).split("L")]
        assert all(0 <= x <= width and 0 <= y <= height for x, y in points)
    for shape in (*root.iter(f"{SVG}rect"), *root.iter(f"{SVG}circle")):
        x = float(shape.attrib.get("x", shape.attrib.get("cx")))
        assert 0 <= x <= width
    return root


def lines(root, style):
    return [path for path in root.iter(f"{SVG}path") if style in path.attrib["class"].split()]


def ticks(root):
    return [text.text for text in root.iter(f"{SVG}text") if text.attrib["class"] == "tick"]


def test_text_is_escaped():
    svg = Svg(10, 10, '<"label">')
    svg.text((1, 1), "</text><script>", "tick")
    svg.circle((1, 1), 1, "dot", hint="a & b")
    root = parsed(svg.markup())
    assert root.attrib["aria-label"] == '<"label">'
    assert root.find(f"{SVG}text").text == "</text><script>"
    assert root.find(f"{SVG}circle/{SVG}title").text == "a & b"


@unhurried
@given(st.integers(0, 2**31), st.integers(1, 3000), st.booleans())
def test_a_roc_curve_keeps_its_shape_with_fewer_points(seed, size, ties):
    rng = np.random.default_rng(seed)
    labels = np.append(rng.integers(0, 2, size), [0, 1])
    scores = rng.normal(size=size + 2) + labels
    curve = roc_curve(labels, np.round(scores, 1) if ties else scores)
    (path,) = lines(parsed(roc([(0, curve)], "roc")), "line-0")
    drawn = np.array([pair.split() for pair in path.attrib["d"][1:].split("L")], float)
    assert len(drawn) <= len(curve.thresholds) + 1
    # From the lower left corner to the upper right one, never back.
    assert drawn[0].tolist() == [42, 266]
    assert drawn[-1].tolist() == [310, 8]
    assert (np.diff(drawn[:, 0]) >= 0).all()
    assert (np.diff(drawn[:, 1]) <= 0).all()
    # The area under what is drawn is the area under the curve, but for the width of a line.
    area = np.trapezoid(266 - drawn[:, 1], drawn[:, 0]) / (268 * 258)
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
    assert len(lines(root, "line-0")) == len(runs)
    assert len(list(root.iter(f"{SVG}circle"))) == sum(len(run) == 1 for run in runs)


def test_an_auroc_axis_ends_at_1():
    series = [Series("auc", (0.97, 0.999))]
    root = parsed(learning_curve([1, 2], series, axis="AUROC", label="x", top=1.0, mark=2))
    numbers = [float(tick) for tick in ticks(root)]
    assert 1.0 in numbers
    assert not [number for number in numbers[:-2] if number > 1]
    assert [line for line in root.iter(f"{SVG}line") if line.attrib["class"] == "mark"]


@pytest.mark.parametrize("values", [(1.0, 1.0), (0.0, 0.0), (0.2, 0.3)])
def test_an_axis_of_shares_goes_from_0_to_1(values):
    root = parsed(
        learning_curve(
            [1, 2], [Series("share", values)], axis="share", label="x", top=1.0, mark=None, share=True
        )
    )
    numbers = [float(tick) for tick in ticks(root)][: -len(range(2))]
    assert (min(numbers), max(numbers)) == (0.0, 1.0)


@unhurried
@given(st.tuples(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1)).map(sorted))
def test_strips_hold_their_interval(values):
    lower, value, upper = values
    low = strip_low([Interval(lower, upper)], [value])
    assert low <= min(lower, 0.4)
    root = parsed(strip(value, Interval(lower, upper), low))
    band, point = root.findall(f"{SVG}rect")
    left, width = float(band.attrib["x"]), float(band.attrib["width"])
    middle = float(point.attrib["x"]) + 1.1
    assert left - 0.02 <= middle <= left + width + 0.02
    assert "0.5" in ticks(parsed(strip_scale(low)))


def test_a_strip_without_a_value_is_an_empty_scale():
    root = parsed(strip(None, None, 0.4))
    assert root.findall(f"{SVG}rect") == []
    assert root.attrib["aria-label"] == "not defined"


@pytest.mark.parametrize("size", [1, 2, 500])
def test_reliability_draws_a_point_for_every_bin_with_images(size):
    rng = np.random.default_rng(size)
    calibration = reliability_of(rng.random(size), rng.random(size // 2))
    root = parsed(reliability(calibration, "x"))
    assert len(list(root.iter(f"{SVG}circle"))) == len(calibration.points)
    assert len([r for r in root.iter(f"{SVG}rect") if r.attrib["class"] == "column"]) == len(
        calibration.points
    )
