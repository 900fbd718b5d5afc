"""Images a second from 1024x1024 files to two 224x224 views, decoding included, and the memory that it takes.

    python benchmarks/views.py                     all cases (5 minutes), into benchmarks/results/views_cpu.csv and .md
    python benchmarks/views.py --case "PNG grey"   one of them (80 seconds), merged into the same table
    python benchmarks/views.py --case memory       memory over 50 epochs alone (40 seconds), merged likewise
    python benchmarks/views.py --case lists        lists of kornia's beside the built-in policy (20 seconds), likewise
    python benchmarks/views.py --training          a training step fed by the views over the same fed with a tensor

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
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from views_compared import (
    BATCH,
    FILES,
    FORMATS,
    IMPLEMENTATIONS,
    SIDE,
    WORKERS,
    built_in_and_kornia,
    epochs,
    implementations,
    make_files,
)

from labelassemble.views.view_pair import ViewMaker

RESULTS = Path(__file__).parent / "results"
EPOCH = 384  # images: each file sixteen times
SECONDS = 2.0
WARM_SECONDS = 0.5
ROUNDS = 5
GROWTH_EPOCHS = 50
GROWTH_KIND = "PNG grey"
AFTER = (5, 25, 50)  # epochs
LISTS_ROUNDS = 16  # the first of them is not counted


@dataclass(frozen=True)
class Row:
    """Speed of one implementation on one kind of files."""

    format: str
    implementation: str
    images_s: float  # median over the rounds
    slowest: float
    fastest: float
    of_hand: float  # images_s over that of "hand"
    process_mib: float  # most memory of the main process, libraries included
    worker_mib: float  # most memory of one of its worker processes, 0 without any
    load: float  # load average when the case began


@dataclass(frozen=True)
class Growth:
    """Memory of one backend, in MiB, after so many epochs."""

    backend: str
    after_5: float
    after_25: float
    after_50: float


@dataclass(frozen=True)
class Lists:
    """Processor time of both views of an image, in ms on one thread: medians over the rounds."""

    channels: int
    built_in_ms: float
    kornia_ms: float
    kornia_of_built_in: float
    load: float  # load average when the case began


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
    for line in sys.stdin:
        for _ in range(4):  # what was made while nobody measured
            batches = _next(batches, epoch)[1]
        images, start = 0, time.perf_counter()
        while time.perf_counter() < start + float(line):
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


def _ask(process: subprocess.Popen[str], seconds: float) -> dict[str, float]:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(f"{seconds}\n")
    process.stdin.flush()
    return json.loads(process.stdout.readline())  # type: ignore[no-any-return]


def machine() -> str:
    """Return one line on the processor and the libraries."""
    names = [
        line.split(":", 1)[1].strip()
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        if line.startswith("model name")
    ]
    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    return f"{names[0]} x {len(names)}{gpu}, torch {torch.__version__}, Python {platform.python_version()}"


def measure(kind: str) -> list[Row]:
    """Return the rows of one kind of files."""
    load = os.getloadavg()[0]
    names, rows = implementations(kind), []
    with tempfile.TemporaryDirectory() as folder:
        make_files(Path(folder), kind)
        processes = {name: _begin("--serve", name, kind, folder) for name in names}
        for process in processes.values():  # until all stand ready
            _ask(process, WARM_SECONDS)
        found: dict[str, list[dict[str, float]]] = {name: [] for name in names}
        for _ in range(ROUNDS):
            for name, process in processes.items():
                found[name].append(_ask(process, SECONDS))
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
            load=load,
        )
        rows.append(row)
        print(
            f"{kind:12} {name:13} {row.images_s:6.0f} images/s ({row.slowest:.0f} to {row.fastest:.0f}), "
            f"{row.of_hand:.2f}x by hand, {row.process_mib:.0f} + {row.worker_mib:.0f} MiB",
            flush=True,
        )
    return rows


def measure_growth() -> list[Growth]:
    """Return the memory of both backends over 50 epochs."""
    found = []
    with tempfile.TemporaryDirectory() as folder:
        make_files(Path(folder), GROWTH_KIND)
        for name in ("torch", "dali"):
            output, _ = _begin("--grow", name, GROWTH_KIND, folder).communicate()
            memory = json.loads(output)
            row = Growth(name, *(memory[after - 1] for after in AFTER))
            print(
                f"{name}: {row.after_5:.0f} MiB after 5 epochs, {row.after_50:.0f} after {GROWTH_EPOCHS}",
                flush=True,
            )
            found.append(row)
    return found


def measure_lists() -> list[Lists]:
    """Return what the built-in policy and lists of kornia's that do the same things take, in turns."""
    load, threads, found = os.getloadavg()[0], torch.get_num_threads(), []
    torch.set_num_threads(1)
    for channels in (1, 3):
        images = torch.rand(BATCH, channels, 224, 224)
        makers = [ViewMaker(options, 0) for options in built_in_and_kornia(channels)]
        times: list[list[float]] = [[], []]
        for one_pass in range(LISTS_ROUNDS):
            for maker, spent in zip(makers, times, strict=True):
                start = time.process_time()
                maker.pair(images, passes=[one_pass] * BATCH, rows=range(BATCH), strong=True)
                spent.append((time.process_time() - start) / BATCH * 1000)
        ours, theirs = (statistics.median(spent[1:]) for spent in times)
        row = Lists(channels, ours, theirs, theirs / ours, load)
        print(
            f"{channels} channels: {ours:.2f} ms built in, {theirs:.2f} ms by lists of kornia's", flush=True
        )
        found.append(row)
    torch.set_num_threads(threads)
    return found


