"""A run that learns from masks, evaluated: its held-out cases one after the other, of which only records are kept."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from labelassemble._files import make_folder, write_text
from labelassemble.config import Config
from labelassemble.data import Table
from labelassemble.data.csvfile import or_compressed
from labelassemble.data.errors import ImageError
from labelassemble.data.predictions import Predictions
from labelassemble.data.table_io import write_predictions
from labelassemble.detection_options import DetectionOptions
from labelassemble.errors import LabelAssembleError
from labelassemble.evaluation.calibration import Calibration
from labelassemble.evaluation.detection import (
    evaluate_detection,
    lesion_table,
    patient_means,
    patients_of,
)
from labelassemble.evaluation.detection_case import CaseRecord, DetectionCase, record_case
from labelassemble.evaluation.external import External, Part
from labelassemble.evaluation.leakage import leakage_of, write_leakage
from labelassemble.evaluation.operating import check_prevalence, operating_rows
from labelassemble.evaluation.results import Unreadable
from labelassemble.evaluation.subgroups import age_bands_of
from labelassemble.models.segmentation.pooled_features import PooledFeatures
from labelassemble.report.detection import DetectionResults, PlacedSlice, write_detection_report
from labelassemble.report.detection_files import write_detection, write_lesions
from labelassemble.report.detection_slices import ShownSlice, SliceChoice
from labelassemble.report.operating import write_operating
from labelassemble.report.record import RunRecord
from labelassemble.report.subgroups import write_subgroups
from labelassemble.report.unreadable import write_unreadable
from labelassemble.run.assembly import image_progress
from labelassemble.run.calibration import calibration_in_use, renewed_calibration
from labelassemble.run.external import beside_run
from labelassemble.run.folder import TrainedSegmenter, load_segmenter
from labelassemble.run.record import read_run
from labelassemble.run.segment import Answer, answer_volume, detection_options
from labelassemble.run.volumes import given_labels
from labelassemble.views.bad_files import BadFiles
from labelassemble.views.volumes import load_mask

Progress = Callable[[int, int], None]
"""Called with (cases done, cases in all)."""


class Records(NamedTuple):
    """What is kept of a table's cases."""

    table: Table  # the cases that can be read
    records: tuple[CaseRecord, ...]
    unreadable: tuple[Unreadable, ...]
    slices: tuple[PlacedSlice, ...]  # of test cases; the patients' scores are still open
    features: NDArray[np.float32]  # [N, D], the means over the voxels


def evaluate_detection_run(
    run: Path,
    *,
    table: Table | None = None,
    progress: Progress | None = None,
    prevalence: Mapping[str, float] | None = None,
) -> DetectionResults:
    """Answer the validation and test cases with the best checkpoint, evaluate, and write the report anew.

    Leaves predictions.csv (the patients' scores), lesions.csv, detection.csv, leakage.json, calibration.json
    (thresholds), report.html, model_card.md and, where there is something to put into them, operating_points.csv,
    subgroups.csv and unreadable.csv in the run's folder. The thresholds of a site stay in use, as for images.

    Args:
        run: the folder of a run that learns from masks.
        table: what was assembled; default: the folder's table.csv.
        progress: shows how far it is.
        prevalence: by class, to state predictive values at.

    Returns:
        What it reaches on the test cases; without a detection if the run has none.

    Raises:
        LabelAssembleError: the folder holds no finished epoch, no test case can be read, or an answer is not finite.
    """
    trained = load_segmenter(run)
    check_prevalence(prevalence or {}, trained.net.classes)
    record = read_run(run, classes=trained.net.classes, interest=trained.interest, table=table)
    if record.table is None:
        raise LabelAssembleError(
            f"{or_compressed(run / 'table.csv')}: cannot be read (No such file or directory)"
        )
    options = detection_options(run)
    held_out = record.table.select(record.table.splits != "train")
    results = DetectionResults(similarity=_similarity(trained))
    if len(held_out):
        found = record_cases(trained, held_out, options, progress)
        patients = patients_of(found.table, found.records, options)
        calibration = renewed_calibration(run, patients, score=options.score, correct=False)
        bands = age_bands_of(record.config)
        results = _written(trained, found, patients, calibration, options, bands, run, prevalence)
    write_detection_report(record, results)
    return results


