"""Parquet: a table comes back the same, a user's labels are read as from a CSV, damage is named."""

from pathlib import Path

import numpy as np
import pytest

from labelassemble.data import CsvSource, Table, assemble
from labelassemble.errors import LabelAssembleError


def example(rows: int) -> Table:
    random = np.random.default_rng(0)
    labels = random.integers(-2, 2, (rows, 3), dtype=np.int8)
    return Table(
        classes=("COVID-19", "Edema, lung", "Mass"),
        paths=np.array([f"/a/ü {index}.png" for index in range(rows)]),
        names=np.array([f'"{index}"\n' for index in range(rows)]),
        groups=np.array([f"n:{index // 2}" for index in range(rows)]),
        splits=np.array(["train", "val", "test", "train"] * (rows // 4)),
        sources=np.array(["nih", "local"] * (rows // 2)),
        labels=labels,
        origins=np.where(labels >= 0, random.integers(0, 5, (rows, 3)), 0).astype(np.uint8),
    )


@pytest.mark.parametrize("rows", [0, 4, 40_000])
def test_parquet_gives_back_the_same_table(tmp_path: Path, rows: int) -> None:
    table = example(max(rows, 4)).select(np.arange(rows))
    table.to_parquet(tmp_path / "table.parquet")
    assert Table.from_parquet(tmp_path / "table.parquet") == table
    assert [item.name for item in tmp_path.iterdir()] == ["table.parquet"]


def test_labels_are_read_as_from_a_csv(tmp_path: Path) -> None:
    import pyarrow as arrow
    from pyarrow import parquet

    columns = {
        "path": ["1.png", "2.png", "3.png", "4.png"],
        "patient": [7, 7, None, 8],
        "Edema": [1.0, 0.0, float("nan"), -2.0],
        "Mass": [True, False, None, True],
        "COVID-19": ["1", "", "-1", "0"],
    }
    parquet.write_table(arrow.table(columns), tmp_path / "labels.parquet")
    table = CsvSource(name="x", reader="parquet", path=tmp_path / "labels.parquet").read()
    np.testing.assert_array_equal(table.labels, [[1, 1, 1], [0, 0, -1], [-1, -1, -1], [-2, 1, 0]])
    assert list(table.groups) == ["7", "7", "", "8"]
    parquet.write_table(arrow.table(columns | {"Mass": [1, 0, 2, 1]}), tmp_path / "labels.parquet")
    with pytest.raises(LabelAssembleError, match=r"labels\.parquet, row 3, column 'Mass': .* got '2'"):
        CsvSource(name="x", reader="parquet", path=tmp_path / "labels.parquet").read()
    parquet.write_table(arrow.table(columns | {"Mass": [[1], [0], [2], [1]]}), tmp_path / "labels.parquet")
    with pytest.raises(
        LabelAssembleError, match="row 1, column 'Mass': a value must be text or a number, got list"
    ):
        CsvSource(name="x", reader="parquet", path=tmp_path / "labels.parquet").read()
    with pytest.raises(LabelAssembleError, match=r"labels\.parquet: no column 'file' \(path_column"):
        CsvSource(name="x", reader="parquet", path=tmp_path / "labels.parquet", path_column="file").read()


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int64", "decimal", "dictionary"])
def test_ids_are_whole_numbers_whatever_the_type_of_their_column(tmp_path: Path, dtype: str) -> None:
    import pyarrow as arrow
    from pyarrow import parquet

    ids = arrow.array([13, 13, None, 14, 7])
    if dtype == "decimal":
        ids = ids.cast(arrow.decimal128(21, 2))
    elif dtype == "dictionary":
        ids = ids.cast("float64").dictionary_encode()
    else:
        ids = arrow.array(ids.to_numpy(zero_copy_only=False).astype(dtype)) if dtype != "int64" else ids
    columns = {"path": list("abcde"), "patient": ids, "Edema": [1, 0, 1, 0, 1]}
    parquet.write_table(arrow.table(columns), tmp_path / "labels.parquet")
    source = CsvSource(name="x", reader="parquet", path=tmp_path / "labels.parquet")
    assert source.read().groups.tolist() == ["13", "13", "", "14", "7"]
    assert assemble([source]).table.groups.tolist() == ["x:13", "x:13", "x/c", "x:14", "x:7"]


def test_ids_that_a_float_column_cannot_hold_are_told_of(tmp_path: Path) -> None:
    import pyarrow as arrow
    from pyarrow import parquet

    for dtype, number in (("float32", 59000001), ("float64", 123456789012345678)):
        ids = arrow.array(np.arange(number, number + 40, dtype=np.int64).astype(dtype))
        columns = {"path": [f"{index}.png" for index in range(40)], "patient": ids, "Edema": [1, 0] * 20}
        parquet.write_table(arrow.table(columns), tmp_path / "labels.parquet")
        report = assemble([CsvSource(name="x", reader="parquet", path=tmp_path / "labels.parquet")]).report
        assert any("which has lost its last digits" in note for note in report.notes), dtype


def test_damage_is_named(tmp_path: Path) -> None:
    path = tmp_path / "table.parquet"
    with pytest.raises(LabelAssembleError, match=r"table\.parquet: cannot be read as Parquet"):
        Table.from_parquet(path)
    example(400).to_parquet(path)
    whole = path.read_bytes()
    for length in range(0, len(whole), 501):
        path.write_bytes(whole[:length])
        with pytest.raises(LabelAssembleError, match=r"table\.parquet: cannot be read as Parquet") as caught:
            Table.from_parquet(path)
        assert "\n" not in str(caught.value)
