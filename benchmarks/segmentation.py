"""Times the loss at the sizes of segmentation, and a whole step of a network, against eager torch and torch.compile.

    python benchmarks/segmentation.py                      # a table under benchmarks/results/
    python benchmarks/segmentation.py --quick --no-step    # what the committed table was made with

Half of the classes of an image are unknown ("planes", as volumes of several datasets are labelled). "defaults" is the
loss with what a run adds by default: known labels in both views, classes that exclude each other, soft Dice.
"""

import argparse
import functools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from harness import Row, copy_rate, device_name, machine, measure, peak_extra_bytes, print_row, write
from loss import Loss, eager, inputs, lean
from torch import Tensor

from labelassemble.data import Exclusions
from labelassemble.functional import partial_label_loss
from labelassemble.loss import LossOptions
from labelassemble.models.segmentation.segment_net import SegmentNet
from labelassemble.training.data import TrainingData
from labelassemble.training.losses import StepLoss

SHAPES = [(8, 3, 256, 256), (2, 3, 96, 96, 96), (2, 14, 96, 96, 96)]


def defaults(shape: tuple[int, ...], device: str) -> Loss:
    """The loss of a run on volumes with the preset "recommended"."""
    batch, classes = shape[:2]
    matrices = ~np.eye(classes, dtype=np.bool_)[None]
    data = TrainingData(
        [f"c{index}" for index in range(classes)],
        [],
        np.zeros((batch, classes), np.float32),
        Exclusions(matrices, np.zeros(batch, np.int64)),
    )
    options = LossOptions(warmup_epochs=0, strong_known=True, exclusive=True, dice_weight=1.0)
    step_loss = StepLoss(options, data, torch.device(device))
    rows = torch.arange(batch)

    def loss(weak: Tensor, strong: Tensor, targets: Tensor) -> Tensor:
        counts = step_loss.count(targets)
        return step_loss.terms(weak, strong, targets, rows=rows, part=counts, whole=counts).total

    return loss


def loss_rows(shape: tuple[int, ...], device: str, threads: int, seconds: float, compiled: bool) -> list[Row]:
    """Rows of one shape, forward and backward together."""
    tensors = inputs(shape, torch.float32, device, planes=True)
    candidates: dict[str, Loss] = {"eager": eager, "eager lean": lean}
    if compiled:
        candidates["compile lean"] = torch.compile(lean, fullgraph=True, dynamic=False)
    candidates |= {"labelassemble": partial_label_loss, "labelassemble, defaults": defaults(shape, device)}
    moved = 8 * tensors[0].numel() * tensors[0].element_size()
    rows: list[Row] = []
    for name, loss in candidates.items():
        both = functools.partial(_both, loss, *tensors)
        rows.append(_row("partial_label_loss", shape, threads, name, both, moved, device, seconds, rows))
    return rows


def _both(loss: Loss, weak: Tensor, strong: Tensor, targets: Tensor) -> tuple[Tensor, ...]:
    return torch.autograd.grad(loss(weak, strong, targets), (weak, strong))


def step_rows(size: int, device: str, threads: int, seconds: float) -> list[Row]:
    """Rows of a step of DynUNet without its optimizer, both views: the network alone, and with the loss."""
    torch.manual_seed(0)
    net = SegmentNet("dynunet", classes=["a", "b", "c"], dims=3).to(device)
    views = torch.randn(2, 1, size, size, size, device=device)
    shape = (1, 3, size, size, size)
    targets = inputs(shape, torch.float32, device, planes=True)[2]

    def step(loss: Loss | None) -> None:
        logits = net(views)
        total = logits.sum() if loss is None else loss(logits[:1], logits[1:], targets)
        total.backward()
        net.zero_grad(set_to_none=True)

    candidates: dict[str, Loss | None] = {
        "network alone": None,
        "eager": eager,
        "labelassemble": partial_label_loss,
        "labelassemble, defaults": defaults(shape, device),
    }
    moved = 8 * targets.numel() * 4
    rows: list[Row] = []
    for name, loss in candidates.items():
        whole = functools.partial(step, loss)
        rows.append(_row("step of dynunet", shape, threads, name, whole, moved, device, seconds, rows))
    return rows


def _row(
    op: str,
    shape: tuple[int, ...],
    threads: int,
    name: str,
    function: Callable[[], object],
    moved: int,
    device: str,
    seconds: float,
    before: list[Row],
) -> Row:
    p20, p50, p80 = measure(function, seconds=seconds, least=3)
    rate = moved / (p50 * 1e-6)
    row = Row(
        op=op,
        shape="x".join(map(str, shape)),
        dtype="float32",
        threads=threads,
        implementation=name,
        run="both",
        p20_us=p20,
        p50_us=p50,
        p80_us=p80,
        speedup=(before[0].p50_us if before else p50) / p50,
        gigabytes_s=rate / 1e9,
        of_copy_rate=rate / copy_rate(moved, device),
        peak_extra_mib=peak_extra_bytes(function) / 2**20,
    )
    print_row(row)
    return row


def main() -> None:
    """Parse the arguments, measure, and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="the two smaller losses, 0.2 seconds a line")
    parser.add_argument("--no-compile", action="store_true", help="without torch.compile")
    parser.add_argument("--no-step", action="store_true", help="the losses alone")
    parser.add_argument("--seconds", type=float, default=2.0, help="time for each measured line")
    parser.add_argument("--size", type=int, default=48, help="edge of the patch of the whole step")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    first_line = machine(arguments.device)
    print(first_line)
    seconds = 0.2 if arguments.quick else arguments.seconds
    rows: list[Row] = []
    for shape in SHAPES[:2] if arguments.quick else SHAPES:
        rows += loss_rows(shape, arguments.device, arguments.threads, seconds, not arguments.no_compile)
    if not arguments.no_step:
        rows += step_rows(arguments.size, arguments.device, arguments.threads, seconds)
    write(rows, arguments.output / f"segmentation_{device_name(arguments.device)}", first_line)


if __name__ == "__main__":
    main()
