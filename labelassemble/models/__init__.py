"""Backbones and the assembled network."""

from typing import TYPE_CHECKING

from labelassemble.models.options import HEADS_BY_SOURCE, LibraryBackbone, ModelOptions

if TYPE_CHECKING:
    from labelassemble.models.assemble_net import AssembleNet
    from labelassemble.models.densenet import DenseNet, densenet121, densenet_small
    from labelassemble.models.small import PatchNet, SmallCnn
else:
    from labelassemble._lazy import on_demand

    __getattr__ = on_demand(
        __name__,
        {
            "assemble_net": ["AssembleNet"],
            "densenet": ["DenseNet", "densenet121", "densenet_small"],
            "small": ["PatchNet", "SmallCnn"],
        },
    )

__all__ = [
    "HEADS_BY_SOURCE",
    "AssembleNet",
    "DenseNet",
    "LibraryBackbone",
    "ModelOptions",
    "PatchNet",
    "SmallCnn",
    "densenet121",
    "densenet_small",
]
