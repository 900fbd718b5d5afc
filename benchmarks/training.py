"""Times whole training steps of DenseNet121: both views forward, the loss, backward, Adam.

    python benchmarks/training.py                  # a table under benchmarks/results/
    python benchmarks/training.py --device cuda    # 224 pixels, batches of 16 and 64

a: float32 eager, the loss as the authors wrote it, a loop over images and classes; b: float32 eager, the loss in plain
torch (the reference of labelassemble.ops); c: ours with the settings that a configuration offers. The rows between b
and c take one setting at a time; after c come Adam in one kernel, and training of the head alone
(train.freeze_backbone). Images a second count each image once, though two views of it pass the network.
"""

import argparse
import csv
import importlib.util
import statistics
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from harness import device_name, machine, synchronize
from torch import Tensor, nn

from labelassemble import AssembleNet, PartialLabelLoss
from labelassemble.ops.partial_label_loss import reference

CLASSES = 15
STEPS = 4  # of a variant in a round, the first of them not counted
Loss = Callable[[Tensor, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Variant:
    """One way to train."""

    name: str
    loss: str
    precision: str = "float32"
    channels_last: bool = False
    compile: bool = False
    frozen: bool = False
    fused_adam: bool = False
    graph: bool = False  # forward, loss and backward as one CUDA graph (train.cuda_graph)


@dataclass(frozen=True)
class Row:
    """One measured line; times in milliseconds a step."""

    device: str
    pixels: int
    batch: int
    threads: int
    variant: str
    p20_ms: float
    p50_ms: float
    p80_ms: float
    images_s: float
    over_a: float
    over_b: float


def authors_loss(weak: Tensor, strong: Tensor, targets: Tensor) -> Tensor:
    """The loss by the algorithm of the authors' release, entry by entry; of a training step as they run it.

    github.com/MrGiovanni/LabelAssemble, loss.py, SemiLoss at commit eb113dc: probabilities, a loop over the images and
    within it over the classes, for each entry a cross-entropy, a comparison with the threshold, a sharpened target and
    two squared errors, added one by one and divided by the batch. Theirs calls the cross-entropy for every entry; here
    only known ones have a label, so the loop has less to do than theirs.
    """
    weak, strong = weak.sigmoid(), strong.sigmoid()
    known = ~targets.isnan()
    bce, pseudo, consistency = (torch.zeros((), device=weak.device) for _ in range(3))
    for image in range(weak.shape[0]):
        for column in range(weak.shape[1]):
            probability = weak[image][column]
            if known[image][column]:
                bce = bce + F.binary_cross_entropy(probability, targets[image][column])
            above = bool(probability > 0.5)
            sharpened = probability + (1 - probability) / 4.0 if above else probability - probability / 4.0
            pseudo = pseudo + F.mse_loss(probability, sharpened)
            consistency = consistency + F.mse_loss(strong[image][column], sharpened)
    return (bce + pseudo + consistency) / weak.shape[0]


def _reference_loss(weak: Tensor, strong: Tensor, targets: Tensor) -> Tensor:
    return reference(weak, strong, targets, validate=False)[0]


def variants(compiled: bool, *, graph: bool = False) -> list[Variant]:
    """What is timed, in order; with `graph` c is a CUDA graph, with `compiled` alone it is compiled."""
    rows = [
        Variant("a: float32, loss as a loop", "loop"),
        Variant("b: float32, loss in plain torch", "torch"),
        Variant("fused loss", "fused"),
        Variant("fused loss and Adam", "fused", fused_adam=True),
        Variant("fused loss and Adam, channels_last", "fused", channels_last=True, fused_adam=True),
        Variant("fused loss and Adam, bf16", "fused", "bfloat16", fused_adam=True),
    ]
    name = "fused loss and Adam, bf16, channels_last"
    plain = Variant(name, "fused", "bfloat16", channels_last=True, fused_adam=True)
    ways = [plain]
    if compiled:
        ways.append(replace(plain, name=f"{name}, compile", compile=True))
    if graph:
        ways.append(replace(plain, name=f"{name}, CUDA graph", graph=True))
    ours = ways[-1]
    frozen = replace(ours, name=f"{ours.name}, backbone frozen", frozen=True)
    return [*rows, *ways[:-1], replace(ours, name=f"c: {ours.name}"), frozen]


def make_step(variant: Variant, device: str, pixels: int, batch: int) -> Callable[[], None]:
    """Return one training step of the variant, with everything it needs made."""
    torch.manual_seed(0)
    net = AssembleNet("densenet121", classes=[f"class{index}" for index in range(CLASSES)]).to(device)
    layout = torch.channels_last if variant.channels_last else torch.contiguous_format
    net.to(memory_format=layout)  # type: ignore[call-overload]
    network: nn.Module = torch.compile(net) if variant.compile else net  # type: ignore[assignment]
    weak, strong = (torch.randn(batch, 1, pixels, pixels, device=device) for _ in range(2))
    targets = (torch.rand(batch, CLASSES, device=device) > 0.5).float()
    targets[torch.rand(batch, CLASSES, device=device) > 0.5] = float("nan")
    loss: Loss = {"loop": authors_loss, "torch": _reference_loss, "fused": PartialLabelLoss().to(device)}[
        variant.loss
    ]
    if variant.frozen:
        net.freeze_backbone()
    trained = [parameter for parameter in net.parameters() if parameter.requires_grad]
    optimizer = torch.optim.Adam(trained, lr=2e-4, fused=variant.fused_adam or None)
    net.train()

    def learn(weak: Tensor, strong: Tensor, targets: Tensor) -> Tensor:
        images = torch.cat([weak, strong]).contiguous(memory_format=layout)
        half = variant.precision != "float32"
        with torch.autocast(device, torch.bfloat16) if half else nullcontext():
            logits = network(images)
        value = loss(logits[:batch].float(), logits[batch:].float(), targets)
        value.backward()
        return value.detach()

    def run() -> Tensor:
        optimizer.zero_grad(set_to_none=True)
        return learn(weak, strong, targets)

    if variant.graph:
        run = in_a_graph(learn, (weak, strong, targets), optimizer, kept=(net, loss))

    def step() -> None:
        value = run()
        optimizer.step()
        value.item()  # as a display does, and it waits for the device

    return step


def in_a_graph(
    learn: Callable[[Tensor, Tensor, Tensor], Tensor],
    images: tuple[Tensor, Tensor, Tensor],
    optimizer: torch.optim.Adam,
    kept: object,
) -> Callable[[], Tensor]:
    """Return what makes a step as `train` does, from the fourth on as a CUDA graph."""
    from labelassemble.training.cuda_graph import CudaRecorder, StepGraphs
    from labelassemble.views.batch import Batch

    def learn_batch(batch: Batch) -> Tensor:
        assert batch.strong is not None
        return learn(batch.weak, batch.strong, batch.targets)

    weak, strong, targets = images
    graphs = StepGraphs(optimizer, CudaRecorder(weak.device), weak.device)
    batch = Batch(0, torch.arange(len(weak)), weak, strong, targets)
    return partial(graphs.run, batch, learn_batch, lambda given: given, constants=None, kept=kept)


def trains() -> bool:
    """Whether the packages are there that `labelassemble train` needs, and with it a step in a CUDA graph."""
    missing = [name for name in ("pandas", "pyarrow") if importlib.util.find_spec(name) is None]
    if missing:
        print(f"training.py: without {' and '.join(missing)} no step in a CUDA graph is measured")
    return not missing


def table(device: str, pixels: int, batch: int, rounds: int, compiled: bool) -> list[Row]:
    """Rows of one size; every round takes a few steps of each variant, so that all meet the same machine.

    The first of them is not counted: it finds the kernels and buffers of the variant before it in the caches, where a
    training finds its own.
    """
    steps = {
        variant.name: make_step(variant, device, pixels, batch)
        for variant in variants(compiled, graph=device == "cuda" and trains())
    }
    times: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(1 + rounds):
        for name, step in steps.items():
            for again in range(STEPS):
                synchronize()
                start = time.perf_counter()
                step()
                synchronize()
                if turn and again:  # before that memory, kernels chosen, code compiled
                    times[name].append((time.perf_counter() - start) * 1e3)
    rows: list[Row] = []
    medians = [statistics.median(values) for values in times.values()]
    for name, values in times.items():
        quantiles = statistics.quantiles(values, n=10, method="inclusive")
        p20, p50, p80 = quantiles[1], quantiles[4], quantiles[7]
        row = Row(
            device=device,
            pixels=pixels,
            batch=batch,
            threads=torch.get_num_threads(),
            variant=name,
            p20_ms=p20,
            p50_ms=p50,
            p80_ms=p80,
            images_s=batch / p50 * 1e3,
            over_a=medians[0] / p50,
            over_b=medians[1] / p50,
        )
        rows.append(row)
        print(
            f"{pixels} pixels, batch {batch:<3} {name:<70} p20 {p20:8.1f}  p50 {p50:8.1f}  p80 {p80:8.1f} ms  "
            f"{row.images_s:8.1f} images/s  {row.over_a:5.2f}x a  {row.over_b:5.2f}x b",
            flush=True,
        )
    return rows


def write(rows: list[Row], path: Path, lines: list[str]) -> None:
    """Write `path`.csv and `path`.md, the machine first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    names = [field.name for field in fields(Row)]
    cells = [
        [f"{value:.4g}" if isinstance(value, float) else str(value) for value in asdict(row).values()]
        for row in rows
    ]
    with path.with_suffix(".csv").open("w", newline="") as file:
        file.write(f"# {lines[0]}\n")
        csv.writer(file, lineterminator="\n").writerows([names, *cells])
    text = ["| " + " | ".join(row) + " |" for row in [names, ["---"] * len(names), *cells]]
    path.with_suffix(".md").write_text("\n".join(["\n\n".join(lines), "", *text]) + "\n")


def main() -> None:
    """Parse the arguments, measure, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--pixels", type=int, nargs="+", help="default: 64 and 96 on a CPU, 224 on a GPU")
    parser.add_argument("--batch", type=int, nargs="+", help="default: 16 on a CPU, 16 and 64 on a GPU")
    parser.add_argument("--rounds", type=int, default=4, help="rounds, of 3 measured steps of each line")
    parser.add_argument("--compile", action="store_true", help="with torch.compile too (minutes)")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results")
    arguments = parser.parse_args()
    cuda = arguments.device == "cuda"
    first_line = machine(arguments.device)
    print(first_line)
    what = (
        f"DenseNet121, {CLASSES} classes, half of the labels unknown; a step: both views forward, the loss, backward, "
        "Adam. over_a, over_b: the medians of a and b over this one's."
    )
    rows: list[Row] = []
    for pixels in arguments.pixels or ([224] if cuda else [64, 96]):
        for batch in arguments.batch or ([16, 64] if cuda else [16]):
            rows += table(arguments.device, pixels, batch, arguments.rounds, arguments.compile)
            write(rows, arguments.output / f"training_{device_name(arguments.device)}", [first_line, what])


if __name__ == "__main__":
    main()
