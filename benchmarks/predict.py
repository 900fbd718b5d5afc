"""What `labelassemble predict` gains by keeping freed memory: DenseNet121 at 224x224 on image files, on a CPU.

    python benchmarks/predict.py IMAGES > benchmarks/results/predict_cpu.md

IMAGES is a folder. Each measurement is a process of its own, without and with keep_freed_memory() in turn.
"""

import argparse
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch
from harness import machine

from labelassemble import AssembleNet
from labelassemble.export import keep_freed_memory
from labelassemble.models.predict import predict
from labelassemble.views.options import ViewOptions


def images_a_second(folder: Path, *, keep: bool) -> float:
    """Predict every file three times, after a batch to warm up."""
    if keep:
        keep_freed_memory()
    torch.manual_seed(0)
    net = AssembleNet("densenet121", classes=["a", "b"], in_channels=1)
    files = sorted(str(path) for path in folder.iterdir())
    views = ViewOptions(size=224, channels=1)
    predict(net, files[:64], views)
    start = time.perf_counter()
    predict(net, files * 3, views)
    return 3 * len(files) / (time.perf_counter() - start)


def main() -> None:
    """Print both medians as Markdown."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("images", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--one", choices=["without", "with"], help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        print(images_a_second(given.images, keep=given.one == "with"))
        return
    rates: dict[str, list[float]] = {"without": [], "with": []}
    for _ in range(given.rounds):
        for name, found in rates.items():
            command = [sys.executable, __file__, str(given.images), "--one", name]
            found.append(float(subprocess.run(command, capture_output=True, text=True, check=True).stdout))
    print(
        f"{machine()}; DenseNet121, 224x224, {len(list(given.images.iterdir()))} files three times, batches of 64\n"
    )
    print("| keep_freed_memory() | images a second: median | each round |")
    print("|---|---:|---|")
    for name, found in rates.items():
        print(f"| {name} | {statistics.median(found):.1f} | {', '.join(f'{rate:.1f}' for rate in found)} |")


if __name__ == "__main__":
    main()
