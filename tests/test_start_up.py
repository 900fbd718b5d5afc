"""Commands that need no torch do not import it: it takes seconds. What is imported is tested, not how long it takes."""

import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import contextlib, io, json, sys
from labelassemble.cli import main
loaded = {}
for words in json.loads(sys.argv[1]):
    sys.argv = ["labelassemble", *words]
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.suppress(SystemExit):
        main()
    sys.stdout.flush()
    loaded[words[0]] = sorted({name.partition(".")[0] for name in sys.modules})
sys.__stdout__.write("\\n" + json.dumps(loaded))
sys.__stdout__.flush()
"""
HEAVY = {
    "torch",
    "scipy",
    "matplotlib",
    "kornia",
    "jinja2",
    "sklearn",
    "pandas",
    "pyarrow",
    "numpy",
}


def test_help_doctor_and_assemble_import_no_more_than_they_need(small_sources: Path) -> None:
    commands = [
        ["--help"],
        ["train", "--help"],
        ["doctor"],
        ["assemble", str(small_sources / "run.yaml"), "-o", str(small_sources / "table.csv")],
    ]
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, json.dumps(commands)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    loaded = json.loads(done.stdout.splitlines()[-1])
    for command in ("--help", "train", "doctor"):
        assert sorted(HEAVY & set(loaded[command])) == [], command
    assert (small_sources / "table.csv").exists()
    assert HEAVY & set(loaded["assemble"]) == {"pandas", "pyarrow", "numpy"}


@pytest.mark.parametrize(
    "package", ["labelassemble", "labelassemble.models", "labelassemble.run", "labelassemble.export"]
)
def test_every_name_that_a_package_promises_is_there(package: str) -> None:
    module = importlib.import_module(package)
    for name in module.__all__:
        assert getattr(module, name) is not None
    with pytest.raises(AttributeError, match=f"module '{package}' has no attribute 'Nothing'"):
        module.Nothing  # noqa: B018


def test_the_ops_are_registered_by_the_import_alone_where_torch_is_there() -> None:
    script = "import torch, labelassemble; print(torch.ops.labelassemble.partial_label_loss)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert "labelassemble.partial_label_loss" in done.stdout, done.stderr
