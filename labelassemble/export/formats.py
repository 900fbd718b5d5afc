"""The formats by name, and where each is written."""

from collections.abc import Callable
from pathlib import Path
from typing import Final, Literal, cast, get_args

from labelassemble.errors import LabelAssembleError, did_you_mean
from labelassemble.export.onnx import write_onnx
from labelassemble.export.parts import ExportParts, ExportSummary
from labelassemble.export.pt2 import write_pt2
from labelassemble.export.repository import RepositoryOptions, RepositorySummary, write_repository
from labelassemble.export.torchscript import write_torchscript

ExportFormat = Literal["torchscript", "pt2", "onnx", "triton"]

_FILES: Final[dict[str, tuple[str, Callable[[ExportParts, Path], ExportSummary]]]] = {
    "torchscript": ("model.pt", write_torchscript),
    "pt2": ("model.pt2", write_pt2),
    "onnx": ("model.onnx", write_onnx),
}


def check_choice(name: str) -> ExportFormat:
    """Return the format of that name.

    Raises:
        LabelAssembleError: there is none.
    """
    if name not in get_args(ExportFormat):
        raise LabelAssembleError(f"unknown format '{name}'{did_you_mean(name, get_args(ExportFormat))}")
    return cast(ExportFormat, name)


def write_export(
    parts: ExportParts,
    output: Path | None,
    *,
    format: ExportFormat,
    folder: Path,
    name: str,
    repository: RepositoryOptions | None = None,
) -> ExportSummary | RepositorySummary:
    """Write parts in a format; return a summary.

    Args:
        parts: of `take_apart`.
        output: a file, or a folder that exists, for its usual name in there; for "triton" the repository.
        format: what to write.
        folder: where to write without `output`.
        name: of the model in a repository.
        repository: for "triton", how the model stands there.

    Raises:
        LabelAssembleError: `repository` for another format, a file whose name ends as another format's, or what the
            writer of the format raises.
    """
    if format == "triton":
        return write_repository(parts, output or folder / "model_repository", name, repository)
    if repository is not None:
        raise LabelAssembleError(
            "name, version, max_batch, queue_delay_us and dali are of a model repository (triton), "
            f"got the format {format}"
        )
    usual, write = _FILES[format]
    path = output or folder
    if path.is_dir():
        path = path / usual
    others = {Path(file).suffix for file, _ in _FILES.values()} - {Path(usual).suffix}
    if path.suffix in others or (format == "pt2" and path.suffix != ".pt2"):
        raise LabelAssembleError(f"{path}: a file of the format {format} must be named *{Path(usual).suffix}")
    if not path.parent.is_dir():
        raise LabelAssembleError(f"{path}: the folder {path.parent} does not exist")
    return write(parts, path)
