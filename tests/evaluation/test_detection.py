"""Detection: what is kept of a case, patients as predictions, figures over lesions."""

from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from labelassemble.data.states import NEGATIVE, POSITIVE, UNCERTAIN, UNKNOWN, LabelOrigin
from labelassemble.data.table import Table
from labelassemble.detection_options import DetectionOptions
from labelassemble.errors import LabelAssembleError
from labelassemble.evaluation.detection import Detection, evaluate_detection, patients_of
from labelassemble.evaluation.detection_case import CaseRecord, DetectionCase, record_case, slice_scores
from labelassemble.evaluation.lesion_figures import LesionSums, lesion_values
from labelassemble.report.detection_text import detection_text

pytest.importorskip("monai")

OPTIONS = DetectionOptions()


def table_of(
    labels: Sequence[Sequence[int]],
    *,
    groups: Sequence[str] = (),
    splits: Sequence[str] = (),
    sources: Sequence[str] = (),
    origins: Sequence[Sequence[int]] = (),
    classes: Sequence[str] = ("PDAC", "cyst"),
) -> Table:
    """Return a table with a row a case."""
    rows = len(labels)
    return Table(
        classes=tuple(classes[: len(labels[0])]),
        paths=[f"{row}.nii" for row in range(rows)],
        names=[f"n{row}" for row in range(rows)],
        groups=groups or [""] * rows,
        splits=splits or ["test"] * rows,
        sources=sources or ["s"] * rows,
        labels=np.array(labels, np.int8),
        origins=np.array(origins if len(origins) else np.zeros((rows, len(labels[0]))), np.uint8),
    )


def case(
    probabilities: Sequence[object],
    labels: Sequence[int],
    mask: Sequence[object] | None = None,
    values: Mapping[int, int] | None = None,
    spacing: tuple[float, ...] | None = None,
) -> DetectionCase:
    """Return a case from lists."""
    drawn = None if mask is None else np.array(mask)
    return DetectionCase(
        np.array(probabilities, float), np.array(labels, np.int8), drawn, values or {}, spacing
    )


ROW = [[0.9, 0.0, 0.6]]


def test_what_is_not_known_of_a_case_is_not_counted() -> None:
    mask = [[1, 0, 0]]
    drawn = record_case(case([ROW, ROW], [1, -1], mask, {1: 0}), OPTIONS)
    assert drawn.classes[1] is None  # neither drawn nor stated
    assert drawn.classes[0] is not None
    assert drawn.classes[0].lesions.kinds.tolist() == [0, 2]
    absent = record_case(case([ROW, ROW], [1, 0], mask, {1: 0}), OPTIONS)
    assert absent.classes[1] is not None  # stated to be absent: all that is predicted is a false alarm
    assert absent.classes[1].lesions.kinds.tolist() == [2, 2]
    assert absent.classes[1].dice is None
    somewhere = record_case(case([ROW, ROW], [1, 1], mask, {1: 0}), OPTIONS)
    assert somewhere.classes[1] is None  # present, but nobody said where
    nothing = record_case(case([ROW, ROW], [-1, -1]), OPTIONS)
    assert nothing.classes == (None, None)
    assert nothing.peaks.tolist() == [0.9, 0.9]  # the patient has a score all the same


def test_several_values_of_a_mask_are_one_class() -> None:
    record = record_case(case([[[0.9, 0.9, 0.9]]], [1], [[1, 2, 3]], {1: 0, 3: 0}), OPTIONS)
    assert record.classes[0] is not None
    assert record.classes[0].dice == pytest.approx(2 * 2 / (2 + 3))
    assert len(record.classes[0].lesions) == 2


def test_dice_and_surface_where_truth_or_prediction_is_empty() -> None:
    empty = [[0.1, 0.1, 0.1]]
    missed = record_case(case([empty], [1], [[0, 1, 0]], {1: 0}), OPTIONS).classes[0]
    assert missed is not None
    assert (missed.dice, missed.surface) == (0.0, 0.0)
    clean = record_case(case([empty], [0], [[0, 0, 0]], {1: 0}), OPTIONS).classes[0]
    assert clean is not None
    assert (clean.dice, clean.surface, len(clean.lesions)) == (None, None, 0)


