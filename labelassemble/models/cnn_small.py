"""A small convolutional network for small images, which trains in seconds on a CPU."""

from pathlib import Path

import torch
from torch import Tensor, nn

from labelassemble.models.pretrained import load_backbone, read_state_dict


class SmallCnn(nn.Module):
    """A backbone for images of 8 to 64 pixels, scriptable, with 60 thousand weights.

    Four 3x3 convolutions of 16, 32, 64 and 64 channels, each with BatchNorm and ReLU; the first has stride 2, the two
    in the middle are followed by max-pooling, and from 64 pixels on the first as well; then the global average.

    Args:
        in_channels: 1 or 3.
        size: height and width of the images; it decides about the pooling after the first convolution.

    Attributes:
        out_features: 64, the length of a feature vector.
    """

    def __init__(self, in_channels: int = 1, *, size: int = 32) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = in_channels
        for index, width in enumerate((16, 32, 64, 64)):
            stride = 2 if index == 0 else 1
            layers += [
                nn.Conv2d(channels, width, 3, stride=stride, padding=1, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(inplace=True),
            ]
            if index in (1, 2) or (index == 0 and size >= 64):
                layers.append(nn.MaxPool2d(2))
            channels = width
        self.features = nn.Sequential(*layers)
        for weights in self.features.parameters():
            if weights.dim() == 4:  # twice as quick on a CPU
                weights.data = weights.data.contiguous(memory_format=torch.channels_last)
        self.out_features: int = channels

    def forward(self, images: Tensor) -> Tensor:
        """Return features [B, 64] of preprocessed images [B, in_channels, H, W]."""
        return self.features(images).mean(dim=[2, 3])  # type: ignore[no-any-return]

    def load_pretrained(self, path: Path) -> None:
        """Load the weights of such a network: a state dict of it, or a run's checkpoint, whose backbone is taken.

        Weights of grey images fit colour images and the other way round, see `load_backbone`.

        Raises:
            LabelAssembleError: no such file, not a state dict, or keys and shapes that do not fit (named).
        """
        load_backbone(self, read_state_dict(path), path, stem="features.0.weight")


def cnn_small(in_channels: int = 1) -> SmallCnn:
    """Return a `SmallCnn` without the pooling that is for larger images, D = 64."""
    return SmallCnn(in_channels)
