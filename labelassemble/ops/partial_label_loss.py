"""The loss of Label-Assemble on partial labels: what calls the fused op, or its reference in plain torch.

The op is `partial_label_loss_terms`; the loss alone is its first result, and masked binary cross-entropy is that
without the strong view and without pseudo-labels.
"""

from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.overrides import handle_torch_function, has_torch_function

from labelassemble import _extension

from .class_vector import class_vector
from .loss_reference import Reduction, known_mask, reference

__all__ = [
    "LossTerms",
    "OpOptions",
    "Reduction",
    "known_mask",
    "masked_bce_with_logits",
    "partial_label_loss",
    "partial_label_loss_terms",
    "reference",
]


class OpOptions(NamedTuple):
    """What the op is told beside its tensors and the reduction; see `partial_label_loss`."""

    threshold: float = 0.5
    temperature: float = 4.0
    pseudo_weight: float | Tensor = 1.0
    consistency_weight: float | Tensor = 1.0
    pos_weight: Tensor | None = None  # [C]
    class_weight: Tensor | None = None  # [C]
    detach_target: bool = True
    validate: bool = True


DEFAULTS = OpOptions()


class LossTerms(NamedTuple):
    """The loss and what it is made of; all but `total` are float64 scalars without gradient, to be logged."""

    total: Tensor  # [], differentiable
    bce: Tensor  # [], over known entries
    pseudo: Tensor  # [], over unknown entries, before pseudo_weight (0 where that is 0)
    consistency: Tensor  # [], over unknown entries, before consistency_weight (0 where that is 0)
    known: Tensor  # [], number of known entries
    unknown: Tensor  # [], number of unknown entries


def partial_label_loss(
    logits_weak: Tensor,  # [B, C, *spatial]
    logits_strong: Tensor | None,  # [B, C, *spatial]
    targets: Tensor,  # [B, C, *spatial]
    *,
    threshold: float = 0.5,
    temperature: float = 4.0,
    pseudo_weight: float | Tensor = 1.0,
    consistency_weight: float | Tensor = 1.0,
    pos_weight: Tensor | None = None,  # [], [C] or [C, 1, ...]
    class_weight: Tensor | None = None,  # [], [C] or [C, 1, ...]
    detach_target: bool = True,
    reduction: Reduction = "mean",
    validate: bool = True,
) -> Tensor:
    """Return the loss of a batch of which only some labels are known.

    total = mean over known of bce + pseudo_weight * mean over unknown of (a_w - s(a_w))^2
    + consistency_weight * mean over unknown of (a_s - s(a_w))^2, with a = sigmoid(logits) of the weak and the
    strong view and s the sharpening of `sharpen`  (arXiv 2109.12265, section 2.2).

    Args:
        logits_weak: logits of the weakly augmented view; float32, float64, float16 or bfloat16.
        logits_strong: logits of the strongly augmented view, of the same shape, dtype and device; None drops
            the consistency term.
        targets: labels of the same shape; floating: [0, 1], NaN is unknown; integer or bool: -1 is unknown.
        threshold: tau, above which a probability is sharpened towards 1.
        temperature: t >= 1; 1 makes hard pseudo-labels, inf none.
        pseudo_weight: weight of the pseudo-label term; 0 skips it.
        consistency_weight: weight of the consistency term; 0 skips it, and logits_strong is not read.
        pos_weight: weight of the positive part of the cross-entropy, by class.
        class_weight: weight of every term, by class; the means divide by counts all the same.
        detach_target: take s(a_w) as a constant in the gradient; False differentiates through it.
        reduction: "mean" (each term over its own count, 0 where that is 0), "sum", or "none" for the entries.
        validate: raise where a known target lies outside [0, 1] by more than rounding (1e-6), or a weight of a class is
            negative or not finite. On the CPU at once. On CUDA nothing waits for the device: the loss of that call is
            NaN, its gradient 0, and a later call raises.

    Returns:
        The loss, a scalar or [B, C, *spatial], in float32 for half-precision logits, else in their dtype.

    Raises:
        RuntimeError: if shapes, dtypes, devices or options do not fit.
    """
    if type(logits_weak) is not Tensor and has_torch_function(
        (logits_weak,)
    ):  # torch.fx, subclasses of tensors
        return handle_torch_function(
            partial_label_loss,
            (logits_weak,),
            logits_weak,
            logits_strong,
            targets,
            threshold=threshold,
            temperature=temperature,
            pseudo_weight=pseudo_weight,
            consistency_weight=consistency_weight,
            pos_weight=pos_weight,
            class_weight=class_weight,
            detach_target=detach_target,
            reduction=reduction,
            validate=validate,
        )
    # The options go one by one: making an OpOptions of them takes 8% of a small call.
    return _call(
        logits_weak,
        logits_strong,
        targets,
        threshold,
        temperature,
        pseudo_weight,
        consistency_weight,
        pos_weight,
        class_weight,
        detach_target,
        reduction,
        validate,
    )[0]