@pytest.mark.parametrize(
    ("spacing", "share"),
    [
        ((1.0, 1.0), 1.0),  # two columns beside the lesion: 2 mm
        ((1.0, 1.5), 0.0),  # 3 mm
        (None, 1.0),
    ],
)
def test_the_surface_is_measured_in_mm(spacing: tuple[float, ...] | None, share: float) -> None:
    probabilities, mask = np.zeros((1, 9, 9)), np.zeros((9, 9), np.uint8)
    probabilities[0, 2:7, 4], mask[2:7, 2] = 0.9, 1
    record = record_case(case(probabilities.tolist(), [1], mask.tolist(), {1: 0}, spacing), OPTIONS).classes[
        0
    ]
    assert record is not None
    assert record.surface == share


def test_figures_do_not_depend_on_the_empty_rest_and_lesions_at_the_border_count_as_others() -> None:
    probabilities, mask = np.zeros((1, 6, 7, 5)), np.zeros((6, 7, 5), np.uint8)
    probabilities[0, :3, :2, 3:], mask[:2, :3, 3:] = 0.8, 1  # touches three borders
    wide = np.pad(probabilities, [(0, 0), (2, 2), (2, 2), (2, 2)]), np.pad(mask, 2)
    near, far = (
        record_case(DetectionCase(p, np.array([1], np.int8), m, {1: 0}, (1.0, 1.0, 2.5)), OPTIONS)
        for p, m in ((probabilities, mask), wide)
    )
    a, b = near.classes[0], far.classes[0]
    assert a is not None
    assert b is not None
    assert (a.dice, a.surface) == (b.dice, b.surface)
    assert a.dice == pytest.approx(2 * 8 / (12 + 12))
    assert (a.lesions.kinds.tolist(), a.lesions.voxels.tolist()) == ([0], [12])
    assert near.voxel_ml == pytest.approx(0.0025)
    assert (near.slices, far.slices) == (5, 9)


def test_the_score_of_a_slice_is_the_mean_of_its_top_voxels() -> None:
    one = np.arange(100).reshape(10, 10) / 100
    assert slice_scores(one, 0.01).tolist() == [0.99]
    assert slice_scores(one, 0.05).tolist() == [pytest.approx(0.97)]
    assert slice_scores(one, 1e-9).tolist() == [0.99]  # at least one
    assert slice_scores(one, 1.0).tolist() == [pytest.approx(one.mean())]
    volume = np.stack([one, one / 2, 0 * one], axis=-1)
    assert slice_scores(volume, 0.01).tolist() == [0.99, 0.495, 0.0]


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (
            case([[[0.1, 0.2]]], [1], [[1]], {1: 0}),
            r"the mask of the case must have the shape .* \[1, 2\], got \[1, 1\]",
        ),
        (case([[[0.1, np.nan]]], [1]), "probabilities of the case must be numbers from 0 to 1, got nan"),
        (case([[[0.1, 1.5]]], [1]), "must be numbers from 0 to 1, got 0.1 to 1.5"),
        (
            case([[0.1, 0.2]], [1]),
            r"must have the shape \[C, \*s\] with two or three dimensions, got \[1, 2\]",
        ),
        (case([[[0.1, 0.2]]], [1, 0]), r"one entry per class, \[1\], got \[2\]"),
        (case([[[0.1, 0.2]]], [1], spacing=(1.0,)), r"one number per dimension \(2\), got \[1.0\]"),
    ],
)
def test_what_is_wrong_with_a_case_is_one_sentence(wrong: DetectionCase, sentence: str) -> None:
    with pytest.raises(LabelAssembleError, match=sentence):
        record_case(wrong, OPTIONS)


def record_with(*scores: float, slices: int = 1) -> CaseRecord:
    """Return a record without known voxels; every slice of a class has the same score."""
    values = np.array(scores)
    return CaseRecord(slices, values * slices, values, (None,) * len(scores), None)


def test_patients_have_the_mean_over_all_their_slices_and_the_states_of_all_their_cases() -> None:
    labels = [[1, 0], [0, 0], [0, -1], [0, 0], [-1, -2], [-1, 0]]
    table = table_of(labels, groups=["a", "a", "b", "b", "", ""], splits=["test"] * 4 + ["val"] * 2)
    records = [record_with(0.8, 0.1, slices=3), record_with(0.4, 0.3), *[record_with(0.5, 0.2)] * 4]
    found = patients_of(table, records, OPTIONS)
    assert found.paths.tolist() == ["a", "b", "4.nii", "5.nii"]
    assert found.splits.tolist() == ["test", "test", "val", "val"]
    assert found.labels.tolist() == [
        [POSITIVE, NEGATIVE],
        [NEGATIVE, UNKNOWN],  # one of two cases is not known
        [UNKNOWN, UNCERTAIN],
        [UNKNOWN, NEGATIVE],
    ]
    assert found.probabilities[0].tolist() == [pytest.approx((3 * 0.8 + 0.4) / 4), pytest.approx(0.6 / 4)]
    highest = patients_of(table, records, DetectionOptions(patient_score="maximum"))
    assert highest.probabilities[0].tolist() == [0.8, 0.3]


