"""A backbone of another library: its name is checked, the values that it takes are found, it is built and measured."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from labelassemble.errors import LabelAssembleError
from labelassemble.models.libraries import (
    monai_networks,
    parts,
    timm_networks,
    torchvision_networks,
    torchxrayvision_networks,
)
from labelassemble.models.libraries.parts import InputValues
from labelassemble.models.options import LibraryBackbone
from labelassemble.models.pretrained import load_backbone, read_state_dict


def check_backbone(backbone: LibraryBackbone) -> None:
    """Raise LabelAssembleError unless the library is installed and has a network of that name."""
    match backbone.library:
        case "timm":
            timm_networks.check_name(backbone.name)
        case "torchvision":
            torchvision_networks.check_name(backbone.name)
        case "monai":
            monai_networks.check_name(backbone.name)
        case "torchxrayvision":
            torchxrayvision_networks.check_name(backbone.name)


def input_values(backbone: LibraryBackbone, channels: int) -> InputValues | None:
    """Return the values that its weights expect, as the library describes them; None where it does not (monai).

    Args:
        backbone: of a library that is installed and has it.
        channels: of the images; for grey ones, the means of the colours'.
    """
    match backbone.library:
        case "timm":
            found = timm_networks.input_values(backbone.name)
        case "torchvision":
            found = torchvision_networks.input_values(backbone.name)
        case "monai":
            return None
        case "torchxrayvision":
            found = torchxrayvision_networks.input_values(backbone.name)
    return found.for_channels(channels)


def library_backbone(backbone: LibraryBackbone, *, channels: int, size: int) -> nn.Module:
    """Return the network from images [B, channels, size, size] to features [B, D], D as its `out_features`.

    D is found by passing an image through it; parameters that take no part in the features are frozen.

    Raises:
        LabelAssembleError: no such library or network, images that it cannot take, or weights that are not there or do
            not fit.
    """
    check_backbone(backbone)
    path = backbone.pretrained if isinstance(backbone.pretrained, Path) else None
    whole = torchxrayvision_networks.classes_of_files() if backbone.library == "torchxrayvision" else ()
    state = None if path is None else read_state_dict(path, whole)
    try:
        network, features = _measured(backbone, channels, size, state, path)
    except LabelAssembleError:
        raise
    except Exception as error:
        raise LabelAssembleError(
            f"{backbone} cannot take images of {channels} x {size} x {size} (views.channels, views.size): "
            f"{parts.first_line(error)}"
        ) from error
    network.out_features = features  # type: ignore[assignment]  # a number, and no module
    return network.train()


def _measured(
    backbone: LibraryBackbone, channels: int, size: int, state: dict[str, Tensor] | None, path: Path | None
) -> tuple[nn.Module, int]:
    network = _built(backbone, channels, size, state, path).eval()
    with torch.enable_grad():
        features = network(torch.zeros(1, channels, size, size))
    if not isinstance(features, Tensor) or features.dim() != 2:
        came = list(features.shape) if isinstance(features, Tensor) else type(features).__name__
        raise LabelAssembleError(f"{backbone} does not give one vector of features an image, but {came}")
    features.sum().backward()  # type: ignore[no-untyped-call]
    for parameter in network.parameters():
        if parameter.grad is None:  # MONAI's ViT has such, for which several processes would wait in training
            parameter.requires_grad_(False)
        parameter.grad = None
    return network, features.shape[1]


def _built(
    backbone: LibraryBackbone, channels: int, size: int, state: dict[str, Tensor] | None, path: Path | None
) -> nn.Module:
    """Return the network; with random weights first, so that an error after that is one of the download."""
    name, published = backbone.name, backbone.pretrained is True
    if backbone.library == "timm":
        network = timm_networks.build(name, channels=channels, size=size, weights=state, path=path)
        if published:
            with _downloading(backbone):
                network = timm_networks.build(name, channels=channels, size=size, download=True)
        return network
    match backbone.library:
        case "torchvision":
            build, download = torchvision_networks.build, torchvision_networks.download
        case "monai":
            build, download = monai_networks.build, monai_networks.download
        case "torchxrayvision":
            build, download = torchxrayvision_networks.build, torchxrayvision_networks.download
    network, named = build(name, channels=channels, size=size)
    if published:
        with _downloading(backbone):
            state = download(name)
    if state is not None:
        where = path or Path(f"the weights of {backbone}")
        load_backbone(network, named(state), where, stem=f"{parts.stem_of(network)}.weight")
    return network


@contextmanager
def _downloading(backbone: LibraryBackbone) -> Iterator[None]:
    """Turn what a library raises when it cannot download into one sentence."""
    try:
        yield
    except LabelAssembleError:
        raise
    except Exception as error:
        raise LabelAssembleError(
            f"pretrained: true downloads the weights of {backbone}, which failed ({parts.first_line(error)}): "
            "give a file of them instead, model.backbone.pretrained: FILE"
        ) from error
