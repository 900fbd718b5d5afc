"""An option or a rule that changes nothing is named, with the likely reason; one that does its work is not."""

from pathlib import Path

import pytest

from labelassemble.data import CsvSource, SplitOptions, Taxonomy, assemble

ALL = SplitOptions(val=0, test=0)
TABLE = "path,Edema,Mass\n1.png,1,0\n2.png,0,1\n3.png,-2,\n"


def source(folder: Path, text: str = TABLE, **options: object) -> CsvSource:
    (folder / "t.csv").write_text(text)
    return CsvSource.model_validate({"name": "s", "path": folder / "t.csv"} | options)


def notes(
    *sources: CsvSource, classes: list[str] | None = None, taxonomy: Taxonomy | None = None
) -> list[str]:
    report = assemble(sources, classes=classes, taxonomy=taxonomy, split=ALL).report
    assert all(note in report.to_text() for note in report.notes)
    return [note.removeprefix("warning: ") for note in report.notes if note.startswith("warning: ")]


@pytest.mark.parametrize(
    ("options", "classes", "sentence"),
    [
        (
            {"uncertain": {"Mass": "ones"}},
            None,
            "`uncertain` changes no label of 'Mass': none of its labels is",
        ),
        (
            {"uncertain": {"Edema": "ones", "default": "zeros"}},
            None,
            "`uncertain` changes no label of any other",
        ),
        (
            {"uncertain": {"Edema": "ones"}},
            ["Mass"],
            "`uncertain` changes nothing about 'Edema', which is not among the `classes`",
        ),
        ({"limit": 4}, None, "`limit: 4` leaves nothing out: it has 3 images"),
        ({"hide": ("Mass",)}, ["Edema"], "`hide` changes nothing about 'Mass'"),
        ({"assume": {"Mass": "negative"}}, ["Edema"], "`assume` changes nothing about 'Mass'"),
        (
            {"labelled": {"Mass": 5}},
            None,
            "`labelled` takes no label of 'Mass' away: 2 of its training images",
        ),
        ({"labelled": {"Mass": 1}}, ["Edema"], "`labelled` changes nothing about 'Mass'"),
        ({"exclusive": "all"}, ["Edema"], "`exclusive` changes no label (none of its images"),
    ],
)
def test_an_option_without_effect_is_named(
    tmp_path: Path, options: dict[str, object], classes: list[str] | None, sentence: str
) -> None:
    (said,) = notes(source(tmp_path, **options), classes=classes)
    assert said.startswith("source 's': its option ")
    assert sentence in said


def test_an_assumed_or_hidden_class_whose_labels_leave_nothing_to_do(tmp_path: Path) -> None:
    text = "path,Edema,Mass\n1.png,1,\n2.png,0,\n"
    said = notes(source(tmp_path, text, assume={"Edema": "negative"}))
    assert "source 's': its option `assume` fills in no label of 'Edema': each of its images has one" in said
    said = notes(source(tmp_path, text, hide=("Mass",)))
    assert "source 's': its option `hide` takes no label of 'Mass' away: it has none" in said


def test_options_that_do_their_work_are_not_named(tmp_path: Path) -> None:
    busy = {"uncertain": {"Edema": "ones", "Mass": "ignore"}, "assume": {"Mass": "negative"}}
    assert notes(source(tmp_path, **busy)) == []
    assert notes(source(tmp_path, limit=2, uncertain={"default": "smooth"}, labelled={"Mass": 1})) == []


def test_a_table_in_chexperts_coding(tmp_path: Path) -> None:
    text = "path,Edema,Mass\n1.png,-1.0,\n2.png,1.0,0.0\n3.png,-1,1\n4.png,,1\n"
    (said,) = notes(source(tmp_path, text))
    assert said.startswith(
        "source 's': 2 cells are -1 and 2 are blank, and both mean unknown here (-2 is uncertain)"
    )
    assert notes(source(tmp_path, text, minus_one="unknown")) == []
    assert notes(source(tmp_path, text, minus_one="uncertain", uncertain={"Edema": "ones"})) == []
    table = source(tmp_path, text, minus_one="uncertain").read()
    assert table.labels.tolist() == [[-2, -1], [1, 0], [-2, 1], [-1, 1]]
    assert source(tmp_path, text).read().labels[:, 0].tolist() == [-1, 1, -1, -1]
    full = "path,Edema\n1.png,-1.0\n2.png,1.0\n3.png,-1\n4.png,0\n"
    (said,) = notes(source(tmp_path, full, uncertain={"Edema": "ones"}))
    assert "changes no label of 'Edema'" in said
    assert "-1 means unknown in a table of one's own, -2 is uncertain" in said
    assert notes(source(tmp_path, full)) == []


def test_a_class_that_a_source_lists_and_others_label(tmp_path: Path) -> None:
    (tmp_path / "u.csv").write_text("path,Edema,Mass\n9.png,1,0\n")
    other = CsvSource(name="u", path=tmp_path / "u.csv")
    text = "path,Edema,Mass\n1.png,1,\n2.png,0,\n"
    assert notes(source(tmp_path, text, classes=("Edema", "Mass")), other) == [
        "source 's': its option `classes` names 'Mass', but it has no label of that class"
    ]
    assert notes(source(tmp_path, text), other) == []


def test_a_rule_of_the_taxonomy_that_touches_no_row(tmp_path: Path) -> None:
    taxonomy = Taxonomy.model_validate(
        {"classes": [{"name": "Edema", "implies": ["Mass"]}, {"name": "Mass"}]}
    )
    idle = source(tmp_path, "path,Edema,Mass\n1.png,0,1\n2.png,0,\n")
    assert notes(idle, taxonomy=taxonomy) == [
        "the taxonomy's rule that 'Edema' implies 'Mass' touches no image: none is positive for 'Edema' or negative "
        "for 'Mass'"
    ]
    assert notes(source(tmp_path, "path,Edema,Mass\n1.png,1,\n2.png,0,0\n"), taxonomy=taxonomy) == []
    exclusive = Taxonomy.model_validate(
        {"classes": [{"name": "Edema"}, {"name": "Mass"}], "exclusive": [["Edema", "Mass"]]}
    )
    idle = source(tmp_path, "path,Edema,Mass\n1.png,0,1\n2.png,0,\n")
    assert notes(idle, taxonomy=exclusive) == ["the taxonomy's `exclusive` and `excludes` change no label"]
