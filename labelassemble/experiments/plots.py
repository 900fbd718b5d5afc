"""Figures of experiments: light, legible, and captioned with what the marks are."""

import re
from collections.abc import Sequence
from itertools import cycle
from pathlib import Path
from textwrap import fill
from typing import Any, Final

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from labelassemble._files import writing
from labelassemble.experiments.experiment import Experiment, Setting
from labelassemble.experiments.summary import by_source, correlation, gains, means

INK, MUTED, GRID = "#1f2933", "#7b8794", "#e4e7eb"
COLOURS = ("#9aa5b1", "#2b6cb0", "#c2453b", "#2f855a", "#b7791f", "#6b46c1")
_MARKS: Final = {None: ("o", "-"), "border": ("s", "--"), "thumbnail": ("^", ":")}
RC: Final[dict[Any, Any]] = {
    "font.family": "sans-serif",
    "font.size": 9,
    "svg.hashsalt": "labelassemble",
    "svg.fonttype": "none",
}
"""Settings of matplotlib for figures; text stays text."""


def draw(experiment: Experiment, runs: pd.DataFrame, path: Path) -> None:
    """Write the experiment's figure as SVG or PNG, as the path ends."""
    settings = [s for s in experiment.settings if (runs["setting"] == s.name).any()]
    with mpl.rc_context(RC):
        if experiment.figure == "arms":
            figure = _arms_figure(experiment, means(runs), settings)
        elif experiment.figure == "similarity" and len(gained := gains(runs, experiment.comparisons)):
            figure = _similarity_figure(experiment, gained, settings)
        else:
            sources = by_source(runs) if experiment.figure == "sources" else runs.head(0)
            figure = _sizes_figure(experiment, runs, sources, settings)
        save(figure, path)


def save(figure: Figure, path: Path) -> None:
    """Write a figure as SVG or PNG, as the path ends; the same figure gives the same file."""
    with writing(path):
        if path.suffix != ".svg":
            figure.savefig(path, facecolor="white", dpi=150)
            return
        figure.savefig(path, facecolor="white", metadata={"Date": None})
        # Matplotlib writes a line for every corner of a path and for every tag that ends.
        text = re.sub(r"\n *(?=</g>|</defs>|[LQCMz] ?|\" )", " ", path.read_text(encoding="utf-8"))
        path.write_text(re.sub(r"(<g[^>]*>)\n *", r"\1", text), encoding="utf-8")


def _sizes_figure(
    experiment: Experiment, runs: pd.DataFrame, sources: pd.DataFrame, settings: Sequence[Setting]
) -> Figure:
    """Return AUC over the training size, one panel per setting and source, one line per arm.

    What is given a border or a thumbnail is dashed or dotted, in the colour of the arm that it is a baseline of. A
    source where no arm has an AUC has no panel.
    """
    by_name = {setting.name: setting for setting in settings}
    alike = [arm.model_dump_json(exclude={"name", "title", "transform"}) for arm in experiment.arms]
    colours = dict(zip(dict.fromkeys(alike), cycle(COLOURS), strict=False))
    every = pd.concat([runs.assign(of="all"), sources]).dropna(subset=["auc"])
    found = means(every, of=True)
    shown = list(found.groupby(["setting", "of"], sort=False))
    columns = min(3 if len(sources) else 4, len(shown))
    figure, panels = _panels(len(shown), columns, width=3.4 if len(sources) else 2.9, height=2.8)
    for axes, ((name, of), mine) in zip(panels, shown, strict=True):
        setting = by_name[str(name)]
        sizes = [str(size) for size in setting.sizes if (mine["size"] == str(size)).any()]
        for index, arm in enumerate(experiment.arms):
            points = mine[mine["arm"] == arm.name].drop_duplicates("size").set_index("size")
            points = points.reindex([size for size in sizes if size in points.index])
            beside = (index - (len(experiment.arms) - 1) / 2) * 0.1
            marker, line = _MARKS[arm.transform]
            look: dict[str, Any] = {"color": colours[alike[index]], "marker": marker, "linestyle": line}
            at = [sizes.index(size) + beside for size in points.index]
            _points(axes, at, points, label=arm.title or arm.name, **look)
        axes.set_xticks(range(len(sizes)), sizes)
        axes.set_xlim(-0.5, len(sizes) - 0.5)
        axes.set_xlabel(experiment.size_axis, color=INK)
        title = _title(experiment, setting)
        if len(sources):
            counted = every[(every["setting"] == name) & (every["of"] == of)].iloc[0]
            title += "\nall test images" if of == "all" else f"\nwithin {of}"
            title += f"\n{counted['test_positives']:.0f} positive, {counted['test_negatives']:.0f} negative"
            axes.axhline(0.5, color=MUTED, linewidth=0.7)
            axes.set_ylim(max(0.0, min(0.5, found["low"].fillna(found["mean"]).min()) - 0.02), 1.005)
        style(axes, title)
    for axes in panels[::columns]:
        axes.set_ylabel("AUC on test images", color=INK)
    note = _note(found)
    if len(sources):
        note += (
            " Over all test images the hospital helps to guess: networks that are given a border (dashed) or 8x8 "
            "pixels (dotted) show how far that goes. 0.5: chance."
        )
    _finish(figure, experiment.title, note, *panels[0].get_legend_handles_labels())
    return figure


