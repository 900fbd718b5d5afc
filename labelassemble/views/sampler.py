"""Which images are in which batch: a function of the seed, the epoch and the step, shared by all backends."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from labelassemble.errors import LabelAssembleError, did_you_mean

_SALT = 0x62616C  # keeps the shuffles of sources apart from those of the whole table


class BatchRows(NamedTuple):
    """The images of one batch.

    Attributes:
        rows: rows of the table, int64 [B].
        passes: the pass over the table (or over the image's source) that each belongs to, int64 [B].
    """

    rows: NDArray[np.int64]
    passes: NDArray[np.int64]


class Sampler:
    """The batches of each epoch over a table of `count` images, shuffled anew for each pass over it.

    Without `steps_per_epoch` an epoch is one pass: each image once, in batches that differ by at most one image, so
    that none is left alone in the last. With it, passes follow one another without regard to where an epoch ends.

    With `sources` every batch mixes them, evenly or by `shares` (see `SourceBatches`), and an epoch has as many steps
    as without.

    Args:
        count: images, at least one.
        batch_size: images per step, of all processes together.
        seed: of the batches, and of every random transform of the views.
        steps_per_epoch: steps that are called an epoch; None for one pass.
        sources: the source of each image, where batches are to mix them.
        shares: share of each batch by source; those not named share the rest evenly.
        parts: in how many parts a batch goes through the network. A process gets its share of the first part, then of
            the second, and so on, so that a part is made of the same images whatever the number of processes.
        rank: which process this is, from 0; each takes its own share of every step.
        world_size: number of processes; all take the same number of steps. One may have no image in a step.

    Attributes:
        steps: steps in an epoch.
        seed: as given.
        largest: largest number of images that this process has in a step.
    """

    def __init__(
        self,
        count: int,
        *,
        batch_size: int,
        seed: int,
        steps_per_epoch: int | None = None,
        sources: Sequence[str] | None = None,
        shares: Mapping[str, float] | None = None,
        parts: int = 1,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        if count < 1:
            raise ValueError(f"views need at least one image, got {count}")
        if not 0 <= rank < world_size:
            raise ValueError(f"rank must be from 0 to world_size - 1, got {rank} of {world_size}")
        if sources is not None and len(sources) != count:
            raise ValueError(f"sources must name one for each image, got {len(sources)} for {count}")
        self._count = count
        self._batch_size = batch_size
        self._rank = rank
        self._world_size = world_size
        self._parts = parts
        self._one_pass = steps_per_epoch is None
        self._by_source = (
            None
            if sources is None
            else SourceBatches(sources, batch_size=batch_size, seed=seed, shares=shares)
        )
        self.seed = seed
        self.steps: int = steps_per_epoch or -(-count // batch_size)
        self.largest: int = min(batch_size, -(-batch_size // world_size) + parts)

    def epoch(self, epoch: int) -> list[BatchRows]:
        """Return the batches of an epoch, of each this process's share."""
        return [BatchRows(self._share(rows), self._share(passes)) for rows, passes in self._batches(epoch)]

    def _batches(self, epoch: int) -> list[BatchRows]:
        """Return the batches of all processes together."""
        if self._by_source is not None:
            return [self._by_source.batch(epoch * self.steps + step) for step in range(self.steps)]
        if self._one_pass:
            rows = self._shuffled(epoch)
            passes = np.full(len(rows), epoch, dtype=np.int64)
        else:
            first = epoch * self.steps * self._batch_size
            index = np.arange(first, first + self.steps * self._batch_size, dtype=np.int64)
            passes = index // self._count
            shuffled = [self._shuffled(one) for one in range(passes[0], passes[-1] + 1)]
            rows = np.concatenate(shuffled)[index - passes[0] * self._count]
        parts = zip(np.array_split(rows, self.steps), np.array_split(passes, self.steps), strict=True)
        return [BatchRows(*part) for part in parts]

    def _share(self, batch: NDArray[np.int64]) -> NDArray[np.int64]:
        parts = np.array_split(batch, self._parts)
        return np.concatenate([np.array_split(part, self._world_size)[self._rank] for part in parts])

    def _shuffled(self, one_pass: int) -> NDArray[np.int64]:
        return np.random.default_rng([self.seed, one_pass]).permutation(self._count).astype(np.int64)


class SourceBatches:
    """An endless sequence of full batches in which every source has a stated share, whatever its size.

    Where a share is no whole number of images the sources take turns: the images of all of them come in the order in
    which they are due. Each source is gone through pass after pass, shuffled anew for each, so a small one is repeated
    more often than a large one, within a batch too if its share is larger than itself.

    Batch `step` is a function of (seed, step) alone.

    Args:
        sources: the source of each image.
        batch_size: images per batch.
        seed: of the batches.
        shares: share of each batch by source, see `even_shares`; by default the sources share evenly.
    """

    def __init__(
        self,
        sources: Sequence[str],
        *,
        batch_size: int,
        seed: int,
        shares: Mapping[str, float] | None = None,
    ) -> None:
        names = np.asarray(sources, dtype=str)
        order = list(dict.fromkeys(names.tolist()))
        self._rows = [np.flatnonzero(names == name).astype(np.int64) for name in order]
        whole = even_shares(order, shares or {})
        self._shares = np.array([whole[name] for name in order])
        self._batch_size = batch_size
        self._seed = seed
        # The pass and the shuffled rows of each source used last: steps of one pass follow one another.
        self._last: dict[int, tuple[int, NDArray[np.int64]]] = {}

    def batch(self, step: int) -> BatchRows:
        """Return the batch of `step`, counted since training began; the sources alternate in it."""
        first, last = self._before(step), self._before(step + 1)
        parts = [self._images(source, first[source], last[source]) for source in range(len(self._rows))]
        # Evenly mixed, so that a process's share of the batch mixes the sources too.
        mixed = np.argsort(
            np.concatenate([(np.arange(len(rows)) + 0.5) / max(len(rows), 1) for rows, _ in parts]),
            kind="stable",
        )
        rows, passes = (np.concatenate(arrays)[mixed] for arrays in zip(*parts, strict=True))
        return BatchRows(rows, passes)

    def _before(self, step: int) -> NDArray[np.int64]:
        """Return how many images of each source the batches before `step` hold.

        Image k of a source with share p is due at (k + 1/2) / p. The images of all sources, in the order in which they
        are due, fill the batches one after the other.
        """
        count = step * self._batch_size
        before = np.floor(count * self._shares + 0.5).astype(np.int64)
        while (missing := count - int(before.sum())) != 0:
            if missing > 0:
                before[np.argmin((before + 0.5) / self._shares)] += 1
            else:
                due = (before - 0.5) / self._shares
                before[len(due) - 1 - np.argmax(due[::-1])] -= 1
        return before

    def _images(self, source: int, first: int, last: int) -> BatchRows:
        """Return images `first` to `last` of a source's passes."""
        count = len(self._rows[source])
        index = np.arange(first, last, dtype=np.int64)
        passes = index // count
        rows = np.empty_like(index)
        for one in np.unique(passes):
            rows[passes == one] = self._shuffled(source, int(one))[index[passes == one] - one * count]
        return BatchRows(rows, passes)

    def _shuffled(self, source: int, one_pass: int) -> NDArray[np.int64]:
        last, shuffled = self._last.get(source, (-1, self._rows[source]))
        if last != one_pass:
            generator = np.random.default_rng([self._seed, _SALT, source, one_pass])
            shuffled = generator.permutation(self._rows[source])
            self._last[source] = one_pass, shuffled
        return shuffled


def even_shares(sources: Sequence[str], shares: Mapping[str, float]) -> dict[str, float]:
    """Return the share of each batch that every source has, their sum 1.

    Sources that `shares` does not name have what it leaves, evenly.

    Args:
        sources: names of the sources that have training images.
        shares: share of some of them, or of all.

    Raises:
        LabelAssembleError: it names no source, more than the whole batch is shared out, or nothing is left for the
            sources that it does not name.
    """
    for name in shares:
        if name not in sources:
            raise LabelAssembleError(
                f"train.sampling: no source '{name}' has training images{did_you_mean(name, sources)}"
            )
    total = sum(shares.values())
    others = [name for name in sources if name not in shares]
    if total > 1 + 1e-9:
        raise LabelAssembleError(f"train.sampling: the shares must add up to 1 at most, got {total:g}")
    if others and total > 1 - 1e-9:
        raise LabelAssembleError(
            f"train.sampling: the shares add up to 1, which leaves nothing for {', '.join(others)}"
        )
    if not others and total < 1 - 1e-9:
        raise LabelAssembleError(f"train.sampling: the shares of all sources must add up to 1, got {total:g}")
    rest = (1 - total) / len(others) if others else 0.0
    return {name: shares.get(name, rest) for name in sources}
