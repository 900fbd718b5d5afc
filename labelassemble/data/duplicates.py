"""The same image twice: found by path, content or looks, and made one row by a stated rule."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from labelassemble.data.decoding import plain_paths
from labelassemble.data.fingerprints import Progress, content_fingerprints, near_pairs, picture_hashes
from labelassemble.data.states import NEGATIVE, POSITIVE, UNCERTAIN, UNKNOWN
from labelassemble.data.text import TextArray, first_rows, text_codes, text_numbers

DuplicateSearch: TypeAlias = Literal["path", "content", "looks"]
"""How the same image is recognised: by its path; also by the content of its file; also by its looks."""


@dataclass(frozen=True)
class Duplicates:
    """Which rows show the same image.

    Attributes:
        image: Number of the image that each row shows, int64 [N]; rows with the same number become one.
        alike: Pairs of rows that look alike though their files differ, int64 [P, 2]: kept apart, but on one side of a
            split.
        unread: Rows whose file could not be read, int64 [U].
    """

    image: NDArray[np.int64]
    alike: NDArray[np.int64]
    unread: NDArray[np.int64]


def find_duplicates(
    paths: TextArray, search: DuplicateSearch, *, workers: int = 1, progress: Progress | None = None
) -> Duplicates:
    """Return which of the images at `paths`, text [N], are the same.

    "path" reads no file. "content" reads those that have the size of another one. "looks" decodes all of them and
    compares 256-bit difference hashes; images at a distance of 8 bits or less are alike.

    Args:
        paths: Files or references to members of containers.
        search: How hard to look.
        workers: Threads that read.
        progress: Called with (images done, images in all).
    """
    image = text_numbers(plain_paths(paths))
    nothing = np.empty(0, dtype=np.int64)
    pairs = nothing.reshape(0, 2)
    unread = nothing
    if search != "path":
        first = first_rows(image, int(image.max(initial=-1)) + 1)  # each path once
        content, failed = content_fingerprints(paths[first], workers, progress)
        image = content[image]
        unread = first[failed]
        if search == "looks":
            _, first = np.unique(image, return_index=True)
            readable = first[~np.isin(first, unread)]
            hashes, failed = picture_hashes(paths[readable], workers, progress)
            unread = np.union1d(unread, readable[failed])
            pairs = readable[~failed][near_pairs(hashes[~failed])]
    return Duplicates(image, pairs, unread)


def image_codes(image: NDArray[np.int64]) -> tuple[NDArray[np.int64], int]:
    """Return the images of the rows, [N], renumbered in order of first appearance, and how many there are."""
    if np.array_equal(image, np.arange(len(image))):  # the usual case, no image twice
        return image, len(image)
    code, distinct = pd.factorize(image)
    return code, len(distinct)


@dataclass(frozen=True)
class Merged:
    """Labels after each set of duplicates has become one row.

    Attributes:
        keep: The row that stands for each image: its first, int64 [M], ascending.
        labels: int8 [M, C].
        origins: uint8 [M, C].
        conflicts: (row, row, column) of each contradiction: first row with POSITIVE, first with NEGATIVE, int64 [K, 3].
    """

    keep: NDArray[np.int64]
    labels: NDArray[np.int8]
    origins: NDArray[np.uint8]
    conflicts: NDArray[np.int64]


def merge_labels(image: NDArray[np.int64], labels: NDArray[np.int8], origins: NDArray[np.uint8]) -> Merged:
    """Return one row of labels per image.

    The rule, class by class: what somebody labelled beats what was assumed; a known label beats UNCERTAIN, which beats
    UNKNOWN; POSITIVE against NEGATIVE, both labelled or both assumed, is a conflict and becomes UNCERTAIN. A label
    assumed for several reasons keeps the first of `LabelOrigin`.
    """
    code, count = image_codes(image)
    keep = first_rows(code, count)
    if len(keep) == len(image):
        return Merged(keep, labels, origins, np.empty((0, 3), dtype=np.int64))
    several = np.flatnonzero(np.bincount(code)[code] > 1)
    several = several[np.argsort(code[several], kind="stable")]
    merged, marks = labels[keep], origins[keep]
    starts = np.flatnonzero(np.diff(code[several], prepend=-1))
    own, own_origins = labels[several], origins[several]
    own_assumed = own_origins > 0

    def seen(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
        return np.logical_or.reduceat(mask, starts, axis=0)

    positive, negative = seen((own == POSITIVE) & ~own_assumed), seen((own == NEGATIVE) & ~own_assumed)
    given = positive | negative
    guess_positive, guess_negative = (
        seen((own == POSITIVE) & own_assumed),
        seen((own == NEGATIVE) & own_assumed),
    )
    uncertain = seen(own == UNCERTAIN)
    result = np.where(uncertain, np.int8(UNCERTAIN), np.int8(UNKNOWN))
    guessed = (guess_positive | guess_negative) & ~given & ~uncertain
    result[guessed] = np.where(guess_positive, np.int8(POSITIVE), np.int8(NEGATIVE))[guessed]
    result[given] = np.where(positive, np.int8(POSITIVE), np.int8(NEGATIVE))[given]
    contradiction = (positive & negative) | (guessed & guess_positive & guess_negative)
    result[contradiction] = UNCERTAIN
    rows = code[several[starts]]
    merged[rows] = result
    agreeing = own_assumed & (own == np.repeat(result, np.diff(starts, append=len(several)), axis=0))
    reason = np.minimum.reduceat(np.where(agreeing, own_origins, np.uint8(255)), starts, axis=0)
    marks[rows] = np.where(guessed & ~contradiction, reason, 0)
    return Merged(keep, merged, marks, _conflicts(contradiction, several, starts, labels))


def standing_rows(merged: Merged, image: NDArray[np.int64], drawn: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return the row whose texts stand for each image, int64 [M]: its first with a mask, or else its first.

    Args:
        merged: What `merge_labels` made of the rows.
        image: Number of the image that each row shows, int64 [N].
        drawn: Whether the row has a mask, bool [N].
    """
    rows = merged.keep.copy()
    with_mask = np.flatnonzero(drawn)[::-1]  # of several writes to one place the last one stays
    code, _ = image_codes(image)
    rows[code[with_mask]] = with_mask
    return rows


