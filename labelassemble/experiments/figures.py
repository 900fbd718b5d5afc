"""Figures of experiments: light, legible, and captioned with what the marks are."""

from collections.abc import Sequence
from io import BytesIO
from itertools import cycle
from textwrap import fill
from typing import Any, Literal

import matplotlib as mpl
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from labelassemble.experiments.settings import Experiment, Setting
from labelassemble.experiments.sources_summary import EVERYWHERE, PlaceRow
from labelassemble.experiments.summary import ArmRow, Gain, correlation

INK, MUTED, GRID = "#1f2933", "#7b8794", "#e4e7eb"
COLOURS = ("#9aa5b1", "#2b6cb0", "#c2453b", "#2f855a", "#b7791f", "#6b46c1")
_MARKS = {"whole": ("o", "-"), "border": ("s", "--"), "thumbnail": ("^", ":")}
_RC: dict[Any, Any] = {"font.family": "sans-serif", "font.size": 9, "svg.hashsalt": "labelassemble"}


def sizes_figure(
    experiment: Experiment,
    rows: Sequence[ArmRow],
    settings: Sequence[Setting],
    kind: Literal["svg", "png"] | str,
) -> bytes:
    """Return AUC over the training size, a panel a setting, a line an arm, as an SVG or PNG file."""
    shown = [s for s in settings if any(row.setting == s.name for row in rows)]
    columns = min(4, len(shown))
    with mpl.rc_context(_RC):
        figure, panels = _panels(len(shown), columns)
        for axes, setting in zip(panels, shown, strict=True):
            sizes = [n for n in setting.sizes if any(r.setting == setting.name and r.size == n for r in rows)]
            for index, arm in enumerate(experiment.arms):
                mine = {r.size: r.auc for r in rows if r.setting == setting.name and r.arm == arm.name}
                offset = (index - (len(experiment.arms) - 1) / 2) * 0.1
                places = [sizes.index(n) + offset for n in sizes if n in mine]
                found = [mine[n] for n in sizes if n in mine]
                low = [v.mean - v.low if v.low is not None else 0.0 for v in found]
                high = [v.high - v.mean if v.high is not None else 0.0 for v in found]
                axes.errorbar(
                    places,
                    [v.mean for v in found],
                    yerr=[low, high],
                    color=COLOURS[index % len(COLOURS)],
                    marker="o",
                    markersize=4.5,
                    linewidth=1.3,
                    capsize=2.5,
                    label=arm.title or arm.name,
                )
            axes.set_xticks(range(len(sizes)), [str(n) for n in sizes])
            axes.set_xlim(-0.5, len(sizes) - 0.5)
            _style(axes, _title(experiment, setting))
            axes.set_xlabel(experiment.size_axis, color=INK)
        for index, axes in enumerate(panels):
            if index % columns == 0:
                axes.set_ylabel("AUC on test images", color=INK)
        handles, labels = panels[0].get_legend_handles_labels()
        counts = sorted({row.auc.count for row in rows})
        note = (
            f"Mean and Student's 95% interval over {_span(counts)} seeds, which deal the training images and draw "
            "initial weights; the test images are the same for all."
        )
        _finish(figure, experiment.title, note, handles, labels)
        return _bytes(figure, kind)


def arms_figure(
    experiment: Experiment,
    rows: Sequence[ArmRow],
    settings: Sequence[Setting],
    kind: Literal["svg", "png"] | str,
) -> bytes:
    """Return a row an arm with its AUC and interval, a panel a setting and size, the reference arm as a line."""
    by_name = {s.name: s for s in settings}
    shown = list(dict.fromkeys((row.setting, row.size) for row in rows))
    titles = [arm.title or arm.name for arm in experiment.arms]
    columns = min(2, len(shown))
    with mpl.rc_context(_RC):
        figure, panels = _panels(len(shown), columns, width=5.6, height=0.28 * len(titles) + 0.7)
        for index, (axes, (setting, size)) in enumerate(zip(panels, shown, strict=True)):
            mine = {row.arm: row.auc for row in rows if (row.setting, row.size) == (setting, size)}
            reference = mine.get(experiment.reference or "")
            if reference is not None:
                axes.axvline(reference.mean, color=COLOURS[2], linewidth=1.0, zorder=1)
            for place, arm in enumerate(experiment.arms):
                if arm.name not in mine:
                    continue
                auc = mine[arm.name]
                low, high = (auc.mean if end is None else end for end in (auc.low, auc.high))
                axes.errorbar(
                    [auc.mean],
                    [place],
                    xerr=[[auc.mean - low], [high - auc.mean]],
                    color=COLOURS[2 if arm.name == experiment.reference else 1],
                    marker="o",
                    markersize=4.5,
                    linewidth=1.3,
                    capsize=2.5,
                )
            axes.set_yticks(range(len(titles)), titles if index % columns == 0 else [])
            axes.set_ylim(len(titles) - 0.5, -0.5)
            _style(
                axes,
                _title(experiment, by_name[setting])
                + ("" if size == "all" else f", {size} {experiment.size_axis}"),
            )
            axes.grid(axis="x", color=GRID, linewidth=0.6)
            mean = "mean AUC over the classes" if experiment.metric == "mean_auc" else "AUC"
            axes.set_xlabel(f"{mean}, test images", color=INK)
        counts = sorted({row.auc.count for row in rows})
        line = ""
        if experiment.reference is not None:
            line = f" The line: {experiment.arm(experiment.reference).title or experiment.reference}."
        note = (
            f"Mean and Student's 95% interval over {_span(counts)} seeds, which deal the training images and draw "
            f"initial weights; the test images are the same for all.{line}"
        )
        _finish(figure, experiment.title, note, [], [])
        return _bytes(figure, kind)


