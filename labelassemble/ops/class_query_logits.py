"""Logits of classes that are learnable queries."""

import torch
import torch.nn.functional as F
from torch import Tensor

from labelassemble._extension import implementation


def reference(
    features: Tensor,  # [B, D]
    queries: Tensor,  # [C, K]
    weight: Tensor,  # [D, K]
    bias: Tensor,  # [D]
) -> Tensor:
    """Return the logits by plain torch functions."""
    return F.linear(features, torch.addmm(bias, queries, weight.t()))


def class_query_logits(
    features: Tensor,  # [B, D]
    queries: Tensor,  # [C, K]
    weight: Tensor,  # [D, K]
    bias: Tensor,  # [D]
) -> Tensor:
    """Return features W^T, where one shared layer makes every class's classifier of its query: W = Q A^T + b.

    The "dynamic adapter" of arXiv 2109.12265, section 2.2.

    Args:
        features: one vector an image.
        queries: Q, one row a class.
        weight: A, the shared layer's weight (as of nn.Linear(K, D)).
        bias: b, the shared layer's bias.

    Returns:
        Logits [B, C], in the features' dtype, differentiable (twice as well) by every argument.

    Raises:
        RuntimeError: if the shapes do not fit.
    """
    return implementation("class_query_logits", reference)(features, queries, weight, bias)
