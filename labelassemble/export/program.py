"""The C++ side as seen from Python: where it was installed, and running its program on images."""

import ctypes
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NoReturn

import numpy as np
import torch
from numpy.typing import NDArray

from labelassemble.errors import LabelAssembleError
from labelassemble.views.encoding import as_pnm

PROGRAM: Final = "labelassemble-predict"
SERVER: Final = "labelassemble-serve"


def find_program(name: str = PROGRAM) -> Path:
    """Return the path of an installed program: labelassemble-predict, or labelassemble-serve.

    Raises:
        LabelAssembleError: the native part of labelassemble, or this program, was not built.
    """
    program = _native_folder() / "bin" / name
    if not os.access(program, os.X_OK):
        raise LabelAssembleError(f"{name} was not built: {program} does not exist; {_HOW_TO_BUILD}")
    return program


def cmake_path() -> Path:
    """Return the folder that lets CMake find the C++ library: ``cmake -DCMAKE_PREFIX_PATH=<this>``.

    Raises:
        LabelAssembleError: the native part of labelassemble was not built.
    """
    folder = _native_folder() / "share" / "cmake"
    if not (folder / "labelassemble" / "labelassembleConfig.cmake").exists():
        raise LabelAssembleError(f"labelassemble's package for CMake is not in {folder}; {_HOW_TO_BUILD}")
    return folder


def keep_freed_memory() -> None:
    """Keep the memory of CPU tensors that inference has freed for the next ones, in this process and until its end.

    torch returns it to the system after each layer otherwise, and pays for the page faults of getting it back. With it
    DenseNet121 at 224x224 answers 28.4 instead of 22.0 images a second, on two cores in batches of 16
    (benchmarks/results/export_cpu.md). The process stays as large as its largest batch made it. Replaces torch's CPU
    allocator.

    Raises:
        LabelAssembleError: the native part of labelassemble was not built, or does not load.
    """
    path = _native_folder() / "liblabelassemble_runtime.so"
    try:
        ctypes.CDLL(str(path)).labelassemble_keep_freed_memory()
    except OSError as error:
        raise LabelAssembleError(f"{path.name} does not load ({error}); {_HOW_TO_BUILD}") from None


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


def run_server(arguments: Sequence[str]) -> NoReturn:
    """Become labelassemble-serve: this process goes on as the server, without Python.

    Raises:
        LabelAssembleError: the server was not built.
    """
    program = find_program(SERVER)
    sys.stdout.flush()
    os.execve(program, [SERVER, *arguments], program_environment())


_HOW_TO_BUILD: Final = "build it: pip install --no-build-isolation . (with a C++20 compiler)"


def _native_folder() -> Path:
    """Return the folder that holds what the build installed; an editable install keeps it apart from the sources."""
    spec = importlib.util.find_spec("labelassemble._C")
    if spec is None or spec.origin is None:
        raise LabelAssembleError(f"the native part of labelassemble was not built; {_HOW_TO_BUILD}")
    return Path(spec.origin).parent


def program_environment() -> dict[str, str]:
    """Return this environment, in which the program also finds a libtorch that lies elsewhere than beside it."""
    libraries = [str(Path(torch.__file__).parent / "lib"), os.environ.get("LD_LIBRARY_PATH", "")]
    return {**os.environ, "LD_LIBRARY_PATH": ":".join(filter(None, libraries))}


def _pnm(image: NDArray[np.uint8], index: int) -> bytes:
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[0] not in (1, 3):
        raise LabelAssembleError(
            f"images must be uint8 [1 or 3, H, W], got {image.dtype} {list(image.shape)} for image {index}"
        )
    return as_pnm(image)
