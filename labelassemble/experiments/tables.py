"""What an experiment leaves beside runs.csv: means and tests as CSV and Markdown, and a figure."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from labelassemble._files import write_text
from labelassemble.evaluation import wilson
from labelassemble.experiments.experiment import Experiment, Test
from labelassemble.experiments.plots import draw
from labelassemble.experiments.summary import (
    COSINES,
    by_class,
    by_source,
    correlation,
    differences,
    gains,
    mean_interval,
    means,
    write_frame,
)
from labelassemble.processor import processor_name
from labelassemble.version import __version__

TEST_NAMES: Final[dict[Test, str]] = {
    "two-sample-t": "two-sample t-test (Student's, equal variances)",
    "welch-t": "Welch's t-test",
    "paired-t": "paired t-test (seed by seed)",
}
_IMAGES: Final = {None: "whole", "border": "border", "thumbnail": "8x8 thumbnail"}
_RATES: Final = ("sensitivity", "specificity", "accuracy")


def write_summary(
    experiment: Experiment, runs: pd.DataFrame, output: Path, *, absent: Sequence[str] = ()
) -> list[Path]:
    """Write means.csv, differences.csv, gains.csv where classes are assembled one at a time, table.md and the figure.

    Args:
        experiment: what was run.
        runs: its frame of runs.
        output: folder for the files.
        absent: why settings are left out, a sentence each.

    Returns:
        The files.
    """
    sources, compared = by_source(runs), experiment.comparisons
    within = pd.concat([by_class(runs), sources[["setting", "size", "arm", "other", "seed", "of", "auc"]]])
    found = pd.concat([means(runs), means(within, of=True)])
    tested = pd.concat([differences(runs, compared), differences(within, compared, of=True)])
    gained = gains(runs, compared)
    files = {"means.csv": found, "differences.csv": tested} | ({"gains.csv": gained} if len(gained) else {})
    for name, frame in files.items():
        write_frame(frame, output / name)
    measured = (
        "AUC of the class of interest"
        if runs["interest"].notna().all()
        else "Mean of the AUCs of all classes"
    )
    lines = [
        f"# {experiment.title}",
        "",
        f"Paper: {experiment.paper}.",
        "",
        f"{len(runs)} runs; table written on {processor_name()}, labelassemble {__version__}, "
        f"{datetime.now(UTC):%Y-%m-%d}. {measured} on the test images; mean over seeds with Student's 95% interval; "
        'p-values are two-sided and not corrected for their number. Rows with a word under "of" are of that class, or '
        "of the test images of that source.",
        *_mean_table(found),
        *_difference_table(tested),
        *_gain_table(gained),
        *_source_table(experiment, runs, sources),
    ]
    if absent:
        lines += ["", "Not run:", "", *(f"- {sentence}" for sentence in absent)]
    write_text(output / "table.md", "\n".join(lines) + "\n")
    figures = [output / f"figure.{kind}" for kind in ("svg", "png")]
    for path in figures:
        draw(experiment, runs, path)
    return [output / "table.md", *(output / name for name in files), *figures]


def markdown(header: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """Return a table's lines after an empty one."""
    lines = [" | ".join(map(str, row)) for row in (header, *rows)]
    return ["", f"| {lines[0]} |", "|" + " --- |" * len(header), *(f"| {line} |" for line in lines[1:])]


def _mean_table(found: pd.DataFrame) -> list[str]:
    return markdown(
        ("setting", "n", "arm", "with", "of", "seeds", "AUC", "95% interval", "sd"),
        [
            (
                *(r.setting, r.size, r.arm, _text(r.other), _text(r.of), r.seeds),
                *(f"{r.mean:.4f}", _interval(r.low, r.high), _number(r.sd, ".4f")),
            )
            for r in _rows(found)
        ],
    )


def _difference_table(found: pd.DataFrame) -> list[str]:
    if not len(found):
        return []
    return markdown(
        ("setting", "n", "with", "of", "difference", "AUC", "95% interval", "p", "test", "seeds"),
        [
            (
                *(r.setting, r.size, _text(r.other), _text(r.of), f"{r.first} - {r.second}"),
                *(f"{r.difference:+.4f}", _interval(r.low, r.high, "+")),
                *(p_text(r.p), TEST_NAMES[r.test], r.seeds),
            )
            for r in _rows(found)
        ],
    )


