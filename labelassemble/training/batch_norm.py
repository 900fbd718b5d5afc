"""BatchNorm over the images of all processes (Ioffe and Szegedy, ICML 2015), on CPUs too.

torch's SyncBatchNorm has kernels for GPUs alone. This one is for gloo: the same statistics and gradients as one process
has on the whole batch, a process without an image included.
"""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from labelassemble.training.distributed import lost_process_is_an_error


class GlobalBatchNorm(_BatchNorm):
    """A BatchNorm that in training normalises with the statistics over all processes; all must call it."""

    def _check_input_dim(self, input: Tensor) -> None:
        if input.dim() < 2:
            raise ValueError(f"BatchNorm needs at least [B, C], got {list(input.shape)}")

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def forward(self, input: Tensor) -> Tensor:
        """Return the normalised input [B, C, *spatial]."""
        if not self.training:
            return super().forward(input)
        self._check_input_dim(input)
        weight = self.weight if self.affine else input.new_ones(self.num_features)
        bias = self.bias if self.affine else input.new_zeros(self.num_features)
        normalised, mean, var, count = _Normalise.apply(input, weight, bias, self.eps)  # type: ignore[no-untyped-call]
        if self.track_running_stats and self.running_mean is not None and self.running_var is not None:
            assert self.num_batches_tracked is not None
            with torch.no_grad():
                self.num_batches_tracked.add_(1)
                share = 1.0 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
                if count > 0:
                    unbiased = var * (count / max(count - 1.0, 1.0))
                    self.running_mean.lerp_(mean.to(self.running_mean.dtype), share)
                    self.running_var.lerp_(unbiased.to(self.running_var.dtype), share)
        return normalised  # type: ignore[no-any-return]


class _Normalise(torch.autograd.Function):
    """(x - mean) / sqrt(var + eps) * weight + bias, with mean and var over the images of all processes."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float
    ) -> tuple[Tensor, Tensor, Tensor, float]:
        axes = [0, *range(2, x.dim())]
        count = x.numel() // x.shape[1]
        # Each process's count, mean and sum of squared distances, put together by Chan, Golub and LeVeque (1979):
        # exact where the difference of two large sums of squares would not be.
        mine = torch.zeros(3, x.shape[1], dtype=torch.float64)
        if count:
            wide = x.double()
            mean = wide.mean(axes)
            mine[0], mine[1] = count, mean
            mine[2] = (wide - _along(mean, x)).square().sum(axes)
        every = [torch.empty_like(mine) for _ in range(dist.get_world_size())]
        with lost_process_is_an_error():
            dist.all_gather(every, mine)
        counts, means, squares = torch.stack(every).unbind(1)  # [processes, C] each
        total = float(counts[:, 0].sum())
        mean = (counts * means).sum(0) / max(total, 1.0)
        var = (squares.sum(0) + (counts * (means - mean).square()).sum(0)) / max(total, 1.0)
        scale = (var + eps).rsqrt()
        exact = torch.float64 if x.dtype == torch.float64 else torch.float32
        centred = x.to(exact) - _along(mean.to(exact), x)
        y = centred * _along((scale * weight.double()).to(exact), x) + _along(bias.to(exact), x)
        ctx.save_for_backward(x, weight, mean, scale)
        ctx.total = total
        ctx.mark_non_differentiable(mean, var)
        return y.to(x.dtype), mean, var, total

    @staticmethod
    def backward(ctx: Any, grad: Tensor, *_: Any) -> tuple[Tensor, Tensor, Tensor, None]:
        x, weight, mean, scale = ctx.saved_tensors
        axes = [0, *range(2, x.dim())]
        exact = torch.float64 if x.dtype == torch.float64 else torch.float32
        normal = (x.to(exact) - _along(mean.to(exact), x)) * _along(scale.to(exact), x)
        grad_exact = grad.to(exact)
        # d(loss)/d(bias) and d(loss)/d(weight) of this process's images; they are added up with all gradients.
        grad_bias, grad_weight = grad_exact.sum(axes), (grad_exact * normal).sum(axes)
        sums = torch.stack([grad_bias, grad_weight]).double()
        with lost_process_is_an_error():
            dist.all_reduce(sums)
        # dx = weight * scale * (dy - mean(dy) - normal * mean(dy * normal)), the means over all processes
        inner = sums / max(ctx.total, 1.0)
        dx = grad_exact - _along(inner[0].to(exact), x) - normal * _along(inner[1].to(exact), x)
        dx = dx * _along((scale * weight.double()).to(exact), x)
        return dx.to(x.dtype), grad_weight.to(weight.dtype), grad_bias.to(weight.dtype), None


def synchronised(net: nn.Module, device: torch.device) -> nn.Module:
    """Return the network with every BatchNorm taking its statistics over all processes; names and values stay."""
    if device.type == "cuda":
        return nn.SyncBatchNorm.convert_sync_batchnorm(net)  # type: ignore[no-any-return,no-untyped-call]
    for name, child in list(net.named_children()):
        setattr(net, name, synchronised(child, device))
    if not isinstance(net, _BatchNorm) or isinstance(net, GlobalBatchNorm):
        return net
    new = GlobalBatchNorm(net.num_features, net.eps, net.momentum, net.affine, net.track_running_stats)
    if net.affine:
        new.weight, new.bias = net.weight, net.bias
    new.running_mean, new.running_var = net.running_mean, net.running_var
    new.num_batches_tracked = net.num_batches_tracked
    return new.train(net.training)


def _along(vector: Tensor, like: Tensor) -> Tensor:
    return vector.view(1, -1, *[1] * (like.dim() - 2))
