"""Binary cross-entropy on partial labels: `partial_label_loss` of the known entries alone."""

import torch
from torch import Tensor

from labelassemble._extension import NATIVE, native_door, warn_of_fallback

from .partial_label_loss import Reduction
from .partial_label_loss import reference as partial_label_loss_reference


def reference(
    logits: Tensor,  # [B, C, *spatial]
    targets: Tensor,  # [B, C, *spatial]
    *,
    pos_weight: Tensor | None = None,  # [C]
    class_weight: Tensor | None = None,  # [C]
    reduction: Reduction = "mean",
    validate: bool = False,
) -> Tensor:
    """Return the masked binary cross-entropy by plain torch functions."""
    return partial_label_loss_reference(
        logits,
        None,
        targets,
        pseudo_weight=0.0,
        consistency_weight=0.0,
        pos_weight=pos_weight,
        class_weight=class_weight,
        reduction=reduction,
        validate=validate,
    )[0]


def masked_bce_with_logits(
    logits: Tensor,  # [B, C, *spatial]
    targets: Tensor,  # [B, C, *spatial]
    *,
    pos_weight: Tensor | None = None,  # [C]
    class_weight: Tensor | None = None,  # [C]
    reduction: Reduction = "mean",
    validate: bool = False,
) -> Tensor:
    """Return the binary cross-entropy of the known targets; unknown ones have no part in value or gradient.

    -(w+ y log a + (1 - y) log(1 - a)), a = sigmoid(logits), as torch's binary_cross_entropy_with_logits and
    finite at infinite logits wherever the mathematics is.

    Args:
        logits: float32, float64, float16 or bfloat16.
        targets: labels of the same shape; floating: [0, 1], NaN is unknown; integer or bool: -1 is unknown.
        pos_weight: weight of the positive part, by class.
        class_weight: weight of the class; the mean divides by the count all the same.
        reduction: "mean" over known entries (0 where there is none), "sum", or "none" for the entries.
        validate: raise where a known target lies outside [0, 1]; costs a pass over the targets.

    Returns:
        The loss, a scalar or [B, C, *spatial], in float32 for half-precision logits, else in their dtype.

    Raises:
        RuntimeError: if shapes, dtypes, devices or options do not fit, or on a second derivative.
    """
    if not NATIVE:
        warn_of_fallback()
        return reference(
            logits,
            targets,
            pos_weight=pos_weight,
            class_weight=class_weight,
            reduction=reduction,
            validate=validate,
        )
    function = (native_door() or torch.ops.labelassemble).masked_bce_with_logits
    loss: Tensor = function(logits, targets, pos_weight, class_weight, reduction, validate)
    return loss
