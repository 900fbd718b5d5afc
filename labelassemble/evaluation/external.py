"""Other data for a trained run: classes aligned by name, and what the run was trained on taken out."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from labelassemble.data.coinciding import patients_by_register, shared_ids
from labelassemble.data.decoding import plain_paths
from labelassemble.data.duplicates import DuplicateSearch, find_duplicates, joined_groups
from labelassemble.data.fingerprints import Progress
from labelassemble.data.identifiers import plain_ids
from labelassemble.data.table import WITH_ARTICLE, Table
from labelassemble.data.text import TextArray, constant_text, text_array
from labelassemble.errors import LabelAssembleError

Part = Literal["all", "train", "val", "test"]
"""Which of the other data's images are evaluated; all of them, or one of its own splits."""


@dataclass(frozen=True)
class External:
    """Other data than the run's own, ready to be evaluated.

    Attributes:
        name: what it is called, in the report's title and as a folder's name.
        folder: gets predictions.csv, table.csv and report.html.
        table: images of the classes that it shares with the run, in the run's order, every split "test" by default.
        remarks: what was done to it, one sentence each.
    """

    name: str
    folder: Path
    table: Table
    remarks: tuple[str, ...]


def prepare_external(
    table: Table,
    trained_on: Table,
    *,
    classes: Sequence[str],
    name: str,
    folder: Path,
    part: Part = "all",
    keep_splits: bool = False,
    duplicates: DuplicateSearch = "content",
    workers: int = 1,
    progress: Progress | None = None,
) -> External:
    """Return other data as a run can be evaluated on it.

    An image that the run was trained or tuned on (its training and validation split) by path, by the content of its
    file, by its patient or (on request) by its looks would flatter the result: it is left out, and a remark names it.
    The run's own test images are no leak.

    Args:
        table: what the other configuration assembles to.
        trained_on: the run's table.
        classes: of the run, in its order.
        name: of the evaluation.
        folder: where it is to go.
        part: which images.
        keep_splits: leave the data's own splits, instead of calling all of it "test".
        duplicates: "looks" finds changed copies too: it decodes all images of both. Files are compared in any case.
        workers: threads that read files.
        progress: called while files are read.

    Raises:
        LabelAssembleError: no class in common, no image in that split, or none that the run was not trained on.
    """
    shared, remarks = _shared_classes(table.classes, classes)
    rows = table.select_classes(shared)
    if part != "all":
        rows = rows.subset_by_split(part)
    if not len(rows):
        raise LabelAssembleError(
            f"the data has no {rows.noun}" + ("" if part == "all" else f" in its split '{part}'")
        )
    leaks = _leaks(rows, trained_on, duplicates, workers, progress)
    found = leaks.any(axis=1)
    if found.all():
        raise LabelAssembleError(
            f"the run was trained or tuned on every {rows.noun} of the data, such as {rows.paths[0]}: "
            "nothing is left to test"
        )
    if found.any():
        remarks.append(_leak_sentence(rows, leaks))
    kept = rows.select(~found)
    remarks += _coincidences(kept, trained_on)
    if not keep_splits:
        kept = replace(kept, splits=constant_text("test", len(kept)))
    return External(name=name, folder=folder, table=kept, remarks=tuple(remarks))


def _shared_classes(labelled: Sequence[str], known: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the classes of the run that the data labels, and a remark on each kind of class that is left out."""
    shared = [name for name in known if name in labelled]
    if not shared:
        raise LabelAssembleError(
            f"the data and the run have no class in common: the data labels {_few(labelled)}, "
            f"the run knows {_few(known)}"
        )
    foreign = [name for name in labelled if name not in shared]
    missing = [name for name in known if name not in shared]
    told = (
        ("The run does not know these classes of the data", foreign),
        ("The data does not label these classes of the run", missing),
    )
    return shared, [f"{why}, so they are left out: {_few(names)}." for why, names in told if names]


def _leaks(
    rows: Table, run: Table, duplicates: DuplicateSearch, workers: int, progress: Progress | None
) -> NDArray[np.bool_]:
    """Return which images [N, 4] the run was trained or tuned on: by path, by content, by looks, by patient."""
    learnt = run.select(run.splits != "test")
    ours, theirs = (
        text_array([str(Path(path).resolve()) if "::" not in path else path for path in paths])
        for paths in (plain_paths(rows.paths), plain_paths(learnt.paths))
    )
    by_path = ours.isin(theirs)
    search: DuplicateSearch = "looks" if duplicates == "looks" else "content"
    found = find_duplicates(text_array([*ours, *theirs]), search, workers=workers, progress=progress)
    by_content = np.isin(found.image[: len(ours)], found.image[len(ours) :]) & ~by_path
    alike = joined_groups(text_array([str(row) for row in range(len(found.image))]), found.image, found.alike)
    by_looks = alike[: len(ours)].isin(alike[len(ours) :]) & ~by_path & ~by_content
    by_patient = _same_patient(rows.groups, learnt.groups) & ~by_path & ~by_content & ~by_looks
    return np.stack([by_path, by_content, by_looks, by_patient], axis=1)


def _same_patient(ours: TextArray, theirs: TextArray) -> NDArray[np.bool_]:
    """Return which of our groups, [N], are among theirs; a table of an earlier version may write their numbers else."""
    same = ours.isin(theirs[theirs != ""].tolist())
    plain, others = plain_ids(ours), plain_ids(theirs)
    if plain.alike or others.alike:  # one of them tells 007 from 7
        return same
    return same | plain.values.isin(others.values[others.values != ""].tolist())


def _coincidences(rows: Table, run: Table) -> list[str]:
    """Return a sentence for each two registers, of the data and of the run, whose patient ids coincide."""
    learnt = patients_by_register(run.groups[run.splits != "test"])
    sentences = []
    for mine, ours in patients_by_register(rows.groups).items():
        for other, theirs in learnt.items():
            found = shared_ids(ours, theirs) if mine != other else None
            if found is None:
                continue
            taken = "They were taken as other patients. " if found.by_chance else ""
            sentences.append(
                f"{found.sentence(mine, other)}; the run was trained or tuned on '{other}'. {taken}If they are the "
                f"same patients, the result is flattered: say `patients: {other}` in the source of the data, and they "
                "are left out."
            )
    return sentences


def _leak_sentence(rows: Table, leaks: NDArray[np.bool_]) -> str:
    found = leaks.any(axis=1)
    ways = (
        "the same file",
        "a file of the same content",
        f"{WITH_ARTICLE[rows.noun]} that looks the same",
        f"{WITH_ARTICLE[rows.noun]} of the same patient",
    )
    how = [f"{int(count)} by {way}" for way, count in zip(ways, leaks.sum(axis=0), strict=True) if count]
    count = int(found.sum())
    return (
        f"The run was trained or tuned on {count} of the {len(rows)} {rows.noun}s ({', '.join(how)}), so "
        f"{'it is' if count == 1 else 'they are'} left out: {_few(rows.paths[found].tolist(), 3)}."
    )


def _few(names: Sequence[str], most: int = 8) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
