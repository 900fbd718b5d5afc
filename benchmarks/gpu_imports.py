"""Checks that what the steps of gpu.sh import is a CUDA torch's, Python's own, or in the lists of packages.

    python benchmarks/gpu_imports.py

Imports what each step does while every other package is hidden, as it is on a machine that has none of them.
"""

import importlib.metadata
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
LISTS = [ROOT / "benchmarks" / "gpu_packages.txt", ROOT / "benchmarks" / "gpu_packages_dali.txt"]
# What pip installs with torch, and numpy, without which torch warns.
TORCH = [
    "torch",
    "numpy",
    "filelock",
    "fsspec",
    "jinja2",
    "markupsafe",
    "mpmath",
    "networkx",
    "setuptools",
    "sympy",
]
TORCH += ["typing-extensions", "triton"]
OURS = ["labelassemble"]
STEPS = {
    "test": "import sys; sys.path += ['tests', 'tests/ops']; import pytest, conftest, test_cuda_ops, test_cuda_sweep",
    "measure": "import sys; sys.path.insert(0, 'benchmarks'); import loss, head, overhead",
    "train": "import sys; sys.path.insert(0, 'benchmarks'); import training; training.make_step("
    "training.variants(False)[-1], 'cpu', 32, 2)",
    "dali": "import sys; sys.path += ['benchmarks', 'tests/training']; import views, views_training, pytest, conftest",
}
HIDE = """\
import re, sys
from importlib.machinery import PathFinder
class Hiding(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        there = name.partition(".")[0] not in {modules!r}
        return PathFinder.find_spec(name, path, target) if there else None
    @classmethod
    def find_distributions(cls, *context):
        for found in PathFinder.find_distributions(*context):
            if re.sub("[-_.]+", "-", found.name).lower() in {packages!r}:
                yield found
sys.meta_path = [Hiding if finder is PathFinder else finder for finder in sys.meta_path]
{step}
"""


def lists(step: str) -> list[Path]:
    """Return what names the packages that a step needs."""
    return LISTS if step == "dali" else LISTS[:1]


def packages(step: str) -> set[str]:
    """Return the packages that are there on a GPU machine when it runs a step."""
    lines = [line.strip() for path in lists(step) for line in path.read_text().splitlines()]
    return {line for line in lines if line and not line.startswith("#")} | {*TORCH, *OURS}


def hidden(there: set[str]) -> set[str]:
    """Return the modules of every other package that is installed here."""
    modules = importlib.metadata.packages_distributions()
    return {
        module
        for module, names in modules.items()
        if not there & {re.sub(r"[-_.]+", "-", name).lower() for name in names}
    }


def main() -> None:
    """Print a line for each step; end with what is missing."""
    for step, source in STEPS.items():
        there = packages(step)
        modules = hidden(there)
        program = HIDE.format(modules=modules, packages=there, step=source)
        done = subprocess.run(
            [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
        )
        if done.returncode:
            last = done.stderr.strip().splitlines()[-1]
            sys.exit(
                f"gpu_imports.py: the step {step} ends in {last}; add the package to {lists(step)[-1].name}"
            )
        print(f"{step}: every import is met")


if __name__ == "__main__":
    main()
