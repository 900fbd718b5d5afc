"""Test images chosen for the report: what the model is surest of, right and wrong, with its heat maps."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from torch import nn

from labelassemble.data.predictions import Predictions
from labelassemble.errors import LabelAssembleError
from labelassemble.explain.images import explained
from labelassemble.explain.overlay import overlay, small_jpeg
from labelassemble.views.options import ViewOptions

CLASSES: Final = 4
"""Classes of interest that images are shown of, at most."""
RIGHT, WRONG = 1, 2
"""Images of a class: the positive that scores highest; high negatives, and low positives."""
SIDE: Final = 160
"""Pixels of an image's longer side, so that a report stays small."""


@dataclass(frozen=True, slots=True)
class Choice:
    """An image chosen for a class: its row, and as what."""

    name: str
    kind: str  # "found", "false alarm" or "missed"
    row: int


@dataclass(frozen=True, slots=True)
class Example:
    """A test image on the page."""

    name: str  # of the class
    kind: str
    file: str
    source: str
    probability: float
    view: str  # data URI of a JPEG
    heat: str  # likewise


def choose_images(predictions: Predictions, names: Sequence[str]) -> list[Choice]:
    """Return of each class the positive that scores highest, and the worst mistakes of its ranking on test images.

    Mistakes are the highest negatives that score above some positive, and the lowest positives that score below some
    negative: no threshold enters, and a class that is separated without an error has none. Unknown, uncertain and
    assumed labels are not chosen.
    """
    targets = np.where((predictions.splits == "test")[:, None], predictions.given_targets(), np.nan)
    chosen = []
    for name in names:
        column = predictions.column(name)
        y, p = targets[:, column], predictions.probabilities[:, column]
        rising = np.argsort(p, kind="stable")
        lowest, highest = p[y == 1].min(initial=np.inf), p[y == 0].max(initial=-np.inf)
        for kind, order, wanted, count in (
            ("found", rising[::-1], y == 1, RIGHT),
            ("false alarm", rising[::-1], (y == 0) & (p > lowest), WRONG),
            ("missed", rising, (y == 1) & (p < highest), WRONG),
        ):
            rows = order[wanted[order]]
            chosen += [Choice(name, kind, int(row)) for row in rows[:count]]
    return chosen


def example_images(
    net: nn.Module,
    classes: Sequence[str],
    views: ViewOptions,
    predictions: Predictions,
    interest: Sequence[str],
) -> tuple[Example, ...]:
    """Return test images of the first few classes of interest; none where the network gives no heat maps.

    Args:
        net: in eval mode.
        classes: names of its C outputs.
        views: the deterministic view.
        predictions: of images that can be read.
        interest: classes of interest, in order.
    """
    names = [name for name in interest if name in predictions.classes][:CLASSES]
    examples = []
    for item in choose_images(predictions, names):
        path = str(predictions.paths[item.row])
        try:
            [(pixels, [shown])] = explained(net, [path], views, classes, [list(classes).index(item.name)])
        except LabelAssembleError:
            return ()
        examples.append(
            Example(
                item.name,
                item.kind,
                Path(path).name,
                str(predictions.sources[item.row]),
                float(predictions.probabilities[item.row, predictions.column(item.name)]),
                _uri(small_jpeg(pixels, side=SIDE)),
                _uri(small_jpeg(overlay(pixels, shown.heat), side=SIDE)),
            )
        )
    return tuple(examples)


def _uri(jpeg: bytes) -> str:
    return "data:image/jpeg;base64," + base64.b64encode(jpeg).decode("ascii")
