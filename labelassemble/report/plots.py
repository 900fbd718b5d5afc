"""The report's drawings. Names stand beside them in HTML, where long ones wrap; a drawing holds numbers only."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from labelassemble.evaluation.metrics import RocCurve
from labelassemble.evaluation.reliability import Reliability
from labelassemble.evaluation.statistics import Interval
from labelassemble.report.format import number
from labelassemble.report.svg import Point, Svg

SERIES = 6
"""How many lines are told apart by colour and dash; CSS classes line-0 to line-5."""


@dataclass(frozen=True, slots=True)
class Series:
    """A line of a learning curve; None where a value is not defined."""

    name: str
    values: tuple[float | None, ...]


@dataclass(frozen=True, slots=True)
class _Frame:
    """The area that an x axis and a y axis span, with values mapped onto it."""

    left: float
    top: float
    width: float
    height: float
    x_range: tuple[float, float]
    y_range: tuple[float, float]

    def at(self, x: float, y: float) -> Point:
        return self.x(x), self.y(y)

    def x(self, value: float) -> float:
        low, high = self.x_range
        return self.left + self.width * (value - low) / (high - low)

    def y(self, value: float) -> float:
        low, high = self.y_range
        return self.top + self.height * (high - value) / (high - low)


def series_style(index: int) -> str:
    """Return the CSS class of a line: colour and dash, the first always solid."""
    return f"line line-{index % SERIES}"


def swatch(index: int) -> Markup:
    """Return the piece of line that stands before a name in a legend."""
    svg = Svg(26, 10, "")
    svg.line((1, 5), (25, 5), series_style(index))
    return svg.markup()


def strip(value: float | None, interval: Interval | None, low: float) -> Markup:
    """Return an AUROC with its interval on a line from `low` to 1, with a mark at 0.5."""
    label = "not defined" if value is None else f"AUROC {number(value)} on a line from {low:g} to 1"
    svg = Svg(200, 18, label)
    frame = _Frame(9, 2, 182, 14, (low, 1.0), (0.0, 1.0))
    for tick in _ticks(low, 1.0, 5):
        svg.line(frame.at(tick, 0), frame.at(tick, 1), "chance" if tick == 0.5 else "grid")
    if interval is not None:
        left, right = frame.x(max(interval.lower, low)), frame.x(max(interval.upper, low))
        svg.rect((left, 5), max(right - left, 1), 8, "band")
    if value is not None:
        svg.rect((frame.x(value) - 1.1, 3), 2.2, 12, "point")
    return svg.markup()


def strip_scale(low: float) -> Markup:
    """Return the scale that stands above strips."""
    svg = Svg(200, 14, f"scale from {low:g} to 1")
    frame = _Frame(9, 0, 182, 14, (low, 1.0), (0.0, 1.0))
    for tick in _ticks(low, 1.0, 5):
        svg.text((frame.x(tick), 10), f"{tick:g}", "tick")
    return svg.markup()


def strip_low(intervals: Sequence[Interval | None], values: Sequence[float | None]) -> float:
    """Return where strips begin so that all of them fit: 0.5 or a tenth below the lowest value."""
    lowest = [interval.lower for interval in intervals if interval] + [v for v in values if v is not None]
    return max(0.0, min([0.4, *(math.floor(value * 10 - 1e-9) / 10 for value in lowest)]))


def roc(curves: Sequence[tuple[int, RocCurve]], label: str) -> Markup:
    """Return ROC curves, each with the index of its style; the first is drawn on top."""
    svg = Svg(320, 312, label)
    frame = _Frame(42, 8, 268, 258, (0.0, 1.0), (0.0, 1.0))
    _square_axes(svg, frame, "false alarms (1 \N{MINUS SIGN} specificity)", "sensitivity")
    for index, curve in reversed(curves):
        points = [
            frame.at(float(x), float(y))
            for x, y in zip(curve.false_positive_rate, curve.true_positive_rate, strict=True)
        ]
        svg.path(_fewer(points), series_style(index))
    return svg.markup()


def reliability(calibration: Reliability, label: str, *, scaled: Reliability | None = None) -> Markup:
    """Return the reliability curve with Wilson's intervals, and below it how many images each point stands for.

    Args:
        calibration: of the probabilities as the model gives them.
        label: the drawing in words.
        scaled: after temperature scaling, drawn as a second line.
    """
    svg = Svg(320, 360, label)
    frame = _Frame(42, 8, 268, 258, (0.0, 1.0), (0.0, 1.0))
    _square_axes(svg, frame, "", "share of positives")
    points = calibration.points
    for point in points:
        interval = point.positives.interval
        if interval is not None:
            x = frame.x(point.mean_probability)
            svg.line((x, frame.y(interval.lower)), (x, frame.y(interval.upper)), "whisker")
    if scaled is not None:
        after = [frame.at(point.mean_probability, point.positives.value or 0.0) for point in scaled.points]
        svg.path(after, "line line-1 thin")
        for place in after:
            svg.circle(place, 2.6, "dot-1")
    shares = [(point.mean_probability, point.positives.value or 0.0) for point in points]
    svg.path([frame.at(x, y) for x, y in shares], "line line-0 thin")
    for point, (x, y) in zip(points, shares, strict=True):
        hint = f"{point.positives.successes} of {point.positives.trials} positive at mean probability {number(x)}"
        svg.circle(frame.at(x, y), 3.6, "dot", hint=hint)
    most = max(point.positives.trials for point in points)
    for point in points:
        height = 34 * point.positives.trials / most
        svg.rect((frame.x(point.mean_probability) - 5, 324 - height), 10, max(height, 0.8), "column")
    svg.line((frame.left, 324), (frame.left + frame.width, 324), "axis")
    svg.text((frame.left - 6, 324), "0", "tick", anchor="end")
    svg.text((frame.left - 6, 296), str(most), "tick", anchor="end")
    svg.text((frame.left + frame.width / 2, 345), "mean predicted probability; columns: images", "title")
    return svg.markup()


def learning_curve(
    epochs: Sequence[int],
    series: Sequence[Series],
    *,
    axis: str,
    label: str,
    top: float | None,
    mark: int | None,
    share: bool = False,
) -> Markup:
    """Return lines over epochs.

    Args:
        epochs: [E], rising.
        series: their values, [E] each; a gap where one is not defined.
        axis: what the y axis shows.
        label: the drawing in words.
        top: the largest value possible, above which the axis does not go.
        mark: the epoch from which pseudo-labels count, None for no mark.
        share: the axis goes from 0 to 1, whatever the values.
    """
    svg = Svg(400, 250, label)
    defined = [value for line in series for value in line.values if value is not None]
    if share:
        defined += [0.0, 1.0]
    ticks = _nice_ticks(min(defined), max(defined), top)
    ends = (float(epochs[0]), float(epochs[-1])) if len(epochs) > 1 else (epochs[0] - 0.5, epochs[0] + 0.5)
    frame = _Frame(50, 10, 338, 190, ends, (ticks[0], ticks[-1]))
    for tick in ticks:
        svg.line((frame.left, frame.y(tick)), (frame.left + frame.width, frame.y(tick)), "grid")
        svg.text((frame.left - 6, frame.y(tick) + 4), f"{tick:g}", "tick", anchor="end")
    for epoch in _epoch_ticks(epochs):
        svg.text((frame.x(epoch), frame.top + frame.height + 15), str(epoch), "tick")
    if mark is not None:
        svg.line((frame.x(mark), frame.top), (frame.x(mark), frame.top + frame.height), "mark")
    for index, line in reversed(list(enumerate(series))):
        for run in _runs(epochs, line.values):
            points = [frame.at(x, y) for x, y in run]
            svg.path(points, series_style(index))
            if len(points) == 1:
                svg.circle(points[0], 2.5, f"dot-{index % SERIES}")
    svg.line((frame.left, frame.y(ticks[0])), (frame.left + frame.width, frame.y(ticks[0])), "axis")
    svg.text((frame.left + frame.width / 2, 240), "epoch", "title")
    svg.text((11, frame.top + frame.height / 2), axis, "title", turned=True)
    return svg.markup()


def _square_axes(svg: Svg, frame: _Frame, below: str, beside: str) -> None:
    bottom, right = frame.top + frame.height, frame.left + frame.width
    for tick in (0.0, 0.25, 0.5, 0.75, 1.0):
        svg.line((frame.x(tick), frame.top), (frame.x(tick), bottom), "grid")
        svg.line((frame.left, frame.y(tick)), (right, frame.y(tick)), "grid")
        svg.text((frame.left - 6, frame.y(tick) + 4), f"{tick:g}", "tick", anchor="end")
        svg.text((frame.x(tick), bottom + 15), f"{tick:g}", "tick")
    svg.line(frame.at(0, 0), frame.at(1, 1), "chance")
    svg.line((frame.left, bottom), (right, bottom), "axis")
    svg.line((frame.left, frame.top), (frame.left, bottom), "axis")
    if below:
        svg.text((frame.left + frame.width / 2, bottom + 36), below, "title")
    svg.text((11, frame.top + frame.height / 2), beside, "title", turned=True)


def _ticks(low: float, high: float, parts: int) -> list[float]:
    """Return round tenths from `low` to `high`, at most about 2 * `parts` of them, 0.5 among them."""
    tenths = range(round(low * 10), round(high * 10) + 1)
    step = 1 if len(tenths) <= 2 * parts else 5
    return [tenth / 10 for tenth in tenths if tenth % step == 0 or tenth in (tenths[0], tenths[-1])]


def _nice_ticks(low: float, high: float, top: float | None) -> list[float]:
    """Return 3 to 7 round values around [low, high]; the last not above `top`."""
    spread = max(high - low, 0.1 * abs(high), 1e-9)  # a wobble in the third digit is not drawn as a mountain
    rough = spread / 4
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= rough)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    if top is not None:
        last = min(last, round(top / step))
    last = max(last, first + 1)
    return [round(step * index, 12) for index in range(first, last + 1)]


def _epoch_ticks(epochs: Sequence[int]) -> list[int]:
    count = epochs[-1] - epochs[0]
    step = next(s * 10**p for p in range(9) for s in (1, 2, 5) if count / (s * 10**p) <= 8)
    inner = [epoch for epoch in range(epochs[0], epochs[-1] + 1) if epoch % step == 0]
    return inner or [epochs[0]]


def _runs(epochs: Sequence[int], values: Sequence[float | None]) -> list[list[Point]]:
    """Return the stretches of defined values."""
    runs: list[list[Point]] = [[]]
    for epoch, value in zip(epochs, values, strict=True):
        if value is None:
            runs.append([])
        else:
            runs[-1].append((float(epoch), value))
    return [run for run in runs if run]


def _fewer(points: Sequence[Point]) -> list[Point]:
    """Return points without those that nobody can see: within 0.3 units of the last kept, or on a straight line."""
    kept = [points[0]]
    for point in points[1:-1]:
        if math.dist(point, kept[-1]) >= 0.3:
            kept.append(point)
    kept.append(points[-1])
    array = np.array(kept)
    before, after = array[1:-1] - array[:-2], array[2:] - array[1:-1]
    bends = np.abs(before[:, 0] * after[:, 1] - before[:, 1] * after[:, 0]) > 1e-6
    return [kept[0], *(point for point, bend in zip(kept[1:-1], bends, strict=True) if bend), kept[-1]]


def percent_width(share: float) -> str:
    """Return a share as a CSS length, for bars in table cells."""
    return f"{100 * share:.2f}%"
