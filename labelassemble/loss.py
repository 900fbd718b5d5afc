"""Losses as modules: `PartialLabelLoss` and `MaskedBCEWithLogitsLoss`, drop-ins for nn.BCEWithLogitsLoss."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from labelassemble.errors import LabelAssembleError
from labelassemble.functional import (
    LossTerms,
    masked_bce_with_logits,
    partial_label_loss,
    partial_label_loss_terms,
)
from labelassemble.loss_options import LossOptions
from labelassemble.ops.composed_loss import LossCounts, composed_entries, composed_terms
from labelassemble.ops.partial_label_loss import OpOptions, Reduction

__all__ = ["LossCounts", "LossOptions", "LossTerms", "MaskedBCEWithLogitsLoss", "PartialLabelLoss"]


def _class_vector(name: str, values: Tensor | Sequence[float] | None) -> Tensor | None:
    if values is None:
        return None
    vector = (
        torch.as_tensor(values, dtype=None if isinstance(values, Tensor) else torch.float32).detach().clone()
    )
    if vector.dim() != 1 or not vector.is_floating_point():
        raise LabelAssembleError(
            f"{name} must be one floating value a class, got {vector.dtype} of shape {list(vector.shape)}"
        )
    wrong = ~((vector >= 0) & vector.isfinite())
    if not vector.is_meta and bool(wrong.any()):
        raise LabelAssembleError(f"{name} must be finite and not negative, got {float(vector[wrong][0]):g}")
    return vector


def _class_matrix(exclusive: Tensor | Sequence[Sequence[bool]] | None) -> Tensor | None:
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


def _check_reduction(reduction: str) -> None:
    if reduction not in ("mean", "sum", "none"):
        raise LabelAssembleError(f"reduction must be mean, sum or none, got {reduction!r}")


class PartialLabelLoss(nn.Module):
    """Loss of Label-Assemble: cross-entropy where labels are known, pseudo-labels and consistency where not.

    total = mean over known of bce + pseudo_weight * mean over unknown of (a_w - s(a_w))^2
    + consistency_weight * mean over unknown of (a_s - s(a_w))^2  (arXiv 2109.12265, section 2.2), see
    `labelassemble.functional.partial_label_loss`. The weights are plain attributes that a schedule may set.

    The last three options are not the paper's. `strong_known`, as the authors' released code has it, lets known labels
    learn from both views: their cross-entropy is the mean of the two. `exclusive` makes the pseudo-label of a class 0
    where a class that excludes it is present, see `labelassemble.functional.excluded`.

    Args:
        threshold: tau, above which a probability is sharpened towards 1.
        temperature: t >= 1; 1 makes hard pseudo-labels, inf none.
        pseudo_weight: weight of the pseudo-label term; 0 skips it.
        consistency_weight: weight of the consistency term; 0 skips it.
        pos_weight: [C] weight of the positive part of the cross-entropy, by class.
        class_weight: [C] weight of every term, by class.
        detach_target: take pseudo-labels as constants in the gradient.
        reduction: "mean", "sum" or "none".
        strong_known: known labels learn from the strong view too.
        known_mean: "entry" for the mean over known labels, "class" for the mean over those of each class and then over
            the classes that have one; needs reduction "mean".
        exclusive: bool [C, C], True where two classes exclude each other; None where none do.

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
        pos_weight: Tensor | Sequence[float] | None = None,
        class_weight: Tensor | Sequence[float] | None = None,
        detach_target: bool = True,
        reduction: Reduction = "mean",
        strong_known: bool = False,
        known_mean: Literal["entry", "class"] = "entry",
        exclusive: Tensor | Sequence[Sequence[bool]] | None = None,
    ) -> None:
        super().__init__()
        if not 0 < threshold < 1:
            raise LabelAssembleError(f"threshold must lie between 0 and 1, got {threshold}")
        if not temperature >= 1:
            raise LabelAssembleError(f"temperature must be at least 1, got {temperature}")
        for name, weight in (("pseudo_weight", pseudo_weight), ("consistency_weight", consistency_weight)):
            if not 0 <= weight < float("inf"):
                raise LabelAssembleError(f"{name} must be finite and not negative, got {weight}")
        _check_reduction(reduction)
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
        self.strong_known = strong_known
        self.known_mean = known_mean
        self.register_buffer("pos_weight", _class_vector("pos_weight", pos_weight), persistent=False)
        self.register_buffer("class_weight", _class_vector("class_weight", class_weight), persistent=False)
        self.register_buffer("exclusive", _class_matrix(exclusive), persistent=False)

    def forward(
        self,
        logits_weak: Tensor,  # [B, C, *spatial]
        logits_strong: Tensor | None,  # [B, C, *spatial]
        targets: Tensor,  # [B, C, *spatial]
    ) -> Tensor:
        """Return the loss, see `labelassemble.functional.partial_label_loss`."""
        if torch.jit.is_scripting():  # type: ignore[attr-defined]
            if self.strong_known or self.known_mean != "entry" or self.exclusive is not None:
                raise RuntimeError("strong_known, known_mean class and exclusive cannot be scripted")
            loss: Tensor = torch.ops.labelassemble.partial_label_loss(
                logits_weak,
                logits_strong,
                targets,
                self.threshold,
                self.temperature,
                self.pseudo_weight,
                self.consistency_weight,
                self.pos_weight,
                self.class_weight,
                self.detach_target,
                self.reduction,
            )
            return loss
        else:
            return self._eager(logits_weak, logits_strong, targets)

    @torch.jit.unused
    def _eager(self, logits_weak: Tensor, logits_strong: Tensor | None, targets: Tensor) -> Tensor:
        options = self._options()
        if self._is_one_op(self.exclusive):
            return partial_label_loss(
                logits_weak, logits_strong, targets, **options._asdict(), reduction=self.reduction
            )
        if self.reduction != "none":
            return self.terms(logits_weak, logits_strong, targets).total
        return composed_entries(
            logits_weak,
            logits_strong,
            targets,
            options,
            strong_known=self.strong_known,
            exclusive=self.exclusive,
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
                one: the losses of the parts, and their gradients, then add up to those of the whole.
        """
        if self.reduction == "none":
            raise LabelAssembleError("terms need reduction mean or sum, got 'none'")
        exclusive = self.exclusive if exclusive is None else exclusive
        options = self._options()
        if counts is None and self._is_one_op(exclusive):
            return partial_label_loss_terms(
                logits_weak, logits_strong, targets, options, reduction=self.reduction
            )
        return composed_terms(
            logits_weak,
            logits_strong,
            targets,
            options,
            strong_known=self.strong_known,
            known_mean=self.known_mean,
            exclusive=exclusive,
            reduction=self.reduction,
            counts=counts,
        )

    @torch.jit.unused
    def _options(self) -> OpOptions:
        return OpOptions(
            self.threshold,
            self.temperature,
            self.pseudo_weight,
            self.consistency_weight,
            self.pos_weight,
            self.class_weight,
            self.detach_target,
        )

    @torch.jit.unused
    def _is_one_op(self, exclusive: Tensor | None) -> bool:
        """Return whether the fused op computes the loss by itself."""
        return not self.strong_known and self.known_mean == "entry" and exclusive is None

    def extra_repr(self) -> str:
        return (
            f"threshold={self.threshold}, temperature={self.temperature}, "
            f"pseudo_weight={self.pseudo_weight}, consistency_weight={self.consistency_weight}, "
            f"detach_target={self.detach_target}, reduction={self.reduction!r}, "
            f"strong_known={self.strong_known}, known_mean={self.known_mean!r}, "
            f"exclusive={self.exclusive is not None}"
        )


class MaskedBCEWithLogitsLoss(nn.Module):
    """nn.BCEWithLogitsLoss for targets of which some are unknown (NaN, or -1 in integers).

    Args:
        pos_weight: [C] weight of the positive part, by class.
        class_weight: [C] weight of the class.
        reduction: "mean" over known entries, "sum" or "none".

    Example:
        >>> import torch
        >>> from labelassemble.loss import MaskedBCEWithLogitsLoss
        >>> MaskedBCEWithLogitsLoss()(torch.zeros(2, 2), torch.tensor([[1, -1], [0, -1]]))
        tensor(0.6931)
    """

    pos_weight: Tensor | None
    class_weight: Tensor | None

    def __init__(
        self,
        *,
        pos_weight: Tensor | Sequence[float] | None = None,
        class_weight: Tensor | Sequence[float] | None = None,
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__()
        _check_reduction(reduction)
        self.reduction = reduction
        self.register_buffer("pos_weight", _class_vector("pos_weight", pos_weight), persistent=False)
        self.register_buffer("class_weight", _class_vector("class_weight", class_weight), persistent=False)

    def forward(
        self,
        logits: Tensor,  # [B, C, *spatial]
        targets: Tensor,  # [B, C, *spatial]
    ) -> Tensor:
        """Return the loss, see `labelassemble.functional.masked_bce_with_logits`."""
        if torch.jit.is_scripting():  # type: ignore[attr-defined]
            loss: Tensor = torch.ops.labelassemble.masked_bce_with_logits(
                logits, targets, self.pos_weight, self.class_weight, self.reduction
            )
            return loss
        else:
            return masked_bce_with_logits(
                logits,
                targets,
                pos_weight=self.pos_weight,
                class_weight=self.class_weight,
                reduction=self.reduction,
            )

    def extra_repr(self) -> str:
        return f"reduction={self.reduction!r}"
