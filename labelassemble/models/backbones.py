"""Backbones: one network a source, for the comparison with as many networks as tasks."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from labelassemble.errors import LabelAssembleError


def feature_count(network: nn.Module) -> int:
    """Return D, the length of the feature vectors of a backbone, its `out_features`.

    Raises:
        LabelAssembleError: it has no such number.
    """
    count = getattr(network, "out_features", None)
    if not isinstance(count, int):
        raise LabelAssembleError(
            f"a backbone must have out_features, the length of its features, got {type(network).__name__} "
            f"with {count!r}"
        )
    return count


class Backbones(nn.Module):
    """One backbone a source: images to features [B, S * D], a part of length D from each of the S networks.

    Args:
        networks: one a source, all of one shape.

    Attributes:
        out_features: D, the length of one network's features.
    """

    def __init__(self, networks: Sequence[nn.Module]) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)
        self.out_features: int = feature_count(networks[0])

    def forward(self, images: Tensor) -> Tensor:
        """Return features [B, S * D] of images [B, channels, H, W]: every network sees every image."""
        return torch.cat([network(images) for network in self.networks], dim=1)

    @torch.jit.unused
    def route(
        self,
        images: Tensor,  # [B, channels, H, W]
        sources: Tensor,  # int64 [B]
    ) -> Tensor:
        """Return features [B, S * D] in which each image passed its own source's network alone, 0 elsewhere.

        A network sees the images of its source and no others, in its norms too.
        """
        rows = [(sources == source).nonzero()[:, 0] for source in range(len(self.networks))]
        parts = [network(images[own]) for network, own in zip(self.networks, rows, strict=True) if len(own)]
        dtype = parts[0].dtype if parts else images.dtype  # of the networks, under autocast too
        shape = [len(self.networks), len(images), self.out_features]
        features = torch.zeros(shape, dtype=dtype, device=images.device)
        passed = [source for source, own in enumerate(rows) if len(own)]
        for source, part in zip(passed, parts, strict=True):
            features = features.index_put((torch.tensor(source, device=images.device), rows[source]), part)
        return features.transpose(0, 1).flatten(1)
