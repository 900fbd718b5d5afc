"""report.html: one page that a person can read in two minutes, then the details. Self-contained, no scripts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from labelassemble.data.table import Table
from labelassemble.data.table_csv import replaced_file
from labelassemble.data.text import text_codes
from labelassemble.errors import LabelAssembleError
from labelassemble.evaluation import charts
from labelassemble.evaluation.comparison import ComparedClass, Comparison, compare, measure
from labelassemble.evaluation.evaluate import evaluate
from labelassemble.evaluation.results import (
    NOT_DEFINED,
    ClassResult,
    Evaluation,
    interval_text,
    number,
    percent,
    with_interval,
)
from labelassemble.evaluation.runfolder import History, RunFolder, read_run

__all__ = ["Comparison", "write_report"]

CARDS = 4
"""With at most this many classes of interest each has a card of its own at the top."""


@dataclass(frozen=True)
class _Figure:
    """A drawing with the name of what it shows."""

    name: str
    drawing: Markup
    legend: tuple[tuple[Markup, str, str], ...] = ()  # (swatch, name, figure)
    note: str = ""


@dataclass(frozen=True)
class _ComparisonRow:
    """A row of the table of runs."""

    name: str
    description: str
    result: ComparedClass | None  # None: the run does not predict the class
    seconds: float | None
    swatch: Markup


@dataclass(frozen=True)
class _ComparedRuns:
    """The runs compared on one class."""

    name: str
    rows: tuple[_ComparisonRow, ...]


@dataclass(frozen=True)
class _Cell:
    """How many images of one source have which label of one class."""

    images: int
    positive: int
    negative: int
    uncertain: int
    unknown: int
    assumed: int

    @property
    def known(self) -> int:
        return self.positive + self.negative

    def width(self, count: int) -> str:
        return charts.percent_width(count / self.images if self.images else 0.0)


@dataclass(frozen=True)
class _Coverage:
    """Which source labels which class, and how the images are divided."""

    sources: tuple[str, ...]
    images: tuple[int, ...]  # a source
    splits: tuple[tuple[int, int, int], ...]  # a source: train, val, test
    rows: tuple[tuple[str, tuple[_Cell, ...]], ...]  # a class: its cell of each source
    crossing: int | None  # patients in more than one split; None where every image is a patient of its own


def write_report(
    run: Path,
    *,
    evaluation: Evaluation | None = None,
    similarity: NDArray[np.floating] | None = None,
    comparisons: Sequence[Comparison] = (),
) -> Path:
    """Write report.html into a run's folder and return its path.

    A file that the folder lacks leaves its section out, with a note; without predictions for test images the
    report still shows the data, the training and the settings.

    Args:
        run: the folder; see `RunFolder` for the files that are read.
        evaluation: of the run's predictions on the test images, where the caller has it already.
        similarity: [C, C], cosine similarity of the learned queries, in the order of the run's classes.
        comparisons: other runs to show beside this one, on the classes of interest.

    Raises:
        LabelAssembleError: no such folder, a damaged file in it or in a compared run's, a similarity that does
            not fit the classes, or a page that cannot be written.
    """
    folder = read_run(run)
    others = [(comparison, read_run(comparison.path)) for comparison in comparisons]
    predictions = folder.predictions
    tested = predictions is not None and bool((predictions.splits == "test").any())
    if evaluation is None and predictions is not None and tested:
        evaluation = evaluate(predictions)
    compared = _compared(folder, others) if evaluation is not None else ()
    page = _environment().get_template("report.html.j2").render(
        title=run.resolve().name.encode("utf-8", "replace").decode("utf-8"),
        written=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        run=folder,
        evaluation=evaluation,
        interest=_interest(folder, evaluation),
        cards=CARDS,
        low=_strip_low(evaluation),
        roc=_roc_figures(compared),
        compared=compared if others else (),
        calibration=_calibration_figures(folder, evaluation),
        coverage=None if folder.table is None else _coverage(folder.table),
        learning=_learning_figures(folder.history, several=len(folder.classes) > 1),
        similarity=_checked_similarity(similarity, folder.classes),
        settings=_flat(folder.environment or {}),
        external=None,
    )  # fmt: skip
    target = run / "report.html"
    with replaced_file(target) as file:
        file.write(page)
    return target


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("labelassemble.evaluation", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        number=number,
        percent=percent,
        interval=interval_text,
        count=_count,
        duration=_duration,
        p=_p,
        signed=_signed,
        cosine=_cosine,
    )
    environment.globals.update(
        strip=charts.strip,
        strip_scale=charts.strip_scale,
        with_interval=with_interval,
        NOT_DEFINED=NOT_DEFINED,
    )
    return environment


def _interest(folder: RunFolder, evaluation: Evaluation | None) -> tuple[ClassResult, ...]:
    if evaluation is None:
        return ()
    results = [evaluation.of(name) for name in folder.interest]
    return tuple(result for result in results if result is not None)


def _strip_low(evaluation: Evaluation | None) -> float:
    results = () if evaluation is None else evaluation.classes
    return charts.strip_low([result.interval for result in results], [result.auroc for result in results])


def _compared(folder: RunFolder, others: Sequence[tuple[Comparison, RunFolder]]) -> tuple[_ComparedRuns, ...]:
    """Return for each class of interest this run's figures and those of the others."""
    assert folder.predictions is not None
    classes = []
    for name in folder.interest:
        seconds = None if folder.history is None else folder.history.seconds
        rows = [
            _ComparisonRow("this run", "", measure(folder.predictions, name), seconds, charts.swatch(0)),
        ]
        for index, (comparison, other) in enumerate(others, start=1):
            if other.predictions is None:
                raise LabelAssembleError(
                    f"{comparison.path}: the run '{comparison.name}' has no predictions.csv to compare with"
                )
            known = name in other.predictions.classes
            rows.append(
                _ComparisonRow(
                    comparison.name,
                    comparison.description,
                    compare(folder.predictions, other.predictions, name) if known else None,
                    None if other.history is None else other.history.seconds,
                    charts.swatch(index),
                )
            )
        classes.append(_ComparedRuns(name, tuple(rows)))
    return tuple(classes)


