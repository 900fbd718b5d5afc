"""Images that could not be read: counted, named, and kept in a file."""

import csv
import io
from collections import Counter
from pathlib import Path
from typing import Final

from labelassemble._files import write_text
from labelassemble.evaluation.results import Evaluation, Unreadable
from labelassemble.report.format import plural

UNREADABLE_FILE: Final = "unreadable.csv"
NAMED: Final = 5
"""Images that are named; the file names all."""


def unreadable_sentence(evaluation: Evaluation, *, read: int | None = None, noun: str = "image") -> str:
    """Return how many images of the split could not be read, by source, and which; "" where all could.

    Args:
        evaluation: of the split.
        read: how many could be read; default: the images of the evaluation.
        noun: what they are.
    """
    lost, elsewhere = evaluation.unreadable, evaluation.unreadable_elsewhere
    others = f"{plural(elsewhere, f'validation {noun}')} could not be read, see {UNREADABLE_FILE}."
    if not lost:
        return others if elsewhere else ""
    every = (evaluation.images if read is None else read) + len(lost)
    by_source = Counter(image.source for image in lost)
    where = "" if len(by_source) == 1 else " (" + ", ".join(f"{n} of {s}" for s, n in by_source.items()) + ")"
    named = "; ".join(f"{image.path} ({image.reason})" for image in lost[:NAMED])
    more = f"; and {len(lost) - NAMED} more, which {UNREADABLE_FILE} names" if len(lost) > NAMED else ""
    return (
        f"{len(lost)} of {plural(every, f'{evaluation.split} {noun}')}{where} could not be read, so no figure counts "
        f"{'it' if len(lost) == 1 else 'them'}: {named}{more}." + (f" {others}" if elsewhere else "")
    )


def write_unreadable(images: tuple[Unreadable, ...], folder: Path) -> None:
    """Write unreadable.csv, one row per image that could not be read, or take away an older one where all could.

    Raises:
        LabelAssembleError: the file cannot be written.
    """
    path = folder / UNREADABLE_FILE
    if not images:
        path.unlink(missing_ok=True)
        return
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(("path", "split", "source", "reason"))
    writer.writerows((image.path, image.split, image.source, image.reason) for image in images)
    write_text(path, buffer.getvalue())
