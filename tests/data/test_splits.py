"""Splits: every group on one side, published ones kept, the same for ever; and the hashes they rest on."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from labelassemble.data import SplitOptions
from labelassemble.data.splits import split_by_group
from labelassemble.data.text import text_array, text_codes, text_hash, uniform_numbers

text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)


def test_the_hash_of_a_text_never_changes() -> None:
    """A change here would give every user another split for the same seed."""
    values = text_array(["", "a", "nih:1", "ü/\U0001f600.png"])
    assert [hex(value) for value in text_hash(values)] == [
        "0x8932c885a3fe960e",
        "0x51b51f0379b6dbf6",
        "0x686fd3d010cd9903",
        "0x8df15cd471735d86",
    ]
    assert [hex(value) for value in text_hash(values, seed=7)[:1]] == ["0xd64e53ba08eb4206"]


@settings(deadline=None)
@given(values=st.lists(text, max_size=20), longer=text)
def test_hashes_do_not_depend_on_the_other_texts(values: list[str], longer: str) -> None:
    array = text_array(values)
    among = text_array([*values, longer * 5])
    np.testing.assert_array_equal(text_hash(array), text_hash(among)[:-1])
    np.testing.assert_array_equal(uniform_numbers(array, 3), uniform_numbers(among, 3)[:-1])
    distinct, code = text_codes(array)
    assert distinct.tolist() == list(dict.fromkeys(values))
    assert distinct[code].tolist() == values


def test_the_numbers_are_uniform() -> None:
    numbers = uniform_numbers(text_array([f"p{index}" for index in range(20_000)]), seed=3)
    counts, _ = np.histogram(numbers, bins=20, range=(0, 1))
    assert counts.sum() == 20_000
    assert abs(counts - 1000).max() < 150  # five standard deviations


@settings(deadline=None)
@given(
    rows=st.lists(
        st.tuples(st.sampled_from(["", "trainval", "train", "val", "test"]), st.integers(0, 6)),
        min_size=1,
        max_size=40,
    ),
    seed=st.integers(0, 2**40),
)
def test_a_group_lies_on_one_side_and_published_splits_only_get_stricter(
    rows: list[tuple[str, int]], seed: int
) -> None:
    published = text_array([split for split, _ in rows])
    groups = text_array([f"p{group}" for _, group in rows])
    result = split_by_group(published, groups, SplitOptions(seed=seed))
    strict = {"": 0, "trainval": 1, "train": 1, "val": 2, "test": 3}
    for group in set(groups.tolist()):
        mine = groups == group
        sides = set(result.splits[mine].tolist())
        assert len(sides) == 1
        side = sides.pop()
        most = max(published[mine].tolist(), key=lambda split: (strict[split], split == "train"))
        if most in ("train", "val", "test"):
            assert side == most
        elif most == "trainval":
            assert side != "test"
    kept = {"train": ("train",), "val": ("val",), "test": ("test",), "trainval": ("train", "val")}
    for before, after, moved in zip(
        published.tolist(), result.splits.tolist(), result.moved.tolist(), strict=True
    ):
        assert moved == (before != "" and after not in kept[before])


def test_shares_must_leave_something_to_train_on() -> None:
    with pytest.raises(ValidationError, match=r"val \+ test must be below 1, got 0\.5 \+ 0\.5"):
        SplitOptions(val=0.5, test=0.5)
    everything = split_by_group(
        text_array([""] * 50), text_array([str(n) for n in range(50)]), SplitOptions(val=0, test=0)
    )
    assert set(everything.splits) == {"train"}
