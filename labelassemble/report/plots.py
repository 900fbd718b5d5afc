"""The report's plots, by matplotlib, as SVG that takes the page's colours and font. Names stand beside them in HTML."""

import io
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Final

import matplotlib as mpl
import numpy as np
from markupsafe import Markup, escape
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator

from labelassemble.evaluation.lesion_figures import LesionCurve
from labelassemble.evaluation.metrics import RocCurve
from labelassemble.evaluation.operating import DecisionCurve
from labelassemble.evaluation.proportion import Interval
from labelassemble.evaluation.reliability import Reliability
from labelassemble.report.format import number

_LINES: Final = ("#0d6a69", "#c05716", "#674fa6", "#2c6cb0", "#a62f6c", "#69737a")
_DASHES: Final = (
    "-",
    (0, (7, 3)),
    (0, (2.5, 2.5)),
    (0, (9, 3, 2, 3)),
    (0, (12, 4)),
    (0, (5, 2, 1.5, 2, 1.5, 2)),
)
_SOFT, _RULE, _CARD = "#53616a", "#dde3e6", "#fffffe"
# The stylesheet says what these colours are on a light and on a dark page.
_VARIABLES: Final[Mapping[str, str]] = {
    **{colour: f"var(--line-{index})" for index, colour in enumerate(_LINES)},
    _SOFT: "var(--soft)",
    _RULE: "var(--rule)",
    _CARD: "var(--card)",
}
_STYLE: Final[Any] = {
    "axes.edgecolor": _SOFT,
    "axes.grid": True,
    "axes.labelcolor": _SOFT,
    "axes.labelpad": 2,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.unicode_minus": True,
    "font.size": 11,
    "grid.color": _RULE,
    "lines.scale_dashes": False,
    "path.simplify_threshold": 0.5,
    "svg.fonttype": "none",
    "svg.hashsalt": "labelassemble",
    "xtick.bottom": False,
    "xtick.color": _SOFT,
    "ytick.color": _SOFT,
    "ytick.left": False,
}

SERIES: Final = len(_LINES)
"""How many lines are told apart by colour and dash."""


@dataclass(frozen=True, slots=True)
class Series:
    """A line of a learning curve; None where a value is not defined."""

    name: str
    values: tuple[float | None, ...]


def roc(curves: Sequence[tuple[int, RocCurve]], label: str) -> Markup:
    """Return ROC curves, each with the index of its line; the first is drawn on top."""
    with mpl.rc_context(_STYLE):
        figure = _figure(320, 298)
        axes = _unit_square(figure, bottom=40, beside="sensitivity")
        axes.set_xlabel("false alarms (1 \N{MINUS SIGN} specificity)")
        for index, curve in reversed(curves):
            axes.plot(curve.false_positive_rate, curve.true_positive_rate, **_line(index))
        return _svg(figure, label)