def evaluate_detection_on(
    run: Path,
    config: Config,
    *,
    name: str,
    part: Part,
    output: Path | None,
    console: Console,
    prevalence: Mapping[str, float] | None = None,
) -> tuple[DetectionResults, External]:
    """Evaluate a run on another configuration's cases; the run's own report stays as it is.

    Thresholds are those that the run has in use, classes are aligned by name. Leaves data.yaml, table.csv and the files
    of `evaluate_detection_run` but calibration.json and model_card.md.

    Args:
        run: the folder of a run that learns from masks.
        config: its sources are the data.
        name: of the evaluation.
        part: "all" cases, or those of one of the data's own splits.
        output: the folder to fill; default: evaluations/NAME in the run's.
        console: shows progress.
        prevalence: by class, to state predictive values at.

    Returns:
        What it reaches, and the data as it was used.

    Raises:
        LabelAssembleError: data without `volumes`, no class in common, only cases that the run was trained on, a folder
            that holds something else, ...
    """
    other = open_other_cases(
        run, config, output or run / "evaluations" / name, name=name, part=part, console=console
    )
    check_prevalence(prevalence or {}, other.trained.net.classes)
    calibration = calibration_in_use(run)  # a mistake is told before the cases are answered
    return other.finish(other.records(console), calibration, prevalence), other.external


@dataclass(frozen=True)
class OtherCases:
    """A run on volumes with other data than its own, ready to be answered; as `Other` of images.

    Attributes:
        trained: the run's network.
        record: what is known of the run.
        config: of the data.
        external: the data.
        options: how patients are scored.
    """

    trained: TrainedSegmenter
    record: RunRecord
    config: Config
    external: External
    options: DetectionOptions

    def records(self, console: Console) -> Records:
        """Write data.yaml and table.csv into the folder; return what is kept of the cases."""
        folder = self.external.folder
        make_folder(folder)
        write_text(folder / "data.yaml", self.config.to_yaml())
        self.external.table.to_csv(folder / "table.csv")
        with image_progress(console, "answering", "case") as advance:
            return record_cases(self.trained, self.external.table, self.options, advance)

    def patients(self, found: Records) -> Predictions:
        """Return the scores of the patients."""
        return patients_of(found.table, found.records, self.options)

    def finish(
        self, found: Records, calibration: Calibration, prevalence: Mapping[str, float] | None
    ) -> DetectionResults:
        """Evaluate on the cases whose split is "test", and fill the folder."""
        folder, bands = self.external.folder, self.config.age_bands
        results = _written(
            self.trained, found, self.patients(found), calibration, self.options, bands, folder, prevalence
        )
        write_detection_report(self.record, results, external=self.external)
        return results


def open_other_cases(
    run: Path,
    config: Config,
    folder: Path,
    *,
    name: str,
    console: Console,
    part: Part = "all",
    keep_splits: bool = False,
) -> OtherCases:
    """Return a run on volumes with another configuration's cases; see `evaluate_detection_on`.

    Raises:
        LabelAssembleError: what `evaluate_detection_on` raises.
    """
    trained = load_segmenter(run)
    if config.volumes is None:
        raise LabelAssembleError(
            f"{run} is a run on volumes, so the data needs the section `volumes` too: a line `volumes: {{}}` is enough"
        )
    record, config, external = beside_run(
        run, trained, config, folder, name=name, part=part, keep_splits=keep_splits, console=console
    )
    return OtherCases(trained, record, config, external, detection_options(run))


