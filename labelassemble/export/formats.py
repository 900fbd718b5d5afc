"""The formats by name, and where each is written."""

from pathlib import Path
from typing import Literal, cast, get_args

from labelassemble.errors import LabelAssembleError, did_you_mean
from labelassemble.export.model_files import FILES
from labelassemble.export.parts import ExportParts, ExportSummary
from labelassemble.export.repository import (
    RepositoryOptions,
    RepositorySummary,
    only_model,
    write_repository,
)

ExportFormat = Literal["torchscript", "pt2", "onnx", "triton", "hub"]


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
    name: str | None = None,
    repository: RepositoryOptions | None = None,
) -> ExportSummary | RepositorySummary:
    """Write parts in a format; return a summary.

    Args:
        parts: of `take_apart`.
        output: a file, or a folder that exists, for its usual name in there; for "triton" the repository.
        format: what to write.
        folder: where to write without `output`.
        name: of the model in a repository; default: that of the only model in folder's own repository, so that the
            model is still called the same when the folder no longer is, and otherwise that of the folder.
        repository: for "triton", how the model stands there.

    Raises:
        LabelAssembleError: `repository` for another format, a file whose name ends as another format's, or what the
            writer of the format raises.
    """
    if format == "triton":
        root = output or folder / "model_repository"
        kept = only_model(root) if output is None else None
        return write_repository(parts, root, name or kept or folder.resolve().name, repository)
    if repository is not None or name is not None:
        raise LabelAssembleError(
            "name, version, max_batch, queue_delay_us, dali and model_format are of a model repository (triton), "
            f"got the format {format}"
        )
    if format == "hub":
        raise LabelAssembleError(
            "a folder for the hub is written of a run, by `labelassemble export RUN --format hub`"
        )
    usual, write = FILES[format]
    path = output or folder
    if path.is_dir():
        path = path / usual
    others = {Path(file).suffix for file, _ in FILES.values()} - {Path(usual).suffix}
    if path.suffix in others or (format == "pt2" and path.suffix != ".pt2"):
        raise LabelAssembleError(f"{path}: a file of the format {format} must be named *{Path(usual).suffix}")
    if not path.parent.is_dir():
        raise LabelAssembleError(f"{path}: the folder {path.parent} does not exist")
    return write(parts, path)
