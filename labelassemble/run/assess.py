"""A run's network on images: predicted, evaluated and reported, on its own held-out images or on other data."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import nn

from labelassemble.data.predictions import Predictions
from labelassemble.data.table import Table
from labelassemble.data.table_csv import read_predictions, write_predictions
from labelassemble.errors import LabelAssembleError
from labelassemble.evaluation.calibration import (
    CALIBRATION_FILE,
    Calibration,
    calibrate,
    read_calibration,
    write_calibration,
)
from labelassemble.evaluation.compare import Comparison, OverSeeds
from labelassemble.evaluation.evaluate import evaluate
from labelassemble.evaluation.external import External
from labelassemble.evaluation.leakage import Leakage, leakage_of
from labelassemble.evaluation.results import Evaluation
from labelassemble.head import ClassQueryHead
from labelassemble.models.features import predict_with_features
from labelassemble.report.examples import Picture, report_pictures
from labelassemble.report.page import write_report
from labelassemble.views.bad_files import BadFiles
from labelassemble.views.options import ViewOptions

Progress = Callable[[int, int], None]
"""Called with (images done, images in all)."""


@dataclass(frozen=True)
class Network:
    """A trained network and what it is fed with.

    Attributes:
        net: in eval mode; gives logits [B, C].
        classes: names of the C classes.
        views: the deterministic view.
        interest: names of the classes of interest.
    """

    net: nn.Module
    classes: tuple[str, ...]
    views: ViewOptions
    interest: tuple[str, ...]

    @property
    def similarity(self) -> NDArray[np.floating] | None:
        """Cosine similarity [C, C] of the learned queries, None where the head has none."""
        head = getattr(self.net, "head", None)
        return head.similarity().cpu().numpy() if isinstance(head, ClassQueryHead) else None


def assess_held_out(
    run: Path,
    network: Network,
    *,
    comparisons: Sequence[Comparison] = (),
    over_seeds: OverSeeds | None = None,
    progress: Progress | None = None,
) -> Evaluation | None:
    """Predict a run's validation and test images, evaluate, and write the report anew.

    Leaves predictions.csv, calibration.json, report.html and model_card.md in the run's folder.

    Args:
        run: the folder; its table.csv says which images are held out.
        network: of the run's best checkpoint.
        comparisons: other runs to show beside this one in the report.
        over_seeds: ways of training compared over seeds, to open the report with.
        progress: called with the images done.

    Returns:
        The evaluation on the test images; None if the run has none.
    """
    table = Table.from_csv(run / "table.csv")
    held_out = table.select(table.splits != "train")
    evaluation = leakage = None
    pictures: tuple[Picture, ...] = ()
    if len(held_out):
        predictions, leakage = _predicted(network, held_out, progress)
        write_predictions(predictions, run / "predictions.csv")
        calibration = calibrate(predictions)
        write_calibration(calibration, run / CALIBRATION_FILE)
        if (predictions.splits == "test").any():
            evaluation = evaluate(predictions, calibration=calibration)
            pictures = _pictures(network, predictions)
    write_report(
        run,
        evaluation=evaluation,
        similarity=network.similarity,
        comparisons=comparisons,
        over_seeds=over_seeds,
        leakage=leakage,
        pictures=pictures,
    )
    return evaluation


def assess_external(
    run: Path, network: Network, external: External, *, progress: Progress | None = None
) -> Evaluation:
    """Evaluate a run on other data, by the thresholds and temperatures of the run's own validation images.

    Leaves predictions.csv, table.csv and report.html in the folder of the evaluation, and the run's own as they are.

    Args:
        run: the folder of the run.
        network: of the run's best checkpoint.
        external: the data, ready for it.
        progress: called with the images done.
    """
    calibration = calibration_of(run)
    table = external.table
    predictions, leakage = _predicted(network, table, progress, classes=table.classes)
    external.folder.mkdir(parents=True, exist_ok=True)
    table.to_csv(external.folder / "table.csv")
    write_predictions(predictions, external.folder / "predictions.csv")
    evaluation = evaluate(predictions, calibration=calibration)
    write_report(
        run,
        evaluation=evaluation,
        similarity=network.similarity,
        leakage=leakage,
        pictures=_pictures(network, predictions),
        external=external,
    )
    return evaluation


def calibration_of(run: Path) -> Calibration:
    """Return a run's thresholds and temperatures: from calibration.json, else from its validation predictions."""
    if (run / CALIBRATION_FILE).exists():
        return read_calibration(run / CALIBRATION_FILE)
    if (run / "predictions.csv").exists():
        return calibrate(read_predictions(run / "predictions.csv"))
    return Calibration(images=0, classes={})


def _pictures(network: Network, predictions: Predictions) -> tuple[Picture, ...]:
    return report_pictures(network.net, network.classes, network.views, predictions, network.interest)


def _predicted(
    network: Network, table: Table, progress: Progress | None, *, classes: Sequence[str] | None = None
) -> tuple[Predictions, Leakage | None]:
    """Return the predictions for the images that can be read (of `classes`, default all), and the source leakage."""
    done = 0

    def advance(images: int) -> None:
        nonlocal done
        done += images
        if progress is not None:
            progress(done, len(table))

    views = network.views
    bad_files = BadFiles(len(table), policy=views.bad_files, limit=views.bad_files_limit)
    answers = predict_with_features(
        network.net, table.paths.tolist(), views, bad_files=bad_files, advance=advance
    )
    read = ~np.isnan(answers.probabilities).any(axis=1)
    kept = table.select(read)
    columns = [network.classes.index(name) for name in classes or network.classes]
    if kept.classes != tuple(classes or network.classes):
        raise LabelAssembleError(
            f"the table's classes must be those of the model, got {', '.join(kept.classes)}"
        )
    predictions = Predictions.of(kept, answers.probabilities[read][:, columns])
    features = answers.features
    return predictions, None if features is None else leakage_of(predictions, features[read])