def _conflicts(
    contradiction: NDArray[np.bool_],
    several: NDArray[np.int64],
    starts: NDArray[np.int64],
    labels: NDArray[np.int8],
) -> NDArray[np.int64]:
    ends = np.append(starts[1:], len(several))
    found = []
    for place, column in zip(*np.nonzero(contradiction), strict=True):
        rows = several[starts[place] : ends[place]]
        states = labels[rows, column]
        found.append((rows[states == POSITIVE][0], rows[states == NEGATIVE][0], column))
    return np.array(found, dtype=np.int64).reshape(-1, 3)


def joined_groups(groups: TextArray, image: NDArray[np.int64], alike: NDArray[np.int64]) -> TextArray:
    """Return groups in which the patients of the same or of alike images are one: named after the first of them.

    Args:
        groups: The group of each row, text [N].
        image: The image that each row shows, int64 [N].
        alike: Pairs of rows, int64 [P, 2].
    """
    code, count = image_codes(image)
    if count == len(image) and not len(alike):
        return groups
    names, group = text_codes(groups)
    first = first_rows(code, count)
    left = np.concatenate([group, group[alike[:, 0]]])
    right = np.concatenate([group[first][code], group[alike[:, 1]]])
    different = left != right
    if not different.any():
        return groups
    from scipy.sparse import coo_array  # a third of a second, which few assemblies need
    from scipy.sparse.csgraph import connected_components

    links = coo_array(
        (np.ones(int(different.sum())), (left[different], right[different])), shape=(len(names),) * 2
    )
    _, component = connected_components(links, directed=False)
    _, representative = np.unique(component, return_index=True)
    joined: TextArray = names[representative[component]][group]
    return joined
