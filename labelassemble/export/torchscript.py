"""Export to TorchScript: one file that any libtorch loads, with no library of ours."""

import io
import math
import os
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from labelassemble.errors import LabelAssembleError, did_you_mean
from labelassemble.export.metadata import METADATA_FILE, InputDescription, ModelMetadata
from labelassemble.version import __version__
from labelassemble.views.preprocess import Preprocess

# Two float32 networks that do the same in another order differ by about 1e-6.
TOLERANCE: Final = 1e-5


@dataclass(frozen=True)
class ExportSummary:
    """What was exported; as text, one line for a person.

    Attributes:
        path: the file.
        size: its size in bytes.
        metadata: what the file says of itself, with the difference from eager.
    """

    path: Path
    size: int
    metadata: ModelMetadata

    def __str__(self) -> str:
        return (
            f"{self.path}: {len(self.metadata.classes)} classes, {self.size / 1e6:.1f} MB, "
            f"largest difference from eager over {self.metadata.images} images {self.metadata.difference:.1e}"
        )


class ServedModel(nn.Module):
    """What is exported: images as they are served -> probabilities.

    The attributes describe the model to C++ programs, which read no JSON (csrc/runtime/classifier.cpp).
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

    def __init__(
        self, preprocess: Preprocess, backbone: nn.Module, linear: nn.Module, metadata: ModelMetadata
    ) -> None:
        super().__init__()
        self.preprocess = preprocess
        self.backbone = backbone
        self.linear = linear
        self.labelassemble_format = metadata.format
        self.library = metadata.library
        self.classes = list(metadata.classes)
        self.interest = list(metadata.interest)
        thresholds = metadata.thresholds
        self.thresholds = [] if thresholds is None else [thresholds[name] for name in metadata.classes]
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
    def classify(self, prepared: Tensor) -> Tensor:
        """Return probabilities float32 [B, C] of prepared images."""
        # The layout in which convolutions on CPUs are quickest: about 1.3 times the images a second.
        prepared = prepared.contiguous(memory_format=torch.channels_last)
        return torch.sigmoid(self.linear(self.backbone(prepared)))


@contextmanager
def _quiet_torchscript() -> Iterator[None]:
    """Silence torch.jit's DeprecationWarning: TorchScript is what libtorch programs load, by choice."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r".*torch\.jit\.", category=DeprecationWarning)
        yield


