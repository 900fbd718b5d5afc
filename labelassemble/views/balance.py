"""Batches in which every source has a stated share, whatever its size."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from labelassemble.errors import LabelAssembleError, did_you_mean

_SALT = 0x62616C  # keeps these shuffles apart from those of a table without sources


class BalancedOrder:
    """An endless row of batches that the sources share as stated.

    Every batch is full. Where a share is no whole number of images the sources take turns: the images of all of them
    come in the order in which they are due. Each source is gone through pass after pass, shuffled anew for each, so a
    small one comes round more often than a large one, within a batch too if its share is larger than itself.

    Batch `step` is a function of (seed, step) alone.

    Args:
        sources: the source of each image.
        batch_size: images a batch.
        seed: of the order.
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
        self._last: dict[
            int, tuple[int, NDArray[np.int64]]
        ] = {}  # the pass and order of each source used last

    def batch(self, step: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return rows and passes of the batch of `step`, counted since training began; the sources in turn."""
        first, last = self._before(step), self._before(step + 1)
        parts = [self._taken(source, first[source], last[source]) for source in range(len(self._rows))]
        # Row by row through the sources, so that a process's part of the batch mixes them too.
        turn = np.argsort(
            np.concatenate([(np.arange(len(rows)) + 0.5) / max(len(rows), 1) for rows, _ in parts]),
            kind="stable",
        )
        return np.concatenate([rows for rows, _ in parts])[turn], np.concatenate([p for _, p in parts])[turn]

    def _before(self, step: int) -> NDArray[np.int64]:
        """Return how many images of each source the batches before `step` hold.

        Image k of a source with share p is due at (k + 1/2) / p. The images of all sources, in the order in which they
        are due, fill the batches one after the other.
        """
        count = step * self._batch_size
        taken = np.floor(count * self._shares + 0.5).astype(np.int64)
        while (missing := count - int(taken.sum())) != 0:
            if missing > 0:
                taken[np.argmin((taken + 0.5) / self._shares)] += 1
            else:
                due = (taken - 0.5) / self._shares
                taken[len(due) - 1 - np.argmax(due[::-1])] -= 1
        return taken

    def _taken(self, source: int, first: int, last: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return rows and passes of images `first` to `last` of a source's passes."""
        rows = self._rows[source]
        places = np.arange(first, last, dtype=np.int64)
        passes = places // len(rows)
        taken = np.empty_like(places)
        for one in np.unique(passes):
            shuffled = self._shuffled(source, int(one))
            taken[passes == one] = shuffled[places[passes == one] - one * len(rows)]
        return taken, passes

    def _shuffled(self, source: int, one_pass: int) -> NDArray[np.int64]:
        """Return the rows of a source in the order of a pass; steps of one pass follow one another, so it is kept."""
        last, shuffled = self._last.get(source, (-1, self._rows[source]))
        if last != one_pass:
            shuffled = np.random.default_rng([self._seed, _SALT, source, one_pass]).permutation(
                self._rows[source]
            )
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
