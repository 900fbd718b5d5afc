"""What training knows of the training images beside their pixels."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from labelassemble.data import Exclusions


@dataclass(frozen=True)
class VoxelCounts:
    """The voxels of the training masks.

    Attributes:
        positive: voxels where each class is drawn, float64 [C].
        known: voxels whose label is known, float64 [C].
    """

    positive: NDArray[np.float64]
    known: NDArray[np.float64]

    def shares(self) -> list[float | None]:
        """Return the share of a class's known voxels where it is drawn; None for a class without a known one."""
        pairs = zip(self.positive.tolist(), self.known.tolist(), strict=True)
        return [positive / known if known else None for positive, known in pairs]


@dataclass(frozen=True)
class TrainingData:
    """The N training images.

    Attributes:
        classes: names of the C classes.
        paths: the files.
        targets: float32 [N, C], NaN = unknown.
        exclusions: which classes exclude each other in each image; None where none do.
        sources: int64 [N], the index of each image's source among those that the network has a part for, -1 = none of
            them; None for a network without such parts.
        voxels: what the masks hold, where the images are volumes or slices with masks: `targets` then says where a
            class is drawn (1), where all of a case's voxels are known to be without it (0), or neither (NaN).
        given_shares: share of positives among the labels of each class that somebody gave, to warn where pseudo-labels
            are positive far more often; None for no such warning.
    """

    classes: Sequence[str]
    paths: Sequence[str]
    targets: NDArray[np.float32]
    exclusions: Exclusions | None = None
    sources: NDArray[np.int64] | None = None
    voxels: VoxelCounts | None = None
    given_shares: Sequence[float | None] | None = None
