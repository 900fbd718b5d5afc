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
    by_class,
    by_source,
    correlation,
    differences,
    gains,
    means,
    write_frame,
)
from labelassemble.run import processor_name
from labelassemble.version import __version__

TEST_NAMES: Final[dict[Test, str]] = {
    "two-sample-t": "two-sample t-test (Student's, equal variances)",
    "welch-t": "Welch's t-test",
    "paired-t": "paired t-test (seed by seed)",
}
_SHOWN: Final = {None: "whole image", "border": "border alone", "thumbnail": "8x8 thumbnail"}
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
    sources, classes = by_source(runs), by_class(runs)
    compared = experiment.comparisons
    inside = pd.concat([classes, sources[classes.columns]])
    files = {
        "means.csv": pd.concat([means(runs), means(inside, of=True)]),
        "differences.csv": pd.concat([differences(runs, compared), differences(inside, compared, of=True)]),
    }
    gained = gains(runs, compared)
    if len(gained):
        files["gains.csv"] = gained
    for name, frame in files.items():
        write_frame(frame, output / name)
    lines = _head(experiment, runs)
    lines += ["", *_mean_table(means(runs))]
    lines += _difference_table(differences(runs, compared), "with", "other")
    lines += _gain_table(gained)
    lines += _class_tables(experiment, classes)
    lines += _source_tables(experiment, runs, sources)
    if absent:
        lines += ["", "Not run:", "", *(f"- {sentence}" for sentence in absent)]
    write_text(output / "table.md", "\n".join(lines) + "\n")
    figures = []
    for kind in ("svg", "png"):
        figures.append(output / f"figure.{kind}")
        draw(experiment, runs, figures[-1])
    return [output / "table.md", *(output / name for name in files), *figures]


