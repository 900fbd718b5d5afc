"""Shared by the benchmarks: timing, the machine's copy rate, peak memory, and tables as CSV and Markdown."""

import csv
import os
import platform
import re
import shutil
import statistics
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler, which counts memory, says so otherwise
import torch
from torch.profiler import ProfilerActivity, profile

from labelassemble import _extension


@dataclass(frozen=True)
class Row:
    """One measured line of a table; times in microseconds."""

    op: str
    shape: str
    dtype: str
    threads: int
    implementation: str
    run: str  # forward, backward or both
    p20_us: float
    p50_us: float
    p80_us: float
    speedup: float  # the eager reference's median over this one's
    gigabytes_s: float  # bytes that the run must move, a second
    of_copy_rate: float  # the same, over the measured copy rate at this size
    peak_extra_mib: float  # most memory allocated during the run beyond what was there before


def device_name(device: str) -> str:
    """Return what the tables of a device are called by: cpu, or the name of the GPU (nvidia-h200)."""
    if device == "cpu":
        return "cpu"
    return re.sub(r"[^a-z0-9]+", "-", torch.cuda.get_device_name().lower()).strip("-")


def machine(device: str = "cpu") -> str:
    """Return one line on processor, threads, library and load: the first line of every table."""
    model = platform.processor() or "processor"
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [
            line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if "model name" in line
        ]
        model = f"{names[0]} x {len(names)}" if names else model
    load = Path("/proc/loadavg").read_text().split()[0] if Path("/proc/loadavg").exists() else "?"
    gpu = ""
    if device == "cuda":
        gpu = f"; {torch.cuda.get_device_name()}, {_clocks()}, CUDA {torch.version.cuda}"
    return (
        f"{model}; kernels {_extension.cpu_capability()}{gpu}; torch {torch.__version__}; "
        f"Python {platform.python_version()}; load average at start {load}"
    )


def _clocks() -> str:
    """Return the GPU's clocks as they are and as they may be, by nvidia-smi."""
    query = ["nvidia-smi", "--query-gpu=clocks.sm,clocks.max.sm,clocks.mem", "--format=csv,noheader"]
    if shutil.which(query[0]) is None:
        return "clocks not known"
    first = subprocess.run(query, capture_output=True, text=True, check=False).stdout.splitlines()[:1]
    sm, limit, memory = (first[0] if first else "?, ?, ?").split(", ")
    return f"SM clock {sm} of {limit}, memory clock {memory}"


def synchronize() -> None:
    """Wait for the device, where there is one."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def measure(
    function: Callable[[], object], *, seconds: float = 1.0, least: int = 10
) -> tuple[float, float, float]:
    """Return the 20th, 50th and 80th percentile of the function's time in microseconds.

    Runs it for a tenth of `seconds` first, at least twice, then for `seconds`, at least `least` times.
    """
    times: list[float] = []
    for budget, runs in ((seconds / 10, 2), (seconds, least)):
        times.clear()
        end = time.perf_counter() + budget
        while time.perf_counter() < end or len(times) < runs:
            synchronize()
            start = time.perf_counter()
            function()
            synchronize()
            times.append((time.perf_counter() - start) * 1e6)
    quantiles = statistics.quantiles(times, n=10, method="inclusive")
    return quantiles[1], quantiles[4], quantiles[7]


def copy_rate(moved: int, device: str = "cpu") -> float:
    """Return the bytes a second (read and written) of copying, at `moved` bytes in all, the best of 20."""
    source = torch.ones(max(moved // 2, 4096), dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    best = float("inf")
    for _ in range(20):
        synchronize()
        start = time.perf_counter()
        target.copy_(source)
        synchronize()
        best = min(best, time.perf_counter() - start)
    return 2 * source.numel() / best


def peak_extra_bytes(function: Callable[[], object]) -> int:
    """Return the most bytes that torch had allocated during the function, beyond those from before it."""
    if torch.cuda.is_available():
        synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        function()
        synchronize()
        return int(torch.cuda.max_memory_allocated() - before)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        function()
    results = profiler.profiler.kineto_results.events()
    changes = [event.nbytes() for event in results if event.name() == "[memory]"]  # in the order of time
    total = peak = 0
    for change in changes:
        total += change
        peak = max(peak, total)
    return peak


def print_row(row: Row) -> None:
    """Print a row as it comes."""
    print(
        f"{row.op} {row.shape} {row.dtype} {row.threads}t {row.implementation:<14} {row.run:<8} "
        f"p20 {row.p20_us:>10.1f}  p50 {row.p50_us:>10.1f}  p80 {row.p80_us:>10.1f} us  "
        f"{row.speedup:5.1f}x eager  {row.of_copy_rate:5.2f} of copy rate  {row.peak_extra_mib:8.2f} MiB",
        flush=True,
    )


def write(rows: Sequence[Row], path: Path, first_line: str, remarks: Sequence[str] = ()) -> None:
    """Write `path`.csv and `path`.md."""
    path.parent.mkdir(parents=True, exist_ok=True)
    names = [field.name for field in fields(Row)]
    with path.with_suffix(".csv").open("w", newline="") as file:
        file.write(f"# {first_line}\n")
        writer = csv.writer(file)
        writer.writerow(names)
        writer.writerows([_short(value) for value in asdict(row).values()] for row in rows)
    lines = [first_line, "", *remarks, *([""] if remarks else [])]
    lines += ["| " + " | ".join(names) + " |", "|" + "---|" * len(names)]
    lines += ["| " + " | ".join(str(_short(value)) for value in asdict(row).values()) + " |" for row in rows]
    path.with_suffix(".md").write_text("\n".join(lines) + "\n")


def _short(value: object) -> object:
    return float(f"{value:.4g}") if isinstance(value, float) else value
