"""Slices of a few test cases for the page: the image, what is drawn, what is predicted."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from labelassemble.evaluation.detection_case import CaseRecord, DetectionCase
from labelassemble.evaluation.lesions import KINDS, LesionKind

CLASSES: Final = 4
"""Classes of interest that slices are shown of, at most."""
SIDE: Final = 192
"""Pixels of a slice's longer side."""
_DRAWN: Final = np.array([94, 203, 192], np.float64)
_PREDICTED: Final = np.array([240, 148, 88], np.float64)


@dataclass(frozen=True, slots=True)
class ShownSlice:
    """A slice on the page.

    Attributes:
        name: of the class.
        kind: "found", "missed" or "false alarm".
        row: of the case in the table.
        score: of the lesion; 0 where missed.
        voxels: of the lesion.
        index: of the slice, None in two dimensions.
        image: data URI of a PNG.
        truth: likewise, with the outline of what is drawn.
        prediction: likewise, with the probabilities and the outline of the predicted mask.
    """

    name: str
    kind: str
    row: int
    score: float
    voxels: int
    index: int | None
    image: str
    truth: str
    prediction: str


class SliceChoice:
    """Keeps while the cases pass by, for each of a few classes, the slice to show of each kind.

    Shown are the largest drawn lesion that is found, the largest that is missed, and the false alarm with the highest
    score, each on the slice with most of it.
    """

    def __init__(self, classes: Sequence[str], interest: Sequence[str], threshold: float) -> None:
        self._columns = [classes.index(name) for name in interest if name in classes][:CLASSES]
        self._classes = tuple(classes)
        self._threshold = threshold
        self._kept: dict[tuple[int, LesionKind], tuple[float, ShownSlice]] = {}

    def offer(self, row: int, case: DetectionCase, record: CaseRecord, image: NDArray[np.floating]) -> None:
        """Look at a case, whose image [*s] has values from 0 to 1."""
        for column in self._columns:
            known = record.classes[column]
            if known is None:
                continue
            for kind in (LesionKind.FOUND, LesionKind.MISSED, LesionKind.FALSE_ALARM):
                rank = known.lesions.scores if kind == LesionKind.FALSE_ALARM else known.lesions.voxels
                own = np.flatnonzero(known.lesions.kinds == kind)
                if not len(own):
                    continue
                best = int(own[np.argmax(rank[own])])
                worth = float(rank[best])
                if worth > self._kept.get((column, kind), (0.0, None))[0]:
                    shown = self._shown(row, case, record, image, column, kind, best)
                    self._kept[column, kind] = worth, shown

    def shown(self) -> tuple[ShownSlice, ...]:
        """Return the slices, class by class."""
        return tuple(
            self._kept[key][1]
            for key in sorted(self._kept, key=lambda key: (self._columns.index(key[0]), key[1]))
        )

    def _shown(
        self,
        row: int,
        case: DetectionCase,
        record: CaseRecord,
        image: NDArray[np.floating],
        column: int,
        kind: LesionKind,
        lesion: int,
    ) -> ShownSlice:
        known, drawn = record.classes[column], case.drawn(column)
        assert known is not None
        assert drawn is not None
        probabilities, index = case.probabilities[column], None
        if image.ndim == 3:
            index = _slice_with_most(
                drawn if kind != LesionKind.FALSE_ALARM else probabilities >= self._threshold,
                known.lesions.centres[lesion],
            )
            # as a radiologist sees it: the front on top, the patient's right on the left
            image, drawn = image[::-1, ::-1, index].T, drawn[::-1, ::-1, index].T
            probabilities = probabilities[::-1, ::-1, index].T
        sides = (1.0, 1.0)
        if case.spacing is not None:
            sides = case.spacing[:2] if len(case.spacing) == 2 else (case.spacing[1], case.spacing[0])
        grey = np.repeat((np.clip(image, 0, 1) * 255)[..., None], 3, axis=-1)
        heat = grey + (_PREDICTED - grey) * (0.7 * np.clip(probabilities, 0, 1))[..., None]
        panels = (
            grey,
            _outlined(grey, drawn, _DRAWN),
            _outlined(heat, probabilities >= self._threshold, _PREDICTED),
        )
        return ShownSlice(
            self._classes[column],
            KINDS[kind],
            row,
            float(known.lesions.scores[lesion]),
            int(known.lesions.voxels[lesion]),
            index,
            *(_uri(panel, sides) for panel in panels),
        )


def _slice_with_most(mask: NDArray[np.bool_], centre: NDArray[np.int64]) -> int:
    """Return the slice in which the component nearest to `centre` is largest."""
    numbers, count = ndimage.label(mask, np.ones((3, 3, 3)))
    boxes = ndimage.find_objects(numbers, max_label=count)
    middles = [[(part.start + part.stop - 1) // 2 for part in box] for box in boxes]
    nearest = int(np.abs(np.array(middles) - centre).sum(axis=1).argmin())
    box = boxes[nearest]
    areas = (numbers[box] == nearest + 1).sum(axis=(0, 1))
    return int(box[2].start + areas.argmax())


def _outlined(
    pixels: NDArray[np.float64], mask: NDArray[np.bool_], colour: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return pixels [H, W, 3] with the border of a mask [H, W] in a colour."""
    found = pixels.copy()
    found[mask & ~ndimage.binary_erosion(mask)] = colour
    return found


def _uri(pixels: NDArray[np.float64], sides: tuple[float, ...]) -> str:
    """Return pixels as a data URI, enlarged so that an outline is seen, each pixel with the sides of its voxel."""
    height, width = pixels.shape[0] * sides[0], pixels.shape[1] * sides[1]
    scale = SIDE / max(height, width)
    size = max(1, round(height * scale)), max(1, round(width * scale))
    rows, columns = (
        np.minimum((np.arange(target) + 0.5) * count / target, count - 1).astype(int)
        for target, count in zip(size, pixels.shape[:2], strict=True)
    )
    image = Image.fromarray(np.round(pixels[rows][:, columns]).astype(np.uint8))
    png = io.BytesIO()
    image.quantize(128, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE).save(
        png, "PNG", optimize=True
    )
    return "data:image/png;base64," + base64.b64encode(png.getvalue()).decode("ascii")
