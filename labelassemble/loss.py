"""Losses as modules: `PartialLabelLoss` and `MaskedBCEWithLogitsLoss`, drop-ins for nn.BCEWithLogitsLoss."""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from labelassemble import _extension
from labelassemble.errors import LabelAssembleError
from labelassemble.functional import LossTerms, partial_label_loss, partial_label_loss_terms
from labelassemble.loss_options import LossOptions
from labelassemble.loss_weights import (
    ClassWeights,
    WeightedLoss,
    check_reduction,
    exclusive_classes,
    weights_of_classes,
)
from labelassemble.masked_bce import MaskedBCEWithLogitsLoss
from labelassemble.ops.class_vector import class_vector
from labelassemble.ops.composed_loss import absent_labels, composed_terms
from labelassemble.ops.counts import LossCounts, open_in_graph
from labelassemble.ops.partial_label_loss import OpOptions, Reduction

WEIGHTS = ("pseudo_weight", "consistency_weight")  # of terms: the attributes that a schedule sets

__all__ = ["LossCounts", "LossOptions", "LossTerms", "MaskedBCEWithLogitsLoss", "PartialLabelLoss"]


class PartialLabelLoss(WeightedLoss):
    """Loss of Label-Assemble: cross-entropy where labels are known, pseudo-labels and consistency where not.

    total = mean over known of bce + pseudo_weight * mean over unknown of (a_w - s(a_w))^2
    + consistency_weight * mean over unknown of (a_s - s(a_w))^2  (arXiv 2109.12265, section 2.2), see
    `labelassemble.functional.partial_label_loss`. The weights are plain attributes that a schedule may set; a function
    under torch.compile is compiled once for all their values.

    The last three options are not the paper's. `strong_known`, as the authors' released code has it, lets known labels
    learn from both views: their cross-entropy is the mean of the two. `exclusive` makes the pseudo-label of a class 0
    where a class that excludes it is present, see `labelassemble.functional.excluded`.

    Args:
        threshold: tau, above which a probability is sharpened towards 1.
        temperature: t >= 1; 1 makes hard pseudo-labels, inf none.
        pseudo_weight: weight of the pseudo-label term; 0 skips it.
        consistency_weight: weight of the consistency term; 0 skips it.
        pos_weight: weight of the positive part of the cross-entropy: one value, or one a class, [C] or [C, 1, ...].
            It is in the state dict, as that of nn.BCEWithLogitsLoss.
        class_weight: weight of every term, likewise.
        detach_target: take pseudo-labels as constants in the gradient.
        reduction: "mean", "sum" or "none".
        strong_known: known labels learn from the strong view too.
        known_mean: "entry" for the mean over known labels, "class" for the mean over those of each class and then over
            the classes that have one; needs reduction "mean".
        exclusive: bool [C, C], True where two classes exclude each other; None where none do.
        validate: raise where a target lies outside [0, 1] or a weight is not allowed, see
            `labelassemble.functional.partial_label_loss`.

    Example:
        An ordinary torch classifier, its loss and its last layer replaced by two lines:

        >>> import torch
        >>> from torch import nn
        >>> from labelassemble.head import ClassQueryHead
        >>> from labelassemble.loss import PartialLabelLoss
        >>> _ = torch.manual_seed(0)
        >>> body = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU())
        >>> head = ClassQueryHead(32, ["Edema", "Nodule"])   # was: nn.Linear(32, 2)
        >>> criterion = PartialLabelLoss()                   # was: nn.BCEWithLogitsLoss()
        >>> model = nn.Sequential(body, head)
        >>> optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
        >>> images = torch.randn(8, 1, 8, 8)
        >>> targets = torch.tensor([[1.0, float("nan")], [0.0, 1.0]]).repeat(4, 1)  # NaN: nobody looked
        >>> losses = []
        >>> for _ in range(50):
        ...     weak, strong = model(images), model(images + 0.1 * torch.randn_like(images))
        ...     loss = criterion(weak, strong, targets)
        ...     optimizer.zero_grad()
        ...     loss.backward()
        ...     optimizer.step()
        ...     losses.append(loss.item())
        >>> losses[-1] < 0.1 * losses[0]
        True
    """

    pos_weight: Tensor | None
    class_weight: Tensor | None
    exclusive: Tensor | None

    def __init__(
        self,
        *,
        threshold: float = 0.5,
        temperature: float = 4.0,
        pseudo_weight: float = 1.0,
        consistency_weight: float = 1.0,
        pos_weight: ClassWeights | None = None,
        class_weight: ClassWeights | None = None,
        detach_target: bool = True,
        reduction: Reduction = "mean",
        strong_known: bool = False,
        known_mean: Literal["entry", "class"] = "entry",
        exclusive: Tensor | Sequence[Sequence[bool]] | None = None,
        validate: bool = True,
    ) -> None:
        super().__init__()
        self._tensor_weights = [torch.ones((), dtype=torch.float64, device="cpu") for _ in WEIGHTS]
        if not 0 < threshold < 1:
            raise LabelAssembleError(f"threshold must lie between 0 and 1, got {threshold}")
        if not temperature >= 1:
            raise LabelAssembleError(f"temperature must be at least 1, got {temperature}")
        for name, weight in (("pseudo_weight", pseudo_weight), ("consistency_weight", consistency_weight)):
            if not 0 <= weight < float("inf"):
                raise LabelAssembleError(f"{name} must be finite and not negative, got {weight}")
        check_reduction(reduction)
        self.threshold = float(threshold)
        self.temperature = float(temperature)
        self.pseudo_weight = float(pseudo_weight)
        self.consistency_weight = float(consistency_weight)
        self.detach_target = detach_target
        self.reduction = reduction
        if known_mean not in ("entry", "class"):
            raise LabelAssembleError(f"known_mean must be entry or class, got {known_mean!r}")
        if known_mean == "class" and reduction != "mean":
            raise LabelAssembleError(f"known_mean class needs reduction mean, got {reduction!r}")
        self.validate = validate
        self.strong_known = strong_known
        self.known_mean = known_mean
        self.register_buffer("pos_weight", weights_of_classes("pos_weight", pos_weight))
        self.register_buffer(
            "class_weight", weights_of_classes("class_weight", class_weight), persistent=False
        )
        self.register_buffer("exclusive", exclusive_classes(exclusive), persistent=False)

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute; of the weights of terms keep the value in a tensor too, for compiled functions."""
        super().__setattr__(name, value)
        if name in WEIGHTS:
            self._tensor_weights[WEIGHTS.index(name)].fill_(value)

    def forward(
        self,
        logits_weak: Tensor,  # [B, C, *spatial] or [B]
        logits_strong: Tensor | None,  # as logits_weak
        targets: Tensor,  # as logits_weak
        counts: LossCounts | None = None,
    ) -> Tensor:
        """Return the loss, see `labelassemble.functional.partial_label_loss`.

        Args:
            logits_weak: logits of the weakly augmented view.
            logits_strong: of the strong one, or None.
            targets: labels.
            counts: what the means divide by where the batch is a part of a larger one, see
                `labelassemble.functional.global_counts`.
        """
        if torch.jit.is_scripting():  # type: ignore[attr-defined]
            if self.strong_known or self.known_mean != "entry" or self.exclusive is not None:
                raise RuntimeError("strong_known, known_mean class and exclusive cannot be scripted")
            if counts is not None:
                raise RuntimeError("counts cannot be scripted")
            loss: Tensor = torch.ops.labelassemble.partial_label_loss(
                logits_weak,
                logits_strong,
                targets,
                self.threshold,
                self.temperature,
                self.pseudo_weight,
                self.consistency_weight,
                class_vector(self.pos_weight, logits_weak),
                class_vector(self.class_weight, logits_weak),
                self.detach_target,
                self.reduction,
                self.validate,
            )
            return loss
        else:
            return self._eager(logits_weak, logits_strong, targets, counts)

    @torch.jit.unused
    def _eager(
        self, logits_weak: Tensor, logits_strong: Tensor | None, targets: Tensor, counts: LossCounts | None
    ) -> Tensor:
        if counts is not None and not open_in_graph(counts):
            return self.terms(logits_weak, logits_strong, targets, counts=counts).total
        if self.strong_known or self.known_mean != "entry" or self.exclusive is not None:
            if self.reduction != "none":
                return self.terms(logits_weak, logits_strong, targets).total
            return self._in_one_pass(logits_weak, logits_strong, targets, self.exclusive).total
        pseudo_weight, consistency_weight = self._term_weights()
        return partial_label_loss(
            logits_weak,
            logits_strong,
            targets,
            threshold=self.threshold,
            temperature=self.temperature,
            pseudo_weight=pseudo_weight,
            consistency_weight=consistency_weight,
            pos_weight=self.pos_weight,
            class_weight=self.class_weight,
            detach_target=self.detach_target,
            reduction=self.reduction,
            validate=self.validate,
        )

    @torch.jit.unused
    def terms(
        self,
        logits_weak: Tensor,  # [B, C, *spatial]
        logits_strong: Tensor | None,  # [B, C, *spatial]
        targets: Tensor,  # [B, C, *spatial]
        *,
        exclusive: Tensor | None = None,  # bool [C, C] or [B, C, C]
        counts: LossCounts | None = None,
    ) -> LossTerms:
        """Return the loss and the terms and counts that it is made of (not for "none").

        Args:
            logits_weak: logits of the weakly augmented view.
            logits_strong: of the strong one, or None.
            targets: labels.
            exclusive: which classes exclude each other, perhaps image by image, instead of the module's own.
            counts: what the means divide by instead of the batch's own counts, for a batch that is a part of a larger
                one: the losses of the parts, and their gradients, then add up to those of the whole, see
                `labelassemble.functional.global_counts`.
        """
        if self.reduction == "none":
            raise LabelAssembleError("terms and counts need reduction mean or sum, got 'none'")
        exclusive = self.exclusive if exclusive is None else exclusive
        if counts is None and self.known_mean == "entry":
            return self._in_one_pass(logits_weak, logits_strong, targets, exclusive)
        options = self._options()
        return composed_terms(
            logits_weak,
            logits_strong,
            targets,
            options,
            strong_known=self.strong_known,
            known_mean=self.known_mean,
            absent=absent_labels(logits_weak, logits_strong, targets, options, exclusive),
            reduction=self.reduction,
            counts=counts,
        )

    @torch.jit.unused
    def _in_one_pass(
        self, logits_weak: Tensor, logits_strong: Tensor | None, targets: Tensor, exclusive: Tensor | None
    ) -> LossTerms:
        options = self._options()
        return partial_label_loss_terms(
            logits_weak,
            logits_strong,
            targets,
            options,
            reduction=self.reduction,
            strong_known=self.strong_known,
            absent=absent_labels(logits_weak, logits_strong, targets, options, exclusive),
        )

    @torch.jit.unused
    def _options(self) -> OpOptions:
        pseudo, consistency = self._term_weights()
        return OpOptions(
            self.threshold,
            self.temperature,
            pseudo,
            consistency,
            self.pos_weight,
            self.class_weight,
            self.detach_target,
            self.validate,
        )

    @torch.jit.unused
    def _term_weights(self) -> tuple[float | Tensor, float | Tensor]:
        """Return the weights of both terms for unknown labels, tensors where a function is compiled."""
        if torch.compiler.is_compiling() and not _extension.is_exporting():
            return self._tensor_weights[0], self._tensor_weights[1]
        return self.pseudo_weight, self.consistency_weight

    def extra_repr(self) -> str:
        return (
            f"threshold={self.threshold}, temperature={self.temperature}, "
            f"pseudo_weight={self.pseudo_weight}, consistency_weight={self.consistency_weight}, "
            f"detach_target={self.detach_target}, reduction={self.reduction!r}, "
            f"strong_known={self.strong_known}, known_mean={self.known_mean!r}, "
            f"exclusive={self.exclusive is not None}"
        )
