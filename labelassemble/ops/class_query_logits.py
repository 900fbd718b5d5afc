"""Logits of classes that are learnable queries."""

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import handle_torch_function, has_torch_function

from labelassemble import _extension


def reference(
    features: Tensor,  # [*, D]
    queries: Tensor,  # [C, K]
    weight: Tensor,  # [D, K]
    bias: Tensor,  # [D]
) -> Tensor:
    """Return the logits by plain torch functions."""
    return F.linear(features, torch.addmm(bias, queries, weight.t()))


def class_query_logits(
    features: Tensor,  # [*, D]
    queries: Tensor,  # [C, K]
    weight: Tensor,  # [D, K]
    bias: Tensor,  # [D]
) -> Tensor:
    """Return features W^T, where one shared layer makes every class's classifier of its query: W = Q A^T + b.

    The "dynamic adapter" of arXiv 2109.12265, section 2.2.

    Args:
        features: one vector an image, or any number of leading axes, as nn.Linear takes.
        queries: Q, one row a class.
        weight: A, the shared layer's weight (as of nn.Linear(K, D)).
        bias: b, the shared layer's bias.

    Returns:
        Logits ``[*, C]``, in the features' dtype, differentiable (twice as well) by every argument.

    Raises:
        RuntimeError: if the shapes do not fit.
    """
    if type(features) is not Tensor and has_torch_function((features,)):  # torch.fx, subclasses of tensors
        return handle_torch_function(class_query_logits, (features,), features, queries, weight, bias)
    function = _extension.implementation("class_query_logits", reference, features)
    return function(features, queries, weight, bias)


_extension.define(
    "class_query_logits(Tensor features, Tensor queries, Tensor weight, Tensor bias) -> Tensor", reference
)
