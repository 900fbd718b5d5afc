"""The table of a reader, before anything is assumed or divided."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from labelassemble.data.absence import Absence, unnamed
from labelassemble.data.table import Table
from labelassemble.data.text import TextArray, constant_text, text_array


def new_table(
    classes: Sequence[str],
    *,
    paths: Sequence[str] | TextArray,
    names: Sequence[str] | TextArray,
    labels: NDArray[np.int8],
    sources: str | TextArray,
    groups: Sequence[str] | TextArray | None = None,
    splits: Sequence[str] | TextArray | None = None,
    subgroups: Mapping[str, TextArray] | None = None,
    masks: Sequence[str] | TextArray | None = None,
    mask_values: Mapping[str, Mapping[int, str]] | None = None,
    notes: Sequence[str] = (),
    files: Sequence[str | Path] = (),
    absence: Absence | None = None,
    listed: bool = False,
) -> Table:
    """Return a reader's table: nothing assumed, groups and splits left open ("") unless given.

    Args:
        classes: Names of the C classes.
        paths: Where each image lies, [N].
        names: What the publisher calls each image, [N].
        labels: `LabelState` codes, int8 [N, C].
        sources: The source of all rows, or of each, [N].
        groups: The patient of each image, [N].
        splits: The published split of each image, [N]; see `OPEN_SPLITS`.
        subgroups: Columns of sex, age, view and the like, text [N] each.
        masks: The mask of each image, [N]; "" = nothing is drawn.
        mask_values: The class of each value of a source's masks, by source.
        notes: What whoever assembles the table is to be told, a sentence each.
        files: The tables and lists that were read.
        absence: Which negative labels nobody wrote.
        listed: Whether labels come from lists, so that each negative one only says that the class is not named.
    """
    blank = constant_text("", len(paths))
    return Table(
        classes=tuple(classes),
        paths=text_array(paths),
        names=text_array(names),
        groups=blank if groups is None else text_array(groups),
        splits=blank if splits is None else text_array(splits),
        sources=constant_text(sources, len(paths)) if isinstance(sources, str) else sources,
        labels=labels,
        origins=np.zeros(labels.shape, dtype=np.uint8),
        subgroups=subgroups or {},
        masks=blank if masks is None else text_array(masks),
        mask_values=mask_values or {},
        notes=tuple(notes),
        files=tuple(os.path.abspath(file) for file in files),
        absence=unnamed(labels) if listed else absence,
    )
