"""Answers kept part by part, so that processes share the work, and none of it is lost or done twice.

A folder of answers holds::

    _plan.json           which parts there are, and what answers them; whoever finds another plan stops
    part-00012.parquet   the answers of part 12, whole or not there, with a stamp of the files that they are of

Process r of n answers the parts r, r + n, r + 2n, ... that are not there yet. It needs to hear nothing from the others.
"""

import json
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from labelassemble._files import atomic_path, make_folder, write_text
from labelassemble.data.shards import Part
from labelassemble.errors import LabelAssembleError

PLAN_FILE: Final = "_plan.json"  # which readers of a folder of Parquet files leave out by its first letter
_DIGITS: Final = 5
_LONGEST_SHOWN: Final = 80  # characters of what a message says of both answers
_STAMP: Final = b"labelassemble:files"
_log = logging.getLogger(__name__)


class PartAnswers(NamedTuple):
    """What is answered of a part.

    Attributes:
        images: paths, N of them.
        probabilities: float64 [N, C]; NaN where an image cannot be read.
        errors: why, by row.
    """

    images: Sequence[str]
    probabilities: NDArray[np.float64]
    errors: Mapping[int, str]


class Plan(NamedTuple):
    """What is to be answered, where to, and by what.

    Attributes:
        folder: of the answers.
        parts: in order.
        classes: names of the columns.
        about: what answers, in words, by what is said; part of every file.
        kind: what stands before the names of classes in columns: "probability", or "score" of volumes.
    """

    folder: Path
    parts: Sequence[Part]
    classes: tuple[str, ...]
    about: Mapping[str, str]
    kind: str = "probability"

    def file(self, index: int) -> Path:
        """Return the file of a part."""
        return self.folder / f"part-{index:0{_DIGITS}}.parquet"

    def begin(self) -> None:
        """Make the folder and write the plan, or find the same one there.

        Raises:
            LabelAssembleError: the folder holds other answers or something else, or cannot be written.
        """
        path = self.folder / PLAN_FILE
        plan = {
            "format": 2,
            "about": dict(self.about),
            "classes": list(self.classes),
            "parts": [part.name for part in self.parts],
        }
        if path.exists():
            _check_same(path, plan)
            return
        make_folder(self.folder)
        if any(item for item in self.folder.iterdir() if not item.name.startswith(f".{PLAN_FILE}")):
            if path.exists():  # another process was quicker
                return _check_same(path, plan)
            raise LabelAssembleError(
                f"{self.folder} holds something else than answers: choose another --output"
            )
        write_text(path, json.dumps(plan, ensure_ascii=False, indent=1) + "\n")


def answer_parts(
    plan: Plan,
    answer: Callable[[Sequence[str]], PartAnswers],
    *,
    rank: int,
    count: int,
    wrote: Callable[[int, PartAnswers], None],
) -> list[str]:
    """Answer this process's parts that are not there yet.

    Args:
        plan: that has begun.
        answer: gives the answers for images.
        rank: which process this is, from 0 on.
        count: how many there are.
        wrote: called after each part.

    Returns:
        A sentence for each part whose file cannot be read; the others are answered.

    Raises:
        LabelAssembleError: an answer cannot be made or written.
    """
    failed = []
    for index in open_parts(plan, rank, count):
        try:
            found = answer_part(plan, index, answer)
        except UnreadablePart as error:
            failed.append(str(error))
            continue
        wrote(index, found)
    return failed


class UnreadablePart(LabelAssembleError):
    """Which images are in a part cannot be read."""


def answer_part(plan: Plan, index: int, answer: Callable[[Sequence[str]], PartAnswers]) -> PartAnswers:
    """Answer a part and write its file; return what is in it.

    Raises:
        UnreadablePart: its list or shard cannot be read.
        LabelAssembleError: an answer cannot be made or written.
    """
    part = plan.parts[index]
    try:
        images, stamp = part.read()  # their files are read later: one replaced meanwhile is seen next time
    except LabelAssembleError as error:
        raise UnreadablePart(str(error)) from None
    found = answer(images)
    write_part(plan, index, found, stamp)
    return found


def forget_errors(plan: Plan, *, rank: int, count: int) -> None:
    """Remove this process's parts in which an image could not be read, so that they are answered again."""
    for index in range(rank, len(plan.parts), count):
        path = plan.file(index)
        try:
            errors = pq.read_table(path, columns=["error"]).column(0)
        except (pa.ArrowException, OSError):  # not there; or damaged, which is said when it is read
            continue
        if errors.null_count < len(errors):
            path.unlink(missing_ok=True)


