"""Time and memory of evaluating one case of a detection: 512x512x400 voxels, three classes, 36 lesions.

python benchmarks/record_case.py > benchmarks/results/record_case_cpu.md
"""

import time
from pathlib import Path

import numpy as np
from harness import machine

from labelassemble.detection_options import DetectionOptions
from labelassemble.evaluation.detection_case import DetectionCase, record_case

SHAPE, CLASSES, SPACING = (512, 512, 400), 3, (0.8, 0.8, 1.0)
GIB = 2**30


def case() -> DetectionCase:
    """Return balls anywhere in the volume; two of three are predicted two voxels beside where they are drawn."""
    rng = np.random.default_rng(0)
    probabilities = np.full((CLASSES, *SHAPE), 0.01, np.float32)
    mask = np.zeros(SHAPE, np.uint8)
    for column in range(CLASSES):
        for number in range(12):
            radius = int(rng.integers(6, 28))
            centre = [int(rng.integers(radius, size - radius - 2)) for size in SHAPE]
            grid = np.ogrid[tuple(slice(-radius, radius) for _ in SHAPE)]
            ball = sum(axis * axis for axis in grid) < radius * radius
            shift = 2 if number % 3 else 0
            drawn = tuple(slice(at - radius, at + radius) for at in centre)
            predicted = tuple(slice(part.start + shift, part.stop + shift) for part in drawn)
            mask[drawn][ball] = column + 1
            probabilities[column][predicted][ball] = 0.9
    values = {column + 1: column for column in range(CLASSES)}
    return DetectionCase(probabilities, np.ones(CLASSES, np.int8), mask, values, SPACING)


def _memory(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(f"{field}:"))


def main() -> None:
    """Print the table."""
    made = case()
    assert made.mask is not None
    held = made.probabilities.nbytes + made.mask.nbytes
    before = _memory("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the most so far is forgotten
    wall, processor = time.perf_counter(), time.process_time()
    record_case(made, DetectionOptions())
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    above = _memory("VmHWM") - before
    print(f"{machine()}\n")
    print(
        "| volume | classes | wall s | processor s | GiB of probabilities and mask | GiB above them | together |"
    )
    print("|---|---|---|---|---|---|---|")
    print(
        f"| {'x'.join(map(str, SHAPE))} | {CLASSES} | {wall:.1f} | {processor:.1f} | {held / GIB:.2f} | "
        f"{above / GIB:.2f} | {(held + above) / GIB:.2f} |"
    )


if __name__ == "__main__":
    main()
