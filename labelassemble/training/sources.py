"""Which source labels which classes in training, and batches that carry each image's source."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from labelassemble.data import LabelOrigin, Table
from labelassemble.views.bad_files import BadFiles
from labelassemble.views.batch import Batch, Views


class SourceLabels(NamedTuple):
    """What each source labels, for the networks that have a part a source.

    Attributes:
        classes: the classes that each source labels, by its name; sources that label none are left out.
        places: int64 [N], the place of each row's source in `classes`, -1 = left out.
        targets: float32 [N, C], the targets that a row's source labels; others are NaN.
        foreign: number of known targets that became NaN in this way.
    """

    classes: dict[str, tuple[str, ...]]
    places: NDArray[np.int64]
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
    places = np.full(len(sources), -1, dtype=np.int64)
    kept = np.full_like(targets, np.nan)
    for source in dict.fromkeys(sources.tolist()):
        rows = sources == source
        columns = counted[rows].any(axis=0)
        if not columns.any():
            continue
        places[rows] = len(labelled)
        labelled[source] = tuple(name for name, own in zip(table.classes, columns, strict=True) if own)
        kept[rows] = np.where(columns & ~excluded[rows], targets[rows], np.nan)
    foreign = int(known.sum() - (~np.isnan(kept)).sum())
    return SourceLabels(labelled, places, kept, foreign)


class ViewsWithSources:
    """Views whose batches carry each image's source.

    Args:
        views: the batches.
        places: int64 [N], the source of each row.

    Attributes:
        steps: steps in an epoch.
        bad_files: the files that could not be read so far.
    """

    def __init__(self, views: Views, places: NDArray[np.int64]) -> None:
        self._views = views
        self._places = torch.from_numpy(places)
        self.steps: int = views.steps
        self.bad_files: BadFiles = views.bad_files

    def epoch(self, epoch: int, *, strong: bool, first_step: int = 0) -> Iterator[Batch]:
        """Yield the batches of an epoch from `first_step` on, see `Views`."""
        for batch in self._views.epoch(epoch, strong=strong, first_step=first_step):
            yield batch._replace(sources=self._places[batch.rows])
