"""Backbones and the assembled network."""

from labelassemble.models.assemble_net import AssembleNet, ModelOptions
from labelassemble.models.densenet import DenseNet, densenet121, densenet_small

__all__ = ["AssembleNet", "DenseNet", "ModelOptions", "densenet121", "densenet_small"]
