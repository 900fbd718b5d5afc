"""The loss as the authors' released code computes it, for the comparison with the paper's; not a public one."""

import torch
from torch import Tensor

from labelassemble.errors import LabelAssembleError
from labelassemble.functional import LossTerms, masked_bce_with_logits, sharpen
from labelassemble.loss import LossCounts, PartialLabelLoss


class ReleasedLoss(PartialLabelLoss):
    """The three terms of the paper, all of them on labelled cells.

    With K known cells, a = sigmoid(logits) of the weak (w) and the strong (s) view and s() the sharpening of
    `labelassemble.functional.sharpen`:

        total = 1/K * sum over known of bce + pseudo_weight (a_w - s(a_w))^2 + consistency_weight (a_s - s(a_w))^2

    So does SemiLoss in loss.py of github.com/MrGiovanni/LabelAssemble (commit 13d2549): its loop passes over the
    labelled cells, those of the source and the classes that it is told to learn, adds all three terms of each and
    divides by their number. An unknown cell adds nothing, so that nothing is learned from it. The released code
    differentiates through s(a_w), which is `detach_target=False` here, has both weights at 1 and no warm-up.

    Its terms are means over the whole batch: those of a batch's parts do not add up, so `train.accumulate` must be 1.

    Args:
        As `PartialLabelLoss`; reduction is "mean".
    """

    def forward(
        self,
        logits_weak: Tensor,  # [B, C]
        logits_strong: Tensor | None,  # [B, C]
        targets: Tensor,  # [B, C], floating, NaN = unknown
        counts: LossCounts | None = None,
    ) -> Tensor:
        """Return the loss, a scalar."""
        return self.terms(logits_weak, logits_strong, targets, counts=counts).total

    def terms(
        self,
        logits_weak: Tensor,  # [B, C]
        logits_strong: Tensor | None,  # [B, C]
        targets: Tensor,  # [B, C], floating, NaN = unknown
        *,
        exclusive: Tensor | None = None,
        counts: LossCounts | None = None,
    ) -> LossTerms:
        """Return the loss, its terms over the known cells before their weights, and the counts of cells."""
        if exclusive is not None or counts is not None:
            raise LabelAssembleError(
                "the released loss knows no classes that exclude each other, and no parts of a batch"
            )
        known = ~torch.isnan(targets)
        count = known.sum().clamp(min=1)
        bce = masked_bce_with_logits(
            logits_weak, targets, pos_weight=self.pos_weight, class_weight=self.class_weight
        )
        weight = known.to(logits_weak.dtype)
        if self.class_weight is not None:
            weight = weight * self.class_weight.to(weight.dtype)
        weak = torch.sigmoid(logits_weak)
        sharpened = sharpen(weak, threshold=self.threshold, temperature=self.temperature)
        sharpened = sharpened.detach() if self.detach_target else sharpened
        total, zero = bce, bce.detach() * 0
        pseudo = consistency = zero
        if self.pseudo_weight != 0:
            pseudo = (weight * (weak - sharpened) ** 2).sum() / count
            total = total + self.pseudo_weight * pseudo
        if self.consistency_weight != 0 and logits_strong is not None:
            consistency = (weight * (torch.sigmoid(logits_strong) - sharpened) ** 2).sum() / count
            total = total + self.consistency_weight * consistency
        logged = (bce, pseudo, consistency, known.sum(), (~known).sum())
        return LossTerms(total, *(value.detach().double() for value in logged))
