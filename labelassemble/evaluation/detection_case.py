"""What is kept of one case of a detection: a few numbers and its lesions, never an array of voxels."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from labelassemble.data.states import NEGATIVE
from labelassemble.detection_options import DetectionOptions
from labelassemble.errors import LabelAssembleError
from labelassemble.evaluation.lesions import Lesions, bounding_box, lesions_of
from labelassemble.evaluation.surfaces import surface_dice


@dataclass(frozen=True)
class DetectionCase:
    """A volume or a slice: what the network gives, and what is known of it.

    Attributes:
        probabilities: [C, *s] with two or three dimensions *s; the last one of three counts the slices.
        labels: `LabelState` codes of the case, int8 [C]; UNKNOWN where nobody gave one, or where it is assumed.
        mask: integer [*s]; None where nothing is drawn.
        values: which value of the mask is which column; these classes are drawn, and so known in every voxel.
        spacing: of the voxels along each dimension in mm; None where it is not known.
        name: of the case, for error messages.
    """

    probabilities: NDArray[np.floating]
    labels: NDArray[np.int8]
    mask: NDArray[np.integer] | None = None
    values: Mapping[int, int] = field(default_factory=dict)
    spacing: tuple[float, ...] | None = None
    name: str = "the case"

    def drawn(self, column: int) -> NDArray[np.bool_] | None:
        """Return where a class is known to be, bool [*s]; None where that is not known.

        A class that is not drawn is nowhere where the case's label is NEGATIVE. Where it is POSITIVE nobody said where.
        """
        if self.mask is not None:
            own = [value for value, of in self.values.items() if of == column]
            if own:
                found: NDArray[np.bool_] = self.mask == own[0]
                for value in own[1:]:  # np.isin makes integers of 8 bytes of the mask
                    found |= self.mask == value
                return found
        if self.labels[column] == NEGATIVE:
            return np.zeros(self.probabilities.shape[1:], np.bool_)
        return None


@dataclass(frozen=True, slots=True)
class ClassRecord:
    """One class in one case whose voxels are known.

    Attributes:
        dice: of the predicted and the drawn mask; None where none is drawn.
        surface: share of both surfaces that lies within the tolerance; None where none is drawn.
        lesions: drawn and predicted.
    """

    dice: float | None
    surface: float | None
    lesions: Lesions


@dataclass(frozen=True, slots=True)
class CaseRecord:
    """One case.

    Attributes:
        slices: how many.
        sums: of the slices' scores, float64 [C].
        peaks: the highest score of a slice, float64 [C].
        classes: by column; None where the voxels of a class are unknown.
        voxel_ml: volume of a voxel in ml; None in two dimensions, or where the spacing is not known.
    """

    slices: int
    sums: NDArray[np.float64]
    peaks: NDArray[np.float64]
    classes: tuple[ClassRecord | None, ...]
    voxel_ml: float | None


def record_case(case: DetectionCase, options: DetectionOptions) -> CaseRecord:
    """Return what is kept of a case.

    Raises:
        LabelAssembleError: a mask of another shape, a probability that is none, or other than two or three dimensions.
    """
    _check(case)
    scores = np.stack([slice_scores(one, options.top) for one in case.probabilities])
    return CaseRecord(
        slices=scores.shape[1],
        sums=scores.sum(axis=1),
        peaks=scores.max(axis=1),
        classes=tuple(_class_record(case, column, options) for column in range(len(case.probabilities))),
        voxel_ml=_voxel_ml(case.spacing),
    )


def slice_scores(probabilities: NDArray[np.floating], top: float) -> NDArray[np.float64]:
    """Return the score of each slice: the mean of its `top` share of voxels, at least one, float64 [slices].

    Args:
        probabilities: of one class, [H, W] or [X, Y, slices].
        top: share of the voxels of a slice.
    """
    slices = probabilities[None] if probabilities.ndim == 2 else np.moveaxis(probabilities, -1, 0)
    voxels = math.prod(slices.shape[1:])
    count = max(1, round(top * voxels))
    found = np.empty(len(slices))
    for index, one in enumerate(slices):  # one at a time: a partition copies
        highest = np.partition(one, voxels - count, axis=None)[voxels - count :]
        found[index] = highest.mean(dtype=np.float64)
    return found


def _class_record(case: DetectionCase, column: int, options: DetectionOptions) -> ClassRecord | None:
    drawn = case.drawn(column)
    if drawn is None:
        return None
    probabilities = case.probabilities[column]
    dice, surface = _agreement(probabilities, drawn, case.spacing, options)
    return ClassRecord(dice, surface, lesions_of(probabilities, drawn, options))


def _agreement(
    probabilities: NDArray[np.floating],
    drawn: NDArray[np.bool_],
    spacing: tuple[float, ...] | None,
    options: DetectionOptions,
) -> tuple[float | None, float | None]:
    """Return Dice and surface distance at tolerance; None where nothing is drawn."""
    theirs = bounding_box(drawn)
    if theirs is None:
        return None, None
    predicted = probabilities >= options.threshold
    ours = bounding_box(predicted)
    if ours is None:
        return 0.0, 0.0
    # outside both are empty, so neither figure changes
    box = tuple(slice(min(a.start, b.start), max(a.stop, b.stop)) for a, b in zip(ours, theirs, strict=True))
    predicted, drawn = predicted[box], drawn[box]
    both = np.count_nonzero(predicted & drawn)
    dice = 2 * both / (np.count_nonzero(predicted) + np.count_nonzero(drawn))
    return dice, surface_dice(predicted, drawn, options.tolerance, spacing)


def _voxel_ml(spacing: tuple[float, ...] | None) -> float | None:
    return math.prod(spacing) / 1000 if spacing is not None and len(spacing) == 3 else None


def _check(case: DetectionCase) -> None:
    shape = case.probabilities.shape
    if len(shape) not in (3, 4) or 0 in shape:
        raise LabelAssembleError(
            f"probabilities of {case.name} must have the shape [C, *s] with two or three dimensions, got {list(shape)}"
        )
    if case.labels.shape != shape[:1]:
        raise LabelAssembleError(
            f"labels of {case.name} must have one entry per class, {list(shape[:1])}, got {list(case.labels.shape)}"
        )
    if case.mask is not None and case.mask.shape != shape[1:]:
        raise LabelAssembleError(
            f"the mask of {case.name} must have the shape of its probabilities, {list(shape[1:])}, "
            f"got {list(case.mask.shape)}"
        )
    if case.spacing is not None and len(case.spacing) != len(shape) - 1:
        raise LabelAssembleError(
            f"the spacing of {case.name} must have one number per dimension ({len(shape) - 1}), "
            f"got {list(case.spacing)}"
        )
    low, high = float(case.probabilities.min()), float(case.probabilities.max())  # NaN stays NaN
    if not (low >= 0 and high <= 1):
        raise LabelAssembleError(
            f"probabilities of {case.name} must be numbers from 0 to 1, got {low:g} to {high:g}"
        )
