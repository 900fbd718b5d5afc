"""`make` builds again when a library of the system has come or gone or another torch is asked for, and only then."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def _program(path: Path, script: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


@pytest.fixture
def setup(tmp_path: Path) -> list[str]:
    """The command of `make setup`, with a Python that writes what is installed into the file `installed`."""
    if shutil.which("make") is None:
        pytest.skip("make is not installed")
    bin = tmp_path / "venv" / "bin"
    _program(bin / "python", f'echo "$@" >>{tmp_path}/installed')
    return ["make", "--silent", "setup", f"VENV={tmp_path}/venv", f"BIN={bin}"]


def _builds(tmp_path: Path) -> int:
    return (tmp_path / "installed").read_text().count("--editable")


def test_a_library_that_comes_or_goes(tmp_path: Path, setup: list[str]) -> None:
    compiler = tmp_path / "compiler"
    environment = {**os.environ, "CXX": str(compiler)}
    for found, builds in (
        ("libpng-dev", 1),
        ("libpng-dev", 1),
        ("libpng-dev libboost-dev", 2),
        ("libpng-dev", 3),
    ):
        _program(compiler, f"echo {found}")
        done = subprocess.run(setup, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
        assert _builds(tmp_path) == builds
    assert "Building the native library" in done.stdout


def test_another_torch_is_installed_where_it_is_asked_for(tmp_path: Path, setup: list[str]) -> None:
    command = ["make", "--silent", f"{tmp_path}/venv/.installed", f"NEWEST_VENV={tmp_path}/venv"]
    for torch, builds in (("torch>2.13", 1), ("torch>2.13", 1), ("torch==2.11.0", 2)):
        subprocess.run([*command, f"NEWEST={torch}"], cwd=ROOT, capture_output=True, check=True)
        assert _builds(tmp_path) == builds
    assert "torch==2.11.0 torchvision" in (tmp_path / "installed").read_text()


def test_what_the_compiler_finds(tmp_path: Path) -> None:
    if shutil.which("c++") is None:
        pytest.skip("c++ is not installed")
    source = ROOT / "cmake" / "system_libraries.h"
    for header in ("boost/version.hpp", "webp/demux.h"):
        (tmp_path / header).parent.mkdir(exist_ok=True)
        (tmp_path / header).touch()
    command = ["c++", "-E", "-P", "-x", "c++", "-nostdinc", f"-I{tmp_path}", source]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["libboost-dev", "libwebp-dev"]


def test_make_installs_what_the_build_looks_for() -> None:
    makefile = (ROOT / "Makefile").read_text()
    lines = (ROOT / "cmake" / "system_libraries.h").read_text().splitlines()
    named = {line for line in lines if not line.startswith(("#", "//"))}
    assert {"libboost-dev", "zlib1g-dev"} <= named
    assert not {package for package in named if package not in makefile}
