"""Compared runs as text, CSV and a page."""

import csv
import io
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from labelassemble._files import write_text
from labelassemble.errors import LabelAssembleError
from labelassemble.evaluation.compare_runs import PairTest, RunsCompared
from labelassemble.evaluation.compare_subgroups import SubgroupPair
from labelassemble.report.format import difference, number, p_text, signed, text_table, with_interval
from labelassemble.report.plots import strip_low
from labelassemble.report.render import page
from labelassemble.report.subgroups import ROWS

_CSV_COLUMNS = (
    "kind",
    "class",
    "first",
    "second",
    "value",
    "lower",
    "upper",
    "sd",
    "p",
    "p_student",
    "p_holm",
    "note",
    "subgroup",
    "subgroup_value",
)
SUBGROUP_NOTE = (
    "Differences are by DeLong's paired test on the same images of the group. Their intervals are not corrected for "
    "their number: of twenty, one misses 0 by chance alone."
)
_PAIR_HEADER = ("class", "run", "minus", "difference (95% interval)", "p", "Holm")
_SUBGROUP_HEADER = ("subgroup", "class", "run", "AUROC (95% interval)", "minus", "difference (95% interval)")
_TEST_HEADER = ("class", "group", "minus", "difference", "p (Student)", "p (Welch)", "Holm")


def compare_text(found: RunsCompared) -> str:
    """Return the comparison as plain text: results of the runs, tests between them, groups, and remarks."""
    results = [
        (name, run.name, with_interval(run.classes[name].auroc, run.classes[name].interval))
        for name in found.classes
        for run in found.runs
        if name in run.classes
    ]
    parts = [text_table([("class", "run", "AUROC (95% interval)"), *results])]
    if found.pairs:
        parts += [
            "Paired DeLong tests on the same test images, by patient; Holm over all of them:",
            text_table([_PAIR_HEADER, *(_pair_cells(pair) for pair in found.pairs)]),
        ]
    if found.groups:
        spreads = [
            (group.name, name, str(len(values)), _spread(group.mean(name), group.deviation(name)))
            for group in found.groups
            for name, values in group.aurocs.items()
        ]
        parts += [
            "Over seeds (mean and standard deviation of AUROC):",
            text_table([("group", "class", "runs", "AUROC"), *spreads]),
        ]
    if found.group_tests:
        tests = [
            (
                t.name,
                t.first,
                t.second,
                signed(t.difference or 0.0),
                p_text(t.student),
                p_text(t.welch),
                p_text(t.holm),
            )
            for t in found.group_tests
        ]
        parts += [
            "Two-sample t-tests over seeds; Holm over all of Welch's:",
            text_table([_TEST_HEADER, *tests]),
        ]
    return "\n\n".join([*parts, *_subgroup_parts(found), *_remarks(found)]) + "\n"


def _subgroup_parts(found: RunsCompared) -> list[str]:
    """Return the comparison within subgroups: each run, and its differences to those that it is tested against."""
    rows = []
    for value in found.subgroups:
        for run, result in value.runs.items():
            own: list[SubgroupPair | None] = [pair for pair in value.pairs if pair.first == run]
            for pair in own or [None]:
                said = ("", "") if pair is None else (pair.second, _subgroup_difference(pair))
                auroc = with_interval(result.auroc, result.interval)
                rows.append((f"{value.subgroup}: {value.value}", value.name, run, auroc, *said))
    if not rows:
        return []
    if len(rows) > ROWS:
        return [f"By subgroup: {len(rows)} rows, which --output FILE.html or FILE.csv writes."]
    return [f"By subgroup. {SUBGROUP_NOTE}", text_table([_SUBGROUP_HEADER, *rows])]


def _subgroup_difference(pair: SubgroupPair) -> str:
    if pair.test is None:
        return f"not tested: {pair.reason}"
    return difference(pair.test.difference, pair.test.interval)


def write_comparison(found: RunsCompared, path: Path) -> None:
    """Write the comparison as a page (.html) or as CSV (.csv), whole or not at all.

    The CSV has one row per result: kind (run, delong, group, t-test), class, first, second, value (AUROC, or
    difference), lower, upper, sd, p, p_student, p_holm, note, subgroup, subgroup_value (of rows within one).

    Raises:
        LabelAssembleError: another ending, or a file that cannot be written.
    """
    if path.suffix not in (".html", ".csv"):
        raise LabelAssembleError(f"--output must end in .html or .csv, got '{path}'")
    write_text(path, _csv(found) if path.suffix == ".csv" else _page(found))


