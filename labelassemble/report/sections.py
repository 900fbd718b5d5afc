"""The report's plots and tables, made ready for the page."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup
from numpy.typing import NDArray

from labelassemble.data.table import SPLITS, Table
from labelassemble.errors import LabelAssembleError
from labelassemble.evaluation.compare import (
    ComparedClass,
    Within,
    compare,
    compared_within,
    measure,
    put_within,
)
from labelassemble.evaluation.results import ClassResult
from labelassemble.report import plots
from labelassemble.report.format import NOT_DEFINED, count_text, number, with_interval
from labelassemble.report.record import OtherRun, Results, RunRecord
from labelassemble.training.collapse import CollapseWatch, known_shares
from labelassemble.training.curves import Curves
from labelassemble.training.history import DICE


@dataclass(frozen=True)
class Plot:
    """A plot with the name of what it shows."""

    name: str
    svg: Markup
    legend: tuple[tuple[int, str, str], ...] = ()  # (index of the line, name, number)
    note: str = ""
    bars: bool = False  # the legend names filled areas instead of lines


@dataclass(frozen=True)
class ComparisonRow:
    """A row of the table of runs."""

    name: str
    description: str
    result: ComparedClass | None  # None: the run does not predict the class
    seconds: float | None
    swatch: int


@dataclass(frozen=True)
class ComparedRuns:
    """The runs compared on one class."""

    name: str
    rows: tuple[ComparisonRow, ...]
    within: Within | None  # that it is compared within sources


@dataclass(frozen=True)
class Coverage:
    """Which source labels which class, and how the images are divided."""

    sources: tuple[str, ...]
    splits: tuple[tuple[int, ...], ...]  # of each source: train, val, test
    rows: tuple[tuple[str, tuple[Mapping[Hashable, Any], ...]], ...]  # by class: a cell per source
    crossing: int | None  # patients in more than one split; None where every image is a patient of its own
    noun: str = "image"  # what the splits count


def compared_runs(
    names: Sequence[str], run: RunRecord, results: Results, others: Sequence[OtherRun]
) -> tuple[ComparedRuns, ...]:
    """Return for each of the classes `names` this run's result and those of the others."""
    assert results.predictions is not None
    classes = []
    for name in names:
        seconds = None if run.curves is None else run.curves.seconds
        own = measure(results.predictions, name)
        known = [other for other in others if name in other.predictions.classes]
        measured = {other.name: (measure(other.predictions, name), other.leakage) for other in known}
        within = compared_within({"this run": (own, results.leakage)} | measured)
        if within is not None:
            own = put_within(own, within.reason)
        rows = [ComparisonRow("this run", "", own, seconds, 0)]
        for index, other in enumerate(others, start=1):
            result = None
            if name in other.predictions.classes:
                result = compare(results.predictions, other.predictions, name, within=within)
            rows.append(ComparisonRow(other.name, other.description, result, other.seconds, index))
        classes.append(ComparedRuns(name, tuple(rows), within))
    return tuple(classes)


def roc_plots(compared: Sequence[ComparedRuns]) -> tuple[Plot, ...]:
    found = []
    for item in compared:
        curves, legend = [], []
        for index, row in enumerate(item.rows):
            if row.result is not None and row.result.curve is not None:
                curves.append((index, row.result.curve))
                legend.append((row.swatch, row.name, with_interval(row.result.auroc, row.result.interval)))
        if curves:
            svg = plots.roc(curves, f"ROC curves of {item.name}")
            note = "" if item.within is None else "Pooled over all sources: not to go by."
            found.append(Plot(item.name, svg, tuple(legend), note))
    return tuple(found)


def calibration_plots(interest: Sequence[ClassResult]) -> tuple[Plot, ...]:
    found = []
    for result in interest:
        if result.calibration is not None:
            svg = plots.reliability(
                result.calibration, f"reliability curve of {result.name}", scaled=result.calibrated
            )
            error = "calibration error " + number(result.calibration.error)
            legend = [(0, "as the network gives them", error)]
            note = f"Over {count_text(result.known)} images."
            if result.calibrated is not None:
                error = "calibration error " + number(result.calibrated.error)
                legend.append((1, result.correction, error))
            elif result.no_correction:
                note += f" Not corrected: {result.no_correction}."
            found.append(Plot(result.name, svg, tuple(legend), note))
    return tuple(found)


