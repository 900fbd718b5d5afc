"""What every format is made from: the folded network, its metadata, and what eager answers on the images."""

import math
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from labelassemble._class_name import check_class_name
from labelassemble.errors import LabelAssembleError, did_you_mean
from labelassemble.export.densenet import fold_densenet
from labelassemble.export.heads import ServedHead, ServedQueries
from labelassemble.export.metadata import InputDescription, ModelMetadata
from labelassemble.head import ClassQueryHead
from labelassemble.models.densenet import DenseNet
from labelassemble.models.memory_format import to_channels_last
from labelassemble.models.predict import check_finite
from labelassemble.report.format import plural
from labelassemble.version import __version__
from labelassemble.views.preprocess import Preprocess

Precision = Literal["float32", "bfloat16"]
# How far probabilities may lie from eager float32. Two float32 networks that do the same in another order differ by
# about 1e-6; bfloat16 keeps 8 bits of each activation.
TOLERANCES: Final[dict[Precision, float]] = {"float32": 1e-5, "bfloat16": 0.05}


@dataclass(frozen=True)
class ExportSummary:
    """What was exported; as text, one line for a person.

    Attributes:
        path: the file, or the folder of a repository.
        size: its size in bytes.
        metadata: what the file says of itself, with the difference from eager.
    """

    path: Path
    size: int
    metadata: ModelMetadata

    def __str__(self) -> str:
        bf16 = " in bfloat16" if self.metadata.precision == "bfloat16" else ""
        return (
            f"{self.path}: {plural(len(self.metadata.classes), 'class')}{bf16}, {self.size / 1e6:.1f} MB, "
            f"largest difference from eager over {self.metadata.images} images {self.metadata.difference:.1e}"
        )


@dataclass(frozen=True)
class ExportParts:
    """A network taken apart for serving, on the CPU, in eval mode.

    Attributes:
        preprocess: images as they are served -> the network's input.
        backbone: the network's input -> features float32 [B, D].
        unfused: the same with norms of their own, where torch.fx folded them: a format may take only this one.
        head: features -> logits [B, C], calibration inside.
        metadata: with `difference` still NaN.
        images: those to compare on, uint8 [1, 1 or 3, H, W].
        expected: eager probabilities for them, float64 [N, C].
    """

    preprocess: Preprocess
    backbone: nn.Module
    unfused: nn.Module
    head: nn.Linear | ServedQueries | ServedHead
    metadata: ModelMetadata
    images: list[Tensor]
    expected: Tensor

    def compared(self, answers: Tensor, path: Path) -> ModelMetadata:
        """Return the metadata with the largest difference of `answers` [N, C] from eager in it.

        Raises:
            LabelAssembleError: the difference is above what the precision allows, or not a number.
        """
        if answers.shape != self.expected.shape:
            raise LabelAssembleError(
                f"the network must answer {list(answers.shape)} for {len(self.images)} images, "
                f"got {list(self.expected.shape)}"
            )
        difference = float((answers.double().cpu() - self.expected).abs().max())
        tolerance = TOLERANCES[self.metadata.precision]
        if not difference <= tolerance:  # NaN fails too
            raise LabelAssembleError(
                f"{path}: not written: the export's probabilities may differ from the network's by {tolerance:g}, "
                f"got {difference:.3g} over {len(self.images)} images"
            )
        return self.metadata.model_copy(update={"difference": difference})


