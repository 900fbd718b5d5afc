"""The DALI backend: decoding and transforms in one DALI pipeline, on the GPU where there is one."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from labelassemble.data.decoding import split_reference
from labelassemble.data.errors import ImageError
from labelassemble.data.formats import MAX_PIXELS, jpeg_is_whole, png_is_sound
from labelassemble.data.images import read_image
from labelassemble.views.bad_files import BadFiles
from labelassemble.views.batch import Batch, empty_batch
from labelassemble.views.dali_pipeline import ViewPipeline, decodes
from labelassemble.views.decode import decode_encoded
from labelassemble.views.encoding import as_pnm, plain_encoding
from labelassemble.views.noise import NoiseBank
from labelassemble.views.options import ViewOptions
from labelassemble.views.params import draw_params
from labelassemble.views.sampler import BatchRows, Sampler
from labelassemble.views.threads import image_threads, made_ahead
from labelassemble.views.transfer import pinned_for


class _Prepared(NamedTuple):
    """A batch in the making.

    Attributes:
        step: the step of the epoch.
        batch: the images that can be read.
        encoded: the images, in a form that DALI decodes.
    """

    step: int
    batch: BatchRows
    encoded: list[bytes]


class DaliViews:
    """Batches of weak and strong views with their targets, made by DALI; the same batches for the same seed.

    Images, batches and random numbers are those of `TorchViews`. Plain PNG and JPEG files are decoded by DALI; what it
    would read in its own way (16 bits, turned by EXIF, transparency, palettes, CMYK, TIFF, pixels in archives) is
    decoded as everywhere else and handed over as pixels.

    Args:
        paths: the files, N of them.
        targets: float32 [N, C], NaN = unknown.
        options: size, channels and augmentation.
        sampler: which images are in which batch, and the seed of the transforms.
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
        sampler: Sampler,
        device: torch.device | str = "cpu",
    ) -> None:
        self.bad_files = BadFiles(len(paths), policy=options.bad_files, limit=options.bad_files_limit)
        self._paths = paths
        self._targets = torch.from_numpy(np.ascontiguousarray(targets, dtype=np.float32))
        self._options = options
        self._device = torch.device(device)
        self._bank = NoiseBank(sampler.seed, options.channels * options.size**2, self._device)
        self._sampler = sampler
        self.steps: int = sampler.steps
        self._pipelines: dict[bool, ViewPipeline] = {}  # with and without a strong view
        self._refused: set[int] = set()  # rows that are decoded without DALI
        self._whole: set[int] = set()  # rows whose files were found whole
        self._readers = image_threads(options.decoders(), "read")

    def epoch(self, epoch: int, *, strong: bool, first_step: int = 0) -> Iterator[Batch]:
        """Yield the batch of each step of an epoch from `first_step` on; without `strong` there is no strong view.

        A batch lacks the files that cannot be read, and may be left without any.
        """
        batches = self._sampler.epoch(epoch)

        def prepare(step: int) -> _Prepared:
            return self._prepare(step, batches[step])

        def make(prepared: _Prepared) -> Batch:
            return self._batch(prepared, strong)

        # Files are read ahead of the pipeline, and views made ahead of the training.
        yield from made_ahead(make, made_ahead(prepare, range(first_step, self.steps)))

    def _prepare(self, step: int, batch: BatchRows) -> _Prepared:
        """Read the files of a batch; those that cannot be read are recorded and left out."""
        read = list(self._readers.map(self._encoded, batch.rows.tolist()))
        good = [index for index, encoded in enumerate(read) if encoded is not None]
        encoded = [encoded for encoded in read if encoded is not None]
        return _Prepared(step, BatchRows(batch.rows[good], batch.passes[good]), encoded)

    def _batch(self, prepared: _Prepared, strong: bool) -> Batch:
        if not prepared.encoded:
            return self._empty(prepared.step, strong)
        try:
            views = self._views(prepared, strong)
        except RuntimeError:
            # The pipeline is lost. Find what it could not decode, and decode that without it.
            self._refused.update(self._undecodable(prepared))
            prepared = self._prepare(prepared.step, prepared.batch)
            if not prepared.encoded:
                return self._empty(prepared.step, strong)
            views = self._views(prepared, strong)
        index = torch.from_numpy(prepared.batch.rows)
        targets = pinned_for(self._targets[index], self._device)
        return Batch(prepared.step, index, views[0], views[1] if strong else None, targets)

    def _empty(self, step: int, strong: bool) -> Batch:
        return empty_batch(step, self._options, self._targets, strong=strong, device=self._device)

    def _views(self, prepared: _Prepared, strong: bool) -> list[Tensor]:
        pipeline = self._pipelines.pop(strong, None) or self._new_pipeline(strong)
        rows, passes = (array.tolist() for array in prepared.batch)
        params = draw_params(self._options, seed=self._sampler.seed, passes=passes, rows=rows)
        views = pipeline.run(prepared.encoded, params, self._bank)
        self._pipelines[strong] = pipeline
        return views

    def _new_pipeline(self, strong: bool) -> ViewPipeline:
        on_gpu = self._device.type == "cuda"
        return ViewPipeline(
            self._options,
            batch_size=self._sampler.largest,
            strong=strong,
            decoder="mixed" if on_gpu else "cpu",
            device_id=(self._device.index or 0) if on_gpu else None,
        )

    def _undecodable(self, prepared: _Prepared) -> list[int]:
        rows: list[int] = prepared.batch.rows.tolist()
        found = [
            row
            for row, encoded in zip(rows, prepared.encoded, strict=True)
            if not decodes(encoded, self._options)
        ]
        return found or rows  # a decoder on the GPU may refuse more: then it may be any of them

    def _dali_decodes(self, row: int, data: bytes) -> bool:
        """Return whether DALI may decode a file: it fills with grey what is missing, so the first epoch looks."""
        plain = None if row in self._refused else plain_encoding(data)
        if plain is None:
            return False
        if row not in self._whole and plain.height * plain.width <= MAX_PIXELS:
            whole = jpeg_is_whole(data) if plain.kind == "jpeg" else png_is_sound(data)
            self._whole.update([row] if whole else [])
        return row in self._whole

    def _encoded(self, row: int) -> bytes | None:
        if row in self.bad_files:
            return None
        path = str(self._paths[row])
        try:
            data = read_image(path)
            if isinstance(data, bytes):
                if self._dali_decodes(row, data):
                    return data
                name, how = split_reference(path)
                data = decode_encoded(data, name, how)
        except ImageError as error:
            self.bad_files.add(row, error)
            return None
        return as_pnm(data)
