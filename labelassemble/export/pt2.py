"""Export to a `.pt2` package: compiled by AOTInductor, loaded by libtorch without TorchScript."""

import logging
import os
import shutil
import zipfile
from pathlib import Path
from typing import Final

import torch

from labelassemble._class_name import check_class_name
from labelassemble._quiet import quiet
from labelassemble.errors import LabelAssembleError
from labelassemble.export.files import written_whole
from labelassemble.export.metadata import METADATA_FILE, ModelMetadata
from labelassemble.export.parts import ExportParts, ExportSummary
from labelassemble.export.traced import as_input, trace

# What csrc/runtime/package_model.cpp looks for; lists have one entry a line.
_PREFIX: Final = "labelassemble."


def write_pt2(parts: ExportParts, path: Path) -> ExportSummary:
    """Write the parts as an AOTInductor package, compared with eager; return a summary.

    The package takes float32 [B, channels, H, W] in 0..1, of any size, and gives probabilities float32 [B, C]; it
    refuses a batch with a value outside 0..1. It is machine code for this kind of processor and this version of torch.
    Compiling takes about a minute.

    Raises:
        LabelAssembleError: no C++ compiler, a network that torch.export cannot trace, or an export that differs.
    """
    from torch._inductor import aoti_compile_and_package, aoti_load_package

    check_compiler(path)
    program = trace(parts, path, outside="refused")
    with (
        written_whole(path) as temporary,
        quiet("torch", logging.ERROR),
    ):  # AOTInductor speaks of its own insides
        try:
            aoti_compile_and_package(
                program,
                package_path=str(temporary),
                inductor_configs={
                    "aot_inductor.metadata": description(parts.metadata),
                    "freezing": True,
                },
            )
        except Exception as error:
            reason = str(error).strip().partition("\n")[0]
            raise LabelAssembleError(f"{path}: AOTInductor cannot compile the network ({reason})") from error
        package = aoti_load_package(str(temporary))
        with torch.inference_mode():
            channels = parts.metadata.input.channels
            answers = torch.cat([package(as_input(image, channels)) for image in parts.images])
        metadata = parts.compared(answers, path)
        with zipfile.ZipFile(temporary, "a") as archive:
            root = archive.namelist()[0].partition("/")[0]
            archive.writestr(f"{root}/extra/{METADATA_FILE}", metadata.model_dump_json(indent=2))
    return ExportSummary(path=path, size=path.stat().st_size, metadata=metadata)


def description(metadata: ModelMetadata) -> dict[str, str]:
    """Return what a C++ program reads of the package by AOTIModelPackageLoader::get_metadata.

    Raises:
        LabelAssembleError: the name of a class cannot be a line of text.
    """
    for name in metadata.classes:
        check_class_name(name)
    lists = {
        "classes": metadata.classes,
        "interest": metadata.interest,
        "thresholds": [repr(value) for value in metadata.threshold_numbers],
        "input_mean": [repr(value) for value in metadata.input.mean],
        "input_std": [repr(value) for value in metadata.input.std],
    }
    values = {
        "format": str(metadata.format),
        "library": metadata.library,
        "input_channels": str(metadata.input.channels),
        "input_size": str(metadata.input.size),
    }
    joined = {key: "\n".join(value) for key, value in lists.items()}
    return {_PREFIX + key: value for key, value in {**values, **joined}.items()}


def check_compiler(path: Path) -> None:
    compiler = os.environ.get("CXX", "g++")
    if shutil.which(compiler) is None:
        raise LabelAssembleError(
            f"{path}: a .pt2 is compiled, and the C++ compiler {compiler} is not there: install one "
            "(Debian: apt-get install g++), or name yours in the environment variable CXX"
        )
