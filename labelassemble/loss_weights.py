"""Weights that the loss modules hold: checked when they are given, and saved as nn.BCEWithLogitsLoss saves its own."""

from collections.abc import MutableMapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from labelassemble.errors import LabelAssembleError

ClassWeights = Tensor | Sequence[float] | float


class WeightedLoss(nn.Module):
    """A loss whose persistent buffers may lack in a state dict: earlier versions did not save them."""

    def _load_from_state_dict(
        self,
        state_dict: MutableMapping[str, Any],
        prefix: str,
        local_metadata: dict[str, Any],
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        for name in ("weight", "pos_weight"):
            own = self._buffers.get(name)
            if own is not None and prefix + name not in state_dict:
                state_dict[prefix + name] = own
        super()._load_from_state_dict(
            state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
        )


def weights_of_classes(name: str, values: ClassWeights | None) -> Tensor | None:
    """Return weights of classes as a buffer, in the shape given.

    Raises:
        LabelAssembleError: they are neither one value nor one for each class, not finite, or negative.
    """
    weights = checked_weights(name, values)
    if weights is not None and weights.dim() > 1 and max(weights.shape[:2]) != weights.numel():
        raise LabelAssembleError(
            f"{name} must be one value or one a class, [C] or [C, 1, ...], got the shape {list(weights.shape)}; "
            "weights of entries are the argument weight of MaskedBCEWithLogitsLoss"
        )
    return weights


def checked_weights(name: str, values: ClassWeights | None) -> Tensor | None:
    """Return weights as a buffer of their own; whole numbers become float32.

    Raises:
        LabelAssembleError: one is not finite, or negative, or they are to be learned.
    """
    if values is None:
        return None
    if not isinstance(values, Tensor):
        values = torch.as_tensor(values, dtype=torch.float32)
    if values.is_complex() or values.dtype == torch.bool:
        raise LabelAssembleError(f"{name} must be numbers, got {values.dtype}")
    if values.requires_grad:
        raise LabelAssembleError(
            f"{name} must not require a gradient: a module keeps it as a constant; the functions of "
            "labelassemble.functional take one that is learned"
        )
    weights = (values if values.is_floating_point() else values.float()).clone()
    wrong = ~((weights >= 0) & weights.isfinite())
    if not weights.is_meta and bool(wrong.any()):
        raise LabelAssembleError(f"{name} must be finite and not negative, got {float(weights[wrong][0]):g}")
    return weights


def exclusive_classes(exclusive: Tensor | Sequence[Sequence[bool]] | None) -> Tensor | None:
    """Return which classes exclude each other as a buffer, bool [C, C].

    Raises:
        LabelAssembleError: it is no symmetric bool matrix with False on its diagonal.
    """
    if exclusive is None:
        return None
    if not isinstance(exclusive, Tensor):
        exclusive = torch.as_tensor(exclusive).bool()
    if exclusive.dim() != 2 or exclusive.shape[0] != exclusive.shape[1] or exclusive.dtype != torch.bool:
        raise LabelAssembleError(
            f"exclusive must be bool [C, C], got {exclusive.dtype} of shape {list(exclusive.shape)}"
        )
    if bool(exclusive.diagonal().any()) or not bool((exclusive == exclusive.t()).all()):
        raise LabelAssembleError("exclusive must be symmetric, and no class can exclude itself")
    return exclusive.detach().clone()


def check_reduction(reduction: str) -> None:
    """Raise LabelAssembleError for a reduction that is none."""
    if reduction not in ("mean", "sum", "none"):
        raise LabelAssembleError(f"reduction must be mean, sum or none, got {reduction!r}")
