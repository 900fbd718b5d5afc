"""Which image is in which batch: a function of the seed, the epoch and the step, shared by all backends."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Chosen(NamedTuple):
    """The images of one batch.

    Attributes:
        rows: rows of the table, int64 [B].
        passes: the pass over the table that each belongs to, int64 [B].
    """

    rows: NDArray[np.int64]
    passes: NDArray[np.int64]


class Order:
    """The order in which a table of `count` images is seen, shuffled anew for each pass over it.

    Without `steps_per_epoch` an epoch is one pass: each image once, in batches that differ by at most one image, so
    that none is left alone in the last. With it, passes follow one another without regard to where an epoch ends.

    Args:
        count: images, at least one.
        batch_size: images a step and process, at most.
        seed: of the order.
        steps_per_epoch: steps that are called an epoch; None for one pass.
        shard: which process this is, from 0; each takes its own part of every step.
        shards: how many processes there are; all take the same number of steps.

    Attributes:
        steps: steps in an epoch.
    """

    def __init__(
        self,
        count: int,
        *,
        batch_size: int,
        seed: int,
        steps_per_epoch: int | None = None,
        shard: int = 0,
        shards: int = 1,
    ) -> None:
        if count < 1:
            raise ValueError(f"views need at least one image, got {count}")
        if not 0 <= shard < shards:
            raise ValueError(f"shard must be from 0 to shards - 1, got {shard} of {shards}")
        self._count = count
        self._batch_size = batch_size
        self._seed = seed
        self._shard = shard
        self._shards = shards
        self._one_pass = steps_per_epoch is None
        self.steps: int = steps_per_epoch or -(-count // (batch_size * shards))

    def epoch(self, epoch: int) -> list[Chosen]:
        """Return the batches of an epoch that fall to this process."""
        parts = self.steps * self._shards
        if self._one_pass:
            rows = self._shuffled(epoch)
            # Only where there are fewer images than batches do some come twice: no process may be left without.
            rows = np.resize(rows, max(self._count, parts))
            passes = np.full(len(rows), epoch, dtype=np.int64)
        else:
            first = epoch * parts * self._batch_size
            places = np.arange(first, first + parts * self._batch_size, dtype=np.int64)
            passes = places // self._count
            shuffled = [self._shuffled(one) for one in range(passes[0], passes[-1] + 1)]
            rows = np.concatenate(shuffled)[places - passes[0] * self._count]
        mine = slice(self._shard, None, self._shards)
        return [
            Chosen(a, b)
            for a, b in zip(
                np.array_split(rows, parts)[mine], np.array_split(passes, parts)[mine], strict=True
            )
        ]

    def _shuffled(self, one_pass: int) -> NDArray[np.int64]:
        return np.random.default_rng([self._seed, one_pass]).permutation(self._count).astype(np.int64)
