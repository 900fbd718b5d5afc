"""Backbones and the assembled network."""

from labelassemble.models.assemble_net import HEADS_BY_SOURCE, AssembleNet, ModelOptions
from labelassemble.models.cnn_small import SmallCnn, cnn_small
from labelassemble.models.densenet import DenseNet, densenet121, densenet_small
from labelassemble.models.patch_small import PatchNet

__all__ = [
    "HEADS_BY_SOURCE",
    "AssembleNet",
    "DenseNet",
    "ModelOptions",
    "PatchNet",
    "SmallCnn",
    "cnn_small",
    "densenet121",
    "densenet_small",
]
