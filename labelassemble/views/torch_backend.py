"""The torch backend: decoding in threads, transforms a batch at a time in plain torch."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from labelassemble.data.errors import ImageError
from labelassemble.views.bad_files import BadFiles
from labelassemble.views.batch import Batch, EvaluationBatch, empty_batch
from labelassemble.views.decode import decode
from labelassemble.views.options import ViewOptions
from labelassemble.views.preprocess import resize, to_unit_range
from labelassemble.views.sampler import BatchRows, Sampler
from labelassemble.views.threads import image_threads, made_ahead
from labelassemble.views.transfer import pinned_for, to_device
from labelassemble.views.view_pair import ViewMaker


class ImageStore:
    """Images by row, decoded and resized, kept in memory up to a limit.

    Args:
        paths: the files.
        options: size and channels of a view, and the threads that decode.
        cache_mb: MiB of resized images to keep; the first ones read stay.
        bad_files: where files that cannot be read are recorded.
    """

    def __init__(
        self, paths: Sequence[str], options: ViewOptions, *, cache_mb: int, bad_files: BadFiles
    ) -> None:
        self._paths = paths
        self._options = options
        self._bad_files = bad_files
        self._pool = image_threads(options.decoders(), "decode")
        # One block: many small ones between the large passing ones of decoding would hold on to far more memory.
        shape = (options.channels, options.size, options.size)
        slots = min(len(paths), cache_mb * 2**20 // (4 * options.channels * options.size**2))
        self._kept = torch.empty((slots, *shape))
        self._slot_of: dict[int, int] = {}
        self._free_slots = iter(range(slots))

    def get(self, rows: Sequence[int]) -> tuple[list[int], list[Tensor]]:
        """Return which of `rows` (by index) can be read, and their images, float32 [channels, size, size] in 0..1.

        Raises:
            ImageError: a file that cannot be read, where that is to stop the run.
            LabelAssembleError: too many files that cannot be read.
        """
        # What is kept is not worth a thread's while; a batch may hold a row several times.
        missing = [row for row in dict.fromkeys(rows) if row not in self._slot_of]
        read = dict(zip(missing, self._pool.map(self._one, missing), strict=True))
        images = [read[row] if row in read else self._kept[self._slot_of[row]] for row in rows]
        good = [index for index, image in enumerate(images) if image is not None]
        return good, [image for image in images if image is not None]

    def _one(self, row: int) -> Tensor | None:
        """Return an image that is not kept yet, or None where it cannot be read."""
        if row in self._bad_files:
            return None
        try:
            pixels = decode(str(self._paths[row]))
        except ImageError as error:
            self._bad_files.add(row, error)
            return None
        # A copy only where Pillow's buffer is read-only, which torch refuses.
        image = torch.from_numpy(pixels if pixels.flags.writeable else pixels.copy())
        image = resize(to_unit_range(image[None], self._options.channels), self._options.size)[0]
        slot = next(self._free_slots, None)
        if slot is not None:
            self._kept[slot] = image
            self._slot_of[row] = slot
        return image


class TorchViews:
    """Batches of weak and strong views with their targets, the same for the same seed.

    Everything random about an image comes from (seed, pass over the table, row), so that a run goes on from any step
    as if it had never stopped, whatever the number of threads, processes or devices.

    Args:
        paths: the files, N of them.
        targets: float32 [N, C], NaN = unknown.
        options: size, channels and augmentation.
        sampler: which images are in which batch, and the seed of the transforms.
        device: where the transforms run and the views end up.

    Attributes:
        steps: steps in an epoch.
        bad_files: the files that could not be read so far.
    """

    def __init__(
        self,
        paths: Sequence[str],
        targets: np.ndarray,
        options: ViewOptions,
        sampler: Sampler,
        device: torch.device | str = "cpu",
    ) -> None:
        self.bad_files = BadFiles(len(paths), policy=options.bad_files, limit=options.bad_files_limit)
        self._images = ImageStore(paths, options, cache_mb=options.cache_mb, bad_files=self.bad_files)
        self._targets = torch.from_numpy(np.ascontiguousarray(targets, dtype=np.float32))
        self._options = options
        self._device = torch.device(device)
        self._preprocess = options.preprocess().to(self._device)
        self._maker = ViewMaker(options, sampler.seed, self._device)
        self._sampler = sampler
        self.steps: int = sampler.steps

    def epoch(self, epoch: int, *, strong: bool, first_step: int = 0) -> Iterator[Batch]:
        """Yield the batch of each step of an epoch from `first_step` on; without `strong` there is no strong view.

        A batch lacks the files that cannot be read, and may be left without any.
        """
        batches = self._sampler.epoch(epoch)

        def read(step: int) -> tuple[int, list[int], list[Tensor]]:
            return step, *self._images.get(batches[step].rows.tolist())

        def make(found: tuple[int, list[int], list[Tensor]]) -> Batch:
            step, good, images = found
            return self._batch(step, batches[step], good, images, strong)

        # Files are read ahead of the transforms, and views made ahead of the training.
        yield from made_ahead(make, made_ahead(read, range(first_step, self.steps)))

    def _batch(
        self, step: int, batch: BatchRows, good: list[int], images: list[Tensor], strong: bool
    ) -> Batch:
        if not good:
            return empty_batch(step, self._options, self._targets, strong=strong, device=self._device)
        rows = batch.rows[good]
        x = to_device(torch.stack(images), self._device)
        pair = self._maker.pair(x, passes=batch.passes[good].tolist(), rows=rows.tolist(), strong=strong)
        weak = self._preprocess.normalize(pair.weak)
        other = None if pair.strong is None else self._preprocess.normalize(pair.strong)
        index = torch.from_numpy(rows)
        return Batch(step, index, weak, other, pinned_for(self._targets[index], self._device))


def evaluation_batches(
    paths: Sequence[str],
    options: ViewOptions,
    *,
    batch_size: int,
    bad_files: BadFiles | None = None,
) -> Iterator[EvaluationBatch]:
    """Yield the deterministic view of each file in order.

    Args:
        paths: the files.
        options: size, channels and normalisation of the view.
        batch_size: images a batch, at most.
        bad_files: files that cannot be read are recorded there and left out; None raises at the first.

    Raises:
        ImageError: a file that cannot be read, without `bad_files`.
        LabelAssembleError: too many files that cannot be read.
    """
    if bad_files is None:
        bad_files = BadFiles(len(paths), policy="stop", limit=0.0)
    store = ImageStore(paths, options, cache_mb=0, bad_files=bad_files)
    preprocess = options.preprocess()

    def make(start: int) -> EvaluationBatch | None:
        good, images = store.get(range(start, min(start + batch_size, len(paths))))
        if not good:
            return None
        return EvaluationBatch(torch.tensor(good) + start, preprocess.normalize(torch.stack(images)))

    for batch in made_ahead(make, range(0, len(paths), batch_size)):
        if batch is not None:
            yield batch