@_quiet_torchscript()
def export_torchscript(
    network: nn.Module,
    path: str | os.PathLike[str],
    *,
    classes: Sequence[str],
    preprocess: Preprocess,
    images: Sequence[NDArray[np.uint8]],
    interest: Sequence[str] = (),
    thresholds: Mapping[str, float] | None = None,
    temperature: float = 1.0,
) -> ExportSummary:
    """Write a network with its preprocessing as TorchScript, compare it with eager, return a summary.

    The file takes images uint8 (0..255) or floating (0..1), grey or colour, of any size, [B, 1 or 3, H, W], and
    gives probabilities float32 [B, C]. A linear head becomes one layer (queries and temperature folded in), norms
    are folded into the convolutions before them, and names, input and thresholds travel inside (`load_metadata`).
    The network itself is left as it is; the file appears whole or not at all.

    Args:
        network: has `backbone` (images -> features [B, D]) and `head` (nn.Linear, or one that offers
            ``to_linear()``, or a scriptable one with ``out_features``), as `AssembleNet`.
        path: the file to write.
        classes: names, in the order of the head's outputs.
        preprocess: the deterministic view that the network was trained for.
        images: decoded images, uint8 [1 or 3, H, W], of any sizes, on which export and eager are compared.
        interest: classes that the model was chosen by.
        thresholds: per class, for all of them, the probability from which it counts as positive.
        temperature: of the calibration, in units of logits: probabilities are sigmoid(logits / temperature).

    Raises:
        LabelAssembleError: names that do not fit the network, a network of another shape, no image, a folder
            that is not there, or an export that differs from eager by more than 1e-5.
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise LabelAssembleError(f"{path}: the folder {path.parent} does not exist")
    if not images:
        raise LabelAssembleError("images must hold at least one image to compare the export on, got none")
    if not (math.isfinite(temperature) and temperature > 0):
        raise LabelAssembleError(f"temperature must be positive and finite, got {temperature}")
    backbone, linear = _parts(network, temperature)
    _check_names(network, linear, classes, interest, thresholds)

    metadata = ModelMetadata(
        library=__version__,
        torch=torch.__version__,
        classes=tuple(classes),
        interest=tuple(interest),
        thresholds=None if thresholds is None else {name: float(thresholds[name]) for name in classes},
        temperature=float(temperature),
        input=InputDescription(
            channels=preprocess.channels,
            size=preprocess.size,
            mean=tuple(preprocess.mean.flatten().tolist()),
            std=tuple(preprocess.std.flatten().tolist()),
        ),
        difference=0.0,
        images=len(images),
    )
    served = ServedModel(deepcopy(preprocess).cpu(), backbone, linear, metadata)
    served.eval().requires_grad_(False)
    # Not frozen: that turns weights into constants, which every load compares pair by pair to merge equal ones,
    # each with a parallel region (seconds for DenseNet121 on busy cores, against 0.2 s), and gains no speed.
    script = torch.jit.script(served)
    difference = _difference(network, preprocess, _reloaded(script), images, temperature)
    if not difference <= TOLERANCE:  # NaN fails too
        raise LabelAssembleError(
            f"{path}: not written: the export's probabilities may differ from the network's by {TOLERANCE:g}, "
            f"got {difference:.3g} over {len(images)} images"
        )
    metadata = metadata.model_copy(update={"difference": difference})
    _write(script, path, metadata)
    return ExportSummary(path=path, size=path.stat().st_size, metadata=metadata)


class _Tempered(nn.Module):
    """A head that is not linear, its logits divided by the temperature."""

    def __init__(self, head: nn.Module, temperature: float) -> None:
        super().__init__()
        self.head = head
        self.temperature = temperature
        self.out_features = head.out_features

    def forward(self, features: Tensor) -> Tensor:
        """Return logits [B, C]."""
        logits: Tensor = self.head(features)
        return logits / self.temperature


def _parts(network: nn.Module, temperature: float) -> tuple[nn.Module, nn.Module]:
    """Return copies on the CPU: the backbone, and the head with the temperature inside, one layer if it is linear."""
    backbone, head = (getattr(network, name, None) for name in ("backbone", "head"))
    if not isinstance(backbone, nn.Module) or not isinstance(head, nn.Module):
        raise LabelAssembleError(
            f"network must have the modules backbone and head, got {type(network).__name__} without them"
        )
    to_linear: Any = getattr(head, "to_linear", None)
    linear: nn.Module = head if to_linear is None else to_linear()
    linear = deepcopy(linear).cpu().float()
    backbone = deepcopy(backbone).cpu().float()
    with torch.no_grad():
        if isinstance(linear, nn.Linear):
            for parameter in linear.parameters():
                parameter.div_(temperature)
        elif isinstance(getattr(linear, "out_features", None), int):
            linear = _Tempered(linear, temperature)
        else:
            raise LabelAssembleError(
                "network.head must be nn.Linear, offer to_linear(), or have out_features, the number of its logits, "
                f"got {type(head).__name__}"
            )
        for parameter in backbone.parameters():
            if parameter.dim() == 4:
                parameter.data = parameter.contiguous(memory_format=torch.channels_last)
    return _without_norms(backbone.eval()), linear


def _without_norms(backbone: nn.Module) -> nn.Module:
    """Return the backbone with each norm that follows a convolution folded into it: 5 to 10% quicker on a DenseNet."""
    from torch.fx.experimental.optimization import fuse  # 0.3 s, and only exports need it

    try:
        return fuse(backbone)
    except Exception:  # torch.fx cannot trace every forward; TorchScript may still take it as it is
        return backbone


def _check_names(
    network: nn.Module,
    linear: nn.Module,
    classes: Sequence[str],
    interest: Sequence[str],
    thresholds: Mapping[str, float] | None,
) -> None:
    if len(classes) != linear.out_features:
        raise LabelAssembleError(
            f"classes must name the {linear.out_features} outputs of the head, got {len(classes)}"
        )
    if len(set(classes)) != len(classes):
        twice = next(name for name in classes if list(classes).count(name) > 1)
        raise LabelAssembleError(f"classes must be unique, got '{twice}' twice")
    own = getattr(network, "classes", None)
    if own is not None and tuple(own) != tuple(classes):
        raise LabelAssembleError(
            f"classes must be the network's own, in its order, got {list(classes)} for {list(own)}"
        )
    for name in (*interest, *(thresholds or ())):
        if name not in classes:
            raise LabelAssembleError(f"unknown class '{name}'{did_you_mean(name, classes)}")
    if thresholds is not None:
        for name in classes:
            value = thresholds.get(name)
            if value is None:
                raise LabelAssembleError(f"thresholds must hold every class, got none for '{name}'")
            if not 0 <= value <= 1:
                raise LabelAssembleError(f"thresholds must lie in 0..1, got {value} for '{name}'")


def _reloaded(script: torch.jit.ScriptModule) -> torch.jit.ScriptModule:
    """Return the module as a program will see it: written and read back."""
    buffer = io.BytesIO()
    torch.jit.save(script, buffer)
    buffer.seek(0)
    return torch.jit.load(buffer)  # type: ignore[no-any-return, no-untyped-call]


def _difference(
    network: nn.Module,
    preprocess: Preprocess,
    script: torch.jit.ScriptModule,
    images: Sequence[NDArray[np.uint8]],
    temperature: float,
) -> float:
    """Return the largest difference of probabilities between the eager network and its export."""
    device = next(network.parameters()).device
    modules = [*network.modules(), *preprocess.modules()]
    training = [module.training for module in modules]
    network.eval()
    try:
        # The optimizer is off as in the C++ library: it would profile the first calls, of which there is but one.
        with torch.inference_mode(), torch.jit.optimized_execution(False):  # type: ignore[attr-defined]
            tensors = [torch.from_numpy(np.array(image))[None] for image in images]
            prepared = torch.cat([preprocess(tensor.to(preprocess.mean.device)) for tensor in tensors])
            eager = torch.sigmoid(network(prepared.to(device)).double() / temperature).cpu()
            exported = script.classify(torch.cat([script.prepare(tensor) for tensor in tensors])).double()
    finally:
        for module, mode in zip(modules, training, strict=True):
            module.training = mode
    if eager.shape != exported.shape:
        raise LabelAssembleError(
            f"the network must answer {list(exported.shape)} for {len(images)} images, got {list(eager.shape)}"
        )
    return float((eager - exported).abs().max())


def _write(script: torch.jit.ScriptModule, path: Path, metadata: ModelMetadata) -> None:
    """Write the file under another name in the same folder, then rename it: readers never see half of it."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        # Under the archive's own name for its folder, the same bytes come out whatever the temporary name is.
        buffer = io.BytesIO()
        torch.jit.save(script, buffer, _extra_files={METADATA_FILE: metadata.model_dump_json(indent=2)})
        temporary.write_bytes(buffer.getbuffer())
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)  # mkstemp lets nobody else read it, unlike any other output
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
