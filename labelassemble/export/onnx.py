"""Export to ONNX by torch's own exporter, compared in onnxruntime."""

import contextlib
import importlib.util
import io
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import torch

from labelassemble.errors import LabelAssembleError
from labelassemble.export.files import written_whole
from labelassemble.export.metadata import METADATA_FILE
from labelassemble.export.parts import ExportParts, ExportSummary
from labelassemble.export.traced import as_input, trace

_NEEDED: Final = ("onnx", "onnxscript", "onnxruntime")


def write_onnx(parts: ExportParts, path: Path) -> ExportSummary:
    """Write the parts as an ONNX file, compared with eager in onnxruntime; return a summary.

    The file takes INPUT__0 float32 [B, channels, H, W] in 0..1, of any size, and gives OUTPUT__0, probabilities
    float32 [B, C]. ONNX has no operator that refuses an input: all probabilities of an image with a value outside 0..1
    are NaN. The metadata is its property `labelassemble.json`.

    Raises:
        LabelAssembleError: a package is missing, bfloat16 is asked for, a network that torch.export cannot trace, or
            an export that differs.
    """
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise LabelAssembleError(
            f"{path}: exporting to ONNX needs the package{'s' * (len(missing) > 1)} {', '.join(missing)}: "
            "pip install 'labelassemble[onnx]'"
        )
    if parts.metadata.precision != "float32":
        raise LabelAssembleError(
            f"{path}: onnxruntime has no bfloat16 convolution for CPUs to compare with: export ONNX in float32"
        )
    import onnxruntime

    program = trace(parts, path, outside="nan")
    with written_whole(path) as temporary:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), _quiet_logs():
            warnings.simplefilter("ignore")
            exported = torch.onnx.export(
                program,
                (),
                dynamo=True,
                input_names=["INPUT__0"],
                output_names=["OUTPUT__0"],
                external_data=False,
                verbose=False,
            )
        assert exported is not None
        exported.save(str(temporary), external_data=False)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(str(temporary), options, providers=["CPUExecutionProvider"])
        channels = parts.metadata.input.channels
        answers = [
            torch.from_numpy(session.run(None, {"INPUT__0": as_input(image, channels).numpy()})[0])
            for image in parts.images
        ]
        metadata = parts.compared(torch.cat(answers), path)
        exported.model.metadata_props[METADATA_FILE] = metadata.model_dump_json(indent=2)
        exported.save(str(temporary), external_data=False)
    return ExportSummary(path=path, size=path.stat().st_size, metadata=metadata)


@contextlib.contextmanager
def _quiet_logs() -> Iterator[None]:
    """Silence what the exporter logs of its own insides."""
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)
