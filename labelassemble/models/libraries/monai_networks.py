"""Networks of MONAI for images: its classification networks with two spatial axes, without their last layer."""

from collections.abc import Callable
from typing import Any, Final

from torch import Tensor, nn

from labelassemble.errors import LabelAssembleError
from labelassemble.models.libraries import parts

_DENSENETS: Final = ("DenseNet121", "DenseNet169", "DenseNet201", "DenseNet264")
_SENETS: Final = ("SENet154", "SEResNet50", "SEResNet101", "SEResNet152", "SEResNext50", "SEResNext101")
_RESNETS: Final = tuple(f"resnet{depth}" for depth in (10, 18, 34, 50, 101, 152, 200))
_EFFICIENTNETS: Final = tuple(f"efficientnet-b{number}" for number in range(9))
_PATCH: Final = 16  # of its ViT, in pixels
NAMES: Final = (*_DENSENETS, *_SENETS, *_RESNETS, *_EFFICIENTNETS, "ViT")


def check_name(name: str) -> None:
    """Raise LabelAssembleError unless there is a network of that name, or MONAI itself."""
    _nets()
    parts.check_name("monai", name, NAMES)


def download(name: str) -> dict[str, Tensor]:
    """Refuse: MONAI does not say which values the weights that it links to expect."""
    raise LabelAssembleError(
        f"pretrained: true is not for monai's {name}, since MONAI does not describe its weights: give their file, and "
        "what they expect as views.mean and views.std"
    )


def build(name: str, *, channels: int, size: int) -> tuple[nn.Module, Callable[[dict[str, Tensor]], Any]]:
    """Return the network from images to features, with random weights, and what names weights of a file as it does."""
    nets = _nets()
    network: nn.Module
    if name in _DENSENETS:
        network = getattr(nets, name)(spatial_dims=2, in_channels=channels, out_channels=1)
    elif name in _SENETS:
        network = getattr(nets, name)(spatial_dims=2, in_channels=channels, num_classes=1)
    elif name in _RESNETS:
        network = getattr(nets, name)(spatial_dims=2, n_input_channels=channels, num_classes=1)
    elif name in _EFFICIENTNETS:
        network = nets.EfficientNetBN(
            name, pretrained=False, spatial_dims=2, in_channels=channels, num_classes=1
        )
    elif size % _PATCH:
        raise LabelAssembleError(
            f"monai's {name} divides images into patches of {_PATCH} pixels: views.size must be a multiple of that, "
            f"got {size}"
        )
    else:
        network = FirstOutput(
            nets.ViT(
                channels,
                (size, size),
                (_PATCH, _PATCH),
                classification=True,
                spatial_dims=2,
                post_activation="",
            )
        )
    classifier = parts.without_classifier(network).removeprefix("network.")

    def named(state: dict[str, Tensor]) -> dict[str, Tensor]:
        state = parts.left_out(state, f"{classifier}.")
        wrapped = isinstance(network, FirstOutput) and not any(key.startswith("network.") for key in state)
        return {f"network.{key}": value for key, value in state.items()} if wrapped else state

    return network, named


class FirstOutput(nn.Module):
    """A network that returns several things, of which the first is wanted."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        """Return the features [B, D]."""
        features: Tensor = self.network(images)[0]
        return features


def _nets() -> Any:
    return parts.import_library("monai.networks.nets", "monai")
