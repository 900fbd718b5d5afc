"""report.html: one page that a person can read in two minutes, then the details. Self-contained, no scripts."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from labelassemble._files import write_text
from labelassemble.data.table import WARNING
from labelassemble.evaluation.calibration import Calibration
from labelassemble.evaluation.external import External
from labelassemble.evaluation.headline import Headline
from labelassemble.evaluation.leakage import LEAST
from labelassemble.evaluation.results import ClassResult
from labelassemble.explain.overlay import NO_PROOF
from labelassemble.report.format import flat
from labelassemble.report.model_card import card_markdown, model_card
from labelassemble.report.operating import benefit_plots, rule_text, shown_rows
from labelassemble.report.plots import strip_low
from labelassemble.report.record import OtherRun, OverSeeds, Results, RunRecord
from labelassemble.report.render import page
from labelassemble.report.sections import (
    calibration_plots,
    checked_similarity,
    compared_runs,
    coverage_of,
    learning_plots,
    roc_plots,
)
from labelassemble.report.subgroups import gap_note
from labelassemble.report.unreadable import unreadable_sentence

CARDS = 4
"""With at most this many classes of interest each has a card of its own at the top."""


def write_report(
    run: RunRecord,
    results: Results,
    *,
    others: Sequence[OtherRun] = (),
    over_seeds: OverSeeds | None = None,
    external: External | None = None,
) -> Path:
    """Write report.html and model_card.md into a run's folder, and return the page's path.

    What is missing leaves its section out, with a note; without predictions for test images the report still shows
    the data, the training and the settings.

    Args:
        run: what is known of the training.
        results: what the network reaches.
        others: runs to show beside this one, on the classes of interest; the page then opens with them.
        over_seeds: ways of training compared over seeds, shown above them.
        external: the other data that `results` are of; the page then goes into its folder, says so, and shows that
            data's labels; the run's own files stay as they are.

    Raises:
        LabelAssembleError: a similarity that does not fit the classes, or a page that cannot be written.
    """
    folder = run.path if external is None else external.folder
    write_text(folder / "report.html", report_page(run, results, others, over_seeds, external))
    if external is None:
        write_text(folder / "model_card.md", card_markdown(run.title, model_card(run, results)))
    return folder / "report.html"


def report_page(
    run: RunRecord,
    results: Results,
    others: Sequence[OtherRun],
    over_seeds: OverSeeds | None,
    external: External | None,
) -> str:
    """Return the page that `write_report` writes."""
    evaluation, predictions = results.evaluation, results.predictions
    names = run.interest
    if predictions is not None:
        names = tuple(name for name in names if name in predictions.classes) or predictions.classes
    found = () if evaluation is None else tuple(evaluation.of(name) for name in names)
    interest = tuple(result for result in found if result is not None)
    tested = () if evaluation is None else evaluation.classes
    subgroups = () if evaluation is None else evaluation.subgroups
    compared = () if evaluation is None else compared_runs(names, run, results, others)
    table = run.table if external is None else external.table
    return page(
        "report.html.j2",
        title=run.title if external is None else f"{run.title} on {external.name}",
        run_name=run.title,
        written=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        run=run,
        predictions=predictions,
        evaluation=evaluation,
        interest=interest,
        cards=CARDS,
        low=_low_of(tested, () if evaluation is None else [evaluation.headline(r.name) for r in tested]),
        defined=[
            r for r in interest if evaluation is not None and evaluation.headline(r.name).auroc is not None
        ],
        within=[r.name for r in tested if evaluation is not None and evaluation.headline(r.name).within],
        subgroup_low=_low_of([r for group in subgroups for value in group.values for r in value.classes]),
        gap_note="" if evaluation is None else gap_note(evaluation),
        unreadable="" if evaluation is None else unreadable_sentence(evaluation),
        roc=roc_plots(compared),
        compared=compared if others else (),
        over_seeds=over_seeds,
        calibration=calibration_plots(interest),
        operating=shown_rows(results.operating, names),
        operating_rule=rule_text(results.calibration),
        benefit=benefit_plots(results.benefit, names),
        chosen_on=(results.calibration or Calibration()).chosen_on,
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
        examples=results.examples,
        no_proof=NO_PROOF,
        model_card=model_card(run, results) if external is None else (),
    )


def _low_of(results: Sequence[ClassResult], first: Sequence[Headline] = ()) -> float:
    """Return where the strips of these results begin."""
    shown: list[ClassResult | Headline] = [*results, *first]
    return strip_low([result.interval for result in shown], [result.auroc for result in shown])
