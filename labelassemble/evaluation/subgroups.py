"""Subgroups of the images: by sex, age band, view or any other column that the table carries."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, Field

from labelassemble.data.subgroups import OLDEST, age_of
from labelassemble.data.text import TextArray, text_codes

AGE_BANDS: Final = (18.0, 40.0, 60.0, 80.0)
"""Ages in years at which a band begins."""
MOST: Final = 12
"""The commonest values of a subgroup that are evaluated apart; the others are taken together."""


def _distinct(names: tuple[str, ...]) -> tuple[str, ...]:
    for index, name in enumerate(names):
        if name in names[:index]:
            raise ValueError(f"each subgroup must be named once, got '{name}' twice")
    return names


def _rising(ages: tuple[float, ...]) -> tuple[float, ...]:
    for lower, upper in zip((0.0, *ages), ages, strict=False):
        if not lower < upper <= OLDEST:
            raise ValueError(
                f"age bands must begin at rising ages above 0 and up to {OLDEST} years, got {upper:g}"
            )
    return ages


SubgroupNames: TypeAlias = Annotated[
    tuple[Annotated[str, Field(pattern=r"^[^\x00-\x20]([^\x00-\x1f]*[^\x00-\x20])?$")], ...],
    AfterValidator(_distinct),
]
"""Names of subgroups in a configuration."""
AgeBands: TypeAlias = Annotated[tuple[float, ...], Field(min_length=1), AfterValidator(_rising)]
"""Age bands in a configuration."""


def subgroup_values(
    name: str, values: TextArray, age_bands: Sequence[float] = AGE_BANDS
) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    """Return the values of a subgroup that are evaluated apart, and which of them each image has, int64 [N].

    Ages are put into bands, in their order; other values stand by how common they are. -1 = missing; what is beyond the
    commonest `MOST` has the number behind the last.

    Args:
        name: Of the subgroup.
        values: Of each image, "" = missing, text [N].
        age_bands: Ages in years, rising, at which a band begins.
    """
    found, codes = text_codes(values)
    distinct = found.tolist()
    if name.casefold() == "age":
        ages = np.array([float(age_of(text) or math.nan) for text in distinct])
        names = age_band_names(age_bands)
        place = np.where(np.isnan(ages), -1, np.searchsorted(np.array(age_bands), ages, side="right"))
        there = [band for band in range(len(names)) if (place == band).any()]
        number = np.array([*(there.index(band) if band in there else -1 for band in range(len(names))), -1])
        return tuple(names[band] for band in there), number[place][codes]
    counts = np.bincount(codes, minlength=len(distinct))
    filled = [code for code, text in enumerate(distinct) if text]
    order = sorted(filled, key=lambda code: (-counts[code], distinct[code]))
    number = np.full(len(distinct), -1, dtype=np.int64)
    number[order] = np.minimum(np.arange(len(order)), MOST)
    return tuple(distinct[code] for code in order[:MOST]), number[codes]


def age_band_names(bounds: Sequence[float]) -> tuple[str, ...]:
    """Return what the bands are called: "under 18", "18 to 39", ..., "80 and over"."""
    middle = []
    for lower, upper in pairwise(bounds):
        whole = float(lower).is_integer() and float(upper).is_integer()
        middle.append(f"{lower:g} to {upper - 1:g}" if whole else f"{lower:g} to under {upper:g}")
    return f"under {bounds[0]:g}", *middle, f"{bounds[-1]:g} and over"
