"""The figure of an experiment on masks: a row per arm, a panel per setting and figure, a colour per class."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from labelassemble.experiments.experiment import Arm, Experiment
from labelassemble.experiments.plots import COLOURS, GRID, INK, MUTED, RC, save, style
from labelassemble.experiments.pooled import MEAN

_PANELS: Final = {
    "dice": "Dice",
    "hit_rate": "lesions found (hit rate)",
    "froc@0.25": "found at 0.25 false alarms a case",
    "auroc": "patient AUROC",
}


def draw_detection(experiment: Experiment, found: pd.DataFrame, path: Path) -> None:
    """Write the figure as SVG or PNG, as the path ends.

    Args:
        experiment: what was run.
        found: a row per setting, arm, class and figure, with value, low and high.
        path: the file.
    """
    with mpl.rc_context(RC):
        save(_figure(experiment, found), path)


def _figure(experiment: Experiment, found: pd.DataFrame) -> Figure:
    settings = [s for s in experiment.settings if (found["setting"] == s.name).any()]
    arms = {
        s.name: [
            arm
            for arm in experiment.arms_of(s)
            if ((found["setting"] == s.name) & (found["arm"] == arm.name)).any()
        ]
        for s in settings
    }
    heights = [0.3 * len(arms[s.name]) + 0.9 for s in settings]
    figure = Figure(figsize=(15.0, sum(heights) + 1.1), layout="constrained")
    grid = figure.subplots(len(settings), len(_PANELS), squeeze=False, height_ratios=heights)
    for row, setting in zip(grid, settings, strict=True):
        mine = found[found["setting"] == setting.name]
        shown = experiment.datasets[setting.data].shown or setting.data
        classes = [name for name in dict.fromkeys(mine["class"]) if name != MEAN] + [MEAN]
        for index, (axes, (key, title)) in enumerate(zip(row, _PANELS.items(), strict=True)):
            of = mine[mine["figure"] == key]
            if not len(of):
                axes.set_axis_off()
                continue
            _points(axes, of, arms[setting.name], classes)
            titles = [arm.title or arm.name for arm in arms[setting.name]]
            axes.set_yticks(range(len(titles)), titles if index == 0 else [])
            axes.set_ylim(len(titles) - 0.4, -0.6)
            style(axes, f"{shown}: {title}")
            axes.grid(axis="x", color=GRID, linewidth=0.6)
            axes.xaxis.set_major_locator(MaxNLocator(5))
        handles, labels = max((axes.get_legend_handles_labels() for axes in row), key=lambda of: len(of[1]))
        row[0].legend(handles, labels, loc="best", frameon=False, fontsize=7.5, handletextpad=0.2)
    figure.suptitle(experiment.title, x=0.01, ha="left", fontsize=10, color=INK)
    seeds = sorted(set(found["seeds"].tolist()))
    count = f"{seeds[0]} seed" if seeds == [1] else f"{'-'.join(map(str, seeds))} seeds"
    figure.supxlabel(
        f"All patients, each tested once a seed by networks of the other folds; mean over {count} with a 95% "
        "interval by patient bootstrap. What a border, a histogram or 8x8 pixels reach is no detection.",
        x=0.01,
        ha="left",
        fontsize=7.5,
        color=MUTED,
    )
    return figure


def _points(axes: Axes, of: pd.DataFrame, arms: Sequence[Arm], classes: Sequence[str]) -> None:
    """Draw each class's values with their intervals, the classes of an arm below each other."""
    rows = {arm.name: row for row, arm in enumerate(arms)}
    for index, name in enumerate(classes):
        mine = of[of["class"] == name]
        if not len(mine):
            continue
        beside = (index - (len(classes) - 1) / 2) * 0.17
        at = np.array([rows[arm] for arm in mine["arm"]]) + beside
        value = mine["value"].to_numpy()
        bars = [
            value - mine["low"].fillna(mine["value"]).to_numpy(),
            mine["high"].fillna(mine["value"]).to_numpy() - value,
        ]
        mean = name == MEAN
        axes.errorbar(
            value,
            at,
            xerr=np.maximum(bars, 0),
            linestyle="none",
            marker="D" if mean else "o",
            markersize=4.0 if mean else 3.2,
            color=INK if mean else COLOURS[1 + index % (len(COLOURS) - 1)],
            linewidth=1.0,
            label=name,
        )
