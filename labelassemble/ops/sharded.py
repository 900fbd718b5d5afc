"""The loss of DTensors: each process computes its shard by the op, one all-reduce makes the means of the whole batch.

The loss is a sum over entries, so that any axis may be sharded: batch, classes (with the weights of the classes along)
or space. This module is imported when the first DTensor comes, which has imported torch's by then.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Partial, Placement, Replicate, Shard, distribute_tensor

from labelassemble import _extension

from .loss_reference import Reduction

_OPS = torch.ops.labelassemble


def whole(tensor: Tensor) -> Tensor:
    """Return a DTensor as a plain tensor that each process has whole, any other as it is."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def replicated(values: Tensor, like: DTensor) -> DTensor:
    """Return values that each process has whole as a DTensor of the mesh of `like`."""
    if isinstance(values, DTensor):
        return values
    mesh = like.device_mesh
    return DTensor.from_local(values, mesh, [Replicate()] * mesh.ndim, run_check=False)


def rows(tensor: DTensor, order: list[int]) -> DTensor:
    """Return the rows of a tensor in an order, placed as it is."""
    return distribute_tensor(tensor.full_tensor()[order], tensor.device_mesh, tensor.placements)


def assign(parameter: DTensor, values: Tensor) -> None:
    """Give a parameter values, of which the first process's count."""
    mesh, placements = parameter.device_mesh, parameter.placements
    parameter.copy_(distribute_tensor(values.to(parameter.device, parameter.dtype), mesh, placements))


def placements_of(logits: DTensor) -> list[Placement] | None:
    """Return the placements in which the op computes; None where torch's rules for the reference must serve.

    That is in a function that torch compiles or transforms, without the native library, and for strided shards.
    """
    if (
        not _extension.NATIVE
        or torch.compiler.is_compiling()
        or torch._C._are_functorch_transforms_active()
        or forward_ad._current_level >= 0
        or logits.device.type not in ("cpu", "cuda")
    ):
        return None
    found: list[Placement] = []
    for placement in logits.placements:
        if type(placement) is Shard:
            found.append(placement)
        elif placement.is_replicate() or placement.is_partial():  # a share of a logit says nothing by itself
            found.append(Replicate())
        else:
            return None
    return found


def partial_label_loss_terms(
    placements: list[Placement],
    logits_weak: DTensor,  # [B, C, *spatial]
    logits_strong: Tensor | None,  # [B, C, *spatial]
    targets: Tensor,  # [B, C, *spatial]
    threshold: float,
    temperature: float,
    pseudo_weight: float,
    consistency_weight: float,
    pos_weight: Tensor | None,  # [C]
    class_weight: Tensor | None,  # [C]
    detach_target: bool,
    reduction: Reduction,
    validate: bool,
    strong_known: bool,
    absent: Tensor | None,  # bool [B, C, *spatial]
) -> tuple[Tensor, Tensor]:
    """Return the loss and its terms as the op does, of tensors that lie on several processes, as DTensors.

    All of them are redistributed to `placements`, those of the logits. Scalars are replicated; with reduction "none"
    the loss is placed as the logits are.

    Raises:
        RuntimeError: a tensor of the batch is no DTensor, has another shape or another mesh, or a process refused its
            part.
    """
    mesh = logits_weak.device_mesh
    batch = {"logits_weak": logits_weak, "logits_strong": logits_strong, "targets": targets, "absent": absent}
    local = {name: _local(name, tensor, logits_weak, placements) for name, tensor in batch.items()}
    if (
        consistency_weight == 0 and not strong_known
    ):  # not read: torch's own redistribution takes no missing gradient
        local["logits_strong"] = None
    classes = [Shard(0) if placement == Shard(1) else Replicate() for placement in placements]
    weights = [
        None if vector is None else replicated(vector, logits_weak).redistribute(mesh, classes).to_local()
        for vector in (pos_weight, class_weight)
    ]
    arguments = (
        *(local["logits_weak"], local["logits_strong"], local["targets"]),
        *(threshold, temperature, pseudo_weight, consistency_weight, *weights),
        detach_target,
    )
    summed: list[Placement] = [Partial() if isinstance(each, Shard) else Replicate() for each in placements]
    everywhere: list[Placement] = [Replicate()] * mesh.ndim
    if reduction == "none":
        loss, sums = _OPS.partial_label_loss_terms(
            *arguments, "none", validate, strong_known, local["absent"]
        )
        shape, stride = logits_weak.shape, torch.empty(logits_weak.shape, device="meta").stride()
        entries = DTensor.from_local(loss, mesh, placements, run_check=False, shape=shape, stride=stride)
        terms = DTensor.from_local(sums, mesh, summed, run_check=False).redistribute(mesh, everywhere)
        return entries, terms
    loss, sums = _Summed.apply(mesh, summed, *arguments, reduction, validate, strong_known, local["absent"])  # type: ignore[no-untyped-call]
    return replicated(loss, logits_weak), replicated(sums, logits_weak)


