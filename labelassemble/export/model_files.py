"""The formats that are one file, by name: what the file is called, and what writes it."""

from collections.abc import Callable
from pathlib import Path
from typing import Final, Literal, cast, get_args

from labelassemble.errors import LabelAssembleError, did_you_mean
from labelassemble.export.onnx import write_onnx
from labelassemble.export.parts import ExportParts, ExportSummary
from labelassemble.export.pt2 import write_pt2
from labelassemble.export.torchscript import write_torchscript

ModelFormat = Literal["torchscript", "pt2", "onnx"]

FILES: Final[dict[ModelFormat, tuple[str, Callable[[ExportParts, Path], ExportSummary]]]] = {
    "torchscript": ("model.pt", write_torchscript),
    "pt2": ("model.pt2", write_pt2),
    "onnx": ("model.onnx", write_onnx),
}


def check_model_format(name: str) -> ModelFormat:
    """Return the format of that name.

    Raises:
        LabelAssembleError: there is none.
    """
    if name not in get_args(ModelFormat):
        raise LabelAssembleError(f"unknown model format '{name}'{did_you_mean(name, get_args(ModelFormat))}")
    return cast(ModelFormat, name)
