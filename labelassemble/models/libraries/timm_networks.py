"""Networks of timm, without their classifier."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from labelassemble.errors import LabelAssembleError
from labelassemble.models.libraries import parts
from labelassemble.models.libraries.parts import InputValues


def check_name(name: str) -> None:
    """Raise LabelAssembleError unless there is a network of that name (and tag: resnet18.a1_in1k), or timm itself."""
    timm = _library()
    network, _, tag = name.partition(".")
    if not timm.is_model(network):
        parts.check_name("timm", network, timm.list_models())
    if tag:
        parts.check_name("timm", name, timm.list_models(f"{network}.*", pretrained=True))


def input_values(name: str) -> InputValues:
    """Return the values that its weights expect, by timm's description of them."""
    description = _description(name)
    return InputValues(tuple(description.mean), tuple(description.std))


def build(
    name: str,
    *,
    channels: int,
    size: int,
    weights: Mapping[str, Tensor] | None = None,
    path: Path | None = None,
    download: bool = False,
) -> nn.Module:
    """Return the network from images to features.

    Args:
        name: the network, with the tag of its weights or without.
        channels: of the images.
        size: of the images.
        weights: a state dict for it; timm brings positions and stem to another size of image and other channels.
        path: where they come from.
        download: take the published weights.

    Raises:
        LabelAssembleError: weights that do not fit.
    """
    description = _description(name)
    # A classifier as large as the file's: only then does timm ask for every weight to be there.
    classes = int(description.num_classes) if download else _classes_of(description, weights or {})
    overlay: dict[str, Any] = {"num_classes": classes, "label_offset": 0} if not download else {}
    if weights is not None:
        stem = description.first_conv
        first = weights.get(f"{stem if isinstance(stem, str) else (stem or ('',))[0]}.weight")
        file_channels = first.shape[1] if first is not None and first.dim() == 4 else channels
        overlay |= {"state_dict": dict(weights), "input_size": (file_channels, *description.input_size[1:])}
    sized = {"img_size": size} if description.fixed_input_size else {}
    try:
        network: nn.Module = _library().create_model(
            name,
            pretrained=download or weights is not None,
            pretrained_cfg_overlay=overlay,
            num_classes=classes,
            in_chans=channels,
            scriptable=True,
            exportable=True,
            **sized,
        )
    except RuntimeError as error:
        if weights is None or "loading state_dict" not in str(error):
            raise
        raise LabelAssembleError(f"{path}: does not fit timm's {name}: {_misfit(str(error))}") from None
    network.reset_classifier(0)  # type: ignore[operator]
    _check_patches(network, name, size)
    return network


def _check_patches(network: nn.Module, name: str, size: int) -> None:
    """Raise where patches do not cover the image: timm leaves out what remains at its edges."""
    embed = getattr(network, "patch_embed", None)
    sides = getattr(embed, "patch_size", None)
    if isinstance(sides, tuple) and not getattr(embed, "dynamic_img_pad", False) and size % sides[0]:
        raise LabelAssembleError(
            f"timm's {name} divides images into patches of {sides[0]} pixels: views.size must be a multiple of that, "
            f"got {size}"
        )


def _classes_of(description: Any, weights: Mapping[str, Tensor]) -> int:
    """Return how many classes the classifier of a file knows, 0 without one."""
    names = description.classifier or ()
    for name in (names,) if isinstance(names, str) else names:
        weight = weights.get(f"{name}.weight")
        if weight is not None:
            return len(weight)
    return 0


def _misfit(text: str) -> str:
    """Return the first names that torch gives when a state dict does not fit."""
    lines = [line.strip() for line in text.splitlines()[1:] if line.strip()]
    said = []
    for line in lines[:2]:
        names = re.findall(r'"([^"]+)"', line)
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        rule = line.partition(":")[0].lower()
        said.append(f"{rule}: {', '.join(names[:3])}{more}" if names else line)
    return "; ".join(said)


def _description(name: str) -> Any:
    found = _library().models.get_pretrained_cfg(name)
    if found is None:
        raise LabelAssembleError(
            f"timm does not describe the input of {name}, so it cannot be a backbone by its name"
        )
    return found


def _library() -> Any:
    return parts.import_library("timm", "timm")
