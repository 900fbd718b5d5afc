"""The exported network beside what runs exported networks on CPUs: onnxruntime and OpenVINO.

DenseNet121 at 224x224, images uint8 in, probabilities out, two threads. Each engine is a process of its own; the
processes take turns, a few calls each, so that all meet the same machine. The files are those of benchmarks/export.py,
and the C++ program is that of benchmarks/cpp:

    python benchmarks/export.py prepare FOLDER
    cmake -S benchmarks/cpp -B FOLDER/cpp -DCMAKE_PREFIX_PATH="$(labelassemble doctor --cmake-path)"
    cmake --build FOLDER/cpp
    pip install openvino onnxruntime      # or --python OTHER, an environment that has them
    python benchmarks/engines.py FOLDER > benchmarks/results/engines_cpu.md
"""

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

BATCHES = (1, 16)
THREADS = 2
# name -> what it is
NAMES = {
    "cpp pt": "model.pt in C++ (the runtime of the server)",
    "cpp pt2": "model.pt2 in C++ (likewise)",
    "onnxruntime": "model.onnx in onnxruntime",
    "onnxruntime plain": "the network alone in onnxruntime",
    "openvino": "model.onnx in OpenVINO",
    "openvino plain": "the network alone in OpenVINO",
}
Images = NDArray[np.uint8]


def engine(folder: Path, name: str) -> Callable[[Images], object]:
    """Return what answers images uint8 [B, 1, 224, 224] in this process; without torch."""
    file = folder / ("plain.onnx" if name.endswith("plain") else "model.onnx")
    scale, shift = (
        (4 / 255, -2.0) if name.endswith("plain") else (1 / 255, 0.0)
    )  # Preprocess(1, 224, 0.5, 0.25)

    def prepared(images: Images) -> NDArray[np.float32]:
        return images * np.float32(scale) + np.float32(shift)

    if name.startswith("onnxruntime"):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = THREADS
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        key = session.get_inputs()[0].name
        return lambda images: session.run(None, {key: prepared(images)})
    import openvino

    settings = {
        "INFERENCE_NUM_THREADS": THREADS,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",
    }
    request = openvino.Core().compile_model(file, "CPU", settings).create_infer_request()
    return lambda images: request.infer([prepared(images)])


def worker(folder: Path, name: str) -> None:
    """Answer lines on the standard input: "BATCH SECONDS" -> the seconds of each call, in JSON."""
    answer = engine(folder, name)
    rng = np.random.default_rng(0)
    for line in sys.stdin:
        batch, seconds = line.split()
        images = rng.integers(0, 256, (int(batch), 1, 224, 224), dtype=np.uint8)
        times: list[float] = []
        answer(images)  # another shape than before
        end = time.perf_counter() + float(seconds)
        while time.perf_counter() < end or len(times) < 3:
            start = time.perf_counter()
            answer(images)
            times.append(time.perf_counter() - start)
        print(json.dumps(times), flush=True)


def turn_in_cpp(folder: Path, name: str, batch: int, seconds: float) -> list[float]:
    """Return the seconds of each call of the C++ program."""
    import torch

    model = folder / f"model.{name.removeprefix('cpp ')}"
    done = subprocess.run(
        [folder / "cpp" / "time_model", model, str(batch), str(seconds), str(THREADS)],
        env={**os.environ, "LD_LIBRARY_PATH": str(Path(torch.__file__).parent / "lib")},
        capture_output=True,
        text=True,
        check=True,
    )
    return [float(text) for text in done.stdout.split()[1:]]


def measure(
    folder: Path, names: list[str], python: str, rounds: int, seconds: float
) -> dict[tuple[str, int], list[float]]:
    """Return the seconds of all calls by name and batch."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    workers = {
        name: subprocess.Popen(
            [python, __file__, str(folder), "--worker", name],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for name in names
        if not name.startswith("cpp")
    }
    times: dict[tuple[str, int], list[float]] = {(name, batch): [] for name in names for batch in BATCHES}
    for _, batch, name in itertools.product(range(rounds), BATCHES, names):
        if name not in workers:
            times[name, batch] += turn_in_cpp(folder, name, batch, seconds)
            continue
        process = workers[name]
        assert process.stdin is not None
        assert process.stdout is not None
        print(batch, seconds, file=process.stdin, flush=True)
        times[name, batch] += json.loads(process.stdout.readline())
    for process in workers.values():
        process.communicate()
    return times


def main() -> None:
    """Parse the command line, measure, print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(NAMES))
    parser.add_argument("--python", default=sys.executable, help="that has onnxruntime and OpenVINO")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each turn")
    parser.add_argument("--worker", metavar="NAME", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.worker:
        worker(given.folder, given.worker)
        return
    names = given.names or list(NAMES)
    if unknown := [name for name in names if name not in NAMES]:
        parser.error(f"unknown: {', '.join(unknown)}")
    from harness import machine

    print(
        f"{machine()}; {THREADS} threads; DenseNet121, 224x224, 15 classes; float32; median and 20th percentile"
    )
    times = measure(given.folder, names, given.python, given.rounds, given.seconds)
    load = Path("/proc/loadavg").read_text().split()[0]
    print(f"load average at the end {load}; {given.rounds} turns of {given.seconds:g} s each, interleaved\n")
    print("| | batch 1: ms (p20) | batch 16: images a second (p20 of the time) |")
    print("|---|---:|---:|")
    for name in names:
        one, many = times[name, 1], times[name, 16]
        fast = [statistics.quantiles(values, n=5)[0] for values in (one, many)]
        print(
            f"| {NAMES[name]} | {statistics.median(one) * 1e3:.0f} ({fast[0] * 1e3:.0f}) "
            f"| {16 / statistics.median(many):.1f} ({16 / fast[1]:.1f}) |"
        )


if __name__ == "__main__":
    main()
