"""What an experiment leaves: runs.csv, means and tests as CSV and Markdown, a figure, and its own settings."""

import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import yaml

from labelassemble.experiments.class_tables import class_tables
from labelassemble.experiments.figures import arms_figure, similarity_figure, sizes_figure, sources_figure
from labelassemble.experiments.markdown import difference_table, interval_text, markdown_table, p_text
from labelassemble.experiments.settings import Experiment, Setting
from labelassemble.experiments.sources_summary import place_rows, places_csv, sources_csv
from labelassemble.experiments.sources_table import sources_lines
from labelassemble.experiments.summary import (
    ArmRow,
    DifferenceRow,
    Done,
    Gain,
    arm_rows,
    correlation,
    difference_rows,
    differences_csv,
    gains,
    gains_csv,
    means_csv,
    runs_csv,
)
from labelassemble.run import processor_name
from labelassemble.version import __version__


def write_outcome(
    experiment: Experiment, done: Done, output: Path, *, settings: Sequence[Setting], absent: Sequence[str]
) -> list[Path]:
    """Write everything that `done` shows into `output`, each file whole or not at all; return the files."""
    arms = arm_rows(done)
    differences = difference_rows(done, experiment.comparisons)
    gained = gains(done, experiment.comparisons)
    class_texts, lines = class_tables(done, experiment.comparisons)
    places = place_rows(done)
    lines += sources_lines(experiment, done, places)
    texts = {
        "runs.csv": runs_csv(done),
        "means.csv": means_csv([(row.other, row) for row in arms], "other"),
        "differences.csv": differences_csv([(d.other, d) for d in differences], "other"),
        "table.md": table_text(experiment, arms, differences, gained, absent, len(done), lines),
        **class_texts,
        "experiment.yaml": yaml.safe_dump(
            experiment.model_dump(mode="json"), sort_keys=False, allow_unicode=True
        ),
    }
    if gained:
        texts["gains.csv"] = gains_csv(gained)
    if places:
        texts |= {"sources.csv": sources_csv(done), "places.csv": places_csv(places)}
    output.mkdir(parents=True, exist_ok=True)
    files = []
    for name, text in texts.items():
        files.append(_write(output / name, text.encode()))
    for kind in ("svg", "png"):
        if experiment.figure == "arms":
            picture = arms_figure(experiment, arms, settings, kind)
        elif experiment.figure == "similarity":
            if not gained:
                continue
            picture = similarity_figure(experiment, gained, settings, kind)
        elif experiment.figure == "sources" and places:
            picture = sources_figure(experiment, places, settings, kind)
        else:
            picture = sizes_figure(experiment, arms, settings, kind)
        files.append(_write(output / f"figure.{kind}", picture))
    return files


def table_text(
    experiment: Experiment,
    arms: Sequence[ArmRow],
    differences: Sequence[DifferenceRow],
    gained: Sequence[Gain],
    absent: Sequence[str],
    runs: int,
    sections: Sequence[str] = (),
) -> str:
    """Return the tables as Markdown, with what was run, on which machine and when; `sections` are lines after them."""
    measured = (
        "AUC of the class of interest" if experiment.metric == "auc" else "Mean of the AUCs of all classes"
    )
    lines = [
        f"# {experiment.title}",
        "",
        f"Paper: {experiment.paper}.",
        "",
        f"{runs} runs, {processor_name()}, labelassemble {__version__}, "
        f"{datetime.now(UTC):%Y-%m-%d}. {measured} on the test images; mean over "
        "seeds with Student's 95% interval; p-values are two-sided and not corrected for their number.",
        "",
        *markdown_table(
            ("setting", "n", "arm", "with", "seeds", "AUC", "95% interval", "sd"),
            [
                (
                    *(r.setting, str(r.size), r.arm, r.other or "", str(r.auc.count), f"{r.auc.mean:.4f}"),
                    interval_text(r.auc.low, r.auc.high),
                    "" if r.auc.deviation is None else f"{r.auc.deviation:.4f}",
                )
                for r in arms
            ],
        ),
    ]
    if differences:
        lines += ["", *difference_table([(d.other, d) for d in differences], "with")]
    if gained:
        lines += [
            "",
            *markdown_table(
                ("setting", "n", "arm", "classes", "Pearson r", "95% interval", "p"), _fits(gained)
            ),
        ]
    lines += sections
    if absent:
        lines += ["", "Not run:", "", *(f"- {sentence}" for sentence in absent)]
    return "\n".join(lines) + "\n"


def _fits(gained: Sequence[Gain]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for setting, size, arm in dict.fromkeys((g.setting, g.size, g.arm) for g in gained):
        points = [g for g in gained if (g.setting, g.size, g.arm) == (setting, size, arm)]
        fit = correlation([g.cosine for g in points], [g.gain.mean for g in points])
        found = ("not defined", "", "")
        if fit is not None:
            found = (f"{fit.r:+.2f}", interval_text(fit.low, fit.high, "+"), p_text(fit.p))
        rows.append((setting, str(size), arm, str(len(points)), *found))
    return rows


def _write(path: Path, content: bytes) -> Path:
    unfinished = path.with_name(f".{path.name}.new")
    unfinished.write_bytes(content)
    os.replace(unfinished, path)
    return path
