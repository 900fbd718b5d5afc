"""Batches in which every source has an even share, whatever its size."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_SALT = 0x62616C  # keeps these shuffles apart from those of a table without sources


class BalancedOrder:
    """An endless row of batches that every source shares as evenly as the counts of its images allow.

    No batch holds more of a source than the source has images; what such a small source leaves goes to the others.
    Where the places do not divide evenly the sources take turns at the one more. Each source is seen pass after pass,
    shuffled anew for each, so a small one comes round more often than a large one: an epoch of one table's length
    shows the small sources several times and the large ones in part, and the next goes on where it ended.

    Batch `step` is a function of (seed, step) alone.

    Args:
        sources: the source of each image.
        batch_size: images a batch; fewer only where there are not as many images in all.
        seed: of the order.
    """

    def __init__(self, sources: Sequence[str], *, batch_size: int, seed: int) -> None:
        names = np.asarray(sources, dtype=str)
        self._rows = [
            np.flatnonzero(names == name).astype(np.int64) for name in dict.fromkeys(names.tolist())
        ]
        self._seed = seed
        counts = [len(rows) for rows in self._rows]
        self._level, self._spare = _shares(counts, batch_size)
        self._large = [source for source, count in enumerate(counts) if count > self._level]

    def batch(self, step: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return rows and passes of the batch of `step`, counted since training began; the sources in turn."""
        parts = [
            self._taken(source, self._before(source, step), self._before(source, step + 1))
            for source in range(len(self._rows))
        ]
        # Row by row through the sources, so that a process's part of the batch mixes them too.
        turn = np.argsort(np.concatenate([np.arange(len(rows)) for rows, _ in parts]), kind="stable")
        return np.concatenate([rows for rows, _ in parts])[turn], np.concatenate([p for _, p in parts])[turn]

    def _before(self, source: int, step: int) -> int:
        """Return how many images of a source the batches before `step` hold."""
        count = step * min(self._level, len(self._rows[source]))
        if self._spare and source in self._large:
            turns, rest = divmod(step * self._spare, len(self._large))
            count += turns + (self._large.index(source) < rest)
        return count

    def _taken(self, source: int, first: int, last: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return rows and passes of images `first` to `last` of a source's passes."""
        rows = self._rows[source]
        places = np.arange(first, last, dtype=np.int64)
        passes = places // len(rows)
        taken = np.empty_like(places)
        for one in np.unique(passes):
            shuffled = np.random.default_rng([self._seed, _SALT, source, one]).permutation(rows)
            taken[passes == one] = shuffled[places[passes == one] - one * len(rows)]
        return taken, passes


def _shares(counts: Sequence[int], places: int) -> tuple[int, int]:
    """Return the even share of a batch's places, and how many places are left over for sources that are larger.

    Every source gets the share, or all its images where it has fewer.
    """
    level = 0
    while True:
        larger = sum(count > level for count in counts)
        left = places - sum(min(count, level) for count in counts)
        if larger == 0 or left < larger:
            return level, left if larger else 0
        level += 1
