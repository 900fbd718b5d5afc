"""Classes that exclude each other: what follows from it, what it never touches, and the mistakes one can make."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labelassemble.data import Assembly, CsvSource, Taxonomy, assemble
from labelassemble.data.exclusion import ExclusionRules, SourceRule, exclude_by_patient
from labelassemble.data.new_table import new_table
from labelassemble.data.readers.options import SourceOptions

SKIN = Taxonomy.load(Path(__file__).with_name("skin_of_tests.yaml"))


def source(folder: Path, name: str, text: str, **options: object) -> CsvSource:
    path = folder / f"{name}.csv"
    path.write_text(text)
    return CsvSource.model_validate({"name": name, "path": path, "root": folder / name} | options)


def origin_names(assembly: Assembly, row: int) -> dict[str, str]:
    """Return the rule of each class that nobody gave in a row."""
    counts = {1: "assume", 2: "implies", 3: "no_finding", 4: "exclusive"}
    origins = assembly.table.origins[row]
    return {
        name: counts[code]
        for name, code in zip(assembly.table.classes, origins.tolist(), strict=True)
        if code
    }


def test_a_positive_label_makes_rivals_negative_in_sources_that_never_label_them(tmp_path: Path) -> None:
    clinic = source(tmp_path, "clinic", "path,melanoma\n1.png,1\n2.png,0\n")
    archive = source(tmp_path, "archive", "path,nevus,ulceration\n3.png,1,1\n4.png,0,\n")
    assembly = assemble([clinic, archive], taxonomy=SKIN)
    assert assembly.table.classes == ("melanoma", "nevus", "ulceration")
    assert assembly.table.labels.tolist() == [[1, 0, -1], [0, -1, -1], [0, 1, 1], [-1, 0, -1]]
    assert [origin_names(assembly, row) for row in range(4)] == [
        {"nevus": "exclusive"},
        {},
        {"melanoma": "exclusive"},
        {},
    ]
    counts = assembly.report.coverage.set_index(["source", "class"])
    assert counts.loc[("clinic", "nevus"), "derived"] == 1
    assert counts.loc[("clinic", "nevus"), ["negative", "assumed"]].tolist() == [0, 0]
    assert assembly.report.assumed.to_dict("records") == [
        {"source": "archive", "rule": "exclusive", "class": "melanoma", "positive": 0, "negative": 1},
        {"source": "clinic", "rule": "exclusive", "class": "nevus", "positive": 0, "negative": 1},
    ]
    text = assembly.report.to_text()
    assert "never evaluated on" in text
    assert "classes that exclude each other" in text


def test_what_implies_a_class_excludes_what_that_one_excludes(tmp_path: Path) -> None:
    one = source(tmp_path, "one", "path,nodular melanoma\n1.png,1\n2.png,0\n")
    two = source(tmp_path, "two", "path,nevus\n3.png,1\n4.png,0\n")
    assembly = assemble([one, two], taxonomy=SKIN)
    assert assembly.table.labels.tolist() == [[1, 0], [0, -1], [0, 1], [-1, 0]]


def test_a_source_of_one_class_an_image_knows_all_classes_of_the_table(tmp_path: Path) -> None:
    clinic = source(tmp_path, "clinic", "path,eight\n1.png,1\n2.png,0\n")
    archive = source(tmp_path, "archive", "path,one,two\n3.png,1,0\n4.png,0,0\n", exclusive="all")
    assembly = assemble([clinic, archive])
    # the clinic did not say that its images have one class at most
    assert assembly.table.labels.tolist() == [[1, -1, -1], [0, -1, -1], [0, 1, 0], [-1, 0, 0]]
    assert assembly.exclusions
    assert assembly.exclusions.matrices[assembly.exclusions.rows].any(axis=(1, 2)).tolist() == [
        *[False, False, True, True]
    ]
    grouped = archive.model_copy(update={"exclusive": (("one", "eight"),)})
    assert assemble([clinic, grouped]).table.labels[2].tolist() == [0, 1, 0]
    reverse = archive.model_copy(update={"exclusive": (("two", "eight"),)})
    assert assemble([clinic, reverse]).table.labels[2].tolist() == [-1, 1, 0]


def test_all_spares_what_may_be_present_together(tmp_path: Path) -> None:
    text = "path,nodular melanoma,melanoma,nevus\n1.png,1,,\n2.png,,1,\n3.png,0,0,1\n"
    assembly = assemble([source(tmp_path, "skin", text, exclusive="all")], taxonomy=SKIN)
    assert assembly.table.labels.tolist() == [[1, 1, 0], [-1, 1, 0], [0, 0, 1]]
    assert not len(assembly.report.conflicts)


def test_two_positives_are_a_conflict_with_the_images_name_and_both_stay(tmp_path: Path) -> None:
    text = "path,melanoma,nevus\n1.png,1,1\n2.png,1,0\n"
    assembly = assemble([source(tmp_path, "skin", text)], taxonomy=SKIN)
    assert assembly.table.labels.tolist() == [[1, 1], [1, 0]]
    assert assembly.report.conflicts.to_dict("records") == [
        {
            "class": "melanoma",
            "positive": "1.png",
            "positive_source": "skin",
            "negative": "1.png",
            "negative_source": "skin",
            "result": "both kept, excluded by nevus",
        }
    ]
    assert "both kept, excluded by nevus" in assembly.report.to_text()


def test_the_same_image_in_two_sources_contradicts_itself(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("path,melanoma\n1.png,1\n2.png,0\n")
    (tmp_path / "b.csv").write_text("path,nevus\n1.png,1\n3.png,0\n")
    sources = [CsvSource.model_validate({"name": name, "path": tmp_path / f"{name}.csv"}) for name in "ab"]
    assembly = assemble(sources, taxonomy=SKIN)
    assert assembly.table.labels.tolist() == [[1, 1], [0, -1], [-1, 0]]
    assert assembly.report.conflicts["result"].tolist() == ["both kept, excluded by nevus"]


def test_hidden_and_withheld_labels_derive_nothing(tmp_path: Path) -> None:
    text = "path,split,melanoma,nevus\n1.png,train,1,\n2.png,train,1,\n3.png,test,0,1\n"
    hidden = assemble(
        [
            source(tmp_path, "s", text + "4.png,train,0,0\n", hide=["nevus"]),
            source(tmp_path, "t", "path,nevus\n5.png,1\n"),
        ],
        taxonomy=SKIN,
    )
    assert hidden.table.labels[:3].tolist() == [[1, 0], [1, 0], [0, -1]]
    assert hidden.hidden is not None
    assert hidden.hidden.labels.tolist() == [[-1, 1], [-1, 0]]
    assert not hidden.hidden.assumed.any()
    fewer = assemble([source(tmp_path, "s", text, labelled={"melanoma": 1})], taxonomy=SKIN).table
    kept = fewer.labels[:2, 0] == 1
    assert kept.sum() == 1
    assert (fewer.labels[:2, 1] == 0).tolist() == kept.tolist()


def test_no_finding_keeps_its_rule_unless_it_is_widened(tmp_path: Path) -> None:
    values = {
        "classes": [{"name": "Healthy"}, {"name": "Mass"}, {"name": "Fracture"}, {"name": "Tube"}],
        "no_finding": "Healthy",
        "exempt": ["Tube"],
    }
    sources = [
        source(tmp_path, "a", "path,Healthy,Mass\n1.png,1,\n2.png,0,1\n"),
        source(tmp_path, "b", "path,Fracture,Tube\n3.png,1,1\n4.png,0,0\n"),
    ]
    narrow = assemble(sources, taxonomy=Taxonomy.model_validate(values)).table
    assert narrow.labels[0].tolist() == [1, 0, -1, -1]
    assert narrow.origins[0].tolist() == [0, 3, 0, 0]
    values["classes"] = [{"name": "Healthy", "excludes": "all"}, *values["classes"][1:]]  # type: ignore[index]
    wide = assemble(sources, taxonomy=Taxonomy.model_validate(values)).table
    assert wide.labels[0].tolist() == [1, 0, 0, -1]
    assert wide.labels[2].tolist() == [0, -1, 1, 1]


def test_a_rule_that_changes_nothing_is_named(tmp_path: Path) -> None:
    text = "path,melanoma,ulceration\n1.png,0,1\n2.png,0,0\n"
    notes = assemble([source(tmp_path, "s", text, exclusive=[["melanoma", "ulceration"]])]).report.notes
    assert not [note for note in notes if "`exclusive`" in note and "no positive" in note]
    text = "path,melanoma,nevus\n1.png,0,1\n2.png,1,0\n"
    notes = assemble([source(tmp_path, "s", text, exclusive="all")], taxonomy=SKIN).report.notes
    assert [note for note in notes if "source 's': its option `exclusive` changes no label" in note]
    assert [note for note in notes if "the taxonomy's `exclusive` and `excludes` change no label" in note]


ROWS = st.lists(
    st.fixed_dictionaries({name: st.sampled_from(["1", "0", "", "-2"]) for name in SKIN.names}),
    min_size=2,
    max_size=5,
)


@settings(deadline=None, max_examples=100)
@given(
    rows=st.lists(ROWS, min_size=1, max_size=3),
    shared=st.booleans(),
    everywhere=st.booleans(),
    options=st.lists(st.sampled_from([None, "all", [["nevus", "ulceration"]]]), min_size=3, max_size=3),
    assumed=st.sampled_from([{}, {"nevus": "negative"}, {"nevus": "positive"}]),
)
def test_exclusion_changes_no_label_that_is_there_and_not_by_the_order_of_sources(
    tmp_path_factory: pytest.TempPathFactory,
    rows: list[list[dict[str, str]]],
    shared: bool,
    everywhere: bool,
    options: list[object],
    assumed: dict[str, str],
) -> None:
    folder = tmp_path_factory.mktemp("rules")
    header = ",".join(["path", *SKIN.names])
    full = ",".join(["full.png", *["0"] * len(SKIN.names)])
    plain, ruled = [], []
    for index, lines in enumerate(rows):
        root = folder / ("shared" if shared else str(index))
        text = "\n".join(
            [header, full, *(",".join([f"{n}.png", *row.values()]) for n, row in enumerate(lines))]
        )
        given_options = {"assume": assumed, "root": root}
        plain.append(source(folder, f"s{index}", text + "\n", **given_options))
        ruled.append(plain[-1].model_copy(update={"exclusive": _option(options[index])}))
    bare = Taxonomy.model_validate(SKIN.model_dump() | {"exclusive": ()})
    before = assemble(plain, taxonomy=bare, classes=SKIN.names).table
    assembly = assemble(ruled, taxonomy=SKIN if everywhere else bare, classes=SKIN.names)
    after = assembly.table
    known = before.labels != -1
    assert (after.labels[known] == before.labels[known]).all()
    assert (after.origins[known] == before.origins[known]).all()
    changed = after.labels != before.labels
    assert (after.labels[changed] == 0).all()
    assert (after.origins == 4).tolist() == changed.tolist()
    for row, matrix in enumerate(assembly.exclusions.matrices[assembly.exclusions.rows]):
        present = before.labels[row] == 1
        for column in range(len(SKIN.names)):
            rivals = present & matrix[column]
            assert changed[row, column] == (rivals.any() and before.labels[row, column] == -1)
            if rivals.any() and present[column]:
                results = assembly.report.conflicts.set_index("positive")["result"]
                assert "both kept, excluded by" in " ".join(results.loc[[after.names[row]]])
    turned = assemble(ruled[::-1], taxonomy=SKIN if everywhere else bare, classes=SKIN.names).table
    key = {
        (path, source if not shared else ""): n
        for n, (path, source) in enumerate(zip(turned.paths, turned.sources, strict=True))
    }
    order = [
        key[(path, source if not shared else "")]
        for path, source in zip(after.paths, after.sources, strict=True)
    ]
    assert (turned.labels[order] == after.labels).all()
    assert (turned.origins[order] == after.origins).all()


def _option(value: object) -> object:
    return SourceOptions.model_validate({"name": "s", "exclusive": value}).exclusive


def test_derived_labels_never_reach_an_evaluation(tmp_path: Path) -> None:
    from labelassemble.data.predictions import Predictions
    from labelassemble.evaluation import evaluate

    text = "path,split,melanoma,nevus\n" + "".join(
        f"{n}.png,{('val', 'test')[n % 2]},{n // 2 % 2},\n" for n in range(20)
    )
    other = source(tmp_path, "t", "path,split,nevus\na.png,test,1\nb.png,test,0\n")
    table = assemble([source(tmp_path, "s", text), other], taxonomy=SKIN).table
    assert (table.origins[:, 1] == 4).sum() == 10
    predictions = Predictions.of(table, np.random.default_rng(0).random(table.labels.shape))
    result = evaluate(predictions).of("nevus")
    assert result is not None
    assert (result.positives, result.negatives, result.assumed) == (1, 1, 5)


def test_the_shipped_skin_taxonomy_knows_published_names_and_that_a_lesion_has_one_diagnosis() -> None:
    from labelassemble.data.readers.medmnist_info import MEDMNIST

    skin = Taxonomy.load("skin")
    names = [skin.canonical(name, "") for name in MEDMNIST["dermamnist"].labels]
    assert [skin.canonical(name, "") for name in ("akiec", "bcc", "bkl", "df", "mel", "nv", "vasc")] == names
    matrix = skin.excluding(skin.names)
    assert (matrix == ~np.eye(len(skin.names), dtype=np.bool_)).all()


def test_a_class_that_is_left_out_still_excludes(tmp_path: Path) -> None:
    clinic = source(tmp_path, "clinic", "path,melanoma\n1.png,1\n2.png,0\n")
    archive = source(tmp_path, "archive", "path,nevus,ulceration\n3.png,1,1\n4.png,0,\n")
    whole = assemble([clinic, archive], taxonomy=SKIN)
    some = assemble([clinic, archive], taxonomy=SKIN, classes=["melanoma"])
    assert some.table.classes == ("melanoma",)
    assert some.table == whole.table.select_classes(["melanoma"])
    assert some.exclusions.matrices.shape == (1, 1, 1)
    ruled = archive.model_copy(update={"exclusive": "all"})
    assert assemble([clinic, ruled], classes=["melanoma"]).table.labels[:, 0].tolist() == [1, 0, 0, -1]
    hidden = archive.model_copy(update={"hide": ("nevus",)})
    assembly = assemble([clinic, hidden], taxonomy=SKIN, classes=["melanoma"])
    assert assembly.table.labels[:, 0].tolist() == [1, 0, -1, -1]
    assert assembly.hidden is None or not len(assembly.hidden)


def test_a_rule_of_a_source_whose_images_another_has_too_is_not_called_idle(tmp_path: Path) -> None:
    (tmp_path / "clinic.csv").write_text("path,eight\n1.png,\n2.png,1\n9.png,0\n")
    (tmp_path / "archive.csv").write_text("path,one\n1.png,1\n2.png,0\n")
    sources = [
        CsvSource.model_validate({"name": "clinic", "path": tmp_path / "clinic.csv"}),
        CsvSource.model_validate({"name": "archive", "path": tmp_path / "archive.csv", "exclusive": "all"}),
    ]
    for order in (sources, sources[::-1]):
        assembly = assemble(order)
        assert (assembly.table.origins == 4).sum() == 1
        assert not [note for note in assembly.report.notes if "changes no label" in note]


def test_a_source_without_any_class_has_no_rules() -> None:
    rules = ExclusionRules.of((), [], None)
    assert rules.matrices.shape == (0, 0, 0)
    assert rules.everywhere.shape == (0, 0)


@settings(deadline=None)
@given(st.data())
def test_a_patient_with_a_class_has_none_of_the_others(data: st.DataObject) -> None:
    rows, classes = data.draw(st.integers(0, 8)), data.draw(st.integers(1, 4))
    rng = np.random.default_rng(data.draw(st.integers(0, 999)))
    labels = rng.choice(np.array([1, 0, -1, -1, -2], dtype=np.int8), (rows, classes))
    patients, held = rng.integers(0, 3, rows), rng.random((rows, 2)) < 0.7
    names = [f"c{index}" for index in range(classes)]
    table = new_table(
        names,
        paths=[str(row) for row in range(rows)],
        names=[str(row) for row in range(rows)],
        labels=labels,
        sources="a",
        groups=patients.astype(str),
    )
    options = [SourceRule("a", ("a",), "patient"), SourceRule("b", ("b",), "all")]
    rules = ExclusionRules.of(names, options, None)
    expected, origins, several = labels.copy(), np.zeros_like(labels, dtype=np.uint8), set()
    for row in range(rows):
        own = [other for other in range(rows) if patients[other] == patients[row] and held[other, 0]]
        present = {column for other in own for column in range(classes) if labels[other, column] == 1}
        for column in range(classes):
            if held[row, 0] and labels[row, column] == -1 and present - {column}:
                expected[row, column], origins[row, column] = 0, 4
        if held[row, 0] and len(present) > 1:
            several.add(patients[row])
    found, marks, notes = exclude_by_patient(table, rules, held)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(marks, origins)
    assert len(notes) == bool(several)
    if several:
        assert f"{len(several)} patients have several classes" in notes[0]
