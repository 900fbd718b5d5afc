"""Times the sliding window over a volume in C++ against MONAI's in Python: one network, one file, one machine.

    cmake -S benchmarks/cpp -B FOLDER/cpp -DCMAKE_PREFIX_PATH="$(labelassemble doctor --cmake-path)"
    cmake --build FOLDER/cpp --target time_segmenter
    python benchmarks/sliding_window.py FOLDER > benchmarks/results/sliding_window_cpu.md

Each side is a process of its own, in turn, and gives wall and processor seconds of each round and the memory that it
took at most beyond network and volume. Both run the exported network by TorchScript; answers are compared voxel by
voxel. "pointwise" is a network of one 1x1 convolution, so that what is measured is the window and the memory around it.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

import numpy as np
import torch
from harness import machine
from torch import nn

THREADS = 2
PATCH = (48, 48, 48)
CLASSES = ("a", "b", "c")
# name of the network -> volume, windows at once, rounds
CASES = {
    "dynunet_small": ((72, 56, 48), 1, 3),
    "pointwise": ((192, 192, 128), 1, 3),
}


def export(folder: Path, name: str) -> Path:
    """Write the network."""
    from labelassemble.export.volumes import export_volumes
    from labelassemble.models.segmentation.segment_net import SegmentNet
    from labelassemble.views.volume_options import VolumeOptions

    torch.manual_seed(0)
    net = SegmentNet(name, classes=CLASSES) if name != "pointwise" else nn.Conv3d(1, len(CLASSES), 1)
    path = folder / f"{name}.pt"
    export_volumes(net.eval(), path, classes=CLASSES, options=VolumeOptions(patch=PATCH))
    return path


def monai(model: str, values: str, shape: tuple[int, ...], batch: int, rounds: int, answer: str) -> None:
    """Print what `time_segmenter` prints, of MONAI in this process."""
    from labelassemble.models.segmentation import predict_volume as module
    from labelassemble.views.volume_options import VolumeOptions

    torch.set_num_threads(THREADS)
    module._WINDOWS = batch
    script = torch.jit.load(model)  # type: ignore[no-untyped-call]
    options = VolumeOptions(patch=PATCH)
    image = torch.from_numpy(np.fromfile(values, np.float32).reshape(shape))[None]
    module.predict_volume(script, image[:, :48, :48, :48], options)  # imports MONAI
    before = _memory("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the most so far is forgotten
    with torch.jit.optimized_execution(False):  # type: ignore[attr-defined]
        for number in range(rounds):
            start, processor = time.perf_counter(), time.process_time()
            found = module.predict_volume(script, image, options)
            print(time.perf_counter() - start, time.process_time() - processor)
            if number == 0:
                found.numpy().tofile(answer)
            del found
    print(_memory("VmHWM") - before)


def _memory(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(f"{field}:"))


def _run(command: list[str], answer: Path) -> tuple[list[float], list[float], int, np.ndarray]:
    environment = {**os.environ, "OMP_NUM_THREADS": str(THREADS)}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    *rounds, peak = done.stdout.splitlines()
    wall, processor = zip(*(map(float, line.split()) for line in rounds), strict=True)
    return list(wall), list(processor), int(peak), np.fromfile(answer, np.float32)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--worker", type=json.loads)
    options = parser.parse_args()
    if options.worker:
        monai(*options.worker)
        return
    print(f"{machine()}; {THREADS} threads; windows of {' x '.join(map(str, PATCH))}, overlap 0.5\n")
    print("| network | volume | side | wall s | processor s | MiB at most | of output + count | difference |")
    print("|---|---|---|---|---|---|---|---|")
    for name, (shape, batch, rounds) in CASES.items():
        model = export(options.folder, name)
        values, answer = options.folder / "values.raw", options.folder / "answer.raw"
        np.random.default_rng(0).random(shape, np.float32).tofile(values)
        program = [str(options.folder / "cpp" / "time_segmenter"), str(model), str(values)]
        program += [*map(str, shape), str(batch), str(rounds), str(THREADS), str(answer)]
        worker = [sys.executable, __file__, str(options.folder), "--worker"]
        worker.append(json.dumps([str(model), str(values), shape, batch, rounds, str(answer)]))
        measured = {side: _run(command, answer) for side, command in (("C++", program), ("MONAI", worker))}
        least = np.prod(shape) * 4 * (len(CLASSES) + 1)
        for side, (wall, processor, peak, found) in measured.items():
            apart = float(np.abs(found - measured["MONAI"][3]).max())
            print(
                f"| {name} | {' x '.join(map(str, shape))} | {side} | {median(wall):.2f} | {median(processor):.2f} | "
                f"{peak / 2**20:.0f} | {peak / least:.2f} | {apart:.1e} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
