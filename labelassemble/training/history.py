"""metrics.csv: one row per epoch."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from labelassemble._files import write_text

PSEUDO_POSITIVE = "pseudo_positive:"
"""Stands before a class in the name of its column."""
DICE = "val_dice_interest"  # of volumes alone


@dataclass(frozen=True)
class EpochRow:
    """What an epoch came to.

    Attributes:
        epoch: from 1.
        step: steps done since training began.
        seconds: time spent training and validating since training began, interruptions left out.
        learning_rate: in force during the epoch.
        pseudo_weight: of the pseudo-label term during the epoch.
        consistency_weight: of the consistency term during the epoch.
        train_loss: mean over the steps of the total.
        train_bce: mean over the steps of the term for known labels.
        train_pseudo: likewise, for pseudo-labels (without its weight).
        train_consistency: likewise, for consistency (without its weight).
        train_known: known labels in the epoch's batches.
        train_unknown: unknown labels in the epoch's batches.
        val_loss: binary cross-entropy over the known validation labels; None without any.
        val_auc_mean: mean AUROC over the classes that have one on validation; None if none has.
        val_auc_interest: likewise, over the classes of interest.
        images_per_second: training images per second, validation left out; not in the file.
        val_auc: AUROC of each class; None = not defined (one state only).
        pseudo_positive: share of a class's unknown labels that the pseudo-labels put on the positive side, the others
            on the negative one; None in warm-up, and for a class without unknown labels or without pseudo-labels.
        train_dice: mean over the steps of the Dice term (without its weight); None without that term.
        val_dice_interest: of volumes, mean Dice at 0.5 over the classes of interest that have one.
        val_dice: of volumes, Dice of each class over the known voxels; None = not defined (none is positive).
    """

    epoch: int
    step: int
    seconds: float
    learning_rate: float
    pseudo_weight: float
    consistency_weight: float
    train_loss: float
    train_bce: float
    train_pseudo: float
    train_consistency: float
    train_known: int
    train_unknown: int
    val_loss: float | None
    val_auc_mean: float | None
    val_auc_interest: float | None
    images_per_second: float
    val_auc: tuple[float | None, ...]
    pseudo_positive: tuple[float | None, ...]
    train_dice: float | None = None
    val_dice_interest: float | None = None
    val_dice: tuple[float | None, ...] = ()


COLUMNS = tuple(item.name for item in fields(EpochRow))[:-6]
"""The columns of metrics.csv; the columns of each class follow them, and with volumes those of Dice."""
_OF_VOLUMES = ("train_dice", DICE)


class History:
    """The file, kept whole: each row is added by writing the file anew and renaming it.

    Args:
        path: metrics.csv of the run.
        classes: names of the classes.
        epochs: rows of an earlier part of the run to keep (those of epochs up to this one).
        volumes: whether there are columns of Dice.
    """

    def __init__(self, path: Path, classes: Sequence[str], *, epochs: int = 0, volumes: bool = False) -> None:
        self._path = path
        by_class = [prefix + name for prefix in ("val_auc:", PSEUDO_POSITIVE) for name in classes]
        self._volumes = volumes
        dice = [*_OF_VOLUMES, *(f"val_dice:{name}" for name in classes)] if volumes else []
        self._rows: list[list[str]] = [[*COLUMNS, *by_class, *dice]]
        if epochs > 0 and path.exists():
            with path.open(newline="", encoding="utf-8") as file:
                rows = list(csv.reader(file))[1:]
            self._rows += [row for row in rows if int(row[0]) <= epochs]

    def add(self, row: EpochRow) -> None:
        """Write `row` after the others.

        Raises:
            LabelAssembleError: the file cannot be written (a full disk, say); the old one is untouched.
        """
        values = [*(getattr(row, name) for name in COLUMNS), *row.val_auc, *row.pseudo_positive]
        if self._volumes:
            values += [*(getattr(row, name) for name in _OF_VOLUMES), *row.val_dice]
        self._rows.append(["" if value is None else _text(value) for value in values])
        buffer = io.StringIO()
        csv.writer(buffer, lineterminator="\n").writerows(self._rows)
        write_text(self._path, buffer.getvalue())


def _text(value: float | int) -> str:
    return str(value) if isinstance(value, int) else f"{value:.9g}"
