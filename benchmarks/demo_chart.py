"""Draw the README's figure from the committed scores of the demo.

labelassemble demo --seeds 10 -o runs/seeds
cp runs/seeds/summary.csv benchmarks/results/demo_seeds.csv
python benchmarks/demo_chart.py
"""

from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd

mpl.use("svg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from scipy import stats

RESULTS = Path(__file__).parent / "results"
TITLES = {
    "clinic-alone": "clinic alone",
    "clinic-alone-strong": "+ strong view",
    "archives": "+ archives",
    "rule": "+ rule: one digit\nper image",
    "recommended": "+ pseudo-labels\n(recommended)",
}
INK, MUTED, SEED, MEAN = "#1f2933", "#52606d", "#9fb3c8", "#c2453b"


def main() -> None:
    """Write demo_seeds.svg: one line per seed, the mean of each training, and what each adds; print all tests."""
    scores = pd.read_csv(RESULTS / "demo_seeds.csv")
    table = scores.pivot(index="seed", columns="arm", values="auc")[list(TITLES)]
    for place, arm in enumerate(TITLES):
        over = [f"{other} {_gain(table, arm, other)}" for other in _others(place)]
        print(f"{arm}: {table[arm].mean():.3f} ± {table[arm].std():.3f}", *over, sep="; over ")
    plt.rcParams.update(
        {"font.family": "sans-serif", "font.size": 9, "svg.hashsalt": "labelassemble", "svg.fonttype": "none"}
    )
    figure, axes = plt.subplots(figsize=(7.6, 3.5), layout="constrained")
    _draw(axes, table)
    figure.savefig(RESULTS / "demo_seeds.svg", facecolor="white", metadata={"Date": None})


def _others(place: int) -> list[str]:
    """Return what the training at this place is compared with: the one before it, and the first."""
    arms = list(TITLES)
    return list(dict.fromkeys([arms[place - 1], arms[0]])) if place else []


def _gain(table: pd.DataFrame, arm: str, other: str) -> str:
    found = stats.ttest_rel(table[arm], table[other])
    low, high = found.confidence_interval(0.95)
    difference = table[arm] - table[other]
    won = int((difference > 0).sum())
    return f"{difference.mean():+.4f} ({low:+.4f} to {high:+.4f}), p = {found.pvalue:.2g}, {won} of {len(table)} seeds"


def _draw(axes: Axes, table: pd.DataFrame) -> None:
    places = np.arange(len(TITLES))
    for _, row in table.iterrows():
        axes.plot(places, row, color=SEED, linewidth=0.8, marker="o", markersize=4, alpha=0.85, zorder=1)
    means = table.mean().to_numpy()
    axes.scatter(places, means, marker="_", s=700, color=MEAN, linewidth=2.2, zorder=2)
    low = np.floor(table.to_numpy().min() * 50) / 50
    below = axes.get_xaxis_transform()
    for place, (arm, mean, spread) in enumerate(zip(TITLES, means, table.std(), strict=True)):
        axes.text(place, 0.12, f"{mean:.3f} ± {spread:.3f}", transform=below, color=MEAN, ha="center")
        if place:
            gain = mean - means[place - 1]
            p = float(stats.ttest_rel(table[arm], table.iloc[:, place - 1]).pvalue)
            text = f"{gain:+.3f}".replace("-", "\N{MINUS SIGN}")
            shown = "p < 0.001" if p < 0.001 else f"p = {p:.3f}"
            axes.text(
                place - 0.5, 0.03, f"{text}, {shown}", transform=below, color=MUTED, ha="center", fontsize=8
            )
    axes.set_xticks(places, list(TITLES.values()))
    axes.set_xlim(-0.5, len(TITLES) - 0.5)
    axes.set_ylim(low - 0.25 * (1 - low), 1.0)
    axes.set_ylabel("AUC of the eight", color=INK)
    axes.set_title(
        "A clinic labels 5 eights and 10 other digits, two archives label 800 digits and never the eight "
        f"({len(table)} seeds)",
        loc="left",
        fontsize=9.5,
        color=INK,
    )
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(MUTED)
    axes.tick_params(colors=MUTED, length=3)
    axes.tick_params(axis="x", labelcolor=INK, length=0)
    axes.grid(axis="y", color="#e4e7eb", linewidth=0.6)
    axes.set_axisbelow(True)


if __name__ == "__main__":
    main()
