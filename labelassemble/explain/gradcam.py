"""Grad-CAM: where in an image the evidence for a class lies, as far as the last feature map shows it.

Selvaraju et al., "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization", ICCV 2017,
equations 1 and 2: a_k = mean over positions of d z_c / d A_k, L = ReLU(sum over k of a_k A_k).

Transformers have their map in another shape: channels last (Swin), or tokens, of which those in front stand for no
position (ViT); there A is what the last layer gives whose tokens the logits come from: the norm before the last
attention.

Not captum's or MONAI's: both want the layer named, and take the map before the ReLU that DenseNet applies in place.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

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
        net: gives logits [B, C] and has a feature map that all of them come from: [B, D, h, w], or with D the
            `out_features` of its `backbone` [B, h, w, D] or [B, N, D], N = h^2 and tokens in front. In eval mode.
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
    values = layer.as_map(activations)
    maps = [values.new_zeros(len(images), 0, *values.shape[2:])]
    for column in columns:
        slope = layer.as_map(_slope(found, column, activations))
        if not slope.any() and _depends_on(net, images, column):
            raise LabelAssembleError("heat maps need one feature map that every class comes from")
        weights = slope.mean(dim=(2, 3))
        maps.append(torch.einsum("bk,bkhw->bhw", weights, values).clamp_min(0)[:, None])
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


class _Layer(NamedTuple):
    """A module that gives a value for each position.

    Attributes:
        module: what gives it.
        layout: of its output, [B, D, h, w], [B, h, w, D] or [B, N, D].
        skip: tokens in front that stand for no position.
    """

    module: nn.Module
    layout: Literal["channels first", "channels last", "tokens"]
    skip: int = 0

    def as_map(self, output: Tensor) -> Tensor:
        """Return an output as [B, D, h, w]."""
        if self.layout == "channels first":
            return output
        if self.layout == "channels last":
            return output.movedim(3, 1)
        side = math.isqrt(output.shape[1] - self.skip)
        return output[:, self.skip :].reshape(len(output), side, side, -1).movedim(3, 1)


def _last_map(net: nn.Module, images: Tensor) -> tuple[_Layer, Tensor]:
    """Return the module that gives the last map of more than one position, and the logits [B, C]."""
    found: list[tuple[_Layer, int]] = []

    def keep(module: nn.Module, inputs: object, output: object) -> None:
        layer = _layer(net, module, output)
        if layer is not None and isinstance(output, Tensor):
            found.append((layer, layer.as_map(output)[0, 0].numel()))

    hooks = [module.register_forward_hook(keep) for module in net.modules()]
    try:
        with torch.no_grad():
            logits = net(images)
    finally:
        for hook in hooks:
            hook.remove()
    while found and found[-1][1] == 1 and found[-1][0].layout == "channels first":  # pooled
        found.pop()
    if not found or logits.dim() != 2:
        raise LabelAssembleError("heat maps need a network with a feature map [B, D, h, w] and logits [B, C]")
    layer, positions = found[-1]
    if positions == 1:
        raise LabelAssembleError(
            "heat maps need more than one position in the last map: the images are too small for this network"
        )
    return (_last_tokens(net, images) if layer.layout == "tokens" else layer), logits


def _layer(net: nn.Module, module: nn.Module, output: object) -> _Layer | None:
    """Return the layer where its output has a value for each position."""
    if not isinstance(output, Tensor) or output.dim() not in (3, 4) or output.dtype == torch.bool:
        return None
    backbone = getattr(net, "backbone", None)
    width = getattr(backbone, "out_features", None)
    if output.dim() == 4:
        last = output.shape[1] == output.shape[2] and output.shape[3] == width != output.shape[1]
        return _Layer(module, "channels last" if last else "channels first")
    if output.shape[2] != width:
        return None
    tokens = output.shape[1]
    named = getattr(backbone, "num_prefix_tokens", None)  # of timm
    for skip in (0, 1) if not isinstance(named, int) else (named,):
        if tokens > skip and math.isqrt(tokens - skip) ** 2 == tokens - skip:
            return _Layer(module, "tokens", skip)
    return None


def _last_tokens(net: nn.Module, images: Tensor) -> _Layer:
    """Return the last layer that gives tokens of positions from which the logits come.

    After the last attention a network that answers by its class token looks at no other.
    """
    kept: list[tuple[_Layer, Tensor]] = []

    def keep(module: nn.Module, inputs: object, output: object) -> None:
        layer = _layer(net, module, output)
        if layer is not None and layer.layout == "tokens" and isinstance(output, Tensor):
            kept.append((layer, output if output.requires_grad else output.requires_grad_()))

    hooks = [module.register_forward_hook(keep) for module in net.modules()]
    try:
        with torch.enable_grad():
            total = net(images).sum()
            slopes = torch.autograd.grad(total, [output for _, output in kept], materialize_grads=True)
    finally:
        for hook in hooks:
            hook.remove()
    for (layer, _), slope in reversed(list(zip(kept, slopes, strict=True))):
        if layer.as_map(slope).any():
            return layer
    raise LabelAssembleError("heat maps need one feature map that every class comes from")


def _from_map(net: nn.Module, images: Tensor, layer: _Layer, *, relu: bool) -> tuple[Tensor, Tensor]:
    """Return the map of `layer` and the logits as a function of it alone."""
    kept: list[Tensor] = []

    def keep(module: nn.Module, inputs: object, output: Tensor) -> Tensor:
        torch.set_grad_enabled(True)  # from here on; what lies before needs no graph
        values = output.detach()
        kept[:] = [(values.clamp_min(_ABOVE_ZERO) if relu else values).requires_grad_()]
        return kept[0].clone()  # what follows may change it in place

    hook = layer.module.register_forward_hook(keep)
    try:
        with torch.no_grad():
            logits = net(images)
    finally:
        hook.remove()
    return kept[0], logits
