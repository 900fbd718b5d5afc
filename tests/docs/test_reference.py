"""The pages that are made from the code: nothing is missing, and every key of the configuration is described."""

import importlib
import sys
from collections.abc import Iterator
from types import ModuleType

import pytest
import typer.main

import labelassemble
from labelassemble.cli import app
from labelassemble.config import Config

sys.path.insert(0, str(__file__.rsplit("/", 1)[0]))
from doc_pages import ROOT


@pytest.fixture
def made(request: pytest.FixtureRequest) -> Iterator[ModuleType]:
    """The module that makes a page, by its name."""
    sys.path.insert(0, str(ROOT / "docs" / "_ext"))
    yield importlib.import_module(request.param)
    sys.path.pop(0)


@pytest.mark.parametrize("made", ["configuration_pages"], indirect=True)
def test_the_configuration_page_has_every_key_with_its_meaning(made: ModuleType) -> None:
    page = made.render()
    keys = dict(made.keys())
    assert {"preset", "loss.temperature", "train.plateau.patience", "sources[].assume"} <= set(keys)
    assert not [key for key, text in keys.items() if not text]
    for name in Config.model_fields:
        assert f"`{name}`\n" in page
    assert "(no description)" not in page
    assert "`temperature`\n: number, at least 1; default `4`" in page
    assert "`true` with `preset: recommended`, else `false`" in page
    assert "### `reader: chexpert`" in page


@pytest.mark.parametrize("made", ["cli_pages"], indirect=True)
def test_the_command_line_page_has_every_command_and_option(made: ModuleType) -> None:
    page = made.render()
    for name, command in typer.main.get_command(app).commands.items():  # type: ignore[attr-defined]
        assert f"## `{name}`" in page
        for item in command.params:
            if item.name not in ("help", "context") and item.opts[0].startswith("-"):
                assert f"`{item.opts[0]}`" in page
    assert "--max-body SIZE" in page  # the server's own help


@pytest.mark.parametrize("made", ["api_pages"], indirect=True)
def test_the_python_page_has_every_public_name(made: ModuleType) -> None:
    page = made.render()
    for name in labelassemble.__all__:
        if name not in ("__version__", "functional"):
            assert f"labelassemble.{name}\n" in page
    for name in labelassemble.functional.__all__:
        assert f".{name}\n" in page


@pytest.mark.parametrize("made", ["drawings"], indirect=True)
def test_the_drawings_are_well_formed(made: ModuleType, tmp_path) -> None:  # type: ignore[no-untyped-def]
    from xml.etree import ElementTree

    made.write_all(tmp_path)
    drawings = sorted(tmp_path.glob("*.svg"))
    assert len(drawings) == 5
    for drawing in drawings:
        assert (
            ElementTree.fromstring(drawing.read_text()).find(".//{http://www.w3.org/2000/svg}text")
            is not None
        )
