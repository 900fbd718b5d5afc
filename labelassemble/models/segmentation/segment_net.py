"""The network of a detection: a feature vector for each voxel, and a head with one output a class."""

from collections.abc import Callable, Mapping, Sequence
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from labelassemble._class_name import check_class_list
from labelassemble.errors import LabelAssembleError
from labelassemble.models.backbones import feature_count
from labelassemble.models.options import Queries
from labelassemble.models.segmentation.networks import voxel_features
from labelassemble.models.segmentation.voxel_head import VoxelQueryHead


class SegmentNet(nn.Module):
    """A network that answers every class of an assembly at every voxel.

    Args:
        backbone: "dynunet" (MONAI's DynUNet, five levels), "dynunet_small" (four levels, half the width, for slices on
            a CPU), "segresnet" or "swin_unetr"; or a function that takes the number of channels and returns a module
            of one's own, from images [B, in_channels, *spatial] to features [B, D, *spatial], with D as its
            `out_features`.
        classes: names of the classes, in the order of the outputs.
        in_channels: channels of the images.
        dims: spatial axes, 2 or 3.
        queries: how the queries start: "one-hot", or "random", each of length 1.
        shares: the share of its known voxels that a class fills, by name, from which its offset begins.

    Attributes:
        classes: the names, in the order of the outputs.
        dims: as given.
        head: a `VoxelQueryHead`; `add_classes` and `similarity` are the network's too.
        divisor: what each size of the images must be a multiple of.

    Raises:
        LabelAssembleError: an unknown backbone, one's own without `out_features`, no class, or MONAI is missing.

    Example:
        >>> import torch
        >>> from labelassemble.models.segmentation.segment_net import SegmentNet
        >>> net = SegmentNet("dynunet_small", classes=["PDAC", "cyst"], dims=2)
        >>> net(torch.zeros(4, 1, 32, 32)).shape
        torch.Size([4, 2, 32, 32])
        >>> net(torch.zeros(4, 1, 32, 32), classes=["cyst"]).shape
        torch.Size([4, 1, 32, 32])
    """

    def __init__(
        self,
        backbone: str | Callable[[int], nn.Module] = "dynunet",
        *,
        classes: Sequence[str],
        in_channels: int = 1,
        dims: int = 3,
        queries: Queries = "one-hot",
        shares: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__()
        self.classes: tuple[str, ...] = tuple(check_class_list(classes))
        self.dims = dims
        self.needs_sources = False  # as AssembleNet has it: every source teaches the one head
        self.sources = dict[str, tuple[str, ...]]()
        self.backbone: nn.Module = (
            voxel_features(backbone, in_channels=in_channels, dims=dims)
            if isinstance(backbone, str)
            else backbone(in_channels)
        )
        self.divisor = int(getattr(self.backbone, "divisor", 1))
        self.head = VoxelQueryHead(feature_count(self.backbone), self.classes, shares=shares)
        if queries == "random":
            self.head.queries.data = normalize(torch.randn(self.head.queries.shape), dim=1)
        self._backbone_trains = True

    def forward(
        self,
        images: Tensor,  # [B, in_channels, *spatial]
        classes: list[str] | None = None,
    ) -> Tensor:
        """Return logits [B, C, *spatial] of preprocessed images, of all classes or of those named."""
        if torch.jit.is_scripting():  # type: ignore[attr-defined]
            logits: Tensor = self.head(self.backbone(images), classes)
            return logits
        else:
            return self._answer(images, classes)

    @torch.jit.unused
    def _answer(self, images: Tensor, classes: list[str] | None) -> Tensor:
        if not torch.compiler.is_compiling() and not torch._C._get_tracing_state() and not len(images):
            # Instance norms refuse a batch of no image, which a process may have: one of zeros has no part in the loss.
            empty: Tensor = self._answer(images.new_zeros(1, *images.shape[1:]), classes)
            return empty[:0]
        answer: Tensor = self.head(self.backbone(images), classes)
        return answer

    @torch.jit.unused
    def check_patch(self, patch: Sequence[int]) -> None:
        """Raise LabelAssembleError unless the network can take images of this size."""
        divisor = self.divisor
        if len(patch) != self.dims:
            raise LabelAssembleError(f"volumes.patch must have {self.dims} sizes, got {list(patch)}")
        if any(size < divisor or size % divisor for size in patch):
            near = [max(1, round(size / divisor)) * divisor for size in patch]
            raise LabelAssembleError(
                f"volumes.patch must have multiples of {divisor} with this backbone, which halves the size "
                f"{divisor.bit_length() - 1} times, got {list(patch)}: the nearest is {near}"
            )
        if divisor > 1 and all(size == divisor for size in patch):
            raise LabelAssembleError(
                f"volumes.patch must be larger than {divisor} along one axis at least with this backbone, since its "
                f"norms need more than one place at the bottom, got {list(patch)}"
            )

    @torch.jit.unused
    def add_classes(self, names: Sequence[str], shares: Mapping[str, float] | None = None) -> None:
        """Add classes after the others, whose logits stay as they are; see `ClassQueryHead.add_classes`."""
        self.head.add_classes(names, shares)
        self.classes = tuple(self.head.classes)

    @torch.jit.unused
    def similarity(self) -> Tensor:
        """Return the cosine similarity [C, C] of the learned queries, without gradient."""
        return self.head.similarity()

    @torch.jit.unused
    def freeze_backbone(self) -> None:
        """Keep the backbone as it is: no gradients, and norms in eval mode whatever `train` says."""
        self.backbone.requires_grad_(False)
        self._backbone_trains = False
        self.train(self.training)

    @torch.jit.unused
    def train(self, mode: bool = True) -> Self:
        """Set training or eval mode, as nn.Module; a frozen backbone stays in eval mode."""
        super().train(mode)
        if not self._backbone_trains:
            self.backbone.eval()
        return self


class FoldedSegmentNet(nn.Module):
    """The same answers with the queries folded into one convolution: what is exported.

    Args:
        net: the trained network; its backbone is shared, not copied.
    """

    def __init__(self, net: SegmentNet) -> None:
        super().__init__()
        self.backbone = net.backbone
        self.head: nn.Module = net.head.to_convolution(net.dims)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits [B, C, *spatial] of preprocessed images [B, in_channels, *spatial]."""
        logits: Tensor = self.head(self.backbone(images))
        return logits
