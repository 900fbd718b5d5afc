"""Who labels what: training images dealt to the parts of an experiment, the same for every arm of a seed."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from labelassemble.errors import LabelAssembleError
from labelassemble.experiments.settings import Part
from labelassemble.experiments.stack import Stack


@dataclass(frozen=True)
class Dealt:
    """Training images of one job.

    Attributes:
        rows: rows of the stack, int64 [N].
        targets: float32 [N, C] over all classes of the stack, NaN = unknown.
        truth: likewise, with nothing hidden.
        parts: name of the part of each, text [N].
    """

    rows: NDArray[np.int64]
    targets: NDArray[np.float32]
    truth: NDArray[np.float32]
    parts: NDArray[np.str_]


def deal(
    stack: Stack,
    parts: Sequence[Part],
    *,
    chosen: Sequence[str] | None,
    interest: str | None,
    other: str | None,
    size: int | str,
    seed: int,
) -> Dealt:
    """Return the images of the chosen parts, with the labels that each part gives.

    A seed shuffles the training images; parts take theirs one after the other, those of a fixed number first, so that
    they stay the same for every size, and a greater size keeps all the images of a lesser one. No image is in two
    parts. Which parts are `chosen` changes nothing for the others.

    Args:
        stack: the images.
        parts: all the parts of the experiment.
        chosen: names of those to train on; None for all.
        interest: the class of interest; None where no part speaks of it.
        other: the class that is assembled, if there is one.
        size: the training size: a number, or "all".
        seed: of the dealing.

    Raises:
        LabelAssembleError: more images, or more positives, than there are, or a part of sources that are not there.
    """
    order = np.random.default_rng([seed, 1]).permutation(stack.rows("train"))
    shows = np.zeros(len(order), dtype=np.bool_)
    if interest is not None:
        shows = stack.targets[order, stack.classes.index(interest)] == 1
    free = np.ones(len(order), dtype=np.bool_)
    taken: dict[str, NDArray[np.int64]] = {}
    for part in sorted(parts, key=_varies):
        places = _take(part, free & _may_take(part, stack, order, interest), shows, size)
        free[places] = False
        taken[part.name] = order[places]
    rows, targets, names = [], [], []
    for part in parts:
        if chosen is not None and part.name not in chosen:
            continue
        mine = stack.given[taken[part.name]].copy()
        labelled = labelled_classes(part, stack.classes, interest, other)
        mine[:, [name not in labelled for name in stack.classes]] = np.nan
        rows.append(taken[part.name])
        targets.append(mine)
        names.append(np.full(len(mine), part.name))
    joined = np.concatenate(rows)
    return Dealt(joined, np.concatenate(targets), stack.targets[joined], np.concatenate(names))


def labelled_classes(
    part: Part, classes: Sequence[str], interest: str | None, other: str | None
) -> tuple[str, ...]:
    """Return the classes that a part labels."""
    if part.labels == "interest":
        return () if interest is None else (interest,)
    if part.labels == "others":
        return tuple(name for name in classes if name != interest)
    if part.labels == "all":
        return tuple(classes)
    if part.labels == "other":
        return () if other is None else (other,)
    return part.labels


def _may_take(part: Part, stack: Stack, order: NDArray[np.int64], interest: str | None) -> NDArray[np.bool_]:
    """Return which of the images are of the part's sources and, where positives are counted, labelled, bool [N]."""
    may = np.ones(len(order), dtype=np.bool_)
    if part.sources is not None:
        there = [] if stack.sources is None else [str(name) for name in np.unique(stack.sources)]
        if stack.sources is None or not set(part.sources) & set(there):
            raise LabelAssembleError(
                f"part '{part.name}' takes images of {', '.join(part.sources)}, "
                f"but the sources of the dataset are {', '.join(there) or 'not known'}"
            )
        may &= np.isin(stack.sources[order], part.sources)
    if part.positives is not None and interest is not None:
        may &= ~np.isnan(stack.given[order, stack.classes.index(interest)])
    return may


def _varies(part: Part) -> int:
    if part.images == "all":
        return 2
    return int("size" in (part.images, part.positives))


def _take(
    part: Part, free: NDArray[np.bool_], shows: NDArray[np.bool_], size: int | str
) -> NDArray[np.int64]:
    number = size if part.images == "size" else part.images
    left = np.flatnonzero(free)
    if number == "all":
        return left
    if isinstance(number, float):
        number = round(number * len(free))
    count = int(number) * (part.times if part.images == "size" else 1)
    if count > len(left):
        raise LabelAssembleError(
            f"part '{part.name}' takes {count} training images, but {len(left)} are left"
        )
    if part.positives is None:
        return left[:count]
    positives = int(size if part.positives == "size" else part.positives)
    with_it, without = left[shows[left]], left[~shows[left]]
    if positives > min(count, len(with_it)) or count - positives > len(without):
        raise LabelAssembleError(
            f"part '{part.name}' takes {positives} positives among {count} images, "
            f"but {len(with_it)} positives and {len(without)} others are left"
        )
    return np.concatenate([with_it[:positives], without[: count - positives]])
