"""Compared runs as text, CSV and a page."""

import csv
import io
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from labelassemble._files import write_text
from labelassemble.errors import LabelAssembleError
from labelassemble.evaluation.compare import ComparedClass
from labelassemble.evaluation.compare_runs import PairTest, RunsCompared
from labelassemble.evaluation.compare_subgroups import SubgroupPair
from labelassemble.evaluation.paired_calls import CallsTest
from labelassemble.report.format import (
    difference,
    number,
    p_text,
    percent,
    plural,
    signed,
    text_table,
    with_interval,
)
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
    "within_sources",
    "pooled",
    "pooled_lower",
    "pooled_upper",
)
SUBGROUP_NOTE = (
    "Differences are by DeLong's paired test on the same {noun}s of the group. Their intervals are not corrected for "
    "their number: of twenty, one misses 0 by chance alone."
)
_PAIR_HEADER = ("class", "run", "minus", "difference (95% interval)", "p", "Holm")
_CALLS_HEADER = ("class", "figure", "run", "minus", "", "difference (95% interval)", "p", "Holm")
_SUBGROUP_HEADER = ("subgroup", "class", "run", "AUROC (95% interval)", "minus", "difference (95% interval)")
_TEST_HEADER = ("class", "group", "minus", "difference", "p (Student)", "p (Welch)", "Holm")


