"""report.html and model_card.md of a run that detects: patients, lesions, a few cases, and how it was trained."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from labelassemble._files import write_text
from labelassemble.data.predictions import Predictions
from labelassemble.data.table import WARNING
from labelassemble.detection_options import PER_CASE
from labelassemble.evaluation.calibration import Calibration
from labelassemble.evaluation.detection import DetectedClass, Detection
from labelassemble.evaluation.external import External
from labelassemble.evaluation.leakage import LEAST, Leakage
from labelassemble.evaluation.metrics import roc_curve
from labelassemble.evaluation.operating import OperatingRow
from labelassemble.evaluation.results import ClassResult
from labelassemble.report import plots
from labelassemble.report.detection_text import detection_cautions
from labelassemble.report.format import count_text, flat, number, with_interval
from labelassemble.report.model_card import CardSection, card_markdown, detection_card
from labelassemble.report.operating import rule_text, shown_rows
from labelassemble.report.record import RunRecord
from labelassemble.report.render import page
from labelassemble.report.sections import Plot, checked_similarity, coverage_of, learning_plots
from labelassemble.report.unreadable import unreadable_sentence


@dataclass(frozen=True)
class PlacedSlice:
    """A slice on the page, with the case and the patient that it is of.

    Attributes:
        name: of the class.
        kind: "found", "missed" or "false alarm".
        case: its path's end.
        source: of the case.
        patient_name: as the patient is called in the predictions.
        score: of the lesion.
        patient: score of the patient.
        voxels: of the lesion.
        index: of the slice; None in two dimensions.
        image: data URI of a PNG.
        truth: likewise.
        prediction: likewise.
    """

    name: str
    kind: str
    case: str
    source: str
    patient_name: str
    score: float
    patient: float
    voxels: int
    index: int | None
    image: str
    truth: str
    prediction: str


@dataclass(frozen=True)
class DetectionResults:
    """What a network reaches on held-out cases or on other data; None where there is nothing to go by.

    Attributes:
        predictions: of the patients.
        calibration: thresholds in use.
        detection: on the test cases.
        similarity: cosine of each pair of learned queries, [C, C].
        slices: to show.
        operating: the classes at the threshold in use, over patients.
        leakage: how well the network's features tell sources of patients apart; None where that was not measured.
    """

    predictions: Predictions | None = None
    calibration: Calibration | None = None
    detection: Detection | None = None
    similarity: NDArray[np.floating] | None = None
    slices: tuple[PlacedSlice, ...] = ()
    operating: tuple[OperatingRow, ...] = ()
    leakage: Leakage | None = None


def write_detection_report(
    run: RunRecord, results: DetectionResults, *, external: External | None = None
) -> Path:
    """Write report.html and model_card.md into a run's folder, and return the page's path.

    Args:
        run: what is known of the training.
        results: what the network reaches.
        external: the other data that `results` are of; the page then goes into its folder and says so.

    Raises:
        LabelAssembleError: a page that cannot be written.
    """
    folder = run.path if external is None else external.folder
    card = _card(run, results)
    write_text(folder / "report.html", detection_page(run, results, external))
    if external is None:
        write_text(folder / "model_card.md", card_markdown(run.title, card))
    return folder / "report.html"


def detection_page(run: RunRecord, results: DetectionResults, external: External | None) -> str:
    """Return the page that `write_detection_report` writes."""
    detection = results.detection
    evaluation = None if detection is None else detection.evaluation
    tested = () if evaluation is None else evaluation.classes
    interest = tuple(result for result in tested if result.name in run.interest) or tested
    table = run.table if external is None else external.table
    names = tuple(result.name for result in interest)
    found = () if detection is None else tuple(detection.of(name) for name in names)
    return page(
        "detection.html.j2",
        title=run.title if external is None else f"{run.title} on {external.name}",
        run_name=run.title,
        written=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        run=run,
        detection=detection,
        evaluation=evaluation,
        interest=interest,
        cautions_of=[]
        if detection is None
        else [(result.name, detection_cautions(detection, result.name)) for result in tested],
        unreadable=""
        if detection is None
        else unreadable_sentence(detection.evaluation, read=detection.cases, noun="case"),
        chosen_on=(results.calibration or Calibration()).chosen_on_patients,
        operating=shown_rows(results.operating, names),
        operating_rule=rule_text(results.calibration),
        operating_noun="patients",
        benefit=(),  # a patient's score is no probability
        roc=_roc_plots(results.predictions, interest),
        froc=_froc_plots(found),
        sizes=_size_plots(found),
        slices=results.slices,
        volumes=any(item.index is not None for item in results.slices),
        coverage=None if table is None else coverage_of(table),
        warnings=[
            note.removeprefix(WARNING) for note in run.notes if external is None and note.startswith(WARNING)
        ],
        notes=[note for note in run.notes if external is None and not note.startswith(WARNING)],
        learning=learning_plots(run.curves, several=len(run.classes) > 1, interest=names, table=run.table),
        similarity=checked_similarity(results.similarity, run.classes),
        settings=flat(run.environment or {}),
        external=external,
        leakage=results.leakage,
        least_patients=LEAST,
        model_card=_card(run, results) if external is None else (),
    )


def _card(run: RunRecord, results: DetectionResults) -> tuple[CardSection, ...]:
    return detection_card(run, results.detection, results.calibration)


def _roc_plots(predictions: Predictions | None, interest: Sequence[ClassResult]) -> tuple[Plot, ...]:
    if predictions is None:
        return ()
    rows = predictions.subset_by_split("test")
    targets, found = rows.given_targets(), []
    for result in interest:
        column = rows.column(result.name)
        curve = roc_curve(targets[:, column], rows.probabilities[:, column])
        if curve is not None:
            legend = ((0, "AUROC", with_interval(result.auroc, result.interval)),)
            svg = plots.roc([(0, curve)], f"ROC curve of {result.name} over patients")
            found.append(Plot(f"{result.name}: ROC over patients", svg, legend))
    return tuple(found)


def _froc_plots(classes: Sequence[DetectedClass]) -> tuple[Plot, ...]:
    found = []
    for result in classes:
        if result.curve is None or not len(result.curve.thresholds):
            continue
        at_one = result.figures.froc[PER_CASE.index(1.0)]
        legend = ((0, "found at 1 false alarm per case", number(at_one.value)),)
        note = (
            f"Over {count_text(result.lesions)} lesions in {count_text(result.cases)} cases. The curve is level where "
            "the threshold of the predicted mask lets nothing more be predicted."
        )
        svg = plots.froc([(0, result.curve)], f"FROC curve of {result.name}")
        found.append(Plot(f"{result.name}: FROC", svg, legend, note))
    return tuple(found)


def _size_plots(classes: Sequence[DetectedClass]) -> tuple[Plot, ...]:
    found = []
    for result in classes:
        if not result.lesions:
            continue
        hit, missed = result.sizes[result.sizes_found], result.sizes[~result.sizes_found]
        svg = plots.sizes(
            hit.tolist(), missed.tolist(), result.unit, f"sizes of found and missed lesions of {result.name}"
        )
        legend = tuple(
            (index, name, f"{count_text(len(part))}, median {np.median(part):.3g} {result.unit}")
            for index, name, part in ((0, "found", hit), (1, "missed", missed))
            if len(part)
        )
        found.append(Plot(f"{result.name}: sizes of lesions", svg, legend, bars=True))
    return tuple(found)
