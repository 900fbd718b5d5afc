"""Times the sliding window over a volume in C++ against MONAI's in Python: one network, one file, one machine.

And what is done with the answer: components and their scores.

    cmake -S benchmarks/cpp -B FOLDER/cpp -DCMAKE_PREFIX_PATH="$(labelassemble doctor --cmake-path)"
    cmake --build FOLDER/cpp --target time_segmenter
    python benchmarks/sliding_window.py FOLDER > benchmarks/results/sliding_window_cpu.md

Each side is a process of its own, in turn, and gives wall and processor seconds of each round and the memory that it
took at most beyond network and volume. Both run the exported network by TorchScript; answers are compared voxel by
voxel. "pointwise" is a network of one 1x1 convolution, so that what is measured is the window and the memory around it.
"""

import argparse
import json
import math
import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import NamedTuple

import numpy as np
import torch
from harness import machine
from scipy import ndimage
from torch import nn

THREADS = 2
CLASSES = ("a", "b", "c")


class Case(NamedTuple):
    """What is answered."""

    network: str
    edge: int  # of the patch
    shape: tuple[int, int, int]
    rounds: int


CASES = [
    Case("dynunet_small", 32, (107, 107, 76), 3),
    Case("dynunet_small", 48, (72, 56, 48), 5),
    Case("dynunet_small", 64, (107, 107, 76), 3),
    Case("dynunet_small", 32, (32, 32, 32), 5),
    Case("segresnet", 32, (72, 56, 48), 3),
    Case("pointwise", 48, (192, 192, 128), 5),
    Case("pointwise", 48, (512, 512, 400), 1),
]


def export(folder: Path, case: Case) -> Path:
    """Write the network."""
    from labelassemble.export.volumes import export_volumes
    from labelassemble.models.segmentation.segment_net import SegmentNet
    from labelassemble.views.volume_options import VolumeOptions

    torch.manual_seed(0)
    name = case.network
    net = SegmentNet(name, classes=CLASSES) if name != "pointwise" else nn.Conv3d(1, len(CLASSES), 1)
    path = folder / f"{name}.pt"
    export_volumes(net.eval(), path, classes=CLASSES, options=VolumeOptions(patch=(case.edge,) * 3))
    return path


def monai(model: str, values: str, shape: tuple[int, ...], edge: int, rounds: int, answer: str) -> None:
    """Print what `time_segmenter` prints, of MONAI in this process."""
    from labelassemble.models.segmentation.predict_volume import predict_volume
    from labelassemble.views.volume_options import VolumeOptions

    torch.set_num_threads(THREADS)
    script = torch.jit.load(model)  # type: ignore[no-untyped-call]
    options = VolumeOptions(patch=(edge,) * 3)
    image = torch.from_numpy(np.fromfile(values, np.float32).reshape(shape))[None]
    predict_volume(script, image[:, : 2 * edge, : 2 * edge, :edge], options)  # imports MONAI
    before = _memory("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the most so far is forgotten
    with torch.jit.optimized_execution(False):  # type: ignore[attr-defined]
        for number in range(rounds):
            start, processor = time.perf_counter(), time.process_time()
            found = predict_volume(script, image, options)
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
    from labelassemble.models.segmentation.predict_volume import windows_at_once

    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--worker", type=json.loads)
    options = parser.parse_args()
    if options.worker:
        monai(*options.worker)
        return
    print(f"{machine()}; {THREADS} threads; overlap 0.5\n")
    print(
        "| network | window | at once | volume | side | wall s | processor s | MiB at most | of output + count "
        "| GiB with the volume | difference |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    for case in CASES:
        model = export(options.folder, case)
        values, answer = options.folder / "values.raw", options.folder / "answer.raw"
        np.random.default_rng(0).random(case.shape, np.float32).tofile(values)
        program = [str(options.folder / "cpp" / "time_segmenter"), str(model), str(values)]
        program += map(str, (*case.shape, 0, case.rounds, THREADS, answer, case.edge))
        worker = [sys.executable, __file__, str(options.folder), "--worker"]
        worker.append(json.dumps([str(model), str(values), case.shape, case.edge, case.rounds, str(answer)]))
        measured = {side: _run(command, answer) for side, command in (("C++", program), ("MONAI", worker))}
        volume = math.prod(case.shape) * 4
        least = volume * (len(CLASSES) + 1)
        for side, (wall, processor, peak, found) in measured.items():
            other = measured["MONAI"][3]
            np.subtract(found, other, out=found)
            apart = max(float(found.max()), -float(found.min()))
            size = " x ".join(map(str, case.shape))
            at_once = windows_at_once((case.edge,) * 3, torch.device("cpu"))[0]
            memory = f"{peak / 2**20:.0f} | {peak / least:.2f} | {(peak + volume) / 2**30:.2f}"
            print(
                f"| {case.network} | {case.edge}^3 | {at_once} | {size} | {side} | {median(wall):.2f} "
                f"| {median(processor):.2f} | {memory} | {apart:.1e} |",
                flush=True,
            )
    lesions_rows()


def lesions_rows() -> None:
    """Print the times of components and scores of a mask of the largest volume."""
    from labelassemble.evaluation.lesions import component_scores, components

    shape = CASES[-1].shape
    rng = np.random.default_rng(0)
    mask = np.zeros(shape, np.bool_)
    for place in rng.integers(0, np.array(shape) - 24, (60, 3)):
        mask[
            tuple(
                slice(start, start + edge) for start, edge in zip(place, rng.integers(2, 24, 3), strict=True)
            )
        ] = True
    chances = rng.random(shape, np.float32)
    start = time.perf_counter()
    numbers, count = components(mask)
    labelled = time.perf_counter()
    ours = component_scores(numbers[mask], count, chances[mask])
    scored = time.perf_counter()
    theirs = ndimage.maximum(chances, numbers, range(1, count + 1))
    end = time.perf_counter()
    assert np.array_equal(ours, theirs)
    print(f"\n{count} lesions of {mask.mean():.2%} of {' x '.join(map(str, shape))} voxels, one thread\n")
    print("| what | s |")
    print("|---|---|")
    print(f"| components (scipy.ndimage.label, all 26 neighbours) | {labelled - start:.2f} |")
    print(f"| a score a lesion (np.maximum.at) | {scored - labelled:.3f} |")
    print(f"| a score a lesion (scipy.ndimage.maximum) | {end - scored:.2f} |")


if __name__ == "__main__":
    main()