def _roc_figures(compared: Sequence[_ComparedRuns]) -> tuple[_Figure, ...]:
    figures = []
    for item in compared:
        curves, legend = [], []
        for index, row in enumerate(item.rows):
            if row.result is not None and row.result.curve is not None:
                curves.append((index, row.result.curve))
                legend.append((row.swatch, row.name, with_interval(row.result.auroc, row.result.interval)))
        if curves:
            drawing = charts.roc(curves, f"ROC curves of {item.name}")
            figures.append(_Figure(item.name, drawing, tuple(legend)))
    return tuple(figures)


def _calibration_figures(folder: RunFolder, evaluation: Evaluation | None) -> tuple[_Figure, ...]:
    figures = []
    for result in _interest(folder, evaluation):
        if result.calibration is not None:
            drawing = charts.reliability(
                result.calibration, f"reliability curve of {result.name}", scaled=result.calibrated
            )
            error = "calibration error " + number(result.calibration.error)
            legend = [(charts.swatch(0), "as the model gives them", error)]
            note = f"Over {_count(result.known)} images."
            if result.calibrated is not None:
                error = "calibration error " + number(result.calibrated.error)
                legend.append((charts.swatch(1), f"temperature {result.temperature:.2f}", error))
            elif result.no_temperature:
                note += f" Not scaled: {result.no_temperature}."
            figures.append(_Figure(result.name, drawing, tuple(legend), note))
    return tuple(figures)


def _learning_figures(history: History | None, *, several: bool) -> tuple[_Figure, ...]:
    """Return the losses and the validation AUROC over epochs, each only if there is something to draw."""
    if history is None or not history.epochs:
        return ()
    columns, mark = history.columns, history.pseudo_labels_from
    mark = None if mark == history.epochs[0] else mark
    loss = [
        charts.Series("training: all terms", columns["train_loss"]),
        charts.Series("validation: known labels", columns["val_loss"]),
    ]
    auroc = [charts.Series("classes of interest", columns["val_auc_interest"])]
    if several and columns["val_auc_mean"] != columns["val_auc_interest"]:
        auroc.append(charts.Series("mean over classes", columns["val_auc_mean"]))
    figures = []
    for name, series, axis, top in (
        ("Loss", loss, "loss", None),
        ("AUROC on validation images", auroc, "AUROC", 1.0),
    ):
        drawn = [line for line in series if any(value is not None for value in line.values)]
        if not drawn:
            continue
        drawing = charts.learning_curve(
            history.epochs, drawn, axis=axis, label=f"{name} by epoch", top=top, mark=mark
        )
        legend = tuple((charts.swatch(index), line.name, _last(line)) for index, line in enumerate(drawn))
        note = "" if mark is None else f"Dotted line: pseudo-labels count from epoch {mark} on."
        figures.append(_Figure(name, drawing, legend, note))
    return tuple(figures)


def _last(line: charts.Series) -> str:
    value = line.values[-1]
    return "last epoch: " + (NOT_DEFINED if value is None else f"{value:.3f}")


def _coverage(table: Table) -> _Coverage:
    frame = table.coverage()
    sources, codes = text_codes(table.sources)
    of_split = [
        np.bincount(codes[table.splits == split], minlength=len(sources))
        for split in ("train", "val", "test")
    ]
    cells = {
        (source, name): _Cell(*(int(count) for count in counts))
        for source, name, *counts in frame[
            ["source", "class", "images", "positive", "negative", "uncertain", "unknown", "assumed"]
        ].itertuples(index=False)
    }
    named = table.groups != ""
    _, patients = text_codes(table.groups[named])
    pairs = np.unique(np.stack([patients, text_codes(table.splits[named])[1]]), axis=1)
    return _Coverage(
        sources=tuple(str(source) for source in sources),
        images=tuple(int(count) for count in np.bincount(codes, minlength=len(sources))),
        splits=tuple((int(a), int(b), int(c)) for a, b, c in zip(*of_split, strict=True)),
        rows=tuple((name, tuple(cells[str(source), name] for source in sources)) for name in table.classes),
        crossing=int(np.count_nonzero(np.bincount(pairs[0]) > 1))
        if len(set(patients)) < len(patients)
        else None,
    )


def _checked_similarity(
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


def _flat(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Return nested values as (dotted name, text)."""
    rows: list[tuple[str, str]] = []
    for key, value in values.items():
        if isinstance(value, Mapping):
            rows += _flat(value, f"{prefix}{key}.")
        else:
            text = ", ".join(str(part) for part in value) if isinstance(value, list) else str(value)
            rows.append((f"{prefix}{key}", text))
    return rows


def _count(value: int) -> str:
    """Return 12,345 with a thin space between thousands, which no reader takes for a decimal mark."""
    return f"{value:,}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "not recorded"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def _p(value: float | None) -> str:
    if value is None:
        return NOT_DEFINED
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def _signed(value: float) -> str:
    text = f"{value:+.3f}".replace("-", "\N{MINUS SIGN}")
    return "0.000" if text[1:] == "0.000" else text


def _cosine(value: float) -> str:
    text = f"{value:.2f}".replace("-", "\N{MINUS SIGN}")
    return "0.00" if text[1:] == "0.00" else text
