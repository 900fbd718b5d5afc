"""Images a second from 1024x1024 files to two 224x224 views, decoding included, and the memory that it takes.

    python benchmarks/views.py                  the table, into benchmarks/results/views.csv and views.md (6 minutes)
    python benchmarks/views.py --training       a training step fed by the views over one fed with a tensor

Side by side: our backends; what people write by hand (DataLoader, Pillow, torch); DALI as its documentation writes it;
and the transforms alone, on images in memory. Each is a process of its own; they take turns, so that a
moment at which the machine is busy falls on all alike.
"""

import argparse
import csv
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import torch
from torch import Tensor
from views_compared import (
    BATCH,
    FILES,
    FORMATS,
    IMPLEMENTATIONS,
    SIDE,
    WORKERS,
    epochs,
    make_files,
    open_ours,
)

from labelassemble.models import AssembleNet
from labelassemble.views.choice import choose_backend
from labelassemble.views.policy import ViewOptions

RESULTS = Path(__file__).parent / "results"
EPOCH = 384  # images: each file eight times
SECONDS = 3.0
ROUNDS = 5
GROWTH_EPOCHS = 50


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    format: str
    implementation: str
    images_s: float  # median over the rounds
    slowest: float
    fastest: float
    of_hand: float  # images_s over that of "hand"
    process_mib: float  # most memory of the main process, libraries included
    worker_mib: float  # most memory of one of its worker processes, 0 without any


# --- measuring ---------------------------------------------------------------------------------------------------


