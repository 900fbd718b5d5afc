"""What training knows of the training images beside their pixels."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from labelassemble.data import Exclusions


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
        given_shares: share of positives among the labels of each class that somebody gave, to warn where pseudo-labels
            are positive far more often; None for no such warning.
    """

    classes: Sequence[str]
    paths: Sequence[str]
    targets: NDArray[np.float32]
    exclusions: Exclusions | None = None
    sources: NDArray[np.int64] | None = None
    given_shares: Sequence[float | None] | None = None
