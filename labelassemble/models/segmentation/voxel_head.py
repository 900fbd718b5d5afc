"""The class-query head for voxels: a 1x1 convolution made of the queries, with an offset a class."""

import math
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from labelassemble.errors import LabelAssembleError
from labelassemble.growth import grow
from labelassemble.head import ClassQueryHead

_LEAST_SHARE = 1e-4  # a rarer class begins at this share, else its first gradients are next to nothing


class VoxelQueryHead(ClassQueryHead):
    """`ClassQueryHead` that answers every voxel: features [B, D, *spatial] to logits [B, C, *spatial].

    W = Q A^T + b as there, then z = W f(x) + offset. A lesion fills a hundredth of the voxels or less: the offset, one
    for each class, begins at the log-odds of the class's share of voxels, so that the first steps are not spent on
    learning that most voxels are background (as the prior of Lin et al., ICCV 2017).

    Args:
        in_features: D, the length of a voxel's feature vector.
        classes: names of the classes, or their number.
        query_dim: K, the length of a query, at least the number of classes and that number by default.
        shares: the share of its known voxels that a class fills, by name; a class that is left out begins at a half.
    """

    _weights_with_rows = ("queries", "offset")

    def __init__(
        self,
        in_features: int,
        classes: int | Sequence[str],
        query_dim: int | None = None,
        *,
        shares: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__(in_features, classes, query_dim)
        self.offset = nn.Parameter(_log_odds(self.classes, shares))

    def forward(
        self,
        features: Tensor,  # [B, D, *spatial], two or three spatial axes
        classes: list[str] | None = None,
    ) -> Tensor:
        """Return the logits [B, C, *spatial] of all classes, or of those named, in the order given."""
        if torch.jit.is_scripting():  # type: ignore[attr-defined]
            queries: Tensor = self.queries
            offset: Tensor = self.offset
            if classes is not None:
                rows = [self.classes.index(name) for name in classes]
                queries, offset = queries[rows], offset[rows]
        else:
            queries, offset = self._queries_of(classes), self._offset_of(classes)
        weight = torch.addmm(self.bias, queries, self.weight.t())
        if features.dim() == 4:
            return F.conv2d(features, weight[:, :, None, None], offset)
        return F.conv3d(features, weight[:, :, None, None, None], offset)

    @torch.jit.unused
    def _offset_of(self, classes: list[str] | None) -> Tensor:
        return self.offset if classes is None else self.offset[[self.classes.index(name) for name in classes]]

    @torch.jit.unused
    def from_feature_map(self, feature_map: Tensor, classes: list[str] | None = None) -> Tensor:
        """Raise: no voxel is left after pooling."""
        raise LabelAssembleError("a head for voxels does not pool its features: call it with the map itself")

    @torch.jit.unused
    def add_classes(self, names: Sequence[str], shares: Mapping[str, float] | None = None) -> None:
        """Add classes after the others, whose logits stay as they are; see `ClassQueryHead.add_classes`."""
        known = len(self.classes)
        super().add_classes(names)
        new = _log_odds(self.classes[known:], shares).to(self.offset)
        grow(self.offset, torch.cat([self.offset.detach(), new]))

    @torch.jit.unused
    def to_linear(self) -> nn.Linear:
        """Return nn.Linear(D, C) with the same logits for feature vectors [B, D]: queries folded in."""
        linear = nn.Linear(self.in_features, len(self.classes)).to(self.weight)
        with torch.no_grad():
            linear.weight.copy_(torch.addmm(self.bias, self.queries, self.weight.t()))
            linear.bias.copy_(self.offset)
        return linear

    @torch.jit.unused
    def to_convolution(self, dims: int) -> nn.Conv2d | nn.Conv3d:
        """Return the 1x1 convolution with the same logits, for inference; `dims` spatial axes, 2 or 3."""
        sizes, classes = [1] * dims, len(self.classes)
        convolution = (
            nn.Conv2d(self.in_features, classes, 1) if dims == 2 else nn.Conv3d(self.in_features, classes, 1)
        )
        folded = self.to_linear()
        convolution.weight = nn.Parameter(folded.weight.detach().reshape(classes, self.in_features, *sizes))
        convolution.bias = folded.bias
        return convolution


def _log_odds(classes: Sequence[str], shares: Mapping[str, float] | None) -> Tensor:
    """Return log(p / (1 - p)) of each class's share, 0 for a class without one."""
    offsets = []
    for name in classes:
        share = None if shares is None else shares.get(name)
        if share is not None and not 0 <= share <= 1:
            raise LabelAssembleError(f"the share of voxels of '{name}' must lie between 0 and 1, got {share}")
        clipped = 0.5 if share is None else min(max(share, _LEAST_SHARE), 1 - _LEAST_SHARE)
        offsets.append(math.log(clipped / (1 - clipped)))
    return torch.tensor(offsets)
