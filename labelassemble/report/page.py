"""report.html: one page that a person can read in two minutes, then the details. Self-contained, no scripts."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from labelassemble._files import write_text
from labelassemble.data.table_csv import read_predictions
from labelassemble.evaluation.calibration import CALIBRATION_FILE, calibrate, read_calibration
from labelassemble.evaluation.compare import Comparison, OverSeeds
from labelassemble.evaluation.evaluate import evaluate
from labelassemble.evaluation.external import External
from labelassemble.evaluation.leakage import LEAST, Leakage
from labelassemble.evaluation.results import ClassResult, Evaluation
from labelassemble.evaluation.run_record import RunRecord, read_run
from labelassemble.explain.overlay import NO_PROOF
from labelassemble.report import plots
from labelassemble.report.examples import Picture
from labelassemble.report.format import flat
from labelassemble.report.model_card import card_markdown, model_card
from labelassemble.report.render import page
from labelassemble.report.sections import (
    calibration_figures,
    checked_similarity,
    compared_runs,
    coverage_of,
    learning_figures,
    roc_figures,
)

__all__ = ["Comparison", "write_report"]

CARDS = 4
"""With at most this many classes of interest each has a card of its own at the top."""


def write_report(
    run: Path,
    *,
    evaluation: Evaluation | None = None,
    similarity: NDArray[np.floating] | None = None,
    comparisons: Sequence[Comparison] = (),
    over_seeds: OverSeeds | None = None,
    leakage: Leakage | None = None,
    pictures: Sequence[Picture] = (),
    external: External | None = None,
) -> Path:
    """Write report.html (and model_card.md) into a run's folder and return the page's path.

    A file that the folder lacks leaves its section out, with a note; without predictions for test images the
    report still shows the data, the training and the settings.

    Args:
        run: the folder; see `RunRecord` for the files that are read.
        evaluation: of the run's predictions on the test images, where the caller has it already.
        similarity: [C, C], cosine similarity of the learned queries, in the order of the run's classes.
        comparisons: other runs to show beside this one, on the classes of interest; the page then opens with them.
        over_seeds: ways of training compared over seeds, shown above them.
        leakage: how well the run's features tell sources apart.
        pictures: test images to show.
        external: other data that the run was evaluated on; the page then goes into its folder, says so, and shows
            that data's labels; the run's own files stay as they are.

    Raises:
        LabelAssembleError: no such folder, a damaged file in it or in a compared run's, a similarity that does
            not fit the classes, or a page that cannot be written.
    """
    own = read_run(run)
    folder = own
    if external is not None:
        folder = replace(
            own, table=external.table, predictions=read_predictions(external.folder / "predictions.csv")
        )
    others = [(comparison, read_run(comparison.path)) for comparison in comparisons]
    predictions = folder.predictions
    tested = predictions is not None and bool((predictions.splits == "test").any())
    calibration = None
    if (run / CALIBRATION_FILE).exists():
        calibration = read_calibration(run / CALIBRATION_FILE)
    elif own.predictions is not None:
        calibration = calibrate(own.predictions)
    if evaluation is None and predictions is not None and tested:
        evaluation = evaluate(predictions, calibration=calibration)
    interest = _interest(folder, evaluation)
    compared = compared_runs(folder, others) if evaluation is not None else ()
    title = _title(run)
    card = model_card(
        own,
        evaluation=evaluation if external is None else None,
        calibration=calibration,
        leakage=leakage if external is None else None,
    )
    text = page(
        "report.html.j2",
        title=title if external is None else f"{title} on {external.name}",
        run_name=title,
        written=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        run=folder,
        evaluation=evaluation,
        interest=interest,
        cards=CARDS,
        low=_strip_low(evaluation),
        roc=roc_figures(compared),
        compared=compared if others else (),
        over_seeds=over_seeds,
        calibration=calibration_figures(interest),
        coverage=None if folder.table is None else coverage_of(folder.table),
        learning=learning_figures(
            folder.history,
            several=len(folder.classes) > 1,
            interest=folder.interest,
            table=folder.table,
        ),
        similarity=checked_similarity(similarity, own.classes),
        settings=flat(folder.environment or {}),
        external=external,
        leakage=leakage,
        least_patients=LEAST,
        pictures=pictures,
        no_proof=NO_PROOF,
        model_card=card if external is None else (),
    )  # fmt: skip
    target = (run if external is None else external.folder) / "report.html"
    write_text(target, text)
    if external is None:
        write_text(run / "model_card.md", card_markdown(title, card))
    return target


def _title(run: Path) -> str:
    return run.resolve().name.encode("utf-8", "replace").decode("utf-8")


def _interest(folder: RunRecord, evaluation: Evaluation | None) -> tuple[ClassResult, ...]:
    if evaluation is None:
        return ()
    results = [evaluation.of(name) for name in folder.interest]
    return tuple(result for result in results if result is not None)


def _strip_low(evaluation: Evaluation | None) -> float:
    results = () if evaluation is None else evaluation.classes
    return plots.strip_low([result.interval for result in results], [result.auroc for result in results])
