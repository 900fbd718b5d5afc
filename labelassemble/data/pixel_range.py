"""Whether the images of a source use the grey range, stand upright and have a usual shape."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from labelassemble.data.errors import ImageError
from labelassemble.data.fingerprints import Progress, each_image
from labelassemble.data.images import inspect_image
from labelassemble.data.table import WARNING, Table
from labelassemble.data.text import text_codes

_LEAST: Final = 0.25  # of the grey range, which images of one depth use together
_FEW: Final = 4  # images of one depth, below which their range together says little
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

    def warnings(self, words: "Words | None" = None) -> tuple[str, ...]:
        """Return what is probably wrong, a sentence per source and kind; by default in the words of a configuration."""
        words = words or IN_CONFIGURATION
        found = []
        for source, images in self.frame.groupby("source", sort=False):
            found += [
                _range_warning(words, str(source), depth) for _, depth in images.groupby("bits", sort=False)
            ]
            found.append(
                _warning(
                    words,
                    str(source),
                    images,
                    images["orientation"] > 1,
                    "turned by an EXIF orientation",
                    f"{words.orientation} leaves them as they are stored",
                )
            )
            longer = images[["height", "width"]].max(axis=1) > _LONG * images[["height", "width"]].min(axis=1)
            found.append(
                _warning(
                    words,
                    str(source),
                    images,
                    longer,
                    f"more than {_LONG:g} times as long as wide",
                    "views stretch images to a square",
                )
            )
        return tuple(WARNING + one for one in found if one)


class Words(NamedTuple):
    """How warnings call a source and the options against what they tell.

    Attributes:
        start: of a sentence, with a place for the source.
        bits: with a place for their number.
        orientation: leaves images as they are stored.
    """

    start: str
    bits: str
    orientation: str


IN_CONFIGURATION: Final = Words(
    "source '{}': ", "set `bits: {}` of the source", "`orientation: ignore` of the source"
)
ON_COMMAND_LINE: Final = Words("", "use --bits {}", "--ignore-orientation")


def _range_warning(words: Words, source: str, images: pd.DataFrame) -> str:
    """Return what is to be said of a source's images of one depth, "" for nothing."""
    bits, greatest = int(images["bits"].iloc[0]), int(images["greatest"].max())
    if (images["low"] == images["high"]).all():  # blank ones have no range
        return ""
    dark = (images["greatest"] >= 0) & (images["greatest"] < 2 ** (bits - _DARK_BITS)) & (bits > 8)
    upper_unused = greatest < 2 ** (bits - 1)
    narrow = upper_unused if bits > 8 and greatest >= 0 else _used(images) < _LEAST
    if not (narrow and len(images) >= _FEW):
        if dark.mean() < _DARK_SHARE:
            return ""
        images, greatest = images[dark], int(images["greatest"][dark].max())
    one, first = len(images) == 1, images["path"].iloc[0]
    which = f"the {'image' if one else f'{len(images)} images'} of {bits} bits that {_were(one)} looked at"
    advice = "look at one of them"
    if greatest >= 0 and bits > 8:
        least = max(8, greatest.bit_length())
        advice = f"the greatest value is {greatest}: {words.bits.format(least)} if they have {least} bits"
    share = f"{'uses' if one else 'use'} {100 * _used(images):.0f}% of the grey range"
    return f"{words.start.format(source)}{which} {share}, the first: {first} ({advice})"


def _used(images: pd.DataFrame) -> float:
    """Return the share of the grey range that images use together."""
    return (int(images["high"].max()) - int(images["low"].min())) / 255


def _warning(
    words: Words, source: str, images: pd.DataFrame, which: "pd.Series[bool]", what: str, advice: str
) -> str:
    """Return a warning of those images of which something is true, "" for none."""
    count = int(which.sum())
    if not count:
        return ""
    verb, first = "is" if count == 1 else "are", images["path"][which].iloc[0]
    looked = f"{count} of the {len(images)} images that were" if len(images) > 1 else "the image that was"
    return f"{words.start.format(source)}{looked} looked at {verb} {what}, the first: {first} ({advice})"


def _were(one: bool) -> str:
    return "was" if one else "were"


def sample_pixels(table: Table, *, workers: int = 1, progress: Progress | None = None) -> PixelCheck:
    """Return what some images of each source are, those of `sampled_rows`."""
    rows = sampled_rows(table)
    paths, sources = table.paths[rows].tolist(), table.sources[rows].tolist()
    return PixelCheck.of(paths, sources, each_image(paths, look_at, workers, progress))


def sampled_rows(table: Table) -> list[int]:
    """Return 16 rows of each source, evenly spread over it."""
    _, code = text_codes(table.sources)
    rows: list[int] = []
    for source in range(int(code.max(initial=-1)) + 1):
        own = np.flatnonzero(code == source)
        rows += own[_spread(len(own))].tolist()
    return rows


def sample_files(paths: Sequence[str], *, workers: int = 1) -> PixelCheck:
    """Return what 16 of the images of no source are, evenly spread."""
    some = [paths[index] for index in _spread(len(paths)).tolist()]
    return PixelCheck.of(some, [""] * len(some), each_image(some, look_at, workers, None))


def _spread(count: int) -> NDArray[np.int64]:
    return np.unique(np.linspace(0, count - 1, _SAMPLE).astype(np.int64))[:count]
