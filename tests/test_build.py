"""What the build says where it finds no torch, and which package is imported in a source checkout."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def _said(tmp_path: Path, script: str) -> str:
    cmake = shutil.which("cmake")
    if cmake is None:
        pytest.skip("cmake is not installed")
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\n{script}\n")
    python.chmod(0o755)
    command = [cmake, f"-DPython_EXECUTABLE={python}", "-P", ROOT / "cmake" / "FindTorch.cmake"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    return " ".join(done.stderr.split())


def test_isolation_is_named_first_where_it_hides_the_torch_that_is_there(tmp_path: Path) -> None:
    said = _said(
        tmp_path,
        'case "$1" in -I) echo 2.13.0+cpu;; *) echo "ModuleNotFoundError: No module" >&2; exit 1;; esac',
    )
    assert "This build runs in isolation, which hides the torch 2.13.0+cpu that is installed" in said
    assert said.index("isolation") < said.index("pip install --no-build-isolation .")
    assert "cannot import" not in said


def test_a_torch_that_is_not_there_is_asked_for(tmp_path: Path) -> None:
    said = _said(tmp_path, 'echo "ModuleNotFoundError: No module named torch" >&2; exit 1')
    assert "cannot import one (ModuleNotFoundError: No module named torch). Install it first" in said


@pytest.mark.parametrize(
    ("compiled", "asked_for"), [("wheel", False), ("wheel", True), ("both", False), ("none", False)]
)
def test_a_checkout_in_the_current_folder_does_not_hide_an_installed_wheel(
    tmp_path: Path, compiled: str, asked_for: bool
) -> None:
    checkout, wheel = tmp_path / "checkout", tmp_path / "wheel"
    for root in (checkout, wheel):
        (root / "labelassemble").mkdir(parents=True)
        for name in ("__init__", "_checkout", "_lazy", "errors", "version"):
            shutil.copy(ROOT / "labelassemble" / f"{name}.py", root / "labelassemble")
    for root in {"wheel": [wheel], "both": [checkout, wheel], "none": []}[compiled]:
        (root / "labelassemble" / "_C.abi3.so").touch()
    asked = os.pathsep.join([str(checkout)] * asked_for + [str(wheel)])
    done = subprocess.run(
        [
            sys.executable,
            "-S",  # without the finder of an editable install, which comes before all folders
            "-c",
            "import labelassemble as a, labelassemble.errors as b; print(a.__file__, b.__file__)",
        ],
        cwd=checkout,
        env={**os.environ, "PYTHONPATH": asked},
        capture_output=True,
        text=True,
        check=True,
    )
    root = wheel if compiled == "wheel" and not asked_for else checkout
    assert [Path(name).parents[1] for name in done.stdout.split()] == [root, root]


def test_interpreters_that_cannot_build_a_wheel_are_named_and_left_out(tmp_path: Path) -> None:
    shim = tmp_path / "python3.12"
    shim.write_text("#!/bin/sh\necho 'the command exists in other versions' >&2; exit 127\n")
    shim.chmod(0o755)
    done = subprocess.run(
        [ROOT / "cmake" / "wheels.sh", f"{shim} {tmp_path / 'python3.13'}", "2.13"],
        env={**os.environ, "SOURCE_DATE_EPOCH": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.splitlines() == [
        "0 wheels built, in dist/",
        f"left out: {shim}: does not run, is older than 3.11 or has no venv module",
        f"left out: {tmp_path / 'python3.13'}: not there",
    ]
