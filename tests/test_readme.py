"""What the README and CONTRIBUTING promise: code prints what its comments say, commands and files are there."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from labelassemble.config import load_config

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def _blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def test_the_drop_in_example_runs_and_gives_what_its_comments_say() -> None:
    (block,) = _blocks("python")
    scope: dict[str, object] = {}
    exec(block, scope)
    criterion, head, features = scope["criterion"], scope["head"], scope["features_weak"]
    assert callable(head)
    assert isinstance(features, torch.Tensor)
    known = re.search(r"\.known +# tensor\((\d+)\)", block)
    assert known is not None
    terms = criterion.terms(head(features, classes=["Nodule", "Edema", "COVID-19"]), None, scope["targets"])  # type: ignore[attr-defined]
    assert int(terms.known) == int(known.group(1))
    shapes = re.findall(r"^(head\(.*\)\.shape) +# (torch\.Size\(\[\d+, \d+\]\))", block, flags=re.MULTILINE)
    assert len(shapes) == 2
    for expression, shape in shapes:
        assert str(eval(expression, scope)) == shape


def test_the_configuration_is_valid(tmp_path: Path) -> None:
    (block,) = _blocks("yaml")
    (tmp_path / "covid.yaml").write_text(block, encoding="utf-8")
    config = load_config(tmp_path / "covid.yaml")
    assert [source.name for source in config.sources] == ["archive", "clinic"]
    assert config.interest == ("COVID-19",)


def test_the_commands_exist() -> None:
    commands = set(re.findall(r"^labelassemble ([a-z]+)", README, flags=re.MULTILINE))
    assert commands >= {"assemble", "train", "evaluate", "predict", "export", "doctor"}
    shown = subprocess.run(
        [sys.executable, "-m", "labelassemble", "--help"], capture_output=True, text=True, check=True
    )
    for command in commands:
        assert re.search(rf"\b{command}\b", shown.stdout), command
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in set(re.findall(r"\bmake ([a-z-]+)", README)) - {"and"}:
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target


@pytest.mark.parametrize("path", re.findall(r"\]\(((?!https?:)[^)]*)\)", README))
def test_what_it_links_is_there(path: str) -> None:
    assert (ROOT / path).exists()


def test_the_files_that_contributing_names_are_there() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    paths = re.findall(
        r"`((?:labelassemble|csrc|tests|docs|benchmarks|examples)/[^`\s]*|[A-Za-z]+\.(?:md|toml))`", text
    )
    assert len(paths) > 25
    for path in paths:
        assert "NAME" in path or path == "docs/_build" or (ROOT / path).exists(), path
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in set(re.findall(r"(?:^|`|sudo )make ([a-z-]+)", text, flags=re.MULTILINE)):
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target


def test_it_fits_a_few_screens() -> None:
    assert len(README.splitlines()) <= 120
