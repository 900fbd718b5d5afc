"""A run that learns from masks, exported for C++ programs."""

from functools import partial
from pathlib import Path
from typing import cast, get_args

import torch
from torch import Tensor

from labelassemble.data import Table
from labelassemble.data.csvfile import or_compressed
from labelassemble.errors import LabelAssembleError
from labelassemble.export.repository import only_model
from labelassemble.export.volume_repository import write_volume_repository
from labelassemble.export.volumes import VolumeExportSummary, VolumeFormat, export_volumes
from labelassemble.run.calibration import calibration_in_use, exported_thresholds
from labelassemble.run.folder import load_segmenter
from labelassemble.run.segment import detection_options
from labelassemble.views.volume_options import VolumeOptions
from labelassemble.views.volumes import load_case

_FILES = {"torchscript": "model.pt", "pt2": "model.pt2"}
_COMPARED = 2  # cases


def export_volume_run(
    run: Path,
    output: Path | None = None,
    *,
    format: str = "torchscript",
    name: str | None = None,
    specificity: float | None = None,
) -> VolumeExportSummary:
    """Export the best checkpoint of a run on volumes, compared with the network on the middle of held-out cases.

    The thresholds of the patients' scores are those of the calibration that the run has in use. Warns of classes that
    get none.

    Args:
        run: the folder of a run that has a best checkpoint.
        output: the file to write, or a folder; default: model.pt, model.pt2 or model_repository in the run's folder.
        format: "torchscript", "pt2" or "triton" (a model repository with TorchScript).
        name: with "triton", of the model; default: that of the only model in the run's own model_repository, and
            without one that of the run's folder.
        specificity: of the thresholds; default: the operating point of the calibration.

    Raises:
        LabelAssembleError: no trained model, another format, a case that cannot be read, or an export that differs.
    """
    if format not in (*get_args(VolumeFormat), "triton"):
        raise LabelAssembleError(
            f"{run} is a run on volumes: it is exported as torchscript, pt2 or triton, got '{format}'"
        )
    if name is not None and format != "triton":
        raise LabelAssembleError(
            f"a name is of a model repository (--format triton), got the format {format}"
        )
    trained = load_segmenter(run)
    table = Table.from_csv(or_compressed(run / "table.csv"))
    held_out = table.paths[table.splits != "train"]
    sample = (held_out if len(held_out) else table.paths)[:_COMPARED]
    calibration = calibration_in_use(run)
    write = partial(
        export_volumes,
        trained.net,
        classes=trained.net.classes,
        options=trained.volumes,
        detection=detection_options(run),
        interest=trained.interest,
        thresholds=exported_thresholds(calibration, trained.net.classes, specificity),
        patches=torch.stack([_middle(str(case), trained.volumes) for case in sample]),
    )
    if format == "triton":
        root = output or run / "model_repository"
        kept = only_model(root) if output is None else None
        return write_volume_repository(write, root, name or kept or run.resolve().name)
    path = output or run
    if path.is_dir():
        path = path / _FILES[format]
    return write(path, format=cast(VolumeFormat, format))


def _middle(path: str, options: VolumeOptions) -> Tensor:
    """Return the middle of a case, float32 [1, *patch], with zeros around one that is smaller."""
    image = torch.from_numpy(load_case(path, options).image)
    patch = torch.zeros(options.patch)
    for axis, size in enumerate(options.patch):
        extra = image.shape[axis] - size
        if extra > 0:
            image = image.narrow(axis, extra // 2, size)
    patch[tuple(slice(0, size) for size in image.shape)] = image
    return patch[None]
