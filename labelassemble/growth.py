"""Parameters that grow in place, so that an optimizer made before goes on training them."""

import weakref
from typing import Final

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_pre_hook
from torch.utils.weak import WeakIdKeyDictionary

from labelassemble.errors import LabelAssembleError

_earlier_shapes: Final = WeakIdKeyDictionary()  # of parameters that have grown


def grow(parameter: nn.Parameter, values: Tensor) -> None:
    """Give a parameter new values of a larger shape; it stays the object that optimizers and hooks know.

    A gradient that it has, and at the next step what optimizers keep for it (momentum, say), get zeros where the
    parameter is new.

    Args:
        parameter: the one to change.
        values: of its dtype and device, with as many dimensions, none smaller.
    """
    before, gradient = parameter.shape, parameter.grad
    parameter.grad = None
    with torch.no_grad():
        # A graph that is still there has a node that adds up gradients of the old shape. Torch takes a new one where
        # the dtype changes, not where the shape does.
        parameter.data = values.to(torch.float32 if values.dtype == torch.float64 else torch.float64)
        parameter.data = values
    if gradient is not None:
        parameter.grad = _padded(gradient, parameter)
    if before != parameter.shape:
        if parameter not in _earlier_shapes:
            _earlier_shapes[parameter] = set()
            _grow_states(parameter)
        _earlier_shapes[parameter].add(before)


def _grow_states(grown: nn.Parameter) -> None:
    """Before each step of an optimizer that holds the parameter, let its state have the parameter's shape.

    Without this some optimizers raise, and the fused ones write beyond the state's memory.
    """

    reference = weakref.ref(grown)

    def pad(optimizer: Optimizer, _args: object, _kwargs: object) -> None:
        parameter = reference()
        if parameter is not None and parameter in optimizer.state:
            state = optimizer.state[parameter]
            for name, value in state.items():
                if not isinstance(value, Tensor) or value.dim() == 0 or value.shape == parameter.shape:
                    continue
                if value.shape not in _earlier_shapes[parameter]:
                    raise LabelAssembleError(
                        f"{type(optimizer).__name__} keeps '{name}' of shape {list(value.shape)} for a parameter that "
                        f"add_classes made {list(parameter.shape)}, and it cannot grow with it: make the optimizer anew"
                    )
                state[name] = _padded(value, parameter)

    weakref.finalize(grown, register_optimizer_step_pre_hook(pad).remove)


def _padded(value: Tensor, parameter: Tensor) -> Tensor:
    padded = torch.zeros_like(parameter, dtype=value.dtype, device=value.device, requires_grad=False)
    padded[tuple(slice(size) for size in value.shape)] = value
    return padded