def _arms_figure(experiment: Experiment, found: pd.DataFrame, settings: Sequence[Setting]) -> Figure:
    """Return one row per arm with its AUC and interval, one panel per setting and size, the reference arm as a line."""
    by_name = {setting.name: setting for setting in settings}
    arms = [arm for arm in experiment.arms if (found["arm"] == arm.name).any()]
    titles = [arm.title or arm.name for arm in arms]
    shown = list(found.groupby(["setting", "size"], sort=False))
    columns = min(3, len(shown))
    figure, panels = _panels(
        len(shown), columns, width=5.6 if columns < 3 else 4.0, height=0.28 * len(titles) + 0.7
    )
    for index, (axes, ((name, size), mine)) in enumerate(zip(panels, shown, strict=True)):
        setting = by_name[str(name)]
        for reference in mine.loc[mine["arm"] == experiment.reference, "mean"]:
            axes.axvline(reference, color=COLOURS[2], linewidth=1.0, zorder=1)
        for row, arm in enumerate(arms):
            colour = COLOURS[2 if arm.name == experiment.reference else 1]
            _points(axes, [row], mine[mine["arm"] == arm.name], sideways=True, color=colour, marker="o")
        axes.set_yticks(range(len(titles)), titles if index % columns == 0 else [])
        axes.set_ylim(len(titles) - 0.5, -0.5)
        of_size = "" if size == "all" else f"\n{size} {experiment.size_axis}"
        style(axes, _title(experiment, setting) + of_size)
        axes.grid(axis="x", color=GRID, linewidth=0.6)
        axes.xaxis.set_major_locator(MaxNLocator(5))
        mean = "mean AUC over the classes" if setting.interest is None else "AUC"
        axes.set_xlabel(f"{mean}, test images", color=INK)
    note = _note(found)
    if experiment.reference is not None:
        note += f" The line: {experiment.arm(experiment.reference).title or experiment.reference}."
    _finish(figure, experiment.title, note)
    return figure


def _similarity_figure(experiment: Experiment, gained: pd.DataFrame, settings: Sequence[Setting]) -> Figure:
    """Return gain over the cosine of the queries, one panel per setting and arm, one point per assembled class."""
    by_name = {setting.name: setting for setting in settings}
    shown = list(gained.groupby(["setting", "size", "arm"], sort=False))
    columns = min(2, len(shown))
    figure, panels = _panels(len(shown), columns, width=5.2, height=3.2)
    for axes, ((name, size, arm), points) in zip(panels, shown, strict=True):
        x, y = points["cosine"].tolist(), points["mean"].tolist()
        _points(axes, x, points, linestyle="none", marker="o", color=COLOURS[1])
        _names_beside(axes, points["other"].tolist(), x, y)
        axes.axhline(0.0, color=MUTED, linewidth=0.7)
        fit = correlation(x, y)
        text = "r not defined"
        if fit is not None:
            slope, start = np.polyfit(x, y, 1)
            ends = np.array([min(x), max(x)])
            axes.plot(ends, start + slope * ends, color=COLOURS[2], linewidth=1.0)
            interval = "" if np.isnan(fit.low) else f" ({fit.low:.2f} to {fit.high:.2f})"
            text = f"r = {fit.r:.2f}{interval}, p = {fit.p:#.2g}"
        title = experiment.arm(str(arm)).title or arm
        style(axes, f"{_title(experiment, by_name[str(name)])}, n = {size}\n{title}\n{text}")
        axes.set_xlabel("cosine of the two learned queries", color=INK)
    for axes in panels[::columns]:
        axes.set_ylabel("gain in AUC", color=INK)
    note = (
        f"One point per assembled class: mean over {_span(gained)} seeds, with Student's 95% interval of the gain; "
        "r over the points, with Fisher's 95% interval."
    )
    _finish(figure, experiment.title, note)
    return figure