def partial_label_loss_terms(
    logits_weak: Tensor,  # [B, C, *spatial]
    logits_strong: Tensor | None,  # [B, C, *spatial]
    targets: Tensor,  # [B, C, *spatial]
    options: OpOptions = DEFAULTS,
    *,
    reduction: Reduction = "mean",
    strong_known: bool = False,
    absent: Tensor | None = None,  # bool [B, C, *spatial]
) -> LossTerms:
    """Return the loss as `partial_label_loss`, and from the same pass the terms and counts it is made of.

    With reduction "none" the terms are sums. The last two arguments are not the paper's.

    Args:
        logits_weak: of the weakly augmented view.
        logits_strong: of the strong one, or None.
        targets: labels.
        options: of the op.
        reduction: "mean", "sum" or "none".
        strong_known: known labels learn from both views: their cross-entropy is the mean of the two.
        absent: where an unknown label has the pseudo-label 0 instead of s(a_w), as `functional.excluded` returns it.
    """
    total, terms = _call(
        logits_weak,
        logits_strong,
        targets,
        options.threshold,
        options.temperature,
        options.pseudo_weight,
        options.consistency_weight,
        options.pos_weight,
        options.class_weight,
        options.detach_target,
        reduction,
        options.validate,
        strong_known,
        absent,
    )
    return LossTerms(total, *terms.unbind())


