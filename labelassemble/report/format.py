"""How numbers are written."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from markupsafe import Markup

from labelassemble.evaluation.proportion import Interval
from labelassemble.evaluation.results import ClassResult

NOT_DEFINED: Final = "not defined"
FEW: Final = 30
"""Fewer cases of a state than this are pointed out: one case more or less then moves the result."""

ENOUGH: Final = 10
"""Fewer cases of a state than this are too few to call a class worse than guessing."""


def number(value: float | None) -> str:
    """Return a figure with three decimals; one that only rounding makes 0 or 1 says so."""
    if value is None:
        return NOT_DEFINED
    if value != 1 and round(value, 3) == 1:
        return ">0.999"
    if value != 0 and round(value, 3) == 0:
        return "<0.001"
    return f"{value:.3f}"


def percent(value: float | None) -> str:
    """Return a share as a percentage with at most one decimal; one that only rounding makes 0 or 100 says so."""
    if value is None:
        return NOT_DEFINED
    if value != 1 and round(100 * value, 1) == 100:
        return ">99.9%"
    if value != 0 and round(100 * value, 1) == 0:
        return "<0.1%"
    return f"{100 * value:.1f}".removesuffix(".0") + "%"


def interval_text(interval: Interval | None) -> str:
    """Return "0.871 to 0.943"."""
    return NOT_DEFINED if interval is None else f"{number(interval.lower)} to {number(interval.upper)}"


def with_interval(value: float | None, interval: Interval | None) -> str:
    """Return "0.913 (0.871 to 0.943)", or without the interval where there is none."""
    return number(value) if interval is None else f"{number(value)} ({interval_text(interval)})"


def plural(count: int, noun: str) -> str:
    """Return "1 source", "2 sources", "2 classes"."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}{'es' if noun.endswith('s') else 's'}"


def too_few_negatives(result: ClassResult, noun: str) -> str:
    """Return why no sensitivity stands at some of the specificities, "" where none is missing for want of negatives.

    Args:
        result: of a class.
        noun: for what a threshold is chosen by, in the plural: "validation negatives".
    """
    if not result.too_few_negatives:
        return ""
    targets = ", ".join(percent(target) for target, _ in result.too_few_negatives)
    needed = ", ".join(str(count) for _, count in result.too_few_negatives)
    return (
        f"sensitivity at a specificity of {targets} cannot be given: the threshold takes at least {needed} {noun}, got "
        f"{result.threshold_negatives}"
    )


def difference(value: float, interval: Interval | None) -> str:
    """Return "+0.021 (-0.010 to +0.052)", or without the interval where there is none."""
    if interval is None:
        return signed(value)
    return f"{signed(value)} ({signed(interval.lower)} to {signed(interval.upper)})"


def text_table(rows: Sequence[Sequence[str]]) -> str:
    """Return rows of cells as lines whose columns stand below each other."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def flat(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Return nested values as (dotted name, text)."""
    rows: list[tuple[str, str]] = []
    for key, value in values.items():
        if isinstance(value, Mapping):
            rows += flat(value, f"{prefix}{key}.")
        else:
            text = ", ".join(str(part) for part in value) if isinstance(value, list) else str(value)
            rows.append((f"{prefix}{key}", text))
    return rows


def count_text(value: int) -> str:
    """Return 12,345 with a thin space between thousands, which no reader takes for a decimal mark."""
    return f"{value:,}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def duration(seconds: float | None) -> str:
    if seconds is None:
        return "not recorded"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def breakable(text: str) -> Markup:
    """Return a name, escaped, that a browser may break after "_", "." and "/"."""
    return Markup("<wbr>").join(re.findall(r".*?[_./]+(?=\w)|.+", text, re.DOTALL))


def p_text(value: float | None) -> str:
    if value is None:
        return NOT_DEFINED
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def signed(value: float) -> str:
    text = f"{value:+.3f}".replace("-", "\N{MINUS SIGN}")
    return "0.000" if text[1:] == "0.000" else text


def cosine(value: float) -> str:
    text = f"{value:.2f}".replace("-", "\N{MINUS SIGN}")
    return "0.00" if text[1:] == "0.00" else text