def learning_plots(
    curves: Curves | None, *, several: bool, interest: Sequence[str] = (), table: Table | None = None
) -> tuple[Plot, ...]:
    """Return the losses and the validation AUROC over epochs, each only if there is something to draw.

    Args:
        curves: metrics.csv.
        several: whether there are several classes.
        interest: classes that are drawn first.
        table: what was trained on; says how often each class is present among known labels.
    """
    if curves is None or not curves.epochs:
        return ()
    columns, mark = curves.columns, curves.pseudo_labels_from
    mark = None if mark == curves.epochs[0] else mark
    loss = {"training: all terms": columns["train_loss"], "validation: known labels": columns["val_loss"]}
    auroc = {"classes of interest": columns["val_auc_interest"]}
    if several and columns["val_auc_mean"] != columns["val_auc_interest"]:
        auroc["mean over classes"] = columns["val_auc_mean"]
    shares = curves.pseudo_positive
    told = [name for name in interest if name in shares] or list(shares)
    positive = {name: shares[name] for name in told[: plots.SERIES]}
    dice = {"classes of interest": columns[DICE]} if DICE in columns else {}  # of volumes
    of = "voxels of the validation cases" if dice else "validation images"
    found = []
    for name, series, axis, top in (
        ("Loss", loss, "loss", None),
        ("Dice of the validation cases", dice, "Dice", 1.0),
        (f"AUROC on {of}", auroc, "AUROC", 1.0),
        ("Unknown labels that the model takes for positive", positive, "share", 1.0),
    ):
        lines = [
            plots.Series(*item) for item in series.items() if any(value is not None for value in item[1])
        ]
        if not lines:
            continue
        svg = plots.learning_curve(
            curves.epochs,
            lines,
            axis=axis,
            label=f"{name} by epoch",
            top=top,
            mark=mark,
            share=axis == "share",
        )
        legend = tuple((index, line.name, _last(line)) for index, line in enumerate(lines))
        notes = [] if mark is None else [f"Dotted line: pseudo-labels count from epoch {mark} on."]
        notes += _one_sided(curves, table) if axis == "share" else []
        found.append(Plot(name, svg, legend, " ".join(notes)))
    return tuple(found)


def _last(line: plots.Series) -> str:
    value = line.values[-1]
    return "last epoch: " + (NOT_DEFINED if value is None else f"{value:.3f}")


def _one_sided(curves: Curves, table: Table | None) -> list[str]:
    """Return a warning for every epoch in which the pseudo-labels of a class have become one-sided."""
    shares, known = curves.pseudo_positive, None
    if table is not None and set(shares) <= set(table.classes):
        known = known_shares(table.select_classes(list(shares)).subset_by_split("train").given_targets())
    watch = CollapseWatch(list(shares), known=known)
    epochs = zip(curves.epochs, zip(*shares.values(), strict=True), strict=False)
    return [f"Epoch {epoch}: {warning}." for epoch, of_epoch in epochs for warning in watch.update(of_epoch)]


def coverage_of(table: Table) -> Coverage:
    """Return which source labels what."""
    rows = table.coverage().to_dict("records")
    sources = tuple(dict.fromkeys(str(row["source"]) for row in rows))
    cells = {(row["class"], row["source"]): row for row in rows}
    splits = pd.crosstab(table.sources, table.splits).reindex(index=sources, columns=SPLITS, fill_value=0)
    named = pd.DataFrame({"patient": table.groups, "split": table.splits})[table.groups != ""]
    of_patient = named.groupby("patient")["split"].nunique()
    return Coverage(
        sources=sources,
        splits=tuple(map(tuple, splits.to_numpy().tolist())),
        rows=tuple((name, tuple(cells[name, source] for source in sources)) for name in table.classes),
        crossing=int((of_patient > 1).sum()) if len(of_patient) < len(named) else None,
        noun=table.noun,
    )


def checked_similarity(
    similarity: NDArray[np.floating] | None, classes: Sequence[str]
) -> tuple[tuple[str, tuple[float, ...]], ...]:
    """Return the rows of the heat map with their names, none without a similarity."""
    if similarity is None:
        return ()
    values = np.asarray(similarity, dtype=np.float64)
    if values.shape != (len(classes), len(classes)):
        raise LabelAssembleError(
            f"similarity must have shape {[len(classes)] * 2}, that of the classes, got {list(values.shape)}"
        )
    if not bool((np.abs(values) <= 1 + 1e-3).all()):
        raise LabelAssembleError("similarity must hold cosines from -1 to 1")
    return tuple(
        (name, tuple(row)) for name, row in zip(classes, np.clip(values, -1, 1).tolist(), strict=True)
    )
