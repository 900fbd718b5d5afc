"""Markdown of experiments: tables, and how means, intervals and p-values are written."""

from collections.abc import Sequence

from labelassemble.experiments.settings import Test
from labelassemble.experiments.summary import DifferenceRow, MeanInterval

TEST_NAMES: dict[Test, str] = {
    "two-sample-t": "two-sample t-test (Student's, equal variances)",
    "welch-t": "Welch's t-test",
    "paired-t": "paired t-test (seed by seed)",
}


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return a table's lines."""
    return [
        "| " + " | ".join(header) + " |",
        "|" + " --- |" * len(header),
        *("| " + " | ".join(row) + " |" for row in rows),
    ]


def difference_table(rows: Sequence[tuple[str | None, DifferenceRow]], column: str) -> list[str]:
    """Return a table of tests; `column` is what the text beside each row is."""
    return markdown_table(
        ("setting", "n", column, "difference", "AUC", "95% interval", "p", "test", "seeds"),
        [
            (
                *(d.setting, str(d.size), name or "", f"{d.first} - {d.second}"),
                f"{d.difference.value:+.4f}",
                interval_text(d.difference.low, d.difference.high, "+"),
                *(p_text(d.difference.p), TEST_NAMES[d.test], str(d.seeds)),
            )
            for name, d in rows
        ],
    )


def mean_text(value: MeanInterval) -> str:
    """Return a mean with its interval, where it has one."""
    if value.low is None or value.high is None:
        return f"{value.mean:.3f}"
    return f"{value.mean:.3f} ({value.low:.3f} to {value.high:.3f})"


def interval_text(low: float | None, high: float | None, sign: str = "") -> str:
    """Return an interval; nothing where there is none."""
    return "" if low is None or high is None else f"{low:{sign}.4f} to {high:{sign}.4f}"


def p_text(p: float | None) -> str:
    """Return a p-value; nothing where there is none."""
    if p is None:
        return ""
    return f"{p:.3f}" if p >= 0.001 else f"{p:.1e}"
