"""The validation images, scored after every epoch."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import nn

from labelassemble.models.predict import predict
from labelassemble.training.distributed import Processes
from labelassemble.views.bad_files import BadFiles
from labelassemble.views.options import ViewOptions


@dataclass(frozen=True)
class Validation:
    """The validation images, and how they are scored.

    Attributes:
        paths: the files.
        targets: float32 [N, C], NaN = unknown.
        views: options of the deterministic view.
        auroc: gives the AUROC of each class from probabilities and targets, both [N, C]; None = not defined.
        interest: columns of the classes by which the best checkpoint is chosen.
        bad_files: the files that cannot be read; they are left out.
    """

    paths: Sequence[str]
    targets: np.ndarray
    views: ViewOptions
    auroc: Callable[[np.ndarray, np.ndarray], Sequence[float | None]]
    interest: Sequence[int]
    bad_files: BadFiles

    def scores(self, net: nn.Module, processes: Processes) -> "Scores":
        """Return the scores of `net`, see `validate`."""
        return validate(net, self, processes)


class Scores(NamedTuple):
    """What validation came to; None where something is not defined.

    Attributes:
        loss: binary cross-entropy over the known labels.
        auc: AUROC of each class.
        auc_mean: mean over the classes that have one.
        auc_interest: mean over the classes of interest that have one.
        dice: Dice of each class over the known voxels; empty for images.
        dice_interest: mean over the classes of interest that have one.
    """

    loss: float | None
    auc: tuple[float | None, ...]
    auc_mean: float | None
    auc_interest: float | None
    dice: tuple[float | None, ...] = ()
    dice_interest: float | None = None


class Scored(Protocol):
    """What is scored after every epoch: images, or volumes."""

    def scores(self, net: nn.Module, processes: Processes) -> Scores:
        """Return the scores of `net`; all processes must call it together."""
        ...


def validate(net: nn.Module, validation: Validation, processes: Processes) -> Scores:
    """Return the scores of `net`, in float32 and eval mode; each process predicts its share of the images.

    Raises:
        LabelAssembleError: too many images that cannot be read, or an answer that is not finite.
        OtherProcessFailed: another process raised one of these.
    """
    shares = processes.gather(processes.together(lambda: _predict_share(net, validation, processes)))
    bad = sum(processes.gather(len(validation.bad_files)))
    processes.together(lambda: validation.bad_files.check(bad))

    def score() -> Scores:
        classes = validation.targets.shape[1]
        probabilities = np.full((len(validation.paths), classes), np.nan)
        read = np.zeros(len(validation.paths), dtype=np.bool_)
        for rank, (share, readable) in enumerate(shares):
            probabilities[rank :: processes.count] = share
            read[rank :: processes.count] = readable
        return score_images(probabilities[read], validation.targets[read], validation)

    return processes.from_first(score)  # computed once, so that no two processes can come to differ


def _predict_share(
    net: nn.Module, validation: Validation, processes: Processes
) -> tuple[np.ndarray, NDArray[np.bool_]]:
    """Return the probabilities of this process's images, and which of them can be read."""
    paths = validation.paths[processes.rank :: processes.count]
    if not paths:
        return np.empty((0, validation.targets.shape[1])), np.empty(0, dtype=np.bool_)
    bad_files = validation.bad_files  # of this process's images alone
    return predict(net, paths, validation.views, bad_files=bad_files), bad_files.readable(len(paths))


def score_images(probabilities: np.ndarray, targets: np.ndarray, validation: Validation) -> Scores:
    """Return the scores of images that could be read, by their probabilities and targets, both [N, C]."""
    known = ~np.isnan(targets)
    if not known.any():
        return Scores(None, (None,) * targets.shape[1], None, None)
    y = targets[known].astype(np.float64)
    # The smallest step below 1 in float64 keeps the logarithm of a certain wrong answer finite.
    p = np.clip(probabilities[known], 1e-15, 1.0 - 1e-15)
    bce = float(-(y * np.log(p) + (1.0 - y) * np.log1p(-p)).mean())
    aucs = tuple(validation.auroc(probabilities, targets))
    return Scores(
        bce, aucs, mean_of_defined(aucs), mean_of_defined([aucs[column] for column in validation.interest])
    )


def mean_of_defined(values: Sequence[float | None]) -> float | None:
    defined = [value for value in values if value is not None]
    return sum(defined) / len(defined) if defined else None
