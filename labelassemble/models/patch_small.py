"""A network of two layers that looks at small patches of an image, each by itself."""

from pathlib import Path

from torch import Tensor, nn

from labelassemble.models.pretrained import load_backbone, read_state_dict


class PatchNet(nn.Module):
    """A backbone for images of 8 to 64 pixels, scriptable, with 3 thousand weights: the quickest there is on a CPU.

    A 4x4 convolution with stride 4 gives each patch of 4x4 pixels 32 values, a 1x1 convolution makes 64 of them, both
    with BatchNorm and ReLU; then the global average. It does not see how patches lie to each other, so what it can
    learn is soon learned.

    Args:
        in_channels: 1 or 3.

    Attributes:
        out_features: 64, the length of a feature vector.
    """

    def __init__(self, in_channels: int = 1) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(in_channels, 32, kernel_size=4, stride=4, bias=False),
            nn.BatchNorm2d(32),
            nn.ReLU(inplace=True),
            nn.Conv2d(32, 64, kernel_size=1, bias=False),
            nn.BatchNorm2d(64),
            nn.ReLU(inplace=True),
        )
        self.out_features: int = 64

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