def _page(found: RunsCompared) -> str:
    results = [result for run in found.runs for result in run.classes.values()]
    return page(
        "compare.html.j2",
        found=found,
        remarks=_remarks(found),
        written=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        low=strip_low([result.interval for result in results], [result.auroc for result in results]),
        spread=_spread,
        subgroup_low=strip_low(
            [result.interval for value in found.subgroups for result in value.runs.values()],
            [result.auroc for value in found.subgroups for result in value.runs.values()],
        ),
        subgroup_note=SUBGROUP_NOTE,
        subgroup_difference=_subgroup_difference,
    )


def _csv(found: RunsCompared) -> str:
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, _CSV_COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    for row in _csv_rows(found):
        values = {
            name: f"{value:.9g}" if isinstance(value, float) else value
            for name, value in row.items()
            if value is not None
        }
        writer.writerow(values)
    return buffer.getvalue()


def _csv_rows(found: RunsCompared) -> Iterator[dict[str, str | float | None]]:
    for run in found.runs:
        for name, result in run.classes.items():
            low, high = result.interval or (None, None)
            yield {
                "kind": "run",
                "class": name,
                "first": run.name,
                "value": result.auroc,
                "lower": low,
                "upper": high,
            }
    for pair in found.pairs:
        row = {
            "kind": "delong",
            "class": pair.name,
            "first": pair.first,
            "second": pair.second,
            "note": pair.reason,
        }
        if pair.test is None:
            yield {**row}
        else:
            low, high = pair.test.interval or (None, None)
            test = {
                "value": pair.test.difference,
                "lower": low,
                "upper": high,
                "p": pair.test.p,
                "p_holm": pair.holm,
            }
            yield row | test
    yield from _subgroup_rows(found)
    for group in found.groups:
        for name in group.aurocs:
            mean, deviation = group.mean(name), group.deviation(name)
            yield {"kind": "group", "class": name, "first": group.name, "value": mean, "sd": deviation}
    for t in found.group_tests:
        names = {"kind": "t-test", "class": t.name, "first": t.first, "second": t.second}
        yield names | {"value": t.difference, "p": t.welch, "p_student": t.student, "p_holm": t.holm}


def _subgroup_rows(found: RunsCompared) -> Iterator[dict[str, str | float | None]]:
    for compared in found.subgroups:
        about: dict[str, str | float | None] = {
            "class": compared.name,
            "subgroup": compared.subgroup,
            "subgroup_value": compared.value,
        }
        for name, result in compared.runs.items():
            low, high = result.interval or (None, None)
            yield about | {"kind": "run", "first": name, "value": result.auroc, "lower": low, "upper": high}
        for tested in compared.pairs:
            test_of = tested.test
            low, high = (None if test_of is None else test_of.interval) or (None, None)
            yield about | {
                "kind": "delong",
                "first": tested.first,
                "second": tested.second,
                "value": None if test_of is None else test_of.difference,
                "lower": low,
                "upper": high,
                "note": tested.reason,
            }


def _pair_cells(pair: PairTest) -> tuple[str, ...]:
    names = (pair.name, pair.first, pair.second)
    if pair.test is None:
        return *names, f"not tested: {pair.reason}", "", ""
    return (
        *names,
        difference(pair.test.difference, pair.test.interval),
        p_text(pair.test.p),
        p_text(pair.holm),
    )


def _spread(mean: float | None, deviation: float | None) -> str:
    return number(mean) if deviation is None else f"{number(mean)} ± {deviation:.3f}"


def _remarks(found: RunsCompared) -> tuple[str, ...]:
    """Return what a reader must know, a sentence each."""
    told = []
    differing = [pair for pair in found.pairs if pair.reason.startswith("other")]
    if differing:
        first = differing[0]
        what = "images" if first.reason.startswith("other test images") else "labels"
        more = f", nor are {len(differing) - 1} more pairs" if len(differing) > 1 else ""
        told.append(
            f"{first.first} and {first.second} were tested on other {what} of {first.name}, so they are not tested "
            f"against each other{more}: figures of different images cannot be paired."
        )
    if any(pair.test is not None for pair in found.pairs):
        told.append(
            "DeLong's test asks whether two models differ on these images; another seed may differ by more."
        )
    if found.group_tests and min(len(group.runs) for group in found.groups) < 5:
        told.append("A t-test over a handful of seeds sees only large differences.")
    return tuple(told)
