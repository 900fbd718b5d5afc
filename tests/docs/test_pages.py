"""Every code block of the documentation does what the page says: it runs, or is valid where it cannot run here."""

import contextlib
import io
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml

from labelassemble.cli import app
from labelassemble.config import load_config, make_config
from labelassemble.data import Taxonomy

sys.path.insert(0, str(Path(__file__).parent))
from doc_pages import PAGES, ROOT, Block, blocks_of, commands_of

Cli = Callable[..., tuple[int, str, str]]

# A configuration that a part of one is valid beside.
BESIDE: dict[str, Any] = {
    "sources": [
        {"name": "archive", "reader": "csv", "path": "archive.csv"},
        {"name": "clinic", "reader": "csv", "path": "clinic.csv"},
    ]
}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT / "docs")))
def test_the_blocks_of_a_page_hold_what_it_says(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cli: Cli, one_thread: None
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    scope: dict[str, Any] = {"__name__": "__page__"}
    for block in blocks_of(page):
        where = f"{page.relative_to(ROOT)}:{block.line + 1}"
        try:
            _check(block, where, scope, cli)
        except Exception as error:
            error.add_note(f"in the block at {where}")
            raise


def _check(block: Block, where: str, scope: dict[str, Any], cli: Cli) -> None:
    if block.word in ("file", "taxonomy"):
        path = Path(block.text)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(block.code, encoding="utf-8")
    match block.language, block.word:
        case "python", "compile":
            compile(block.code, where, "exec")
        case "python", "file":
            compile(block.code, where, "exec")
        case "python", _:
            _run_python(block.code, where, scope)
        case "sh", "parse":
            _parse_shell(block.code)
        case "sh", _:
            scope["printed"] = _run_shell(block.code, cli)
        case "text", "prints":
            assert block.code.strip() == scope["printed"].strip()
        case "yaml", "file":
            load_config(Path(block.text))
        case "yaml", "taxonomy":
            Taxonomy.load(block.text)
        case "yaml", "part":
            make_config(BESIDE | yaml.safe_load(block.code), base=Path.cwd())
        case "csv", "file":
            pass
        case "json", _:
            json.loads(block.code)
        case _:
            raise AssertionError(f"nobody tests a block of {block.language} ({block.word or 'no comment'})")


def _run_python(code: str, where: str, scope: dict[str, Any]) -> None:
    """Run code; a print with a comment behind it prints what the comment says."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, where, "exec"), scope)
    promised = re.findall(r"^print\(.*\)  +# (.*)$", code, flags=re.MULTILINE)
    lines = printed.getvalue().splitlines()
    if promised:
        assert lines == promised


def _run_shell(code: str, cli: Cli) -> str:
    """Run the commands, each of which must end with status 0, and return what they print."""
    printed = ""
    for command in commands_of(code):
        words = shlex.split(command)
        if words[0] == "labelassemble" and not set(command) & set("|>&;$*"):
            status, out, err = cli(*words[1:])
            assert status == 0, out + err
            printed += out
        else:
            done = subprocess.run(["bash", "-euc", command], capture_output=True, text=True, check=False)
            assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
            printed += done.stdout
    return printed


def _parse_shell(code: str) -> None:
    """Check the shell's grammar, and of our own commands the options and the keys of the configuration."""
    done = subprocess.run(["bash", "-n"], input=code, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    group: Any = typer.main.get_command(app)
    for command in commands_of(code):
        match = re.search(r"\blabelassemble ([a-z]+)\b(.*)", command)
        if match is None:
            continue
        name, rest = match[1], re.split(r"\s[|>&]", match[2])[0]
        if command[: match.start()].endswith("$("):
            rest = rest.partition(")")[0]
        assert name in group.commands, f"no such command: {name}"
        words = shlex.split(rest)
        if name == "serve":  # whose options are the C++ program's
            continue
        context = group.commands[name].make_context(name, list(words))
        if name != "experiment":
            _check_keys(context.params.get("overrides") or [])


def _check_keys(overrides: list[str]) -> None:
    """Check that overrides name keys of the configuration."""
    values: dict[str, Any] = json.loads(json.dumps(BESIDE))
    from labelassemble._yaml import apply_override

    for override in overrides:
        apply_override(values, override)
    make_config(values, base=Path.cwd())
