"""Latency and throughput of every export of DenseNet121 at 224x224, beside eager, torch.compile and onnxruntime.

Each implementation is measured in a call of its own, so that none inherits another's memory and threads:

    python benchmarks/export.py prepare FOLDER            writes the exports
    python benchmarks/export.py run FOLDER NAME...        measures, one line of FOLDER/results.jsonl each
    python benchmarks/export.py table FOLDER > benchmarks/results/export_cpu.md
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from labelassemble import AssembleNet
from labelassemble.export import keep_freed_memory
from labelassemble.export.parts import take_apart
from labelassemble.views.preprocess import Preprocess

CLASSES = [f"class {index}" for index in range(15)]
PREPROCESS = Preprocess(1, 224, (0.5,), (0.25,))
BATCHES = (1, 16)
# name -> what it is; "ours" marks exports of labelassemble
NAMES = {
    "eager": "PyTorch eager",
    "eager channels_last": "PyTorch eager, channels_last",
    "eager channels_last kept": "PyTorch eager, channels_last, after keep_freed_memory()",
    "torch.compile": "torch.compile, channels_last",
    "onnxruntime": "onnxruntime, the network as it is",
    "torchscript": "model.pt (default)",
    "torchscript kept": "model.pt (default), after keep_freed_memory()",
    "pt2": "model.pt2",
    "onnx": "model.onnx in onnxruntime",
    "cpp torchscript": "model.pt in C++ (with keep_freed_memory(), as labelassemble-predict)",
    "cpp pt2": "model.pt2 in C++ (likewise)",
    "eager bf16": "PyTorch eager, channels_last, bfloat16 autocast",
    "torchscript bf16": "model.pt in bfloat16",
    "cpp torchscript bf16": "model.pt in bfloat16, in C++",
}


def network() -> AssembleNet:
    """Return DenseNet121 with statistics as a training leaves them; the weights do not matter for speed."""
    torch.manual_seed(0)
    net = AssembleNet("densenet121", classes=CLASSES, in_channels=1)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.1)
    return net.eval().requires_grad_(False)


class WithPreprocessing(nn.Module):
    """The network as Python runs it: images uint8 -> probabilities."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.preprocess, self.net = PREPROCESS, net

    def forward(self, images: Tensor) -> Tensor:
        """Return probabilities."""
        prepared = self.preprocess(images).contiguous(memory_format=torch.channels_last)
        return torch.sigmoid(self.net(prepared))


def prepare(folder: Path) -> None:
    """Write what `run` measures, and what serve.py serves.

    model.pt, model.pt2, model.onnx, bf16.pt; plain.onnx, which has the network as it is; the model repository
    `repository` with the model densenet121, and eager.pth, the same network as a module.
    """
    import export  # this file under a name that whoever loads eager.pth can import

    from labelassemble.export.onnx import write_onnx
    from labelassemble.export.pt2 import write_pt2
    from labelassemble.export.repository import write_repository
    from labelassemble.export.torchscript import write_torchscript

    folder.mkdir(parents=True, exist_ok=True)
    net = network()
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (1, 224, 224), dtype=np.uint8) for _ in range(4)]
    for precision, name in (("float32", "model"), ("bfloat16", "bf16")):
        parts = take_apart(net, classes=CLASSES, preprocess=PREPROCESS, images=images, precision=precision)
        print(write_torchscript(parts, folder / f"{name}.pt"), flush=True)
        if precision == "float32":
            print(write_onnx(parts, folder / "model.onnx"), flush=True)
            print(write_pt2(parts, folder / "model.pt2"), flush=True)
            print(write_repository(parts, folder / "repository", "densenet121"), flush=True)
    torch.save(export.WithPreprocessing(net), folder / "eager.pth")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        plain = nn.Sequential(net, nn.Sigmoid())
        torch.onnx.export(
            plain,
            (torch.zeros(4, 1, 224, 224),),
            folder / "plain.onnx",
            dynamo=True,
            dynamic_shapes=({0: torch.export.Dim("batch", min=1, max=64)},),
            external_data=False,
            verbose=False,
        )


