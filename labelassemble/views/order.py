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

    Without `steps_per_epoch` an epoch is one pass: each image once, in steps that differ by at most one image, so
    that none is left alone in the last. With it, passes follow one another without regard to where an epoch ends.

    A step is the same images however many processes share it: the parts of all of them, one after another, are the
    batch of one process with `shards` times the `batch_size`. Where a step has fewer images than there are processes,
    the last of them have none.

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
        if self._one_pass:
            rows = self._shuffled(epoch)
            passes = np.full(self._count, epoch, dtype=np.int64)
        else:
            images = self.steps * self._shards * self._batch_size
            places = np.arange(epoch * images, (epoch + 1) * images, dtype=np.int64)
            passes = places // self._count
            shuffled = [self._shuffled(one) for one in range(passes[0], passes[-1] + 1)]
            rows = np.concatenate(shuffled)[places - passes[0] * self._count]
        return [
            Chosen(self._mine(a), self._mine(b))
            for a, b in zip(np.array_split(rows, self.steps), np.array_split(passes, self.steps), strict=True)
        ]

    def _mine(self, step: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return this process's part of what a step has."""
        return np.array_split(step, self._shards)[self._shard]

    def _shuffled(self, one_pass: int) -> NDArray[np.int64]:
        return np.random.default_rng([self._seed, one_pass]).permutation(self._count).astype(np.int64)
