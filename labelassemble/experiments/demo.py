"""The demo: does it help to learn from archives that never labelled the finding of interest?"""

import csv
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from rich.console import Console
from rich.table import Table as RichTable

from labelassemble.config import Config, make_config
from labelassemble.data.images import decode_image
from labelassemble.errors import LabelAssembleError
from labelassemble.evaluation import read_choices, read_predictions
from labelassemble.evaluation.choices import CALIBRATION_FILE
from labelassemble.evaluation.report import Comparison
from labelassemble.experiments.digits import CLINIC_IMAGES, write_digits
from labelassemble.export.program import run_program
from labelassemble.run import evaluate_run, export_run, train_run


@dataclass(frozen=True)
class Method:
    """One of the trainings that the demo compares."""

    folder: str
    title: str


METHODS = (
    Method("clinic-alone", "a  clinic alone"),
    Method("masked-bce", "b  assembly, masked BCE"),
    Method("label-assemble", "c  assembly, pseudo-labels and consistency"),
)
_INTEREST = "eight"
_TOLERANCE = 1e-5


@dataclass(frozen=True)
class Score:
    """A method's result on the held-out images."""

    method: Method
    clinic_images: int
    seed: int
    auc: float
    low: float
    high: float
    seconds: float


def run_demo(
    output: Path, *, seeds: Sequence[int], clinic_images: int = CLINIC_IMAGES, console: Console
) -> list[Score]:
    """Train the three methods, print how well each finds the eight, export the third and check it in C++.

    Args:
        output: gets data/, demo.yaml and a run's folder a method; with several seeds, a folder a seed.
        seeds: of the dealing of images to sources, the initial weights and the views.
        clinic_images: images that the clinic trains on.
        console: where to write.

    Returns:
        The scores, by seed and method.

    Raises:
        LabelAssembleError: scikit-learn is missing, the folder holds another demo, ...
        TrainingInterrupted: on Ctrl-C.
    """
    if len(seeds) == 1:
        scores, largest = _one_seed(output, seeds[0], clinic_images, console)
        _print_scores(scores, console)
        console.print(
            f"C++ without Python on the same images: largest difference {largest:.1e} (at most {_TOLERANCE:.0e})\n"
            f"Report: {output / METHODS[-1].folder / 'report.html'}",
            highlight=False,
            soft_wrap=True,
        )
        return scores
    every: list[Score] = []
    for seed in seeds:
        console.rule(f"seed {seed}")
        scores, _ = _one_seed(output / f"seed-{seed}", seed, clinic_images, console)
        _print_scores(scores, console)
        every += scores
        write_scores(output / "scores.csv", every)
    _print_spread(every, console)
    return every


def write_scores(path: Path, scores: Sequence[Score]) -> None:
    """Write a row a seed and method: clinic_images,seed,method,auc,low,high,seconds."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["clinic_images", "seed", "method", "auc", "low", "high", "seconds"])
        for score in scores:
            numbers = [f"{value:.6f}" for value in (score.auc, score.low, score.high)]
            writer.writerow(
                [score.clinic_images, score.seed, score.method.folder, *numbers, f"{score.seconds:.1f}"]
            )


def _one_seed(output: Path, seed: int, clinic_images: int, console: Console) -> tuple[list[Score], float]:
    output.mkdir(parents=True, exist_ok=True)
    text = files("labelassemble.experiments").joinpath("demo.yaml").read_text(encoding="utf-8")
    values = yaml.safe_load(text)
    values["train"]["seed"] = seed
    if seed != 0:
        text = text.replace("seed: 0}", f"seed: {seed}}}")
    (output / "demo.yaml").write_text(text, encoding="utf-8")
    write_digits(output / "data", seed=seed, clinic_images=clinic_images)

    scores = []
    for method in METHODS:
        config = method_config(values, method, output)
        console.print(f"\n[bold]{method.title}[/bold]")
        result = train_run(config, output / method.folder, resume=False, console=console)
        assert result.evaluation is not None  # the held-out images are in every table
        auc = result.evaluation.of(_INTEREST)
        assert auc is not None
        assert auc.auroc is not None
        assert auc.interval is not None
        scores.append(Score(method, clinic_images, seed, auc.auroc, *auc.interval, result.outcome.seconds))
    main = output / METHODS[-1].folder
    evaluate_run(main, comparisons=[Comparison(m.title, output / m.folder, "") for m in METHODS[:-1]])
    return scores, _check_in_cpp(main, console)


def method_config(values: dict[str, Any], method: Method, output: Path) -> Config:
    """Return the demo's configuration as the method changes it; c is the file as it stands."""
    changed = dict(values)
    if method.folder == "clinic-alone":
        kept = [source for source in values["sources"] if source["name"] in ("clinic", "held-out")]
        changed["sources"] = [
            {**source, "classes": [_INTEREST]} if source["name"] == "held-out" else source for source in kept
        ]
        changed["classes"] = [_INTEREST]
    if method.folder != "label-assemble":
        changed["loss"] = {**values["loss"], "pseudo_weight": 0.0, "consistency_weight": 0.0}
    return make_config(changed, base=output)


def _check_in_cpp(run: Path, console: Console) -> float:
    """Export the run, let the C++ program answer the held-out images, return the largest difference from Python."""
    console.print(f"\n[bold]export and C++[/bold]\n{export_run(run)}", highlight=False, soft_wrap=True)
    predictions = read_predictions(run / "predictions.csv")
    held_out = np.flatnonzero(predictions.splits == "test")
    images = [decode_image(str(predictions.paths[row])) for row in held_out]
    answered = run_program(run / "model.pt", images)
    chosen = read_choices(run / CALIBRATION_FILE)  # the temperatures are inside model.pt
    expected = chosen.calibrated(predictions.probabilities[held_out], predictions.classes)
    largest = float(np.abs(answered - expected).max())
    if not largest <= _TOLERANCE:
        raise LabelAssembleError(
            f"the C++ program's probabilities differ from Python's by {largest:.1e}, at most {_TOLERANCE:.0e} is right"
        )
    return largest


def _print_scores(scores: Sequence[Score], console: Console) -> None:
    table = RichTable(title=f"AUC of the digit '{_INTEREST}' on held-out images, 95% interval (DeLong)")
    for column in ("training", "AUC", "interval", "seconds"):
        table.add_column(column)
    for score in scores:
        interval = f"{score.low:.3f} to {score.high:.3f}"
        table.add_row(score.method.title, f"{score.auc:.3f}", interval, f"{score.seconds:.0f}")
    console.print()
    console.print(table)


def _print_spread(scores: Sequence[Score], console: Console) -> None:
    table = RichTable(title=f"AUC of the digit '{_INTEREST}' over seeds")
    for column in ("training", "mean", "standard deviation", "lowest", "highest"):
        table.add_column(column)
    for method in METHODS:
        aucs = [score.auc for score in scores if score.method == method]
        numbers = (statistics.mean(aucs), statistics.stdev(aucs), min(aucs), max(aucs))
        table.add_row(method.title, *(f"{number:.3f}" for number in numbers))
    console.print(table)