# --- the table ---------------------------------------------------------------------------------------------------


def merge(rows: Sequence[Any], path: Path, key: int) -> list[dict[str, str]]:
    """Write `rows` into a table on this machine, in place of those with the same first `key` columns; return all.

    A table from another machine is begun anew.
    """
    names = [field.name for field in fields(rows[0])]
    new = [{name: _short(value) for name, value in asdict(row).items()} for row in rows]
    first_line = f"# {machine()}"
    old: list[dict[str, str]] = []
    if path.exists():
        lines = path.read_text(encoding="utf-8").splitlines()
        if lines[0] == first_line and lines[1].split(",") == names:
            old = list(csv.DictReader(lines[1:]))
    replaced = {tuple(row[name] for name in names[:key]) for row in new}
    together = [row for row in old if tuple(row[name] for name in names[:key]) not in replaced] + new
    RESULTS.mkdir(exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        file.write(f"{first_line}\n")
        writer = csv.DictWriter(file, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(together)
    return together


def write(rows: Sequence[Row], growth: Sequence[Growth], lists: Sequence[Lists] = ()) -> None:
    """Merge what was measured into views_cpu.csv, ..._memory.csv and ..._lists.csv, and write views_cpu.md."""
    speeds, memory, beside = (RESULTS / f"views_cpu{part}.csv" for part in ("", "_memory", "_lists"))
    if rows:
        merge(rows, speeds, key=1)
    if growth:
        merge(growth, memory, key=1)
    if lists:
        merge(lists, beside, key=1)
    lines = [
        f"{machine()}; {SIDE}x{SIDE} files to two 224x224 views, batches of {BATCH}, {WORKERS} workers, "
        f"{ROUNDS} rounds of {SECONDS:g} s in turns, files in the page cache.",
        "",
        *(f"- `{name}`: {what}" for name, what in IMPLEMENTATIONS.items()),
        "",
        *_markdown(speeds, order=FORMATS),
        "",
        "`load`: load average over the minute before the case began; `of_hand`: `images_s` over that of `hand`.",
        "",
        f"Resident memory in MiB after so many epochs of {FILES} files ({GROWTH_KIND}), libraries included:",
        "",
        *_markdown(memory),
        "",
        f"Both 224x224 views of an image in memory, in ms of processor time on one thread, batches of {BATCH}: the "
        "built-in policy beside lists of kornia's classes that do the same things (flip, rotation, noise; brightness, "
        "contrast, salt and pepper, erasing):",
        "",
        *_markdown(beside),
    ]
    (RESULTS / "views_cpu.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _markdown(path: Path, order: Sequence[str] = ()) -> list[str]:
    """Return a table of merge() as Markdown, with the values of the first column in `order`."""
    if not path.exists():
        return ["Not measured."]
    names, *rows = csv.reader(path.read_text(encoding="utf-8").splitlines()[1:])
    rows.sort(key=lambda row: order.index(row[0]) if row[0] in order else 0)
    return [f"| {' | '.join(row)} |" for row in (names, ["---"] * len(names), *rows)]


def _short(value: object) -> str:
    return f"{float(f'{value:.3g}'):g}" if isinstance(value, float) else str(value)


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--case", choices=(*FORMATS, "memory", "lists"), help="one case alone; default: all")
    parser.add_argument("--training", action="store_true", help="a training step fed by the views")
    parser.add_argument("--backbone", default="densenet121", help="of --training")
    parser.add_argument("--kind", default="JPEG grey", choices=FORMATS, help="files of --training")
    parser.add_argument("--size", type=int, default=224, help="of the views of --training")
    parser.add_argument(
        "--batch", type=int, default=64, help="images of a step of --training, two views each"
    )
    parser.add_argument("--seconds", type=float, default=10.0, help="of a round of --training")
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
        from views_training import training

        row = training(
            arguments.backbone,
            arguments.kind,
            size=arguments.size,
            batch=arguments.batch,
            seconds=arguments.seconds,
        )
        merge([row], RESULTS / f"views_training_{row.device}.csv", key=6)
    else:
        print(machine())
        for kind in FORMATS:
            if arguments.case in (None, kind):
                write(measure(kind), [])
        if arguments.case in (None, "memory"):
            write([], measure_growth())
        if arguments.case in (None, "lists"):
            write([], [], measure_lists())


if __name__ == "__main__":
    main()