def _points(
    axes: Axes, at: Sequence[float], found: pd.DataFrame, *, sideways: bool = False, **look: Any
) -> None:
    """Draw means with their intervals, upright or sideways; nothing where nothing was found."""
    if not len(found):
        return
    mean = found["mean"].to_numpy()
    bars = [mean - found["low"].fillna(found["mean"]), found["high"].fillna(found["mean"]) - mean]
    x, y = (mean, at) if sideways else (at, mean)
    look["xerr" if sideways else "yerr"] = bars
    axes.errorbar(x, y, markersize=4.5, linewidth=1.3, capsize=2.5, **look)


def _names_beside(axes: Axes, names: Sequence[str], x: Sequence[float], y: Sequence[float]) -> None:
    """Name points in a column right of the panel, so that no two names overlap, each with a line to its point."""
    bottom, top = axes.get_ylim()
    axes.set_ylim(bottom, top)
    order = sorted(range(len(names)), key=lambda i: y[i])
    gap = 0.075
    heights: list[float] = []
    # As high as its point, above the one before, with room for those that follow.
    for rank, i in enumerate(order):
        height = max((y[i] - bottom) / (top - bottom), heights[-1] + gap if heights else 0.0)
        heights.append(min(height, 1.0 - gap * (len(names) - 1 - rank)))
    arrow = {"arrowstyle": "-", "color": COLOURS[0], "linewidth": 0.4, "relpos": (0, 0.5), "shrinkA": 0}
    for i, height in zip(order, heights, strict=True):
        axes.annotate(
            names[i],
            (x[i], y[i]),
            (1.06, height),
            textcoords="axes fraction",
            arrowprops=arrow | {"shrinkB": 3},
            va="center",
            fontsize=7,
            color=INK,
        )


def _note(found: pd.DataFrame) -> str:
    """Return what intervals and seeds are."""
    return (
        f"Mean and Student's 95% interval over {_span(found)} seeds: of splitting the training images (where not all "
        "are taken), of initial weights and of order. The test images are the same for all."
    )


def _span(found: pd.DataFrame) -> str:
    low, high = found["seeds"].min(), found["seeds"].max()
    return str(low) if low == high else f"{low} to {high}"


def _title(experiment: Experiment, setting: Setting) -> str:
    dataset = experiment.datasets[setting.data].shown or setting.data
    return dataset if setting.interest is None else f"{setting.interest} ({dataset})"


def _panels(
    count: int, columns: int, *, width: float = 2.9, height: float = 2.7
) -> tuple[Figure, list[Axes]]:
    lines = -(-count // columns)
    figure = Figure(figsize=(max(width * columns, 5.2), height * lines + 1.0), layout="constrained")
    panels = list(np.atleast_1d(figure.subplots(lines, columns)).flat)
    for axes in panels[count:]:
        axes.set_axis_off()
    return figure, panels[:count]


def style(axes: Axes, title: str) -> None:
    """Give a panel its title and a light frame."""
    axes.set_title(title, loc="left", fontsize=9, color=INK)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(MUTED)
    axes.tick_params(colors=MUTED, labelcolor=INK, length=3)
    axes.grid(axis="y", color=GRID, linewidth=0.6)
    axes.set_axisbelow(True)


def _finish(
    figure: Figure, title: str, note: str, handles: Sequence[Artist] = (), labels: Sequence[str] = ()
) -> None:
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
