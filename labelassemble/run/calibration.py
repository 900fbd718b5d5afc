"""The calibration of a run: one for all commands, chosen on its own validation images or at a site."""

import logging
from collections.abc import Sequence
from pathlib import Path

from labelassemble.data.csvfile import or_compressed
from labelassemble.data.predictions import Predictions
from labelassemble.data.table_io import read_predictions
from labelassemble.errors import LabelAssembleError
from labelassemble.evaluation.calibration import (
    CALIBRATION_FILE,
    Calibration,
    calibrate,
    read_calibration,
    write_calibration,
)
from labelassemble.run.folder import learns_from_masks
from labelassemble.training.checkpoint import checkpoint_sum

_log = logging.getLogger(__name__)


def calibration_in_use(run: Path) -> Calibration:
    """Return the calibration that every command on a run's folder answers with.

    It is that of calibration.json; without this file it is chosen anew from predictions.csv, and without validation
    predictions probabilities stay as the network gives them.

    Raises:
        LabelAssembleError: a file that is damaged, or that belongs to other weights than the best checkpoint.
    """
    path = run / CALIBRATION_FILE
    if path.exists():
        calibration = read_calibration(path)
        if calibration.checkpoint not in ("", checkpoint_sum(run / "checkpoints" / "best.pt")):
            raise LabelAssembleError(
                f"{path}: belongs to other weights than {run / 'checkpoints' / 'best.pt'}: "
                f"`labelassemble evaluate {run}` writes it anew"
            )
        return calibration
    predictions = or_compressed(run / "predictions.csv")
    if not predictions.exists():
        return Calibration()
    return calibrate(read_predictions(predictions), correct=not learns_from_masks(run))


def renewed_calibration(run: Path, predictions: Predictions, *, correct: bool = True) -> Calibration:
    """Write calibration.json anew from a run's own predictions, unless it is one of a site for the same weights.

    Args:
        run: its folder.
        predictions: of its own validation images, or patients.
        correct: as of `calibrate`.

    Returns:
        What is in use then.
    """
    weights = checkpoint_sum(run / "checkpoints" / "best.pt")
    site = site_calibration(run)
    if site is not None and site.checkpoint == weights:
        return site
    calibration = calibrate(predictions, checkpoint=weights, correct=correct)
    write_calibration(calibration, run / CALIBRATION_FILE)
    return calibration


def site_calibration(run: Path) -> Calibration | None:
    """Return the calibration that `labelassemble calibrate` left; None where the run's own is in use, or none."""
    try:
        calibration = read_calibration(run / CALIBRATION_FILE)
    except LabelAssembleError:  # none, or one that is to be replaced
        return None
    return calibration if calibration.data else None


def warn_of_no_threshold(calibration: Calibration, classes: Sequence[str]) -> None:
    """Warn before an export of the classes that get no threshold where others have one."""
    without = [name for name in classes if not calibration.of(name).thresholds]
    if 0 < len(without) < len(classes):
        _log.warning(
            "the export has no threshold for %s, since none could be chosen: it answers a score and no decision",
            ", ".join(f"'{name}'" for name in without),
        )
