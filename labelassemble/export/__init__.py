"""Exporting a trained network, and running what was exported without Python."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from labelassemble.export.hub import HubNet
    from labelassemble.export.metadata import InputDescription, ModelMetadata, load_metadata
    from labelassemble.export.native import cmake_path, find_program, keep_freed_memory, run_server
    from labelassemble.export.parts import ExportSummary
    from labelassemble.export.program import run_program
    from labelassemble.export.torchscript import export_torchscript
    from labelassemble.export.volume_metadata import VolumeMetadata, load_volume_metadata
    from labelassemble.export.volumes import export_volumes
else:
    from labelassemble._lazy import on_demand

    __getattr__ = on_demand(
        __name__,
        {
            "hub": ["HubNet"],
            "metadata": ["InputDescription", "ModelMetadata", "load_metadata"],
            "native": ["cmake_path", "find_program", "keep_freed_memory", "run_server"],
            "parts": ["ExportSummary"],
            "program": ["run_program"],
            "torchscript": ["export_torchscript"],
            "volume_metadata": ["VolumeMetadata", "load_volume_metadata"],
            "volumes": ["export_volumes"],
        },
    )

__all__ = [
    "ExportSummary",
    "HubNet",
    "InputDescription",
    "ModelMetadata",
    "VolumeMetadata",
    "cmake_path",
    "export_torchscript",
    "export_volumes",
    "find_program",
    "keep_freed_memory",
    "load_metadata",
    "load_volume_metadata",
    "run_program",
    "run_server",
]
