"""The DALI backend: decoding and transforms in one DALI pipeline, on the GPU where there is one."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from labelassemble.data.errors import ImageError
from labelassemble.data.images import read_image
from labelassemble.views.bad_files import BadFiles
from labelassemble.views.batch import Batch, empty_batch
from labelassemble.views.dali_pipeline import ViewPipeline, decodes
from labelassemble.views.decode import decode_encoded
from labelassemble.views.draws import draw_views
from labelassemble.views.encoding import as_pnm, plain_encoding
from labelassemble.views.noise import NoiseBank
from labelassemble.views.order import Chosen, Order
from labelassemble.views.policy import ViewOptions
from labelassemble.views.threads import image_threads, made_ahead


class _Prepared(NamedTuple):
    """A batch in the making.

    Attributes:
        step: the step of the epoch.
        rows: the rows that can be read, int64 [B].
        passes: the pass that each belongs to, int64 [B].
        encoded: their images, in a form that DALI decodes.
    """

    step: int
    rows: NDArray[np.int64]
    passes: NDArray[np.int64]
    encoded: list[bytes]


class DaliViews:
    """Batches of weak and strong views with their targets, made by DALI; the same batches for the same seed.

    The torch backend's images, order and draws (see `TorchViews`). Plain PNG and JPEG files are decoded by DALI; what
    it would read in its own way (16 bits, transparency, palettes, CMYK, TIFF, pixels in archives) is decoded as
    everywhere else and handed over as pixels.

    Args:
        paths: the files, N of them.
        targets: float32 [N, C], NaN = unknown.
        options: policy, size and channels of the views.
        batch_size: images a step, of all processes together, at most.
        seed: of the order and of every transform.
        steps_per_epoch: steps that are called an epoch; None for one pass over the table (see `Order`).
        shard: which process this is, from 0.
        shards: how many processes there are.
        parts: in how many parts a batch goes through the network (see `Order`).
        sources: the source of each image, where batches are to mix them.
        shares: share of each batch by source (see `Order`).
        device: "cpu", or the GPU on which all is done after the files are read.

    Attributes:
        steps: steps in an epoch.
        bad_files: the files that could not be read so far.
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
        shard: int = 0,
        shards: int = 1,
        parts: int = 1,
        sources: Sequence[str] | None = None,
        shares: Mapping[str, float] | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        self.bad_files = BadFiles(len(paths), policy=options.bad_files, limit=options.bad_files_limit)
        self._paths = paths
        self._targets = torch.from_numpy(np.ascontiguousarray(targets, dtype=np.float32))
        self._options = options
        self._batch_size = min(batch_size, -(-batch_size // shards) + parts)  # a process's share, rounded up
        self._device = torch.device(device)
        self._bank = NoiseBank(seed, options.channels * options.size**2, self._device)
        self._seed = seed
        self._order = Order(
            len(paths),
            batch_size=batch_size,
            seed=seed,
            steps_per_epoch=steps_per_epoch,
            shard=shard,
            shards=shards,
            parts=parts,
            sources=sources,
            shares=shares,
        )
        self.steps: int = self._order.steps
        self._pipelines: dict[bool, ViewPipeline] = {}  # with and without a strong view
        self._refused: set[int] = set()  # rows that are decoded without DALI
        self._readers = image_threads(options.decoders(), "read")

    def epoch(self, epoch: int, *, strong: bool, first_step: int = 0) -> Iterator[Batch]:
        """Yield the batch of each step of an epoch from `first_step` on; without `strong` there is no strong view.

        A batch lacks the files that cannot be read, and may be left without any.
        """
        chosen = self._order.epoch(epoch)

        def prepare(step: int) -> _Prepared:
            return self._prepare(step, chosen[step])

        def make(prepared: _Prepared) -> Batch:
            return self._batch(prepared, strong)

        # Files are read ahead of the pipeline, and views made ahead of the training.
        yield from made_ahead(make, made_ahead(prepare, range(first_step, self.steps)))

    def _prepare(self, step: int, chosen: Chosen) -> _Prepared:
        """Read the files of a batch; those that cannot be read are recorded and left out."""
        read = list(self._readers.map(self._encoded, chosen.rows.tolist()))
        good = [place for place, encoded in enumerate(read) if encoded is not None]
        encoded = [encoded for encoded in read if encoded is not None]
        return _Prepared(step, chosen.rows[good], chosen.passes[good], encoded)

    def _batch(self, prepared: _Prepared, strong: bool) -> Batch:
        if not prepared.encoded:
            return self._empty(prepared.step, strong)
        try:
            views = self._views(prepared, strong)
        except RuntimeError:
            # The pipeline is lost. Find what it could not decode, and decode that without it.
            self._refused.update(self._undecodable(prepared))
            prepared = self._prepare(prepared.step, Chosen(prepared.rows, prepared.passes))
            if not prepared.encoded:
                return self._empty(prepared.step, strong)
            views = self._views(prepared, strong)
        index = torch.from_numpy(prepared.rows)
        return Batch(prepared.step, index, views[0], views[1] if strong else None, self._targets[index])

    def _empty(self, step: int, strong: bool) -> Batch:
        return empty_batch(step, self._options, self._targets, strong=strong, device=self._device)

    def _views(self, prepared: _Prepared, strong: bool) -> list[Tensor]:
        pipeline = self._pipelines.pop(strong, None) or self._new_pipeline(strong)
        weak_draws, strong_draws = draw_views(
            self._options, seed=self._seed, passes=prepared.passes.tolist(), rows=prepared.rows.tolist()
        )
        views = pipeline.run(prepared.encoded, weak_draws, strong_draws, self._bank)
        self._pipelines[strong] = pipeline
        return views

    def _new_pipeline(self, strong: bool) -> ViewPipeline:
        on_gpu = self._device.type == "cuda"
        return ViewPipeline(
            self._options,
            batch_size=self._batch_size,
            strong=strong,
            decoder="mixed" if on_gpu else "cpu",
            device_id=(self._device.index or 0) if on_gpu else None,
        )

    def _undecodable(self, prepared: _Prepared) -> list[int]:
        rows = prepared.rows.tolist()
        found = [
            row
            for row, encoded in zip(rows, prepared.encoded, strict=True)
            if not decodes(encoded, self._options)
        ]
        return found or rows  # a decoder on the GPU may refuse more: then it may be any of them

    def _encoded(self, row: int) -> bytes | None:
        if row in self.bad_files:
            return None
        path = str(self._paths[row])
        try:
            data = read_image(path)
            if isinstance(data, bytes):
                if row not in self._refused and plain_encoding(data) is not None:
                    return data
                data = decode_encoded(data, path)
        except ImageError as error:
            self.bad_files.add(row, error)
            return None
        return as_pnm(data)
