"""A run evaluated on its own held-out images."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from labelassemble.data import Table
from labelassemble.data.predictions import Predictions
from labelassemble.data.table_io import write_predictions
from labelassemble.errors import LabelAssembleError
from labelassemble.evaluation import Calibration, Unreadable, evaluate
from labelassemble.evaluation.leakage import FeaturesOf, Leakage, leakage_of, write_leakage
from labelassemble.evaluation.operating import check_prevalence, decision_curves, operating_rows
from labelassemble.evaluation.subgroups import age_bands_of
from labelassemble.head import ClassQueryHead
from labelassemble.models.features import predict_with_features
from labelassemble.report.examples import Example, example_images
from labelassemble.report.operating import write_operating
from labelassemble.report.page import write_report
from labelassemble.report.record import OtherRun, OverSeeds, Results
from labelassemble.report.subgroups import write_subgroups
from labelassemble.report.unreadable import write_unreadable
from labelassemble.run.calibration import renewed_calibration
from labelassemble.run.folder import TrainedModel, bad_files_of, load_trained
from labelassemble.run.record import read_run
from labelassemble.views.bad_files import BadFiles

Progress = Callable[[int, int], None]
"""Called with (images done, images in all)."""


class Predicted(NamedTuple):
    """What a network gives for a table's images."""

    predictions: Predictions  # of the table's classes, for what can be read
    leakage: Leakage | None  # of the sources into the features
    unreadable: tuple[Unreadable, ...]


def evaluate_run(
    run: Path,
    *,
    table: Table | None = None,
    others: Sequence[OtherRun] = (),
    over_seeds: OverSeeds | None = None,
    prevalence: Mapping[str, float] | None = None,
) -> Results:
    """Predict the validation and test images with the best checkpoint, evaluate, and write the report anew.

    Leaves predictions.csv, leakage.json, calibration.json, report.html, model_card.md and, where there is something to
    put into them, operating_points.csv, decision_curve.csv, subgroups.csv and unreadable.csv in the run's folder.

    Args:
        run: the folder of a run that has a best checkpoint.
        table: what was assembled; default: the folder's table.csv.
        others: runs to show beside this one in the report.
        over_seeds: ways of training compared over seeds, to open the report with.
        prevalence: by class, to state predictive values at.

    Returns:
        What it reaches on the test images; without an evaluation if the run has none.

    Raises:
        LabelAssembleError: the folder holds no finished epoch, no test image can be read, or an answer is not finite.
    """
    trained = load_trained(run)
    check_prevalence(prevalence or {}, trained.net.classes)
    record = read_run(run, classes=trained.net.classes, interest=trained.interest, table=table)
    if record.table is None:
        raise LabelAssembleError(f"{run / 'table.csv'}: cannot be read (No such file or directory)")
    held_out = record.table.select(record.table.splits != "train")
    results = Results(similarity=_similarity(trained))
    if len(held_out):
        found = predict_table(trained, held_out)
        require_some("test", held_out, found)
        calibration = renewed_calibration(run, found.predictions)
        write_predictions(
            found.predictions, run / "predictions.csv", answered(found.predictions, calibration)
        )
        write_leakage(found.leakage, run)
        write_unreadable(found.unreadable, run)
        if (found.predictions.splits == "test").any():
            bands = age_bands_of(record.config)
            results = tested(trained, found, calibration, bands, prevalence, run)
        else:
            results = Results(found.predictions, calibration, None, found.leakage, results.similarity)
    write_report(record, results, others=others, over_seeds=over_seeds)
    return results


