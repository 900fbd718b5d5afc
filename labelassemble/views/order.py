"""Which image is in which batch: a function of the seed, the epoch and the step, shared by all backends."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from labelassemble.views.balance import BalancedOrder


class Chosen(NamedTuple):
    """The images of one batch.

    Attributes:
        rows: rows of the table, int64 [B].
        passes: the pass over the table (or over the image's source) that each belongs to, int64 [B].
    """

    rows: NDArray[np.int64]
    passes: NDArray[np.int64]


class Order:
    """The order in which a table of `count` images is seen, shuffled anew for each pass over it.

    Without `steps_per_epoch` an epoch is one pass: each image once, in batches that differ by at most one image, so
    that none is left alone in the last. With it, passes follow one another without regard to where an epoch ends.

    With `sources` every batch mixes them, evenly or by `shares` (see `BalancedOrder`), and an epoch has as many steps
    as without.

    Args:
        count: images, at least one.
        batch_size: images a step, of all processes together.
        seed: of the order.
        steps_per_epoch: steps that are called an epoch; None for one pass.
        shard: which process this is, from 0; each takes its own part of every step.
        shards: how many processes there are; all take the same number of steps. One may have no image in a step.
        parts: in how many parts a batch goes through the network. A process gets its share of the first part, then of
            the second, and so on, so that a part is made of the same images whatever the number of processes.
        sources: the source of each image, where batches are to mix them.
        shares: share of each batch by source; those not named share the rest evenly.

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
        parts: int = 1,
        sources: Sequence[str] | None = None,
        shares: Mapping[str, float] | None = None,
    ) -> None:
        if count < 1:
            raise ValueError(f"views need at least one image, got {count}")
        if not 0 <= shard < shards:
            raise ValueError(f"shard must be from 0 to shards - 1, got {shard} of {shards}")
        if sources is not None and len(sources) != count:
            raise ValueError(f"sources must name one for each image, got {len(sources)} for {count}")
        self._count = count
        self._batch_size = batch_size
        self._seed = seed
        self._shard = shard
        self._shards = shards
        self._parts = parts
        self._one_pass = steps_per_epoch is None
        self._balanced = (
            None
            if sources is None
            else BalancedOrder(sources, batch_size=batch_size, seed=seed, shares=shares)
        )
        self.steps: int = steps_per_epoch or -(-count // batch_size)

    def epoch(self, epoch: int) -> list[Chosen]:
        """Return the batches of an epoch, of each what falls to this process."""
        return [Chosen(self._mine(rows), self._mine(passes)) for rows, passes in self._batches(epoch)]

    def _batches(self, epoch: int) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """Return rows and passes of the batches of all processes together."""
        if self._balanced is not None:
            return [self._balanced.batch(epoch * self.steps + step) for step in range(self.steps)]
        if self._one_pass:
            rows = self._shuffled(epoch)
            passes = np.full(len(rows), epoch, dtype=np.int64)
        else:
            first = epoch * self.steps * self._batch_size
            places = np.arange(first, first + self.steps * self._batch_size, dtype=np.int64)
            passes = places // self._count
            shuffled = [self._shuffled(one) for one in range(passes[0], passes[-1] + 1)]
            rows = np.concatenate(shuffled)[places - passes[0] * self._count]
        return list(zip(np.array_split(rows, self.steps), np.array_split(passes, self.steps), strict=True))

    def _mine(self, batch: NDArray[np.int64]) -> NDArray[np.int64]:
        parts = np.array_split(batch, self._parts)
        return np.concatenate([np.array_split(part, self._shards)[self._shard] for part in parts])

    def _shuffled(self, one_pass: int) -> NDArray[np.int64]:
        return np.random.default_rng([self._seed, one_pass]).permutation(self._count).astype(np.int64)