def test_what_is_assumed_of_one_case_is_assumed_of_the_patient() -> None:
    rule = int(LabelOrigin.EXCLUSIVE)
    labels, origins = [[1, 0], [0, 0], [1, 1], [1, 0]], [[0, rule], [rule, 0], [rule, 0], [0, 0]]
    found = patients_of(
        table_of(labels, groups=["a", "a", "b", "b"], origins=origins), [record_with(0.5, 0.5)] * 4, OPTIONS
    )
    assert found.labels.tolist() == [[1, 0], [1, 1]]
    assert found.origins.tolist() == [[0, rule], [0, 0]]


def picture(hit: float = 0.0, alarm: float = 0.0) -> list[list[float]]:
    """Return a slice of 12 x 12: probability `hit` where the lesion is, `alarm` elsewhere."""
    pixels = np.zeros((12, 12))
    pixels[2:4, 2:4], pixels[8:10, 8:10] = hit, alarm
    return pixels.tolist()


MASK = (np.array(picture(1.0)) > 0).astype(np.uint8).tolist()


def detected(cases: Sequence[DetectionCase], table: Table, **options: object) -> Detection:
    """Return the evaluation of cases."""
    settings = DetectionOptions.model_validate(options)
    return evaluate_detection(table, [record_case(one, settings) for one in cases], settings, bootstrap=50)


def test_a_class_is_counted_where_it_is_drawn_or_stated_and_nowhere_else() -> None:
    cases = [
        case([picture(0.9), picture(0.9)], [1, -1], MASK, {1: 0}),  # found; cyst unknown
        case(
            [picture(0.0, 0.8), picture()], [1, 0], MASK, {1: 0}
        ),  # missed and a false alarm; no cyst stated
        case([picture(0.7, 0.6), picture(0.6)], [-1, 1]),  # nobody says where: no voxel counts
        case([picture(0.7), picture(0.6)], [-1, -1]),
    ]
    table = table_of([[1, -1], [1, 0], [-1, 1], [-1, -1]])
    found = detected(cases, table)
    pdac, cyst = found.classes
    assert (pdac.cases, pdac.unknown, pdac.drawn, pdac.lesions, pdac.found, pdac.alarms) == (2, 2, 2, 2, 1, 1)
    assert (cyst.cases, cyst.unknown, cyst.drawn, cyst.lesions, cyst.alarms) == (1, 3, 0, 0, 0)
    assert pdac.figures.dice.value == pytest.approx(0.5)
    assert pdac.figures.hit_rate.value == 0.5
    assert pdac.figures.alarms_per_case.value == 0.5
    assert cyst.figures.dice.value is None  # no lesion anywhere
    assert cyst.figures.hit_rate.value is None
    assert cyst.figures.average_precision.value is None
    assert cyst.curve is None
    assert cyst.figures.alarms_per_case.value == 0.0
    assert [result.patients for result in found.evaluation.classes] == [2, 2]
    assert found.evaluation.classes[1].auroc == 1.0


def test_a_class_without_a_known_voxel_is_not_defined() -> None:
    found = detected([case([picture(0.9)], [1]), case([picture()], [-1])], table_of([[1], [-1]]))
    [only] = found.classes
    assert (only.cases, only.patients, only.lesions) == (0, 0, 0)
    assert {
        estimate.value for estimate in (only.figures.dice, only.figures.hit_rate, *only.figures.froc)
    } == {None}
    assert only.figures.alarms_per_case.value is None


def test_sizes_are_in_ml_where_the_spacing_of_volumes_is_known() -> None:
    volume = np.array([picture(0.9), picture()]).transpose(1, 2, 0)
    mask = np.array([MASK, MASK]).transpose(1, 2, 0)
    one = DetectionCase(volume[None], np.array([1], np.int8), mask, {1: 0}, (2.0, 2.0, 5.0))
    [result] = detected([one], table_of([[1]])).classes
    assert (result.unit, result.sizes.tolist(), result.sizes_found.tolist()) == (
        "ml",
        [8 * 20 / 1000],
        [True],
    )
    [flat] = detected([case([picture(0.9)], [1], MASK, {1: 0}, (1.0, 1.0))], table_of([[1]])).classes
    assert (flat.unit, flat.sizes.tolist()) == ("voxels", [4.0])