def _written(
    trained: TrainedSegmenter,
    found: Records,
    patients: Predictions,
    calibration: Calibration,
    options: DetectionOptions,
    age_bands: Sequence[float],
    folder: Path,
    prevalence: Mapping[str, float] | None,
) -> DetectionResults:
    """Return what the network reaches on test cases, and leave it in a folder as CSV."""
    write_predictions(patients, folder / "predictions.csv", patients.probabilities)
    write_lesions(found.table, lesion_table(found.records), folder)
    write_unreadable(found.unreadable, folder)
    features = patient_means(found.table, found.features)
    leakage = leakage_of(patients, lambda rows: features[rows])
    write_leakage(leakage, folder)
    results = DetectionResults(patients, calibration, None, _similarity(trained), leakage=leakage)
    if not (found.table.splits == "test").any():
        return results
    detection = evaluate_detection(
        found.table,
        found.records,
        options,
        calibration=calibration,
        age_bands=age_bands,
        leakage=leakage,
        unreadable=found.unreadable,
    )
    write_detection(detection, folder)
    write_subgroups(detection.evaluation, folder)
    scores = dict(zip(patients.paths.tolist(), patients.probabilities.tolist(), strict=True))
    slices = tuple(
        replace(one, patient=scores[one.patient_name][patients.column(one.name)]) for one in found.slices
    )
    rows = patients.subset_by_split("test")
    operating = operating_rows(rows, calibration, prevalence=prevalence, age_bands=age_bands)
    write_operating(operating, (), folder)  # a patient's score is no probability, so it has no decision curve
    return replace(results, detection=detection, slices=slices, operating=operating)


def _similarity(trained: TrainedSegmenter) -> NDArray[np.floating]:
    """Return the cosine similarity [C, C] of the learned queries."""
    return trained.net.head.similarity().detach().cpu().numpy()


def record_cases(
    trained: TrainedSegmenter, table: Table, options: DetectionOptions, progress: Progress | None = None
) -> Records:
    """Answer the cases of a table one after the other, and return what is kept of each.

    Raises:
        LabelAssembleError: other classes than the network's, too many cases that cannot be read, none of a split, or an
            answer that is not finite.
    """
    unknown = [name for name in table.classes if name not in trained.net.classes]
    if unknown:
        raise LabelAssembleError(
            f"the table's classes must be those of the model, got {', '.join(table.classes)}"
        )
    columns = [trained.net.classes.index(name) for name in table.classes]
    choice = SliceChoice(table.classes, trained.interest, options.threshold)
    volumes = trained.volumes
    bad_files = BadFiles(
        len(table),
        policy=volumes.bad_files,
        limit=volumes.bad_files_limit,
        key="volumes.bad_files_limit",
        noun="case",
    )
    labels = given_labels(table).labels
    records: list[CaseRecord] = []
    features: list[NDArray[np.float32]] = []
    with PooledFeatures(trained.net.backbone) as pooled:
        for row in range(len(table)):
            try:
                answer = answer_volume(trained, str(table.paths[row]))
                means = pooled.take()
                case = _case(answer, columns, table, row, labels[row])
                records.append(record_case(case, options))
                features.append(means)
                if table.splits[row] == "test":
                    choice.offer(row, case, records[-1], answer.volume.image)
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
    slices = tuple(_placed(one, table) for one in choice.shown())
    return Records(read, tuple(records), unreadable, slices, np.stack(features))


def _case(
    answer: Answer, columns: Sequence[int], table: Table, row: int, labels: NDArray[np.int8]
) -> DetectionCase:
    """Return a case for its record; `columns` are the network's classes of those of the table."""
    mask = str(table.masks[row])
    every = columns == list(range(len(answer.probabilities)))
    return DetectionCase(
        answer.probabilities if every else answer.probabilities[columns],
        labels,
        load_mask(mask, answer.volume) if mask else None,
        table.drawn(row),
        None if answer.volume.affine is None else answer.volume.spacing,
        str(table.paths[row]),
    )


def _placed(one: ShownSlice, table: Table) -> PlacedSlice:
    """Return a slice with its case's file, source and patient; the patient's score is still open."""
    path = str(table.paths[one.row])
    return PlacedSlice(
        one.name,
        one.kind,
        Path(path).name,
        str(table.sources[one.row]),
        str(table.groups[one.row]) or path,
        one.score,
        0.0,
        one.voxels,
        one.index,
        one.image,
        one.truth,
        one.prediction,
    )
