"""A log in use compared with the validation images: in words, and as a page."""

from datetime import UTC, datetime
from pathlib import Path

from labelassemble._files import make_folder, write_text
from labelassemble.evaluation.drift import ALPHA, MATTERS, Drift, Monitored, overall
from labelassemble.report import plots
from labelassemble.report.format import NOT_DEFINED, count_text, number, p_text, text_table
from labelassemble.report.render import page
from labelassemble.report.sections import Plot

_HEADER = ("quantity", "validation", "now", "PSI", "distance", "p (Holm)", "verdict")


def monitor_text(found: Monitored) -> str:
    """Return the verdict, the table and what is to be known about them."""
    rows = [
        (
            name_of(item),
            number(item.reference),
            number(item.now),
            NOT_DEFINED if item.psi is None else number(item.psi),
            NOT_DEFINED if item.distance is None else number(item.distance),
            p_text(item.p),
            item.verdict,
        )
        for item in found.found
    ]
    lines = [
        overall(found.found, found.noun),
        "",
        text_table([_HEADER, *rows]),
        "",
        *(f"- {text}" for text in remarks_of(found)),
    ]
    return "\n".join(lines)


def remarks_of(found: Monitored) -> tuple[str, ...]:
    """Return how the figures are to be read, a sentence each."""
    compared = len(next(iter(found.reference.scores.values())))
    return (
        f"{count_text(found.now.images)} {found.noun}s in the log against {count_text(compared)} of different patients "
        f"among {found.chosen_on}.",
        f"Drift: p below {ALPHA:g} after Holm's correction and PSI of {MATTERS:g} or more. Without any change, a "
        f"report cries drift in at most {100 * ALPHA:g} of 100 times if the log's {found.noun}s are independent; "
        f"several {found.noun}s of one patient raise that.",
        *found.remarks,
    )


def name_of(item: Drift) -> str:
    """Return what a quantity is called in a table."""
    return f"score of {item.name}" if item.kind == "score" else item.name


def write_monitor(found: Monitored, path: Path, *, run: str, log: str) -> None:
    """Write the page.

    Raises:
        LabelAssembleError: it cannot be written.
    """
    make_folder(path.parent)
    shown = sorted(
        (item for item in found.found if item.psi is not None), key=lambda item: -(item.psi or 0.0)
    )
    drawn = tuple(
        Plot(
            name_of(item),
            plots.shares(item.reference_shares, item.now_shares, f"shares of {name_of(item)}"),
            ((0, "validation", ""), (1, "now", "")),
            f"Tenths of the validation {found.noun}s, from low to high; PSI {number(item.psi)}: {item.verdict}.",
        )
        for item in shown[:12]
    )
    text = page(
        "monitor.html.j2",
        run=run,
        log=log,
        noun=found.noun,
        written=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        verdict=overall(found.found, found.noun),
        rows=[(name_of(item), item) for item in found.found],
        remarks=remarks_of(found),
        plots=drawn,
    )
    write_text(path, text)
