"""Times partial_label_loss against plain torch and torch.compile of that, forward and backward.

    python benchmarks/loss.py                      # a table under benchmarks/results/
    python benchmarks/loss.py --quick --threads 1

"eager" is the library's own reference, which minds infinities; "lean" the same without that care, as one
writes it for ordinary logits. Each is timed as it is and through torch.compile.

Inputs: normal logits; half of the targets unknown, at random (every vector of the kernel holds both kinds)
or, in the rows called "planes", by whole classes of an image (as volumes from several datasets are labelled).
"""

import argparse
import functools
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from harness import Row, copy_rate, device_name, machine, measure, peak_extra_bytes, print_row, write
from torch import Tensor

from labelassemble.functional import partial_label_loss
from labelassemble.ops import partial_label_loss as op

SHAPES = [(16, 15), (4096, 15), (2, 4, 96, 96, 96)]
GPU_SHAPES = [(64, 15), (256, 15), (1024, 15), (4096, 15), (2, 4, 96, 96, 96), (4, 16, 128, 128, 128)]
Loss = Callable[[Tensor, Tensor, Tensor], Tensor]


def eager(weak: Tensor, strong: Tensor, targets: Tensor) -> Tensor:
    """The library's reference."""
    return op.reference(weak, strong, targets, validate=False)[0]


def lean(weak: Tensor, strong: Tensor, targets: Tensor) -> Tensor:
    """The formulas as one writes them in torch: leaner than the reference, wrong at infinite logits."""
    known = ~targets.isnan()
    unknown = ~known
    bce = F.binary_cross_entropy_with_logits(weak, targets.nan_to_num(0.0), reduction="none")
    a_weak, a_strong = weak.sigmoid(), strong.sigmoid()
    sharpened = torch.where(a_weak > 0.5, a_weak + (1 - a_weak) / 4, a_weak - a_weak / 4).detach()
    pseudo, consistency = (a_weak - sharpened) ** 2, (a_strong - sharpened) ** 2
    known_count, unknown_count = known.sum().clamp(min=1), unknown.sum().clamp(min=1)
    return (bce * known).sum() / known_count + ((pseudo + consistency) * unknown).sum() / unknown_count


def inputs(
    shape: tuple[int, ...], dtype: torch.dtype, device: str, planes: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Two views' logits that require gradients, and targets of which half are NaN."""
    torch.manual_seed(0)
    weak, strong = (torch.randn(shape).to(device, dtype).requires_grad_() for _ in range(2))
    targets = (torch.rand(shape) > 0.5).float()
    unknown = torch.rand(shape[:2]) > 0.5 if planes else torch.rand(shape) > 0.5
    targets[unknown] = float("nan")
    return weak, strong, targets.to(device, dtype)


def runs(loss: Loss, weak: Tensor, strong: Tensor, targets: Tensor) -> dict[str, Callable[[], object]]:
    """What is timed: the forward with its graph, the backward alone, and both."""
    kept = loss(weak, strong, targets)
    return {
        "forward": lambda: loss(weak, strong, targets),
        "backward": lambda: torch.autograd.grad(kept, (weak, strong), retain_graph=True),
        "both": lambda: torch.autograd.grad(loss(weak, strong, targets), (weak, strong)),
    }


def table(
    shape: tuple[int, ...], dtype: torch.dtype, device: str, planes: bool, threads: int, seconds: float
) -> list[Row]:
    """Rows of one shape: the reference and the lean form, torch.compile of them, ours."""
    torch.set_num_threads(threads)
    tensors = inputs(shape, dtype, device, planes)
    moved = {"forward": 3, "backward": 5, "both": 8}
    size = tensors[0].numel() * tensors[0].element_size()
    candidates: dict[str, Loss] = {
        "eager": eager,
        "eager lean": lean,
        "compile": torch.compile(eager, fullgraph=True, dynamic=False),
        "compile lean": torch.compile(lean, fullgraph=True, dynamic=False),
        "labelassemble": partial_label_loss,
    }
    rows: list[Row] = []
    medians: dict[str, float] = {}
    for name, loss in candidates.items():
        for run, function in runs(loss, *tensors).items():
            p20, p50, p80 = measure(function, seconds=seconds)
            medians.setdefault(run, p50)
            rate = moved[run] * size / (p50 * 1e-6)
            rows.append(
                Row(
                    op="partial_label_loss",
                    shape="x".join(map(str, shape)) + (" planes" if planes else ""),
                    dtype=str(dtype).removeprefix("torch."),
                    threads=threads,
                    implementation=name,
                    run=run,
                    p20_us=p20,
                    p50_us=p50,
                    p80_us=p80,
                    speedup=medians[run] / p50,
                    gigabytes_s=rate / 1e9,
                    of_copy_rate=rate / copy_rate(moved[run] * size, device),
                    peak_extra_mib=peak_extra_bytes(function) / 2**20,
                )
            )
            print_row(rows[-1])
    return rows


def main() -> None:
    """Parse the arguments, measure, and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--quick", action="store_true", help="0.2 seconds a line, float32 alone")
    parser.add_argument("--seconds", type=float, default=2.0, help="time for each measured line")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results")
    arguments = parser.parse_args()
    first_line = machine(arguments.device)
    print(first_line)
    seconds = 0.2 if arguments.quick else arguments.seconds
    measured = functools.partial(table, device=arguments.device, seconds=seconds)
    rows: list[Row] = []
    if arguments.device == "cuda":
        for shape in GPU_SHAPES:
            rows += measured(shape, torch.float32, planes=False, threads=1)
        rows += measured(GPU_SHAPES[-1], torch.bfloat16, planes=False, threads=1)
    else:
        for threads in arguments.threads:
            for shape in SHAPES if threads == 1 else SHAPES[-1:]:
                rows += measured(shape, torch.float32, planes=False, threads=threads)
            rows += measured(SHAPES[-1], torch.float32, planes=True, threads=threads)
        if not arguments.quick:
            rows += measured(SHAPES[-1], torch.bfloat16, planes=False, threads=1)
    write(rows, arguments.output / f"loss_{device_name(arguments.device)}", first_line)


if __name__ == "__main__":
    main()
