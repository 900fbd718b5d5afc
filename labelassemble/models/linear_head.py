"""LinearHead: nn.Linear that knows the classes of its outputs."""

from collections.abc import Sequence

from torch import nn

from labelassemble.named_classes import NamedClasses


class LinearHead(NamedClasses, nn.Linear):
    """One linear layer: features [B, D] to logits [B, C]. Its state dict names the classes.

    Args:
        in_features: D, the length of a feature vector.
        classes: names of the C classes, in the order of the columns.
    """

    _weights_with_rows = ("weight", "bias")

    def __init__(self, in_features: int, classes: Sequence[str]) -> None:
        nn.Linear.__init__(self, in_features, len(classes))
        self.classes = list(classes)
