"""What a mask says of each voxel and class: present, absent, or nothing.

A voxel that a mask leaves at 0 is absent for the classes that its source draws, and unknown for all others. Targets are
made for a crop at a time; those of a whole volume are never kept.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from labelassemble.data.states import NEGATIVE


def voxel_targets(
    mask: NDArray[np.integer],
    values: Mapping[int, int],
    case_labels: NDArray[np.int8],
    classes: int,
    *,
    excluded: NDArray[np.bool_] | None = None,
) -> NDArray[np.float32]:
    """Return what the loss is given for each voxel, float32 [C, *s]: 1, 0, NaN = unknown.

    A class that is drawn, that is one in `values`, is 1 where one of its values stands and 0 elsewhere. One that is not
    drawn is 0 everywhere if the case's label is NEGATIVE. Otherwise it is NaN everywhere, also if the label is
    POSITIVE: nobody said where.

    Args:
        mask: integers >= 0, [*s]. Values that `values` lacks are not the classes that it has.
        values: column of the class that each value of the mask stands for; empty where nothing is drawn. As
            `Table.drawn` returns it.
        case_labels: `LabelState` codes of the whole case, int8 [C].
        classes: C.
        excluded: bool [C, C], symmetric: True where a voxel of the one class is none of the other. A voxel that is
            drawn as one class is then 0 for the others that nobody drew.
    """
    table = value_targets(int(mask.max(initial=0)), values, case_labels, classes, excluded=excluded)
    return np.take(table, mask, axis=1)


def value_targets(
    largest: int,
    values: Mapping[int, int],
    case_labels: NDArray[np.int8],
    classes: int,
    *,
    excluded: NDArray[np.bool_] | None = None,
) -> NDArray[np.float32]:
    """Return what each value 0 to `largest` of a mask says of each class, float32 [C, largest + 1].

    The arguments are those of `voxel_targets`.
    """
    table = np.full((classes, largest + 1), np.nan, dtype=np.float32)
    table[case_labels == NEGATIVE] = 0.0
    table[sorted(set(values.values()))] = 0.0
    for value, column in values.items():
        if not 0 < value <= largest:
            continue
        if excluded is not None:
            table[excluded[column], value] = 0.0
    for value, column in values.items():
        if 0 < value <= largest:
            table[column, value] = 1.0
    return table
