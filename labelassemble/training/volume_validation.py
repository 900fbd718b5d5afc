"""The validation volumes, answered window by window and scored by their known voxels after every epoch."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from labelassemble.data import Table
from labelassemble.data.masks import value_targets
from labelassemble.models.segmentation.predict_volume import predict_volume
from labelassemble.training.distributed import Processes
from labelassemble.training.validation import Scores, mean_of_defined
from labelassemble.views.bad_files import BadFiles
from labelassemble.views.crops import Case
from labelassemble.views.volume_options import VolumeOptions
from labelassemble.views.volumes import VolumeStore

_BINS: Final = 1 << 14
_FARTHEST: Final = 20.0  # log-odds; probabilities beyond share the last bin
_CERTAIN: Final = (
    1e-7  # the smallest step below 1 in float32 keeps the logarithm of a certain wrong answer finite
)


class VoxelSums(NamedTuple):
    """What a case, or several, come to, by class.

    Attributes:
        loss: sum of the binary cross-entropy over known voxels, float64 [C].
        overlap: voxels that are drawn and called (probability above 0.5), int64 [C].
        called: known voxels that are called, int64 [C].
        histogram: known voxels without and with the class, by their log-odds, int64 [2, C, bins].
    """

    loss: NDArray[np.float64]
    overlap: NDArray[np.int64]
    called: NDArray[np.int64]
    histogram: NDArray[np.int64]


@dataclass(frozen=True)
class VolumeValidation:
    """The validation volumes or slices, and how they are scored.

    Attributes:
        table: the cases, with their masks; what is assumed or uncertain must be UNKNOWN: nothing is chosen by it.
        options: grid, patch and overlap.
        interest: columns of the classes by which the best checkpoint is chosen.
        bad_files: the files that cannot be read; they are left out.
        store: keeps the volumes in memory, as far as they fit.
    """

    table: Table
    options: VolumeOptions
    interest: Sequence[int]
    bad_files: BadFiles
    store: VolumeStore

    def scores(self, net: nn.Module, processes: Processes) -> Scores:
        """Return the scores of `net`, in float32 and eval mode; each process answers its share of the cases.

        The loss is the mean binary cross-entropy over all known voxels. AUROC (voxels, by their log-odds in steps of
        0.0024) and Dice (of what has a probability above 0.5) are of all known voxels of all cases together.

        Raises:
            LabelAssembleError: too many cases that cannot be read, or an answer that is not finite.
            OtherProcessFailed: another process raised one of these.
        """
        shares = processes.gather(processes.together(lambda: self._share(net, processes)))
        bad = sum(processes.gather(len(self.bad_files)))
        processes.together(lambda: self.bad_files.check(bad))
        losses = {row: loss for found, _ in shares for row, loss in found.items()}
        loss = sum((losses[row] for row in sorted(losses)), np.zeros(len(self.table.classes)))
        counts = [np.sum([sums[index] for _, sums in shares], axis=0) for index in range(3)]
        return scores_of(VoxelSums(loss, *counts), self.interest)

    def _share(
        self, net: nn.Module, processes: Processes
    ) -> tuple[dict[int, NDArray[np.float64]], tuple[NDArray[np.int64], ...]]:
        """Return the losses of this process's cases by row, and the sums of their counts."""
        classes = len(self.table.classes)
        losses, counts = {}, [np.zeros(classes, np.int64) for _ in range(2)]
        histogram = np.zeros((2, classes, _BINS), np.int64)
        for row in range(processes.rank, len(self.table), processes.count):
            case = self.store.get(row)
            if case is None:
                continue
            sums = self._case(net, row, case)
            losses[row] = sums.loss
            counts = [counts[0] + sums.overlap, counts[1] + sums.called]
            histogram += sums.histogram
        return losses, (*counts, histogram)

    def _case(self, net: nn.Module, row: int, case: Case) -> VoxelSums:
        image = torch.from_numpy(np.ascontiguousarray(case.image))[None]
        answer = predict_volume(net, image, self.options, name=str(self.table.paths[row])).numpy()
        largest, classes = int(case.mask.max(initial=0)), len(self.table.classes)
        known = value_targets(largest, self.table.drawn(row), self.table.labels[row], classes)
        return voxel_sums(answer, case.mask, known)


def voxel_sums(
    probabilities: NDArray[np.float32], mask: NDArray[np.integer], known: NDArray[np.float32]
) -> VoxelSums:
    """Return what a case comes to, a class at a time.

    Args:
        probabilities: float32 [C, *s].
        mask: [*s].
        known: what each value of the mask says of each class (`value_targets`), float32 [C, values].
    """
    classes = len(probabilities)
    loss = np.zeros(classes)
    overlap, called = np.zeros(classes, np.int64), np.zeros(classes, np.int64)
    histogram = np.zeros((2, classes, _BINS), np.int64)
    for column in range(classes):
        if np.isnan(known[column]).all():
            continue
        targets = known[column][mask].reshape(-1)
        there = ~np.isnan(targets)
        y = targets[there] > 0.5
        p = np.clip(probabilities[column].reshape(-1)[there].astype(np.float64), _CERTAIN, 1 - _CERTAIN)
        right = np.where(y, p, 1 - p)
        loss[column] = -np.log(right).sum()
        overlap[column] = np.count_nonzero(y & (p > 0.5))
        called[column] = np.count_nonzero(p > 0.5)
        odds = np.log(p / (1 - p))
        bins = np.clip((odds + _FARTHEST) * (_BINS / (2 * _FARTHEST)), 0, _BINS - 1).astype(np.int64)
        histogram[1, column] = np.bincount(bins[y], minlength=_BINS)
        histogram[0, column] = np.bincount(bins[~y], minlength=_BINS)
    return VoxelSums(loss, overlap, called, histogram)


def scores_of(sums: VoxelSums, interest: Sequence[int]) -> Scores:
    """Return the scores of all cases together."""
    without, drawn = sums.histogram.sum(axis=2)
    known = int((without + drawn).sum())
    classes = len(drawn)
    if not known:
        return Scores(None, (None,) * classes, None, None, (None,) * classes, None)
    aucs = tuple(_auroc(*sums.histogram[:, column]) for column in range(classes))
    dice = tuple(
        2 * int(sums.overlap[column]) / int(sums.called[column] + drawn[column]) if drawn[column] else None
        for column in range(classes)
    )
    return Scores(
        float(sums.loss.sum() / known),
        aucs,
        mean_of_defined(aucs),
        mean_of_defined([aucs[column] for column in interest]),
        dice,
        mean_of_defined([dice[column] for column in interest]),
    )


def _auroc(negative: NDArray[np.int64], positive: NDArray[np.int64]) -> float | None:
    """Return the area under the ROC curve of two histograms, ties of a bin counted half."""
    pairs = int(negative.sum()) * int(positive.sum())
    if not pairs:
        return None
    below = np.cumsum(negative) - negative
    return float((positive * (below + negative / 2)).sum() / pairs)
