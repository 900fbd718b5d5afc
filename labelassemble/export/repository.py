"""Writing a model repository: the folder that Triton and labelassemble-serve read."""

import os
import re
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch

from labelassemble._files import make_folder, writing
from labelassemble.errors import LabelAssembleError
from labelassemble.export.decoder import as_png, check_dali, decode, write_decoder
from labelassemble.export.metadata import ModelMetadata, load_metadata
from labelassemble.export.model_files import FILES, ModelFormat
from labelassemble.export.parts import ExportParts
from labelassemble.export.torchscript import quiet_torchscript, write_torchscript
from labelassemble.export.triton import (
    MAX_BATCH,
    QUEUE_DELAY_US,
    decoder_config,
    ensemble_config,
    labels_text,
    model_config,
)
from labelassemble.report.format import plural


@dataclass(frozen=True)
class RepositoryOptions:
    """How a model stands in its repository.

    Attributes:
        version: the folder of the version, from 1 on. None replaces the model and all its versions by version 1; a
            number replaces that version alone, and the others stay beside it and are served too (a request that
            names no version is answered by the newest).
        max_batch: images of a batch, from 1 on; None for 16, or with `version` for what the model has.
        queue_delay_us: the longest that a request waits for others to make a batch with, in microseconds; None for
            2000, or likewise.
        dali: decode image files in front of the network.
        model_format: of the model's file; labelassemble-serve loads "torchscript" and "pt2", Triton all three.
    """

    version: int | None = None
    max_batch: int | None = None
    queue_delay_us: int | None = None
    dali: bool = False
    model_format: ModelFormat = "torchscript"

    def __post_init__(self) -> None:
        if self.dali and self.model_format != "torchscript":
            raise LabelAssembleError(
                f"dali decodes to uint8 images, which a model in the format {self.model_format} does not take: "
                "leave one of the two out"
            )
        for name, least in (("version", 1), ("max_batch", 1), ("queue_delay_us", 0)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise LabelAssembleError(f"{name} must be at least {least}, got {value}")


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
            f"{self.path / self.names[0]}: {plural(len(self.metadata.classes), 'class')}, "
            f"largest difference from eager over {self.metadata.images} images {self.metadata.difference:.1e}"
        )
        if self.decoded_difference is not None:
            text += (
                f"\n{self.path / self.names[1]}: JPEG and PNG decoded by DALI, "
                f"largest difference from eager {self.decoded_difference:.1e}"
            )
        return text


def write_repository(
    parts: ExportParts, repository: Path, name: str, options: RepositoryOptions | None = None
) -> RepositorySummary:
    """Write the parts as a model of a repository, in the place of what has its name; return a summary.

    NAME/VERSION/model.pt (.pt2, .onnx), NAME/config.pbtxt and NAME/labels.txt; with `dali` also NAME_images, an
    ensemble that takes JPEG and PNG files, and NAME_decoder, its first step.

    Args:
        parts: of `take_apart`.
        repository: the folder; made if need be.
        name: letters, digits, underscores, hyphens and dots.
        options: version, batching, DALI, format.

    Raises:
        LabelAssembleError: a name that cannot be a folder's, a class that is not one line, another version beside
            which these classes cannot stand, no DALI, or an export that differs from eager.
    """
    options = options or RepositoryOptions()
    version = str(options.version or 1)
    check_model_name(name)
    if parts.metadata.queries and options.model_format != "torchscript":
        raise LabelAssembleError(
            f"queries are kept in the model format torchscript only, got {options.model_format}: leave one out"
        )
    if options.dali:
        check_dali()
    labels = labels_text(parts.metadata.classes)
    make_folder(repository)
    ensemble_name, decoder_name = f"{name}_images", f"{name}_decoder"
    names = (name, ensemble_name, decoder_name) if options.dali else (name,)
    file_name, write = FILES[options.model_format]
    others: list[Path] = []
    if options.version is not None:
        others = _other_versions(repository / name, version, file_name, parts.metadata.input.channels, labels)
    config = repository / name / "config.pbtxt"
    max_batch, queue_delay_us = _batching(options, config if options.version is not None else None)
    difference = None
    with (
        writing(repository),
        tempfile.TemporaryDirectory(prefix=".export.", suffix=".tmp", dir=repository) as temporary,
    ):
        new = Path(temporary)
        for each in names:
            (new / each / version).mkdir(parents=True)
        file = new / name / version / file_name
        if options.model_format == "torchscript":
            metadata = write_torchscript(parts, file, tensors_only=True).metadata
        else:
            metadata = write(parts, file).metadata
        (new / name / "labels.txt").write_text(labels, encoding="utf-8")
        _config(
            new / name,
            model_config(
                file_name,
                metadata,
                max_batch=max_batch,
                queue_delay_us=queue_delay_us,
                all_versions=options.version is not None,
            ),
        )
        if options.dali:
            decoder = new / decoder_name / version / "model.dali"
            write_decoder(decoder, metadata.input, max_batch=max_batch)
            _config(
                new / decoder_name,
                decoder_config(metadata, max_batch=max_batch, queue_delay_us=queue_delay_us),
            )
            (new / ensemble_name / "labels.txt").write_text(labels, encoding="utf-8")
            _config(
                new / ensemble_name,
                ensemble_config(decoder_name, name, metadata, max_batch=max_batch),
            )
            difference = _decoded_difference(parts, decoder, file, max_batch)
        for other in others:
            shutil.copytree(other, new / name / other.name, copy_function=_link_or_copy)
        for each in names:
            if (repository / each).exists():
                (repository / each).rename(new / f".old_{each}")
            (new / each).chmod(0o755)
            shutil.move(new / each, repository / each)
    return RepositorySummary(repository, names, metadata, difference)


