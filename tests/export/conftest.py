"""A tiny network of AssembleNet's shape, and one export of it for all the tests of this folder."""

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from labelassemble.export import export_torchscript
from labelassemble.views.preprocess import Preprocess

CLASSES = ("one", "two, too")


class TinyHead(nn.Module):
    """A head that is linear, and says so, as ClassQueryHead does."""

    def __init__(self, features: int, classes: int) -> None:
        super().__init__()
        self.queries = nn.Parameter(torch.randn(classes, 3))
        self.adapter = nn.Linear(3, features)
        self.fold_error = 0.0

    def forward(self, features: Tensor) -> Tensor:
        return features @ self.adapter(self.queries).T

    def to_linear(self) -> nn.Linear:
        weight = self.adapter(self.queries).detach() + self.fold_error
        linear = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
        linear.weight.data.copy_(weight)
        return linear


class TinyNet(nn.Module):
    """Convolution, BatchNorm with statistics of its own, dropout, pooling; then the head."""

    def __init__(self, channels: int = 1) -> None:
        super().__init__()
        self.backbone = nn.Sequential(
            nn.Conv2d(channels, 8, 3, padding=1, bias=False),
            nn.BatchNorm2d(8),
            nn.ReLU(inplace=True),
            nn.Dropout(0.5),
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
        )
        norm = self.backbone[1]
        norm.running_mean.normal_(0.0, 0.3)
        norm.running_var.uniform_(0.5, 2.0)
        self.head = TinyHead(32, len(CLASSES))
        self.classes = CLASSES

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.backbone(images))


class Overflowing(nn.Module):
    """The second logit of a white image is infinite in float32."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.head = nn.Linear(1, len(CLASSES), bias=False)
        self.head.weight.data = torch.tensor([[1.0], [2e38]])
        self.classes = CLASSES

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.backbone(images))


Eager = Callable[[nn.Module, Preprocess, list[NDArray[np.uint8]]], NDArray[np.float32]]


@pytest.fixture
def eager() -> Eager:
    """What Python answers: the reference of every test here."""

    def probabilities(
        network: nn.Module, preprocess: Preprocess, images: list[NDArray[np.uint8]]
    ) -> NDArray[np.float32]:
        network.eval()
        with torch.inference_mode():
            prepared = torch.cat([preprocess(torch.from_numpy(image.copy())[None]) for image in images])
            return torch.sigmoid(network(prepared)).numpy()

    return probabilities


@pytest.fixture(scope="session")
def _trained() -> TinyNet:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return TinyNet()


@pytest.fixture
def network(_trained: TinyNet) -> TinyNet:
    """The network in `model`, a copy for each test to change."""
    return deepcopy(_trained)


@pytest.fixture
def overflowing() -> Overflowing:
    return Overflowing()


@pytest.fixture
def colour_network() -> TinyNet:
    return TinyNet(channels=3)


@pytest.fixture(scope="session")
def preprocess() -> Preprocess:
    return Preprocess(channels=1, size=12, mean=[0.4], std=[0.3])


@pytest.fixture(scope="session")
def images() -> list[NDArray[np.uint8]]:
    """Grey and colour, of several sizes: the network's own, smaller, larger, one pixel."""
    rng = np.random.default_rng(0)
    shapes = [(1, 12, 12), (3, 12, 12), (1, 5, 40), (3, 64, 7), (1, 1, 1), (3, 200, 150), (1, 12, 12)]
    return [rng.integers(0, 256, shape, dtype=np.uint8) for shape in shapes]


@pytest.fixture(scope="session")
def model(
    tmp_path_factory: pytest.TempPathFactory,
    _trained: TinyNet,
    preprocess: Preprocess,
    images: list[NDArray[np.uint8]],
) -> Path:
    """An exported model with everything that a model may carry."""
    path = tmp_path_factory.mktemp("export") / "model.pt"
    export_torchscript(
        _trained,
        path,
        classes=CLASSES,
        preprocess=preprocess,
        images=images,
        interest=["two, too"],
        thresholds={"two, too": 0.75, "one": 0.25},
    )
    return path
