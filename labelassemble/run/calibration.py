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
    OperatingRule,
    calibrate,
    read_calibration,
    write_calibration,
)
from labelassemble.run.folder import learns_from_masks
from labelassemble.run.segment import detection_options
from labelassemble.training.checkpoint import checkpoint_sum

_log = logging.getLogger(__name__)


def calibration_in_use(run: Path) -> Calibration:
    """Return the calibration that every command on a run's folder answers with.

    It is that of calibration.json; without this file it is chosen anew from predictions.csv, and without validation
    predictions probabilities stay as the network gives them.

    Raises:
        LabelAssembleError: a file that is damaged, or that belongs to other weights than the best checkpoint, or to
            other scores of patients than those of config.yaml.
    """
    path = run / CALIBRATION_FILE
    if path.exists():
        calibration = read_calibration(path)
        _check_current(calibration, run)
        return calibration
    predictions = own_predictions(run)
    if predictions is None:
        return Calibration()
    return calibrate(predictions, score=score_of(run), correct=not learns_from_masks(run))


def own_predictions(run: Path) -> Predictions | None:
    """Return predictions.csv of a run's folder, None without one.

    Raises:
        LabelAssembleError: it belongs to other weights or scores, by the calibration.json that was written with it.
    """
    path = or_compressed(run / "predictions.csv")
    if not path.exists():
        return None
    calibration = _last_calibration(run)
    if calibration is not None:
        _check_current(calibration, run)
    return read_predictions(path)


def score_of(run: Path) -> str:
    """Return how a run scores patients, as a calibration keeps it; "" of a run on images."""
    return detection_options(run).score if learns_from_masks(run) else ""


def renewed_calibration(
    run: Path, predictions: Predictions, *, score: str = "", correct: bool = True
) -> Calibration:
    """Write calibration.json anew from a run's own predictions, unless it is one of a site for the same weights.

    Warns where one of a site is given up, since it belongs to other weights or scores.

    Args:
        run: its folder.
        predictions: of its own validation images, or patients.
        score: as of `calibrate`.
        correct: as of `calibrate`.

    Returns:
        What is in use then.
    """
    weights = checkpoint_sum(run / "checkpoints" / "best.pt")
    last = _last_calibration(run)
    if last is not None and last.data:
        other = _difference(last, weights, score)
        if not other:
            return last
        _log.warning(
            "the thresholds of “%s” belong to other %s, so those of the run's own validation %s are in use: "
            "`labelassemble calibrate %s --data` chooses a site's anew",
            *(last.data, other, "patients" if score else "images", run),
        )
    calibration = calibrate(predictions, checkpoint=weights, score=score, correct=correct)
    write_calibration(calibration, run / CALIBRATION_FILE)
    return calibration


def _last_calibration(run: Path) -> Calibration | None:
    try:
        return read_calibration(run / CALIBRATION_FILE)
    except LabelAssembleError:  # none, or one that is to be replaced
        return None


def _difference(calibration: Calibration, weights: str, score: str) -> str:
    """Return in what a calibration is not that of some weights and scores: "weights", "scores" or "" (it is)."""
    if calibration.checkpoint not in ("", weights):
        return "weights"
    return "scores" if calibration.score not in ("", score) else ""


def _check_current(calibration: Calibration, run: Path) -> None:
    weights = checkpoint_sum(run / "checkpoints" / "best.pt")
    # Of a run on images no checkpoint is loaded to learn that it has no scores of patients.
    score = detection_options(run).score if calibration.score else ""
    other = _difference(calibration, weights, score)
    path = run / CALIBRATION_FILE
    if other == "weights":
        raise LabelAssembleError(
            f"{path}: belongs to other weights than {run / 'checkpoints' / 'best.pt'}: "
            f"`labelassemble evaluate {run}` writes it anew"
        )
    if other:
        raise LabelAssembleError(
            f"{path}: belongs to other scores of patients ({calibration.score}) than {run / 'config.yaml'} asks for "
            f"({score}): `labelassemble evaluate {run}` writes it anew"
        )


def exported_thresholds(
    calibration: Calibration, classes: Sequence[str], specificity: float | None
) -> dict[str, float | None] | None:
    """Return the thresholds of an export, and warn of the classes that get none where others have one.

    Args:
        calibration: as it is in use.
        classes: of the export.
        specificity: that the thresholds are for; default: the operating point of the calibration.

    Raises:
        LabelAssembleError: thresholds were chosen for other specificities only.
    """
    rule = None if specificity is None else str(OperatingRule("specificity", specificity))
    found = calibration.thresholds(classes, rule)
    without = [name for name in classes if found is None or found[name] is None]
    if without and any(calibration.of(name).thresholds for name in classes):
        _log.warning(
            "the export has no threshold for %s, since none could be chosen for %s: it answers a score and no decision",
            ", ".join(f"'{name}'" for name in without),
            rule or calibration.at,
        )
    return found
