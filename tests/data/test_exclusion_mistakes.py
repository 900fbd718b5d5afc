"""Rules of exclusion: what may be written, and the sentence for what may not."""

from pathlib import Path

import pytest

from labelassemble.config import make_config
from labelassemble.data import CsvSource, Taxonomy, assemble
from labelassemble.data.readers.options import SourceOptions
from labelassemble.errors import LabelAssembleError

SKIN = Taxonomy.load(Path(__file__).with_name("skin_of_tests.yaml"))


def source(folder: Path, name: str, text: str, **options: object) -> CsvSource:
    path = folder / f"{name}.csv"
    path.write_text(text)
    return CsvSource.model_validate({"name": name, "path": path, "root": folder / name} | options)


@pytest.mark.parametrize(
    ("classes", "rules", "message"),
    [
        (
            {},
            {"exclusive": [["melanoma", "nevis"]]},
            "names 'nevis', which is no class, did you mean 'nevus'",
        ),
        (
            {},
            {"exclusive": [["melanoma"]]},
            "a group must name two or more different classes, got ['melanoma']",
        ),
        (
            {},
            {"exclusive": [["mel", "melanoma"]]},
            "must name two or more different classes, got mel, melanoma",
        ),
        (
            {"excludes": ["melanom"]},
            {},
            "excludes of 'nodular' names 'melanom', which is no class, did you mean",
        ),
        ({"excludes": ["nodular"]}, {}, "'nodular' excludes itself"),
        ({"excludes": ["melanoma"]}, {}, "cannot exclude each other, since 'nodular' implies the other"),
        (
            {"implies": ["melanoma", "nevus"]},
            {"exclusive": [["melanoma", "nevus"]]},
            "'melanoma' and 'nevus' cannot exclude each other, since 'nodular' implies both",
        ),
    ],
)
def test_a_wrong_rule_of_a_taxonomy_is_one_sentence(
    tmp_path: Path, classes: dict[str, object], rules: dict[str, object], message: str
) -> None:
    import yaml

    nodular = {"name": "nodular", "implies": ["melanoma"]} | classes
    values = {"classes": [{"name": "melanoma", "synonyms": ["mel"]}, {"name": "nevus"}, nodular]} | rules
    (tmp_path / "skin.yaml").write_text(yaml.safe_dump(values))
    with pytest.raises(LabelAssembleError, match=r"skin\.yaml: ") as caught:
        Taxonomy.load(tmp_path / "skin.yaml")
    assert message in str(caught.value)


def test_a_wrong_rule_of_a_source_is_one_sentence(tmp_path: Path) -> None:
    text = "path,melanoma,nevus\n1.png,0,1\n2.png,1,0\n"
    with pytest.raises(
        LabelAssembleError, match="source 's', exclusive: no source has a class 'nevis', did you mean"
    ):
        assemble([source(tmp_path, "s", text, exclusive=[["melanoma", "nevis"]])])
    with pytest.raises(LabelAssembleError, match="source 's', exclusive: the taxonomy has no class 'nevis'"):
        assemble([source(tmp_path, "s", text, exclusive=[["melanoma", "nevis"]])], taxonomy=SKIN)
    nested = text.replace("nevus", "nodular melanoma")
    with pytest.raises(LabelAssembleError, match="since 'nodular melanoma' implies both"):
        assemble([source(tmp_path, "s", nested, exclusive=[["melanoma", "nodular melanoma"]])], taxonomy=SKIN)


@pytest.mark.parametrize("value", ["some", [["melanoma"]], [["a", "a"]], [[1, 2]], [], 3, [["a", "b"], "c"]])
def test_what_the_option_may_be(tmp_path: Path, value: object) -> None:
    values = {"sources": [{"name": "s", "reader": "csv", "path": "s.csv", "exclusive": value}]}
    with pytest.raises(LabelAssembleError, match=r"'sources\.0\.exclusive': (must be all|a group must name)"):
        make_config(values, base=tmp_path)


def test_the_option_survives_a_round_trip(tmp_path: Path) -> None:
    for value, kept in (
        ("all", "all"),
        (["a", "b"], (("a", "b"),)),
        ([["a", "b"]], (("a", "b"),)),
        (None, None),
    ):
        options = SourceOptions.model_validate({"name": "s", "exclusive": value})
        assert options.exclusive == kept
        assert SourceOptions.model_validate(options.model_dump(mode="json")) == options


@pytest.mark.parametrize(
    ("classes", "rules", "message"),
    [
        ({"excludes": "Al"}, {}, "must be all, or names of classes such as [nevus, keratosis], got 'Al'"),
        ({"excludes": None}, {}, "must be all, or names of classes"),
        ({"excludes": ["nevus", "nevus"]}, {}, "must name each class once"),
        ({}, {"exclusive": "all"}, "must be groups of classes such as [[melanoma, nevus]], got 'all'"),
        ({}, {"exclusive": [["melanoma"], "nevus"]}, "must be groups of classes"),
    ],
)
def test_a_rule_of_another_form_is_one_sentence(
    tmp_path: Path, classes: dict[str, object], rules: dict[str, object], message: str
) -> None:
    import yaml

    values = {"classes": [{"name": "melanoma"} | classes, {"name": "nevus"}]} | rules
    (tmp_path / "skin.yaml").write_text(yaml.safe_dump(values))
    with pytest.raises(LabelAssembleError) as caught:
        Taxonomy.load(tmp_path / "skin.yaml")
    assert message in str(caught.value)
    assert "literal" not in str(caught.value)


def test_a_plain_list_is_one_group_and_spellings_of_one_class_are_not_two(tmp_path: Path) -> None:
    flat = Taxonomy.model_validate(SKIN.model_dump() | {"exclusive": ["melanoma", "nevus"]})
    assert flat.excluding(("melanoma", "nevus")).tolist() == [[False, True], [True, False]]
    text = "path,melanoma,nevus\n1.png,0,1\n2.png,1,0\n"
    with pytest.raises(
        LabelAssembleError, match="exclusive: a group must name two or more different classes"
    ):
        assemble([source(tmp_path, "s", text, exclusive=[["melanoma", "mel"]])], taxonomy=SKIN)
