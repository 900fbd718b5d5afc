"""Lesions of one class: components, scores, and which are found."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from labelassemble.detection_options import DetectionOptions
from labelassemble.evaluation.lesions import LesionKind, component_scores, components, lesions_of

FOUND, MISSED, FALSE_ALARM, REPEATED = LesionKind
IOU, ANY = DetectionOptions(), DetectionOptions(hit="any")


def drawing(*rows: str) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return probabilities and what is drawn: digits are tenths of probability, capitals A to I the same on a lesion.

    `.` is 0, `#` a lesion with probability 0.
    """
    cells = np.array([list(row) for row in rows])
    drawn = np.isin(cells, list("ABCDEFGHI#"))
    tenths = {**{str(n): n for n in range(1, 10)}, **{letter: n for n, letter in enumerate("ABCDEFGHI", 1)}}
    return np.vectorize(lambda cell: tenths.get(cell, 0) / 10)(cells).astype(float), drawn


def test_one_voxel_lesions_at_the_corners_are_found_and_missed() -> None:
    found = lesions_of(*drawing("I...#", ".....", "....7"), IOU)
    assert found.kinds.tolist() == [FOUND, MISSED, FALSE_ALARM]
    assert found.scores.tolist() == [0.9, 0.0, 0.7]
    assert found.voxels.tolist() == [1, 1, 1]
    assert found.overlaps.tolist() == [1.0, 0.0, 0.0]
    assert found.centres.tolist() == [[0, 0], [0, 4], [2, 4]]


def test_nothing_predicted_and_nothing_drawn() -> None:
    probabilities, drawn = drawing("..##", "....")
    missed = lesions_of(probabilities, drawn, IOU)
    assert (missed.kinds.tolist(), missed.voxels.tolist()) == ([MISSED], [2])
    empty = lesions_of(probabilities, np.zeros_like(drawn), IOU)
    assert len(empty) == 0
    assert empty.centres.shape == (0, 2)


def test_the_threshold_itself_counts_and_just_below_does_not() -> None:
    found = lesions_of(np.array([[0.5, 0.0, 0.49]]), np.zeros((1, 3), np.bool_), IOU)
    assert (found.kinds.tolist(), found.scores.tolist()) == ([FALSE_ALARM], [0.5])


def test_voxels_that_share_a_corner_are_one_lesion() -> None:
    numbers, count = components(np.eye(3, dtype=np.bool_))
    assert count == 1
    corner = np.zeros((2, 2, 2), np.bool_)
    corner[0, 0, 0] = corner[1, 1, 1] = True
    assert components(corner)[1] == 1
    assert component_scores(np.diag(numbers), count, np.array([0.2, 0.9, 0.4])).tolist() == [0.9]


def test_two_predicted_lesions_on_one_find_it_once_and_neither_is_a_false_alarm() -> None:
    found = lesions_of(*drawing("HH##FFF"), IOU)  # overlaps of 2/7 and 3/7
    assert found.kinds.tolist() == [FOUND, REPEATED]
    assert found.scores.tolist() == [0.6, 0.8]  # the larger overlap is the match
    assert found.overlaps[0] == pytest.approx(3 / 7)


def test_one_predicted_lesion_over_two_finds_one_of_them() -> None:
    found = lesions_of(*drawing("GG7GGGG"), IOU)
    assert found.kinds.tolist() == [MISSED, FOUND]
    assert found.overlaps.tolist() == [0.0, pytest.approx(4 / 7)]
    any_overlap = lesions_of(*drawing("GG7GGGG"), ANY)
    assert any_overlap.kinds.tolist() == [MISSED, FOUND]


def test_many_pairs_go_before_much_overlap() -> None:
    # The left prediction overlaps the small lesion by 2/8 and the large one by 5/11, the right one the large by 2/8.
    found = lesions_of(*drawing("FF6FFFFF#HH"), IOU)
    assert (found.kinds.tolist(), found.scores.tolist()) == ([FOUND, FOUND], [0.6, 0.8])
    assert found.overlaps.tolist() == [0.25, 0.25]


def test_an_overlap_below_the_least_is_a_miss_and_a_false_alarm_unless_any_voxel_will_do() -> None:
    picture = drawing("A#########", "I.........", "9999999999")
    assert lesions_of(*picture, DetectionOptions(least_iou=0.5)).kinds.tolist() == [MISSED, FALSE_ALARM]
    exactly = np.zeros((1, 12)), np.zeros((1, 12), np.bool_)
    exactly[0][0, :2], exactly[1][0, 1:10] = 0.9, True  # 1 of 10 voxels
    assert lesions_of(*exactly, IOU).kinds.tolist() == [FOUND]
    assert lesions_of(*exactly, DetectionOptions(least_iou=0.11)).kinds.tolist() == [MISSED, FALSE_ALARM]
    assert lesions_of(*exactly, ANY).kinds.tolist() == [FOUND]


@pytest.mark.parametrize("shape", [(23, 31), (11, 13, 9)])
def test_against_a_plain_count(shape: tuple[int, ...]) -> None:
    generator = np.random.default_rng(len(shape))
    smooth = ndimage.gaussian_filter(generator.normal(size=shape), 1)
    smooth /= smooth.std()
    drawn = smooth > 1.5
    probabilities = np.clip(0.1 + 0.3 * smooth + 0.1 * generator.normal(size=shape), 0, 1)
    found = lesions_of(probabilities, drawn, ANY)
    structure = np.ones((3,) * len(shape))
    truth, lesions = ndimage.label(drawn, structure)
    numbers, count = ndimage.label(probabilities >= 0.5, structure)
    assert count > 1
    assert lesions > 1
    assert int((found.kinds <= MISSED).sum()) == lesions
    assert found.voxels[:lesions].tolist() == [int((truth == n + 1).sum()) for n in range(lesions)]
    alone = [n for n in range(1, count + 1) if not drawn[numbers == n].any()]
    alarms = found.kinds == FALSE_ALARM
    assert found.scores[alarms].tolist() == [probabilities[numbers == n].max() for n in alone]
    assert int((found.kinds != MISSED).sum()) == count