def similarity_figure(
    experiment: Experiment,
    gained: Sequence[Gain],
    settings: Sequence[Setting],
    kind: Literal["svg", "png"] | str,
) -> bytes:
    """Return gain over the cosine of the queries, a panel a setting and arm, a point an assembled class."""
    pairs = list(dict.fromkeys((g.setting, g.size, g.arm) for g in gained))
    by_name = {s.name: s for s in settings}
    with mpl.rc_context(_RC):
        figure, panels = _panels(len(pairs), min(4, len(pairs)), width=3.6, height=3.2)
        for axes, (setting, size, arm) in zip(panels, pairs, strict=True):
            points = [g for g in gained if (g.setting, g.size, g.arm) == (setting, size, arm)]
            x, y = [g.cosine for g in points], [g.gain.mean for g in points]
            for point in points:
                axes.annotate(
                    point.other,
                    (point.cosine, point.gain.mean),
                    (3, 3),
                    textcoords="offset points",
                    fontsize=6.5,
                    color=MUTED,
                )
            low = [v.mean - v.low if v.low is not None else 0.0 for v in (g.gain for g in points)]
            high = [v.high - v.mean if v.high is not None else 0.0 for v in (g.gain for g in points)]
            axes.errorbar(x, y, yerr=[low, high], fmt="o", markersize=4, color=COLOURS[1], elinewidth=0.7)
            axes.axhline(0.0, color=MUTED, linewidth=0.7)
            fit = correlation(x, y)
            text = "r not defined"
            if fit is not None:
                slope, start = np.polyfit(x, y, 1)
                ends = np.array([min(x), max(x)])
                axes.plot(ends, start + slope * ends, color=COLOURS[2], linewidth=1.0)
                interval = "" if fit.low is None else f" ({fit.low:.2f} to {fit.high:.2f})"
                text = f"r = {fit.r:.2f}{interval}, p = {fit.p:.2g}"
            title = experiment.arm(arm).title or arm
            _style(axes, f"{_title(experiment, by_name[setting])}, n = {size}\n{title}\n{text}")
            axes.set_xlabel("cosine of the two learned queries", color=INK)
        panels[0].set_ylabel("gain in AUC", color=INK)
        counts = sorted({g.seeds for g in gained})
        note = (
            f"A point an assembled class: mean over {_span(counts)} seeds, with Student's 95% interval of the gain; "
            "r over the points, with Fisher's 95% interval."
        )
        _finish(figure, experiment.title, note, [], [])
        return _bytes(figure, kind)


