"""Sex, age, view and other columns: one spelling each, carried from the sources' files to the table."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from labelassemble.data import CsvSource, MnistSource, Table, assemble
from labelassemble.data.subgroups import SubgroupColumn, age_of, sex_of, spelling, view_of
from labelassemble.data.table_io import read_predictions, write_predictions
from labelassemble.errors import LabelAssembleError
from labelassemble.evaluation import Predictions


def source(folder: Path, text: str, name: str = "h", **options: object) -> CsvSource:
    path = folder / f"{name}.csv"
    path.write_text(text)
    return CsvSource.model_validate({"name": name, "path": path} | options)


@pytest.mark.parametrize(
    ("cell", "years"),
    [
        ("60", "60"),
        ("60.0", "60"),
        ("6.0e1", "60"),
        ("060Y", "60"),
        ("058y", "58"),
        (" 60 years ", "60"),
        ("90+", "90"),
        (">89", "89"),
        ("018M", "1.5"),
        ("003W", "0.05749"),
        ("000D", "0"),
        ("365D", "0.9993"),
        ("120", "120"),
        ("", ""),
        ("nan", ""),
        ("Unknown", ""),
        ("121", None),
        ("411", None),
        ("411Y", None),
        ("-5", None),
        ("1e999", None),
        ("sixty", None),
        ("12Q", None),
        ("60-65", None),
        ("6" + " " * 100_000 + "!", None),
    ],
)
def test_ages_become_years(cell: str, years: str | None) -> None:
    assert age_of(cell) == years


def test_the_unit_of_ages_without_one_can_be_said() -> None:
    months = SubgroupColumn(column="a", unit="months")
    assert [spelling("age", cell, months) for cell in ("6", "006M", "001Y")] == ["0.5", "0.5", "1"]
    assert spelling("Age", "730.5", SubgroupColumn(column="a", unit="days")) == "2"


def test_sexes_and_views_have_one_spelling() -> None:
    assert {sex_of(cell) for cell in ("M", "m", " Male", "MALE ")} == {"male"}
    assert {sex_of(cell) for cell in ("F", "female", "Female")} == {"female"}
    assert [sex_of(cell) for cell in ("O", "U", "", "Unknown", "1", "2", "Q")] == [
        "other",
        "",
        "",
        "",
        None,
        None,
        None,
    ]
    codes = SubgroupColumn.model_validate({"column": "s", "values": {1: "male", 2: "female"}})
    assert [spelling("sex", cell, codes) for cell in ("1", "2.0", "2", "3", "F")] == [
        "male",
        "female",
        "female",
        None,
        "female",
    ]
    assert {view_of(cell) for cell in ("PA", "pa", "POSTEROANTERIOR", "postero-anterior")} == {"PA"}
    assert {view_of(cell) for cell in ("AP", "ANTEROPOSTERIOR")} == {"AP"}
    assert {view_of(cell) for cell in ("AP_horizontal", "AP Supine")} == {"AP supine"}
    assert {view_of(cell) for cell in ("L", "LL", "LATERAL", "Lateral")} == {"lateral"}
    assert [view_of(cell) for cell in ("COSTAL", "", "UNK")] == ["COSTAL", "", ""]
    assert [
        spelling("scanner", cell, SubgroupColumn(column="s")) for cell in ("7.0", " Siemens ", "n/a", "1.5T")
    ] == [
        "7",
        "Siemens",
        "",
        "1.5T",
    ]


def test_a_csv_carries_the_columns_that_are_asked_for(tmp_path: Path) -> None:
    text = "path,Sex,Age,Maker,Mass\n1.png,F,060Y,A,1\n2.png,,411,B,0\n3.png,1,7,,0\n4.png,M,411,B,0\n"
    item = source(tmp_path, text, subgroup_columns={"scanner": "Maker"})
    assembly = assemble([item], subgroups=["sex", "age", "scanner"])
    table = assembly.table
    assert table.classes == ("Mass",)
    assert {name: values.tolist() for name, values in table.subgroups.items()} == {
        "sex": ["female", "", "", "male"],
        "age": ["60", "", "7", ""],
        "scanner": ["A", "B", "", "B"],
    }
    notes = "\n".join(assembly.report.notes)
    assert (
        "source 'h': cells that are no age from 0 to 120 years count as missing, 2 in all: '411' (2)" in notes
    )
    assert "source 'h': cells that are no male, female or other (if they are codes" in notes
    rows = assembly.report.subgroups.to_dict("records")
    assert [row["missing"] for row in rows] == [2, 2, 1]
    assert rows[1]["values"] == "7 to 60 years, median 33.5"
    assert "B 2, A 1" in assembly.report.to_text()


def test_sources_without_the_column_are_missing_and_named(tmp_path: Path) -> None:
    first = source(tmp_path, "path,sex,Mass\n1.png,M,1\n2.png,F,0\n", "a")
    second = source(tmp_path, "path,Mass\n3.png,1\n", "b")
    assembly = assemble([first, second], subgroups=["sex"])
    assert assembly.table.subgroups["sex"].tolist() == ["male", "female", ""]
    assert (
        "source 'b': it has no column for the subgroup 'sex', so that is missing for each of its images"
        in (assembly.report.notes)
    )


def test_of_duplicates_the_first_that_says_something_counts(tmp_path: Path) -> None:
    first = source(tmp_path, "path,sex,age,Mass\n1.png,,50,1\n2.png,F,,0\n3.png,M,1,0\n", "a")
    second = source(tmp_path, "path,sex,age,Edema\n1.png,F,51,1\n2.png,F,,0\n3.png,F,1,0\n", "b")
    assembly = assemble([first, second], subgroups=["sex", "age"])
    assert assembly.table.subgroups["sex"].tolist() == ["female", "female", "male"]
    assert assembly.table.subgroups["age"].tolist() == ["50", "", "1"]
    notes = "\n".join(assembly.report.notes)
    assert "subgroup 'sex': 1 images that stand in several rows" in notes
    assert "such as 3.png (male, female)" in notes
    assert "such as 1.png (50, 51)" in notes


def test_mistakes_are_one_sentence(tmp_path: Path) -> None:
    text = "path,Sex,Mass\n1.png,M,1\n"
    with pytest.raises(
        LabelAssembleError, match=r"line 1: no column 'Sx' \(subgroup_columns: sex\), did you mean 'Sex'"
    ):
        assemble([source(tmp_path, text, subgroup_columns={"sex": "Sx"})], subgroups=["sex"])
    with pytest.raises(LabelAssembleError, match="subgroup_columns: 'sex' is not among the `subgroups`"):
        assemble([source(tmp_path, text, subgroup_columns={"sex": "Sex"})])


def test_a_table_without_subgroups_has_none(tmp_path: Path) -> None:
    table = assemble([source(tmp_path, "path,Mass\n1.png,1\n")]).table
    assert table.subgroups == {}
    table.to_csv(tmp_path / "table.csv")
    assert (tmp_path / "table.csv").read_text().startswith("path,name,source,group,split,assumed,Mass\n")


@pytest.mark.parametrize("name", ["t.csv", "t.parquet"])
def test_files_of_tables_carry_them(tmp_path: Path, name: str) -> None:
    text = "path,sex,age,split,Mass\n1.png,F,60,test,1\n2.png,,,val,0\n3.png,M,5,train,0\n"
    table = assemble([source(tmp_path, text)], subgroups=["sex", "age"]).table
    table = replace(table, subgroups={**table.subgroups, "site": ["a,b", "c\rd", 'e"']})
    table.write(tmp_path / name)
    read = Table.read(tmp_path / name)
    assert read == table
    assert read.classes == ("Mass",)
    assert list(read.subgroups) == ["sex", "age", "site"]
    assert read.select([2]).subgroups["sex"].tolist() == ["male"]
    assert read != replace(table, subgroups={})


def test_predictions_carry_them(tmp_path: Path) -> None:
    text = "path,sex,split,Mass\n1.png,F,test,1\n2.png,,val,0\n"
    table = assemble([source(tmp_path, text)], subgroups=["sex"]).table
    predictions = Predictions.of(table, np.array([[0.25], [0.5]]))
    write_predictions(predictions, tmp_path / "p.csv")
    assert read_predictions(tmp_path / "p.csv") == predictions
    assert predictions.subset_by_split("test").subgroups["sex"].tolist() == ["female"]


def test_a_table_checks_them(tmp_path: Path) -> None:
    table = assemble([source(tmp_path, "path,Mass\n1.png,1\n")]).table
    with pytest.raises(LabelAssembleError, match=r"subgroup 'sex' must have one entry per path \(1\), got 2"):
        replace(table, subgroups={"sex": ["male", "female"]})
    with pytest.raises(LabelAssembleError, match="the name of a subgroup must be one line"):
        replace(table, subgroups={" ": ["male"]})
    with pytest.raises(LabelAssembleError, match="a class name must not begin with 'subgroup:'"):
        replace(table, classes=("subgroup:sex",))


def test_readers_without_columns_say_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = assemble([source(tmp_path, "path,Mass\n1.png,1\n")]).table
    monkeypatch.setattr(MnistSource, "read", lambda _self: table)
    report = assemble([MnistSource(name="m", root=tmp_path)], subgroups=["sex"]).report
    assert "source 'm': it has no column for the subgroup 'sex'" in report.to_text()
