"""When the terms for unknown labels come in, and when training ends."""

from dataclasses import dataclass, replace
from typing import NamedTuple

from labelassemble.loss_options import LossOptions


class TermWeights(NamedTuple):
    """Weights of the two terms for unknown labels."""

    pseudo: float
    consistency: float


def term_weights(epoch: int, options: LossOptions) -> TermWeights:
    """Return the weights in `epoch` (from 0): 0 in warm-up, then the full ones, over a linear ramp if there is one."""
    after = epoch - options.warmup_epochs
    if after < 0:
        return TermWeights(0.0, 0.0)
    share = 1.0 if options.ramp_epochs == 0 else min(1.0, (after + 1) / options.ramp_epochs)
    return TermWeights(share * options.pseudo_weight, share * options.consistency_weight)


def needs_strong(epoch: int, options: LossOptions) -> bool:
    """Return whether the loss looks at the strong view in `epoch` (from 0)."""
    return term_weights(epoch, options).consistency > 0 or options.strong_known


@dataclass(frozen=True)
class Best:
    """The best epoch so far, and how long the validation loss has not fallen.

    The best checkpoint has the highest AUC of the classes of interest on validation, and of equal ones the lowest
    validation loss; where no AUC is defined the loss alone decides. The test images have no say. Of volumes the Dice at
    0.5 takes the place of the AUC.
    """

    epoch: int = -1
    auc: float | None = None
    loss: float = float("inf")
    lowest_loss: float = float("inf")
    epochs_without_fall: int = 0

    def update(self, epoch: int, auc: float | None, loss: float, *, counting: bool) -> "Best":
        """Return the state after an epoch; it is the new best if its `epoch` is this one.

        Args:
            epoch: the epoch that ended.
            auc: mean validation AUC (Dice of volumes) over the classes of interest that have one.
            loss: validation loss.
            counting: whether an epoch without a fall counts (not in warm-up).
        """
        ahead = (auc if auc is not None else -1.0, -loss) > (
            self.auc if self.auc is not None else -1.0,
            -self.loss,
        )
        state = self
        if ahead or self.epoch < 0:
            state = replace(state, epoch=epoch, auc=auc, loss=loss)
        if loss < self.lowest_loss:
            return replace(state, lowest_loss=loss, epochs_without_fall=0)
        return replace(state, epochs_without_fall=self.epochs_without_fall + 1 if counting else 0)
