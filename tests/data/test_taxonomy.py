"""The taxonomy: the shipped one covers the readers; a broken one is refused with a reason."""

from pathlib import Path

import pytest

from labelassemble.data import Taxonomy
from labelassemble.data.readers.chestxray14 import CHESTXRAY14_CLASSES
from labelassemble.data.readers.chexpert import CHEXPERT_CLASSES
from labelassemble.errors import LabelAssembleError


def test_the_shipped_taxonomy_knows_the_readers_classes() -> None:
    thorax = Taxonomy.load("thorax")
    for classes in (CHESTXRAY14_CLASSES, CHEXPERT_CLASSES):
        names = [thorax.canonical(name, "test") for name in classes]
        assert len(set(names)) == len(classes)
    assert thorax.canonical("pleural_thickening", "") == thorax.canonical("Pleural Thickening", "")
    assert thorax.canonical("Pleural Effusion", "") == thorax.canonical("Effusion", "")
    assert thorax.canonical("COVID19", "") == "COVID-19"
    assert thorax.implied("SARS") == ("Viral Pneumonia", "Pneumonia")


def test_what_implies_a_class_is_no_synonym_of_it() -> None:
    thorax = Taxonomy.load("thorax")
    padchest = [
        "laminar atelectasis",
        "atelectasis",
        "callus rib fracture",
        "rib fracture",
        "nsg tube",
        "pulmonary mass",
    ]
    assert len({thorax.canonical(name, "") for name in padchest}) == len(padchest)
    assert thorax.implied("Callus Rib Fracture") == ("Rib Fracture", "Fracture")
    assert len(set(thorax.names)) == len(thorax.names) > 100


def test_an_unknown_name_gets_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(
        LabelAssembleError, match="here: the taxonomy has no class 'Effussion', did you mean 'Effusion'"
    ):
        Taxonomy.load("thorax").canonical("Effussion", "here")
    with pytest.raises(LabelAssembleError, match=r"taxonomy torax: cannot be read .* did you mean 'thorax'"):
        Taxonomy.load("torax")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("classes: [", "not valid YAML"),
        ("- a", "must be a mapping with the key 'classes'"),
        ("names: []", "Field required"),
        ("classes: [{name: A, color: red}]", "classes.0.color: Extra inputs"),
        ("classes: [{name: A}, {name: A}]", "'A' stands twice"),
        ("classes: [{name: A}, {name: B, synonyms: [a]}]", "'a' stands for both 'A' and 'B'"),
        (
            "classes: [{name: Edema, implies: [Edma]}]",
            "'Edema' implies 'Edma', which is no class, did you mean 'Edema'",
        ),
        ("classes: [{name: A, implies: [B]}, {name: B, implies: [A]}]", "'A' implies itself"),
        ("{no_finding: Nothing, classes: [{name: A}]}", "'Nothing' is no class, known: A"),
    ],
)
def test_a_broken_file_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(LabelAssembleError, match=message) as caught:
        Taxonomy.load(path)
    assert "\n" not in str(caught.value)