def sources_figure(
    experiment: Experiment,
    rows: Sequence[PlaceRow],
    settings: Sequence[Setting],
    kind: Literal["svg", "png"] | str,
) -> bytes:
    """Return AUC over the training size, a panel a setting and place, a line an arm, as an SVG or PNG file.

    What sees a border or a thumbnail is dashed or dotted, in the colour of the arm that it is a baseline of. A place
    where no arm has an AUC has no panel.
    """
    by_name = {setting.name: setting for setting in settings}
    alike = [arm.model_dump_json(exclude={"name", "title", "sees"}) for arm in experiment.arms]
    colours = dict(zip(dict.fromkeys(alike), cycle(COLOURS), strict=False))
    shown = [row for row in rows if row.auc is not None and row.setting in by_name]
    pairs = list(dict.fromkeys((row.setting, row.place) for row in shown))
    columns = min(3, len(pairs))
    with mpl.rc_context(_RC):
        figure, panels = _panels(len(pairs), columns, width=3.4, height=3.0)
        bottom = 0.5
        for axes, (name, place) in zip(panels, pairs, strict=True):
            setting = by_name[name]
            mine = [row for row in shown if (row.setting, row.place) == (name, place)]
            sizes = [n for n in setting.sizes if any(row.size == n for row in mine)]
            for index, arm in enumerate(experiment.arms):
                found = {row.size: row.auc for row in mine if row.arm == arm.name and row.auc is not None}
                at = [n for n in sizes if n in found]
                values = [found[n] for n in at]
                offset = (index - (len(experiment.arms) - 1) / 2) * 0.1
                lows = [value.mean if value.low is None else value.low for value in values]
                highs = [value.mean if value.high is None else value.high for value in values]
                bottom = min([bottom, *lows])
                marker, line = _MARKS[arm.sees]
                axes.errorbar(
                    [sizes.index(n) + offset for n in at],
                    [value.mean for value in values],
                    yerr=[
                        [value.mean - low for value, low in zip(values, lows, strict=True)],
                        [high - value.mean for value, high in zip(values, highs, strict=True)],
                    ],
                    color=colours[alike[index]],
                    marker=marker,
                    markersize=4.5,
                    linestyle=line,
                    linewidth=1.3,
                    capsize=2.5,
                    label=arm.title or arm.name,
                )
            axes.axhline(0.5, color=MUTED, linewidth=0.7)
            axes.set_xticks(range(len(sizes)), [str(n) for n in sizes])
            axes.set_xlim(-0.5, len(sizes) - 0.5)
            _style(axes, _place_title(experiment, setting, mine[0]))
            axes.set_xlabel(experiment.size_axis, color=INK)
        for index, axes in enumerate(panels):
            axes.set_ylim(max(0.0, bottom - 0.02), 1.005)
            if index % columns == 0:
                axes.set_ylabel("AUC", color=INK)
        counts = sorted({row.auc.count for row in shown if row.auc is not None})
        note = (
            f"Mean and Student's 95% interval over {_span(counts)} seeds, which deal the training images and draw "
            "initial weights; the test images are the same for all. Over all test images the hospital helps "
            "to guess: networks that see a border (dashed) or 8x8 pixels (dotted) show how far that goes. 0.5: chance."
        )
        handles, labels = panels[0].get_legend_handles_labels()
        _finish(figure, experiment.title, note, handles, labels)
        return _bytes(figure, kind)


def _place_title(experiment: Experiment, setting: Setting, row: PlaceRow) -> str:
    where = "all test images" if row.place == EVERYWHERE else f"within {row.place}"
    return f"{_title(experiment, setting)}\n{where}\n{row.positives} positive, {row.negatives} negative"


def _panels(
    count: int, columns: int, *, width: float = 2.9, height: float = 2.7
) -> tuple[Figure, list[Axes]]:
    lines = -(-count // columns)
    figure = Figure(figsize=(max(width * columns, 5.2), height * lines + 1.0), layout="constrained")
    panels = list(np.atleast_1d(figure.subplots(lines, columns)).flat)
    for axes in panels[count:]:
        axes.set_axis_off()
    return figure, panels[:count]


def _style(axes: Axes, title: str) -> None:
    axes.set_title(title, loc="left", fontsize=9, color=INK)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(MUTED)
    axes.tick_params(colors=MUTED, labelcolor=INK, length=3)
    axes.grid(axis="y", color=GRID, linewidth=0.6)
    axes.set_axisbelow(True)


def _finish(figure: Figure, title: str, note: str, handles: Sequence[Artist], labels: Sequence[str]) -> None:
    columns = int(figure.get_figwidth() * 15)
    figure.suptitle(fill(title, columns - 8), x=0.01, ha="left", fontsize=10, color=INK)
    if not handles:
        figure.supxlabel(fill(note, columns), x=0.01, ha="left", fontsize=7.5, color=MUTED)
        return
    legend = figure.legend(  # the note is its title, since constrained layout lays the two over each other
        handles,
        labels,
        loc="outside lower left",
        ncols=2 if len(labels) > 2 else len(labels),
        frameon=False,
        fontsize=8.5,
        title=fill(note, columns),
        title_fontsize=7.5,
        alignment="left",
    )
    legend.get_title().set_color(MUTED)


def _title(experiment: Experiment, setting: Setting) -> str:
    dataset = experiment.datasets[setting.data].shown or setting.data
    return dataset if setting.interest is None else f"{setting.interest} ({dataset})"


def _span(counts: Sequence[int]) -> str:
    return str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"


def _bytes(figure: Figure, kind: str) -> bytes:
    buffer = BytesIO()
    metadata = {"Date": None} if kind == "svg" else None
    figure.savefig(buffer, format=kind, facecolor="white", dpi=150, metadata=metadata)
    return buffer.getvalue()