def compare_text(found: RunsCompared) -> str:
    """Return the comparison as plain text: results of the runs, tests between them, groups, and remarks."""
    results = [
        (_named(found, name), run.name, with_interval(own.first.auroc, own.first.interval), _pooled(own))
        for name in found.classes
        for run in found.runs
        if (own := run.classes.get(name)) is not None
    ]
    header = ("class", "run", "AUROC (95% interval)", "pooled" if found.within else "")
    parts = [text_table([header, *results])]
    if found.pairs:
        parts += [
            f"Paired DeLong tests on the same test {found.noun}s, by patient; Holm over all of them:",
            text_table([_PAIR_HEADER, *(_pair_cells(found, pair) for pair in found.pairs)]),
        ]
    if found.calls:
        parts += [
            "McNemar's exact test on the same test patients, each run at the threshold that its own validation "
            "patients give for a specificity; Holm over all of them:",
            text_table([_CALLS_HEADER, *(_calls_cells(test) for test in found.calls)]),
        ]
    if found.groups:
        spreads = [
            (
                group.name,
                _named(found, name),
                str(len(values)),
                _spread(group.mean(name), group.deviation(name)),
            )
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
                _named(found, t.name),
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


def _named(found: RunsCompared, name: str) -> str:
    """Return a class with what its figures are of, where that is not all pairs of images."""
    return f"{name}, within sources" if name in found.within else name


def _pooled(result: ComparedClass) -> str:
    return with_interval(result.auroc, result.interval) if result.first.within else ""


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
    return [f"By subgroup. {_subgroup_note(found)}", text_table([_SUBGROUP_HEADER, *rows])]


def _subgroup_note(found: RunsCompared) -> str:
    pooled = " All sources are pooled here." if found.within else ""
    return SUBGROUP_NOTE.format(noun=found.noun) + pooled


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
    results = [result.first for run in found.runs for result in run.classes.values()]
    return page(
        "compare.html.j2",
        found=found,
        remarks=_remarks(found),
        written=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        low=strip_low([first.interval for first in results], [first.auroc for first in results]),
        spread=_spread,
        named=_named,
        subgroup_low=strip_low(
            [result.interval for value in found.subgroups for result in value.runs.values()],
            [result.auroc for value in found.subgroups for result in value.runs.values()],
        ),
        calls_cells=_calls_cells,
        subgroup_note=_subgroup_note(found),
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
            low, high = result.first.interval or (None, None)
            own: dict[str, str | float | None] = {
                "kind": "run",
                "class": name,
                "first": run.name,
                "value": result.first.auroc,
                "lower": low,
                "upper": high,
            }
            if result.first.within:
                low, high = result.interval or (None, None)
                own |= {
                    "within_sources": "yes",
                    "pooled": result.auroc,
                    "pooled_lower": low,
                    "pooled_upper": high,
                }
            yield own
    for pair in found.pairs:
        row: dict[str, str | float | None] = {
            "kind": "delong",
            "class": pair.name,
            "first": pair.first,
            "second": pair.second,
            "note": pair.reason,
            "within_sources": "yes" if pair.name in found.within else None,
        }
        if pair.test is None:
            yield {**row}
        else:
            low, high = pair.test.interval or (None, None)
            test: dict[str, str | float | None] = {
                "value": pair.test.difference,
                "lower": low,
                "upper": high,
                "p": pair.test.p,
                "p_holm": pair.holm,
            }
            yield row | test
    for calls in found.calls:
        yield {
            "kind": "mcnemar",
            "class": calls.name,
            "first": calls.first,
            "second": calls.second,
            "value": calls.counts.difference,
            "lower": calls.counts.interval.lower,
            "upper": calls.counts.interval.upper,
            "p": calls.counts.p,
            "p_holm": calls.holm,
            "note": f"{calls.figure} at specificity={calls.target:g}",
        }
    yield from _subgroup_rows(found)
    for group in found.groups:
        for name in group.aurocs:
            yield {
                "kind": "group",
                "class": name,
                "first": group.name,
                "value": group.mean(name),
                "sd": group.deviation(name),
                "within_sources": "yes" if name in found.within else None,
            }
    for t in found.group_tests:
        names = {"kind": "t-test", "class": t.name, "first": t.first, "second": t.second}
        names |= {"within_sources": "yes"} if t.name in found.within else {}
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


def _pair_cells(found: RunsCompared, pair: PairTest) -> tuple[str, ...]:
    names = (_named(found, pair.name), pair.first, pair.second)
    if pair.test is None:
        return *names, f"not tested: {pair.reason}", "", ""
    return (
        *names,
        difference(pair.test.difference, pair.test.interval),
        p_text(pair.test.p),
        p_text(pair.holm),
    )


def _calls_cells(test: CallsTest) -> tuple[str, ...]:
    one, other = (percent(share) for share in test.counts.shares)
    return (
        test.name,
        f"{test.figure} at {percent(test.target)}",
        test.first,
        test.second,
        f"{one} - {other}",
        difference(test.counts.difference, test.counts.interval),
        p_text(test.counts.p),
        p_text(test.holm),
    )


def _spread(mean: float | None, deviation: float | None) -> str:
    return number(mean) if deviation is None else f"{number(mean)} ± {deviation:.3f}"


def _remarks(found: RunsCompared) -> tuple[str, ...]:
    """Return what a reader must know, a sentence each."""
    told = [
        f"{name} is compared within sources, of pairs of {found.noun}s from the same source: in {within.run}, "
        f"{within.reason}."
        for name, within in found.within.items()
    ]
    if found.unmeasured:
        run, name = found.unmeasured[0]
        more = (
            f", as of {plural(len(found.unmeasured) - 1, 'more figure')}" if len(found.unmeasured) > 1 else ""
        )
        told.append(
            f"{name} is tied to the source, and how well the features of {run} tell the sources apart is not recorded"
            f"{more}, so the pooled figure stands: `labelassemble evaluate` of the run records it."
        )
    differing = [pair for pair in found.pairs if pair.reason.startswith("other")]
    if differing:
        first = differing[0]
        what = f"{found.noun}s" if first.reason.startswith("other test") else "labels"
        more = f", nor are {len(differing) - 1} more pairs" if len(differing) > 1 else ""
        told.append(
            f"{first.first} and {first.second} were tested on other {what} of {first.name}, so they are not tested "
            f"against each other{more}: figures of different {found.noun}s cannot be paired."
        )
    if any(pair.test is not None for pair in found.pairs):
        told.append(
            f"DeLong's test asks whether two models differ on these {found.noun}s; another seed may differ by more."
        )
    if found.group_tests and min(len(group.runs) for group in found.groups) < 5:
        told.append("A t-test over a handful of seeds sees only large differences.")
    return tuple(told)
