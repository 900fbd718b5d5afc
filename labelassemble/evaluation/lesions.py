"""Lesions of one class in one case: connected components, their scores, and which of them are found.

Components are those of `scipy.ndimage.label` with full connectivity: voxels that share a face, an edge or a corner (8
neighbours in two dimensions, 26 in three). A predicted lesion's score is its highest probability. Predicted and drawn
lesions are matched one to one; the matching has the greatest sum of 1 + overlap over its pairs, which puts many pairs
before much overlap (as `picai_eval` does). A predicted lesion that overlaps a lesion well enough, but is not its
match, is neither a hit nor a false alarm.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.optimize import linear_sum_assignment

from labelassemble.detection_options import DetectionOptions

Box = tuple[slice, ...]


class LesionKind(IntEnum):
    """What became of a drawn lesion, or what a predicted one is."""

    FOUND = 0
    MISSED = 1
    FALSE_ALARM = 2
    REPEATED = 3
    """Predicted on a lesion that another predicted lesion finds."""


KINDS: Final = {
    LesionKind.FOUND: "found",
    LesionKind.MISSED: "missed",
    LesionKind.FALSE_ALARM: "false alarm",
    LesionKind.REPEATED: "repeated",
}
"""How the kinds are written."""


@dataclass(frozen=True, slots=True)
class Lesions:
    """Lesions of one class in one case: the drawn ones, then the predicted ones that find none.

    Attributes:
        kinds: `LesionKind` codes, int8 [L].
        scores: the predicted lesion's highest probability, float64 [L]; 0 where missed.
        voxels: of the drawn lesion, or of the predicted one where none is drawn, int64 [L].
        overlaps: intersection over union of a found lesion and its match, float64 [L]; else 0.
        centres: middle of the bounding box, in voxels, int64 [L, dimensions].
    """

    kinds: NDArray[np.int8]
    scores: NDArray[np.float64]
    voxels: NDArray[np.int64]
    overlaps: NDArray[np.float64]
    centres: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.kinds)


def components(mask: NDArray[np.bool_]) -> tuple[NDArray[np.int32], int]:
    """Return the connected components of a mask [*s]: their numbers from 1 on (0 = outside) and how many there are."""
    numbers, count = ndimage.label(mask, structure=np.ones((3,) * mask.ndim))
    return numbers, int(count)


def component_scores(
    numbers: NDArray[np.int32], count: int, probabilities: NDArray[np.floating]
) -> NDArray[np.float64]:
    """Return the highest probability of each component, [count].

    `np.maximum.at`: `scipy.ndimage.maximum` sorts the voxels and takes 80 times as long.

    Args:
        numbers: of the voxels of components, from 1 on, [n].
        count: how many components.
        probabilities: of the same voxels, [n].
    """
    scores = np.zeros(count)
    np.maximum.at(scores, numbers - 1, probabilities)
    return scores


def bounding_box(mask: NDArray[np.bool_]) -> Box | None:
    """Return the smallest box that holds all of a mask [*s]; None where it is empty."""
    box = []
    for axis in range(mask.ndim):
        others = tuple(other for other in range(mask.ndim) if other != axis)
        held = np.flatnonzero(mask.any(axis=others))
        if not len(held):
            return None
        box.append(slice(int(held[0]), int(held[-1]) + 1))
    return tuple(box)


def lesions_of(
    probabilities: NDArray[np.floating], drawn: NDArray[np.bool_], options: DetectionOptions
) -> Lesions:
    """Return the drawn and the predicted lesions of one class.

    Args:
        probabilities: [*s], in two or three dimensions.
        drawn: [*s], where the class is; all False where it is known to be nowhere.
        options: threshold and rule.
    """
    predicted = probabilities >= options.threshold
    box = bounding_box(predicted | drawn)
    if box is None:
        return _none(drawn.ndim)
    # One array of numbers at a time, and of it only what lies in lesions: the volume may fill much of the memory.
    predicted, drawn = predicted[box], drawn[box]
    numbers, truth_count = components(drawn)
    truth_voxels = np.bincount(numbers[drawn], minlength=truth_count + 1)[1:]
    truth_centres = _centres(numbers, truth_count)
    truth = numbers[predicted]
    del numbers
    numbers, found_count = components(predicted)
    found = numbers[predicted]
    found_centres = _centres(numbers, found_count)
    del numbers
    scores = component_scores(found, found_count, probabilities[box][predicted])
    found_voxels = np.bincount(found, minlength=found_count + 1)[1:]
    pairs, overlaps = _overlaps(truth, found, truth_voxels, found_voxels)
    hits = overlaps > 0 if options.hit == "any" else overlaps >= options.least_iou
    pairs, overlaps = pairs[hits], overlaps[hits]
    matched = _match(pairs, overlaps)
    of_truth, of_found = pairs[matched].T
    kinds = np.full(truth_count, LesionKind.MISSED, np.int8)
    kinds[of_truth] = LesionKind.FOUND
    truth_scores, truth_overlaps = np.zeros(truth_count), np.zeros(truth_count)
    truth_scores[of_truth], truth_overlaps[of_truth] = scores[of_found], overlaps[matched]
    rest = np.setdiff1d(np.arange(found_count), of_found)
    on_lesion = np.isin(rest, pairs[:, 1])
    others = np.where(on_lesion, LesionKind.REPEATED, LesionKind.FALSE_ALARM).astype(np.int8)
    corner = np.array([part.start for part in box])
    centres = np.concatenate([truth_centres, found_centres[rest]])
    return Lesions(
        kinds=np.concatenate([kinds, others]),
        scores=np.concatenate([truth_scores, scores[rest]]),
        voxels=np.concatenate([truth_voxels, found_voxels[rest]]),
        overlaps=np.concatenate([truth_overlaps, np.zeros(len(rest))]),
        centres=centres + corner,
    )


def _none(dimensions: int) -> Lesions:
    return Lesions(
        np.zeros(0, np.int8),
        np.zeros(0),
        np.zeros(0, np.int64),
        np.zeros(0),
        np.zeros((0, dimensions), np.int64),
    )


def _overlaps(
    truth: NDArray[np.int32],
    found: NDArray[np.int32],
    truth_voxels: NDArray[np.int64],
    found_voxels: NDArray[np.int64],
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the pairs (drawn, predicted) that share voxels, from 0, [K, 2], and their intersection over union [K].

    Args:
        truth: numbers of drawn lesions at the predicted voxels, 0 outside, [n].
        found: numbers of predicted lesions at the same voxels, [n].
        truth_voxels: of each drawn lesion.
        found_voxels: of each predicted one.
    """
    both = truth > 0
    columns = len(found_voxels)
    codes = (truth[both].astype(np.int64) - 1) * columns + (found[both] - 1)
    distinct, shared = np.unique(codes, return_counts=True)
    pairs = np.stack(np.divmod(distinct, max(columns, 1)), axis=1)
    union = truth_voxels[pairs[:, 0]] + found_voxels[pairs[:, 1]] - shared
    return pairs, shared / union


def _match(pairs: NDArray[np.int64], overlaps: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return which pairs are the one-to-one matching with the greatest sum of 1 + overlap."""
    rows, row = np.unique(pairs[:, 0], return_inverse=True)
    columns, column = np.unique(pairs[:, 1], return_inverse=True)
    worth = np.zeros((len(rows), len(columns)))
    worth[row, column] = 1 + overlaps
    place = np.full(worth.shape, -1)
    place[row, column] = np.arange(len(pairs))
    chosen = place[linear_sum_assignment(worth, maximize=True)]
    return np.sort(chosen[chosen >= 0])


def _centres(numbers: NDArray[np.int32], count: int) -> NDArray[np.int64]:
    """Return the middle of each component's bounding box, [count, dimensions]."""
    boxes = ndimage.find_objects(numbers, max_label=count) if count else []
    middles = [[(part.start + part.stop - 1) // 2 for part in box] for box in boxes]
    return np.array(middles, np.int64).reshape(count, numbers.ndim)
