"""DenseNet (Huang et al., CVPR 2017) with torchvision's parameter names, scriptable, without a classifier.

torchvision itself is no dependency: its PyPI wheel does not import beside a CPU torch. A file of
torchvision's weights loads key by key (`load_pretrained`), the legacy names of the first files included, and so does
the backbone of another run's checkpoint.
"""

import re
from collections import OrderedDict
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from labelassemble.models.pretrained import load_backbone, read_state_dict


class DenseLayer(nn.Module):
    """Norm, ReLU, 1x1 convolution, norm, ReLU, 3x3 convolution; returns the `growth_rate` new channels."""

    def __init__(self, in_channels: int, growth_rate: int, bottleneck: int) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(in_channels)
        self.relu1 = nn.ReLU(inplace=True)
        self.conv1 = nn.Conv2d(in_channels, bottleneck * growth_rate, kernel_size=1, bias=False)
        self.norm2 = nn.BatchNorm2d(bottleneck * growth_rate)
        self.relu2 = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(bottleneck * growth_rate, growth_rate, kernel_size=3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return [B, growth_rate, H, W] from [B, in_channels, H, W]."""
        x = self.conv1(self.relu1(self.norm1(x)))
        new: Tensor = self.conv2(self.relu2(self.norm2(x)))
        return new


class DenseBlock(nn.Module):
    """Layers that each see the input and the outputs of all the layers before them."""

    def __init__(self, layers: int, in_channels: int, growth_rate: int, bottleneck: int) -> None:
        super().__init__()
        for index in range(layers):
            layer = DenseLayer(in_channels + index * growth_rate, growth_rate, bottleneck)
            self.add_module(f"denselayer{index + 1}", layer)

    def forward(self, x: Tensor) -> Tensor:
        """Return [B, in_channels + layers * growth_rate, H, W] from [B, in_channels, H, W]."""
        features = [x]
        for layer in self.children():
            features.append(layer(torch.cat(features, 1)))
        return torch.cat(features, 1)


class DenseNet(nn.Module):
    """A DenseNet that gives pooled features.

    Args:
        in_channels: channels of the images.
        growth_rate: channels that each layer adds.
        block_config: layers in each block.
        stem_channels: channels of the first convolution.
        small_stem: a 3x3 stem that keeps the resolution, for images of 64 pixels or less, instead of the
            7x7 one that quarters it.

    Attributes:
        out_features: D, the length of a feature vector.
    """

    def __init__(
        self,
        in_channels: int = 3,
        growth_rate: int = 32,
        block_config: tuple[int, ...] = (6, 12, 24, 16),
        stem_channels: int = 64,
        *,
        small_stem: bool = False,
    ) -> None:
        super().__init__()
        stem: OrderedDict[str, nn.Module] = OrderedDict()
        if small_stem:
            stem["conv0"] = nn.Conv2d(in_channels, stem_channels, kernel_size=3, padding=1, bias=False)
        else:
            stem["conv0"] = nn.Conv2d(
                in_channels, stem_channels, kernel_size=7, stride=2, padding=3, bias=False
            )
        stem["norm0"] = nn.BatchNorm2d(stem_channels)
        stem["relu0"] = nn.ReLU(inplace=True)
        if not small_stem:
            stem["pool0"] = nn.MaxPool2d(kernel_size=3, stride=2, padding=1)
        self.features = nn.Sequential(stem)

        channels = stem_channels
        for index, layers in enumerate(block_config, start=1):
            self.features.add_module(f"denseblock{index}", DenseBlock(layers, channels, growth_rate, 4))
            channels += layers * growth_rate
            if index < len(block_config):
                transition: OrderedDict[str, nn.Module] = OrderedDict()
                transition["norm"] = nn.BatchNorm2d(channels)
                transition["relu"] = nn.ReLU(inplace=True)
                transition["conv"] = nn.Conv2d(channels, channels // 2, kernel_size=1, bias=False)
                transition["pool"] = nn.AvgPool2d(kernel_size=2, stride=2)
                self.features.add_module(f"transition{index}", nn.Sequential(transition))
                channels //= 2
        self.features.add_module(f"norm{len(block_config) + 1}", nn.BatchNorm2d(channels))
        self.out_features: int = channels

        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, images: Tensor) -> Tensor:
        """Return features [B, D] of images [B, in_channels, H, W]: ReLU, then the global average."""
        return F.relu(self.features(images)).mean(dim=[2, 3])

    def load_pretrained(self, path: Path) -> None:
        """Load weights for this architecture, of ImageNet or of a run; the classifier in the file is left out.

        A 3-channel stem in the file fits a 1-channel network as the sum over its channels, which answers a
        grey image as the colour network answers its three copies; a 1-channel stem fits a 3-channel network as a
        third of it for each channel. Weights expect the images' values as they were trained: for torchvision's
        files 3 channels with mean (0.485, 0.456, 0.406) and std (0.229, 0.224, 0.225), `views.mean` and `views.std`.

        Args:
            path: a state dict saved by torch as torchvision's, with current or legacy (``norm.1``) names, or a
                checkpoint of `labelassemble train`, of which the backbone is taken.

        Raises:
            LabelAssembleError: no such file, not a state dict, several backbones in it, or keys and shapes that do
                not fit (named).
        """
        state = {
            current_name(key): value
            for key, value in read_state_dict(path).items()
            if not key.startswith("classifier.")
        }
        load_backbone(self, state, path, stem="features.conv0.weight")


def densenet121(in_channels: int = 3) -> DenseNet:
    """Return the paper's backbone: DenseNet121, D = 1024, for images of about 224 pixels."""
    return DenseNet(in_channels, growth_rate=32, block_config=(6, 12, 24, 16), stem_channels=64)


def densenet169(in_channels: int = 3) -> DenseNet:
    """Return DenseNet169, D = 1664."""
    return DenseNet(in_channels, growth_rate=32, block_config=(6, 12, 32, 32), stem_channels=64)


def densenet201(in_channels: int = 3) -> DenseNet:
    """Return DenseNet201, D = 1920."""
    return DenseNet(in_channels, growth_rate=32, block_config=(6, 12, 48, 32), stem_channels=64)


def densenet_small(in_channels: int = 1) -> DenseNet:
    """Return a DenseNet for images of 16 to 64 pixels: 3x3 stem, growth 16, three blocks of 4 layers."""
    return DenseNet(in_channels, growth_rate=16, block_config=(4, 4, 4), stem_channels=32, small_stem=True)


def current_name(key: str) -> str:
    """Return torchvision's current name for a legacy one: ``norm.1.weight`` is ``norm1.weight``."""
    return re.sub(r"(denselayer\d+\.(?:norm|relu|conv))\.([12])\.", r"\1\2.", key)
