"""The loss of a training step: what the options, the labels of the training images and their rules make of it."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from labelassemble.errors import LabelAssembleError
from labelassemble.functional import partial_label_loss
from labelassemble.loss import LossOptions, LossTerms, PartialLabelLoss
from labelassemble.ops.class_sums import class_sums
from labelassemble.ops.composed_loss import silenced
from labelassemble.training.accumulate import Counts, count
from labelassemble.training.class_weights import class_weights
from labelassemble.training.data import TrainingData
from labelassemble.training.dice import soft_dice_loss
from labelassemble.training.distributed import SINGLE_PROCESS, Processes
from labelassemble.training.schedule import TermWeights, needs_strong, term_weights

_EARLIER = "in an earlier call on CUDA"  # in what the op raises of one

_log = logging.getLogger(__name__)


class StepTerms(NamedTuple):
    """What a step or a part of one comes to.

    Attributes:
        loss: the terms of the loss; its total has the Dice term in it.
        dice: 1 - Dice before its weight, float64 []; None where the weight is 0.
        sums: of the weak view's voxels (`class_sums`), float64 [6, C] without gradient; None where the weight is 0.
    """

    loss: LossTerms
    dice: Tensor | None = None
    sums: Tensor | None = None

    @property
    def total(self) -> Tensor:
        """What is minimised."""
        return self.loss.total


class StepLoss:
    """The loss of a step or of a part of one, epoch by epoch.

    Args:
        options: weights, threshold, temperature, warm-up and what is not the paper's.
        data: the training images.
        device: where the logits are.
        criterion: the class of the loss, made anew each epoch.
        processes: that train together.

    Attributes:
        options: as given.
        positives: labelled positives, by class.
        withheld: classes whose pseudo-labels are withheld, bool [C] on the device; None for none.
        weights: of the terms for unknown labels, in this epoch.
        strong: whether the loss looks at the strong view, in this epoch.
        criterion: the loss with the weights of this epoch.
    """

    def __init__(
        self,
        options: LossOptions,
        data: TrainingData,
        device: torch.device,
        criterion: type[PartialLabelLoss] = PartialLabelLoss,
        processes: Processes = SINGLE_PROCESS,
    ) -> None:
        self.options = options
        self._processes = processes
        self._classes = data.classes
        self._device = device
        self._kind = criterion
        weights = class_weights(options, data.classes, data.targets, data.voxels)
        self._pos_weight, self._class_weight = (
            None if weight is None else weight.to(device) for weight in weights
        )
        self.positives = labelled_positives(data.targets)
        withheld = withheld_classes(self.positives, options.min_positives)
        self.withheld = None if withheld is None else withheld.to(device)
        self._matrices: Tensor | None = None
        self._rows: Tensor | None = None
        exclusions = data.exclusions
        if options.exclusive and exclusions is not None and exclusions:
            self._matrices = torch.from_numpy(exclusions.matrices).to(device)
            self._rows = torch.from_numpy(exclusions.rows).to(device)
        self.begin(0)

    def begin(self, epoch: int) -> None:
        """Set the weights of an epoch, from 0."""
        options = self.options
        self.weights: TermWeights = term_weights(epoch, options)
        self.strong: bool = needs_strong(epoch, options)
        self.criterion = self._kind(
            threshold=options.threshold,
            temperature=options.temperature,
            pseudo_weight=self.weights.pseudo,
            consistency_weight=self.weights.consistency,
            pos_weight=self._pos_weight,
            class_weight=self._class_weight,
            detach_target=options.detach_target,
            strong_known=options.strong_known,
            known_mean=options.known_mean,
        ).to(self._device)

    def terms(
        self,
        logits_weak: Tensor,  # [B, C, *spatial]
        logits_strong: Tensor | None,  # [B, C, *spatial]
        targets: Tensor,  # [B, C, *spatial]
        *,
        rows: Tensor,  # int64 [B]
        part: Counts,
        whole: Counts,
    ) -> StepTerms:
        """Return what a part adds to the loss of the whole batch.

        Args:
            logits_weak: of the part's weak views.
            logits_strong: of its strong views, or None.
            targets: of its images, on the device.
            rows: its images among the training images; those on the device need no copy.
            part: what the part holds.
            whole: what the whole batch holds.
        """
        weak, strong = logits_weak, logits_strong
        if self.withheld is not None:
            weak, strong = withhold(weak, strong, targets, self.withheld)
        terms = self.criterion.terms(
            weak, strong, targets, exclusive=self._exclusive(rows), counts=whole.divisors(part)
        )
        if self.options.dice_weight == 0:
            return StepTerms(terms)
        views = [logits_weak]
        if self.options.strong_known and logits_strong is not None:
            views.append(logits_strong)
        sums = [class_sums(view, targets, self.options.threshold) for view in views]
        dice = torch.stack(
            [
                soft_dice_loss(
                    view,
                    targets,
                    class_weight=self._class_weight,
                    images=whole.images,
                    processes=self._processes,
                    sums=of_view,
                )
                for view, of_view in zip(views, sums, strict=True)
            ]
        ).mean()
        total = terms.total + self.options.dice_weight * dice
        return StepTerms(terms._replace(total=total), dice.detach().double(), sums[0].detach())

    def count(self, targets: Tensor) -> Counts:
        """Return what targets [B, C, *spatial] hold, as far as the loss divides by it."""
        return count(targets, by_class=self.options.known_mean == "class")

    def _exclusive(self, rows: Tensor) -> Tensor | None:
        """Return which classes exclude each other, bool [C, C] or [B, C, C]; None where that makes no difference."""
        if self._matrices is None or self._rows is None or not any(self.weights):
            return None
        if len(self._matrices) == 1:
            return self._matrices[0]
        return self._matrices[self._rows[rows]]

    def without_withheld(self, shares: tuple[float | None, ...]) -> tuple[float | None, ...]:
        """Return shares by class, None for a class whose pseudo-labels are withheld."""
        if self.withheld is None:
            return shares
        return tuple(
            None if out else share for share, out in zip(shares, self.withheld.tolist(), strict=True)
        )

    def log_withheld(self) -> None:
        """Log which classes get no pseudo-labels."""
        if self.withheld is None:
            return
        few = zip(self._classes, self.positives, self.withheld.tolist(), strict=True)
        named = ", ".join(f"'{name}' ({count})" for name, count, out in few if out)
        _log.info(
            "no pseudo-labels for classes with fewer than %d labelled positives: %s",
            self.options.min_positives,
            named,
        )


def raise_refused(device: torch.device) -> None:
    """Raise what the loss has refused on a GPU and no later call has told.

    A kernel cannot raise, so the next call of the op does, whatever its values are; a CUDA graph is replayed without
    calls. Elsewhere the op raises at once, and this does nothing.

    Raises:
        LabelAssembleError: a target outside 0 to 1, or a weight that is not allowed.
    """
    nothing = torch.zeros((1, 1), device=device)
    with refused_is_an_error():
        partial_label_loss(nothing, None, nothing)


@contextmanager
def refused_is_an_error() -> Iterator[None]:
    """Within this context what an earlier call of the loss refused on a GPU is one sentence for the user.

    Raises:
        LabelAssembleError: instead of the op's RuntimeError.
    """
    try:
        yield
    except RuntimeError as error:
        if _EARLIER not in str(error):
            raise
        raise LabelAssembleError(str(error).splitlines()[0]) from error


def labelled_positives(targets: np.ndarray) -> list[int]:
    """Return how many of targets [N, C] (NaN = unknown) are positive, by class; a soft one above a half is."""
    return [int(count) for count in (targets > 0.5).sum(axis=0)]


def withheld_classes(positives: Sequence[int], at_least: int) -> Tensor | None:
    """Return bool [C], True for a class with fewer labelled positives than `at_least`; None if no class has fewer."""
    withheld = torch.tensor([count < at_least for count in positives])
    return withheld if bool(withheld.any()) else None


def withhold(
    logits_weak: Tensor,  # [B, C, *spatial]
    logits_strong: Tensor | None,  # [B, C, *spatial]
    targets: Tensor,  # [B, C, *spatial], NaN = unknown
    withheld: Tensor,  # bool [C]
) -> tuple[Tensor, Tensor | None]:
    """Return the logits for the loss, where a withheld class's unknown labels count nothing in any term.

    Their value and their gradient in both terms for unknown labels are exactly zero; they still count in the divisor,
    as with a class weight of 0, so that the other classes' terms stay what they are.
    """
    silent = torch.isnan(targets) & withheld.reshape(-1, *[1] * (targets.dim() - 2))
    return silenced(logits_weak, silent), None if logits_strong is None else silenced(logits_strong, silent)
