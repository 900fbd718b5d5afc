"""Figures of experiments: light, legible, and captioned with what the marks are."""

from collections.abc import Mapping, Sequence
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
from labelassemble.experiments.summary import ArmRow, Gain, MeanInterval, correlation

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
            of_setting = [row for row in rows if row.setting == setting.name]
            for index, arm in enumerate(experiment.arms):
                mine = {row.size: row.auc for row in of_setting if row.arm == arm.name}
                colour = COLOURS[index % len(COLOURS)]
                _line(axes, experiment, index, mine, sizes, color=colour, marker="o", linestyle="-")
            _sizes_axis(axes, experiment, sizes)
            _style(axes, _title(experiment, setting))
        for index, axes in enumerate(panels):
            if index % columns == 0:
                axes.set_ylabel("AUC on test images", color=INK)
        handles, labels = panels[0].get_legend_handles_labels()
        _finish(figure, experiment.title, _note([row.auc for row in rows]), handles, labels)
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
                colour = COLOURS[2 if arm.name == experiment.reference else 1]
                _points(axes, [place], [mine[arm.name]], sideways=True, color=colour, marker="o")
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
        note = _note([row.auc for row in rows])
        if experiment.reference is not None:
            note += f" The line: {experiment.arm(experiment.reference).title or experiment.reference}."
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
        columns = min(2, len(pairs))
        figure, panels = _panels(len(pairs), columns, width=5.2, height=3.2)
        for axes, (setting, size, arm) in zip(panels, pairs, strict=True):
            points = [g for g in gained if (g.setting, g.size, g.arm) == (setting, size, arm)]
            x, y = [g.cosine for g in points], [g.gain.mean for g in points]
            _points(axes, x, [g.gain for g in points], linestyle="none", marker="o", color=COLOURS[1])
            _names_beside(axes, [g.other for g in points], x, y)
            axes.axhline(0.0, color=MUTED, linewidth=0.7)
            fit = correlation(x, y)
            text = "r not defined"
            if fit is not None:
                slope, start = np.polyfit(x, y, 1)
                ends = np.array([min(x), max(x)])
                axes.plot(ends, start + slope * ends, color=COLOURS[2], linewidth=1.0)
                interval = "" if fit.low is None else f" ({fit.low:.2f} to {fit.high:.2f})"
                text = f"r = {fit.r:.2f}{interval}, p = {fit.p:#.2g}"
            title = experiment.arm(arm).title or arm
            _style(axes, f"{_title(experiment, by_name[setting])}, n = {size}\n{title}\n{text}")
            axes.set_xlabel("cosine of the two learned queries", color=INK)
        for axes in panels[::columns]:
            axes.set_ylabel("gain in AUC", color=INK)
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
                marker, line = _MARKS[arm.sees]
                colour = colours[alike[index]]
                _line(axes, experiment, index, found, sizes, color=colour, marker=marker, linestyle=line)
                bottom = min([bottom, *(_ends(value)[0] for value in found.values())])
            axes.axhline(0.5, color=MUTED, linewidth=0.7)
            _sizes_axis(axes, experiment, sizes)
            _style(axes, _place_title(experiment, setting, mine[0]))
        for index, axes in enumerate(panels):
            axes.set_ylim(max(0.0, bottom - 0.02), 1.005)
            if index % columns == 0:
                axes.set_ylabel("AUC", color=INK)
        note = _note([row.auc for row in shown if row.auc is not None]) + (
            " Over all test images the hospital helps to guess: networks that see a border (dashed) or 8x8 pixels "
            "(dotted) show how far that goes. 0.5: chance."
        )
        handles, labels = panels[0].get_legend_handles_labels()
        _finish(figure, experiment.title, note, handles, labels)
        return _bytes(figure, kind)


def _line(
    axes: Axes,
    experiment: Experiment,
    index: int,
    found: Mapping[int | str, MeanInterval],
    sizes: Sequence[int | str],
    **style: Any,
) -> None:
    """Draw what was found at the sizes for the arm of that index, beside the other arms."""
    arm, offset = experiment.arms[index], (index - (len(experiment.arms) - 1) / 2) * 0.1
    at = [size for size in sizes if size in found]
    places = [sizes.index(size) + offset for size in at]
    _points(axes, places, [found[size] for size in at], label=arm.title or arm.name, **style)


def _points(
    axes: Axes,
    places: Sequence[float],
    values: Sequence[MeanInterval],
    *,
    sideways: bool = False,
    **style: Any,
) -> None:
    """Draw means with their intervals, upright or sideways."""
    means = [value.mean for value in values]
    ends = [_ends(value) for value in values]
    bars = [
        [mean - low for mean, (low, _) in zip(means, ends, strict=True)],
        [high - mean for mean, (_, high) in zip(means, ends, strict=True)],
    ]
    x, y = (means, places) if sideways else (places, means)
    style["xerr" if sideways else "yerr"] = bars
    axes.errorbar(x, y, markersize=4.5, linewidth=1.3, capsize=2.5, **style)


def _names_beside(axes: Axes, names: Sequence[str], x: Sequence[float], y: Sequence[float]) -> None:
    """Name points in a column right of the panel, so that no two names overlap, each with a line to its point."""
    bottom, top = axes.get_ylim()
    axes.set_ylim(bottom, top)
    order = sorted(range(len(names)), key=lambda i: y[i])
    gap = 0.075
    places: list[float] = []
    # As high as its point, above the one before, with room for those that follow.
    for rank, i in enumerate(order):
        place = max((y[i] - bottom) / (top - bottom), places[-1] + gap if places else 0.0)
        places.append(min(place, 1.0 - gap * (len(names) - 1 - rank)))
    for i, place in zip(order, places, strict=True):
        axes.annotate(
            names[i],
            (x[i], y[i]),
            (1.06, place),
            textcoords="axes fraction",
            arrowprops={
                "arrowstyle": "-", "color": COLOURS[0], "linewidth": 0.4, "relpos": (0, 0.5), "shrinkA": 0, "shrinkB": 3
            },
            va="center",
            fontsize=7,
            color=INK,
        )  # fmt: skip


def _ends(value: MeanInterval) -> tuple[float, float]:
    """Return the ends of an interval, the mean for those that it lacks."""
    return (
        value.mean if value.low is None else value.low,
        value.mean if value.high is None else value.high,
    )


def _sizes_axis(axes: Axes, experiment: Experiment, sizes: Sequence[int | str]) -> None:
    axes.set_xticks(range(len(sizes)), [str(n) for n in sizes])
    axes.set_xlim(-0.5, len(sizes) - 0.5)
    axes.set_xlabel(experiment.size_axis, color=INK)


def _note(values: Sequence[MeanInterval]) -> str:
    """Return what intervals and seeds are."""
    counts = sorted({value.count for value in values})
    return (
        f"Mean and Student's 95% interval over {_span(counts)} seeds: of dealing the training images (where not all "
        "are taken), of initial weights and of order. The test images are the same for all."
    )


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
