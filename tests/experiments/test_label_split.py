"""Splitting labels: nested sizes, disjoint parts, the same images for every arm, labels only where parts give them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from labelassemble.data import Table
from labelassemble.data.states import UNKNOWN, LabelOrigin
from labelassemble.errors import LabelAssembleError
from labelassemble.experiments.dataset import Dataset
from labelassemble.experiments.experiment import Part
from labelassemble.experiments.label_split import LabelSplit, labelled_classes, split_labels

CLASSES = ("eight", "one", "two")


@pytest.fixture
def dataset() -> Dataset:
    labels = np.eye(3, dtype=np.int8)[np.arange(90) % 3]
    numbers = np.arange(90).astype("U")
    table = Table(
        CLASSES,
        paths=numbers,
        names=numbers,
        sources=np.full(90, "one"),
        groups=numbers,
        splits=np.where(np.arange(90) < 60, "train", "test"),
        labels=labels,
        origins=np.zeros(labels.shape, np.uint8),
    )
    return Dataset(table, Path("x.npz"), "f")


def _split(
    dataset: Dataset, parts: list[Part], size: int | str = 5, seed: int = 0, chosen: list[str] | None = None
) -> LabelSplit:
    return split_labels(dataset, parts, chosen=chosen, interest="eight", other="two", size=size, seed=seed)


def _rows(split: LabelSplit) -> list[int]:
    return [int(path) for path in split.table.paths]


def test_labels_are_those_of_the_part(dataset: Dataset) -> None:
    parts = [
        Part(name="clinic", images="size", labels="interest"),
        Part(name="archive", images=10, labels="others"),
        Part(name="pair", images=4, labels="other"),
        Part(name="named", images=3, labels=("one",)),
    ]
    split = _split(dataset, parts)
    known = split.labels != UNKNOWN
    assert known[:5].tolist() == [[True, False, False]] * 5
    assert known[5:15].tolist() == [[False, True, True]] * 10
    assert known[15:19].tolist() == [[False, False, True]] * 4
    assert known[19:].tolist() == [[False, True, False]] * 3
    assert (split.labels[known] == split.table.labels[known]).all()
    assert len(set(_rows(split))) == 22
    assert max(_rows(split)) < 60  # training images alone


def test_the_others_are_halved() -> None:
    for labels, expected in (("others-a", ("b", "d")), ("others-b", ("c",)), ("others", ("b", "c", "d"))):
        part = Part(name="archive", labels=labels)
        assert labelled_classes(part, ("b", "c", "a", "d"), "a", None) == expected


def test_greater_sizes_hold_lesser_ones_and_fixed_parts_stay(dataset: Dataset) -> None:
    parts = [Part(name="clinic", images="size"), Part(name="archive", images=10)]
    small, large = _split(dataset, parts, 5), _split(dataset, parts, 20)
    assert _rows(large)[:5] == _rows(small)[:5]
    assert _rows(large)[20:] == _rows(small)[5:]
    assert _rows(_split(dataset, parts, 5, chosen=["clinic"])) == _rows(small)[:5]
    assert _rows(_split(dataset, parts, 5, seed=1)) != _rows(small)


def test_positives_are_counted(dataset: Dataset) -> None:
    parts = [Part(name="clinic", images="size", times=3, positives="size", labels="interest")]
    split = _split(dataset, parts, 4)
    assert len(_rows(split)) == 12
    assert split.labels[:, 0].tolist() == [1] * 4 + [0] * 8
    grown = _split(dataset, parts, 6)
    assert set(_rows(split)) <= set(_rows(grown))


def test_all_takes_what_is_left(dataset: Dataset) -> None:
    parts = [Part(name="rest", images="size"), Part(name="few", images=10)]
    assert len(_rows(_split(dataset, parts, "all"))) == 60


def test_more_than_there_is(dataset: Dataset) -> None:
    with pytest.raises(LabelAssembleError, match="part 'a' takes 61 training images, but 60 are left"):
        _split(dataset, [Part(name="a", images=61)])
    with pytest.raises(LabelAssembleError, match="takes 25 positives among 30 images, but 20 positives"):
        _split(dataset, [Part(name="a", images=30, positives=25)])


def test_a_share_is_of_all_training_images(dataset: Dataset) -> None:
    parts = [Part(name="few", images=10), Part(name="half", images=0.5), Part(name="rest", images="all")]
    split = _split(dataset, parts)
    assert [int((split.parts == name).sum()) for name in ("few", "half", "rest")] == [10, 30, 20]
    with pytest.raises(LabelAssembleError, match="part 'b' takes 54 training images, but 50 are left"):
        _split(dataset, [Part(name="a", images=10), Part(name="b", images=0.9)])


def test_without_a_class_of_interest(dataset: Dataset) -> None:
    split = split_labels(
        dataset,
        [Part(name="a", images=20, labels=("eight", "two"))],
        chosen=None,
        interest=None,
        other=None,
        size="all",
        seed=0,
    )
    assert (split.labels != UNKNOWN).all(axis=0).tolist() == [True, False, True]


@pytest.fixture
def several(dataset: Dataset) -> Dataset:
    """The images by turns of a clinic, where one lacks its label, and of an archive, assumed to have no eight."""
    clinic = np.arange(90) // 3 % 2 == 0
    labels, origins = dataset.table.labels.copy(), dataset.table.origins.copy()
    labels[0, 0] = UNKNOWN
    origins[~clinic, 0] = LabelOrigin.ASSUME
    sources = np.where(clinic, "clinic", "archive")
    return replace(dataset, table=replace(dataset.table, labels=labels, origins=origins, sources=sources))


def test_a_part_takes_images_of_its_sources(several: Dataset) -> None:
    parts = [
        Part(name="labelled", images=9, labels="interest", sources=("clinic", "elsewhere")),
        Part(name="old", images="all", labels="others", sources=("archive",)),
    ]
    split = _split(several, parts)
    assert set(split.table.sources[:9]) == {"clinic"}
    assert sorted(_rows(split)[9:]) == [row for row in range(60) if row // 3 % 2]
    with pytest.raises(LabelAssembleError, match="takes 31 training images, but 30 are left"):
        _split(several, [Part(name="a", images=31, sources=("clinic",))])


def test_assumed_labels_are_truth_and_not_trained_on(several: Dataset) -> None:
    split = _split(several, [Part(name="old", images="all", sources=("archive",))])
    assert (split.labels[:, 0] == UNKNOWN).all()
    assert (split.table.labels[:, 0] != UNKNOWN).all()
    assert (split.labels[:, 1:] != UNKNOWN).all()


def test_where_positives_are_counted_images_are_labelled(several: Dataset) -> None:
    part = Part(name="clinic", images=29, positives=9, labels="interest")
    assert (_split(several, [part]).labels[:, 0] != UNKNOWN).all()
    with pytest.raises(LabelAssembleError, match="but 9 positives and 20 others are left"):
        _split(several, [Part(name="clinic", images=29, positives=8)])


def test_sources_that_are_not_there(several: Dataset) -> None:
    part = Part(name="far", sources=("moon", "mars"))
    with pytest.raises(
        LabelAssembleError,
        match="part 'far' takes images of moon, mars, but the sources of the dataset are archive, clinic",
    ):
        _split(several, [part])
