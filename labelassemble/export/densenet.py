"""A DenseNet rewritten for inference: the same function of the images with less memory traffic and fewer products.

What `fold_densenet` does, each step exact up to rounding:

1. A norm after a convolution (conv0-norm0, conv1-norm2) becomes the convolution's weights and bias.
2. A norm and ReLU before a 1x1 convolution, relu(a x + b) per channel, is a clamp and an affine map: with t = -b / a
   it is a max(x, t) + b where a > 0, and a min(x, t) + b where a < 0. The affine map goes into the convolution, which
   pads nothing: one pass over the widest tensors instead of three (norm, ReLU, and the copy between).
3. Convolution and average pooling of a transition change places, for a quarter of the products; ReLU and maximum
   pooling of the stem change places too.
4. A block writes its features into one buffer, instead of concatenating all of them again in each layer, and what the
   clamps make into a second one.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_weights

from labelassemble.models.densenet import DenseBlock, DenseLayer, DenseNet

# A channel scaled by less than this is a constant: t would leave the range of float32.
_SMALLEST_SCALE = 1e-30


class FoldedLayer(nn.Module):
    """Clamp, 1x1 convolution, ReLU, 3x3 convolution: what is left of a `DenseLayer`."""

    def __init__(self, layer: DenseLayer) -> None:
        super().__init__()
        self.clamp, conv1 = _fold_before(layer.norm1, layer.conv1)
        self.conv1 = _fold_after(conv1, layer.norm2)
        self.conv2 = _copy(layer.conv2)

    def forward(self, x: Tensor) -> Tensor:
        """Return [B, growth_rate, H, W] from [B, in_channels, H, W]."""
        return self._convolve(self.clamp(x))

    @torch.jit.export
    def extend(self, features: Tensor, channels: int, scratch: Tensor) -> int:
        """Write what follows from the first `channels` of `features` behind them; return how many there are now."""
        new = self._convolve(self.clamp.into(features[:, :channels], scratch))
        end = channels + new.shape[1]
        features[:, channels:end].copy_(new)
        return end

    def _convolve(self, clamped: Tensor) -> Tensor:
        new: Tensor = self.conv2(self.conv1(clamped).relu_())
        return new


class ChannelClamp(nn.Module):
    """Clamp each channel to bounds of its own."""

    low: Tensor
    high: Tensor

    def __init__(self, low: Tensor, high: Tensor) -> None:
        super().__init__()
        self.register_buffer("low", low.view(1, -1, 1, 1))
        self.register_buffer("high", high.view(1, -1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Return min(max(x, low), high) per channel, [B, C, H, W]."""
        return torch.clamp(x, self.low, self.high)

    @torch.jit.export
    def into(self, x: Tensor, scratch: Tensor) -> Tensor:
        """Return the same, written into the first elements of `scratch` [at least B * C * H * W], channels last."""
        batch, channels, height, width = x.shape
        out = scratch[: batch * channels * height * width].view(batch, height, width, channels)
        return torch.clamp(x, self.low, self.high, out=out.permute(0, 3, 1, 2))


class FoldedBlock(nn.Module):
    """A `DenseBlock` whose features lie in one buffer."""

    def __init__(self, block: DenseBlock) -> None:
        super().__init__()
        layers = [FoldedLayer(layer) for layer in block.children()]  # type: ignore[arg-type]
        self.layers = nn.ModuleList(layers)
        self.out_channels: int = layers[-1].conv1.in_channels + layers[-1].conv2.out_channels

    def forward(self, x: Tensor) -> Tensor:
        """Return [B, in_channels + layers * growth_rate, H, W] from [B, in_channels, H, W]."""
        if torch.compiler.is_compiling():  # the compiler makes views of its own of a concatenation
            for layer in self.layers:
                x = torch.cat([x, layer(x)], 1)
            return x
        batch, channels, height, width = x.shape
        features = torch.empty(
            [batch, self.out_channels, height, width],
            dtype=x.dtype,
            device=x.device,
            memory_format=torch.channels_last,
        )
        features[:, :channels].copy_(x)
        # Fresh memory of tens of megabytes costs its page faults: as much as the clamp itself.
        scratch = torch.empty([features.numel()], dtype=x.dtype, device=x.device)
        for layer in self.layers:
            channels = layer.extend(features, channels, scratch)  # type: ignore[operator]
        return features


class FoldedTransition(nn.Module):
    """Clamp, average pooling, 1x1 convolution: what is left of a transition."""

    def __init__(self, transition: nn.Module) -> None:
        super().__init__()
        self.clamp, self.conv = _fold_before(transition.norm, transition.conv)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """Return [B, C / 2, H / 2, W / 2] from [B, C, H, W]."""
        return self.conv(F.avg_pool2d(self.clamp(x), 2, 2))  # type: ignore[no-any-return]


