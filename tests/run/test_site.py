"""A site that lacks labels of one state: which calibration each class has then."""

import pytest

from labelassemble.evaluation.calibration import Calibration, ClassCalibration, OperatingRule
from labelassemble.run.site import whole_calibration

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
