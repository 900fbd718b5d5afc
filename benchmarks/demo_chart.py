"""Draw the README's figure from the committed scores of the demo.

for n in 15 60; do labelassemble demo --clinic-images $n --seeds 5 -o runs/seeds-$n; done
(the rows of both scores.csv in benchmarks/results/demo_seeds.csv)
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
    "masked-bce": "+ archives,\nmasked BCE",
    "label-assemble": "+ pseudo-labels,\nconsistency",
}
INK, MUTED, DOT, MEAN = "#1f2933", "#7b8794", "#9fb3c8", "#c2453b"


def main() -> None:
    """Write demo_seeds.svg: a panel a size of the clinic, a line a seed, the mean and standard deviation."""
    scores = pd.read_csv(RESULTS / "demo_seeds.csv")
    sizes = sorted(scores["clinic_images"].unique())
    plt.rcParams.update({"font.family": "sans-serif", "font.size": 9, "svg.hashsalt": "labelassemble"})
    figure, panels = plt.subplots(
        1, len(sizes), figsize=(4.4 * len(sizes), 3.1), sharey=True, layout="constrained"
    )
    for axes, size in zip(np.atleast_1d(panels), sizes, strict=True):
        of_size = scores[scores["clinic_images"] == size]
        _panel(axes, of_size, int(size))
        ours, alone = (
            of_size[of_size["method"] == name]["auc"] for name in ("label-assemble", "clinic-alone")
        )
        print(
            f"{size} images: two-sample t-test against the clinic alone, p = {stats.ttest_ind(ours, alone).pvalue:.2f}"
        )
    np.atleast_1d(panels)[0].set_ylabel("AUC of the eight on held-out images", color=INK)
    figure.savefig(RESULTS / "demo_seeds.svg", facecolor="white", metadata={"Date": None})


def _panel(axes: Axes, scores: pd.DataFrame, size: int) -> None:
    table = scores.pivot(index="seed", columns="method", values="auc")[list(TITLES)]
    places = np.arange(len(TITLES))
    for _, row in table.iterrows():
        axes.plot(places, row, color=DOT, linewidth=0.8, marker="o", markersize=4.5, alpha=0.85, zorder=1)
    means = table.mean().to_numpy()
    axes.scatter(places, means, marker="_", s=900, color=MEAN, linewidth=2.2, zorder=2)
    for place, mean, spread in zip(places, means, table.std(), strict=True):
        below = axes.get_xaxis_transform()
        axes.text(
            place, 0.03, f"{mean:.3f} ± {spread:.3f}", transform=below, color=MEAN, ha="center", fontsize=8.5
        )
    axes.set_xticks(places, list(TITLES.values()))
    axes.set_xlim(-0.5, len(TITLES) - 0.5)
    axes.set_ylim(0.65, 1.01)
    axes.set_title(
        f"the clinic labels {size} images ({len(table)} seeds)", loc="left", fontsize=9.5, color=INK
    )
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(MUTED)
    axes.tick_params(colors=MUTED, length=3)
    axes.tick_params(axis="x", labelcolor=INK, length=0)
    axes.grid(axis="y", color="#e4e7eb", linewidth=0.6)
    axes.set_axisbelow(True)


if __name__ == "__main__":
    main()
