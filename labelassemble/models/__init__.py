"""Backbones and the assembled network."""

from labelassemble.models.assemble_net import HEADS_BY_SOURCE, AssembleNet, ModelOptions
from labelassemble.models.densenet import DenseNet, densenet121, densenet_small
from labelassemble.models.small import PatchNet, SmallCnn

__all__ = [
    "HEADS_BY_SOURCE",
    "AssembleNet",
    "DenseNet",
    "ModelOptions",
    "PatchNet",
    "SmallCnn",
    "densenet121",
    "densenet_small",
]