def take_apart(
    network: nn.Module,
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
) -> ExportParts:
    """Return what every format is made from; the network is left as it is.

    Args:
        network: has `backbone` (images -> features [B, D]) and `head` (nn.Linear, one that offers ``to_linear()``, or
            one with ``out_features``, which must be scriptable for TorchScript), as `AssembleNet`.
        classes: names, in the order of the head's outputs.
        preprocess: the deterministic view that the network was trained for.
        images: decoded images, uint8 [1 or 3, H, W], of any sizes, on which export and eager are compared.
        interest: classes that the model was chosen by.
        thresholds: per class, for all of them, the probability from which it counts as positive; infinity: never;
            None: none could be chosen for that class.
        temperature: of the calibration, for all classes or for each: probabilities are
            sigmoid(logits / temperature + offset).
        offset: likewise.
        precision: of the backbone.
        queries: keep the queries of a `ClassQueryHead`, instead of one linear layer.

    Raises:
        LabelAssembleError: names that do not fit the network, a network of another shape, or no image.
    """
    if not images:
        raise LabelAssembleError("images must hold at least one image to compare the export on, got none")
    if precision not in TOLERANCES:
        raise LabelAssembleError(f"precision must be float32 or bfloat16, got '{precision}'")
    backbone, head = (getattr(network, name, None) for name in ("backbone", "head"))
    if not isinstance(backbone, nn.Module) or not isinstance(head, nn.Module):
        raise LabelAssembleError(
            f"network must have the modules backbone and head, got {type(network).__name__} without them"
        )
    linear = _linear_of(head)
    _check_names(network, linear, classes, interest, thresholds)
    temperatures = _by_class("temperature", temperature, classes)
    offsets = _by_class("offset", offset, classes)
    if queries and not isinstance(head, ClassQueryHead):
        raise LabelAssembleError(f"queries can be kept of a ClassQueryHead only, got {type(head).__name__}")

    metadata = ModelMetadata(
        library=__version__,
        torch=torch.__version__,
        classes=tuple(classes),
        interest=tuple(interest),
        thresholds=None if thresholds is None else {name: thresholds[name] for name in classes},
        temperatures=None if set(temperatures.values()) == {1.0} else temperatures,
        offsets=None if set(offsets.values()) == {0.0} else offsets,
        precision=precision,
        queries=queries,
        input=InputDescription(
            channels=preprocess.channels,
            size=preprocess.size,
            mean=tuple(preprocess.mean.flatten().tolist()),
            std=tuple(preprocess.std.flatten().tolist()),
        ),
        difference=math.nan,
        images=len(images),
    )
    divisors = torch.tensor([temperatures[name] for name in classes], dtype=torch.float64)
    added = torch.tensor([offsets[name] for name in classes], dtype=torch.float64)
    tensors = [torch.from_numpy(np.array(image))[None] for image in images]
    expected = _eager(network, preprocess, tensors, divisors, added)
    unfused, served = _fold(backbone, linear, head if queries else None, divisors, added, list(classes))
    unfused.eval().requires_grad_(False)
    folded = unfused if isinstance(backbone, DenseNet) else _without_norms(unfused)
    if precision == "bfloat16":
        folded, unfused = InBfloat16(folded), InBfloat16(unfused)
    for network_of_file in (folded, unfused):
        to_channels_last(network_of_file)
    return ExportParts(
        preprocess=deepcopy(preprocess).cpu().eval(),
        backbone=folded,
        unfused=unfused,
        head=served.eval().requires_grad_(False),
        metadata=metadata,
        images=tensors,
        expected=expected,
    )


