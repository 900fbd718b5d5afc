"""Grad-CAM: where in an image the evidence for a class lies, as far as the last feature map shows it.

Selvaraju et al., "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization", ICCV 2017,
equations 1 and 2: a_k = mean over positions of d z_c / d A_k, L = ReLU(sum over k of a_k A_k). A is the map that the
backbone averages, after its ReLU, so d z_c / d A_k is the same at every position, d z_c / d f_k divided by their
number, f the pooled features: one forward pass and a gradient through the head alone.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from labelassemble.errors import LabelAssembleError


@dataclass(frozen=True, eq=False)
class HeatMaps:
    """Heat maps of some classes for a batch.

    Attributes:
        maps: float32 [B, K, h, w], at least 0, in logits a position (with a linear head their sum is the positive part
            of what the logit is made of).
        probabilities: float64 [B, C], of all classes.
    """

    maps: Tensor
    probabilities: Tensor


def heat_maps(
    net: nn.Module,
    images: Tensor,  # [B, channels, H, W]
    columns: list[int],  # [K]
) -> HeatMaps:
    """Return Grad-CAM heat maps of the classes in `columns` for preprocessed images.

    Args:
        net: a network with a `backbone` whose `features` gives a map [B, D, h, w], of which the backbone returns the
            average (with or without a ReLU before), and a `head` from there to logits [B, C]. In eval mode.
        images: on the network's device.
        columns: of the classes.

    Raises:
        LabelAssembleError: a network of another build, or a column that it does not have.
    """
    backbone, head = getattr(net, "backbone", None), getattr(net, "head", None)
    layer = getattr(backbone, "features", None)
    if not (isinstance(backbone, nn.Module) and isinstance(head, nn.Module) and isinstance(layer, nn.Module)):
        raise LabelAssembleError("heat maps need a network with one backbone, a feature map and a head")
    kept: list[Tensor] = []
    hook = layer.register_forward_hook(lambda module, inputs, output: kept.append(output.detach().clone()))
    try:
        with torch.no_grad():
            pooled = backbone(images)
    finally:
        hook.remove()
    activations = _averaged_map(kept[-1] if kept else None, pooled)
    with torch.enable_grad():
        features = pooled.detach().clone().requires_grad_()
        logits = head(features)
        for column in columns:
            if not 0 <= column < logits.shape[1]:
                raise LabelAssembleError(f"a column must lie in [0, {logits.shape[1]}), got {column}")
        maps = []
        for column in columns:
            (slope,) = torch.autograd.grad(logits[:, column].sum(), features, retain_graph=True)
            weights = slope / (activations.shape[2] * activations.shape[3])  # d z / d A, the same everywhere
            maps.append(torch.einsum("bk,bkhw->bhw", weights, activations).clamp_min(0))
    stacked = (
        torch.stack(maps, dim=1) if maps else activations.new_zeros(len(images), 0, *activations.shape[2:])
    )
    return HeatMaps(stacked.float().cpu(), torch.sigmoid(logits.detach().double()).cpu())


def _averaged_map(feature_map: Tensor | None, pooled: Tensor) -> Tensor:
    """Return the map [B, D, h, w] of which `pooled` [B, D] is the average."""
    if feature_map is not None and feature_map.dim() == 4 and pooled.dim() == 2:
        for candidate in (torch.relu(feature_map), feature_map):
            averaged = candidate.mean(dim=[2, 3])
            if averaged.shape == pooled.shape and torch.allclose(averaged, pooled, rtol=1e-3, atol=1e-4):
                return candidate
    raise LabelAssembleError(
        "heat maps need a backbone whose features are the average of its last feature map"
    )