def markdown(header: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """Return a table's lines."""
    lines = [" | ".join(map(str, row)) for row in (header, *rows)]
    return [f"| {lines[0]} |", "|" + " --- |" * len(header), *(f"| {line} |" for line in lines[1:])]


def _head(experiment: Experiment, runs: pd.DataFrame) -> list[str]:
    of_interest = runs["interest"].notna().all()
    measured = "AUC of the class of interest" if of_interest else "Mean of the AUCs of all classes"
    return [
        f"# {experiment.title}",
        "",
        f"Paper: {experiment.paper}.",
        "",
        f"{len(runs)} runs; table written on {processor_name()}, labelassemble {__version__}, "
        f"{datetime.now(UTC):%Y-%m-%d}. {measured} on the test images; mean over seeds with Student's 95% interval; "
        "p-values are two-sided and not corrected for their number.",
    ]


def _mean_table(found: pd.DataFrame) -> list[str]:
    return markdown(
        ("setting", "n", "arm", "with", "seeds", "AUC", "95% interval", "sd"),
        [
            (
                *(r.setting, r.size, r.arm, _text(r.other), r.seeds),
                *(f"{r.mean:.4f}", _interval(r.low, r.high), _number(r.sd, ".4f")),
            )
            for r in _rows(found)
        ],
    )


def _difference_table(found: pd.DataFrame, title: str, column: str) -> list[str]:
    if not len(found):
        return []
    return [
        "",
        *markdown(
            ("setting", "n", title, "difference", "AUC", "95% interval", "p", "test", "seeds"),
            [
                (
                    *(r.setting, r.size, _text(getattr(r, column)), f"{r.first} - {r.second}"),
                    *(f"{r.difference:+.4f}", _interval(r.low, r.high, "+")),
                    *(p_text(r.p), TEST_NAMES[r.test], r.seeds),
                )
                for r in _rows(found)
            ],
        ),
    ]


def _gain_table(gained: pd.DataFrame) -> list[str]:
    if not len(gained):
        return []
    rows = []
    for key, points in gained.groupby(["setting", "size", "arm"], sort=False):
        for column, of in (("cosine", "queries"), ("cosine_of_classifiers", "classifiers")):
            known = points.dropna(subset=[column])
            fit = correlation(known[column].tolist(), known["mean"].tolist())
            said = ("not defined", "", "")
            if fit is not None:
                said = (f"{fit.r:+.2f}", _interval(fit.low, fit.high, "+"), p_text(fit.p))
            if len(known):
                rows.append((*key, of, len(known), *said))
    header = ("setting", "n", "arm", "cosine of the", "classes", "Pearson r", "95% interval", "p")
    return ["", *markdown(header, rows)]


def _class_tables(experiment: Experiment, classes: pd.DataFrame) -> list[str]:
    """Return a table of AUCs and one of differences per setting and size, a row a class."""
    lines: list[str] = []
    for (setting, size), mine in classes.groupby(["setting", "size"], sort=False):
        found = means(mine, of=True)
        found["text"] = [_mean(r.mean, r.low, r.high) for r in _rows(found)]
        title = f"AUC of each class, {setting}, n = {size}: mean over seeds and Student's 95% interval."
        lines += ["", title, "", *_matrix(found, "arm")]
        # Of each comparison the test that it names first; the CSV has all of them.
        for test in dict.fromkeys(comparison.tests[0] for comparison in experiment.comparisons):
            first = [
                c.model_copy(update={"tests": (test,)}) for c in experiment.comparisons if c.tests[0] == test
            ]
            found = differences(mine, first, of=True)
            found["text"] = [
                f"{r.difference:+.3f}" + ("" if np.isnan(r.p) else f" (p {p_text(r.p)})")
                for r in _rows(found)
            ]
            found["pair"] = found["first"] + " - " + found["second"]
            title = (
                f"Differences in AUC of each class, {setting}, n = {size}, with p of the {TEST_NAMES[test]}."
            )
            lines += ["", title, "", *_matrix(found, "pair")] if len(found) else []
    return lines


def _matrix(found: pd.DataFrame, column: str) -> list[str]:
    columns = list(found[column].drop_duplicates())
    wide = found.pivot(index="of", columns=column, values="text").reindex(found["of"].drop_duplicates())
    rows = [(name, *map(_text, cells)) for name, *cells in wide[columns].itertuples()]
    return markdown(("class", *columns), rows)


def _source_tables(experiment: Experiment, runs: pd.DataFrame, sources: pd.DataFrame) -> list[str]:
    """Return the tables of test images, of AUCs with leakage, of operating points and of differences by source."""
    if not len(sources):
        return []
    runs = runs[runs["setting"].isin(sources["setting"])].assign(of="all test images")
    every = pd.concat([runs, sources])
    counts = every.groupby(["setting", "of"], sort=False)[
        ["test_positives", "test_negatives", "assumed"]
    ].first()
    images = [
        (*key, int(positives), int(negatives), _number(assumed, ".0f"))
        for key, positives, negatives, assumed in counts.itertuples()
    ]
    defined = list(sources.loc[sources["auc"].notna(), "of"].drop_duplicates())
    aucs, points = [], []
    for (setting, size, arm), mine in every.groupby(["setting", "size", "arm"], sort=False):
        shown = _SHOWN[experiment.arm(str(arm)).transform]
        cells = []
        for of in ("all test images", *defined):
            here = mine[mine["of"] == of]
            cells.append(_cell(here, "auc"))
            if here["accuracy"].notna().any() and here["auc"].notna().any():
                points.append((setting, size, arm, shown, of, *(_cell(here, rate) for rate in _RATES)))
        aucs.append(
            (setting, size, arm, shown, *cells, _cell(mine, "leakage"), _cell(mine, "leakage_within"))
        )
    return [
        "",
        "Test images. An AUC over all of them can be earned by recognising the hospital, wherever sources differ in "
        "their share of positives: the figures within a source are the ones to read. An assumed label is one that "
        "nobody gave.",
        "",
        *markdown(("setting", "source", "positive", "negative", "of these assumed"), images),
        "",
        "AUC of the class of interest: mean over seeds (Student's 95% interval of it) [DeLong's 95% interval for other "
        "test images, over patients, each end the mean over the runs]. Leakage: the AUC with which a regression on the "
        "network's features, cross-validated by patient, tells the sources of test images apart, and that among images "
        "with the same label of the class of interest (0.5: not at all).",
        "",
        *markdown(
            (
                *("setting", "n", "arm", "images", "all test images"),
                *(f"within {source}" for source in defined),
                *("leakage", "leakage, same label"),
            ),
            aucs,
        ),
        "",
        "At the threshold that is best on validation images (Youden's, by labels that somebody gave), over all test "
        "images and within the sources that have both kinds. Mean over seeds (Student's 95% interval of it) [Wilson's "
        "95% interval of that share for other test images, which takes images of a patient as independent]. Accuracy "
        "depends on the share of positives.",
        "",
        *markdown(("setting", "n", "arm", "images", "test images", *_RATES), points),
        "",
        "Differences of the AUC within a source.",
        *_difference_table(differences(sources, experiment.comparisons, of=True), "within", "of"),
    ]


def _cell(runs: pd.DataFrame, column: str) -> str:
    """Return a mean with Student's interval, and in brackets that of other test images."""
    runs = runs.dropna(subset=[column])
    if not len(runs):
        return "not defined"
    found = means(runs.assign(other=np.nan), column).iloc[0]
    text = _mean(found["mean"], found["low"], found["high"])
    if column == "auc":
        ends = (runs["auc_low"].mean(), runs["auc_high"].mean())
    elif column in _RATES:
        counted = {"sensitivity": ["test_positives"], "specificity": ["test_negatives"]}
        trials = int(runs[counted.get(column, ["test_positives", "test_negatives"])].iloc[0].sum())
        ends = wilson(found["mean"] * trials, trials) or (np.nan, np.nan)
    else:
        return text
    return f"{text} [{ends[0]:.3f} to {ends[1]:.3f}]"


def _rows(frame: pd.DataFrame) -> Iterable[Any]:
    return frame.itertuples(index=False)


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _number(value: float, form: str) -> str:
    return "" if np.isnan(value) else f"{value:{form}}"


def _mean(mean: float, low: float, high: float) -> str:
    return f"{mean:.3f}" if np.isnan(low) else f"{mean:.3f} ({low:.3f} to {high:.3f})"


def _interval(low: float, high: float, sign: str = "") -> str:
    return "" if np.isnan(low) else f"{low:{sign}.4f} to {high:{sign}.4f}"


def p_text(p: float) -> str:
    """Return a p-value; nothing where there is none."""
    if np.isnan(p):
        return ""
    return f"{p:.3f}" if p >= 0.001 else f"{p:.1e}"
