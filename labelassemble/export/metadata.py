"""What an exported model says of itself: class names, input and thresholds, readable without torch."""

import os
import zipfile
from pathlib import Path
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from labelassemble.errors import LabelAssembleError
from labelassemble.export.thresholds import threshold_numbers
from labelassemble.export.volume_metadata import VOLUME_METADATA_FILE

METADATA_FILE: Final = "labelassemble.json"


class InputDescription(BaseModel):
    """What the network inside takes; images of any size and of 1 or 3 channels are converted to it.

    Attributes:
        channels: 1 (grey) or 3 (colour).
        size: height and width in pixels.
        mean: subtracted from values in 0..1, one a channel.
        std: divides after that, one a channel.
        values: what a caller passes, by dtype.
    """

    model_config = ConfigDict(frozen=True)

    channels: int
    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    values: dict[str, tuple[float, float]] = {"uint8": (0, 255), "float": (0, 1)}


class ModelMetadata(BaseModel):
    """The metadata of an exported model, kept in its file as JSON.

    Attributes:
        format: version of the layout; the C++ library refuses another.
        library: version of labelassemble that exported it.
        torch: version of torch that exported it.
        classes: names, in the order of the columns of every answer.
        interest: classes that the model was chosen by.
        thresholds: per class, positive at or above (infinity: never; None: none could be chosen, so that the class has
            probabilities and no decision); None when none were chosen at all.
        temperatures: per class, of the calibration, already inside the model; None when all are 1.
        offsets: per class, of the calibration, already inside the model; None when all are 0.
        precision: of the backbone; images, head and probabilities are float32 in any case.
        queries: whether a request may ask for some classes only.
        input: what the network takes.
        difference: largest difference from eager probabilities, seen when exporting.
        images: number of images that the difference was taken over.
    """

    model_config = ConfigDict(frozen=True, ser_json_inf_nan="strings")

    format: Literal[1] = 1
    library: str
    torch: str
    classes: tuple[str, ...]
    interest: tuple[str, ...] = ()
    thresholds: dict[str, float | None] | None = None
    temperatures: dict[str, float] | None = None
    offsets: dict[str, float] | None = None
    precision: Literal["float32", "bfloat16"] = "float32"
    queries: bool = False
    input: InputDescription
    difference: float
    images: int

    @property
    def threshold_numbers(self) -> tuple[float, ...]:
        """One threshold a class, as the C++ library reads them: NaN for none; () where none were chosen at all."""
        return threshold_numbers(self.thresholds, self.classes)


def load_metadata(path: str | os.PathLike[str]) -> ModelMetadata:
    """Return the metadata of an exported model (.pt, .pt2, .onnx); neither torch nor the weights are loaded.

    Raises:
        LabelAssembleError: no such file, no exported model, or one that labelassemble did not export.
    """
    path = Path(path)
    if not path.exists():
        raise LabelAssembleError(f"{path}: no such model")
    text = _onnx_text(path) if path.suffix == ".onnx" else _archive_text(path)
    if text is None:
        raise LabelAssembleError(
            f"{path}: not exported by labelassemble (it carries no class names and no input description)"
        )
    try:
        return ModelMetadata.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or METADATA_FILE
        raise LabelAssembleError(f"{path}: damaged metadata: {where}: {first['msg']}") from None


def _archive_text(path: Path) -> bytes | None:
    """Return the metadata of a TorchScript file or an AOTInductor package: both are ZIP archives."""
    try:
        with zipfile.ZipFile(path) as archive:
            # Everything lies under one folder, named after the file as it was first written.
            names = archive.namelist()
            if any(name.endswith(f"/extra/{VOLUME_METADATA_FILE}") for name in names):
                raise LabelAssembleError(
                    f"{path}: answers the voxels of volumes, and whole images were meant"
                )
            name = next((name for name in names if name.endswith(f"/extra/{METADATA_FILE}")), None)
            return None if name is None else archive.read(name)
    except (OSError, zipfile.BadZipFile):
        what = "an AOTInductor package" if path.suffix == ".pt2" else "a TorchScript file"
        raise LabelAssembleError(f"{path}: not {what}") from None


def _onnx_text(path: Path) -> str | None:
    try:
        import onnx
    except ImportError:
        raise LabelAssembleError(
            f"{path}: reading an ONNX file needs the package onnx: pip install 'labelassemble[onnx]'"
        ) from None
    try:
        model = onnx.load(path, load_external_data=False)
    except Exception:  # of protobuf, of several kinds
        raise LabelAssembleError(f"{path}: not an ONNX file") from None
    return next((entry.value for entry in model.metadata_props if entry.key == METADATA_FILE), None)