class InBfloat16(nn.Module):
    """A backbone whose weights and activations are bfloat16; its features are float32."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone.bfloat16()

    def forward(self, images: Tensor) -> Tensor:
        """Return features float32 [B, D] of prepared images."""
        features: Tensor = self.backbone(images.to(torch.bfloat16))
        return features.float()


def _fold(
    backbone: nn.Module,
    linear: nn.Module,
    head: nn.Module | None,  # the ClassQueryHead, where its queries are kept
    divisors: Tensor,  # float64 [C]
    added: Tensor,  # float64 [C]
    classes: list[str],
) -> tuple[nn.Module, nn.Linear | ServedQueries | ServedHead]:
    """Return copies on the CPU: the backbone, a DenseNet without norms, and the head with what that leaves to it."""
    backbone = deepcopy(backbone).cpu().float().eval()
    linear = deepcopy(linear).cpu().float()
    scale, shift = torch.ones((), dtype=torch.float64), torch.zeros((), dtype=torch.float64)
    if isinstance(backbone, DenseNet):
        backbone = fold_densenet(backbone)
        scale, shift = backbone.scale, backbone.shift
    if isinstance(head, ClassQueryHead):
        return backbone, ServedQueries(
            head.queries.cpu(),
            head.weight.cpu(),
            head.bias.cpu(),
            scale=scale.expand(len(head.weight)),
            shift=shift.expand(len(head.weight)),
            temperatures=divisors,
            added=added,
            classes=classes,
        )
    if not isinstance(linear, nn.Linear):
        return backbone, ServedHead(
            linear.eval(), scale=scale, shift=shift, temperatures=divisors, added=added
        )
    served = nn.Linear(linear.in_features, linear.out_features)
    with torch.no_grad():
        weight = linear.weight.double()
        bias = weight @ shift.expand(linear.in_features)
        if linear.bias is not None:
            bias += linear.bias.double()
        served.weight.copy_(weight * scale / divisors[:, None])
        served.bias.copy_(bias / divisors + added)
    return backbone, served


def _linear_of(head: nn.Module) -> nn.Module:
    """Return the head as one linear layer where it is one, else as it is."""
    to_linear: Any = getattr(head, "to_linear", None)
    linear: nn.Module = head if to_linear is None else to_linear()
    if not isinstance(getattr(linear, "out_features", None), int):
        raise LabelAssembleError(
            "network.head must be nn.Linear, offer to_linear(), or have out_features, the number of its logits, "
            f"got {type(head).__name__}"
        )
    return linear


def _without_norms(backbone: nn.Module) -> nn.Module:
    """Return the backbone with each norm that follows a convolution folded into it: 5 to 10% quicker on a DenseNet."""
    from torch.fx.experimental.optimization import fuse  # 0.3 s, and only exports need it

    try:
        fused: torch.fx.GraphModule = fuse(backbone)  # type: ignore[assignment]
    except Exception:  # torch.fx cannot trace every forward; the formats may still take it as it is
        return backbone
    for node in fused.graph.nodes:
        node.type = None  # TorchScript does not know the names that torch.fx gives to types
    fused.recompile()
    return fused.eval().requires_grad_(False)


def _eager(
    network: nn.Module, preprocess: Preprocess, images: list[Tensor], divisors: Tensor, added: Tensor
) -> Tensor:
    """Return float64 [N, C]: the network's own probabilities, calibrated."""
    device = next(network.parameters()).device
    modules = [*network.modules(), *preprocess.modules()]
    training = [module.training for module in modules]
    network.eval()
    try:
        with torch.inference_mode():
            prepared = torch.cat([preprocess(image.to(preprocess.mean.device)) for image in images])
            logits = network(prepared.to(device)).double().cpu()
    finally:
        for module, mode in zip(modules, training, strict=True):
            module.training = mode
    if logits.shape != (len(images), len(divisors)):
        raise LabelAssembleError(
            f"the network must answer {[len(images), len(divisors)]} for {len(images)} images, got {list(logits.shape)}"
        )
    check_finite(logits, network, [f"image {index} of those to compare on" for index in range(len(images))])
    return torch.sigmoid(logits / divisors + added)


def _by_class(
    what: Literal["temperature", "offset"], given: float | Mapping[str, float], classes: Sequence[str]
) -> dict[str, float]:
    by_class = given if isinstance(given, Mapping) else dict.fromkeys(classes, given)
    for name in by_class:
        if name not in classes:
            raise LabelAssembleError(f"unknown class '{name}'{did_you_mean(name, classes)}")
    for name in classes:
        if name not in by_class:
            raise LabelAssembleError(f"{what}s must hold every class, got none for '{name}'")
        if not math.isfinite(by_class[name]):
            rule = "positive and finite" if what == "temperature" else "finite"
            raise LabelAssembleError(f"{what} must be {rule}, got {by_class[name]}")
        if what == "temperature" and by_class[name] <= 0:
            raise LabelAssembleError(f"temperature must be positive and finite, got {by_class[name]}")
    return {name: float(by_class[name]) for name in classes}


def _check_names(
    network: nn.Module,
    linear: nn.Module,
    classes: Sequence[str],
    interest: Sequence[str],
    thresholds: Mapping[str, float | None] | None,
) -> None:
    if len(classes) != linear.out_features:
        raise LabelAssembleError(
            f"classes must name the {linear.out_features} outputs of the head, got {len(classes)}"
        )
    for name in classes:
        check_class_name(name)  # the formats keep names as lines of text
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
            if name not in thresholds:
                raise LabelAssembleError(
                    f"thresholds must hold every class (None: no threshold), got none for '{name}'"
                )
            value = thresholds[name]
            if value is not None and not (0 <= value <= 1 or value == math.inf):
                raise LabelAssembleError(f"thresholds must lie in 0..1, got {value} for '{name}'")
