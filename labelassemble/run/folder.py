"""What every command on a run's folder uses: the trained network in it, the environment."""

import csv
import io
import json
import platform
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from labelassemble import _extension
from labelassemble._files import write_text
from labelassemble.errors import LabelAssembleError
from labelassemble.models import AssembleNet, LibraryBackbone, ModelOptions
from labelassemble.models.segmentation.segment_net import SegmentNet
from labelassemble.processor import processor_name
from labelassemble.training.checkpoint import load_checkpoint
from labelassemble.version import __version__
from labelassemble.views.bad_files import BadFiles
from labelassemble.views.options import ViewOptions
from labelassemble.views.volume_options import VolumeOptions


@dataclass(frozen=True)
class TrainedModel:
    """A network from a checkpoint, with what is needed to feed it.

    Attributes:
        net: in eval mode, on the CPU.
        model: backbone and head.
        views: size, channels and normalisation that it was trained with.
        interest: classes by which the checkpoint was chosen.
        epoch: epochs that it was trained for.
    """

    net: AssembleNet
    model: ModelOptions
    views: ViewOptions
    interest: tuple[str, ...]
    epoch: int


@dataclass(frozen=True)
class TrainedSegmenter:
    """A network from a checkpoint of a run that learns from masks, with what is needed to feed it.

    Attributes:
        net: in eval mode, on the CPU.
        model: backbone and head.
        volumes: grid, intensities, patch and overlap that it was trained with.
        interest: classes by which the checkpoint was chosen.
        epoch: epochs that it was trained for.
    """

    net: SegmentNet
    model: ModelOptions
    volumes: VolumeOptions
    interest: tuple[str, ...]
    epoch: int


def load_segmenter(run: Path | str) -> TrainedSegmenter:
    """Return the network of the best checkpoint of a run that learns from masks.

    Raises:
        LabelAssembleError: no such run, no epoch of it is finished, or it learns from images.
    """
    run = Path(run)
    checkpoint = _best(run)
    description = checkpoint["description"]
    if "volumes" not in description:
        raise LabelAssembleError(f"{run} is a run on images, and not one on volumes with masks")
    volumes = VolumeOptions.model_validate_json(description["volumes"])
    model = ModelOptions.model_validate_json(description["model"])
    if isinstance(model.backbone, LibraryBackbone):
        raise LabelAssembleError(f"{run}: {model.backbone} does not answer voxels")
    net = SegmentNet(model.backbone, classes=json.loads(description["classes"]), dims=volumes.dims)
    net.load_state_dict(checkpoint["model"])
    return TrainedSegmenter(
        net=net.eval(),
        model=model,
        volumes=volumes,
        interest=tuple(json.loads(description["interest"])),
        epoch=checkpoint["epoch"],
    )


def learns_from_masks(run: Path) -> bool:
    """Return whether a run answers voxels of volumes, by its best checkpoint.

    Raises:
        LabelAssembleError: no such run, or no epoch of it is finished.
    """
    return "volumes" in _best(run)["description"]


def _best(run: Path) -> dict[str, Any]:
    path = run / "checkpoints" / "best.pt"
    if not path.exists():
        raise LabelAssembleError(f"{run} holds no trained model: {path} does not exist")
    return load_checkpoint(path)


def load_trained(run: Path | str) -> TrainedModel:
    """Return the network of a run's best checkpoint.

    Raises:
        LabelAssembleError: no such run, no epoch of it is finished, or it learns from masks.
    """
    run = Path(run)
    checkpoint = _best(run)
    description = checkpoint["description"]
    if "volumes" in description:
        raise LabelAssembleError(
            f"{run} is a run on volumes with masks (its configuration has `volumes`), which this command cannot take: "
            "it is for runs on images"
        )
    views = ViewOptions.model_validate_json(description["views"])
    model = ModelOptions.model_validate_json(description["model"])
    net = AssembleNet(
        model.backbone,
        classes=json.loads(description["classes"]),
        head=model.head,
        in_channels=views.channels,
        sources=json.loads(description.get("sources", "{}")),
        image_size=views.size,
    )
    net.load_state_dict(checkpoint["model"])
    return TrainedModel(
        net=net.eval(),
        model=model,
        views=views,
        interest=tuple(json.loads(description["interest"])),
        epoch=checkpoint["epoch"],
    )


def write_probabilities(
    path: Path | None,
    classes: Sequence[str],
    images: Sequence[str],
    probabilities: np.ndarray,
    *,
    kind: Literal["probability", "score"] = "probability",
) -> None:
    """Write ``path,probability:<class>,...`` as CSV, a row an image, to a file or (None) to standard output."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["path", *(f"{kind}:{name}" for name in classes)])
    for image, row in zip(images, probabilities, strict=True):
        writer.writerow([image, *(f"{value:.9g}" for value in row)])
    if path is None:
        sys.stdout.write(buffer.getvalue())
    else:
        write_text(path, buffer.getvalue())


def environment() -> dict[str, Any]:
    """Return versions and machine, as kept in a run's environment.json."""
    return {
        "labelassemble": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "kornia": _version("kornia"),
        "platform": platform.platform(),
        "processor": processor_name(),
        "threads": torch.get_num_threads(),
        "cpu_capability": _extension.cpu_capability(),
        "native": _extension.NATIVE,
        "cuda_device": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:  # a checkout on the path, without its dependencies
        return None


def bad_files_of(total: int, views: ViewOptions) -> BadFiles:
    return BadFiles(total, policy=views.bad_files, limit=views.bad_files_limit)
