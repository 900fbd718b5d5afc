"""Times pooled_class_query_logits against relu, mean and the head in plain torch, and torch.compile of them.

python benchmarks/head.py                      # a table under benchmarks/results/
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import torch
from harness import Row, copy_rate, device_name, machine, measure, peak_extra_bytes, print_row, write
from torch import Tensor

from labelassemble.functional import pooled_class_query_logits
from labelassemble.ops.pooled_class_query_logits import reference

SHAPE, CLASSES = (16, 1024, 7, 7), 15
Head = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


def table(memory_format: torch.memory_format, threads: int, seconds: float, device: str) -> list[Row]:
    """Rows of one memory format: eager, torch.compile, ours."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    image = torch.randn(SHAPE, device=device).contiguous(memory_format=memory_format)
    shapes = [(CLASSES, CLASSES), (SHAPE[1], CLASSES), (SHAPE[1],)]
    tensors = [image, *(torch.randn(shape, device=device) for shape in shapes)]
    for tensor in tensors:
        tensor.requires_grad_()
    size = image.numel() * image.element_size()
    moved = {"forward": 1, "backward": 2, "both": 3}
    compiled = torch.compile(reference, fullgraph=True, dynamic=False)
    candidates: dict[str, Head] = {
        "eager": reference,
        "torch.compile": compiled,
        "labelassemble": pooled_class_query_logits,
    }
    rows: list[Row] = []
    medians: dict[str, float] = {}
    for name, head in candidates.items():
        logits = head(*tensors)
        incoming = torch.ones_like(logits)
        runs: dict[str, Callable[[], object]] = {
            "forward": lambda head=head: head(*tensors),
            "backward": lambda logits=logits, incoming=incoming: torch.autograd.grad(
                logits, tensors, incoming, retain_graph=True
            ),
            "both": lambda head=head, incoming=incoming: torch.autograd.grad(
                head(*tensors), tensors, incoming
            ),
        }
        for run, function in runs.items():
            p20, p50, p80 = measure(function, seconds=seconds)
            medians.setdefault(run, p50)
            rate = moved[run] * size / (p50 * 1e-6)
            rows.append(
                Row(
                    op="pooled_class_query_logits",
                    shape="x".join(map(str, SHAPE))
                    + f" -> {CLASSES} {str(memory_format).removeprefix('torch.')}",
                    dtype="float32",
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
    """Parse the arguments, measure, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--quick", action="store_true", help="a tenth of the time")
    parser.add_argument("--seconds", type=float, default=2.0, help="time for each measured line")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results")
    arguments = parser.parse_args()
    first_line = machine(arguments.device)
    print(first_line)
    rows: list[Row] = []
    for memory_format in (torch.contiguous_format, torch.channels_last):
        rows += table(memory_format, 1, 0.2 if arguments.quick else arguments.seconds, arguments.device)
    write(rows, arguments.output / f"head_{device_name(arguments.device)}", first_line)


if __name__ == "__main__":
    main()
