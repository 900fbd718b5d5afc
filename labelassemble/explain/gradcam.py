"""Grad-CAM: where in an image the evidence for a class lies, as far as the last feature map shows it.

Selvaraju et al., "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization", ICCV 2017,
equations 1 and 2: a_k = mean over positions of d z_c / d A_k, L = ReLU(sum over k of a_k A_k).

Not captum's or MONAI's: both want the layer named, and take the map before the ReLU that DenseNet applies in place.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from labelassemble.errors import LabelAssembleError
from labelassemble.models.predict import check_finite

# Just above 0: behind the map, the network's own ReLU then lets gradients through everywhere, as they are after it.
_ABOVE_ZERO = 1e-30


@dataclass(frozen=True, eq=False)
class HeatMaps:
    """Heat maps of some classes for a batch.

    Attributes:
        maps: float32 [B, K, h, w], at least 0, in logits per position (with a linear head their sum is the positive
            part of what the logit is made of).
        probabilities: float64 [B, C], of all classes.
    """

    maps: Tensor
    probabilities: Tensor


def heat_maps(
    net: nn.Module,
    images: Tensor,  # [B, channels, H, W]
    columns: list[int],  # [K]
    *,
    files: Sequence[str] | None = None,
) -> HeatMaps:
    """Return Grad-CAM heat maps of the classes in `columns` for preprocessed images.

    A is the last map that a module of the network gives, after the ReLU where the network applies one to it.

    Args:
        net: gives logits [B, C] and has a feature map [B, D, h, w] that all of them come from. In eval mode.
        images: on the network's device.
        columns: of the classes.
        files: what errors call the images; default: "image 0", "image 1", ...

    Raises:
        LabelAssembleError: a network without a feature map or with one per class, a column that it does not have, or a
            logit that is not finite.
    """
    layer, logits = _last_map(net, images)
    check_finite(logits, net, [f"image {row}" for row in range(len(images))] if files is None else files)
    for column in columns:
        if not 0 <= column < logits.shape[1]:
            raise LabelAssembleError(f"a column must lie in [0, {logits.shape[1]}), got {column}")
    activations, found = _from_map(net, images, layer, relu=True)
    if not torch.allclose(found, logits, rtol=1e-3, atol=1e-4):  # the network uses what is below 0 too
        activations, found = _from_map(net, images, layer, relu=False)
    maps = [activations.new_zeros(len(images), 0, *activations.shape[2:])]
    for column in columns:
        slope = _slope(found, column, activations)
        if not slope.any() and _depends_on(net, images, column):
            raise LabelAssembleError("heat maps need one feature map that every class comes from")
        weights = slope.mean(dim=(2, 3))
        maps.append(torch.einsum("bk,bkhw->bhw", weights, activations).clamp_min(0)[:, None])
    return HeatMaps(
        torch.cat(maps, dim=1).detach().float().cpu(), torch.sigmoid(logits.detach().double()).cpu()
    )


def _slope(logits: Tensor, column: int, behind: Tensor) -> Tensor:
    """Return d z_c / d `behind` of each image's own logit."""
    with torch.enable_grad():
        (slope,) = torch.autograd.grad(
            logits[:, column].sum(), behind, retain_graph=True, materialize_grads=True
        )
    return slope


def _depends_on(net: nn.Module, images: Tensor, column: int) -> bool:
    """Return whether a class looks at the images at all: one without evidence on the map may see them by other ways."""
    with torch.enable_grad():
        leaf = images.detach().clone().requires_grad_()
        return bool(_slope(net(leaf), column, leaf).any())


def _last_map(net: nn.Module, images: Tensor) -> tuple[nn.Module, Tensor]:
    """Return the module that gives the last map of more than one position, and the logits [B, C]."""
    layers: list[nn.Module] = []

    def keep(module: nn.Module, inputs: object, output: object) -> None:
        if isinstance(output, Tensor) and output.dim() == 4 and output[0, 0].numel() > 1:
            layers.append(module)

    hooks = [module.register_forward_hook(keep) for module in net.modules()]
    try:
        with torch.no_grad():
            logits = net(images)
    finally:
        for hook in hooks:
            hook.remove()
    if not layers or logits.dim() != 2:
        raise LabelAssembleError("heat maps need a network with a feature map [B, D, h, w] and logits [B, C]")
    return layers[-1], logits


def _from_map(net: nn.Module, images: Tensor, layer: nn.Module, *, relu: bool) -> tuple[Tensor, Tensor]:
    """Return the map of `layer` and the logits as a function of it alone."""
    kept: list[Tensor] = []

    def keep(module: nn.Module, inputs: object, output: Tensor) -> Tensor:
        torch.set_grad_enabled(True)  # from here on; what lies before needs no graph
        values = output.detach()
        kept[:] = [(values.clamp_min(_ABOVE_ZERO) if relu else values).requires_grad_()]
        return kept[0].clone()  # what follows may change it in place

    hook = layer.register_forward_hook(keep)
    try:
        with torch.no_grad():
            logits = net(images)
    finally:
        hook.remove()
    return kept[0], logits