def check_model_name(name: str) -> None:
    """Raise unless a name can be a folder's in a repository.

    Raises:
        LabelAssembleError: other characters than letters, digits, underscores, hyphens and dots.
    """
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", name):
        raise LabelAssembleError(
            f"a model's name must be letters, digits, underscores, hyphens and dots, got '{name}'"
        )


def only_model(repository: Path) -> str | None:
    """Return the name of the one exported model of a repository; None where there is none, or more than one."""
    files = [name for name, _ in FILES.values()]
    names = {
        path.parent.parent.name
        for path in repository.glob("[!.]*/*/model.*")
        if path.name in files and path.parent.name.isdecimal()
    }
    return names.pop() if len(names) == 1 else None


def _other_versions(folder: Path, version: str, file: str, channels: int, labels: str) -> list[Path]:
    """Return the folders of the other versions, which one config.pbtxt and one labels.txt must serve."""
    others = [
        path for path in folder.glob("*") if path.is_dir() and path.name.isdecimal() and path.name != version
    ]
    if not others:
        return []
    first, advice = others[0].name, "and versions share one config.pbtxt: give the model another name"
    path = folder / "labels.txt"
    if path.exists() and path.read_text(encoding="utf-8") != labels:
        raise LabelAssembleError(
            f"{path}: version {version} has other classes than version {first}, {advice}"
        )
    for other in others:
        beside = other / file
        if not beside.exists():
            raise LabelAssembleError(
                f"{beside} is not there: version {version} is to be {file} and version {other.name} is not, {advice}"
            )
        if file != "model.pt" and load_metadata(beside).input.channels != channels:  # a .pt takes any
            raise LabelAssembleError(
                f"{beside}: version {version} takes images of {channels} channels and version {other.name} does "
                f"not, {advice}"
            )
    return others


def _batching(options: RepositoryOptions, config: Path | None) -> tuple[int, int]:
    """Return max_batch and queue_delay_us: as asked for, else as a config.pbtxt has it that stands there."""
    text = config.read_text(encoding="utf-8") if config is not None and config.exists() else ""

    def settle(asked: int | None, pattern: str, default: int) -> int:
        found = re.search(pattern, text)
        return asked if asked is not None else int(found.group(1)) if found else default

    return (
        settle(options.max_batch, r"(?m)^max_batch_size: ([1-9]\d*)$", MAX_BATCH),
        settle(options.queue_delay_us, r"max_queue_delay_microseconds: (\d+)", QUEUE_DELAY_US),
    )


def _link_or_copy(source: str, target: str) -> None:
    """A server that runs keeps its files, and a model need not be copied."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def _config(folder: Path, text: str) -> None:
    (folder / "config.pbtxt").write_text(text, encoding="utf-8")


@quiet_torchscript()
def _decoded_difference(parts: ExportParts, decoder: Path, model: Path, max_batch: int) -> float:
    """Return the largest difference from eager of what decoder and network answer together."""
    encoded = [as_png(image[0].numpy()) for image in parts.images]
    pixels = torch.from_numpy(decode(decoder, encoded, max_batch=max_batch))
    network = torch.jit.load(model)  # type: ignore[no-untyped-call]
    with torch.inference_mode(), torch.jit.optimized_execution(False):  # type: ignore[attr-defined]
        answers = network(pixels).double()
    return float((answers - parts.expected).abs().max())