def excluded(
    placements: list[Placement],
    logits_weak: DTensor,  # [B, C, *spatial]
    targets: Tensor,  # [B, C, *spatial]
    exclusive: Tensor,  # bool [C, C] or [B, C, C]
    threshold: float,
) -> DTensor:
    """Return what `functional.excluded` does, of tensors that lie on several processes: each has all classes then."""
    from .excluded import excluded as of_shard

    placements = [Replicate() if placement == Shard(1) else placement for placement in placements]
    logits = _local("logits_weak", logits_weak.detach(), logits_weak, placements)
    labels = _local("targets", targets, logits_weak, placements)
    assert logits is not None
    assert labels is not None
    if exclusive.dim() == 3:
        by_image = [placement if placement == Shard(0) else Replicate() for placement in placements]
        exclusive = replicated(exclusive, logits_weak).redistribute(logits_weak.device_mesh, by_image)
        exclusive = exclusive.to_local()
    found = of_shard(logits, labels, whole(exclusive), threshold=threshold)
    return DTensor.from_local(
        found,
        logits_weak.device_mesh,
        placements,
        run_check=False,
        shape=logits_weak.shape,
        stride=torch.empty(logits_weak.shape, device="meta").stride(),
    )


def _local(name: str, tensor: Tensor | None, logits: DTensor, placements: list[Placement]) -> Tensor | None:
    """Return this process's part of a tensor of the batch, differentiable."""
    if tensor is None:
        return None
    if not isinstance(tensor, DTensor):
        raise RuntimeError(
            f"partial_label_loss: {name} must be a DTensor, as logits_weak is, got {type(tensor).__name__}: "
            "distribute_tensor makes one"
        )
    if tensor.shape != logits.shape:
        raise RuntimeError(
            f"partial_label_loss: {name} must have the shape of logits_weak, "
            f"got {list(tensor.shape)} and {list(logits.shape)}"
        )
    mesh: DeviceMesh = logits.device_mesh
    if tensor.device_mesh != mesh:
        raise RuntimeError(
            f"partial_label_loss: {name} must lie on the mesh of logits_weak, got {tensor.device_mesh} and {mesh}"
        )
    if list(tensor.placements) != placements:
        tensor = tensor.redistribute(mesh, placements)
    return tensor.to_local()


class _Summed(torch.autograd.Function):
    """Means and sums over all shards; the derivative is the op's, told the counts of the whole batch."""

    @staticmethod
    def forward(
        ctx: Any, mesh: DeviceMesh, summed: list[Placement], *arguments: Any
    ) -> tuple[Tensor, Tensor]:
        weak, strong, targets, threshold, temperature, pseudo, consistency, *weights, detach = arguments[:10]
        reduction, validate, strong_known, absent = arguments[10:]
        refusal, loss = (
            None,
            weak.new_empty((), dtype=weak.dtype if weak.dtype == torch.float64 else torch.float32),
        )
        sums = torch.zeros(5, dtype=torch.float64, device=weak.device)
        try:
            loss, sums = _OPS.partial_label_loss_terms(*arguments[:10], "sum", validate, strong_known, absent)
        except RuntimeError as error:  # the other processes wait for the all-reduce
            refusal = error
        refused = sums.new_full((1,), float(refusal is not None))
        everywhere = [Replicate()] * mesh.ndim
        numbers = DTensor.from_local(torch.cat([sums, refused]), mesh, summed, run_check=False)
        sums, refused = numbers.redistribute(mesh, everywhere).to_local().split_with_sizes([5, 1])
        if refusal is not None:
            raise refusal
        if validate and weak.device.type == "cpu" and refused.item():
            raise RuntimeError(
                "partial_label_loss: another process of the mesh has refused its part of the batch"
            )
        terms = sums
        if reduction == "mean":
            terms = torch.cat([sums[:3] / sums[[3, 4, 4]].clamp(min=1), sums[3:]])
        total = terms[0] + pseudo * terms[1] + consistency * terms[2]
        options = [threshold, temperature, pseudo, consistency, float(detach)]
        ctx.options = [*options, 1.0 if reduction == "mean" else 2.0, float(strong_known)]
        ctx.save_for_backward(weak, strong, targets, *weights, terms, absent)
        ctx.mark_non_differentiable(terms)
        ctx.set_materialize_grads(False)
        return total.to(loss.dtype), terms

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None, _: Tensor | None) -> tuple[Tensor | None, ...]:
        gradients: list[Tensor | None] = [None] * 16
        if grad is not None:
            weak, strong, targets, *weights, terms, absent = ctx.saved_tensors
            needs = ctx.needs_input_grad[2:4]
            gradients[2:4] = _OPS._partial_label_loss_backward(
                grad, weak, strong, targets, *weights, terms, ctx.options, *needs, absent
            )
        return tuple(gradients)
