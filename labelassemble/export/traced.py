"""The export as one traced program, for the formats that torch.export leads to (.pt2 and ONNX)."""

import logging
from typing import Literal

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from labelassemble._quiet import quiet
from labelassemble.errors import LabelAssembleError
from labelassemble.export.heads import probabilities_of
from labelassemble.export.parts import ExportParts
from labelassemble.export.resize import resize_by_products
from labelassemble.views.preprocess import SPARE, to_unit_range

_LARGEST_SIDE = 65536


Outside = Literal["refused", "nan"]
"""What values outside 0..1 lead to: an error, or NaN for all probabilities of the image."""


class TracedModel(nn.Module):
    """Images float32 in 0..1 with the network's own channels -> probabilities."""

    def __init__(self, parts: ExportParts, outside: Outside) -> None:
        super().__init__()
        self.outside = outside
        self.preprocess = parts.preprocess
        self.backbone = parts.backbone
        self.head = parts.head

    def forward(self, images: Tensor) -> Tensor:
        """Return probabilities float32 [B, C] of images float32 [B, channels, H, W] in 0..1, of any size."""
        lowest, highest = images.amin((1, 2, 3)), images.amax((1, 2, 3))
        inside = (lowest >= -SPARE) & (highest <= 1.0 + SPARE)  # NaN is not
        if self.outside == "refused":
            torch.ops.aten._assert_async.msg(inside.all(), "images must be floating in 0..1")
        resized = resize_by_products(images, self.preprocess.size)
        prepared = self.preprocess.normalize(resized).contiguous(memory_format=torch.channels_last)
        probabilities = probabilities_of(self.head(self.backbone(prepared)))
        if self.outside == "nan":
            return torch.where(inside[:, None], probabilities, torch.nan)
        return probabilities


def trace(parts: ExportParts, path: object, *, outside: Outside) -> ExportedProgram:
    """Return the program, whose batch, height and width may be any.

    Args:
        parts: of the network.
        path: what errors call the file.
        outside: what becomes of images with values outside 0..1.

    Raises:
        LabelAssembleError: torch.export cannot trace the network, or its queries were to be kept.
    """
    if parts.metadata.queries:
        raise LabelAssembleError(
            f"{path}: not written: queries are kept in TorchScript only, where a request may name classes"
        )
    model = TracedModel(parts, outside).eval().requires_grad_(False)
    size = parts.metadata.input.size
    example = torch.zeros(4, parts.metadata.input.channels, size + 3, size + 5)
    sides = {
        2: Dim("height", min=1, max=_LARGEST_SIDE),
        3: Dim("width", min=1, max=_LARGEST_SIDE),
    }
    try:
        with torch.no_grad(), quiet("torch", logging.ERROR):
            return torch.export.export(
                model, (example,), dynamic_shapes=({0: Dim("batch", min=1, max=4096), **sides},)
            )
    except Exception as error:
        reason = str(error).strip().partition("\n")[0]
        raise LabelAssembleError(f"{path}: torch.export cannot trace the network ({reason})") from error


def as_input(image: Tensor, channels: int) -> Tensor:
    """Return float32 [1, channels, H, W] in 0..1 of an image uint8 [1, 1 or 3, H, W]: what a `TracedModel` takes."""
    return to_unit_range(image, channels).contiguous()
