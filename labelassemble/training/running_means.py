"""The running means of an epoch, read from the device every few steps."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from labelassemble.errors import LabelAssembleError
from labelassemble.loss import LossTerms
from labelassemble.ops.class_sums import class_sums
from labelassemble.training.accumulate import Counts, by_class_of
from labelassemble.training.distributed import OtherProcessFailed, Processes
from labelassemble.training.losses import raise_refused

_TERMS = ("bce", "pseudo", "consistency", "dice")
_NAMED = 64  # files named in an error


@dataclass
class EpochSums:
    """Sums over the steps of an epoch, of all processes.

    Attributes:
        steps: steps done.
        images: images trained on.
        terms: total, bce, pseudo and consistency (the latter two without their weights).
        known: known labels.
        unknown: unknown labels.
        positive: unknown labels that the pseudo-labels put on the positive side, by class.
        open: unknown labels, by class.
        dice: the Dice term (without its weight).
    """

    steps: int = 0
    images: int = 0
    terms: list[float] = field(default_factory=lambda: [0.0] * 4)
    known: int = 0
    unknown: int = 0
    positive: list[float] = field(default_factory=list)
    open: list[float] = field(default_factory=list)
    dice: float = 0.0

    def mean(self, term: int) -> float:
        """Return a term's mean over the steps."""
        return self.terms[term] / max(self.steps, 1)

    def positive_shares(self) -> tuple[float | None, ...]:
        """Return the share of a class's unknown labels on the positive side; None for a class that has none."""
        return tuple(p / n if n else None for p, n in zip(self.positive, self.open, strict=True))


def step_record(
    terms: LossTerms,
    logits: Tensor,
    targets: Tensor,
    threshold: float,
    dice: Tensor | None = None,
    sums: Tensor | None = None,
) -> Tensor:
    """Return what a step or a part of one comes to, float64 [5 + 3 C], on the device: parts and processes add up.

    The four terms, then by class: unknown labels that the pseudo-labels put on the positive side (a > tau), unknown
    labels, and logits that are not finite; at the end the Dice term. Logits and targets are [B, C, *spatial]; `sums`
    are their `class_sums`, where the caller has them.
    """
    values = torch.stack([terms.total.detach().double(), terms.bce, terms.pseudo, terms.consistency])
    last = values.new_zeros(1) if dice is None else dice.reshape(1)
    logits = logits.detach()
    if sums is None and logits.dim() > 2 and logits.device.type == "cpu":  # elsewhere three masks cost less
        sums = class_sums(logits, targets, threshold)
    if sums is not None:
        unknown_by_class = logits.numel() // max(logits.shape[1], 1) - sums[3]
        return torch.cat([values, sums[4], unknown_by_class, sums[5], last])
    unknown = torch.isnan(targets)
    flags = (unknown & (torch.sigmoid(logits) > threshold), unknown, ~torch.isfinite(logits))
    return torch.cat([values, *(by_class_of(flag).double() for flag in flags), last])


class RunningMeans:
    """Adds up the steps of an epoch and finds the first whose loss is not finite.

    Args:
        classes: names of the C classes.
        paths: files of the training images, to name those of a bad step.
        processes: whose records are added.
    """

    def __init__(self, classes: Sequence[str], paths: Sequence[str], processes: Processes) -> None:
        self._classes = classes
        self._paths = paths
        self._processes = processes
        self._pending: list[tuple[int, Tensor, Tensor, Counts]] = []
        self.last: list[float] = [0.0] * 4  # the terms of the step read last
        self.begin()

    def __len__(self) -> int:
        """Return how many steps are not read yet."""
        return len(self._pending)

    def begin(self, sums: dict[str, Any] | None = None) -> None:
        """Begin an epoch, or go on with one whose sums a checkpoint kept."""
        none = [0.0] * len(self._classes)
        self.sums = EpochSums(positive=list(none), open=list(none)) if sums is None else EpochSums(**sums)

    def empty_record(self, device: torch.device) -> Tensor:
        """Return a record of nothing, to add those of the parts of a step to."""
        return torch.zeros(5 + 3 * len(self._classes), dtype=torch.float64, device=device)

    def add(self, step: int, rows: Tensor, record: Tensor, counts: Counts) -> None:
        """Note a step: its images on this process, what `step_record` gave, and the counts of all processes."""
        self._pending.append((step, rows, record, counts))

    def read(self, epoch: int) -> int:
        """Fetch what was noted, add it up, and return how many images it was; all processes must call it together.

        Raises:
            LabelAssembleError: a loss is not finite; names the step, the terms, the classes and the files.
        """
        if not self._pending:
            return 0
        images = self.sums.images
        records = torch.stack([record for _, _, record, _ in self._pending]).tolist()
        width = len(records[0])
        flat = self._processes.sum([value for record in records for value in record])
        classes = len(self._classes)
        for index, (step, rows, _, counts) in enumerate(self._pending):
            record = flat[index * width : (index + 1) * width]
            if not math.isfinite(record[0]):
                self._stop(epoch, step, record, [self._paths[row] for row in rows.tolist()])
            self.last = record[:4]
            sums = self.sums
            sums.steps += 1
            sums.images += counts.images
            sums.known += counts.known
            sums.unknown += counts.unknown
            sums.terms = [a + b for a, b in zip(sums.terms, self.last, strict=True)]
            sums.positive = [a + b for a, b in zip(sums.positive, record[4 : 4 + classes], strict=True)]
            sums.open = [a + b for a, b in zip(sums.open, record[4 + classes : 4 + 2 * classes], strict=True)]
            sums.dice += record[-1]
        self._pending.clear()
        return self.sums.images - images

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint keeps; everything must have been read."""
        assert not self._pending
        return asdict(self.sums)

    def _stop(self, epoch: int, step: int, record: Sequence[float], files: list[str]) -> None:
        """Raise in the first process, with the files of all."""
        files = [file for part in self._processes.gather(files) for file in part]
        if not self._processes.first:
            raise OtherProcessFailed
        terms = [
            name
            for name, value in zip(_TERMS, [*record[1:4], record[-1]], strict=True)
            if not math.isfinite(value)
        ]
        bad = [
            name
            for name, count in zip(self._classes, record[-len(self._classes) - 1 : -1], strict=True)
            if count > 0
        ]
        cause = "lower train.lr or set train.clip_norm"
        try:
            raise_refused(self._pending[0][2].device)
        except LabelAssembleError as error:
            cause = str(error)
        more = f" and {len(files) - _NAMED} more" if len(files) > _NAMED else ""
        raise LabelAssembleError(
            f"the loss is {record[0]} in epoch {epoch + 1}, step {step + 1}: {cause}; "
            f"not finite: {', '.join(terms) or 'the sum of the terms'}"
            + (f", logits of {', '.join(bad)}" if bad else "")
            + f"; images of the batch: {', '.join(files[:_NAMED])}{more}; "
            "the checkpoints hold the state before it"
        )
