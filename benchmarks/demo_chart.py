"""Draw the README's figure from the committed scores of the demo.

labelassemble demo --seeds 10 -o runs/seeds && cp runs/seeds/scores.csv benchmarks/results/demo_seeds.csv
python benchmarks/demo_chart.py
"""

from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd

mpl.use("svg")
from matplotlib import pyplot as plt

RESULTS = Path(__file__).parent / "results"
TITLES = {
    "clinic-alone": "the clinic's 60 labelled\nimages alone",
    "masked-bce": "+ 800 images of two archives\nthat never labelled the eight",
    "label-assemble": "+ pseudo-labels and\nconsistency",
}
INK, MUTED, DOT, MEAN = "#1f2933", "#7b8794", "#9fb3c8", "#d64545"


def main() -> None:
    """Write demo_seeds.svg beside the scores: a dot a seed, a line between the trainings of one seed, the mean."""
    scores = pd.read_csv(RESULTS / "demo_seeds.csv").pivot(index="seed", columns="method", values="auc")[
        list(TITLES)
    ]
    plt.rcParams.update({"font.family": "sans-serif", "font.size": 10, "svg.hashsalt": "labelassemble"})
    figure, axes = plt.subplots(figsize=(7.2, 3.2), layout="constrained")
    places = np.arange(len(TITLES))
    for _, row in scores.iterrows():
        axes.plot(places, row, color=DOT, linewidth=0.8, marker="o", markersize=5, alpha=0.8, zorder=1)
    means = scores.mean().to_numpy()
    axes.scatter(places, means, marker="_", s=1400, color=MEAN, linewidth=2.2, zorder=2)
    for place, mean, spread in zip(places, means, scores.std(), strict=True):
        axes.annotate(
            f"{mean:.3f} ± {spread:.3f}", (place + 0.16, mean), color=MEAN, va="center", fontsize=10
        )
    axes.set_xticks(places, list(TITLES.values()), color=INK)
    axes.set_xlim(-0.35, len(TITLES) - 0.45)
    axes.set_ylabel("AUC of the eight", color=INK)
    axes.set_title(
        f"Finding a digit that only one source labels, {len(scores)} seeds, mean ± standard deviation",
        loc="left", fontsize=10, color=INK,
    )  # fmt: skip
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(MUTED)
    axes.tick_params(colors=MUTED, length=3)
    axes.tick_params(axis="x", labelcolor=INK, length=0)
    axes.grid(axis="y", color="#e4e7eb", linewidth=0.6)
    axes.set_axisbelow(True)
    figure.savefig(RESULTS / "demo_seeds.svg", facecolor="white", metadata={"Date": None})


if __name__ == "__main__":
    main()