def serve(name: str, kind: str, folder: Path) -> None:
    """Measure one implementation in this process each time a line comes in; print images a second and memory."""
    paths = _paths(folder)
    paths = (paths * (EPOCH // len(paths) + 1))[:EPOCH]
    epoch = epochs(name, paths, kind)
    if name == "memory":
        for _ in epoch():  # fills the cache
            pass
    batches = epoch()
    for _ in sys.stdin:
        for _ in range(4):  # what was made while nobody measured
            batches = _next(batches, epoch)[1]
        images, start = 0, time.perf_counter()
        while time.perf_counter() < start + SECONDS:
            count, batches = _next(batches, epoch)
            images += count
        seconds = time.perf_counter() - start
        worker = max((_mib(child, "VmHWM") for child in _children()), default=0.0)
        found = {"images_s": images / seconds, "process": _mib(os.getpid(), "VmHWM"), "worker": worker}
        print(json.dumps(found), flush=True)


def grow(name: str, kind: str, folder: Path) -> None:
    """Print the memory of this process after each of 50 epochs."""
    epoch = epochs(name, _paths(folder), kind)
    memory = []
    for _ in range(GROWTH_EPOCHS):
        for _ in epoch():
            pass
        memory.append(_mib(os.getpid(), "VmRSS"))
    print(json.dumps(memory))


def _paths(folder: Path) -> list[str]:
    return sorted(str(path) for path in folder.iterdir())


def _next(batches: Iterator[int], epoch: Callable[[], Iterator[int]]) -> tuple[int, Iterator[int]]:
    """Return the next batch's number of images, of the next epoch where this one is over."""
    count = next(batches, None)
    if count is not None:
        return count, batches
    batches = epoch()
    return next(batches), batches


def _mib(process: int, field: str) -> float:
    for line in Path(f"/proc/{process}/status").read_text(encoding="utf-8").splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) / 1024
    return 0.0


def _children() -> list[int]:
    return [int(child) for child in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()]


def _begin(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, __file__, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        encoding="utf-8",
    )


def _ask(process: subprocess.Popen[str]) -> dict[str, float]:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("measure\n")
    process.stdin.flush()
    return json.loads(process.stdout.readline())  # type: ignore[no-any-return]


def machine() -> str:
    """Return one line on the processor, the libraries and how busy the machine is."""
    names = [
        line.split(":", 1)[1].strip()
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        if line.startswith("model name")
    ]
    return (
        f"{names[0]} x {len(names)}, torch {torch.__version__}, Python {platform.python_version()}, "
        f"load average {os.getloadavg()[0]:.1f} at the start"
    )


def table() -> None:
    """Measure everything and write the table."""
    first_line = machine()
    print(first_line)
    rows: list[Row] = []
    growth: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as top:
        folders = {kind: Path(top) / kind.replace(" ", "-") for kind in FORMATS}
        for kind, folder in folders.items():
            folder.mkdir()
            make_files(folder, kind)
            processes = {name: _begin("--serve", name, kind, str(folder)) for name in IMPLEMENTATIONS}
            for process in processes.values():  # until all stand ready
                _ask(process)
            found: dict[str, list[dict[str, float]]] = {name: [] for name in IMPLEMENTATIONS}
            for _ in range(ROUNDS):
                for name, process in processes.items():
                    found[name].append(_ask(process))
            for process in processes.values():
                process.communicate()
            hand = statistics.median(one["images_s"] for one in found["hand"])
            for name, several in found.items():
                speeds = [one["images_s"] for one in several]
                row = Row(
                    format=kind,
                    implementation=name,
                    images_s=statistics.median(speeds),
                    slowest=min(speeds),
                    fastest=max(speeds),
                    of_hand=statistics.median(speeds) / hand,
                    process_mib=max(one["process"] for one in several),
                    worker_mib=max(one["worker"] for one in several),
                )
                rows.append(row)
                print(
                    f"{kind:12} {name:13} {row.images_s:6.0f} images/s ({row.slowest:.0f} to {row.fastest:.0f}), "
                    f"{row.of_hand:.2f}x by hand, {row.process_mib:.0f} + {row.worker_mib:.0f} MiB",
                    flush=True,
                )
        for name in ("torch", "dali"):
            output, _ = _begin("--grow", name, "PNG grey", str(folders["PNG grey"])).communicate()
            growth[name] = json.loads(output)
            print(
                f"{name}: {growth[name][4]:.0f} MiB after 5 epochs, {growth[name][-1]:.0f} after 50",
                flush=True,
            )
    write(rows, growth, first_line)


def write(rows: list[Row], growth: dict[str, list[float]], first_line: str) -> None:
    """Write views.csv and views.md."""
    RESULTS.mkdir(exist_ok=True)
    names = [field.name for field in fields(Row)]
    with (RESULTS / "views.csv").open("w", newline="", encoding="utf-8") as file:
        file.write(f"# {first_line}\n")
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(names)
        writer.writerows([_short(value) for value in asdict(row).values()] for row in rows)
    lines = [
        f"{first_line}; {SIDE}x{SIDE} files to two 224x224 views, batches of {BATCH}, {WORKERS} workers, "
        f"{ROUNDS} rounds of {SECONDS:g} s, files in the page cache.",
        "",
        *(f"- `{name}`: {what}" for name, what in IMPLEMENTATIONS.items()),
        "",
        "| " + " | ".join(names) + " |",
        "|" + "---|" * len(names),
        *("| " + " | ".join(str(_short(value)) for value in asdict(row).values()) + " |" for row in rows),
        "",
        *(
            f"Memory of backend `{name}` over {GROWTH_EPOCHS} epochs of {FILES} files (PNG grey): "
            f"{memory[4]:.0f} MiB after 5, {memory[24]:.0f} after 25, {memory[-1]:.0f} after {GROWTH_EPOCHS}."
            for name, memory in growth.items()
        ),
    ]
    (RESULTS / "views.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _short(value: object) -> object:
    return float(f"{value:.3g}") if isinstance(value, float) else value


# --- a training step ---------------------------------------------------------------------------------------------


def training(backbone: str, kind: str) -> None:
    """Print how many images a second a training step takes, fed with one tensor and fed by the views."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    net = AssembleNet(backbone, classes=["a", "b"], head="linear", in_channels=1).to(
        device, memory_format=torch.channels_last
    )
    optimizer = torch.optim.Adam(net.parameters())

    def step(images: Tensor) -> None:
        with torch.autocast(device, dtype=torch.bfloat16, enabled=device == "cuda"):
            loss = net(images.to(device, memory_format=torch.channels_last)).square().mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    def rate(batches: Iterator[Tensor]) -> float:
        for _ in range(3):
            step(next(batches))
        images, start = 0, time.perf_counter()
        while time.perf_counter() < start + 5 * SECONDS:
            views = next(batches)
            step(views)
            images += len(views) // 2
        if device == "cuda":
            torch.cuda.synchronize()
        return images / (time.perf_counter() - start)

    with tempfile.TemporaryDirectory() as top:
        paths = make_files(Path(top), kind) * (EPOCH // FILES)
        options = ViewOptions(cache_mb=0, threads=os.cpu_count() or 1)
        choice = choose_backend(options, torch.device(device))
        views = open_ours(choice, paths, options, device)

        def fed() -> Iterator[Tensor]:
            for epoch in range(10**9):
                for batch in views.epoch(epoch, strong=True):
                    assert batch.strong is not None
                    yield torch.cat([batch.weak, batch.strong])

        def synthetic() -> Iterator[Tensor]:
            images = torch.rand(2 * BATCH, 1, 224, 224, device=device)
            while True:
                yield images

        ceiling, reached = rate(synthetic()), rate(fed())
    where = torch.cuda.get_device_name() if device == "cuda" else "CPU"
    print(f"{machine()}, {where}: {backbone}, {kind}, views by {choice.name} ({choice.reason}):")
    print(f"{ceiling:.1f} images/s from a tensor, {reached:.1f} from the views: {reached / ceiling:.0%}")


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--training", action="store_true")
    parser.add_argument("--backbone", default="densenet121")
    parser.add_argument("--kind", default="JPEG grey", choices=FORMATS)
    parser.add_argument("--serve", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--grow", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        name, kind, folder = arguments.serve
        serve(name, kind, Path(folder))
    elif arguments.grow:
        name, kind, folder = arguments.grow
        grow(name, kind, Path(folder))
    elif arguments.training:
        training(arguments.backbone, arguments.kind)
    else:
        table()


if __name__ == "__main__":
    main()
