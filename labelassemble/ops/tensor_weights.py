"""The loss with its two weights in tensors: torch.compile makes one graph for all their values.

As numbers they are part of what is compiled: a schedule that changes them at each epoch would have the function
compiled anew at each, until torch gives up after eight. These ops are for compiled functions alone; they call the
native ones.
"""

from typing import Any

import torch
from torch import Tensor

_OPS = torch.ops.labelassemble


@torch.library.custom_op("labelassemble::_loss_of_tensor_weights", mutates_args=())
def loss_of_tensor_weights(
    logits_weak: Tensor,  # [B, C, *spatial]
    logits_strong: Tensor | None,  # [B, C, *spatial]
    targets: Tensor,  # [B, C, *spatial]
    threshold: float,
    temperature: float,
    pseudo_weight: Tensor,  # []
    consistency_weight: Tensor,  # []
    pos_weight: Tensor | None,  # [C]
    class_weight: Tensor | None,  # [C]
    detach_target: bool,
    reduction: str,
    validate: bool,
    strong_known: bool,
    absent: Tensor | None,  # bool [B, C, *spatial]
) -> tuple[Tensor, Tensor]:
    """Return what `partial_label_loss_terms` does for the values of the two weights."""
    return _terms(
        logits_weak,
        logits_strong,
        targets,
        threshold,
        temperature,
        float(pseudo_weight),
        float(consistency_weight),
        pos_weight,
        class_weight,
        detach_target,
        reduction,
        validate,
        strong_known,
        absent,
    )


def _shapes_of_loss(
    logits_weak: Tensor,
    logits_strong: Tensor | None,
    targets: Tensor,
    threshold: float,
    temperature: float,
    pseudo_weight: Tensor,
    consistency_weight: Tensor,
    *rest: Any,
) -> tuple[Tensor, Tensor]:
    return _terms(logits_weak, logits_strong, targets, threshold, temperature, 1.0, 1.0, *rest)


def _terms(*arguments: Any) -> tuple[Tensor, Tensor]:
    loss, terms = _OPS.partial_label_loss_terms(*arguments)
    return loss, terms


@torch.library.custom_op("labelassemble::_gradients_of_tensor_weights", mutates_args=())
def gradients_of_tensor_weights(
    grad: Tensor,  # [] or [B, C, *spatial]
    logits_weak: Tensor,  # [B, C, *spatial]
    logits_strong: Tensor | None,  # [B, C, *spatial]
    targets: Tensor,  # [B, C, *spatial]
    threshold: float,
    temperature: float,
    pseudo_weight: Tensor,  # []
    consistency_weight: Tensor,  # []
    pos_weight: Tensor | None,  # [C]
    class_weight: Tensor | None,  # [C]
    detach_target: bool,
    reduction: str,
    strong_known: bool,
    absent: Tensor | None,  # bool [B, C, *spatial]
    terms: Tensor,  # float64 [5]
) -> tuple[Tensor, Tensor]:
    """Return the gradients of both views; that of a strong view that is not there has no element."""
    consistency = float(consistency_weight)
    numbers = [threshold, temperature, float(pseudo_weight), consistency, float(detach_target)]
    reads_strong = logits_strong is not None and (consistency != 0 or strong_known)
    weak, strong = _OPS._partial_label_loss_backward(
        grad,
        logits_weak,
        logits_strong,
        targets,
        pos_weight,
        class_weight,
        terms,
        [*numbers, float(("none", "mean", "sum").index(reduction)), float(strong_known)],
        True,
        reads_strong,
        absent,
    )
    if not reads_strong:
        strong = _no_strong(logits_weak) if logits_strong is None else torch.zeros_like(logits_strong)
    return weak, strong


def _shapes_of_gradients(
    grad: Tensor, logits_weak: Tensor, logits_strong: Tensor | None, *rest: Any
) -> tuple[Tensor, Tensor]:
    strong = _no_strong(logits_weak) if logits_strong is None else torch.empty_like(logits_strong)
    return torch.empty_like(logits_weak), strong


def _no_strong(logits_weak: Tensor) -> Tensor:
    return logits_weak.new_empty(0)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    tensors = (*inputs[:3], *inputs[5:9], inputs[13], output[1])
    ctx.save_for_backward(*tensors)
    ctx.numbers = inputs[3:5]
    ctx.choices = (*inputs[9:11], inputs[12])
    ctx.set_materialize_grads(False)


def _backward(ctx: Any, grad: Tensor | None, _: Tensor | None) -> tuple[Tensor | None, ...]:
    result: list[Tensor | None] = [None] * 14
    if grad is None:
        return tuple(result)
    weak, strong, targets, *weights, absent, terms = ctx.saved_tensors
    gradients = gradients_of_tensor_weights(
        grad, weak, strong, targets, *ctx.numbers, *weights, *ctx.choices, absent, terms
    )
    result[0] = gradients[0] if ctx.needs_input_grad[0] else None
    result[1] = gradients[1] if strong is not None and ctx.needs_input_grad[1] else None
    return tuple(result)


loss_of_tensor_weights.register_fake(_shapes_of_loss)
gradients_of_tensor_weights.register_fake(_shapes_of_gradients)
loss_of_tensor_weights.register_autograd(_backward, setup_context=_setup_context)
