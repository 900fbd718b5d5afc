"""Who labels what: training images split among the parts of an experiment, the same for every arm of a seed."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from labelassemble.data import Table
from labelassemble.data.states import POSITIVE, UNKNOWN
from labelassemble.errors import LabelAssembleError
from labelassemble.experiments.dataset import Dataset
from labelassemble.experiments.experiment import Part


@dataclass(frozen=True)
class LabelSplit:
    """Training images of one job.

    Attributes:
        table: the images, with everything that is known of them.
        labels: what their parts label, int8 [N, C], -1 = unknown.
        parts: name of the part of each, text [N].
    """

    table: Table
    labels: NDArray[np.int8]
    parts: NDArray[np.str_]


def split_labels(
    dataset: Dataset,
    parts: Sequence[Part],
    *,
    chosen: Sequence[str] | None,
    interest: str | None,
    other: str | None,
    size: int | str,
    seed: int,
) -> LabelSplit:
    """Return the images of the chosen parts, with the labels that each part gives.

    A seed shuffles the training images; parts take theirs one after the other, those of a fixed number first, so that
    they stay the same for every size, and a greater size keeps all the images of a lesser one. No image is in two
    parts. Which parts are `chosen` changes nothing for the others.

    Args:
        dataset: the images.
        parts: all the parts of the experiment.
        chosen: names of those to train on; None for all.
        interest: the class of interest; None where no part speaks of it.
        other: the class that is assembled, if there is one.
        size: the training size: a number, or "all".
        seed: of the shuffling.

    Raises:
        LabelAssembleError: more images, or more positives, than there are, or a part of sources that are not there.
    """
    table, given = dataset.table, dataset.given
    order = np.random.default_rng([seed, 1]).permutation(dataset.rows("train"))
    shows = np.zeros(len(order), dtype=np.bool_)
    if interest is not None:
        shows = table.labels[order, table.column(interest)] == POSITIVE
    free = np.ones(len(order), dtype=np.bool_)
    taken: dict[str, NDArray[np.int64]] = {}
    for part in sorted(parts, key=varies):
        found = _take(part, free & _eligible(part, dataset, order, interest), shows, size)
        free[found] = False
        taken[part.name] = order[found]
    labels, names = [], []
    mine = [part for part in parts if chosen is None or part.name in chosen]
    for part in mine:
        labelled = labelled_classes(part, table.classes, interest, other)
        hidden = [name not in labelled for name in table.classes]
        labels.append(np.where(hidden, np.int8(UNKNOWN), given[taken[part.name]]))
        names.append(np.full(len(taken[part.name]), part.name))
    rows = np.concatenate([taken[part.name] for part in mine])
    return LabelSplit(table.select(rows), np.concatenate(labels), np.concatenate(names))


def labelled_classes(
    part: Part, classes: Sequence[str], interest: str | None, other: str | None
) -> tuple[str, ...]:
    """Return the classes that a part labels."""
    others = tuple(name for name in classes if name != interest)
    meant = {
        "interest": () if interest is None else (interest,),
        "others": others,
        "others-a": others[::2],
        "others-b": others[1::2],
        "all": tuple(classes),
        "other": () if other is None else (other,),
    }
    return meant[part.labels] if isinstance(part.labels, str) else part.labels


def _eligible(
    part: Part, dataset: Dataset, order: NDArray[np.int64], interest: str | None
) -> NDArray[np.bool_]:
    """Return which of the images are of the part's sources and, where positives are counted, labelled, bool [N]."""
    table = dataset.table
    may = np.ones(len(order), dtype=np.bool_)
    if part.sources is not None:
        there = np.unique(table.sources).tolist()
        if not set(part.sources) & set(there):
            raise LabelAssembleError(
                f"part '{part.name}' takes images of {', '.join(part.sources)}, "
                f"but the sources of the dataset are {', '.join(there)}"
            )
        may &= np.isin(table.sources[order], part.sources)
    if part.positives is not None and interest is not None:
        may &= dataset.given[order, table.column(interest)] != UNKNOWN
    return may


def varies(part: Part) -> int:
    """Return the place of a part among those that are served: 0 of a fixed number, 1 by size, 2 what is left."""
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
