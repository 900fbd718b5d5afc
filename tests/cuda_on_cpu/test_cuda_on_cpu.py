"""The CUDA tests without a GPU: the CUDA sources compiled as C++ (see emulator.h, races.h) and run on the CPU.

Each test is a process of its own, since the CUDA kernels take the place of the CPU's in it.
"""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OPS = ROOT / "tests" / "ops"
Program = Callable[[str], Path]


def run(library: Path, *arguments: object, **environment: str) -> str:
    """Return what a Python process printed in which the library's kernels are those of the CPU."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    process = subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=ROOT,
        env={**inherited, "LABELASSEMBLE_CUDA_ON_CPU": str(library), **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stdout[-5000:] + process.stderr[-5000:]
    return process.stdout


def passed(output: str) -> int:
    """Return how many tests passed; none may be skipped."""
    found = re.search(r"^(\d+) passed(?:, \d+ deselected)? in", output, re.MULTILINE)
    assert found is not None, output[-5000:]
    return int(found.group(1))


PYTEST = ("-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "cuda")


def test_every_cuda_test_of_the_ops(cpp_program: Program) -> None:
    output = run(cpp_program("cuda_on_cpu"), *PYTEST, OPS / "test_cuda_ops.py", OPS / "test_cuda_sweep.py")
    assert passed(output) > 150


def sanitized(library: Path, *arguments: object) -> str:
    """Run with the sanitizers' libraries, as `run`."""
    compiler = os.environ.get("CXX", "c++")
    preload = [
        subprocess.check_output([compiler, f"-print-file-name={name}"], text=True).strip()
        for name in ("libasan.so", "libubsan.so", "libstdc++.so")
    ]
    return run(
        library,
        *arguments,
        LD_PRELOAD=":".join(preload),
        ASAN_OPTIONS="detect_leaks=0:protect_shadow_gap=0",
        UBSAN_OPTIONS="print_stacktrace=1:halt_on_error=1",
    )


def test_sanitizers(cpp_program: Program) -> None:
    some = "more_axes or relu_mean or layouts or loss[0] or loss[1] or (default and (shape0 or shape2 or shape5))"
    tests = [OPS / "test_cuda_ops.py", OPS / "test_cuda_sweep.py"]
    output = sanitized(cpp_program("cuda_on_cpu_sanitized"), *PYTEST, "-k", some, *tests)
    assert passed(output) > 20


def test_no_barrier_and_no_fence_can_be_left_out(cpp_program: Program) -> None:
    lines = run(cpp_program("cuda_on_cpu"), Path(__file__).with_name("leave_out.py")).splitlines()
    assert len(lines) >= 6
    for line in lines:
        assert re.search(r"without order|before it is written", line), line


def test_a_missing_bound_is_found(cpp_program: Program, tmp_path: Path) -> None:
    """The sanitizer sees what kernels do: terms that are one number too few."""
    program = tmp_path / "short.py"
    program.write_text(
        f"""\
import sys
sys.path.insert(0, {str(OPS)!r})
import cuda_device, torch
x = torch.rand(3, 4)
torch.ops.labelassemble._partial_label_loss_backward(
    torch.ones(()), x, None, x, None, None, torch.ones(3, dtype=torch.double), [0.5, 4, 1, 1, 1, 1, 0], True, False)
"""
    )
    library = cpp_program("cuda_on_cpu_sanitized")
    with pytest.raises(AssertionError, match="heap-buffer-overflow"):
        sanitized(library, program)
