"""Networks of torchxrayvision, trained on chest radiographs: DenseNet121 and ResNet50, without their last layer.

They are built here and not by the library, which resizes images inside and cannot make a ResNet without a download:
its DenseNet121 is ours with other numbers, its ResNets are torchvision's.
"""

import contextlib
import io
from collections.abc import Callable
from typing import Any

import numpy as np
from torch import Tensor, nn

from labelassemble.models.densenet import densenet121
from labelassemble.models.libraries import parts, torchvision_networks
from labelassemble.models.libraries.parts import InputValues


def check_name(name: str) -> None:
    """Raise LabelAssembleError unless there is a network of that name, or torchxrayvision itself."""
    known = [
        key
        for key in _library().models.model_urls
        if key.startswith(("densenet121", "resnet50", "resnet101"))
    ]
    parts.check_name("torchxrayvision", name, known)


def input_values(name: str) -> InputValues:
    """Return the values that its weights expect, [-1024, 1024], by the library's own function for pixels."""
    low, high = _library().utils.normalize(np.array([0.0, 1.0]), maxval=1).tolist()
    return InputValues((-low / (high - low),), (1 / (high - low),))


def download(name: str) -> dict[str, Tensor]:
    """Return the published weights."""
    with contextlib.redirect_stdout(io.StringIO()):
        network: nn.Module = _library().models.get_model(name)
    return dict(network.state_dict())


def classes_of_files() -> list[type]:
    """Return the classes that the published files of DenseNets hold: they are whole modules."""
    models = _library().models
    own = [models.DenseNet, models._DenseBlock, models._DenseLayer, models._Transition]
    layers = [nn.Sequential, nn.Conv2d, nn.BatchNorm2d, nn.ReLU, nn.MaxPool2d, nn.AvgPool2d, nn.Linear]
    return [*own, *layers, set]


def build(name: str, *, channels: int, size: int) -> tuple[nn.Module, Callable[[dict[str, Tensor]], Any]]:
    """Return the network from images to features, with random weights, and what names weights of a file as it does."""
    if name.startswith("densenet121"):
        network: nn.Module = densenet121(channels)
        return network, lambda state: parts.left_out(state, "classifier.", "op_threshs")
    network, _ = torchvision_networks.build(name.partition("-")[0], channels=channels, size=size)

    def named(state: dict[str, Tensor]) -> dict[str, Tensor]:
        state = {key.removeprefix("model."): value for key, value in state.items()}
        return parts.left_out(state, "fc.", "op_threshs")

    return network, named


def _library() -> Any:
    return parts.import_library("torchxrayvision", "torchxrayvision")
