"""What an exported detection says of itself: classes, patch, grid and intensities, readable without torch."""

import os
import zipfile
from pathlib import Path
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from labelassemble.errors import LabelAssembleError
from labelassemble.export.thresholds import threshold_numbers

VOLUME_METADATA_FILE: Final = "labelassemble_volumes.json"
# Marks a network that answers voxels, and has the format of what follows; csrc/runtime/model.h.
MARK: Final = "labelassemble_volumes"
_PREFIX: Final = "labelassemble."


class VolumeMetadata(BaseModel):
    """The metadata of an exported network that answers every voxel, kept in its file as JSON.

    Attributes:
        format: version of the layout; the C++ library refuses another.
        library: version of labelassemble that exported it.
        torch: version of torch that exported it.
        classes: names, in the order of the channels of every answer.
        interest: classes that the model was chosen by.
        thresholds: of the patients' scores, per class, positive at or above (infinity: never; None: none could be
            chosen for that class); None when none were chosen at all.
        patch: voxels along each axis of what the network takes.
        overlap: of neighbouring windows over a volume, as a share of the patch.
        spacing: edges of a voxel in mm, to which a volume is resampled; None for those of its file.
        orientation: where the axes of a volume run.
        window: intensities that become 0 and 1; None for `percentiles`.
        percentiles: of a volume's own intensities, that become 0 and 1.
        threshold: voxels of at least this probability make the mask.
        patient_score: "mean" or "maximum" over the slices of the mean of a slice's `top` share of voxels.
        top: that share.
        difference: largest difference from the network's own probabilities, seen when exporting.
        patches: number of patches that the difference was taken over.
    """

    model_config = ConfigDict(frozen=True, ser_json_inf_nan="strings")

    format: Literal[1] = 1
    library: str
    torch: str
    classes: tuple[str, ...]
    interest: tuple[str, ...] = ()
    thresholds: dict[str, float | None] | None = None
    patch: tuple[int, ...]
    overlap: float
    spacing: tuple[float, ...] | None = None
    orientation: Literal["RAS"] = "RAS"
    window: tuple[float, float] | None = None
    percentiles: tuple[float, float]
    threshold: float
    patient_score: Literal["mean", "maximum"]
    top: float
    difference: float
    patches: int

    def entries(self) -> dict[str, str]:
        """Return what a C++ program reads of it, texts by name; lists have one entry a line."""
        lists = {
            "classes": self.classes,
            "interest": self.interest,
            "thresholds": threshold_numbers(self.thresholds, self.classes),
            "patch": self.patch,
            "spacing": self.spacing or (),
            "window": self.window or (),
            "percentiles": self.percentiles,
        }
        values = {
            MARK: self.format,
            "library": self.library,
            "overlap": self.overlap,
            "threshold": self.threshold,
            "patient_score": self.patient_score,
            "top": self.top,
        }
        texts = {name: str(value) for name, value in values.items()}
        texts |= {name: "\n".join(map(str, entries)) for name, entries in lists.items()}
        return {_PREFIX + name: text for name, text in texts.items()}


def load_volume_metadata(path: str | os.PathLike[str]) -> VolumeMetadata:
    """Return the metadata of an exported detection (.pt, .pt2); neither torch nor the weights are loaded.

    Raises:
        LabelAssembleError: no such file, or none that labelassemble exported of a detection.
    """
    path = Path(path)
    if not path.exists():
        raise LabelAssembleError(f"{path}: no such model")
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if name.endswith(f"/extra/{VOLUME_METADATA_FILE}")]
            text = archive.read(names[0]) if names else None
    except (OSError, zipfile.BadZipFile):
        what = "an AOTInductor package" if path.suffix == ".pt2" else "a TorchScript file"
        raise LabelAssembleError(f"{path}: not {what}") from None
    if text is None:
        raise LabelAssembleError(f"{path}: not exported by labelassemble of a network that answers voxels")
    try:
        return VolumeMetadata.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or VOLUME_METADATA_FILE
        raise LabelAssembleError(f"{path}: damaged metadata: {where}: {first['msg']}") from None
