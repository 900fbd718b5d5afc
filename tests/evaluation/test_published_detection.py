"""AUROC, average precision and FROC of a detection against the published `picai_eval`, on simulated cases."""

import numpy as np
import pytest
from numpy.typing import NDArray

from labelassemble.data.table import Table
from labelassemble.detection_options import DetectionOptions
from labelassemble.evaluation.detection import evaluate_detection
from labelassemble.evaluation.detection_case import DetectionCase, record_case

pytest.importorskip("monai")

CASES, LESIONS = 40, 68
SHAPE = (24, 20, 8)
THRESHOLD = 0.25


def simulated_case(
    number: int, shape: tuple[int, ...] = SHAPE
) -> tuple[NDArray[np.float64], NDArray[np.uint8]]:
    """Return probabilities [*s], 0 below `THRESHOLD`, and the mask [*s] of a case; the same for the same number."""
    generator = np.random.default_rng(number)
    mask = np.zeros(shape, np.uint8)
    probabilities = np.zeros(shape)
    for _ in range(int(generator.integers(0, 4))):
        box = _box(generator, shape)
        mask[box] = 1
        if generator.random() < 0.75:
            shift = tuple(
                slice(part.start + int(generator.integers(0, 3)), part.stop + int(generator.integers(0, 3)))
                for part in box
            )
            probabilities[shift] = np.round(generator.uniform(0.3, 1.0), 2)
    for _ in range(int(generator.integers(0, 3))):
        probabilities[_box(generator, shape)] = np.round(generator.uniform(THRESHOLD, 0.9), 2)
    return probabilities, mask


def _box(generator: np.random.Generator, shape: tuple[int, ...]) -> tuple[slice, ...]:
    corners = [int(generator.integers(0, size - 1)) for size in shape]
    sides = [int(generator.integers(1, 6)) for _ in shape]
    return tuple(slice(corner, corner + side) for corner, side in zip(corners, sides, strict=True))


# What picai_eval 1.4.13 gives for these cases: evaluate(maps, masks, min_overlap=0.1 or 1e-6, overlap_func="IoU"),
# where every predicted lesion of a map is filled with its highest probability; 1e-6 stands for any voxel. In order:
# average precision; counts of `lesion_TP` and of `lesion_FP` without the last entry, which it replaces by a point at
# infinity; lesions found by `lesion_TPR_at_FPR` at 1/8, 1/4, 1/2, 1 and 2 false alarms per case.
PICAI = {
    "iou": (
        0.21179438854444618,
        "1 2 2 4 4 4 6 7 8 8 8 9 10 12 14 14 15 16 16 17 17 17 17 18 18 18 19 20 20 20 20 20 20 21 22 22 "
        "22 22 23 23 24 24 24 26 27 27 27",
        "0 0 2 2 3 4 4 4 4 5 7 8 10 12 12 13 14 15 18 19 20 21 22 23 24 25 25 27 29 30 32 33 35 35 35 36 "
        "37 38 39 40 40 41 42 42 43 44 45",
        "8 10 17 24 27",
    ),
    "any": (
        0.2934332182071152,
        "1 2 3 5 6 6 8 9 10 10 10 11 13 15 17 17 18 19 19 20 20 20 20 21 21 21 22 24 24 24 24 24 24 25 "
        "26 26 26 26 27 27 28 28 28 30 31 31 31",
        "0 0 1 1 1 2 2 2 2 3 5 6 7 9 9 10 11 12 15 16 17 18 19 20 21 22 22 23 25 26 28 29 31 31 31 32 33 "
        "34 35 36 36 37 38 38 39 40 41",
        "10 17 21 31 31",
    ),
}
PICAI_AUROC = 0.7867383512544802


@pytest.mark.parametrize("hit", ["iou", "any"])
def test_auroc_average_precision_and_froc_are_those_of_picai_eval(hit: str) -> None:
    # picai_eval's score of a case is the highest probability of its lesions: the maximum of the one top voxel
    options = DetectionOptions.model_validate(
        {"hit": hit, "threshold": THRESHOLD, "patient_score": "maximum", "top": 1e-9}
    )
    records, labels = [], np.zeros((CASES, 1), np.int8)
    for number in range(CASES):
        probabilities, mask = simulated_case(number)
        labels[number] = mask.any()
        records.append(record_case(DetectionCase(probabilities[None], labels[number], mask, {1: 0}), options))
    table = Table(
        classes=("lesion",),
        paths=[f"{number}.nii" for number in range(CASES)],
        names=[""] * CASES,
        groups=[""] * CASES,
        splits=["test"] * CASES,
        sources=["simulated"] * CASES,
        labels=labels,
        origins=np.zeros((CASES, 1), np.uint8),
    )
    found = evaluate_detection(table, records, options, bootstrap=50)
    [result] = found.classes
    precision, *counts = PICAI[hit]
    hits, alarms, froc = ([float(count) for count in text.split()] for text in counts)
    assert result.lesions == LESIONS
    assert result.figures.average_precision.value == pytest.approx(precision, abs=1e-12)
    assert result.curve is not None
    assert (result.curve.recall * LESIONS).tolist() == pytest.approx(hits, abs=1e-9)
    assert (result.curve.false_alarms * CASES).tolist() == pytest.approx(alarms, abs=1e-9)
    at_rates = [estimate.value for estimate in result.figures.froc[:5]]
    assert at_rates == pytest.approx([count / LESIONS for count in froc], abs=1e-12)
    assert result.figures.froc[2].interval is not None
    [patients] = found.evaluation.classes
    assert patients.auroc == pytest.approx(PICAI_AUROC, abs=1e-12)
    assert patients.bootstrap is not None
