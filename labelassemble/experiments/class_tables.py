"""Class by class: mean AUCs over seeds and tests of their differences, as CSV and Markdown."""

from collections.abc import Mapping, Sequence
from typing import TypeVar

from labelassemble.experiments.markdown import TEST_NAMES, markdown_table, mean_text, p_text
from labelassemble.experiments.settings import Comparison, Test
from labelassemble.experiments.summary import (
    ArmRow,
    Difference,
    DifferenceRow,
    Done,
    Under,
    arm_rows_under,
    difference_rows_under,
    differences_csv,
    means_csv,
)

ColumnT = TypeVar("ColumnT")


def class_tables(done: Done, comparisons: Sequence[Comparison]) -> tuple[dict[str, str], list[str]]:
    """Return classes.csv and class_differences.csv by their names, and lines of Markdown; none for other metrics.

    Markdown has a table of AUCs and one of differences a setting and size, a row a class. Of each comparison the test
    that it names first is shown; the CSV has all of them.
    """
    runs = [(job, result) for job, result in done if job.setting.interest is None]
    if not runs:
        return {}, []
    rows = arm_rows_under(runs, lambda result: result.class_auc)
    differences = difference_rows_under(runs, comparisons, lambda result: result.class_auc)
    files = {
        "classes.csv": means_csv(rows, "class"),
        "class_differences.csv": differences_csv(differences, "class"),
    }
    first_test = {comparison.arms: comparison.tests[0] for comparison in reversed(comparisons)}
    shown = [d for d in differences if d.row.test == first_test[d.row.first, d.row.second]]
    lines: list[str] = []
    for place in dict.fromkeys((row.setting, row.size) for _, row in rows):
        mine = [under for under in rows if (under.row.setting, under.row.size) == place]
        lines += _means(place, mine)
        for test in dict.fromkeys(comparison.tests[0] for comparison in comparisons):
            lines += _differences(
                place,
                test,
                [d for d in shown if (d.row.setting, d.row.size) == place and d.row.test == test],
            )
    return files, lines


def _means(place: tuple[str, int | str], rows: Sequence[Under[ArmRow]]) -> list[str]:
    arms = list(dict.fromkeys(row.arm for _, row in rows))
    found = {(name, row.arm): mean_text(row.auc) for name, row in rows}
    return [
        "",
        f"AUC of each class, {place[0]}, n = {place[1]}: mean over seeds and Student's 95% interval.",
        "",
        *_matrix(["class", *arms], found, arms, [name for name, _ in rows]),
    ]


def _differences(place: tuple[str, int | str], test: Test, rows: Sequence[Under[DifferenceRow]]) -> list[str]:
    if not rows:
        return []
    pairs = list(dict.fromkeys((d.first, d.second) for _, d in rows))
    found = {(name, (d.first, d.second)): _difference(d.difference) for name, d in rows}
    return [
        "",
        f"Differences in AUC of each class, {place[0]}, n = {place[1]}, with p of the {TEST_NAMES[test]}.",
        "",
        *_matrix(["class", *(f"{a} - {b}" for a, b in pairs)], found, pairs, [name for name, _ in rows]),
    ]


def _matrix(
    header: Sequence[str],
    found: Mapping[tuple[str, ColumnT], str],
    columns: Sequence[ColumnT],
    names: Sequence[str],
) -> list[str]:
    """Return a table with a row a name, empty where nothing was found."""
    cells = [[name, *(found.get((name, c), "") for c in columns)] for name in dict.fromkeys(names)]
    return markdown_table(header, cells)


def _difference(difference: Difference) -> str:
    return f"{difference.value:+.3f}" + ("" if difference.p is None else f" (p {p_text(difference.p)})")