def tested(
    trained: TrainedModel,
    found: Predicted,
    calibration: Calibration,
    age_bands: Sequence[float],
    prevalence: Mapping[str, float] | None,
    folder: Path,
) -> Results:
    """Return what the network reaches on test images, and leave it in a folder as CSV."""
    predictions = found.predictions
    evaluation = evaluate(
        predictions,
        calibration=calibration,
        age_bands=age_bands,
        leakage=found.leakage,
        unreadable=found.unreadable,
    )
    rows = predictions.subset_by_split("test")
    results = Results(
        predictions,
        calibration,
        evaluation,
        found.leakage,
        _similarity(trained),
        _examples(trained, predictions, calibration),
        operating_rows(rows, calibration, prevalence=prevalence, age_bands=age_bands),
        decision_curves(rows, calibration, prevalence=prevalence),
    )
    write_subgroups(evaluation, folder)
    write_operating(results.operating, results.benefit, folder)
    return results


def _similarity(trained: TrainedModel) -> NDArray[np.floating] | None:
    """Return the cosine similarity [C, C] of the learned queries, None where the head has none."""
    head = trained.net.head
    return head.similarity().cpu().numpy() if isinstance(head, ClassQueryHead) else None


def answered(predictions: Predictions, calibration: Calibration) -> NDArray[np.float64]:
    """Return the probabilities [N, C] as every command answers them."""
    return calibration.apply(predictions.probabilities, predictions.classes)


def _examples(
    trained: TrainedModel, predictions: Predictions, calibration: Calibration
) -> tuple[Example, ...]:
    calibrated = replace(predictions, probabilities=answered(predictions, calibration))
    return example_images(trained.net, trained.net.classes, trained.views, calibrated, trained.interest)


def predict_table(trained: TrainedModel, table: Table, progress: Progress | None = None) -> Predicted:
    done = 0

    def advance(images: int) -> None:
        nonlocal done
        done += images
        if progress is not None:
            progress(done, len(table))

    bad_files = bad_files_of(len(table), trained.views)
    answers = predict_with_features(
        trained.net, table.paths.tolist(), trained.views, bad_files=bad_files, advance=advance
    )
    features = answers.features
    return predicted_of(
        trained,
        table,
        answers.probabilities,
        bad_files,
        lambda rows: None if features is None else features[rows],
    )


def predicted_of(
    trained: TrainedModel,
    table: Table,
    probabilities: NDArray[np.float64],
    bad_files: BadFiles,
    features_of: FeaturesOf,
) -> Predicted:
    """Return what a network gives for a table's images.

    Args:
        trained: the network.
        table: the N images.
        probabilities: [N, C] of the network's classes; NaN where an image cannot be read.
        bad_files: the images that cannot be read.
        features_of: gives the features of rows of the table.

    Raises:
        LabelAssembleError: the table has a class that the network has not.
    """
    read = bad_files.readable(len(table))
    unknown = [name for name in table.classes if name not in trained.net.classes]
    if unknown:
        raise LabelAssembleError(
            f"the table's classes must be those of the model, got {', '.join(table.classes)}"
        )
    columns = [trained.net.classes.index(name) for name in table.classes]
    predictions = Predictions.of(table.select(read), probabilities[read][:, columns])
    rows_read = np.flatnonzero(read)
    leakage = leakage_of(predictions, lambda rows: features_of(rows_read[rows]))
    return Predicted(predictions, leakage, _unreadable(table, bad_files))


def _unreadable(table: Table, bad_files: BadFiles) -> tuple[Unreadable, ...]:
    """Return the images that could not be read, in the table's order."""
    return tuple(
        Unreadable(
            str(table.paths[row]),
            str(table.splits[row]),
            str(table.sources[row]),
            bad_files.errors[row].reason,
        )
        for row in sorted(bad_files.errors)
    )


def require_some(split: str, table: Table, found: Predicted) -> None:
    """Raise where the table has images of the split, and none of them could be read."""
    if (found.predictions.splits == split).any() or not (table.splits == split).any():
        return
    lost = [image for image in found.unreadable if image.split == split]
    raise LabelAssembleError(
        f"none of the {len(lost)} {split} images can be read, such as {lost[0].path}: {lost[0].reason}"
    )
