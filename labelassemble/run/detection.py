"""A run that learns from masks, evaluated: its held-out cases one after the other, of which only records are kept."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from labelassemble.data import Table
from labelassemble.data.csvfile import or_compressed
from labelassemble.data.errors import ImageError
from labelassemble.data.predictions import Predictions
from labelassemble.data.table_io import write_predictions
from labelassemble.detection_options import DetectionOptions
from labelassemble.errors import LabelAssembleError
from labelassemble.evaluation.calibration import (
    CALIBRATION_FILE,
    Calibration,
    calibrate,
    write_calibration,
)
from labelassemble.evaluation.detection import Detection, evaluate_detection, patients_of
from labelassemble.evaluation.detection_case import CaseRecord, DetectionCase, record_case
from labelassemble.evaluation.results import Unreadable
from labelassemble.run.folder import TrainedSegmenter, load_segmenter
from labelassemble.run.record import read_run
from labelassemble.run.segment import answer_volume, detection_options
from labelassemble.run.volumes import given_labels
from labelassemble.training.checkpoint import checkpoint_sum
from labelassemble.views.bad_files import BadFiles
from labelassemble.views.volumes import load_mask

Progress = Callable[[int, int], None]
"""Called with (cases done, cases in all)."""


@dataclass(frozen=True)
class Detected:
    """What a run reaches on its held-out cases; None where there is nothing to go by.

    Attributes:
        predictions: of the patients.
        calibration: thresholds in use.
        detection: on the test cases.
    """

    predictions: Predictions | None = None
    calibration: Calibration | None = None
    detection: Detection | None = None


class Records(NamedTuple):
    """What is kept of a table's cases."""

    table: Table  # the cases that can be read
    records: tuple[CaseRecord, ...]
    unreadable: tuple[Unreadable, ...]


def evaluate_detection_run(
    run: Path, *, table: Table | None = None, progress: Progress | None = None
) -> Detected:
    """Answer the validation and test cases with the best checkpoint, and evaluate.

    Leaves predictions.csv (the patients' scores) and calibration.json (thresholds) in the run's folder.

    Args:
        run: the folder of a run that learns from masks.
        table: what was assembled; default: the folder's table.csv.
        progress: shows how far it is.

    Raises:
        LabelAssembleError: the folder holds no finished epoch, no test case can be read, or an answer is not finite.
    """
    trained = load_segmenter(run)
    record = read_run(run, classes=trained.net.classes, interest=trained.interest, table=table)
    if record.table is None:
        raise LabelAssembleError(
            f"{or_compressed(run / 'table.csv')}: cannot be read (No such file or directory)"
        )
    options = detection_options(run)
    held_out = record.table.select(record.table.splits != "train")
    if not len(held_out):
        return Detected()
    found = record_cases(trained, held_out, options, progress)
    patients = patients_of(found.table, found.records, options)
    weights = checkpoint_sum(run / "checkpoints" / "best.pt")
    calibration = calibrate(patients, checkpoint=weights, correct=False)
    write_calibration(calibration, run / CALIBRATION_FILE)
    write_predictions(patients, run / "predictions.csv", patients.probabilities)
    if not (found.table.splits == "test").any():
        return Detected(patients, calibration)
    detection = evaluate_detection(
        found.table, found.records, options, calibration=calibration, unreadable=found.unreadable
    )
    return Detected(patients, calibration, detection)


def record_cases(
    trained: TrainedSegmenter, table: Table, options: DetectionOptions, progress: Progress | None = None
) -> Records:
    """Answer the cases of a table one after the other, and return what is kept of each.

    Raises:
        LabelAssembleError: other classes than the network's, too many cases that cannot be read, none of a split, or an
            answer that is not finite.
    """
    if tuple(table.classes) != trained.net.classes:
        raise LabelAssembleError(
            f"the table's classes must be those of the model, got {', '.join(table.classes)}"
        )
    volumes = trained.volumes
    bad_files = BadFiles(
        len(table), policy=volumes.bad_files, limit=volumes.bad_files_limit, key="volumes.bad_files_limit"
    )
    labels = given_labels(table).labels
    records: list[CaseRecord] = []
    for row in range(len(table)):
        try:
            records.append(record_case(_case(trained, table, row, labels[row]), options))
        except ImageError as error:
            bad_files.add(row, error)
        if progress is not None:
            progress(row + 1, len(table))
    readable = bad_files.readable(len(table))
    unreadable = tuple(
        Unreadable(str(table.paths[row]), str(table.splits[row]), str(table.sources[row]), error.reason)
        for row, error in sorted(bad_files.errors.items())
    )
    read = table.select(readable)
    for split in ("test", "val"):
        if (table.splits == split).any() and not (read.splits == split).any():
            lost = next(one for one in unreadable if one.split == split)
            raise LabelAssembleError(
                f"none of the {split} cases can be read, such as {lost.path}: {lost.reason}"
            )
    return Records(read, tuple(records), unreadable)


def _case(trained: TrainedSegmenter, table: Table, row: int, labels: NDArray[np.int8]) -> DetectionCase:
    path = str(table.paths[row])
    answer = answer_volume(trained, path)
    mask = str(table.masks[row])
    return DetectionCase(
        answer.probabilities,
        labels,
        load_mask(mask, answer.volume) if mask else None,
        table.drawn(row),
        None if answer.volume.affine is None else answer.volume.spacing,
        path,
    )