def test_thresholds_of_patients_are_chosen_on_validation() -> None:
    values = [*np.linspace(0.1, 0.3, 50).tolist(), 0.9, 0.15, 0.35, 0.95]
    labels = [[0]] * 50 + [[1], [0], [1], [1]]
    table = table_of(labels, splits=["val"] * 51 + ["test"] * 3)
    found = evaluate_detection(table, [record_with(value) for value in values], OPTIONS, bootstrap=0)
    [result] = found.evaluation.classes
    at_90, at_95, at_98 = result.operating_points
    assert (at_90.threshold, at_98.threshold) == pytest.approx((values[45], values[49]))
    for point in (at_90, at_95, at_98):
        assert (point.sensitivity.successes, point.sensitivity.trials) == (2, 2)
        assert point.sensitivity.interval is not None
    assert result.correction == ""
    assert result.no_correction == "the score is no probability"


@pytest.mark.parametrize(
    ("negatives", "given"), [(50, [0.9, 0.95, 0.98]), (49, [0.9, 0.95]), (19, [0.9]), (9, [])]
)
def test_a_specificity_that_too_few_validation_patients_can_tell_is_not_given(
    negatives: int, given: list[float]
) -> None:
    values = [*np.linspace(0.1, 0.3, negatives).tolist(), 0.9, 0.15, 0.35]
    labels = [[0]] * negatives + [[1], [0], [1]]
    table = table_of(labels, splits=["val"] * (negatives + 1) + ["test"] * 2)
    found = evaluate_detection(table, [record_with(value) for value in values], OPTIONS, bootstrap=0)
    [result] = found.evaluation.classes
    assert [point.target for point in result.operating_points] == given
    text = detection_text(found)
    for target, needed in ((0.9, 10), (0.95, 20), (0.98, 50)):
        line = f"- {result.name} at {100 * target:g}%: "
        missing = f"{line}not given, {negatives} of {needed} validation patients without it"
        assert (missing in text) == (target not in given)
        assert line in text
    assert ("cannot be given: the threshold takes at least" in text) == (len(given) < 3)


def test_results_by_source_are_those_of_its_cases() -> None:
    cases = [case([picture(0.9)], [1], MASK, {1: 0}), case([picture(0.0, 0.9)], [1], MASK, {1: 0})]
    found = detected([*cases, cases[0]], table_of([[1]] * 3, sources=["s", "t", "t"]))
    assert [(r.source, r.lesions, r.found, r.alarms) for r in found.by_source] == [
        ("s", 1, 1, 0),
        ("t", 2, 1, 1),
    ]


def test_a_resample_counts_a_patient_as_often_as_it_is_taken() -> None:
    generator = np.random.default_rng(0)
    patients, events = 5, 30

    def sums(taken: Sequence[int]) -> LesionSums:
        """Return the sums where each patient stands as often as it is taken, as a patient of its own each time."""
        picked = np.repeat(np.arange(patients), taken)
        rows = [np.flatnonzero(whose == patient) for patient in picked]
        chosen = np.concatenate(rows).astype(int)
        copies = np.repeat(np.arange(len(picked)), [len(row) for row in rows])
        order = np.argsort(-scores[chosen], kind="stable")
        columns = [of[picked] for of in numbers]
        return LesionSums(*columns, scores[chosen][order], hits[chosen][order], copies[order])

    whose, scores = generator.integers(0, patients, events), generator.integers(1, 9, events) / 10
    hits = generator.random(events) < 0.5
    count: list[NDArray[np.float64]] = [
        np.bincount(whose[of], minlength=patients).astype(float) for of in (hits, ~hits)
    ]
    cases = np.array([1.0, 2, 3, 1, 1])
    numbers = [cases, count[0] + 2, count[0], count[1], cases * 0.3, cases * 0.4, cases]
    for taken in ([1, 1, 1, 1, 1], [0, 3, 1, 0, 1], [5, 0, 0, 0, 0]):
        plain = lesion_values(sums(taken), np.ones((sum(taken), 1)))[:, 0]
        weighed = lesion_values(sums([1] * patients), np.array(taken, float)[:, None])[:, 0]
        assert weighed.tolist() == pytest.approx(plain.tolist(), abs=1e-12, nan_ok=True)
