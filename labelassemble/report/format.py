"""How the pages write numbers."""

from collections.abc import Mapping
from typing import Any

from labelassemble.evaluation.results import NOT_DEFINED


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
