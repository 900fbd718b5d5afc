"""Backbones and the assembled network."""

from labelassemble.models.assemble_net import HEADS_BY_SOURCE, AssembleNet, ModelOptions
from labelassemble.models.densenet import DenseNet, densenet121, densenet_small

__all__ = [
    "HEADS_BY_SOURCE",
    "AssembleNet",
    "DenseNet",
    "ModelOptions",
    "densenet121",
    "densenet_small",
]
