"""A class name that no file can hold is refused wherever it comes in, not when a model is served."""

from collections.abc import Callable
from pathlib import Path

import pytest

from labelassemble.config import make_config
from labelassemble.data import Taxonomy
from labelassemble.data.readers.label_cells import class_columns
from labelassemble.errors import LabelAssembleError
from labelassemble.head import ClassQueryHead
from labelassemble.models import AssembleNet

SOURCES = [{"name": "clinic", "reader": "csv", "path": "clinic.csv"}]


def _grown(name: str) -> None:
    ClassQueryHead(4, ["Nodule"]).add_classes([name])


def _taxonomy(name: str) -> None:
    Taxonomy.model_validate({"classes": [{"name": name}]})


def _synonym(name: str) -> None:
    Taxonomy.model_validate({"classes": [{"name": "Nodule", "synonyms": [name]}]})


def _configured(name: str) -> None:
    make_config({"sources": SOURCES, "classes": ["Nodule", name]}, base=Path.cwd())


@pytest.mark.parametrize(
    "take",
    [
        lambda name: ClassQueryHead(4, [name]),
        _grown,
        lambda name: AssembleNet("cnn_small", classes=["Nodule", name], in_channels=1),
        _taxonomy,
        _synonym,
        _configured,
    ],
    ids=["head", "add_classes", "network", "taxonomy", "synonym", "configuration"],
)
@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("", "must not be blank, got ''"),
        (" ", "must not be blank, got ' '"),
        ("a\nb", "must not contain a control character or a line break"),
        ("a\x07", "must not contain a control character or a line break"),
        ("a\u2028b", "must not contain a control character or a line break"),
        ("\ud800", "must not contain a control character or a line break"),
    ],
)
def test_a_name_that_no_file_can_hold(take: Callable[[str], object], name: str, rule: str) -> None:
    with pytest.raises(ValueError, match=f"a class name {rule}"):
        take(name)


def test_other_scripts_and_marks_are_names() -> None:
    names = ["COVID-19", "Pneumothorax, small", "\u5fc3\u80a5\u5927", "\u0645\u06cc\u200c\u0634\u0648\u062f"]
    assert ClassQueryHead(8, names).classes == names
    with pytest.raises(LabelAssembleError, match="a class name must be text, got 7"):
        ClassQueryHead(8, ["Nodule", 7])  # type: ignore[list-item]


@pytest.mark.parametrize("name", ["", "a\x07", "a\u2028b", "\ud800"])
def test_a_column_of_a_table(name: str) -> None:
    with pytest.raises(LabelAssembleError, match=r"clinic\.csv: a class name must not "):
        class_columns(("Nodule", name), ("path", "Nodule", name), "clinic.csv")
