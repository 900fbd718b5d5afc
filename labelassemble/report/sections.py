"""The report's figures and tables, made ready for the page."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from labelassemble.data.table import LABEL_COUNTS, Table
from labelassemble.data.text import text_codes
from labelassemble.errors import LabelAssembleError
from labelassemble.evaluation.compare import ComparedClass, compare, measure
from labelassemble.evaluation.results import ClassResult
from labelassemble.report import plots
from labelassemble.report.format import NOT_DEFINED, count_text, number, with_interval
from labelassemble.report.record import OtherRun, Results, RunRecord
from labelassemble.training.collapse import CollapseWatch, known_shares
from labelassemble.training.curves import Curves


@dataclass(frozen=True)
class Figure:
    """A drawing with the name of what it shows."""

    name: str
    drawing: Markup
    legend: tuple[tuple[int, str, str], ...] = ()  # (index of the line, name, number)
    note: str = ""


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


@dataclass(frozen=True)
class Cell:
    """How many images of one source have which label of one class."""

    images: int
    positive: int
    negative: int
    uncertain: int
    unknown: int
    assumed: int
    derived: int

    @property
    def known(self) -> int:
        return self.positive + self.negative

    def width(self, count: int) -> str:
        return f"{100 * count / max(self.images, 1):.2f}%"


@dataclass(frozen=True)
class Coverage:
    """Which source labels which class, and how the images are divided."""

    sources: tuple[str, ...]
    images: tuple[int, ...]  # a source
    splits: tuple[tuple[int, int, int], ...]  # a source: train, val, test
    rows: tuple[tuple[str, tuple[Cell, ...]], ...]  # a class: its cell of each source
    crossing: int | None  # patients in more than one split; None where every image is a patient of its own


def compared_runs(
    names: Sequence[str], run: RunRecord, results: Results, others: Sequence[OtherRun]
) -> tuple[ComparedRuns, ...]:
    """Return for each of the classes `names` this run's result and those of the others."""
    assert results.predictions is not None
    classes = []
    for name in names:
        seconds = None if run.curves is None else run.curves.seconds
        rows = [ComparisonRow("this run", "", measure(results.predictions, name), seconds, 0)]
        for index, other in enumerate(others, start=1):
            known = name in other.predictions.classes
            rows.append(
                ComparisonRow(
                    other.name,
                    other.description,
                    compare(results.predictions, other.predictions, name) if known else None,
                    other.seconds,
                    index,
                )
            )
        classes.append(ComparedRuns(name, tuple(rows)))
    return tuple(classes)


def roc_figures(compared: Sequence[ComparedRuns]) -> tuple[Figure, ...]:
    figures = []
    for item in compared:
        curves, legend = [], []
        for index, row in enumerate(item.rows):
            if row.result is not None and row.result.curve is not None:
                curves.append((index, row.result.curve))
                legend.append((row.swatch, row.name, with_interval(row.result.auroc, row.result.interval)))
        if curves:
            drawing = plots.roc(curves, f"ROC curves of {item.name}")
            figures.append(Figure(item.name, drawing, tuple(legend)))
    return tuple(figures)


def calibration_figures(interest: Sequence[ClassResult]) -> tuple[Figure, ...]:
    figures = []
    for result in interest:
        if result.calibration is not None:
            drawing = plots.reliability(
                result.calibration, f"reliability curve of {result.name}", scaled=result.calibrated
            )
            error = "calibration error " + number(result.calibration.error)
            legend = [(0, "as the model gives them", error)]
            note = f"Over {count_text(result.known)} images."
            if result.calibrated is not None:
                error = "calibration error " + number(result.calibrated.error)
                legend.append((1, f"temperature {result.temperature:.2f}", error))
            elif result.no_temperature:
                note += f" Not scaled: {result.no_temperature}."
            figures.append(Figure(result.name, drawing, tuple(legend), note))
    return tuple(figures)