def read_answers(plan: Plan) -> Iterator[PartAnswers]:
    """Yield the answers of each part in order.

    Raises:
        LabelAssembleError: one is not there or damaged.
    """
    columns = [_column(plan, name) for name in plan.classes]
    for index in range(len(plan.parts)):
        path = plan.file(index)
        try:
            table = pq.read_table(path, columns=["path", *columns, "error"])
        except (pa.ArrowException, OSError) as error:
            reason = " ".join(str(error).split())
            raise LabelAssembleError(f"{path}: cannot be read as Parquet ({reason})") from None
        values = [table.column(name).to_numpy().astype(np.float64) for name in columns]
        told = table.column("error")
        bad = np.flatnonzero(told.is_valid().to_numpy()).tolist()
        errors = dict(zip(bad, told.drop_null().to_pylist(), strict=True))
        yield PartAnswers(table.column("path").to_pylist(), np.stack(values, axis=1), errors)


def open_parts(plan: Plan, rank: int = 0, count: int = 1) -> list[int]:
    """Return the parts of process `rank` of `count` to be answered, and remove what it left when it was killed.

    Those are the parts that are not there, and those whose images were changed since, whose answers are removed. Of
    each image of a part that is there, size and time of change are asked for.
    """
    names = os.listdir(plan.folder)
    there = set(names)
    left, changed = [], 0
    for index in range(rank, len(plan.parts), count):
        if plan.file(index).name not in there:
            left.append(index)
        elif not _is_up_to_date(plan, index):
            plan.file(index).unlink(missing_ok=True)
            left.append(index)
            changed += 1
    if changed:
        parts = "1 part" if changed == 1 else f"{changed} parts"
        _log.warning("%s: files of %s were changed since: answered again", plan.folder, parts)
    ours = {f".{plan.file(index).name}" for index in left}
    for name in names:
        if name.endswith(".part") and ".".join(name.split(".")[:3]) in ours:
            (plan.folder / name).unlink(missing_ok=True)
    return left


def _is_up_to_date(plan: Plan, index: int) -> bool:
    try:
        about = pq.read_schema(plan.file(index)).metadata or {}
        return about.get(_STAMP) == plan.parts[index].stamp().encode()
    except (pa.ArrowException, OSError, LabelAssembleError):
        return False  # damaged; or its list is, which is said when it is read


def write_part(plan: Plan, index: int, found: PartAnswers, stamp: str) -> None:
    """Write the answers of a part, whole or not at all; `stamp` is its own from before it was read.

    Raises:
        LabelAssembleError: the file cannot be written.
    """
    missing = np.isnan(found.probabilities)
    arrays: dict[str, pa.Array] = {"path": pa.array(found.images, pa.string())}
    for column, name in enumerate(plan.classes):
        arrays[_column(plan, name)] = pa.array(
            found.probabilities[:, column], pa.float64(), mask=missing[:, column]
        )
    errors = np.full(len(found.images), None, dtype=object)
    errors[list(found.errors)] = list(found.errors.values())
    arrays["error"] = pa.array(errors, pa.string())
    about = {f"labelassemble:{key}": value for key, value in plan.about.items()} | {_STAMP.decode(): stamp}
    table = pa.table(arrays).replace_schema_metadata(about)
    with atomic_path(plan.file(index), durable=True) as new:
        pq.write_table(table, new, compression="zstd")


def _column(plan: Plan, name: str) -> str:
    return f"{plan.kind}:{name}"


def _check_same(path: Path, plan: dict[str, object]) -> None:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise LabelAssembleError(f"{path}: cannot be read ({error})") from None
    if found == plan:
        return
    there = found.get("about", {}) if isinstance(found, dict) else {}
    about = plan["about"]
    assert isinstance(about, dict)
    other = [
        f"{key}: {there.get(key)} and now {value}"
        if max(len(str(value)), len(str(there.get(key)))) <= _LONGEST_SHOWN
        else f"another {key}"  # a calibration has a row for each class
        for key, value in about.items()
        if there.get(key) != value
    ]
    what = "; ".join(other) or "other images, or parts as another version writes them"
    raise LabelAssembleError(f"{path.parent} holds other answers ({what}): choose another --output")
