"""`MaskedBCEWithLogitsLoss`, a drop-in for nn.BCEWithLogitsLoss where some targets are unknown."""

import torch
from torch import Tensor

from labelassemble.errors import LabelAssembleError
from labelassemble.functional import masked_bce_with_logits
from labelassemble.loss_weights import (
    ClassWeights,
    WeightedLoss,
    check_reduction,
    checked_weights,
    weights_of_classes,
)
from labelassemble.ops.class_vector import class_vector
from labelassemble.ops.counts import LossCounts, counts_of, divisor, open_in_graph, weighted_entries
from labelassemble.ops.partial_label_loss import Reduction


class MaskedBCEWithLogitsLoss(WeightedLoss):
    """nn.BCEWithLogitsLoss for targets of which some are unknown (NaN, or -1 in integers).

    The arguments are those of nn.BCEWithLogitsLoss, in its order, and so is the state dict. What is not taken:
    `size_average` and `reduce`, which torch deprecates, and a `pos_weight` that differs from entry to entry. Over
    spatial axes a `pos_weight` [C] goes by class, where torch would match it with the last axis.

    Args:
        weight: weight of entries, broadcast to the logits as torch does; [C] goes by class for logits [B, C].
        size_average: not taken.
        reduce: not taken.
        reduction: "mean" over known entries (whatever their weights, as torch's), "sum" or "none".
        pos_weight: weight of the positive part: one value, or one a class, [C] or [C, 1, ...].
        class_weight: weight of the class, likewise.
        validate: raise where a target lies outside [0, 1], see `labelassemble.functional.masked_bce_with_logits`.

    Example:
        >>> import torch
        >>> from labelassemble.loss import MaskedBCEWithLogitsLoss
        >>> MaskedBCEWithLogitsLoss()(torch.zeros(2, 2), torch.tensor([[1, -1], [0, -1]]))
        tensor(0.6931)
    """

    weight: Tensor | None
    pos_weight: Tensor | None
    class_weight: Tensor | None

    def __init__(
        self,
        weight: ClassWeights | None = None,
        size_average: None = None,
        reduce: None = None,
        reduction: Reduction = "mean",
        pos_weight: ClassWeights | None = None,
        *,
        class_weight: ClassWeights | None = None,
        validate: bool = True,
    ) -> None:
        super().__init__()
        for name, value in (("size_average", size_average), ("reduce", reduce)):
            if value is not None:
                raise LabelAssembleError(
                    f"{name} is not taken, got {value!r}: use reduction mean, sum or none, as torch has it now"
                )
        check_reduction(reduction)
        self.reduction = reduction
        self.validate = validate
        self.register_buffer("weight", checked_weights("weight", weight))
        self.register_buffer("pos_weight", weights_of_classes("pos_weight", pos_weight))
        self.register_buffer(
            "class_weight", weights_of_classes("class_weight", class_weight), persistent=False
        )

    def forward(
        self,
        logits: Tensor,  # [B, C, *spatial] or [B]
        targets: Tensor,  # as logits
        counts: LossCounts | None = None,
    ) -> Tensor:
        """Return the loss, see `labelassemble.functional.masked_bce_with_logits`.

        Args:
            logits: logits.
            targets: labels.
            counts: what the mean divides by where the batch is a part of a larger one, see
                `labelassemble.functional.global_counts`.
        """
        if torch.jit.is_scripting():  # type: ignore[attr-defined]
            if self.weight is not None or counts is not None:
                raise RuntimeError("weight and counts cannot be scripted; class_weight can")
            loss: Tensor = torch.ops.labelassemble.masked_bce_with_logits(
                logits,
                targets,
                class_vector(self.pos_weight, logits),
                class_vector(self.class_weight, logits),
                self.reduction,
                self.validate,
            )
            return loss
        elif (
            counts is None and self._buffers.get("weight", 0) is None
        ):  # not self.weight: it takes a microsecond
            return masked_bce_with_logits(
                logits,
                targets,
                pos_weight=self.pos_weight,
                class_weight=self.class_weight,
                reduction=self.reduction,
                validate=self.validate,
            )
        else:
            return self._eager(logits, targets, counts)

    @torch.jit.unused
    def _eager(self, logits: Tensor, targets: Tensor, counts: LossCounts | None) -> Tensor:
        if counts is not None and open_in_graph(counts):
            counts = None
        if self.weight is None and counts is None:
            return self._reduced(logits, targets, self.reduction)
        if counts is not None and self.reduction != "mean":
            raise LabelAssembleError(f"counts need reduction mean, got {self.reduction!r}")
        if self.weight is None:
            loss = self._reduced(logits, targets, "sum")
        else:
            loss = weighted_entries(self._reduced(logits, targets, "none"), self.weight, targets)
            if self.reduction == "none":
                return loss
            loss = loss.sum()
        if self.reduction == "sum":
            return loss
        known = counts_of(targets).known if counts is None else counts.known
        return loss / divisor(known, loss).to(loss.dtype)

    @torch.jit.unused
    def _reduced(self, logits: Tensor, targets: Tensor, reduction: Reduction) -> Tensor:
        return masked_bce_with_logits(
            logits,
            targets,
            pos_weight=self.pos_weight,
            class_weight=self.class_weight,
            reduction=reduction,
            validate=self.validate,
        )

    def extra_repr(self) -> str:
        return f"reduction={self.reduction!r}"
