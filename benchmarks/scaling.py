"""What an answered image and a row of a table cost in CPU time: what docs/howto/scaling.md counts with.

    python benchmarks/scaling.py [--images FOLDER] [--output benchmarks/results/scaling_cpu.md]

Without a folder, images are 8-bit grey PNGs of 1024 x 1024: a smooth field with noise. A shard of them is answered as
`labelassemble predict SHARD.tar -o FOLDER` does it, the network, its reading and the writing of the part included; one
thread. Times are CPU seconds of the process, the least of three rounds side by side: on a busy machine the clock on the
wall says more of the others.
"""

import argparse
import io
import json
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from harness import machine
from PIL import Image

from labelassemble.data.images import decode_image
from labelassemble.data.predictions import Predictions
from labelassemble.data.shards import Part
from labelassemble.data.table import Table
from labelassemble.evaluation import Calibration, evaluate
from labelassemble.export import keep_freed_memory
from labelassemble.models import AssembleNet, ModelOptions
from labelassemble.run.parts import PartAnswers, Plan, read_answers, write_part
from labelassemble.run.sets import SetAnswerer
from labelassemble.training.checkpoint import save_checkpoint
from labelassemble.views.options import ViewOptions

CLASSES = tuple(f"finding {number}" for number in range(14))
NETWORKS = (("densenet121", 224), ("densenet121", 320), ("densenet_small", 64))
ROWS = 100_000


def drawn_pngs(count: int) -> Iterator[tuple[str, bytes]]:
    """Yield PNGs of 1024 x 1024 with their names."""
    rng = np.random.default_rng(0)
    for number in range(count):
        small = Image.fromarray(rng.integers(0, 255, (16, 16), dtype=np.uint8))
        smooth = np.asarray(small.resize((1024, 1024), Image.Resampling.BICUBIC), dtype=np.float64)
        buffer = io.BytesIO()
        noisy = (smooth + rng.normal(0, 4, smooth.shape)).clip(0, 255).astype(np.uint8)
        Image.fromarray(noisy).save(buffer, "PNG")
        yield f"{number}.png", buffer.getvalue()


def write_shard(path: Path, images: Iterator[tuple[str, bytes]]) -> int:
    """Write a tar shard, and return how many bytes an image has on average."""
    sizes = []
    with tarfile.open(path, "w") as tar:
        for name, content in images:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
            sizes.append(len(content))
    return round(np.mean(sizes))


def write_run(folder: Path, backbone: str, size: int) -> Path:
    """Write the folder of a run without a training."""
    (folder / "checkpoints").mkdir(parents=True)
    net = AssembleNet(backbone, classes=CLASSES, in_channels=1)
    description = {
        "views": ViewOptions(size=size, channels=1, threads=1).model_dump_json(),
        "model": ModelOptions(backbone=backbone).model_dump_json(),
        "classes": json.dumps(CLASSES),
        "interest": json.dumps(CLASSES[:1]),
    }
    values = {"model": net.state_dict(), "description": description, "epoch": 1}
    save_checkpoint(folder / "checkpoints" / "best.pt", values)
    return folder


def least(jobs: dict[str, Callable[[], object]], rounds: int = 3) -> dict[str, float]:
    """Return the CPU seconds of each job, the least of some rounds side by side."""
    found: dict[str, list[float]] = {name: [] for name in jobs}
    for _ in range(rounds):
        for name, job in jobs.items():
            begun = time.process_time()
            job()
            found[name].append(time.process_time() - begun)
    return {name: min(times) for name, times in found.items()}


def rows_of_answers(folder: Path) -> tuple[Plan, PartAnswers, Predictions]:
    """Return answers of `ROWS` images for one part, and the same with labels, as an evaluation takes them."""
    rng = np.random.default_rng(0)
    paths = [f"/data/shard-{row // 10_000:06}.tar::{row:08}.png" for row in range(ROWS)]
    probabilities = rng.random((ROWS, len(CLASSES)))
    labels = (rng.random((ROWS, len(CLASSES))) < 0.1).astype(np.int8)
    table = Table(
        classes=CLASSES,
        labels=labels,
        origins=np.zeros_like(labels, dtype=np.uint8),
        paths=np.array(paths),
        names=np.array(paths),
        groups=np.array([str(row // 3) for row in range(ROWS)]),
        sources=np.full(ROWS, "archive"),
        splits=np.full(ROWS, "test"),
    )
    plan = Plan(folder, [Part("rows", str, lambda: paths)], CLASSES, {})
    return plan, PartAnswers(paths, probabilities, {}), Predictions.of(table, probabilities)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    arguments.add_argument("--images", type=Path, help="folder of images, instead of drawn ones")
    arguments.add_argument("--count", type=int, default=24)
    arguments.add_argument("--output", type=Path)
    given = arguments.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()  # as the command does
    first = machine()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        images = drawn_pngs(given.count)
        if given.images is not None:
            files = sorted(path for path in given.images.iterdir() if path.is_file())[: given.count]
            images = ((path.name, path.read_bytes()) for path in files)
        size = write_shard(folder / "shard.tar", images)
        jobs: dict[str, Callable[[], object]] = {}
        answerers = {}
        for backbone, side in NETWORKS:
            run = write_run(folder / f"{backbone}-{side}", backbone, side)
            answerers[f"{backbone} at {side}"] = SetAnswerer(run, [folder / "shard.tar"], folder / f"a{side}")
        paths = next(iter(answerers.values())).plan.parts[0].images()
        jobs["decode alone"] = lambda: [decode_image(path) for path in paths]
        for title, answerer in answerers.items():
            answerer.plan.folder.mkdir(exist_ok=True)
            jobs[title] = lambda of=answerer: write_part(of.plan, 0, of.answer(paths), "")
        seconds = least(jobs)
        plan, answers, predictions = rows_of_answers(folder / "rows")
        plan.folder.mkdir()
        write_part(plan, 0, answers, "")
        weight = plan.file(0).stat().st_size
        rows = least(
            {
                "write a row": lambda: write_part(plan, 0, answers, ""),
                "read a row": lambda: list(read_answers(plan)),
                "evaluate a row": lambda: evaluate(predictions, calibration=Calibration()),
            }
        )
    lines = [
        f"{first}; one thread; CPU time, least of 3 rounds: python benchmarks/scaling.py",
        "",
        f"{len(paths)} images of {size / 1024:.0f} KiB, 14 classes; {ROWS:,} rows of {weight / ROWS:.0f} bytes",
        "",
        "| what | CPU ms per image |",
        "|---|---|",
        *(f"| {title} | {1000 * value / len(paths):.1f} |" for title, value in seconds.items()),
        "",
        "| what | CPU µs per row |",
        "|---|---|",
        *(f"| {title} | {1e6 * value / ROWS:.1f} |" for title, value in rows.items()),
    ]
    text = "\n".join(lines) + "\n"
    print(text)
    if given.output is not None:
        given.output.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
