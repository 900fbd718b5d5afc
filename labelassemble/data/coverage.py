"""A picture of who labels what."""

from io import BytesIO
from typing import Literal

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from labelassemble._figures import names_as_written

_PARTS = (
    ("positive", "#c1432e"),
    ("negative", "#7a9cc0"),
    ("assumed", "#c9d6e4"),
    ("derived", "#d9d2e9"),
    ("uncertain", "#e0b04c"),
    ("unknown", "#ffffff"),
)


@names_as_written()
def coverage_figure(coverage: pd.DataFrame, *, format: Literal["svg", "png"] = "svg") -> bytes:
    """Return a picture of `Table.coverage()`: a cell per source and class, filled by the share of each label state.

    Args:
        coverage: What `Table.coverage` returned.
        format: "svg" (text stays text) or "png" (150 dots per inch).

    Returns:
        The file's bytes; the same coverage gives the same bytes.
    """
    sources = list(dict.fromkeys(coverage["source"]))
    classes = list(dict.fromkeys(coverage["class"]))
    figure = Figure(figsize=(2.2 + 1.5 * len(sources), 1.1 + 0.3 * len(classes)), layout="constrained")
    axes = figure.add_subplot()
    for row in coverage.to_dict("records"):
        column, line = sources.index(row["source"]), classes.index(row["class"])
        left = column + 0.04
        for part, colour in _PARTS:
            share = 0.92 * row[part] / max(1, row["images"])
            axes.barh(line, share, left=left, height=0.78, color=colour, edgecolor="none")
            left += share
        axes.barh(
            line, 0.92, left=column + 0.04, height=0.78, color="none", edgecolor="#555555", linewidth=0.5
        )
        if row["positive"]:
            axes.text(column + 0.5, line, f"{row['positive']:,}", ha="center", va="center", fontsize=7)
    images = coverage.drop_duplicates("source").set_index("source")["images"]
    axes.set_xticks(
        np.arange(len(sources)) + 0.5, [f"{name}\n{images[name]:,} images" for name in sources], fontsize=8
    )
    axes.set_yticks(np.arange(len(classes)), classes, fontsize=8)
    axes.set_xlim(0, len(sources))
    axes.set_ylim(len(classes) - 0.5, -0.5)
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    for side in axes.spines.values():
        side.set_visible(False)
    handles = [
        Patch(facecolor=colour, edgecolor="#555555", linewidth=0.5, label=part)
        for part, colour in _PARTS
        if coverage[part].any()
    ]
    columns = min(len(handles), 2 + len(sources))  # as many as the figure's width holds
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, fontsize=7, frameon=False)
    data = BytesIO()
    with rc_context({"svg.hashsalt": "labelassemble", "svg.fonttype": "none"}):
        figure.savefig(data, format=format, dpi=150, metadata={"Date": None} if format == "svg" else None)
    return data.getvalue()
