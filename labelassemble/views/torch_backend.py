"""The torch backend: decoding in threads, transforms a batch at a time in plain torch."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor

from labelassemble.data.images import decode_image
from labelassemble.views.augment import strong_view, weak_view
from labelassemble.views.policy import ViewOptions
from labelassemble.views.preprocess import resize, to_unit_range

T = TypeVar("T")

_PREFETCH = 2  # batches made ahead of the one in use


class Batch(NamedTuple):
    """What a training step takes.

    Attributes:
        rows: rows of the table, int64 [B].
        weak: weak view, float32 [B, channels, size, size].
        strong: strong view of the same images, or None where it was not asked for.
        targets: float32 [B, C], NaN = unknown.
    """

    rows: Tensor
    weak: Tensor
    strong: Tensor | None
    targets: Tensor


class ImageStore:
    """Decoded images by row, kept in memory up to a limit.

    Args:
        paths: the files.
        cache_mb: MiB of decoded images to keep; the first ones decoded stay.
        threads: threads that decode.
    """

    def __init__(self, paths: Sequence[str], *, cache_mb: int, threads: int) -> None:
        self._paths = paths
        self._kept: dict[int, Tensor] = {}
        self._free = cache_mb * 2**20
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="decode")

    def get(self, rows: Sequence[int]) -> list[Tensor]:
        """Return the decoded images of `rows`, uint8 [1 or 3, H, W] each, in their order.

        Raises:
            ImageError: a file that is missing or cannot be decoded, by name.
        """
        return list(self._pool.map(self._one, rows))

    def _one(self, row: int) -> Tensor:
        kept = self._kept.get(row)
        if kept is not None:
            return kept
        image = torch.tensor(decode_image(str(self._paths[row])))  # a copy: Pillow's buffer is read-only
        if image.nbytes <= self._free:
            self._kept[row] = image
            self._free -= image.nbytes
        return image


class TorchViews:
    """Batches of weak and strong views with their targets, the same for the same seed.

    Everything random in a batch is drawn from (seed, epoch, step), so that a run goes on from any step as if it had
    never stopped, whatever the number of threads.

    Args:
        paths: the files, N of them.
        targets: float32 [N, C], NaN = unknown.
        options: policy, size and channels of the views.
        batch_size: images a step, at most. Without `steps_per_epoch` each image is seen once an epoch, in batches
            that differ by at most one image, so that none is left alone in the last.
        seed: of the order and of every transform.
        steps_per_epoch: steps that are called an epoch; None for one pass over the table.

    Attributes:
        steps: steps in an epoch.
    """

    def __init__(
        self,
        paths: Sequence[str],
        targets: np.ndarray,
        options: ViewOptions,
        *,
        batch_size: int,
        seed: int,
        steps_per_epoch: int | None = None,
    ) -> None:
        self._images = ImageStore(paths, cache_mb=options.cache_mb, threads=options.threads)
        self._targets = torch.from_numpy(np.ascontiguousarray(targets, dtype=np.float32))
        self._options = options
        self._preprocess = options.preprocess()
        self._batch_size = batch_size
        self._seed = seed
        self._steps_per_epoch = steps_per_epoch
        self.steps: int = steps_per_epoch or -(-len(paths) // batch_size)

    def epoch(self, epoch: int, *, strong: bool, first_step: int = 0) -> Iterator[Batch]:
        """Yield the batches of an epoch from `first_step` on; without `strong` the strong view is not computed."""
        rows = self._rows(epoch)

        def make(step: int) -> Batch:
            return self._batch(rows[step], epoch, step, strong)

        return _ahead(make, range(first_step, self.steps))

    def _rows(self, epoch: int) -> list[np.ndarray]:
        count = len(self._targets)
        if self._steps_per_epoch is None:
            order = np.random.default_rng([self._seed, epoch]).permutation(count)
            return np.array_split(order, self.steps)
        # Passes over the table follow one another without regard to where an epoch ends.
        first = epoch * self.steps * self._batch_size
        last = first + self.steps * self._batch_size
        passes = range(first // count, -(-last // count))
        order = np.concatenate([np.random.default_rng([self._seed, i]).permutation(count) for i in passes])
        start = first - passes[0] * count
        return np.split(order[start : start + last - first], self.steps)

    def _batch(self, rows: np.ndarray, epoch: int, step: int, strong: bool) -> Batch:
        generator = torch.Generator().manual_seed(
            int(np.random.SeedSequence([self._seed, epoch, step]).generate_state(1, np.uint64)[0] >> 1)
        )
        options = self._options
        images = torch.cat([self._fit(image) for image in self._images.get(rows.tolist())])
        weak = self._preprocess.normalize(weak_view(images, options.weak, generator))
        other = self._preprocess.normalize(strong_view(images, options.strong, generator)) if strong else None
        index = torch.from_numpy(rows.astype(np.int64))
        return Batch(index, weak, other, self._targets[index])

    def _fit(self, image: Tensor) -> Tensor:
        return resize(to_unit_range(image[None], self._options.channels), self._options.size)


def evaluation_batches(paths: Sequence[str], options: ViewOptions, *, batch_size: int) -> Iterator[Tensor]:
    """Yield the deterministic view of each file in order, float32 [B, channels, size, size]."""
    store = ImageStore(paths, cache_mb=0, threads=options.threads)
    preprocess = options.preprocess()

    def make(start: int) -> Tensor:
        images = store.get(range(start, min(start + batch_size, len(paths))))
        return torch.cat([preprocess(image[None]) for image in images])

    return _ahead(make, range(0, len(paths), batch_size))


def _ahead(make: Callable[[int], T], keys: range) -> Iterator[T]:
    """Yield ``make(key)`` for each key in order, made by one background thread a little ahead."""
    with ThreadPoolExecutor(1, thread_name_prefix="views") as pool:
        waiting: deque[Future[T]] = deque()
        try:
            for key in keys:
                waiting.append(pool.submit(make, key))
                if len(waiting) > _PREFETCH:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