def reliability(measured: Reliability, label: str, *, scaled: Reliability | None = None) -> Markup:
    """Return the reliability curve with Wilson's intervals, and below it how many images each point stands for.

    Args:
        measured: of the probabilities as the model gives them.
        label: the plot in words.
        scaled: after correction, drawn as a second line.
    """
    with mpl.rc_context(_STYLE):
        figure = _figure(320, 340)
        axes = _unit_square(figure, bottom=82, beside="share of positives")
        for index, curve in ((1, scaled), (0, measured)):
            if curve is not None:
                shares = [point.positives.value or 0.0 for point in curve.points]
                axes.plot([point.mean_probability for point in curve.points], shares, **_line(index, 1.4))
                if index:
                    axes.plot(
                        [point.mean_probability for point in curve.points], shares, "o", ms=5, color=_LINES[1]
                    )
        hints = {}
        for index, point in enumerate(measured.points):
            x, y = point.mean_probability, point.positives
            low, high = y.interval or (0.0, 1.0)
            axes.plot([x, x], [low, high], color=_LINES[0], lw=1.2, alpha=0.6)
            axes.plot([x], [y.value or 0.0], "o", ms=7, color=_LINES[0], mec=_CARD, gid=f"hint{index}")
            hints[f"hint{index}"] = f"{y.successes} of {y.trials} positive at mean probability {number(x)}"
        counts = _axes(figure, bottom=24, height=34)
        images = [point.positives.trials for point in measured.points]
        places = [point.mean_probability for point in measured.points]
        counts.bar(places, images, width=10 / 260, color=_LINES[0], alpha=0.4)
        counts.set(xlim=(0, 1), ylim=(0, max(images)), xticks=[], yticks=[0, max(images)])
        counts.grid(visible=False)
        counts.spines["left"].set_visible(False)
        counts.set_xlabel("mean predicted probability; columns: images")
        return _svg(figure, label, hints)


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
        label: the plot in words.
        top: the largest value possible, above which the axis does not go.
        mark: the epoch from which pseudo-labels count, None for no mark.
        share: the axis goes from 0 to 1, whatever the values.
    """
    defined = [value for line in series for value in line.values if value is not None]
    low, high = (0.0, 1.0) if share else (min(defined), max(defined))
    slack = 0.0 if share else max(0.0, 0.1 * abs(high) - (high - low)) / 2  # a small wobble is no mountain
    found = MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]).tick_values(low - slack, high + slack)
    ticks = [tick for tick in found if top is None or tick <= top + 1e-9]
    alone = 0.5 if len(epochs) == 1 else 0.0
    with mpl.rc_context(_STYLE):
        figure = _figure(400, 236)
        axes = figure.add_axes((50 / 400, 36 / 236, 338 / 400, 190 / 236))
        axes.set(xlim=(epochs[0] - alone, epochs[-1] + alone), ylim=(ticks[0], max(ticks[-1], high)))
        axes.set(xlabel="epoch", ylabel=axis)
        axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
        if alone:
            axes.set_xticks([epochs[0]])
        else:
            axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
        axes.grid(visible=False, axis="x")
        axes.spines["left"].set_visible(False)
        if mark is not None:
            axes.axvline(mark, color=_SOFT, lw=1.5, ls=(0, (1.5, 3.5)))
        for index, line in reversed(list(enumerate(series))):
            for known, run in groupby(
                zip(epochs, line.values, strict=True), lambda pair: pair[1] is not None
            ):
                places = list(run)
                if known:
                    marker = "o" if len(places) == 1 else ""
                    axes.plot(*zip(*places, strict=True), marker=marker, ms=5, **_line(index))
        return _svg(figure, label)


def decision_curve(thresholds: Sequence[float], curve: DecisionCurve, label: str) -> Markup:
    """Return the net benefit of a model over threshold probabilities, beside calling everybody and nobody positive."""
    band = [ends or (math.nan, math.nan) for ends in curve.band]
    top = max(curve.prevalence, *curve.model, *(ends.upper for ends in curve.band if ends)) * 1.05
    low = -0.25 * top
    with mpl.rc_context(_STYLE):
        figure = _figure(400, 236)
        axes = figure.add_axes((56 / 400, 36 / 236, 332 / 400, 190 / 236))
        axes.set(xlim=(0, 1), ylim=(low, top), xlabel="threshold probability", ylabel="net benefit")
        axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
        axes.axhline(0, color=_SOFT, lw=1, ls=(0, (3, 3)))
        for index, values in ((1, curve.everybody), (0, curve.model)):
            shown = [(t, value) for t, value in zip(thresholds, values, strict=True) if value >= low]
            axes.plot(*zip(*shown, strict=True), **_line(index))
        if band:
            lower, upper = zip(*band, strict=True)
            axes.fill_between(thresholds, lower, upper, color=_line(0)["color"], alpha=0.18, lw=0)
        return _svg(figure, label)


def shares(reference: Sequence[float], now: Sequence[float], label: str) -> Markup:
    """Return the shares of images in each tenth of the reference as two lines of steps."""
    with mpl.rc_context(_STYLE):
        figure = _figure(320, 190)
        axes = figure.add_axes((44 / 320, 34 / 190, 266 / 320, 146 / 190))
        edges = range(len(reference) + 1)
        axes.set(
            xlim=(0, len(reference)), ylim=(0, max(*reference, *now) * 1.08), xlabel="tenth", ylabel="share"
        )
        axes.set_xticks([edge + 0.5 for edge in edges[:-1]], [str(edge + 1) for edge in edges[:-1]])
        axes.yaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 2.5, 5, 10]))
        for index, values in ((0, reference), (1, now)):
            axes.stairs(
                values, edges, color=_LINES[index], lw=2, fill=index == 0, alpha=0.4 if index == 0 else 1
            )
        return _svg(figure, label)


def froc(curves: Sequence[tuple[int, LesionCurve]], label: str) -> Markup:
    """Return FROC curves over false alarms per case, each with the index of its line; the first is drawn on top."""
    ticks = (0.125, 0.25, 0.5, 1, 2, 4, 8)
    least, most = ticks[0] / 2, ticks[-1]
    with mpl.rc_context(_STYLE):
        figure = _figure(320, 298)
        axes = _axes(figure, bottom=40, height=250)
        axes.set_xscale("log", base=2)
        axes.set(xlim=(least, most), ylim=(0, 1), xlabel="false alarms per case", ylabel="lesions found")
        axes.set_xticks(
            ticks, [{0.125: "1/8", 0.25: "1/4", 0.5: "1/2"}.get(tick, f"{tick:g}") for tick in ticks]
        )
        axes.set_yticks((0, 0.25, 0.5, 0.75, 1), ("0", "0.25", "0.5", "0.75", "1"))
        axes.minorticks_off()
        for index, curve in reversed(curves):
            inside = curve.false_alarms <= most
            x = [least, *np.maximum(curve.false_alarms[inside], least).tolist()]
            y = [0.0, *curve.recall[inside].tolist()]
            axes.step([*x, most], [*y, y[-1]], where="post", **_line(index))
        return _svg(figure, label)


def sizes(found: Sequence[float], missed: Sequence[float], unit: str, label: str) -> Markup:
    """Return a histogram of lesions by size, the found ones below the missed ones.

    Args:
        found: sizes, above 0.
        missed: likewise.
        unit: of the sizes.
        label: the plot in words.
    """
    every = [*found, *missed]
    low, high = math.log10(min(every)), math.log10(max(every))
    edges = np.logspace(low - 0.05, max(high, low + 0.5) + 0.05, 11)
    counts = [np.histogram(part, edges)[0] for part in (found, missed)]
    with mpl.rc_context(_STYLE):
        figure = _figure(320, 210)
        axes = _axes(figure, bottom=40, height=160)
        axes.set_xscale("log")
        axes.set(xlim=(edges[0], edges[-1]), ylim=(0, (counts[0] + counts[1]).max() * 1.08))
        axes.set(xlabel=f"size of the lesion ({unit})", ylabel="lesions")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.minorticks_off()
        axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.grid(visible=False, axis="x")
        axes.stairs(counts[0], edges, fill=True, color=_LINES[0], alpha=0.75)
        axes.stairs(counts[0] + counts[1], edges, baseline=counts[0], fill=True, color=_LINES[1], alpha=0.75)
        return _svg(figure, label)


def strip_low(intervals: Sequence[Interval | None], values: Sequence[float | None]) -> float:
    """Return where strips begin so that all of them fit: 0.4 or a tenth below the lowest value."""
    lowest = [interval.lower for interval in intervals if interval] + [v for v in values if v is not None]
    return max(0.0, min([0.4, *(math.floor(value * 10 - 1e-9) / 10 for value in lowest)]))


def strip_ticks(low: float) -> list[float]:
    """Return round tenths from `low` to 1 for the scale above strips, 0.5 among them."""
    tenths = range(round(low * 10), 11)
    return [tenth / 10 for tenth in tenths if len(tenths) <= 10 or tenth % 5 == 0]


def _figure(width: float, height: float) -> Figure:
    return Figure(figsize=(width / 72, height / 72))  # a unit of the SVG is a point


def _axes(figure: Figure, *, bottom: float, height: float) -> Axes:
    whole = figure.get_figheight() * 72
    return figure.add_axes((50 / 320, bottom / whole, 260 / 320, height / whole))


def _unit_square(figure: Figure, *, bottom: float, beside: str) -> Axes:
    axes = _axes(figure, bottom=bottom, height=250)
    ticks = (0, 0.25, 0.5, 0.75, 1)
    names = [f"{tick:g}" for tick in ticks]
    axes.set(xlim=(0, 1), ylim=(0, 1), ylabel=beside)
    axes.set_xticks(ticks, names)
    axes.set_yticks(ticks, names)
    axes.plot([0, 1], [0, 1], color=_SOFT, lw=1, ls=(0, (3, 3)))
    return axes


def _line(index: int, width: float = 2) -> dict[str, Any]:
    return {"color": _LINES[index % SERIES], "ls": _DASHES[index % SERIES], "lw": width}


def _svg(figure: Figure, label: str, hints: Mapping[str, str] | None = None) -> Markup:
    """Return a figure as SVG to stand in a page: text as text, no metadata, the same bytes for the same values.

    Args:
        figure: the figure.
        label: what it shows, in words, for those who do not see it.
        hints: what browsers say of an artist when the pointer rests on it, by its gid.
    """
    figure.patch.set_visible(False)
    for axes in figure.axes:
        axes.patch.set_visible(False)
        for artist in axes.findobj():
            artist.set_clip_on(False)  # nothing leaves its axes, and a page would share the clip paths' ids
    buffer = io.StringIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    figure.savefig(buffer, format="svg", metadata=nothing)
    text = buffer.getvalue()
    text = text[text.index("<g id=") :].removesuffix("</svg>\n")
    for gid, hint in (hints or {}).items():
        text = text.replace(f'<g id="{gid}">', f"<g><title>{escape(hint)}</title>")
    text = re.sub(
        r' id="(?!m[0-9a-f]{9})[^"]*"| xmlns:?\w*="[^"]*"|<!--.*?-->|<style.*?</style>',
        "",
        text,
        flags=re.DOTALL,
    )
    text = re.sub(r" font-family: [^;]*;| transform=\"rotate\(-0 [^\"]*\"", "", text)
    text = re.sub(r"\s*\n\s*", "\n", re.sub(r"(\d\.\d\d)\d+", r"\1", text))
    text = re.sub(r' d="[^"]*"', lambda path: re.sub(r"(\d\.\d)\d+", r"\1", path.group()), text)
    for colour, variable in _VARIABLES.items():
        text = text.replace(colour, variable)
    width, height = (round(inches * 72) for inches in figure.get_size_inches())
    head = f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(label)}" '
    return Markup(
        head + f'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink">{text}</svg>'
    )
