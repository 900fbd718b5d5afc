"""Writing a model repository: the folder that Triton and labelassemble-serve read."""

import re
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch

from labelassemble._files import make_folder
from labelassemble.errors import LabelAssembleError
from labelassemble.export.decoder import as_png, check_dali, decode, write_decoder
from labelassemble.export.metadata import ModelMetadata
from labelassemble.export.parts import ExportParts
from labelassemble.export.torchscript import write_torchscript
from labelassemble.export.triton import (
    MAX_BATCH,
    decoder_config,
    ensemble_config,
    labels_text,
    model_config,
)


@dataclass(frozen=True)
class RepositorySummary:
    """What was written; as text, a line for each model.

    Attributes:
        path: the repository.
        names: the models' folders in it, the network first.
        metadata: of the network.
        decoded_difference: with DALI, the largest difference from eager of probabilities for PNG files of the images.
    """

    path: Path
    names: tuple[str, ...]
    metadata: ModelMetadata
    decoded_difference: float | None

    def __str__(self) -> str:
        text = (
            f"{self.path / self.names[0]}: {len(self.metadata.classes)} classes, "
            f"largest difference from eager over {self.metadata.images} images {self.metadata.difference:.1e}"
        )
        if self.decoded_difference is not None:
            text += (
                f"\n{self.path / self.names[1]}: JPEG and PNG decoded by DALI, "
                f"largest difference from eager {self.decoded_difference:.1e}"
            )
        return text


def write_repository(
    parts: ExportParts, repository: Path, name: str, *, dali: bool = False, max_batch: int = MAX_BATCH
) -> RepositorySummary:
    """Write the parts as a model of a repository, replacing one of that name; return a summary.

    NAME/1/model.pt, NAME/config.pbtxt and NAME/labels.txt; with `dali` also NAME_images, an ensemble that takes
    JPEG and PNG files, and NAME_decoder, its first step.

    Args:
        parts: of `take_apart`.
        repository: the folder; made if need be.
        name: letters, digits, underscores, hyphens and dots.
        dali: decode in front of the network.
        max_batch: images of a batch.

    Raises:
        LabelAssembleError: a name that cannot be a folder's, a class that is not one line, no DALI, or an export that
            differs from eager.
    """
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", name):
        raise LabelAssembleError(
            f"a model's name must be letters, digits, underscores, hyphens and dots, got '{name}'"
        )
    if dali:
        check_dali()
    labels = labels_text(parts.metadata.classes)
    make_folder(repository)
    ensemble_name, decoder_name = f"{name}_images", f"{name}_decoder"
    names = (name, ensemble_name, decoder_name) if dali else (name,)
    difference = None
    with tempfile.TemporaryDirectory(prefix=".export.", suffix=".tmp", dir=repository) as temporary:
        new = Path(temporary)
        for each in names:
            (new / each / "1").mkdir(parents=True)
        metadata = write_torchscript(parts, new / name / "1" / "model.pt").metadata
        (new / name / "labels.txt").write_text(labels, encoding="utf-8")
        _config(new / name, model_config(name, "model.pt", metadata, max_batch=max_batch))
        if dali:
            decoder = new / decoder_name / "1" / "model.dali"
            write_decoder(decoder, metadata.input, max_batch=max_batch)
            _config(new / decoder_name, decoder_config(decoder_name, metadata, max_batch=max_batch))
            (new / ensemble_name / "labels.txt").write_text(labels, encoding="utf-8")
            _config(
                new / ensemble_name,
                ensemble_config(ensemble_name, decoder_name, name, metadata, max_batch=max_batch),
            )
            difference = _decoded_difference(parts, decoder, new / name / "1" / "model.pt", max_batch)
        for each in names:
            if (repository / each).exists():
                (repository / each).rename(new / f".old_{each}")
            (new / each).chmod(0o755)
            shutil.move(new / each, repository / each)
    return RepositorySummary(repository, names, metadata, difference)


def _config(folder: Path, text: str) -> None:
    (folder / "config.pbtxt").write_text(text, encoding="utf-8")


def _decoded_difference(parts: ExportParts, decoder: Path, model: Path, max_batch: int) -> float:
    """Return the largest difference from eager of what decoder and network answer together."""
    encoded = [as_png(image[0].numpy()) for image in parts.images]
    pixels = torch.from_numpy(decode(decoder, encoded, max_batch=max_batch))
    network = torch.jit.load(model)  # type: ignore[no-untyped-call]
    with torch.inference_mode(), torch.jit.optimized_execution(False):  # type: ignore[attr-defined]
        answers = network(pixels).double()
    return float((answers - parts.expected).abs().max())
