"""Runs the kernels without one __syncthreads or __threadfence, for each of them; says what was found.

    LABELASSEMBLE_CUDA_ON_CPU=.../cuda_on_cpu python tests/cuda_on_cpu/leave_out.py

Prints a line for each place in the sources; its exit status is the number of places that nothing was found for.
"""

import re
import sys
from pathlib import Path

import torch

from labelassemble.functional import partial_label_loss

sys.path.insert(0, str(Path(__file__).parents[1] / "ops"))
from cuda_device import emulator, launches

ROOT = Path(__file__).parents[2]


def places() -> list[tuple[str, int]]:
    """Every barrier and fence of the CUDA sources, as file and line."""
    return [
        (path.name, number)
        for path in sorted((ROOT / "csrc" / "ops" / "cuda").iterdir())
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if re.search(r"__(syncthreads|threadfence)\w*\(", line.split("//")[0])
    ]


def run() -> str:
    """Run every kernel with barriers; return what was found, or nothing."""
    generator = torch.Generator().manual_seed(0)
    weak, strong, targets = (torch.rand((700, 15), generator=generator) for _ in range(3))
    image = torch.rand((2, 70, 4, 5), generator=generator).contiguous(memory_format=torch.channels_last)
    # More rows than blocks: a block takes a second turn.
    many = torch.rand((1, 2, 135_000), generator=generator).transpose(1, 2)
    try:
        for batch in (3, 700):  # in one block, in several
            partial_label_loss(weak[:batch], strong[:batch], targets[:batch])
        torch.ops.labelassemble.relu_mean(image)
        torch.ops.labelassemble.relu_mean(many)
    except RuntimeError as error:
        return str(error).splitlines()[0]
    return ""


def main() -> int:
    """Run whole, then without each place; return how many of these found nothing."""
    assert emulator is not None
    found = run()
    if found or launches() == 0:
        print(f"the sources as they are: {found or 'nothing was run'}")
        return 1
    missed = 0
    for name, line in places():
        emulator.cuda_on_cpu_leave_out(name.encode(), line)
        found = run()
        emulator.cuda_on_cpu_leave_nothing_out()
        missed += not found
        print(f"without {name}:{line}: {found or 'nothing was found'}")
    return missed


if __name__ == "__main__":
    sys.exit(main())
