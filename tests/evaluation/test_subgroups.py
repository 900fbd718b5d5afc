"""Evaluation by subgroups: the same figures as on the subgroup's images alone, what is missing, and the gap."""

from dataclasses import replace

import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError

from labelassemble.data.subgroup_options import AgeBands, SubgroupNames
from labelassemble.data.text import text_array
from labelassemble.evaluation import Predictions, calibrate, evaluate
from labelassemble.evaluation.subgroups import MOST, age_band_names, subgroup_values


def make(size: int = 900, seed: int = 0, shift: float = 0.0, **subgroups: list[str]) -> Predictions:
    """Images of `size` / 3 patients; the model is worse by `shift` on the images of women."""
    rng = np.random.default_rng(seed)
    patients = rng.integers(0, size // 3, size)
    sex = np.array(["male", "female", ""])[rng.choice(3, size // 3, p=[0.5, 0.4, 0.1])][patients]
    labels = rng.choice(np.array([1, 0, 0, -1], dtype=np.int8), (size, 2))
    score = rng.normal(size=(size, 2)) + (labels == 1) * (1.5 - shift * (sex == "female"))[:, None]
    names = [f"{index}.png" for index in range(size)]
    return Predictions(
        ("Mass", "Edema"),
        paths=text_array(names),
        names=text_array(names),
        groups=text_array([f"p{patient}" for patient in patients]),
        splits=text_array(np.where(patients < size // 12, "val", "test").tolist()),
        sources=text_array(["h"] * size),
        labels=labels,
        origins=np.zeros(labels.shape, dtype=np.uint8),
        probabilities=1 / (1 + np.exp(-score)),
        subgroups={"sex": text_array(sex.tolist())} | {name: text_array(v) for name, v in subgroups.items()},
    )


def test_each_value_has_the_figures_of_its_images_alone() -> None:
    predictions = make()
    whole = evaluate(predictions)
    (sex,) = whole.subgroups
    assert [value.value for value in sex.values] == ["male", "female", "missing"]
    assert [value.apart for value in sex.values] == [True, True, False]
    test = predictions.subset_by_split("test")
    assert sex.missing == int((test.subgroups["sex"] == "").sum()) > 0
    for value in sex.values:
        own = test.select(test.subgroups["sex"] == value.value.replace("missing", ""))
        alone = evaluate(own, calibration=calibrate(predictions), bootstrap=0)
        assert value.images == len(own)
        for here, there in zip(value.classes, alone.classes, strict=True):
            assert replace(here, bootstrap=None, source_auroc=None, stratified=None) == replace(
                there, source_auroc=None, stratified=None
            )
            assert here.operating_points
            assert here.bootstrap is not None
            assert here.bootstrap.lower < here.auroc < here.bootstrap.upper  # type: ignore[operator]
    assert sum(value.images for value in sex.values) == whole.images


def test_the_gap_is_between_the_best_and_the_worst() -> None:
    (sex,) = evaluate(make(3000, shift=1.2)).subgroups
    for index, gap in enumerate(sex.gaps):
        male, female = (value.classes[index].auroc for value in sex.values[:2])
        assert (gap.best, gap.worst, gap.values) == ("male", "female", 2)
        assert gap.difference == pytest.approx(male - female)  # type: ignore[operator]
        assert gap.interval is not None
        assert 0 < gap.interval.lower < gap.difference < gap.interval.upper
    (sex,) = evaluate(make(3000, shift=1.2), bootstrap=0).subgroups
    assert sex.gaps[0].interval is None


def test_the_interval_of_a_gap_allows_for_picking_the_extremes() -> None:
    """Among eight values without any difference a gap is always found; its interval must hold 0 nearly always."""
    above, plain = 0, 0
    for seed in range(15):
        rng = np.random.default_rng(1000 + seed)
        site = rng.choice([f"s{index}" for index in range(8)], 1600).tolist()
        gap = evaluate(make(1600, seed), bootstrap=200).subgroups[0].gaps[0]
        plain += gap.interval is not None and gap.interval.lower > 0
        result = evaluate(make(1600, seed, site=site), bootstrap=200).subgroups[1]
        assert result.gaps[0].values == 8
        above += result.gaps[0].interval is not None and result.gaps[0].interval.lower > 0
    assert above <= 3
    assert plain <= 3


def test_equal_values_are_two_values() -> None:
    perfect = make(900)
    perfect = replace(perfect, probabilities=np.where(perfect.labels == 1, 0.9, 0.1))
    gap = evaluate(perfect, bootstrap=200).subgroups[0].gaps[0]
    assert (gap.difference, gap.interval, {gap.best, gap.worst}) == (0, None, {"male", "female"})


def test_values_with_few_cases_are_in_no_gap() -> None:
    size = 900
    rare = ["x"] * size
    rare[:3] = ["y"] * 3
    result = evaluate(make(size, scanner=rare)).subgroups[1]
    assert result.values[0].value == "x"
    assert result.gaps == ()


def test_ages_are_put_into_bands() -> None:
    ages = text_array(["0.5", "17.9", "18", "39", "39.9", "60", "95", "", "oops"])
    names, code = subgroup_values("age", ages)
    assert names == ("under 18", "18 to 39", "60 to 79", "80 and over")
    assert code.tolist() == [0, 0, 1, 1, 1, 2, 3, -1, -1]
    names, code = subgroup_values("Age", ages, (1, 65.5))
    assert names == ("under 1", "1 to under 65.5", "65.5 and over")
    assert code.tolist() == [0, 1, 1, 1, 1, 1, 2, -1, -1]
    assert age_band_names((65,)) == ("under 65", "65 and over")


def test_rare_values_are_taken_together() -> None:
    values = [f"v{index:02}" for index in range(MOST + 3) for _ in range(30 - index)] + [""]
    names, code = subgroup_values("site", text_array(values))
    assert names == tuple(f"v{index:02}" for index in range(MOST))
    assert np.bincount(code + 1).tolist() == [1, *(30 - index for index in range(MOST)), 18 + 17 + 16]
    size = 900
    sites = [f"s{index % (MOST + 5):02}" for index in range(size)]
    found = evaluate(make(size, site=sites), bootstrap=0).subgroups[1].values
    assert found[-1].value == "5 other values"
    assert not found[-1].apart


def test_a_subgroup_that_is_missing_everywhere_is_counted() -> None:
    result = evaluate(make(300, site=[""] * 300), bootstrap=0).subgroups[1]
    assert [value.value for value in result.values] == ["missing"]
    assert result.missing == result.values[0].images
    assert result.gaps == ()


def test_predictions_without_subgroups_have_none() -> None:
    assert evaluate(replace(make(300), subgroups={}), bootstrap=0).subgroups == ()


@pytest.mark.parametrize(
    ("kind", "value", "message"),
    [
        (SubgroupNames, ["sex", "sex"], "each subgroup must be named once, got 'sex' twice"),
        (SubgroupNames, [" sex"], "pattern"),
        (SubgroupNames, [""], "pattern"),
        (AgeBands, [60, 40], "age bands must begin at rising ages above 0 and up to 120 years, got 40"),
        (AgeBands, [0, 40], "got 0"),
        (AgeBands, [130], "got 130"),
        (AgeBands, [float("nan")], "got nan"),
        (AgeBands, [], "at least 1"),
    ],
)
def test_mistakes_in_the_configuration(kind: object, value: list[object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        TypeAdapter(kind).validate_python(value)
