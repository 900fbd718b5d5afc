"""Export to TorchScript: one file that any libtorch loads, with no library of ours."""

import io
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from labelassemble.errors import LabelAssembleError
from labelassemble.export.files import written_whole
from labelassemble.export.heads import probabilities_of
from labelassemble.export.metadata import METADATA_FILE
from labelassemble.export.parts import ExportParts, ExportSummary, Precision, take_apart
from labelassemble.views.preprocess import Preprocess


class ServedModel(nn.Module):
    """What is exported: images as they are served -> probabilities.

    The attributes describe the model to C++ programs, which read no JSON (csrc/runtime/torchscript_model.cpp).
    """

    labelassemble_format: int
    library: str
    classes: list[str]
    interest: list[str]
    thresholds: list[float]
    input_channels: int
    input_size: int
    input_mean: list[float]
    input_std: list[float]

    def __init__(self, parts: ExportParts) -> None:
        super().__init__()
        metadata = parts.metadata
        self.preprocess = parts.preprocess
        self.backbone = parts.backbone
        self.head = parts.head
        self.labelassemble_format = metadata.format
        self.library = metadata.library
        self.classes = list(metadata.classes)
        self.interest = list(metadata.interest)
        self.thresholds = list(metadata.threshold_numbers)
        self.input_channels = metadata.input.channels
        self.input_size = metadata.input.size
        self.input_mean = list(metadata.input.mean)
        self.input_std = list(metadata.input.std)

    def forward(self, images: Tensor) -> Tensor:
        """Return probabilities float32 [B, C] of images [B, 1 or 3, H, W], uint8 or floating."""
        return self.classify(self.prepare(images))

    @torch.jit.export
    def prepare(self, images: Tensor) -> Tensor:
        """Return float32 [B, channels, size, size]: one image at a time where sizes differ."""
        return self.preprocess(images)  # type: ignore[no-any-return]

    @torch.jit.export
    def features(self, prepared: Tensor) -> Tensor:
        """Return features float32 [B, D] of prepared images."""
        # The layout in which convolutions on CPUs are quickest: about 1.3 times the images a second.
        return self.backbone(prepared.contiguous(memory_format=torch.channels_last))  # type: ignore[no-any-return]

    @torch.jit.export
    def classify(self, prepared: Tensor) -> Tensor:
        """Return probabilities float32 [B, C] of prepared images."""
        return probabilities_of(self.head(self.features(prepared)))


class ServedQueryModel(ServedModel):
    """The same with its queries: `classify_some` answers for the classes that it is given."""

    @torch.jit.export
    def classify_some(self, prepared: Tensor, classes: list[str]) -> Tensor:
        """Return probabilities float32 [B, len(classes)] of the classes named."""
        return probabilities_of(self.head.choose(self.features(prepared), classes))  # type: ignore[operator]


class ServedQueryFile(ServedQueryModel):
    """The same as a file of its own: a call, too, may name the classes that it asks for."""

    def forward(self, images: Tensor, classes: list[str] | None = None) -> Tensor:
        """Return probabilities float32 [B, C] of all classes, or of those named, in the order given."""
        if classes is None:
            return self.classify(self.prepare(images))
        return self.classify_some(self.prepare(images), classes)


