"""The table: its rules, its CSV, its targets and its coverage."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labelassemble.data import SMOOTH_TARGET, Table
from labelassemble.data.class_names import check_class_names
from labelassemble.errors import LabelAssembleError


def example() -> Table:
    return Table(
        classes=("COVID-19", "Edema, lung", 'the "third"'),
        paths=np.array(["/a/1.png", "/a/x,y.png", "/b/ü\n.png"]),
        names=np.array(["1", "x,y", '"quoted"']),
        groups=np.array(["n:1", "n:1", "l/3"]),
        splits=np.array(["train", "train", "test"]),
        sources=np.array(["nih", "nih", "local"]),
        labels=np.array([[0, 1, -2], [0, -1, -1], [1, -2, 0]], dtype=np.int8),
        origins=np.array([[1, 0, 0], [4, 0, 0], [0, 0, 2]], dtype=np.uint8),
    )


def test_csv_gives_back_the_same_table(tmp_path: Path) -> None:
    table = example()
    table.to_csv(tmp_path / "table.csv")
    assert Table.from_csv(tmp_path / "table.csv") == table
    assert (tmp_path / "table.csv").read_text(encoding="utf-8").splitlines()[
        1
    ] == "/a/1.png,1,nih,n:1,train,COVID-19=assume,0,1,-2"


def test_the_ending_says_the_format(tmp_path: Path) -> None:
    example().write(tmp_path / "table.csv")
    assert Table.read(tmp_path / "table.csv") == example()
    example().write(tmp_path / "table.parquet")
    assert Table.read(tmp_path / "table.parquet") == example()
    assert (tmp_path / "table.parquet").read_bytes()[:4] == b"PAR1"


def test_csv_of_an_empty_table(tmp_path: Path) -> None:
    table = example().select(np.zeros(3, dtype=bool))
    table.to_csv(tmp_path / "table.csv")
    assert Table.from_csv(tmp_path / "table.csv") == table


def test_a_table_without_classes_is_read_back(tmp_path: Path) -> None:
    table = example().select_classes([])
    for name in ("table.csv", "table.parquet"):
        table.write(tmp_path / name)
        assert Table.read(tmp_path / name) == table


text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)


@settings(deadline=None)
@given(data=st.data(), rows=st.integers(0, 12), classes=st.integers(1, 10))
def test_csv_is_lossless_for_any_text(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, rows: int, classes: int
) -> None:
    columns = [data.draw(st.lists(text, min_size=rows, max_size=rows)) for _ in range(4)]
    states = data.draw(
        st.lists(st.sampled_from([1, 0, -1, -2]), min_size=rows * classes, max_size=rows * classes)
    )
    marks = data.draw(st.lists(st.integers(0, 4), min_size=rows * classes, max_size=rows * classes))
    labels = np.array(states, dtype=np.int8).reshape(rows, classes)
    table = Table(
        tuple(f"class {index}" for index in range(classes)),
        *(np.array(column, dtype=np.str_) for column in columns[:3]),
        splits=np.full(rows, "val"),
        sources=np.array(columns[3], dtype=np.str_),
        labels=labels,
        origins=np.where(labels >= 0, np.array(marks, dtype=np.uint8).reshape(rows, classes), 0).astype(
            np.uint8
        ),
    )
    path = tmp_path_factory.mktemp("lossless") / "table.csv"
    table.to_csv(path)
    assert Table.from_csv(path) == table


def test_nothing_is_left_behind_when_writing_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = example()
    path = tmp_path / "table.csv"
    path.write_text("before")

    def full_disk(*_paths: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full_disk)
    with pytest.raises(LabelAssembleError, match=r"table\.csv: cannot be written \(No space left"):
        table.to_csv(path)
    monkeypatch.undo()
    assert [item.name for item in tmp_path.iterdir()] == ["table.csv"]
    assert path.read_text() == "before"
    with pytest.raises(LabelAssembleError, match=r"table\.csv: cannot be written \(No such file"):
        table.to_csv(tmp_path / "nowhere" / "table.csv")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "path,name",
            "file,name",
            "line 1: a table's columns must start with path,name,source,group,split,assumed",
        ),
        (
            ",train,",
            ",training,",
            r"line 2, column 'split': a split must be train, val or test, got 'training'",
        ),
        (
            ",0,1,-2",
            ",0,2,-2",
            r"line 2, column 'Edema, lung': a label must be 1, 0, -2 \(uncertain\) or blank",
        ),
        (",0,1,-2", ",0,1", "line 2: the header has 9 columns, this row 8"),
        (
            ",COVID-19=assume,0",
            ",COVID-18=assume,0",
            "line 2, column 'assumed': no class 'COVID-18', did you mean 'COVID-19'",
        ),
        (
            ",COVID-19=assume,0",
            ",COVID-19=assume,",
            "line 2, column 'assumed': 'COVID-19' is assumed but has no label",
        ),
    ],
)
def test_damage_is_named_with_its_place(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = tmp_path / "table.csv"
    example().to_csv(path)
    path.write_text(path.read_text(encoding="utf-8").replace(old, new, 1), encoding="utf-8")
    with pytest.raises(LabelAssembleError, match=message):
        Table.from_csv(path)


def test_targets_follow_the_policies() -> None:
    table = example()
    nan = np.nan
    np.testing.assert_array_equal(
        table.targets(), np.array([[0, 1, nan], [0, nan, nan], [1, nan, 0]], dtype=np.float32)
    )
    by_class = table.targets({"Edema, lung": "ones", "default": "zeros"})
    np.testing.assert_array_equal(by_class, np.array([[0, 1, 0], [0, nan, nan], [1, 1, 0]], dtype=np.float32))
    by_source = table.targets({"default": "ones"}, per_source={"nih": {"default": "smooth"}})
    expected = np.array([[0, 1, SMOOTH_TARGET], [0, nan, nan], [1, 1, 0]], dtype=np.float32)
    np.testing.assert_array_equal(by_source, expected)
    assert by_source.dtype == np.float32
    # no policy for a source that is named: ignored, not the general policy
    assert np.isnan(table.targets({"default": "ones"}, per_source={"nih": {}})[0, 2])


def test_targets_refuse_unknown_names() -> None:
    with pytest.raises(LabelAssembleError, match="uncertain: no class 'COVID19', did you mean 'COVID-19'"):
        example().targets({"COVID19": "ones"})
    with pytest.raises(LabelAssembleError, match="must be ignore, zeros, ones or smooth, got 'one'"):
        example().targets({"COVID-19": "one"})  # type: ignore[dict-item]


def test_coverage_counts_each_cell_once() -> None:
    coverage = example().coverage()
    assert list(coverage["source"]) == ["nih"] * 3 + ["local"] * 3
    first = coverage.iloc[0]
    assert (first["class"], first["images"], first["negative"], first["assumed"], first["derived"]) == (
        *("COVID-19", 2, 0, 1, 1),
    )
    parts = coverage[["positive", "negative", "uncertain", "unknown", "assumed", "derived"]].sum(axis=1)
    assert (parts == coverage["images"]).all()
    uncertain = coverage[(coverage["source"] == "local") & (coverage["class"] == "Edema, lung")]
    assert uncertain["uncertain"].item() == 1


def test_rows_and_classes_are_selected() -> None:
    table = example()
    assert list(table.select(np.array([2, 0])).names) == ['"quoted"', "1"]
    assert len(table.select([])) == 0
    assert len(table.subset_by_split("train")) == 2
    two = table.select_classes(['the "third"', "COVID-19"])
    np.testing.assert_array_equal(two.labels[0], [-2, 0])
    with pytest.raises(
        LabelAssembleError, match="split must be train, val or test, got 'tests', did you mean 'test'"
    ):
        table.subset_by_split("tests")
    with pytest.raises(LabelAssembleError, match="no class 'Covid-19' in the table, did you mean 'COVID-19'"):
        table.select_classes(["Covid-19"])


def test_notes_are_no_column() -> None:
    table = example()
    told = replace(table, notes=("a sentence",))
    assert told == table
    assert told.select([0]).notes == ("a sentence",)
    assert told.select_classes(table.classes[:1]).notes == ("a sentence",)


def test_a_table_cannot_be_changed_in_place() -> None:
    labels = np.zeros((3, 3), dtype=np.int8)
    table = replace(example(), labels=labels)
    with pytest.raises(ValueError, match="read-only"):
        table.labels[0, 0] = 1
    labels[0, 0] = 0  # the caller's own array stays writable


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": np.zeros((3, 2), dtype=np.int8)}, r"labels must be int8 \[3, 3\], got int8 \[3, 2\]"),
        ({"labels": np.zeros((3, 3))}, r"labels must be int8 \[3, 3\], got float64"),
        ({"labels": np.full((3, 3), 2, dtype=np.int8)}, "labels must be 1, 0, -1 or -2, got 2"),
        ({"labels": np.full((3, 3), -1, dtype=np.int8)}, r"only a known label \(1 or 0\) can be assumed"),
        ({"names": np.array(["a"])}, r"names must have one entry per path \(3\), got 1"),
        ({"names": np.array([1, 2, 3])}, r"names must be text \[N\], got int64"),
        ({"names": np.array([["a"], ["b"], ["c"]])}, r"names must be text \[N\], got <U1 \[3, 1\]"),
        ({"names": ["a", None, "c"]}, r"names must be text \[N\], got object"),
        (
            {"names": np.array(["a", "b", "\ud800"])},
            "must be text that can be written as UTF-8, got '.ud800'",
        ),
        ({"names": ["a", "b\0c", "d"]}, "names: a text must not contain NUL characters"),
        ({"paths": ["a", "b", "x\udcff.png"]}, "paths must be text that can be written as UTF-8"),
        ({"splits": np.array(["train", "tset", "val"])}, "got 'tset', did you mean 'test'"),
        ({"classes": ("a", "a", "b")}, "each class must be named once, got 'a' twice"),
        ({"classes": ("a", "path", "b")}, "must not be named 'path'"),
        ({"classes": ("a", " b", "c")}, "must not be blank or have spaces around it"),
        ({"classes": ("a", "b;c", "c")}, "must not contain ';'"),
    ],
)
def test_the_rules_of_a_table(change: dict[str, object], message: str) -> None:
    with pytest.raises(LabelAssembleError, match=message):
        replace(example(), **change)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["a;b", "a\nb", "a\tb", "a\x1bb", "a\x00b"])
def test_class_names_hold_no_control_characters(name: str) -> None:
    with pytest.raises(
        LabelAssembleError,
        match=r"a class name must not contain (';'|a control character or a line break), got '",
    ):
        check_class_names([name])
