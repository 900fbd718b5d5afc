"""What masks say of their whole cases: which classes each shows, and how many voxels of them."""

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from labelassemble.data.duplicates import Merged
from labelassemble.data.mask_files import check_mask, mask_summary
from labelassemble.data.states import NEGATIVE, POSITIVE, LabelOrigin
from labelassemble.data.table import WARNING, Table


def mask_labels(
    paths: Sequence[str],
    masks: Sequence[str],
    named: Mapping[int, str],
    classes: Sequence[str],
    labels: NDArray[np.int8],
) -> tuple[NDArray[np.int8], tuple[str, ...]]:
    """Return labels in which what masks show counts, int8 [N, C], and what a source's table says against it.

    A drawn class is POSITIVE in a case whose mask shows it, NEGATIVE in one whose mask does not. Each mask is read, in
    several threads, and checked against its image.

    Args:
        paths: the images, [N].
        masks: their masks, [N]; "" = nothing drawn: the labels stay.
        named: what each value of a mask stands for.
        classes: names of the C columns.
        labels: what the source's table says of each case, int8 [N, C].

    Raises:
        ImageError: As `check_mask`, for the first case that is wrong.
    """
    rows = [row for row, mask in enumerate(masks) if mask]
    if not rows:
        return labels, ()
    shown = np.zeros((len(rows), len(classes)), dtype=np.bool_)
    drawn = np.isin(np.array(classes), list(named.values()))
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        try:
            found = pool.map(lambda row: check_mask(masks[row], paths[row], named), rows)
            for index, summary in enumerate(found):
                for value in summary.counts:
                    shown[index, classes.index(named[value])] = True
        except BaseException:  # do not read what waits
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    result = labels.copy()
    states = np.where(shown, np.int8(POSITIVE), np.int8(NEGATIVE))
    before = labels[rows]
    result[rows] = np.where(drawn, states, before)
    return result, tuple(_against(paths, rows, before, shown, drawn, classes))


def _against(
    paths: Sequence[str],
    rows: Sequence[int],
    said: NDArray[np.int8],
    shown: NDArray[np.bool_],
    drawn: NDArray[np.bool_],
    classes: Sequence[str],
) -> list[str]:
    """Return where the table of a source says other than its masks, a sentence a class."""
    notes = []
    for column in np.flatnonzero(drawn).tolist():
        name = classes[column]
        more = np.flatnonzero((said[:, column] == NEGATIVE) & shown[:, column])
        less = np.flatnonzero((said[:, column] == POSITIVE) & ~shown[:, column])
        for which, what, kind in (
            (more, f"negative for '{name}' by the table though their masks show it", WARNING),
            (less, f"positive for '{name}' by the table though their masks do not show it", ""),
        ):
            if len(which):
                first = paths[rows[which[0]]]
                notes.append(f"{kind}{len(which)} cases are {what}: the mask counts (the first is {first})")
    return notes


def drawn_beats_said(table: Table, merged: Merged, standing: NDArray[np.int64]) -> Merged:
    """Return the labels of images in which a class that is drawn is POSITIVE, whatever another row of the image says.

    Where another row says that a case has what the mask does not show, nobody knows, and it stays UNCERTAIN.

    Args:
        table: N rows, several of the same image.
        merged: One row of labels per image, [M, C].
        standing: The row whose mask stands for each image, [M].
    """
    labels, origins = merged.labels.copy(), merged.origins.copy()
    with_mask = np.flatnonzero(table.masks[standing] != "")
    sources = table.sources[standing[with_mask]]
    for source, values in table.mask_values.items():
        images = with_mask[sources == source]
        for column in sorted(
            {table.classes.index(name) for name in values.values() if name in table.classes}
        ):
            own = table.labels[standing[images], column] == POSITIVE
            own &= table.origins[standing[images], column] == LabelOrigin.GIVEN
            labels[images[own], column] = POSITIVE
            origins[images[own], column] = LabelOrigin.GIVEN
    return replace(merged, labels=labels, origins=origins)


def mask_counts(table: Table) -> pd.DataFrame:
    """Return what the masks of a table show: a row per source and class that it draws.

    Columns: source, class, drawn (cases whose mask counts for the class), shown (those that have it), voxels (of the
    class), smallest (fewest voxels of it in a case that has it), largest. A class whose labels were hidden is not
    drawn.
    """
    columns = ["source", "class", "drawn", "shown", "voxels", "smallest", "largest"]
    found: dict[tuple[str, str], list[int]] = {}
    for row in np.flatnonzero(table.masks != "").tolist():
        source, values = str(table.sources[row]), table.drawn(row)
        counts = mask_summary(table.masks[row]).counts if values else {}
        voxels = dict.fromkeys(values.values(), 0)
        for value, column in values.items():
            voxels[column] += counts.get(value, 0)
        for column, count in voxels.items():
            found.setdefault((source, table.classes[column]), []).append(count)
    rows = []
    for (source, name), cases in found.items():
        positive = [count for count in cases if count]
        rows.append(
            (
                source,
                name,
                len(cases),
                len(positive),
                sum(cases),
                min(positive, default=0),
                max(positive, default=0),
            )
        )
    return pd.DataFrame(rows, columns=columns)
