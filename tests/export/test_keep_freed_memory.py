"""Memory of CPU tensors that is kept for the next ones."""

import subprocess
import sys
from pathlib import Path

import pytest

from labelassemble.errors import LabelAssembleError
from labelassemble.export import keep_freed_memory, native

FAULTS = """
import resource, torch
from labelassemble.export import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.empty(48 << 20, dtype=torch.uint8).fill_(1)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

old = torch.full((1 << 20,), 3.0)
faults()
print(faults())
keep_freed_memory()
keep_freed_memory()
faults()
print(faults(), old.clone().sum().item())
"""


def test_a_tensor_takes_the_memory_of_the_one_before() -> None:
    done = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, text=True, check=True)
    before, after, total = done.stdout.split()
    assert int(before) > 0
    assert int(after) == 0
    assert float(total) == 3.0 * (1 << 20)


def test_a_library_that_does_not_load_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "_native_folder", lambda: tmp_path)
    with pytest.raises(
        LabelAssembleError, match=r"liblabelassemble_runtime\.so does not load .*No such file"
    ):
        keep_freed_memory()
