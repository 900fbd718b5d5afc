"""Targets of voxels: every kind of unknown, against a loop over voxels."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from labelassemble.data import NEGATIVE, POSITIVE, UNCERTAIN, UNKNOWN, Table
from labelassemble.data.masks import voxel_targets
from labelassemble.errors import LabelAssembleError


def by_loop(
    mask: NDArray[np.integer],
    values: dict[int, int],
    case_labels: NDArray[np.int8],
    classes: int,
    excluded: NDArray[np.bool_],
) -> NDArray[np.float32]:
    targets = np.empty((classes, *mask.shape), dtype=np.float32)
    for place in np.ndindex(mask.shape):
        here = values.get(int(mask[place]))
        for column in range(classes):
            drawn = column in values.values()
            if column == here:
                target = 1.0
            elif drawn or case_labels[column] == NEGATIVE or (here is not None and excluded[here, column]):
                target = 0.0
            else:
                target = np.nan
            targets[(column, *place)] = target
    return targets


@given(st.data())
def test_targets_are_those_of_a_loop_over_voxels(data: st.DataObject) -> None:
    classes = data.draw(st.integers(1, 5))
    shape = data.draw(st.sampled_from([(3,), (2, classes), (classes, classes), (2, 3, classes), (0, 2)]))
    kind = data.draw(st.sampled_from([np.uint8, np.int16, np.int64]))
    rng = np.random.default_rng(data.draw(st.integers(0, 1000)))
    mask = rng.integers(0, 6, shape).astype(kind)
    column = st.integers(0, classes - 1)
    values = data.draw(st.dictionaries(st.integers(1, 6), column, max_size=4))
    states = st.sampled_from([POSITIVE, NEGATIVE, UNKNOWN, UNCERTAIN])
    case = np.array(data.draw(st.lists(states, min_size=classes, max_size=classes)), dtype=np.int8)
    excluded = rng.random((classes, classes)) < 0.4
    excluded = (excluded | excluded.T) & ~np.eye(classes, dtype=bool)
    found = voxel_targets(mask, values, case, classes, excluded=excluded)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, by_loop(mask, values, case, classes, excluded))
    plain = voxel_targets(mask, values, case, classes)
    np.testing.assert_array_equal(plain, by_loop(mask, values, case, classes, np.zeros_like(excluded)))


def test_each_kind_of_unknown() -> None:
    mask = np.array([0, 1, 2, 3], dtype=np.uint8)
    case = np.array([POSITIVE, NEGATIVE, POSITIVE, UNKNOWN], dtype=np.int8)
    targets = voxel_targets(mask, {1: 0}, case, 4)
    assert targets[0].tolist() == [0, 1, 0, 0]  # drawn: what it does not show is absent
    assert targets[1].tolist() == [0, 0, 0, 0]  # "this patient has none"
    assert np.isnan(targets[2]).all()  # "has one, not drawn": nobody said where
    assert np.isnan(targets[3]).all()


def test_a_mask_may_name_a_class_twice_and_a_case_without_one_draws_nothing() -> None:
    mask = np.array([[0, 1], [2, 9]], dtype=np.int16)
    case = np.array([POSITIVE, UNKNOWN], dtype=np.int8)
    assert voxel_targets(mask, {1: 0, 2: 0}, case, 2)[0].tolist() == [[0, 1], [1, 0]]
    assert np.isnan(voxel_targets(mask, {}, case, 2)).all()


def drawn_table() -> Table:
    return Table(
        classes=("PDAC", "cyst"),
        paths=np.array(["/a/1.nii.gz", "/a/2.nii.gz", "/b/1.nii.gz", "/a/3.nii.gz"]),
        names=np.array(["1", "2", "1", "3"]),
        groups=np.array(["a/1", "a/2", "b/1", "a/3"]),
        splits=np.array(["train", "val", "train", "test"]),
        sources=np.array(["a", "a", "b", "a"]),
        labels=np.array([[1, 0], [-1, 1], [0, -1], [0, 0]], dtype=np.int8),
        origins=np.array([[0, 0], [0, 0], [0, 0], [4, 0]], dtype=np.uint8),
        masks=np.array(["/a/1m.nii.gz", "/a/2m.nii.gz", "", "/a/3m.nii.gz"]),
        mask_values={"a": {1: "PDAC", 2: "cyst", 3: "PanNET"}, "b": {7: "cyst"}},
    )


def test_what_is_drawn_in_a_row() -> None:
    table = drawn_table()
    assert table.drawn(0) == {1: 0, 2: 1}  # PanNET is no class of the table
    assert table.drawn(1) == {2: 1}  # its label of PDAC was hidden
    assert table.drawn(2) == {}
    assert table.drawn(3) == {2: 1}  # PDAC is absent by a rule only
    assert table.select_classes(["cyst"]).drawn(0) == {2: 0}
    assert table.select([1]).drawn(0) == {2: 1}


@pytest.mark.parametrize("name", ["table.csv", "table.parquet"])
def test_a_table_with_masks_is_read_back(tmp_path: Path, name: str) -> None:
    table = drawn_table()
    table.write(tmp_path / name)
    back = Table.read(tmp_path / name)
    assert back == table
    assert back.mask_values == table.mask_values
    assert back != replace(table, mask_values={"a": {1: "PDAC"}})
    assert back != replace(table, masks=np.array(["", "", "", ""]))
    assert back.subset_by_split("val") == table.subset_by_split("val")


def test_a_table_without_masks_has_no_column_for_them(tmp_path: Path) -> None:
    table = replace(drawn_table(), masks=np.array([""] * 4), mask_values={})
    table.to_csv(tmp_path / "table.csv")
    assert "mask" not in (tmp_path / "table.csv").read_text()
    assert Table.from_csv(tmp_path / "table.csv") == table


def test_values_that_are_none_are_named_with_their_line(tmp_path: Path) -> None:
    drawn_table().to_csv(tmp_path / "table.csv")
    text = (tmp_path / "table.csv").read_text()
    (tmp_path / "table.csv").write_text(text.replace("1=PDAC;2=cyst;3=PanNET", "PDAC"))
    with pytest.raises(LabelAssembleError, match=r"line 2, column 'mask:values': .* must look like 1=PDAC"):
        Table.from_csv(tmp_path / "table.csv")


def test_masks_must_be_one_per_path() -> None:
    with pytest.raises(LabelAssembleError, match=r"masks must have one entry per path \(4\), got 1"):
        replace(drawn_table(), masks=np.array(["a"]))


def test_a_class_must_not_have_the_name_of_a_column_of_masks() -> None:
    with pytest.raises(LabelAssembleError, match="must not be named 'mask:path'"):
        replace(drawn_table(), classes=("PDAC", "mask:path"))
