"""Assembling: alignment by name, assumed and hidden labels, policies, splits, and the mistakes one can make."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from labelassemble.data import Assembly, CsvSource, SplitOptions, Table, Taxonomy, assemble
from labelassemble.errors import LabelAssembleError


def source(folder: Path, name: str, text: str, **options: object) -> CsvSource:
    path = folder / f"{name}.csv"
    path.write_text(text)
    return CsvSource.model_validate({"name": name, "path": path, "root": folder / name} | options)


@pytest.fixture
def two(tmp_path: Path) -> list[CsvSource]:
    return [
        source(tmp_path, "nih", "path,patient,Mass,Edema\n1.png,1,1,0\n2.png,1,0,-2\n3.png,2,0,1\n"),
        source(tmp_path, "covid", "path,patient,COVID-19,Mass\na.png,1,1,\nb.png,2,0,1\n"),
    ]


def test_classes_are_aligned_by_name(two: list[CsvSource]) -> None:
    assembly = assemble(two)
    table = assembly.table
    assert table.classes == ("Mass", "Edema", "COVID-19")
    np.testing.assert_array_equal(
        table.labels, [[1, 0, -1], [0, -2, -1], [0, 1, -1], [-1, -1, 1], [1, -1, 0]]
    )
    assert list(table.sources) == ["nih"] * 3 + ["covid"] * 2
    assert assemble(two, classes=["COVID-19", "Mass"]).table.labels[4].tolist() == [0, 1]


def test_patients_belong_to_their_source_unless_declared_shared(two: list[CsvSource]) -> None:
    assert list(assemble(two).table.groups) == ["nih:1", "nih:1", "nih:2", "covid:1", "covid:2"]
    shared = [item.model_copy(update={"patients": "hospital"}) for item in two]
    assert list(assemble(shared).table.groups) == [f"hospital:{patient}" for patient in (1, 1, 2, 1, 2)]


def test_an_image_without_patient_is_its_own_group(tmp_path: Path) -> None:
    item = source(tmp_path, "x", "path,patient,Mass\n1.png,,1\n2.png,2,0\n3.png,,0\n")
    assert list(assemble([item]).table.groups) == ["x/1.png", "x:2", "x/3.png"]


def test_assumed_labels_fill_only_unknown_and_are_marked(two: list[CsvSource]) -> None:
    two[0] = two[0].model_copy(update={"assume": {"COVID-19": "negative", "Edema": "positive"}})
    table = assemble(two).table
    np.testing.assert_array_equal(table.labels[:3], [[1, 0, 0], [0, -2, 0], [0, 1, 0]])
    np.testing.assert_array_equal(table.assumed.sum(axis=0), [0, 0, 3])


def test_policies_hold_for_their_source(tmp_path: Path) -> None:
    text = "path,Mass,Edema\n1.png,1,-2\n2.png,0,1\n3.png,-2,0\n"
    sources = [
        source(tmp_path, "a", text, uncertain={"Edema": "ones", "default": "zeros"}),
        source(tmp_path, "b", text, uncertain={"Edema": "smooth"}),
        source(tmp_path, "c", text),
    ]
    targets = assemble(sources).targets()
    nan = np.nan
    np.testing.assert_array_equal(targets[[0, 2]], np.array([[1, 1], [0, 0]], dtype=np.float32))
    np.testing.assert_array_equal(targets[[3, 5]], np.array([[1, 0.7], [nan, 0]], dtype=np.float32))
    np.testing.assert_array_equal(targets[[6, 8]], np.array([[1, nan], [nan, 0]], dtype=np.float32))


def test_hidden_labels_are_kept_aside(two: list[CsvSource]) -> None:
    two[0] = two[0].model_copy(update={"hide": ("Mass",)})
    assembly = assemble(two)
    np.testing.assert_array_equal(assembly.table.labels[:, 0], [-1, -1, -1, -1, 1])
    assert assembly.hidden is not None
    assert list(assembly.hidden.names) == ["1.png", "2.png", "3.png"]
    np.testing.assert_array_equal(assembly.hidden.labels, [[1, -1, -1], [0, -1, -1], [0, -1, -1]])
    assert assemble(two[1:]).hidden is None


def rows_of(table: Table, split: str) -> set[str]:
    return set(table.subset_by_split(split).names)


def many(folder: Path, rows: int = 400, extra: str = "") -> CsvSource:
    body = "".join(f"{index}.png,{index // 2},{index % 2}\n" for index in range(rows))
    return source(folder, "many", "path,patient,Mass\n" + body + extra)


def test_splits_are_by_patient_and_reproducible(tmp_path: Path) -> None:
    table = assemble([many(tmp_path)]).table
    sides = {group: {str(split) for split in table.splits[table.groups == group]} for group in table.groups}
    assert all(len(side) == 1 for side in sides.values())
    shares = [float(np.mean(table.splits == name)) for name in ("train", "val", "test")]
    np.testing.assert_allclose(shares, [0.7, 0.1, 0.2], atol=0.08)
    assert assemble([many(tmp_path)]).table == table
    assert assemble([many(tmp_path)], split=SplitOptions(seed=1)).table != table
    more = assemble([many(tmp_path, 500)]).table
    assert rows_of(table, "test") <= rows_of(more, "test")  # new rows move nobody


def test_published_splits_are_kept_and_patients_stay_together(tmp_path: Path) -> None:
    text = "path,patient,split,Mass\n1.png,a,train,1\n2.png,a,test,0\n3.png,b,val,1\n4.png,b,,1\n5.png,c,train,0\n"
    assembly = assemble([source(tmp_path, "x", text)])
    assert list(assembly.table.splits) == ["test", "test", "val", "val", "train"]
    moved = assembly.report.moved
    assert moved.to_dict("records") == [
        {"name": "1.png", "source": "x", "published": "train", "split": "test"}
    ]
    assert "rows moved so that no patient is on two sides" in assembly.report.to_text()


def test_trainval_is_divided_but_never_tested_on(tmp_path: Path) -> None:
    body = "".join(f"{index}.png,trainval,{index % 2}\n" for index in range(1000))
    table = assemble([source(tmp_path, "x", "path,split,Mass\n" + body)]).table
    assert not (table.splits == "test").any()
    assert 0.09 < np.mean(table.splits == "val") < 0.16  # 0.1 / (1 - 0.2)


def test_a_source_can_be_put_into_one_split(two: list[CsvSource]) -> None:
    two[1] = two[1].model_copy(update={"split": "test"})
    assert list(assemble(two).table.splits[3:]) == ["test", "test"]


def test_limit_is_reproducible(tmp_path: Path) -> None:
    item = many(tmp_path).model_copy(update={"limit": 10})
    names = list(assemble([item]).table.names)
    assert len(names) == 10
    assert names == list(assemble([item]).table.names)
    assert names == sorted(names, key=lambda name: int(name.removesuffix(".png")))
    assert names != list(assemble([item], split=SplitOptions(seed=3)).table.names)


def test_only_so_many_training_images_keep_their_label(tmp_path: Path) -> None:
    whole = assemble([many(tmp_path)]).table
    assembly = assemble([many(tmp_path).model_copy(update={"labelled": {"Mass": 30}})])
    table = assembly.table
    known = table.known[:, 0]
    assert int(known[table.splits == "train"].sum()) == 30
    assert known[table.splits != "train"].all()
    np.testing.assert_array_equal(table.labels[known], whole.labels[known])
    assert assembly.hidden is not None
    np.testing.assert_array_equal(assembly.hidden.labels, whole.labels[~known])
    more = assemble([many(tmp_path).model_copy(update={"labelled": {"Mass": 50}})]).table
    assert more.known[known].all()
    both = many(tmp_path).model_copy(update={"labelled": {"Mass": 10**6}})
    assert assemble([both]).table == whole


def taxonomy() -> Taxonomy:
    return Taxonomy.model_validate(
        {
            "classes": [
                {"name": "No Finding"},
                {"name": "Pneumonia"},
                {"name": "Viral Pneumonia", "implies": ["Pneumonia"]},
                {
                    "name": "COVID-19",
                    "synonyms": ["covid", "SARS-CoV-2 infection"],
                    "implies": ["Viral Pneumonia"],
                },
                {"name": "Support Devices"},
            ],
            "no_finding": "No Finding",
            "exempt": ["Support Devices"],
        }
    )


def test_the_taxonomy_aligns_synonyms_and_derives_labels(tmp_path: Path) -> None:
    sources = [
        source(
            tmp_path,
            "a",
            "path,covid19,pneumonia\n1.png,1,\n2.png,,0\n3.png,0,1\n".replace("covid19", "COVID"),
        ),
        source(
            tmp_path,
            "b",
            "path,No_Finding,viral-pneumonia,Support Devices\n1.png,1,,\n2.png,0,1,1\n3.png,,,0\n",
        ),
    ]
    table = assemble(sources, taxonomy=taxonomy()).table
    assert table.classes == ("COVID-19", "Pneumonia", "No Finding", "Viral Pneumonia", "Support Devices")
    np.testing.assert_array_equal(
        table.labels,
        [
            [1, 1, -1, 1, -1],  # COVID-19 implies both above it
            [
                0,
                0,
                -1,
                -1,
                -1,
            ],  # no pneumonia: no COVID-19 either, which the source labels; no word on others
            [0, 1, -1, -1, -1],
            [-1, -1, 1, 0, -1],  # No Finding speaks of the classes that b labels, not of devices
            [-1, 1, 0, 1, 1],
            [-1, -1, -1, -1, 0],
        ],
    )
    only = assemble(sources, classes=["Pneumonia"], taxonomy=taxonomy()).table
    np.testing.assert_array_equal(only.labels[:, 0], table.labels[:, 1])


def test_the_report_counts_what_was_assembled(two: list[CsvSource]) -> None:
    assembly: Assembly = assemble(two)
    report = assembly.report
    assert report.splits[["source", "images", "groups"]].values.tolist() == [["nih", 3, 2], ["covid", 2, 2]]
    assert (report.splits[["train", "val", "test"]].sum(axis=1) == report.splits["images"]).all()
    text = report.to_text()
    assert "labels of each source (+ positive, - negative" in text
    (line,) = [line for line in text.splitlines() if line.split()[:1] == ["COVID-19"]]
    assert line.split() == ["COVID-19", "1+", "1-"]  # one source alone labels it
    assert "no image is in the split" in text


def test_a_published_split_without_validation_says_how_to_have_one(tmp_path: Path) -> None:
    only = source(tmp_path, "x", "path,split,Edema\n1.png,train,1\n2.png,train,0\n3.png,test,0\n")
    (note,) = [note for note in assemble([only]).report.to_text().splitlines() if "in the split" in note]
    assert note.strip("- ") == (
        "no image is in the split val (`trainval` in place of `train` lets `split` take some for it)"
    )


def test_a_class_that_nobody_labels_is_a_warning(tmp_path: Path) -> None:
    text = "path,Edema,Mass,Hernia,COVID\n1.png,1,,1,\n2.png,0,,0,\n"
    only = source(tmp_path, "x", text, hide=("Hernia",), assume={"COVID": "negative"})
    assembly = assemble([only], split=SplitOptions(val=0, test=0))
    assert assembly.table.classes == ("Edema", "Mass", "Hernia", "COVID")
    np.testing.assert_array_equal(assembly.table.labels[0], [1, -1, -1, 0])
    said = [note for note in assembly.report.notes if "is labelled by no source" in note]
    assert [note.rpartition(": its")[0] for note in said] == [
        "warning: class 'Mass' is labelled by no source (each of its cells is blank)",
        "warning: class 'Hernia' is labelled by no source (each of its labels is hidden)",
        "warning: class 'COVID' is labelled by no source (each of its cells is blank but 2 that are assumed)",
    ]
    assert "list the other classes as `classes`" in said[0]
    assert not [note for note in assembly.report.notes if "label in train" in note]


def test_what_a_reader_has_to_tell_stands_in_the_report(
    two: list[CsvSource], monkeypatch: pytest.MonkeyPatch
) -> None:
    read = CsvSource.read

    def telling(self: CsvSource, subgroups: Sequence[str] = ()) -> Table:
        table = read(self, subgroups)
        return replace(table, notes=("3 cells could not be read",)) if self.name == "covid" else table

    monkeypatch.setattr(CsvSource, "read", telling)
    assembly = assemble(two)
    assert "source 'covid': 3 cells could not be read" in assembly.report.notes
    assert "source 'covid': 3 cells could not be read" in assembly.report.to_text()
    assert assembly.table.notes == ()


def test_classes_that_differ_in_spelling_only_are_pointed_out(tmp_path: Path) -> None:
    sources = [
        source(tmp_path, "a", "path,Pleural_Thickening\n1.png,1\n"),
        source(tmp_path, "b", "path,Pleural Thickening\n2.png,1\n"),
    ]
    note = "classes 'Pleural_Thickening' and 'Pleural Thickening' differ in spelling only: "
    note += "a taxonomy would make them one"
    assert note in assemble(sources).report.notes
    assert note not in assemble(sources, taxonomy=Taxonomy.load("thorax")).report.notes


def test_long_names_are_cut_in_the_text_only(tmp_path: Path) -> None:
    name = "a" * 30 + "b" * 30
    report = assemble([source(tmp_path, name, "path,Mass\n1.png,1\n")]).report
    assert name not in report.to_text().replace(f"{name}.csv", "")  # a path stays whole
    assert "aaa...bbb" in report.to_text()
    assert report.coverage["source"].tolist() == [name]


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (
            {"assume": {"COVID19": "negative"}},
            {},
            "source 'nih', assume: no source has a class 'COVID19', did you mean",
        ),
        (
            {"uncertain": {"Edemas": "ones"}},
            {},
            "source 'nih', uncertain: no source has a class 'Edemas', did you mean",
        ),
        ({"hide": ("COVID-19",)}, {}, "source 'nih', hide: it does not label 'COVID-19', known: Mass, Edema"),
        ({"hide": ("Mass",), "assume": {"Mass": "negative"}}, {}, "'Mass' cannot be in both hide and assume"),
        (
            {"labelled": {"Masss": 3}},
            {},
            "source 'nih', labelled: it does not label 'Masss', did you mean 'Mass'",
        ),
        (
            {"hide": ("Edema",)},
            {"classes": ["Edema"]},
            r"no source labels any of the classes \(Edema\): each of",
        ),
        ({"name": "covid"}, {}, "each must have a name of its own, got 'covid' twice"),
        ({}, {"classes": ["Covid-19"]}, "classes: no source has a class 'Covid-19', did you mean 'COVID-19'"),
        ({}, {"classes": []}, "classes: at least one is needed"),
        ({}, {"classes": ["Mass", "Mass"]}, "each class must be named once, got 'Mass' twice"),
        ({}, {"taxonomy": taxonomy()}, "source 'nih': the taxonomy has no class 'Mass'"),
    ],
)
def test_mistakes_are_one_sentence(
    two: list[CsvSource], change: dict[str, object], options: dict[str, object], message: str
) -> None:
    two[0] = two[0].model_copy(update=change)
    with pytest.raises(LabelAssembleError, match=message):
        assemble(two, **options)  # type: ignore[arg-type]


def test_empty_sources_and_classes(tmp_path: Path) -> None:
    with pytest.raises(LabelAssembleError, match="sources: at least one is needed"):
        assemble([])
    with pytest.raises(LabelAssembleError, match="source 'x': has no images"):
        assemble([source(tmp_path, "x", "path,Mass\n")])
    with pytest.raises(LabelAssembleError, match=r"no source labels any of the classes \(Mass\)"):
        assemble([source(tmp_path, "x", "path,Mass\n1.png,\n")])
    both = source(tmp_path, "x", "path,COVID,covid\n1.png,1,0\n")
    with pytest.raises(LabelAssembleError, match="its classes 'COVID' and 'covid' are the same, 'COVID-19'"):
        assemble([both], taxonomy=taxonomy())


def test_the_report_names_the_files_that_were_read(two: list[CsvSource]) -> None:
    report = assemble(two).report
    assert report.files == tuple((source.name, str(source.path)) for source in two)
    assert f"\nread\n  {two[0].name}: {two[0].path}\n" in report.to_text()