def masked_bce_with_logits(
    logits: Tensor,  # [B, C, *spatial]
    targets: Tensor,  # [B, C, *spatial]
    *,
    pos_weight: Tensor | None = None,  # [], [C] or [C, 1, ...]
    class_weight: Tensor | None = None,  # [], [C] or [C, 1, ...]
    reduction: Reduction = "mean",
    validate: bool = True,
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
        validate: raise where a known target lies outside [0, 1] by more than rounding (1e-6), or a weight of a class is
            negative or not finite. On the CPU at once. On CUDA nothing waits for the device: the loss of that call is
            NaN, its gradient 0, and a later call raises.

    Returns:
        The loss, a scalar or [B, C, *spatial], in float32 for half-precision logits, else in their dtype.

    Raises:
        RuntimeError: if shapes, dtypes, devices or options do not fit.
    """
    if type(logits) is not Tensor and has_torch_function((logits,)):
        return handle_torch_function(
            masked_bce_with_logits,
            (logits,),
            logits,
            targets,
            pos_weight=pos_weight,
            class_weight=class_weight,
            reduction=reduction,
            validate=validate,
        )
    return _call(
        logits, None, targets, 0.5, 1.0, 0.0, 0.0, pos_weight, class_weight, True, reduction, validate
    )[0]


def _call(
    logits_weak: Tensor,
    logits_strong: Tensor | None,
    targets: Tensor,
    threshold: float,
    temperature: float,
    pseudo_weight: float | Tensor,
    consistency_weight: float | Tensor,
    pos_weight: Tensor | None,
    class_weight: Tensor | None,
    detach_target: bool,
    reduction: Reduction,
    validate: bool,
    strong_known: bool = False,
    absent: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Return the loss and its terms, from the op where it can compute them."""
    if logits_weak.dim() == 1:
        return _of_one_class(
            logits_weak,
            logits_strong,
            targets,
            *(threshold, temperature, pseudo_weight, consistency_weight, pos_weight, class_weight),
            *(detach_target, reduction, validate, strong_known),
            None if absent is None else absent[:, None],
        )
    function: Any = _extension.implementation("partial_label_loss_terms", reference, logits_weak)
    learned = targets.requires_grad
    if pos_weight is not None:
        learned = learned or pos_weight.requires_grad
        pos_weight = class_vector(pos_weight, logits_weak)
    if class_weight is not None:
        learned = learned or class_weight.requires_grad
        class_weight = class_vector(class_weight, logits_weak)
    if type(logits_weak) is not Tensor and _extension.is_distributed(logits_weak):
        from . import sharded

        pos_weight, class_weight = (
            None if vector is None else sharded.replicated(vector, logits_weak)
            for vector in (pos_weight, class_weight)
        )
        placements = None if learned else sharded.placements_of(logits_weak)
        if placements is not None:
            function = partial(sharded.partial_label_loss_terms, placements)
    # `type` takes a third of the time of isinstance(..., Tensor).
    if (type(pseudo_weight) is not float or type(consistency_weight) is not float) and (
        isinstance(pseudo_weight, Tensor) or isinstance(consistency_weight, Tensor)
    ):
        weights = [torch.as_tensor(x, dtype=torch.float64) for x in (pseudo_weight, consistency_weight)]
        learned = learned or weights[0].requires_grad or weights[1].requires_grad
        if torch.compiler.is_compiling() and _extension.NATIVE:
            from .tensor_weights import loss_of_tensor_weights as function

            pseudo_weight, consistency_weight = weights
        elif not learned and function is not reference:
            pseudo_weight, consistency_weight = float(pseudo_weight), float(consistency_weight)
    if learned:  # the op takes all but logits as constants
        function = reference
    loss, terms = function(
        logits_weak,
        logits_strong,
        targets,
        threshold,
        temperature,
        pseudo_weight,
        consistency_weight,
        pos_weight,
        class_weight,
        detach_target,
        reduction,
        validate,
        strong_known,
        absent,
    )
    return loss, terms


def _of_one_class(
    logits_weak: Tensor,  # [B]
    logits_strong: Tensor | None,  # [B]
    targets: Tensor,  # [B]
    *options: Any,
) -> tuple[Tensor, Tensor]:
    """Return the loss and the terms of logits without an axis of classes."""
    for name, tensor in (("logits_strong", logits_strong), ("targets", targets)):
        if tensor is not None and tensor.shape != logits_weak.shape:
            raise RuntimeError(
                f"partial_label_loss: {name} must have the shape of logits_weak, "
                f"got {list(tensor.shape)} and {list(logits_weak.shape)}"
            )
    loss, terms = _call(*one_class(logits_weak, logits_strong, targets), *options)
    return loss[:, 0] if loss.dim() else loss, terms


def one_class(
    logits_weak: Tensor, logits_strong: Tensor | None, targets: Tensor
) -> tuple[Tensor, Tensor | None, Tensor]:
    """Return tensors [B] as [B, 1]."""
    return logits_weak[:, None], None if logits_strong is None else logits_strong[:, None], targets[:, None]


_PARAMETERS = (
    "Tensor logits_weak, Tensor? logits_strong, Tensor targets, float threshold=0.5, float temperature=4.0, "
    "float pseudo_weight=1.0, float consistency_weight=1.0, Tensor? pos_weight=None, Tensor? class_weight=None, "
    "bool detach_target=True, str reduction='mean', bool validate=True"
)
_extension.define(
    f"partial_label_loss_terms({_PARAMETERS}, bool strong_known=False, Tensor? absent=None) -> (Tensor, Tensor)",
    reference,
)
_extension.define(f"partial_label_loss({_PARAMETERS}) -> Tensor", lambda *arguments: reference(*arguments)[0])
_extension.define(
    "masked_bce_with_logits(Tensor logits, Tensor targets, Tensor? pos_weight=None, Tensor? class_weight=None, "
    "str reduction='mean', bool validate=True) -> Tensor",
    lambda logits, targets, pos=None, by_class=None, reduction="mean", validate=True: reference(
        logits, None, targets, 0.5, 1.0, 0.0, 0.0, pos, by_class, True, reduction, validate
    )[0],
)
