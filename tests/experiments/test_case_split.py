"""Patients are divided once, evenly, and the same for every arm."""

from pathlib import Path

import numpy as np
import pytest

from labelassemble.data.new_table import new_table
from labelassemble.data.states import NEGATIVE, POSITIVE
from labelassemble.data.text import text_array
from labelassemble.errors import LabelAssembleError
from labelassemble.experiments.case_split import CaseSplit, split_cases
from labelassemble.experiments.dataset import Dataset
from labelassemble.experiments.experiment import Part

PARTS = (Part(name="a", images=0.5, labels="interest"), Part(name="b", images="all", labels="others"))


def _dataset(patients: int = 60, slices: int = 3) -> Dataset:
    """Return cases of patients, each with one of three classes in the first of its slices."""
    rows = patients * slices
    patient = np.arange(rows) // slices
    labels = np.full((rows, 3), NEGATIVE, np.int8)
    labels[np.arange(rows), patient % 3] = np.where(np.arange(rows) % slices == 0, POSITIVE, NEGATIVE)
    table = new_table(
        ("x", "y", "z"),
        paths=text_array([f"f.npz::images::{row}" for row in range(rows)]),
        names=text_array([f"{row}" for row in range(rows)]),
        labels=labels,
        sources="s",
        groups=text_array([f"p{one}" for one in patient]),
    )
    return Dataset(table, Path("f.npz"), "")


def _split(dataset: Dataset, fold: int, *, seed: int = 0, validation: int | None = 6) -> CaseSplit:
    return split_cases(dataset, PARTS, size="all", seed=seed, fold=fold, folds=3, validation=validation)


def test_every_patient_is_tested_once_and_is_in_one_place_of_a_fold() -> None:
    dataset = _dataset()
    tested = []
    for fold in range(3):
        split = _split(dataset, fold)
        places = [split.parts["a"], split.parts["b"], split.validation, split.test]
        assert np.array_equal(np.sort(np.concatenate(places)), np.arange(180))
        patients = [set(dataset.table.groups[rows].tolist()) for rows in places]
        assert [len(of) for of in patients] == [17, 17, 6, 20]
        assert len(set.union(*patients)) == sum(map(len, patients))
        tested.append(split.test)
    assert np.array_equal(np.sort(np.concatenate(tested)), np.arange(180))


def test_classes_are_spread_evenly_over_folds_and_parts() -> None:
    dataset = _dataset(90)
    split = _split(dataset, 1, validation=None)
    for rows, least in (
        (split.test, 10),
        (split.validation, 2),
        (split.parts["a"], 6),
        (split.parts["b"], 6),
    ):
        shown = (dataset.table.labels[rows] == POSITIVE).sum(axis=0)
        assert shown.min() >= least, shown


def test_a_seed_deals_anew_and_the_same_seed_deals_the_same() -> None:
    dataset = _dataset()
    first, again, other = (_split(dataset, 0, seed=seed) for seed in (0, 0, 1))
    assert np.array_equal(first.parts["a"], again.parts["a"])
    assert not np.array_equal(first.test, other.test)


def test_parts_of_a_fixed_number_are_served_first_wherever_they_stand() -> None:
    small, large = (
        split_cases(
            _dataset(),
            [Part(name="rest", images="all"), Part(name="sized"), Part(name="ten", images=10)],
            size=size,
            seed=0,
            fold=0,
            folds=3,
            validation=6,
        ).parts
        for size in (4, 8)
    )
    assert {name: len(rows) // 3 for name, rows in small.items()} == {"ten": 10, "sized": 4, "rest": 20}
    assert small["ten"].tolist() == large["ten"].tolist()
    assert set(small["sized"].tolist()) < set(large["sized"].tolist())


def test_too_few_patients() -> None:
    with pytest.raises(
        LabelAssembleError, match="3 patients are too few for 3 folds and 6 patients of validation"
    ):
        _split(_dataset(3), 0)
    with pytest.raises(LabelAssembleError, match="part 'c' takes 50 training patients, but 34 are left"):
        split_cases(
            _dataset(),
            [Part(name="c", images=50)],
            size="all",
            seed=0,
            fold=0,
            folds=3,
            validation=6,
        )
