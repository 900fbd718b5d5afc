"""The C++ side as seen from Python: where it was installed, and becoming its server; without torch."""

import ctypes
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NoReturn

from labelassemble import _native
from labelassemble.errors import LabelAssembleError

PROGRAM: Final = "labelassemble-predict"
SERVER: Final = "labelassemble-serve"


def find_program(name: str = PROGRAM) -> Path:
    """Return the path of an installed program: labelassemble-predict, or labelassemble-serve.

    Raises:
        LabelAssembleError: the native part of labelassemble, or this program, was not built.
    """
    program = _native_folder() / "bin" / name
    if not os.access(program, os.X_OK):
        binding, _ = _native.load_binding()
        if name == SERVER and binding is not None and not binding.build_info()["serve"]:
            raise LabelAssembleError(f"{name} was {server_reason(binding.build_info())}")
        raise LabelAssembleError(f"{name} was not built: {program} does not exist; {_HOW_TO_BUILD}")
    return program


def server_reason(build: Mapping[str, Any]) -> str:
    """Return whether the server was built, and why; where it was not, what to do.

    Args:
        build: what the native library says of its build.
    """
    if build["serve"]:
        return f"built: {build['serve_reason']}"
    return f"not built: {build['serve_reason']}, then build again: {_BUILD_AGAIN}"


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


def run_server(arguments: Sequence[str]) -> NoReturn:
    """Become labelassemble-serve: this process goes on as the server, without Python.

    Raises:
        LabelAssembleError: the server was not built.
    """
    program = find_program(SERVER)
    sys.stdout.flush()
    os.execve(program, [SERVER, *arguments], program_environment())


def predict_command() -> NoReturn:
    """Become labelassemble-predict: the environment's command of this name."""
    _become(PROGRAM)


def serve_command() -> NoReturn:
    """Become labelassemble-serve: the environment's command of this name."""
    _become(SERVER)


def _become(name: str) -> NoReturn:
    try:
        program = find_program(name)
    except LabelAssembleError as error:
        print(f"labelassemble: {error}", file=sys.stderr)
        sys.exit(2)
    os.execve(program, [name, *sys.argv[1:]], program_environment())


_BUILD_AGAIN: Final = "make setup, or pip install --no-build-isolation --force-reinstall --no-deps ."
_HOW_TO_BUILD: Final = "build it: pip install --no-build-isolation . (with a C++20 compiler)"


def _native_folder() -> Path:
    """Return the folder that holds what the build installed; an editable install keeps it apart from the sources."""
    folder = _native.built_folder()
    if folder is None:
        raise LabelAssembleError(f"the native part of labelassemble was not built; {_HOW_TO_BUILD}")
    return folder


def program_environment() -> dict[str, str]:
    """Return this environment, in which the program also finds a libtorch that lies elsewhere than beside it."""
    libraries = [str(folder / "lib") for folder in _native.torch_folders()]
    libraries.append(os.environ.get("LD_LIBRARY_PATH", ""))
    return {**os.environ, "LD_LIBRARY_PATH": ":".join(filter(None, libraries))}