def python_call(folder: Path, name: str) -> Callable[[Tensor], object]:
    """Return what answers images uint8 [B, 1, 224, 224] in this process."""
    if name.endswith(" kept"):
        keep_freed_memory()
        name = name.removesuffix(" kept")
    kind, _, bf16 = name.partition(" bf16")
    if name in ("eager", "eager channels_last", "torch.compile", "eager bf16"):
        net: nn.Module = network()
        if name == "eager":
            return lambda images: torch.sigmoid(net(PREPROCESS(images)))
        model: nn.Module = WithPreprocessing(net.to(memory_format=torch.channels_last))
        if name == "torch.compile":
            model = torch.compile(model)  # type: ignore[assignment]
        if name == "eager bf16":

            def autocast(images: Tensor) -> Tensor:
                with torch.autocast("cpu", torch.bfloat16):
                    return model(images)  # type: ignore[no-any-return]

            return autocast
        return model
    if kind == "torchscript":
        script = torch.jit.load(folder / ("bf16.pt" if bf16 or name.endswith("bf16") else "model.pt"))

        def run_script(images: Tensor) -> Tensor:
            with torch.jit.optimized_execution(False):
                return script(images)  # type: ignore[no-any-return]

        return run_script
    if name == "pt2":
        package = torch._inductor.aoti_load_package(str(folder / "model.pt2"))
        return lambda images: package(images.float().div_(255))
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    plain = name == "onnxruntime"
    session = onnxruntime.InferenceSession(
        str(folder / ("plain.onnx" if plain else "model.onnx")), options, providers=["CPUExecutionProvider"]
    )
    key = session.get_inputs()[0].name
    if plain:
        return lambda images: session.run(None, {key: PREPROCESS(images).numpy()})
    return lambda images: session.run(None, {key: images.float().div_(255).numpy()})


def timed(function: Callable[[Tensor], object], batch: int, seconds: float) -> list[float]:
    """Return seconds of each call, after warming up."""
    images = torch.randint(0, 256, (batch, 1, 224, 224), dtype=torch.uint8)
    times: list[float] = []
    with torch.inference_mode():
        for _ in range(3):
            function(images)
        end = time.perf_counter() + seconds
        while time.perf_counter() < end or len(times) < 5:
            start = time.perf_counter()
            function(images)
            times.append(time.perf_counter() - start)
    return times


def cpp_times(folder: Path, name: str, batch: int, seconds: float) -> tuple[float, list[float]]:
    """Return seconds of loading and of each call in the C++ program of benchmarks/cpp."""
    file = "model.pt2" if "pt2" in name else "bf16.pt" if "bf16" in name else "model.pt"
    library = str(Path(torch.__file__).parent / "lib")
    done = subprocess.run(
        [folder / "cpp" / "time_model", folder / file, str(batch), str(seconds), "2"],
        env={**os.environ, "LD_LIBRARY_PATH": library},
        capture_output=True,
        text=True,
        check=True,
    )
    load, *times = map(float, done.stdout.split())
    return load, times


def run(folder: Path, names: list[str], seconds: float) -> None:
    """Measure, and append to results.jsonl."""
    torch.set_num_threads(2)
    warnings.simplefilter("ignore")
    for name in names:
        for batch in BATCHES:
            load = None
            if name.startswith("cpp"):
                load, times = cpp_times(folder, name, batch, seconds)
            else:
                times = timed(python_call(folder, name), batch, seconds)
            row = {
                "name": name,
                "batch": batch,
                "calls": len(times),
                "p20_ms": statistics.quantiles(times, n=5)[0] * 1e3,
                "p50_ms": statistics.median(times) * 1e3,
                "images_s": batch / statistics.median(times),
                "load_s": load,
            }
            with (folder / "results.jsonl").open("a") as file:
                file.write(json.dumps(row) + "\n")
            print(row, flush=True)


def table(folder: Path) -> Iterator[str]:
    """Yield lines of Markdown; the best of repeated measurements of a name."""
    rows: dict[tuple[str, int], dict[str, float]] = {}
    for line in (folder / "results.jsonl").read_text().splitlines():
        row = json.loads(line)
        key = (row["name"], row["batch"])
        if key not in rows or row["images_s"] > rows[key]["images_s"]:
            rows[key] = row
    from harness import machine

    yield f"{machine()}; 2 threads; DenseNet121, 224x224, 15 classes; median, best of repeated runs"
    yield ""
    yield "| | batch 1: ms | batch 16: images a second | load: s |"
    yield "|---|---:|---:|---:|"
    for name, title in NAMES.items():
        if (name, 16) not in rows:
            continue
        load = [rows[name, batch].get("load_s") for batch in BATCHES if (name, batch) in rows]
        loads = [value for value in load if value is not None]
        seconds = f"{min(loads):.2f}" if loads else ""
        yield f"| {title} | {rows[name, 1]['p50_ms']:.0f} | {rows[name, 16]['images_s']:.1f} | {seconds} |"


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["prepare", "run", "table"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(NAMES))
    parser.add_argument("--seconds", type=float, default=5.0, help="of each measurement")
    given = parser.parse_args()
    if unknown := [name for name in given.names if name not in NAMES]:
        parser.error(f"unknown: {', '.join(unknown)}")
    if given.what == "prepare":
        prepare(given.folder)
    elif given.what == "run":
        run(given.folder, given.names or list(NAMES), given.seconds)
    else:
        sys.stdout.write("\n".join(table(given.folder)) + "\n")


if __name__ == "__main__":
    main()
