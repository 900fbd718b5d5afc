"""Whether the images of a source use the grey range, stand upright and have a usual shape."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
import pandas as pd

from labelassemble.data.errors import ImageError
from labelassemble.data.fingerprints import Progress, each_image
from labelassemble.data.images import inspect_image
from labelassemble.data.table import WARNING, Table
from labelassemble.data.text import text_codes

_HALF: Final = 0.5  # the least share of the grey range that images of one depth use together
_DARK_BITS: Final = 3  # an image whose greatest value leaves so many upper bits empty is black to the eye
_DARK_SHARE: Final = 0.1  # of a source's images of one depth, from which on that is told
_LONG: Final = 3.0  # times as long as wide
_SAMPLE: Final = 16  # images of a source that are looked at before training


class Look(NamedTuple):
    """What an image turned out to be.

    Attributes:
        bits: of its grey values.
        greatest: the greatest stored value, where the bits say what is white; -1 elsewhere.
        orientation: by EXIF, by which it was turned.
        low: the least of its pixels, 0 to 255.
        high: the greatest.
        height: in pixels.
        width: in pixels.
    """

    bits: int
    greatest: int
    orientation: int
    low: int
    high: int
    height: int
    width: int


def look_at(path: str) -> Look | str:
    """Return what the image at `path` is, or why it cannot be read."""
    try:
        image = inspect_image(path)
    except ImageError as error:
        return error.reason
    _, height, width = image.pixels.shape
    greatest = -1 if image.greatest is None else image.greatest
    low, high = int(image.pixels.min(initial=255)), int(image.pixels.max(initial=0))
    return Look(image.bits, greatest, image.orientation, low, high, height, width)


@dataclass(frozen=True)
class PixelCheck:
    """What the images of each source turned out to be.

    Attributes:
        frame: A row per image that could be read: path, source, and what `Look` has.
    """

    frame: pd.DataFrame

    @classmethod
    def of(cls, paths: Sequence[str], sources: Sequence[str], looks: Sequence[Look | str]) -> "PixelCheck":
        """Return the check of images, each with its source and what `look_at` returned."""
        rows = [
            (path, source, *look)
            for path, source, look in zip(paths, sources, looks, strict=True)
            if isinstance(look, Look)
        ]
        return cls(pd.DataFrame(rows, columns=["path", "source", *Look._fields]))

    def summary(self) -> pd.DataFrame:
        """Return a row per source and number of bits.

        Columns: source, bits, images, grey values (least and greatest, of 0 to 255), turned (by EXIF), height / width
        (the median).
        """
        shape = self.frame["height"] / self.frame["width"]
        grouped = self.frame.assign(shape=shape, turned=self.frame["orientation"] > 1).groupby(
            ["source", "bits"], sort=False
        )
        found = grouped.agg(
            images=("path", "size"),
            low=("low", "min"),
            high=("high", "max"),
            turned=("turned", "sum"),
            shape=("shape", "median"),
        ).reset_index()
        found.insert(3, "grey values", found["low"].astype(str) + " to " + found["high"].astype(str))
        found["height / width"] = found["shape"].round(2)
        return found.drop(columns=["low", "high", "shape"])

    def warnings(self) -> tuple[str, ...]:
        """Return what is probably wrong, a sentence per source and kind."""
        found = []
        for source, images in self.frame.groupby("source", sort=False):
            found += [_range_warning(str(source), depth) for _, depth in images.groupby("bits", sort=False)]
            found.append(
                _warning(
                    str(source),
                    images,
                    images["orientation"] > 1,
                    "turned by an EXIF orientation",
                    "`orientation: ignore` of the source leaves them as they are stored",
                )
            )
            longer = images[["height", "width"]].max(axis=1) > _LONG * images[["height", "width"]].min(axis=1)
            found.append(
                _warning(
                    str(source),
                    images,
                    longer,
                    f"more than {_LONG:g} times as long as wide",
                    "views stretch images to a square",
                )
            )
        return tuple(WARNING + one for one in found if one)


def _range_warning(source: str, images: pd.DataFrame) -> str:
    """Return what is to be said of a source's images of one depth, "" for nothing."""
    bits, greatest = int(images["bits"].iloc[0]), int(images["greatest"].max())
    if (images["low"] == images["high"]).all():  # blank ones have no range
        return ""
    used = (int(images["high"].max()) - int(images["low"].min())) / 255
    dark = (images["greatest"] >= 0) & (images["greatest"] < 2 ** (bits - _DARK_BITS)) & (bits > 8)
    if used >= _HALF and dark.mean() < _DARK_SHARE:
        return ""
    if used >= _HALF:
        images, greatest = images[dark], int(images["greatest"][dark].max())
        used = (int(images["high"].max()) - int(images["low"].min())) / 255
    one, first = len(images) == 1, images["path"].iloc[0]
    which = (
        f"{'the image' if one else f'the {len(images)} images'} of {bits} bits that {_were(one)} looked at"
    )
    advice = "look at one of them"
    if greatest >= 0 and bits > 8:
        least = max(8, greatest.bit_length())
        advice = (
            f"the greatest value is {greatest}: set `bits: {least}` of the source if they have {least} bits"
        )
    share = f"{'uses' if one else 'use'} {100 * used:.0f}% of the grey range"
    return f"source '{source}': {which} {share}, the first: {first} ({advice})"


def _warning(source: str, images: pd.DataFrame, which: "pd.Series[bool]", what: str, advice: str) -> str:
    """Return a warning of those images of which something is true, "" for none."""
    count, one = int(which.sum()), len(images) == 1
    if not count:
        return ""
    looked = f"the {'image' if one else f'{len(images)} images'} that {_were(one)} looked at"
    verb, first = "is" if count == 1 else "are", images["path"][which].iloc[0]
    return f"source '{source}': {count} of {looked} {verb} {what}, the first: {first} ({advice})"


def _were(one: bool) -> str:
    return "was" if one else "were"


def sample_pixels(table: Table, *, workers: int = 1, progress: Progress | None = None) -> PixelCheck:
    """Return what some images of each source are: 16, evenly spread over its rows."""
    _, code = text_codes(table.sources)
    rows: list[int] = []
    for source in range(int(code.max(initial=-1)) + 1):
        own = np.flatnonzero(code == source)
        rows += own[np.unique(np.linspace(0, len(own) - 1, _SAMPLE).astype(np.int64))].tolist()
    paths, sources = table.paths[rows].tolist(), table.sources[rows].tolist()
    return PixelCheck.of(paths, sources, each_image(paths, look_at, workers, progress))