@contextmanager
def quiet_torchscript() -> Iterator[None]:
    """Silence torch's warnings of torch.jit, whatever their kind: libtorch programs load TorchScript, by choice."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r".*torch\.jit\.")
        yield


def export_torchscript(
    network: nn.Module,
    path: str | os.PathLike[str],
    *,
    classes: Sequence[str],
    preprocess: Preprocess,
    images: Sequence[NDArray[np.uint8]],
    interest: Sequence[str] = (),
    thresholds: Mapping[str, float | None] | None = None,
    temperature: float | Mapping[str, float] = 1.0,
    offset: float | Mapping[str, float] = 0.0,
    precision: Precision = "float32",
    queries: bool = False,
) -> ExportSummary:
    """Write a network with its preprocessing as TorchScript, compare it with eager, return a summary.

    The file takes images uint8 (0..255) or floating (0..1), grey or colour, of any size, [B, 1 or 3, H, W], and
    gives probabilities float32 [B, C]; it refuses a batch with a floating value outside 0..1. A linear head becomes one
    layer (queries and calibration folded in), norms are folded into the convolutions beside them, and names, input
    and thresholds travel inside (`load_metadata`). The network itself is left as it is; the file appears whole or not
    at all.

    Args:
        network: as for `take_apart`, which has the other arguments too.
        path: the file to write.

    Raises:
        LabelAssembleError: what `take_apart` raises, a folder that is not there, or an export that differs from eager
            by more than its precision allows (1e-5 for float32).
    """
    if not Path(path).parent.is_dir():
        raise LabelAssembleError(f"{path}: the folder {Path(path).parent} does not exist")
    parts = take_apart(
        network,
        classes=classes,
        preprocess=preprocess,
        images=images,
        interest=interest,
        thresholds=thresholds,
        temperature=temperature,
        offset=offset,
        precision=precision,
        queries=queries,
    )
    return write_torchscript(parts, Path(path))


@quiet_torchscript()
def write_torchscript(parts: ExportParts, path: Path, *, tensors_only: bool = False) -> ExportSummary:
    """Write the parts as TorchScript, compared with eager; see `export_torchscript`.

    Args:
        parts: of the network.
        path: the file to write.
        tensors_only: `forward` takes the images alone, where queries are kept too: Triton loads no model whose
            `forward` has an argument that is neither a Tensor nor a list (pytorch_backend, ValidateInputs).
    """
    with_queries = ServedQueryModel if tensors_only else ServedQueryFile
    served = (with_queries if parts.metadata.queries else ServedModel)(parts)
    served.eval().requires_grad_(False)
    served.backbone = _scripted(parts, path)
    # Not frozen: that turns weights into constants, which every load compares pair by pair to merge equal ones,
    # each with a parallel region (seconds for DenseNet121 on busy cores, against 0.2 s), and gains no speed.
    script = torch.jit.script(served)
    metadata = parts.compared(_answers(reloaded(script), parts.images), path)
    with written_whole(path) as temporary:
        # Under the archive's own name for its folder, the same bytes come out whatever the temporary name is.
        buffer = io.BytesIO()
        torch.jit.save(script, buffer, _extra_files={METADATA_FILE: metadata.model_dump_json(indent=2)})
        temporary.write_bytes(buffer.getbuffer())
    return ExportSummary(path=path, size=path.stat().st_size, metadata=metadata)


def _scripted(parts: ExportParts, path: Path) -> nn.Module:
    """Return the backbone as TorchScript: scripted, without folded norms if need be, or else traced.

    Raises:
        LabelAssembleError: it branches on values, or what is traced answers another number of images otherwise.
    """
    for backbone in (parts.backbone, parts.unfused):
        try:
            return torch.jit.script(backbone)
        except Exception:  # of several kinds, for code that TorchScript does not know
            continue
    channels, size = parts.metadata.input.channels, parts.metadata.input.size
    images = torch.rand(3, channels, size, size).contiguous(memory_format=torch.channels_last)
    with torch.inference_mode(), warnings.catch_warnings():
        # A branch on values is recorded as it went for these images, and other images would be answered wrongly.
        warnings.simplefilter("error", torch.jit.TracerWarning)  # type: ignore[attr-defined]
        try:
            traced: nn.Module = torch.jit.trace(parts.backbone, images, check_trace=False)  # type: ignore[no-untyped-call]
        except Exception as error:
            reason = str(error).strip().partition("\n")[0]
            raise LabelAssembleError(
                f"{path}: not written: TorchScript can neither read this backbone's code nor record it ({reason}): "
                "export it as pt2"
            ) from error
        for few in (images[:1], images[:2]):
            if not torch.allclose(traced(few), parts.backbone(few), rtol=1e-4, atol=1e-4):
                raise LabelAssembleError(
                    f"{path}: not written: TorchScript fixes the number of images of this network"
                )
    return traced


def reloaded(script: torch.jit.ScriptModule) -> torch.jit.ScriptModule:
    """Return the module as a program will see it: written and read back."""
    buffer = io.BytesIO()
    torch.jit.save(script, buffer)
    buffer.seek(0)
    return torch.jit.load(buffer)  # type: ignore[no-any-return, no-untyped-call]


def _answers(script: torch.jit.ScriptModule, images: list[Tensor]) -> Tensor:
    """Return what the exported module answers."""
    # The optimizer is off as in the C++ library: it would profile the first calls, of which there is but one.
    with torch.inference_mode(), torch.jit.optimized_execution(False):  # type: ignore[attr-defined]
        return script.classify(torch.cat([script.prepare(image) for image in images]))  # type: ignore[no-any-return]
