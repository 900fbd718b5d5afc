"""Running the C++ program on images."""

import json
import os
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from labelassemble.errors import LabelAssembleError
from labelassemble.export.native import PROGRAM, find_program, program_environment
from labelassemble.views.encoding import as_pnm


def run_program(
    model: str | os.PathLike[str],
    images: Sequence[NDArray[np.uint8]],
    *,
    batch: int = 16,
    threads: int | None = None,
) -> NDArray[np.float64]:
    """Return probabilities [N, C] of labelassemble-predict, a process without Python, for decoded images.

    Args:
        model: a file written by `export_torchscript`.
        images: uint8 [1 or 3, H, W], of any sizes; handed over as PGM and PPM files in a temporary folder.
        batch: images that run through the network at once.
        threads: threads within an operation; default: libtorch's choice.

    Raises:
        LabelAssembleError: the program was not built, an image of another shape or dtype, or what the program
            itself says of the model.
    """
    program = find_program()
    if not images:
        raise LabelAssembleError("images must hold at least one image, got none")
    with tempfile.TemporaryDirectory(prefix="labelassemble-") as folder:
        paths = []
        for index, image in enumerate(images):
            path = Path(folder) / f"{index}.pnm"
            path.write_bytes(_pnm(image, index))
            paths.append(str(path))
        listing = Path(folder) / "images.txt"
        listing.write_text("\n".join(paths) + "\n", encoding="utf-8")
        command = [str(program), os.fspath(model), "--list", str(listing), "--format", "json"]
        command += ["--batch", str(batch)]
        if threads is not None:
            command += ["--threads", str(threads)]
        done = subprocess.run(
            command,
            env=program_environment(),
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            check=False,
        )
    if done.returncode != 0:
        said = done.stderr.strip().removeprefix(f"{PROGRAM}: ") or "without a word"
        raise LabelAssembleError(f"{PROGRAM} ended with status {done.returncode}: {said}")
    answer = json.loads(done.stdout)
    rows = [list(image["probabilities"].values()) for image in answer["images"]]
    return np.asarray(rows, dtype=np.float64)  # a null, which stands for NaN, becomes NaN again


def _pnm(image: NDArray[np.uint8], index: int) -> bytes:
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[0] not in (1, 3):
        raise LabelAssembleError(
            f"images must be uint8 [1 or 3, H, W], got {image.dtype} {list(image.shape)} for image {index}"
        )
    return as_pnm(image)