class FoldedDenseNet(nn.Module):
    """A `DenseNet` for inference; see the head of this file. The output is affine in the original's.

    Attributes:
        scale, shift: float64 [D]; the original's features are scale * features + shift.
    """

    def __init__(self, net: DenseNet) -> None:
        super().__init__()
        features = net.features
        self.conv0 = _fold_after(features.conv0, features.norm0)  # type: ignore[arg-type]
        self.pool = hasattr(features, "pool0")
        parts: list[nn.Module] = []
        for name, part in features.named_children():
            if isinstance(part, DenseBlock):
                parts.append(FoldedBlock(part))
            elif name.startswith("transition"):
                parts.append(FoldedTransition(part))
        self.parts = nn.Sequential(*parts)
        last = list(features.children())[-1]
        clamp = _clamp_of(last)  # type: ignore[arg-type]
        self.clamp = ChannelClamp(clamp.low, clamp.high)
        self.scale = clamp.scale
        self.shift = clamp.shift

    def forward(self, images: Tensor) -> Tensor:
        """Return features float32 [B, D] of images [B, in_channels, H, W]."""
        x = self.conv0(images)
        if self.pool:
            x = F.max_pool2d(x, kernel_size=3, stride=2, padding=1)
        x = self.parts(x.relu_())
        clamped: Tensor = self.clamp(x)
        return clamped.mean(dim=[2, 3], dtype=torch.float32)


def fold_densenet(net: DenseNet) -> FoldedDenseNet:
    """Return a backbone whose features f give those of `net`, in eval mode, as scale * f + shift."""
    return FoldedDenseNet(net)


class _Clamp(NamedTuple):
    """relu(norm(x)) = scale * clamp(x, low, high) + shift, per channel; low and high float32, the rest float64."""

    low: Tensor
    high: Tensor
    scale: Tensor
    shift: Tensor


def _clamp_of(norm: nn.BatchNorm2d) -> _Clamp:
    with torch.no_grad():
        mean, variance = norm.running_mean, norm.running_var
        assert mean is not None
        assert variance is not None
        scale = norm.weight.double() / torch.sqrt(variance.double() + norm.eps)
        shift = norm.bias.double() - mean.double() * scale
        constant = scale.abs() < _SMALLEST_SCALE
        scale = torch.where(constant, 0.0, scale)
        shift = torch.where(constant, shift.relu(), shift)
        bound = torch.where(constant, 0.0, -shift / torch.where(constant, 1.0, scale)).float()
        low = torch.where(scale > 0, bound, -torch.inf)
        high = torch.where(scale < 0, bound, torch.inf)
    return _Clamp(low, high, scale, shift)


def _fold_before(norm: nn.BatchNorm2d, conv: nn.Conv2d) -> tuple[ChannelClamp, nn.Conv2d]:
    """Return a clamp and a 1x1 convolution that do together what norm, ReLU and convolution do."""
    clamp = _clamp_of(norm)
    weight = conv.weight.double()
    bias = (weight * clamp.shift.view(1, -1, 1, 1)).sum((1, 2, 3))
    folded = _conv_like(conv, weight * clamp.scale.view(1, -1, 1, 1), bias)
    return ChannelClamp(clamp.low, clamp.high), folded


def _fold_after(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> nn.Conv2d:
    """Return a convolution that does what a convolution and the norm after it do."""
    mean, variance = norm.running_mean, norm.running_var
    assert mean is not None
    assert variance is not None
    weight, bias = fuse_conv_bn_weights(
        conv.weight.double(),
        None if conv.bias is None else conv.bias.double(),
        mean.double(),
        variance.double(),
        norm.eps,
        norm.weight.double(),
        norm.bias.double(),
    )
    return _conv_like(conv, weight, bias)


def _copy(conv: nn.Conv2d) -> nn.Conv2d:
    return _conv_like(conv, conv.weight, conv.bias)


def _conv_like(conv: nn.Conv2d, weight: Tensor, bias: Tensor | None) -> nn.Conv2d:
    folded = nn.Conv2d(
        conv.in_channels,
        conv.out_channels,
        conv.kernel_size,  # type: ignore[arg-type]
        conv.stride,  # type: ignore[arg-type]
        conv.padding,  # type: ignore[arg-type]
        bias=bias is not None,
    )
    with torch.no_grad():
        folded.weight.copy_(weight)
        if bias is not None and folded.bias is not None:
            folded.bias.copy_(bias)
    return folded
