"""Calibration and thresholds chosen at a site: on some of its patients, measured on the others."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
from rich.console import Console

from labelassemble.config import Config
from labelassemble.data.csvfile import or_compressed
from labelassemble.data.predictions import Predictions
from labelassemble.data.table import Table
from labelassemble.data.text import text_array, text_codes, uniform_numbers
from labelassemble.errors import LabelAssembleError
from labelassemble.evaluation.calibration import (
    CALIBRATION_FILE,
    Calibration,
    OperatingRule,
    calibrate,
    write_calibration,
)
from labelassemble.evaluation.external import External
from labelassemble.evaluation.operating import check_prevalence
from labelassemble.export.formats import ExportFormat
from labelassemble.export.metadata import load_metadata
from labelassemble.report.detection import DetectionResults
from labelassemble.report.format import plural
from labelassemble.report.record import Results
from labelassemble.run.calibration import own_predictions, score_of
from labelassemble.run.detection import OtherCases, open_other_cases
from labelassemble.run.export import export_run
from labelassemble.run.export_volumes import export_volume_run
from labelassemble.run.external import open_other
from labelassemble.run.folder import learns_from_masks
from labelassemble.training.checkpoint import checkpoint_sum

FOLDER: Final = "calibrations"

_EXPORTS: Final[Mapping[str, ExportFormat]] = {
    "model.pt": "torchscript",
    "model.pt2": "pt2",
    "model.onnx": "onnx",
}


@dataclass(frozen=True)
class Site:
    """A run calibrated at a site.

    Attributes:
        calibration: what is in use now.
        results: on the patients that it was not chosen by.
        external: the site's data.
        exported: files in the run's folder that were written anew.
        stale: model repositories in the run's folder, which are to be exported again.
    """

    calibration: Calibration
    results: Results | DetectionResults
    external: External
    exported: tuple[Path, ...]
    stale: tuple[Path, ...]


def calibrate_on(
    run: Path,
    config: Config,
    *,
    name: str,
    at: OperatingRule,
    console: Console,
    prevalence: Mapping[str, float] | None = None,
    share: float = 0.5,
    seed: int = 0,
    own_split: bool = False,
) -> Site:
    """Choose calibration and thresholds on some of a site's patients, evaluate on the others, and use them from now on.

    Of a run on volumes only thresholds of the patients' scores are chosen, which are no probabilities.

    Leaves calibrations/NAME in the run's folder, with calibration.json and what `evaluate_on` leaves; calibration.json
    and the exported models (model.pt, .pt2, .onnx) in the run's folder become those of the site. A class keeps the
    calibration of the run's own validation images, and `ClassCalibration.kept` says why, where the patients that are
    chosen by have no label of the state that the operating point is about: negatives for a specificity, positives for a
    sensitivity.

    Args:
        run: the folder of a run that has a best checkpoint.
        config: its sources are the site's data.
        name: of the data.
        at: the operating point.
        console: shows progress.
        prevalence: by class, to state predictive values at.
        share: of the patients that calibration and thresholds are chosen by, drawn by a hash of their names.
        seed: another seed, another draw.
        own_split: choose on the data's own split "val" and evaluate on the rest, instead of drawing.

    Raises:
        LabelAssembleError: what `evaluate_on` raises, no image on one of the two sides, or a predictions.csv in the
            run's folder that is of other weights or scores.
    """
    if not 0 < share < 1:
        raise LabelAssembleError(f"the share of patients must lie between 0 and 1, got {share:g}")
    folder, masks = run / FOLDER / name, learns_from_masks(run)
    opened = open_other_cases if masks else open_other
    other = opened(run, config, folder, name=name, console=console, keep_splits=True)
    classes = other.trained.net.classes
    check_prevalence(prevalence or {}, classes)
    table = divided(other.external.table, share, seed, own_split)
    chosen_by = int(np.count_nonzero(table.splits == "val"))
    patients = [len(table.groups[table.splits == split].unique()) for split in ("val", "test")]
    what, noun = ("Thresholds", "case") if masks else ("Calibration and thresholds", "image")
    remark = (
        f"{what} were chosen on {plural(chosen_by, noun)} of {plural(patients[0], 'patient')}, and measured on "
        f"{plural(len(table) - chosen_by, noun)} of {plural(patients[1], 'other')}."
    )
    remarks = (remark, *other.external.remarks)
    other = replace(other, external=replace(other.external, table=table, remarks=remarks))
    weights, score = checkpoint_sum(run / "checkpoints" / "best.pt"), score_of(run)
    predictions = own_predictions(run)
    own = Calibration() if predictions is None else calibrate(predictions, at, correct=not masks)

    def chosen(predictions: Predictions) -> Calibration:
        site = calibrate(predictions, at, data=name, checkpoint=weights, score=score, correct=not masks)
        return whole_calibration(site, own, classes, at)

    results: Results | DetectionResults
    if isinstance(other, OtherCases):
        records = other.records(console)
        calibration = chosen(other.patients(records))
        results = other.finish(records, calibration, prevalence)
    else:
        found = other.predict(console)
        calibration = chosen(found.predictions)
        results = other.finish(found, calibration, prevalence)
    write_calibration(calibration, folder / CALIBRATION_FILE)
    write_calibration(calibration, run / CALIBRATION_FILE)
    return Site(calibration, results, other.external, _exported_anew(run), _repositories(run))


def calibrate_own(run: Path, at: OperatingRule) -> Calibration:
    """Go back to the run's own validation images: choose calibration and thresholds anew on its predictions.csv.

    Exported models in the run's folder are written anew.

    Raises:
        LabelAssembleError: no predictions.csv, one without validation images, or one of other weights or scores.
    """
    path = or_compressed(run / "predictions.csv")
    predictions = own_predictions(run)
    if predictions is None:
        raise LabelAssembleError(f"{path} does not exist: `labelassemble evaluate {run}` writes it")
    weights, score = checkpoint_sum(run / "checkpoints" / "best.pt"), score_of(run)
    calibration = calibrate(
        predictions, at, checkpoint=weights, score=score, correct=not learns_from_masks(run)
    )
    if not calibration.images:
        whom = "patients" if learns_from_masks(run) else "images"
        raise LabelAssembleError(f"{path} holds no validation {whom} to choose a calibration on")
    write_calibration(calibration, run / CALIBRATION_FILE)
    _exported_anew(run)
    return calibration


def divided(table: Table, share: float, seed: int, own_split: bool) -> Table:
    """Return the table with "val" for the patients that are chosen by and "test" for the others."""
    if own_split:
        chosen = np.asarray(table.splits == "val")
    else:
        names, code = text_codes(table.groups)
        numbers = uniform_numbers(names, seed)
        drawn = numbers < share
        if len(names) > 1:  # of a few patients too, some are on either side
            drawn[numbers.argmin()], drawn[numbers.argmax()] = True, False
        chosen = drawn[code]
    if chosen.all() or not chosen.any():
        splits = ", ".join(f"{name} {count}" for name, count in Counter(table.splits.tolist()).items())
        what = (
            f"of the data's own split 'val' (the {table.noun}s of a patient are in one split: here {splits})"
            if own_split
            else f"for a share of {share:g} of the patients: they are of one patient"
        )
        raise LabelAssembleError(
            f"there must be {table.noun}s to choose on and others to measure on, got {int(chosen.sum())} of "
            f"{len(table)} {what}"
        )
    return replace(table, splits=text_array(np.where(chosen, "val", "test").tolist()))


def whole_calibration(
    site: Calibration, own: Calibration, classes: tuple[str, ...], at: OperatingRule
) -> Calibration:
    """Return the site's calibration, with the run's own of the classes of which the site lacks the state for `at`."""
    state = "negative" if at.figure == "specificity" else "positive"
    found = {}
    for name in classes:
        there, here = site.of(name), own.of(name)
        if there.negatives if state == "negative" else there.positives:
            found[name] = there
            continue
        other = there.positives + there.negatives
        labels = f"no {state} label among its {other}" if other else "no label"
        found[name] = here.model_copy(update={"kept": f"“{site.data}” has {labels} to choose by"})
    return site.model_copy(update={"classes": found})


def _exported_anew(run: Path) -> tuple[Path, ...]:
    """Write the exported models in a run's folder anew, with the calibration that is in use now."""
    written = []
    masks = learns_from_masks(run)
    for file, format in _EXPORTS.items():
        path = run / file
        if path.exists() and masks:
            export_volume_run(run, format=format)
            written.append(path)
        elif path.exists():
            metadata = load_metadata(path)
            export_run(run, format=format, precision=metadata.precision, queries=metadata.queries)
            written.append(path)
    return tuple(written)


def _repositories(run: Path) -> tuple[Path, ...]:
    path = run / "model_repository"
    return (path,) if path.exists() else ()
