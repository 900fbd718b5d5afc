"""Images that have a mask in several rows: what each of the masks shows is kept, and what contradicts is refused."""

from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from labelassemble.data.duplicates import Duplicates
from labelassemble.data.mask_files import read_mask
from labelassemble.data.states import NEGATIVE, POSITIVE, UNCERTAIN, UNKNOWN, LabelOrigin
from labelassemble.data.table import Table
from labelassemble.data.text import text_array
from labelassemble.errors import LabelAssembleError


class SeveralMasks(NamedTuple):
    """A table in which every class of an image is drawn by one mask.

    Attributes:
        table: all rows; what another mask of the image draws first is unknown in those that come later.
        found: which rows become one: those of an image, but a row whose mask draws more than the ones before it.
        pairs: such a row and the one that stands for its image, int64 [P, 2]: on one side of a split.
        notes: a sentence for whoever assembles the table.
    """

    table: Table
    found: Duplicates
    pairs: NDArray[np.int64]
    notes: tuple[str, ...]


def keep_several_masks(table: Table, found: Duplicates) -> SeveralMasks:
    """Return the rows of images that have several masks as cases of their own, each with the classes that it draws.

    A class that several masks of an image draw must be drawn alike, and then counts once, in the first of them. What
    other rows of the image say of it counts as it does without other masks: a case is uncertain for a class that
    somebody saw and the mask does not show.

    Args:
        table: all rows of all sources, [N].
        found: which of them show the same image.

    Raises:
        LabelAssembleError: two masks of an image draw a class in other voxels; with both files and the class.
    """
    drawn = np.flatnonzero(table.masks != "")
    of_image = pd.Series(found.image[drawn])
    several = drawn[of_image.duplicated(keep=False).to_numpy()]
    nothing = np.empty((0, 2), dtype=np.int64)
    if not len(several):
        return SeveralMasks(table, found, nothing, ())
    image, labels, origins = found.image.copy(), table.labels.copy(), table.origins.copy()
    paths = table.paths.astype(object)
    pairs: list[tuple[int, int]] = []
    for rows in pd.Series(several).groupby(found.image[several], sort=False):
        first, *others = rows[1].tolist()
        owner = dict.fromkeys(table.drawn(first).values(), first)
        for row in others:
            values = table.drawn(row)
            for column in sorted(set(values.values()) & set(owner)):
                _check_alike(table, owner[column], row, column)
            new = sorted(set(values.values()) - set(owner))
            if new:
                owner.update(dict.fromkeys(new, row))
                image[row] = image.max() + 1
                paths[row] = paths[first]  # as which its patient's other rows are known to be of one image
                pairs.append((row, first))
        cases = {first, *owner.values()}
        for row in np.flatnonzero(found.image == found.image[first]).tolist() if len(cases) > 1 else ():
            for column, whose in owner.items():
                if row == whose or (row not in cases and whose == first):
                    continue  # the latter is merged with the first, as without other masks
                if labels[row, column] == POSITIVE and labels[whose, column] == NEGATIVE:
                    labels[whose, column] = UNCERTAIN  # somebody saw it where the mask shows none
                labels[row, column], origins[row, column] = UNKNOWN, LabelOrigin.GIVEN
    if not pairs:
        return SeveralMasks(table, found, nothing, ())
    row, first = pairs[0]
    note = (
        f"{len(pairs)} images have masks in several rows, which draw other classes: each stays a case of its own, with "
        f"the classes that its mask draws, in one split with the others (the first are {table.masks[first]} and "
        f"{table.masks[row]})"
    )
    table = replace(table, labels=labels, origins=origins, paths=text_array(paths))
    return SeveralMasks(table, replace(found, image=image), np.array(pairs, dtype=np.int64), (note,))


def _check_alike(table: Table, first: int, second: int, column: int) -> None:
    """Raise unless the masks of two rows of one image draw a class in the same voxels."""
    one, other = str(table.masks[first]), str(table.masks[second])
    ours, theirs = _values(table.drawn(first), column), _values(table.drawn(second), column)
    if one == other and ours == theirs:
        return
    here, there = (np.isin(read_mask(path).values, of) for path, of in ((one, ours), (other, theirs)))
    if here.shape == there.shape and not (apart := int(np.count_nonzero(here != there))):
        return
    how = f"{apart} voxels are of it in one alone" if here.shape == there.shape else "their shapes differ"
    sources = list(dict.fromkeys([str(table.sources[first]), str(table.sources[second])]))
    hide = (
        f"say `hide: ['{table.classes[column]}']` in the source '{sources[0]}' or '{sources[1]}', or leave one out"
        if len(sources) > 1
        else f"leave one of them out of the source '{sources[0]}'"
    )
    raise LabelAssembleError(
        f"{other}: draws '{table.classes[column]}' in other voxels than {one} ({how}), and both are masks of "
        f"{table.paths[first]}: {hide}"
    )


def _values(drawn: Mapping[int, int], column: int) -> list[int]:
    return sorted(value for value, of in drawn.items() if of == column)
