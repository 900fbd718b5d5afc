"""Dealing: nested sizes, disjoint parts, the same images for every arm, labels only where a part gives them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from labelassemble.errors import LabelAssembleError
from labelassemble.experiments.dealing import Dealt, deal
from labelassemble.experiments.settings import Part
from labelassemble.experiments.stack import Stack

CLASSES = ("eight", "one", "two")


@pytest.fixture
def stack() -> Stack:
    targets = np.eye(3, dtype=np.float32)[np.arange(90) % 3]
    splits = np.where(np.arange(90) < 60, "train", "test")
    return Stack(Path("x.npz"), CLASSES, targets, splits, np.arange(90).astype("U"), "f")


def _deal(
    stack: Stack, parts: list[Part], size: int | str = 5, seed: int = 0, chosen: list[str] | None = None
) -> Dealt:
    return deal(stack, parts, chosen=chosen, interest="eight", other="two", size=size, seed=seed)


def test_labels_are_those_of_the_part(stack: Stack) -> None:
    parts = [
        Part(name="clinic", images="size", labels="interest"),
        Part(name="archive", images=10, labels="others"),
        Part(name="pair", images=4, labels="other"),
        Part(name="named", images=3, labels=("one",)),
    ]
    dealt = _deal(stack, parts)
    known = ~np.isnan(dealt.targets)
    assert known[:5].tolist() == [[True, False, False]] * 5
    assert known[5:15].tolist() == [[False, True, True]] * 10
    assert known[15:19].tolist() == [[False, False, True]] * 4
    assert known[19:].tolist() == [[False, True, False]] * 3
    assert (dealt.targets[known] == dealt.truth[known]).all()
    assert len(set(dealt.rows.tolist())) == 22
    assert dealt.rows.max() < 60  # training images alone
    assert not np.isnan(dealt.truth).any()


def test_greater_sizes_hold_lesser_ones_and_fixed_parts_stay(stack: Stack) -> None:
    parts = [Part(name="clinic", images="size"), Part(name="archive", images=10)]
    small, large = _deal(stack, parts, 5), _deal(stack, parts, 20)
    assert large.rows[:5].tolist() == small.rows[:5].tolist()
    assert large.rows[20:].tolist() == small.rows[5:].tolist()
    assert _deal(stack, parts, 5, chosen=["clinic"]).rows.tolist() == small.rows[:5].tolist()
    assert _deal(stack, parts, 5, seed=1).rows.tolist() != small.rows.tolist()


def test_positives_are_counted(stack: Stack) -> None:
    parts = [Part(name="clinic", images="size", times=3, positives="size", labels="interest")]
    dealt = _deal(stack, parts, 4)
    assert len(dealt.rows) == 12
    assert dealt.targets[:, 0].tolist() == [1.0] * 4 + [0.0] * 8
    grown = _deal(stack, parts, 6)
    assert set(dealt.rows.tolist()) <= set(grown.rows.tolist())


def test_all_takes_what_is_left(stack: Stack) -> None:
    parts = [Part(name="rest", images="size"), Part(name="few", images=10)]
    assert len(_deal(stack, parts, "all").rows) == 60


def test_more_than_there_is(stack: Stack) -> None:
    with pytest.raises(LabelAssembleError, match="part 'a' takes 61 training images, but 60 are left"):
        _deal(stack, [Part(name="a", images=61)])
    with pytest.raises(LabelAssembleError, match="takes 25 positives among 30 images, but 20 positives"):
        _deal(stack, [Part(name="a", images=30, positives=25)])


def test_a_share_is_of_all_training_images(stack: Stack) -> None:
    parts = [Part(name="few", images=10), Part(name="half", images=0.5), Part(name="rest", images="all")]
    dealt = _deal(stack, parts)
    assert [int((dealt.parts == name).sum()) for name in ("few", "half", "rest")] == [10, 30, 20]
    with pytest.raises(LabelAssembleError, match="part 'b' takes 54 training images, but 50 are left"):
        _deal(stack, [Part(name="a", images=10), Part(name="b", images=0.9)])


def test_without_a_class_of_interest(stack: Stack) -> None:
    dealt = deal(
        stack,
        [Part(name="a", images=20, labels=("eight", "two"))],
        chosen=None,
        interest=None,
        other=None,
        size="all",
        seed=0,
    )
    assert (~np.isnan(dealt.targets)).all(axis=0).tolist() == [True, False, True]


@pytest.fixture
def several(stack: Stack) -> Stack:
    """The images by turns of a clinic, where one lacks its label, and of an archive, assumed to have no eight."""
    clinic = np.arange(90) // 3 % 2 == 0
    targets = stack.targets.copy()
    targets[0, 0] = np.nan
    assumed = np.stack([~clinic, np.zeros(90, np.bool_), np.zeros(90, np.bool_)], axis=1)
    return replace(stack, targets=targets, sources=np.where(clinic, "clinic", "archive"), assumed=assumed)


def test_a_part_takes_images_of_its_sources(several: Stack) -> None:
    parts = [
        Part(name="labelled", images=9, labels="interest", sources=("clinic", "elsewhere")),
        Part(name="old", images="all", labels="others", sources=("archive",)),
    ]
    dealt = _deal(several, parts)
    assert several.sources is not None
    assert set(several.sources[dealt.rows[:9]]) == {"clinic"}
    assert sorted(dealt.rows[9:]) == [row for row in range(60) if row // 3 % 2]
    with pytest.raises(LabelAssembleError, match="takes 31 training images, but 30 are left"):
        _deal(several, [Part(name="a", images=31, sources=("clinic",))])


def test_assumed_labels_are_truth_and_not_trained_on(several: Stack) -> None:
    dealt = _deal(several, [Part(name="old", images="all", sources=("archive",))])
    assert np.isnan(dealt.targets[:, 0]).all()
    assert not np.isnan(dealt.truth[:, 0]).any()
    assert not np.isnan(dealt.targets[:, 1:]).any()


def test_where_positives_are_counted_images_are_labelled(several: Stack) -> None:
    part = Part(name="clinic", images=29, positives=9, labels="interest")
    assert not np.isnan(_deal(several, [part]).targets[:, 0]).any()
    with pytest.raises(LabelAssembleError, match="but 9 positives and 20 others are left"):
        _deal(several, [Part(name="clinic", images=29, positives=8)])


def test_sources_that_are_not_there(several: Stack, stack: Stack) -> None:
    part = Part(name="far", sources=("moon", "mars"))
    with pytest.raises(
        LabelAssembleError,
        match="part 'far' takes images of moon, mars, but the sources of the dataset are archive, clinic",
    ):
        _deal(several, [part])
    with pytest.raises(LabelAssembleError, match="the sources of the dataset are not known"):
        _deal(stack, [part])
