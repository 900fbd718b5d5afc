"""A comparison of runs as text, CSV and a page."""

import csv
import io
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from labelassemble._files import atomic_file
from labelassemble.errors import LabelAssembleError
from labelassemble.evaluation.compare_runs import RunsCompared
from labelassemble.evaluation.results import number, with_interval
from labelassemble.report import plots
from labelassemble.report.format import p_text, signed
from labelassemble.report.render import page


def compare_text(found: RunsCompared) -> str:
    """Return the comparison as plain text: figures of the runs, tests between them, groups, and remarks."""
    rows = [
        (name, run.name, with_interval(run.classes[name].auroc, run.classes[name].interval))
        for name in found.classes
        for run in found.runs
        if name in run.classes
    ]
    parts = [_table(("class", "run", "AUROC (95% interval)"), rows)]
    if found.pairs:
        parts += [
            "Paired DeLong tests on the same test images, by patient; Holm over all of them:",
            _table(
                ("class", "run", "minus", "difference (95% interval)", "p", "Holm"),
                [
                    (
                        pair.name,
                        pair.first,
                        pair.second,
                        *(
                            (f"not tested: {pair.reason}", "", "")
                            if pair.test is None
                            else (
                                _difference(pair.test.difference, pair.test.interval),
                                p_text(pair.test.p),
                                p_text(pair.holm),
                            )
                        ),
                    )
                    for pair in found.pairs
                ],
            ),
        ]
    if found.groups:
        parts += [
            "Over seeds (mean and standard deviation of AUROC):",
            _table(
                ("group", "class", "runs", "AUROC"),
                [
                    (group.name, name, str(len(values)), _spread(group.mean(name), group.deviation(name)))
                    for group in found.groups
                    for name, values in group.aurocs.items()
                ],
            ),
        ]
    if found.group_tests:
        parts += [
            "Two-sample t-tests over seeds; Holm over all of Welch's:",
            _table(
                ("class", "group", "minus", "difference", "p (Student)", "p (Welch)", "Holm"),
                [
                    (
                        test.name,
                        test.first,
                        test.second,
                        signed(test.difference or 0.0),
                        *(p_text(p) for p in (test.student, test.welch, test.holm)),
                    )
                    for test in found.group_tests
                ],
            ),
        ]
    return "\n\n".join(parts) + "".join(f"\n\n{remark}" for remark in found.remarks()) + "\n"


def write_comparison(found: RunsCompared, path: Path) -> None:
    """Write the comparison as a page (.html) or as CSV (.csv), whole or not at all.

    The CSV has a row a figure: kind (run, delong, group, t-test), class, first, second, value (AUROC, or difference),
    lower, upper, sd, p, p_student, p_holm, note.

    Raises:
        LabelAssembleError: another ending, or a file that cannot be written.
    """
    if path.suffix not in (".html", ".csv"):
        raise LabelAssembleError(f"--output must end in .html or .csv, got '{path}'")
    text = _csv(found) if path.suffix == ".csv" else _page(found)
    with atomic_file(path) as file:
        file.write(text)


def _page(found: RunsCompared) -> str:
    results = [result for run in found.runs for result in run.classes.values()]
    return page(
        "compare.html.j2",
        found=found,
        remarks=found.remarks(),
        written=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        low=plots.strip_low([result.interval for result in results], [result.auroc for result in results]),
        spread=_spread,
        difference=_difference,
    )


def _csv(found: RunsCompared) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(
        [
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
        ]
    )
    for run in found.runs:
        for name, result in run.classes.items():
            low, high = result.interval or (None, None)
            writer.writerow(_cells("run", name, run.name, "", result.auroc, low, high))
    for pair in found.pairs:
        test = pair.test
        low, high = (test.interval if test is not None else None) or (None, None)
        value, p = (None, None) if test is None else (test.difference, test.p)
        cells = _cells(
            "delong", pair.name, pair.first, pair.second, value, low, high, None, p, None, pair.holm
        )
        writer.writerow([*cells[:-1], pair.reason])
    for group in found.groups:
        for name in group.aurocs:
            mean, deviation = group.mean(name), group.deviation(name)
            writer.writerow(_cells("group", name, group.name, "", mean, None, None, deviation))
    for t in found.group_tests:
        writer.writerow(
            _cells(
                "t-test",
                t.name,
                t.first,
                t.second,
                t.difference,
                None,
                None,
                None,
                t.welch,
                t.student,
                t.holm,
            )
        )
    return buffer.getvalue()


def _cells(kind: str, name: str, first: str, second: str, *numbers: float | None) -> list[str]:
    texts = ["" if value is None else f"{value:.9g}" for value in numbers]
    return [kind, name, first, second, *texts, *[""] * (8 - len(texts))]


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, *rows]
    widths = [max(len(row[column]) for row in lines) for column in range(len(header))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in lines
    )


def _spread(mean: float | None, deviation: float | None) -> str:
    return number(mean) if deviation is None else f"{number(mean)} ± {deviation:.3f}"


def _difference(value: float, interval: tuple[float, float] | None) -> str:
    return (
        signed(value)
        if interval is None
        else f"{signed(value)} ({signed(interval[0])} to {signed(interval[1])})"
    )
