"""The Markdown tables of an experiment over several sources: which figure is of which images."""

from collections.abc import Sequence
from typing import NamedTuple

from labelassemble.experiments.markdown import difference_table, markdown_table, mean_text
from labelassemble.experiments.settings import Experiment
from labelassemble.experiments.sources_summary import (
    EVERYWHERE,
    LeakageRow,
    PlaceRow,
    Share,
    leakage_rows,
    within_differences,
)
from labelassemble.experiments.summary import Done, MeanInterval

_SEES = {"whole": "whole image", "border": "border alone", "thumbnail": "8x8 thumbnail"}


class Block(NamedTuple):
    """A table and what is said before it."""

    text: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]


def sources_lines(experiment: Experiment, done: Done, rows: Sequence[PlaceRow]) -> list[str]:
    """Return Markdown of what runs over several sources show; nothing for others.

    Args:
        experiment: what was run.
        done: its runs.
        rows: `place_rows` of them.
    """
    lines: list[str] = []
    for block in sources_blocks(experiment, rows, leakage_rows(done)):
        lines += ["", block.text, "", *markdown_table(block.header, block.rows)]
    if inside := within_differences(done, experiment.comparisons):
        lines += ["", "Differences of the AUC within a source.", "", *difference_table(inside, "within")]
    return lines


def sources_blocks(
    experiment: Experiment, rows: Sequence[PlaceRow], leakage: Sequence[LeakageRow]
) -> list[Block]:
    """Return the tables of test images, AUCs with leakage, and operating points; none without rows."""
    if not rows:
        return []
    return [_images(rows), _aucs(experiment, rows, leakage), _operating(experiment, rows)]


def _images(rows: Sequence[PlaceRow]) -> Block:
    counts = {
        (row.setting, row.place): (
            *(row.setting, "all together" if row.place == EVERYWHERE else row.place),
            *(str(row.positives), str(row.negatives), str(row.assumed)),
        )
        for row in rows
    }
    return Block(
        "Test images. An AUC over all of them can be earned by recognising the hospital, wherever sources differ in "
        "their share of positives: the figures within a source are the ones to read. An assumed label is one that "
        "nobody gave.",
        ("setting", "source", "positive", "negative", "of these assumed"),
        list(counts.values()),
    )


def _aucs(experiment: Experiment, rows: Sequence[PlaceRow], leakage: Sequence[LeakageRow]) -> Block:
    inside = list(dict.fromkeys(r.place for r in rows if r.place != EVERYWHERE and r.auc is not None))
    leaks = {(row.setting, row.size, row.arm): row for row in leakage}
    found = {(row.setting, row.size, row.arm, row.place): row for row in rows}
    cells = []
    for setting, size, arm in dict.fromkeys((r.setting, r.size, r.arm) for r in rows):
        line = [setting, str(size), arm, _SEES[experiment.arm(arm).sees]]
        for place in (EVERYWHERE, *inside):
            row = found.get((setting, size, arm, place))
            line.append("" if row is None else _cell(row.auc, row.low, row.high))
        leak = leaks.get((setting, size, arm))
        line += ["", ""] if leak is None else [_cell(leak.auc), _cell(leak.within)]
        cells.append(line)
    return Block(
        "AUC of the class of interest: mean over seeds (Student's 95% interval of it) [DeLong's 95% interval for other "
        "test images, over patients, each end the mean over the runs]. Leakage: the AUC with "
        "which a regression on the network's features, cross-validated by patient, tells the sources of test images "
        "apart, and that among images with the same label of the class of interest (0.5: not at all).",
        (
            *("setting", "n", "arm", "sees", "all test images"),
            *(f"within {place}" for place in inside),
            *("leakage", "leakage, same label"),
        ),
        cells,
    )


def _operating(experiment: Experiment, rows: Sequence[PlaceRow]) -> Block:
    shown = [row for row in rows if row.accuracy is not None and row.auc is not None]
    return Block(
        "At the threshold that is best on validation images (Youden's, by labels that somebody gave), over all test "
        "images and within the sources that have both kinds; the others are in places.csv. Mean over seeds (Student's "
        "95% interval of it) [Wilson's 95% interval of that share for other test images, which takes images of a "
        "patient as independent]. Accuracy depends on the share of positives.",
        ("setting", "n", "arm", "sees", "test images", "sensitivity", "specificity", "accuracy"),
        [
            (
                *(row.setting, str(row.size), row.arm, _SEES[experiment.arm(row.arm).sees]),
                "all" if row.place == EVERYWHERE else row.place,
                *(_share(share) for share in (row.sensitivity, row.specificity, row.accuracy)),
            )
            for row in shown
        ],
    )


def _cell(value: MeanInterval | None, low: float | None = None, high: float | None = None) -> str:
    if value is None:
        return "not defined"
    text = mean_text(value)
    return text if low is None or high is None else f"{text} [{low:.3f} to {high:.3f}]"


def _share(share: Share | None) -> str:
    return "" if share is None else _cell(share.mean, share.low, share.high)
