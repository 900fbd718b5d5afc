"""What train.precision, train.channels_last and train.compile bring on this processor: CPU time of a training step.

    python benchmarks/training_precision.py -o benchmarks/results/training_precision_avx2.md

A step is forward and backward of both views and Adam's update, of DenseNet121 at 64 pixels. The variants take turns,
and CPU time of one thread is measured (of the first step with that of the compilers it starts), so that a busy machine
changes little; the ratio is to float32 of the same turn.
`labelassemble.training.speed` chooses by the ratios.
"""

import argparse
import os
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import harness
import torch

from labelassemble import AssembleNet, PartialLabelLoss

SIZE, BATCH = 64, 4


def step_of(precision: torch.dtype, channels_last: bool, compiled: bool) -> Callable[[], None]:
    """Return a function that takes one training step."""
    torch.manual_seed(0)
    net = AssembleNet("densenet121", classes=[f"class {index}" for index in range(14)])
    images = torch.randn(2 * BATCH, 1, SIZE, SIZE)
    if channels_last:
        net, images = (x.to(memory_format=torch.channels_last) for x in (net, images))
    network = torch.compile(net) if compiled else net
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-4, fused=True)
    criterion = PartialLabelLoss()
    targets = torch.where(torch.rand(BATCH, 14) < 0.5, torch.rand(BATCH, 14).round(), float("nan"))

    def step() -> None:
        with torch.autocast("cpu", precision, enabled=precision != torch.float32):
            logits = network(images)
        optimizer.zero_grad()
        criterion(logits[:BATCH].float(), logits[BATCH:].float(), targets).backward()
        optimizer.step()

    return step


def cpu_seconds() -> float:
    """Return the CPU time of this process and of those that it started and waited for."""
    taken = os.times()
    return taken.user + taken.system + taken.children_user + taken.children_system


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("-o", "--output", type=Path, help="Markdown file to write.")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument(
        "--compile", action="store_true", help="measure train.compile instead: it takes minutes"
    )
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    os.environ.setdefault(
        "TORCHINDUCTOR_COMPILE_THREADS", "1"
    )  # no pool of processes that outlives the measurement
    variants = {
        "float32": (torch.float32, False, False),
        "float32, channels_last": (torch.float32, True, False),
        "bfloat16": (torch.bfloat16, False, False),
        "bfloat16, channels_last": (torch.bfloat16, True, False),
        "float16": (torch.float16, False, False),
    }
    if arguments.compile:
        variants = {
            "float32": (torch.float32, False, False),
            "float32, channels_last": (torch.float32, True, False),
            "float32, channels_last, compile": (torch.float32, True, True),
        }
    rows = ["| variant | first step, CPU s | a step, CPU s (median) | times float32 |", "|---|---|---|---|"]
    first, seconds = {}, {name: [] for name in variants}
    steps = {}
    for name, variant in variants.items():
        steps[name] = step_of(*variant)
        began = cpu_seconds()
        steps[name]()
        first[name] = cpu_seconds() - began
    for _ in range(arguments.turns):
        for name, step in steps.items():
            began = time.process_time()
            step()
            seconds[name].append(time.process_time() - began)
    base = seconds["float32"]
    for name, taken in seconds.items():
        ratio = median(one / other for one, other in zip(taken, base, strict=True))
        rows.append(f"| {name} | {first[name]:.2f} | {median(taken):.2f} | {ratio:.2f} |")
    head = f"{harness.machine()}; DenseNet121, {2 * BATCH} views of {SIZE}x{SIZE}, one thread, {arguments.turns} turns"
    text = f"{head}\n\n" + "\n".join(rows) + "\n"
    print(text)
    if arguments.output:
        arguments.output.write_text(text)


if __name__ == "__main__":
    main()
