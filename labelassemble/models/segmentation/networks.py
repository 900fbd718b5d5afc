"""MONAI's segmentation networks as feature extractors: their last 1x1 convolution is left out.

MONAI is imported when a network is made, not before: it takes seconds, and images need none of it.
"""

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Final

from torch import Tensor, nn

from labelassemble.errors import LabelAssembleError, did_you_mean

_DYNUNET_FILTERS: Final = (32, 64, 128, 256, 320)
_DYNUNET_SMALL_FILTERS: Final = (16, 32, 64, 96)


class VoxelFeatures(nn.Module):
    """A network from images [B, in_channels, *spatial] to a feature vector for each voxel, [B, D, *spatial].

    Args:
        network: the network.
        out_features: D.
        divisor: what each spatial size must be a multiple of.

    Attributes:
        out_features: as given.
        divisor: as given.
    """

    def __init__(self, network: nn.Module, *, out_features: int, divisor: int) -> None:
        super().__init__()
        self.network = network
        self.out_features = out_features
        self.divisor = divisor

    def forward(self, images: Tensor) -> Tensor:
        """Return the features [B, D, *spatial]."""
        features: Tensor = self.network(images)
        return features


def voxel_features(backbone: str, *, in_channels: int, dims: int) -> VoxelFeatures:
    """Return a network with random weights.

    Args:
        backbone: "dynunet" (MONAI's DynUNet, the architecture of nnU-Net, five levels), "dynunet_small" (the same with
            four levels and half the width, for slices of 64 to 128 pixels on a CPU), "segresnet" or "swin_unetr".
        in_channels: channels of the images.
        dims: spatial dimensions, 2 or 3.

    Raises:
        LabelAssembleError: an unknown backbone, other dimensions, or MONAI (for swin_unetr einops) is missing.
    """
    if backbone not in _MAKERS:
        raise LabelAssembleError(f"unknown backbone '{backbone}'{did_you_mean(backbone, _MAKERS)}")
    if dims not in (2, 3):
        raise LabelAssembleError(f"a volume's network has 2 or 3 spatial dimensions, got {dims}")
    for package in ("monai", *(["einops"] if backbone == "swin_unetr" else [])):
        try:
            import_module(package)
        except ImportError as error:
            raise LabelAssembleError(
                f"backbone '{backbone}' needs the package {package}, which cannot be imported ({error}): "
                "pip install 'labelassemble[ct]'"
            ) from error
    return _MAKERS[backbone](in_channels, dims)


def _dynunet(filters: tuple[int, ...]) -> Callable[[int, int], VoxelFeatures]:
    def make(in_channels: int, dims: int) -> VoxelFeatures:
        from monai.networks.nets import DynUNet

        levels = len(filters)
        strides = (1, *[2] * (levels - 1))
        network = DynUNet(
            spatial_dims=dims,
            in_channels=in_channels,
            out_channels=1,
            kernel_size=[3] * levels,
            strides=strides,
            upsample_kernel_size=strides[1:],
            filters=filters,
        )
        network.output_block = nn.Identity()
        return VoxelFeatures(network, out_features=filters[0], divisor=2 ** (levels - 1))

    return make


def _segresnet(in_channels: int, dims: int) -> VoxelFeatures:
    from monai.networks.nets import SegResNet

    network = SegResNet(spatial_dims=dims, init_filters=16, in_channels=in_channels, out_channels=1)
    network.conv_final[2] = nn.Identity()  # the norm and the activation before it stay
    return VoxelFeatures(network, out_features=16, divisor=8)


def _swin_unetr(in_channels: int, dims: int) -> VoxelFeatures:
    from monai.networks.nets import SwinUNETR

    network = SwinUNETR(in_channels=in_channels, out_channels=1, feature_size=24, spatial_dims=dims)
    network.out = nn.Identity()
    return VoxelFeatures(network, out_features=24, divisor=32)


_MAKERS: Final[Mapping[str, Callable[[int, int], VoxelFeatures]]] = {
    "dynunet": _dynunet(_DYNUNET_FILTERS),
    "dynunet_small": _dynunet(_DYNUNET_SMALL_FILTERS),
    "segresnet": _segresnet,
    "swin_unetr": _swin_unetr,
}
