"""Logits of class queries from a feature map: ReLU, global average pooling and queries together."""

import torch.nn.functional as F
from torch import Tensor
from torch.overrides import handle_torch_function, has_torch_function

from labelassemble import _extension

from .class_query_logits import reference as class_query_reference


def reference(
    feature_map: Tensor,  # [B, D, *spatial]
    queries: Tensor,  # [C, K]
    weight: Tensor,  # [D, K]
    bias: Tensor,  # [D]
) -> Tensor:
    """Return the logits by plain torch functions."""
    return class_query_reference(F.relu(feature_map).flatten(2).mean(2), queries, weight, bias)


def pooled_class_query_logits(
    feature_map: Tensor,  # [B, D, *spatial]
    queries: Tensor,  # [C, K]
    weight: Tensor,  # [D, K]
    bias: Tensor,  # [D]
) -> Tensor:
    """Return `class_query_logits` of the spatial mean of relu(feature_map), read once and never copied.

    Args:
        feature_map: what a convolutional network ends with, before its last ReLU.
        queries: Q, one row a class.
        weight: A, the shared layer's weight (as of nn.Linear(K, D)).
        bias: b, the shared layer's bias.

    Returns:
        Logits [B, C], in the feature map's dtype, differentiable (twice as well) by every argument.

    Raises:
        RuntimeError: if the shapes do not fit.
    """
    if type(feature_map) is not Tensor and has_torch_function(
        (feature_map,)
    ):  # torch.fx, subclasses of tensors
        return handle_torch_function(
            pooled_class_query_logits, (feature_map,), feature_map, queries, weight, bias
        )
    function = _extension.implementation("pooled_class_query_logits", reference, feature_map)
    return function(feature_map, queries, weight, bias)


_extension.define(
    "pooled_class_query_logits(Tensor feature_map, Tensor queries, Tensor weight, Tensor bias) -> Tensor",
    reference,
)