def learning_figures(
    curves: Curves | None, *, several: bool, interest: Sequence[str] = (), table: Table | None = None
) -> tuple[Figure, ...]:
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
    loss = [
        plots.Series("training: all terms", columns["train_loss"]),
        plots.Series("validation: known labels", columns["val_loss"]),
    ]
    auroc = [plots.Series("classes of interest", columns["val_auc_interest"])]
    if several and columns["val_auc_mean"] != columns["val_auc_interest"]:
        auroc.append(plots.Series("mean over classes", columns["val_auc_mean"]))
    shares = curves.pseudo_positive
    told = [name for name in interest if name in shares] or list(shares)
    positive = [plots.Series(name, shares[name]) for name in told[: plots.SERIES]]
    watch = CollapseWatch(list(shares), known=_known_shares(table, list(shares)))
    one_sided = [
        f"Epoch {epoch}: {warning}."
        for epoch, of_epoch in zip(curves.epochs, zip(*shares.values(), strict=True), strict=False)
        for warning in watch.update(of_epoch)
    ]
    figures = []
    for name, series, axis, top in (
        ("Loss", loss, "loss", None),
        ("AUROC on validation images", auroc, "AUROC", 1.0),
        ("Unknown labels that the model takes for positive", positive, "share", 1.0),
    ):
        drawn = [line for line in series if any(value is not None for value in line.values)]
        if not drawn:
            continue
        drawing = plots.learning_curve(
            curves.epochs,
            drawn,
            axis=axis,
            label=f"{name} by epoch",
            top=top,
            mark=mark,
            share=axis == "share",
        )
        legend = tuple((index, line.name, _last(line)) for index, line in enumerate(drawn))
        notes = [] if mark is None else [f"Dotted line: pseudo-labels count from epoch {mark} on."]
        notes += one_sided if axis == "share" else []
        figures.append(Figure(name, drawing, legend, " ".join(notes)))
    return tuple(figures)


def _last(line: plots.Series) -> str:
    value = line.values[-1]
    return "last epoch: " + (NOT_DEFINED if value is None else f"{value:.3f}")


def _known_shares(table: Table | None, classes: Sequence[str]) -> list[float | None] | None:
    if table is None or not set(classes) <= set(table.classes):
        return None
    train = table.select_classes(classes).subset_by_split("train")
    return known_shares(train.given_targets())


def coverage_of(table: Table) -> Coverage:
    frame = table.coverage()
    sources, codes = text_codes(table.sources)
    of_split = [
        np.bincount(codes[table.splits == split], minlength=len(sources))
        for split in ("train", "val", "test")
    ]
    cells = {
        (source, name): Cell(*(int(count) for count in counts))
        for source, name, *counts in frame[["source", "class", "images", *LABEL_COUNTS]].itertuples(
            index=False
        )
    }
    named = table.groups != ""
    _, patients = text_codes(table.groups[named])
    pairs = np.unique(np.stack([patients, text_codes(table.splits[named])[1]]), axis=1)
    return Coverage(
        sources=tuple(str(source) for source in sources),
        images=tuple(int(count) for count in np.bincount(codes, minlength=len(sources))),
        splits=tuple((int(a), int(b), int(c)) for a, b, c in zip(*of_split, strict=True)),
        rows=tuple((name, tuple(cells[str(source), name] for source in sources)) for name in table.classes),
        crossing=int(np.count_nonzero(np.bincount(pairs[0]) > 1))
        if len(set(patients)) < len(patients)
        else None,
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
            f"similarity must have shape {[len(classes)] * 2}, a row and a column a class, got {list(values.shape)}"
        )
    if not bool((np.abs(values) <= 1 + 1e-3).all()):
        raise LabelAssembleError("similarity must hold cosines from -1 to 1")
    return tuple(
        (name, tuple(row)) for name, row in zip(classes, np.clip(values, -1, 1).tolist(), strict=True)
    )