def _gain_table(gained: pd.DataFrame) -> list[str]:
    if not len(gained):
        return []
    rows = []
    for key, points in gained.groupby(["setting", "size", "arm"], sort=False):
        for column, of in zip(COSINES, ("queries", "classifiers", "features"), strict=True):
            known = points.dropna(subset=[column])
            fit = correlation(known[column].tolist(), known["mean"].tolist())
            said = ("not defined", "", "")
            if fit is not None:
                said = (f"{fit.r:+.2f}", _interval(fit.low, fit.high, "+"), p_text(fit.p))
            if len(known):
                rows.append((*key, of, len(known), *said))
    header = ("setting", "n", "arm", "cosine of the", "classes", "Pearson r", "95% interval", "p")
    return markdown(header, rows)


def _source_table(experiment: Experiment, runs: pd.DataFrame, sources: pd.DataFrame) -> list[str]:
    """Return what is measured on all test images and within each source; nothing where there is one source."""
    if not len(sources):
        return []
    every = pd.concat([runs[runs["setting"].isin(sources["setting"])].assign(of="all"), sources])
    rows = []
    for (setting, size, arm, of), mine in every.groupby(["setting", "size", "arm", "of"], sort=False):
        counts = mine[["test_positives", "test_negatives", "assumed"]].iloc[0]
        cells = [_cell(mine, column) for column in ("auc", *_RATES, "leakage", "leakage_within")]
        about = (setting, size, arm, _IMAGES[experiment.arm(str(arm)).transform], of)
        rows.append((*about, *(_number(count, ".0f") for count in counts), *cells))
    return [
        "",
        "Within sources. An AUC over all test images can be earned by recognising the hospital, wherever sources "
        "differ in their share of positives: the figures within a source are the ones to read. An assumed label is "
        "one that nobody gave. Mean over seeds (Student's 95% interval of it) [interval for other test images: "
        "DeLong's over patients, each end the mean over the runs; Wilson's, which takes images of a patient as "
        "independent]. The threshold is the best one on validation images (Youden's, by labels that somebody "
        "gave); accuracy depends on the share of positives. Leakage: the AUC with which a regression on the "
        "network's features, cross-validated by patient, tells the sources of test images apart, and that among "
        "images with the same label of the class of interest (0.5: not at all).",
        *markdown(
            (
                *("setting", "n", "arm", "images", "test images", "positive", "negative", "of these assumed"),
                *("AUC", *_RATES, "leakage", "leakage, same label"),
            ),
            rows,
        ),
    ]


def _cell(runs: pd.DataFrame, column: str) -> str:
    """Return a mean with Student's interval, and in brackets that of other test images."""
    runs = runs.dropna(subset=[column])
    if not len(runs):
        return ""
    mean = mean_interval(runs[column].tolist(), within=(0.0, 1.0))
    text = f"{mean.mean:.3f}" + ("" if np.isnan(mean.low) else f" ({mean.low:.3f} to {mean.high:.3f})")
    if column == "auc":
        ends = (runs["auc_low"].mean(), runs["auc_high"].mean())
    elif column in _RATES:
        counted = {"sensitivity": ["test_positives"], "specificity": ["test_negatives"]}
        trials = int(runs[counted.get(column, ["test_positives", "test_negatives"])].iloc[0].sum())
        ends = wilson(mean.mean * trials, trials) or (np.nan, np.nan)
    else:
        return text
    return f"{text} [{ends[0]:.3f} to {ends[1]:.3f}]"


def _rows(frame: pd.DataFrame) -> Iterable[Any]:
    return frame.itertuples(index=False)


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _number(value: float, form: str) -> str:
    return "" if np.isnan(value) else f"{value:{form}}"


def _interval(low: float, high: float, sign: str = "") -> str:
    return "" if np.isnan(low) else f"{low:{sign}.4f} to {high:{sign}.4f}"


def p_text(p: float) -> str:
    """Return a p-value; nothing where there is none."""
    if np.isnan(p):
        return ""
    return f"{p:.3f}" if p >= 0.001 else f"{p:.1e}"
