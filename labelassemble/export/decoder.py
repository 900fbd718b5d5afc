"""A serialised DALI pipeline that decodes JPEG and PNG in front of an exported network."""

import importlib.util
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from labelassemble.errors import LabelAssembleError
from labelassemble.export.metadata import InputDescription

INPUT: Final = "DALI_INPUT_0"
OUTPUT: Final = "DALI_OUTPUT_0"
_THREADS: Final = 2


def check_dali() -> None:
    """Raise unless DALI is installed.

    Raises:
        LabelAssembleError: it is not.
    """
    # find_spec("nvidia.dali") imports nvidia, a namespace that other packages share.
    if importlib.util.find_spec("nvidia") is None or importlib.util.find_spec("nvidia.dali") is None:
        raise LabelAssembleError("decoding by DALI needs the package: pip install 'labelassemble[dali]'")


def write_decoder(path: Path, description: InputDescription, *, max_batch: int) -> None:
    """Write the pipeline as Triton's backend `dali` reads it.

    It takes bytes of JPEG or PNG files, uint8 [N], and gives uint8 [channels, size, size]: decoded to grey or colour
    on the CPU, stretched by DALI's antialiased linear filter and rounded to whole grey values.
    """
    path.write_bytes(_pipeline(description, max_batch).serialize())


def decode(path: Path, encoded: Sequence[bytes], *, max_batch: int) -> NDArray[np.uint8]:
    """Return what a serialised pipeline makes of encoded images: [N, channels, size, size]."""
    from nvidia.dali import Pipeline

    pipeline: Any = Pipeline.deserialize(
        serialized_pipeline=path.read_bytes(), batch_size=max_batch, num_threads=_THREADS, device_id=None
    )
    answers = []
    for start in range(0, len(encoded), max_batch):
        part = encoded[start : start + max_batch]
        pipeline.feed_input(INPUT, [np.frombuffer(data, np.uint8) for data in part])
        answers.append(pipeline.run()[0].as_array())
    return np.concatenate(answers)


def as_png(image: NDArray[np.uint8]) -> bytes:
    """Return the bytes of a PNG file of an image [1 or 3, H, W]."""
    from PIL import Image

    pixels = image[0] if image.shape[0] == 1 else image.transpose(1, 2, 0)
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, "png", compress_level=1)
    return buffer.getvalue()


def _pipeline(description: InputDescription, max_batch: int) -> Any:
    from nvidia.dali import fn, pipeline_def, types

    colours = types.GRAY if description.channels == 1 else types.RGB

    @pipeline_def(batch_size=max_batch, num_threads=_THREADS, device_id=None)  # type: ignore[untyped-decorator]
    def decoder() -> Any:
        encoded = fn.external_source(device="cpu", name=INPUT, ndim=1, dtype=types.UINT8)
        pixels = fn.decoders.image(encoded, device="cpu", output_type=colours)
        resized = fn.resize(
            pixels,
            size=[description.size, description.size],
            interp_type=types.INTERP_LINEAR,
            antialias=True,
            dtype=types.UINT8,
        )
        return fn.transpose(resized, perm=[2, 0, 1], name=OUTPUT)

    return decoder()
