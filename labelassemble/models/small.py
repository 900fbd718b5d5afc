"""Small backbones for small images, which train in seconds on a CPU."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from labelassemble.models.pretrained import load_backbone, read_state_dict


class SmallBackbone(nn.Module):
    """Layers one after the other and the global average of what they give, scriptable.

    Args:
        layers: the first is a convolution; the last gives `out_features` channels.
        out_features: D, the length of a feature vector.
    """

    def __init__(self, layers: Sequence[nn.Module], out_features: int) -> None:
        super().__init__()
        self.features = nn.Sequential(*layers)
        self.out_features: int = out_features

    def forward(self, images: Tensor) -> Tensor:
        """Return features [B, D] of preprocessed images [B, in_channels, H, W]."""
        return self.features(images).mean(dim=[2, 3])  # type: ignore[no-any-return]

    def load_pretrained(self, path: Path) -> None:
        """Load the weights of such a network: a state dict of it, or a run's checkpoint, whose backbone is taken.

        Weights of grey images fit colour images and the other way round, see `load_backbone`.

        Raises:
            LabelAssembleError: no such file, not a state dict, or keys and shapes that do not fit (named).
        """
        load_backbone(self, read_state_dict(path), path, stem="features.0.weight")


class SmallCnn(SmallBackbone):
    """A backbone for images of 8 to 64 pixels with 60 thousand weights, D = 64.

    Four 3x3 convolutions of 16, 32, 64 and 64 channels, each with BatchNorm and ReLU; the first has stride 2, the two
    in the middle are followed by max-pooling, and from 64 pixels on the first as well; then the global average.

    Args:
        in_channels: 1 or 3.
        size: height and width of the images; it decides about the pooling after the first convolution.
    """

    def __init__(self, in_channels: int = 1, *, size: int = 32) -> None:
        layers: list[nn.Module] = []
        channels = in_channels
        for index, width in enumerate((16, 32, 64, 64)):
            layers += _convolution(channels, width, 3, stride=2 if index == 0 else 1, padding=1)
            if index in (1, 2) or (index == 0 and size >= 64):
                layers.append(nn.MaxPool2d(2))
            channels = width
        super().__init__(layers, channels)
        for weights in self.features.parameters():
            if weights.dim() == 4:  # twice as quick on a CPU
                weights.data = weights.data.contiguous(memory_format=torch.channels_last)


class PatchNet(SmallBackbone):
    """A backbone for images of 8 to 64 pixels with 3 thousand weights, D = 64: the quickest there is on a CPU.

    A 4x4 convolution with stride 4 gives each patch of 4x4 pixels 32 values, a 1x1 convolution makes 64 of them, both
    with BatchNorm and ReLU; then the global average. It does not see how patches lie to each other, so what it can
    learn is soon learned.

    Args:
        in_channels: 1 or 3.
    """

    def __init__(self, in_channels: int = 1) -> None:
        layers = _convolution(in_channels, 32, 4, stride=4) + _convolution(32, 64, 1)
        super().__init__(layers, 64)


def _convolution(
    in_channels: int, out_channels: int, kernel: int, *, stride: int = 1, padding: int = 0
) -> list[nn.Module]:
    return [
        nn.Conv2d(in_channels, out_channels, kernel, stride=stride, padding=padding, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    ]
