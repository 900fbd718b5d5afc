"""Exporting a trained network, and running what was exported without Python."""

from labelassemble.export.metadata import InputDescription, ModelMetadata, load_metadata
from labelassemble.export.parts import ExportSummary
from labelassemble.export.program import cmake_path, find_program, keep_freed_memory, run_program, run_server
from labelassemble.export.torchscript import export_torchscript

__all__ = [
    "ExportSummary",
    "InputDescription",
    "ModelMetadata",
    "cmake_path",
    "export_torchscript",
    "find_program",
    "keep_freed_memory",
    "load_metadata",
    "run_program",
    "run_server",
]
