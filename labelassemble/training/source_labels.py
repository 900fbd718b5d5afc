"""Which source labels which classes in training."""

from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from labelassemble.data import LabelOrigin, Table


class SourceLabels(NamedTuple):
    """What each source labels, for the networks that have a part a source.

    Attributes:
        classes: the classes that each source labels, by its name; sources that label none are left out.
        indices: int64 [N], the index of each row's source in `classes`, -1 = left out.
        targets: float32 [N, C], the targets that a row's source labels; others are NaN.
        foreign: number of known targets that became NaN in this way.
    """

    classes: dict[str, tuple[str, ...]]
    indices: NDArray[np.int64]
    targets: NDArray[np.float32]
    foreign: int


def labels_by_source(table: Table, targets: NDArray[np.float32], duplicates: pd.DataFrame) -> SourceLabels:
    """Return what each source labels.

    A source labels a class if at least one of its own images has a known target for it. An image that several sources
    have is one row, of the first of them, with the labels of all: it says nothing of what its source labels, unless
    the class is labelled on such images alone. What is left of the others' labels on it becomes NaN, since an image
    teaches only its own source's part.

    Args:
        table: the training images, N of them.
        targets: float32 [N, C], NaN = unknown.
        duplicates: the images that were merged into another, see `AssemblyReport`.
    """
    sources = table.sources
    merged = duplicates[duplicates["kept_source"] != duplicates["merged_source"]]
    others = set(zip(merged["kept_source"], merged["kept"], strict=True))
    shared = np.array([row in others for row in zip(sources, table.names, strict=True)], dtype=np.bool_)
    # What only follows from another class says nothing of what a source labels.
    excluded = table.origins == LabelOrigin.EXCLUSIVE
    known = ~np.isnan(targets) & ~excluded
    on_shared_alone = ~(known & ~shared[:, None]).any(axis=0)
    counted = known & (~shared[:, None] | on_shared_alone)
    labelled: dict[str, tuple[str, ...]] = {}
    indices = np.full(len(sources), -1, dtype=np.int64)
    kept = np.full_like(targets, np.nan)
    for source in dict.fromkeys(sources.tolist()):
        rows = sources == source
        columns = counted[rows].any(axis=0)
        if not columns.any():
            continue
        indices[rows] = len(labelled)
        labelled[source] = tuple(name for name, own in zip(table.classes, columns, strict=True) if own)
        kept[rows] = np.where(columns & ~excluded[rows], targets[rows], np.nan)
    foreign = int(known.sum() - (~np.isnan(kept)).sum())
    return SourceLabels(labelled, indices, kept, foreign)
