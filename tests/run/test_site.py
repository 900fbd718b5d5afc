"""A site that lacks labels of one state: which calibration each class has then."""

import numpy as np
import pytest

from labelassemble.data import Table
from labelassemble.data.new_table import new_table
from labelassemble.errors import LabelAssembleError
from labelassemble.evaluation.calibration import Calibration, ClassCalibration, OperatingRule
from labelassemble.run.site import divided, whole_calibration

OWN = Calibration(
    classes={
        name: ClassCalibration(
            positives=40,
            negatives=60,
            method="temperature",
            temperature=2.0,
            thresholds={"specificity=0.95": 0.4},
        )
        for name in ("both", "ill", "well", "none")
    }
)
SITE = Calibration(
    data="here",
    classes={
        "both": ClassCalibration(positives=9, negatives=9, thresholds={"specificity=0.95": 0.7}),
        "ill": ClassCalibration(positives=9),
        "well": ClassCalibration(negatives=9, thresholds={"specificity=0.95": 0.6}),
    },
)


@pytest.mark.parametrize(
    ("rule", "kept"),
    [
        ("specificity=0.95", {"ill": "“here” has no negative label among its 9 to choose by"}),
        ("sensitivity=0.9", {"well": "“here” has no positive label among its 9 to choose by"}),
    ],
)
def test_a_class_keeps_its_own_calibration_where_the_state_is_missing(rule, kept):
    found = whole_calibration(SITE, OWN, tuple(OWN.classes), OperatingRule.parse(rule))
    expected = kept | {"none": "“here” has no label to choose by"}
    assert {name: own.kept for name, own in found.classes.items() if own.kept} == expected
    for name, own in found.classes.items():
        assert own.model_copy(update={"kept": ""}) == (OWN if name in expected else SITE).of(name)
    assert found.chosen_on == f"the validation images of “here” ({', '.join(expected)}: of the run)"


def site(groups: list[str], splits: list[str]) -> Table:
    paths = [f"{row}.png" for row in range(len(groups))]
    labels = np.zeros((len(groups), 1), np.int8)
    return new_table(
        ["Edema"], paths=paths, names=paths, labels=labels, sources="here", groups=groups, splits=splits
    )


@pytest.mark.parametrize("share", [0.01, 0.5, 0.99])
@pytest.mark.parametrize("seed", range(5))
def test_of_two_patients_one_is_chosen_by(share: float, seed: int) -> None:
    found = divided(site(["a", "a", "b"], ["test"] * 3), share, seed, own_split=False)
    assert sorted(set(found.splits.tolist())) == ["test", "val"]
    assert found.splits[0] == found.splits[1]


def test_what_cannot_be_divided_is_one_sentence() -> None:
    with pytest.raises(
        LabelAssembleError, match=r"of 3 for a share of 0\.5 of the patients: they are of one"
    ):
        divided(site(["a"] * 3, ["test"] * 3), 0.5, 0, own_split=False)
    message = r"got 0 of 3 of the data's own split 'val' \(.* in one split: here train 2, test 1\)"
    with pytest.raises(LabelAssembleError, match=message):
        divided(site(["a", "a", "b"], ["train", "train", "test"]), 0.5, 0, own_split=True)
