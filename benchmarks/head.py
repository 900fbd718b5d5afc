"""Times pooled_class_query_logits against relu, mean and the head in plain torch, and torch.compile of them.

    python benchmarks/head.py                      # a table under benchmarks/results/
    python benchmarks/head.py --steps              # whole steps of AssembleNet with and without it (minutes)

A whole step is a batch's forward, or with the loss and the backward. The two ways take turns, so that both meet the
same machine; on a CPU the time is the process's own, on one thread, which neighbours disturb least.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from harness import (
    Row,
    copy_rate,
    device_name,
    machine,
    measure,
    peak_extra_bytes,
    print_row,
    synchronize,
    write,
)
from torch import Tensor

from labelassemble import AssembleNet, PartialLabelLoss
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


def steps(pixels: int, batch: int, layout: torch.memory_format, rounds: int, device: str) -> list[Row]:
    """Rows of whole steps of one size: the backbone, its pooling and the head apart, and as AssembleNet calls them."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    net = AssembleNet("densenet121", classes=[f"class{index}" for index in range(CLASSES)]).to(device)
    net.to(memory_format=layout)  # type: ignore[call-overload]
    images = torch.randn(batch, 1, pixels, pixels, device=device).contiguous(memory_format=layout)
    targets = (torch.rand(batch, CLASSES, device=device) > 0.5).float()
    loss, weights = PartialLabelLoss(), list(net.parameters())
    clock = time.process_time if device == "cpu" else time.perf_counter

    def evaluate(answer: Callable[[Tensor], Tensor]) -> None:
        with torch.inference_mode():
            answer(images)

    def train(answer: Callable[[Tensor], Tensor]) -> None:
        torch.autograd.grad(loss(answer(images), None, targets), weights)

    peaks: dict[str, float] = {}
    ways = {"apart": lambda images: net.head(net.backbone(images)), "labelassemble": net}
    rows: list[Row] = []
    for run, step in (("forward", evaluate), ("both", train)):
        net.train(run == "both")
        times: dict[str, list[float]] = {name: [] for name in ways}
        for turn in range(1 + rounds):
            for name in list(ways) if turn % 2 else reversed(ways):
                if turn == 0:  # memory and the choice of kernels come first
                    peaks[name] = peak_extra_bytes(lambda step=step, name=name: step(ways[name])) / 2**20
                    continue
                synchronize()
                start = clock()
                step(ways[name])
                synchronize()
                times[name].append((clock() - start) * 1e6)
        for name, values in times.items():
            quantiles = statistics.quantiles(values, n=10, method="inclusive")
            pairs = zip(times["apart"], values, strict=True)
            rows.append(
                Row(
                    op="step of densenet121",
                    shape=f"{batch}x1x{pixels}x{pixels} {str(layout).removeprefix('torch.')}",
                    dtype="float32",
                    threads=1,
                    implementation=name,
                    run=run,
                    p20_us=quantiles[1],
                    p50_us=quantiles[4],
                    p80_us=quantiles[7],
                    speedup=statistics.median(apart / own for apart, own in pairs),
                    gigabytes_s=0.0,
                    of_copy_rate=0.0,
                    peak_extra_mib=peaks[name],
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
    parser.add_argument(
        "--steps", action="store_true", help="whole steps: 64 and 224 pixels, batches of 16 and 64"
    )
    parser.add_argument(
        "--rounds", type=int, default=10, help="measured steps of each way, a quarter of it at 224"
    )
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results")
    arguments = parser.parse_args()
    first_line = machine(arguments.device)
    print(first_line)
    rows: list[Row] = []
    formats = (torch.contiguous_format, torch.channels_last)
    if arguments.steps:
        for pixels, batch in ((64, 16), (64, 64), (224, 16), (224, 64)):
            for layout in formats if pixels == 64 else formats[1:]:
                rounds = arguments.rounds if pixels == 64 else max(arguments.rounds // 4, 2)
                rows += steps(pixels, batch, layout, rounds, arguments.device)
        remarks = [
            "AssembleNet with its pooling inside the head (labelassemble) and apart from it; speedup: the median over "
            "pairs of steps that followed each other. Bytes are not counted here."
        ]
        write(rows, arguments.output / f"head_steps_{device_name(arguments.device)}", first_line, remarks)
        return
    for memory_format in formats:
        rows += table(memory_format, 1, 0.2 if arguments.quick else arguments.seconds, arguments.device)
    write(rows, arguments.output / f"head_{device_name(arguments.device)}", first_line)


if __name__ == "__main__":
    main()
