"""Features as the head gets them, beside the same probabilities."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from labelassemble.models import AssembleNet
from labelassemble.models.features import predict_with_features
from labelassemble.models.predict import predict
from labelassemble.views.options import ViewOptions


class Pooled(nn.Module):
    """One convolution, ReLU, average."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Conv2d(1, 3, 3, padding=1)

    def forward(self, images):
        return torch.relu(self.features(images)).mean(dim=[2, 3])


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for index in range(5):
        Image.fromarray(rng.integers(0, 255, (16, 16), np.uint8)).save(folder / f"{index}.png")
    return [str(folder / f"{index}.png") for index in range(5)]


def test_features_are_those_that_the_head_sees_and_probabilities_stay(images):
    net = AssembleNet("densenet_small", classes=["a", "b"]).eval()
    views = ViewOptions(size=16)
    found = predict_with_features(net, images, views)
    # with hooks the network pools and answers in two steps, which rounds otherwise than the fused one
    assert found.probabilities == pytest.approx(predict(net, images, views), abs=1e-6)
    with torch.no_grad():
        logits = net.head(torch.from_numpy(found.features))
    assert torch.sigmoid(logits).numpy() == pytest.approx(found.probabilities, abs=1e-6)
    assert not net.backbone._forward_hooks


def test_several_backbones_stand_side_by_side_and_none_gives_none(images):
    class Several(nn.Module):
        def __init__(self):
            super().__init__()
            self.backbones = nn.ModuleList([Pooled(), Pooled()])

        def forward(self, images):
            return torch.cat([backbone(images)[:, :1] for backbone in self.backbones], 1)

    views = ViewOptions(size=16)
    assert predict_with_features(Several(), images, views).features.shape == (5, 6)
    plain = nn.Sequential(nn.Flatten(), nn.Linear(256, 2))
    assert predict_with_features(plain, images, views).features is None
