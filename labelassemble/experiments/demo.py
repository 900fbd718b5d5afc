"""The demo: does it help to learn from archives that never labelled the finding of interest, and what of it helps?"""

import csv
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

import numpy as np
from rich import box
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table as RichTable

from labelassemble.config import Config, load_config, make_config, read_mapping
from labelassemble.data.images import decode_image
from labelassemble.errors import LabelAssembleError
from labelassemble.evaluation import read_choices, read_predictions
from labelassemble.evaluation.choices import CALIBRATION_FILE
from labelassemble.evaluation.comparison import Comparison, Gain, OverSeeds, SeedsRow
from labelassemble.evaluation.statistics import Interval
from labelassemble.evaluation.wording import signed
from labelassemble.experiments.digits import ARCHIVE_IMAGES, CLINIC_IMAGES, write_images, write_tables
from labelassemble.experiments.side_by_side import log_in, side_by_side
from labelassemble.experiments.summary import mean_interval, t_test
from labelassemble.export.program import run_program
from labelassemble.run import evaluate_run, export_run, train_run

SEEDS: Final = 4
"""Repetitions that end in about two minutes on two busy cores."""


@dataclass(frozen=True)
class Arm:
    """One of the trainings that the demo compares; each has what the one before it has, and one thing more.

    Attributes:
        name: of its folder, and in summary.csv.
        title: in tables; what it has more than the arm before it.
        about: the same as a sentence.
        strong: known labels learn from the strong view too.
        archives: the archives are sources as well.
        rule: an image shows one digit only.
        pseudo_labels: unknown labels are learned from pseudo-labels and the consistency of both views.
    """

    name: str
    title: str
    about: str
    strong: bool = True
    archives: bool = True
    rule: bool = True
    pseudo_labels: bool = True


ARMS: Final = (
    Arm(
        "clinic-alone",
        "clinic alone",
        "few images, in slightly changed views",
        strong=False,
        archives=False,
        rule=False,
        pseudo_labels=False,
    ),
    Arm(
        "clinic-alone-strong",
        "+ strong view",
        "known labels are learned from strongly changed views too",
        archives=False,
        rule=False,
        pseudo_labels=False,
    ),
    Arm(
        "archives",
        "+ archives",
        "more images, with what the archives labelled",
        rule=False,
        pseudo_labels=False,
    ),
    Arm(
        "rule",
        "+ rule",
        "an image shows one digit, so that a three in an archive is a known “no eight”",
        pseudo_labels=False,
    ),
    Arm(
        "recommended",
        "+ pseudo-labels",
        "what is still unknown is learned from answers of the network itself (recommended)",
    ),
)
_INTEREST = "eight"
_TOLERANCE = 1e-5
_RESULTS = "benchmarks/paper/RESULTS.md"
_TEN_SEEDS = "benchmarks/results/demo_seeds.csv"


@dataclass(frozen=True)
class Score:
    """How well an arm's network finds the eight on the held-out images.

    Attributes:
        arm: the arm.
        seed: of the choice of images for each source, of the initial weights and of the views.
        auc: area under the ROC curve.
        low, high: DeLong's 95% interval.
        seconds: of training.
    """

    arm: Arm
    seed: int
    auc: float
    low: float
    high: float
    seconds: float


def run_demo(
    output: Path, *, seeds: Sequence[int], clinic_images: int = CLINIC_IMAGES, console: Console
) -> list[Score]:
    """Train all arms with each seed, print what each part brings, export the recommended run and check it in C++.

    Args:
        output: gets summary.csv, images/, and one folder per seed with its tables, demo.yaml and one run per arm.
        seeds: one repetition each; other images for the sources, other initial weights, other views.
        clinic_images: images that the clinic trains on.
        console: where to write.

    Returns:
        The scores, by seed and arm.

    Raises:
        LabelAssembleError: scikit-learn is missing, the folder holds another demo, ...
        KeyboardInterrupt: on Ctrl-C.
    """
    for seed in seeds:
        prepare_seed(output, seed, clinic_images)
    write_images(output / "images")
    _print_start(seeds, clinic_images, console)
    scores = _train_all(output, seeds, console)
    over_seeds = summarize(scores) if len(seeds) > 1 else None
    if over_seeds is None:
        _print_scores(scores, console)
    else:
        _print_over_seeds(over_seeds, console)
    first = seed_folder(output, seeds[0])
    main = first / ARMS[-1].name
    others = [Comparison(arm.title, first / arm.name, arm.about) for arm in reversed(ARMS[:-1])]
    evaluate_run(main, comparisons=others, over_seeds=over_seeds)
    largest, images = _check_in_cpp(main)
    console.print(
        f"The recommended run of seed {seeds[0]}, exported: a C++ program without Python answers {images} held-out "
        f"images with the same probabilities (largest difference {largest:.1e}, at most {_TOLERANCE:.0e}).\n\n"
        f"All figures: {output / 'summary.csv'}\nReport: {main / 'report.html'}",
        highlight=False,
        soft_wrap=True,
    )
    return scores


def seed_folder(output: Path, seed: int) -> Path:
    """Return the folder of a seed."""
    return output / f"seed-{seed}"


def prepare_seed(output: Path, seed: int, clinic_images: int) -> None:
    """Write the tables and demo.yaml of a seed; the images that they name are those of `write_images`."""
    folder = seed_folder(output, seed)
    write_tables(folder / "data", seed=seed, clinic_images=clinic_images)
    text = files("labelassemble.experiments").joinpath("demo.yaml").read_text(encoding="utf-8")
    (folder / "demo.yaml").write_text(text.replace("seed: 0}", f"seed: {seed}}}"), encoding="utf-8")


def arm_config(file: Path, arm: Arm) -> Config:
    """Return the configuration in `file` as the arm changes it; the last arm is the file as it stands."""
    values = read_mapping(file)
    loss: dict[str, Any] = dict(values["loss"])
    sources: list[dict[str, Any]] = values["sources"]
    if not arm.strong:
        loss["strong_known"] = False
    if not arm.archives:
        sources = [source for source in sources if source["name"] in ("clinic", "held-out")]
        sources[-1]["classes"] = [_INTEREST]
        values["classes"] = [_INTEREST]
    if not arm.rule:
        loss["exclusive"] = False
        for source in sources:
            source.pop("exclusive", None)
    if not arm.pseudo_labels:
        loss |= {"pseudo_weight": 0.0, "consistency_weight": 0.0}
    return make_config({**values, "sources": sources, "loss": loss}, base=file.parent, where=str(file))


@dataclass(frozen=True)
class Trainings:
    """The training of an arm with a seed; or of several arms that do not differ in warm-up, which they share.

    Attributes:
        output: the demo's folder.
        seed: the seed.
        arms: the arms.
    """

    output: Path
    seed: int
    arms: tuple[Arm, ...]

    def __call__(self) -> list[Score]:
        """Train and evaluate, and return the scores.

        Raises:
            LabelAssembleError: what `train_run` raises.
            TrainingInterrupted: on Ctrl-C.
        """
        folder = seed_folder(self.output, self.seed)
        with log_in(folder / "log.txt"):
            return self._train(folder)

    def _train(self, folder: Path) -> list[Score]:
        quiet = Console(quiet=True)
        configs = [arm_config(folder / "demo.yaml", arm) for arm in self.arms]
        runs = [folder / arm.name for arm in self.arms]
        shared = len(runs) > 1
        if shared:
            train_run(configs[0], runs[0], resume=False, until=configs[0].loss.warmup_epochs, console=quiet)
            for other in runs[1:]:
                shutil.copytree(runs[0], other)
        scores = []
        for arm, config, run in zip(self.arms, configs, runs, strict=True):
            result = train_run(config, run, resume=shared, branch=shared, console=quiet)
            assert result.evaluation is not None  # the held-out images are in every table
            auc = result.evaluation.of(_INTEREST)
            assert auc is not None
            assert auc.auroc is not None
            assert auc.interval is not None
            scores.append(Score(arm, self.seed, auc.auroc, *auc.interval, result.outcome.seconds))
        return scores


def write_summary(path: Path, scores: Sequence[Score]) -> None:
    """Write arm,seed,auc,low,high,seconds with one row per training."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["arm", "seed", "auc", "low", "high", "seconds"])
        for score in scores:
            numbers = [f"{value:.6f}" for value in (score.auc, score.low, score.high)]
            writer.writerow([score.arm.name, score.seed, *numbers, f"{score.seconds:.1f}"])


def summarize(scores: Sequence[Score]) -> OverSeeds:
    """Return means over seeds, and paired gains over the first arm and over the arm before, with Student's intervals.

    Args:
        scores: of the same two or more seeds for each arm, in the same order.
    """
    aucs = [[score.auc for score in scores if score.arm == arm] for arm in ARMS]
    rows = []
    for index, arm in enumerate(ARMS):
        over = (0, index - 1) if index else ()
        over_first, over_before = [_gain(aucs[index], aucs[other]) for other in over] or (None, None)
        mean = mean_interval(aucs[index])
        rows.append(SeedsRow(arm.title, arm.about, mean.mean, mean.deviation, over_first, over_before))
    return OverSeeds(_INTEREST, len(aucs[0]), tuple(rows))


def _gain(ours: Sequence[float], others: Sequence[float]) -> Gain:
    found = t_test(ours, others, "paired-t")
    interval = None if found.low is None or found.high is None else Interval(found.low, found.high)
    return Gain(found.value, interval, found.p, sum(a > b for a, b in zip(ours, others, strict=True)))


def _train_all(output: Path, seeds: Sequence[int], console: Console) -> list[Score]:
    """Train everything, side by side; keep summary.csv up to date, say what is done and how long the rest takes."""
    arms_of_task = [(ARMS[-2], ARMS[-1]), *((arm,) for arm in ARMS[:-2])]
    tasks = [Trainings(output, seed, arms) for seed in seeds for arms in arms_of_task]
    workers = min(len(os.sched_getaffinity(0)), len(tasks))
    scores: list[Score] = []
    with _Display(output, seeds, console) as display:
        finished: Iterator[list[Score]] = side_by_side(
            iter(tasks),
            workers=workers,
            threads=1,
            on_kill="labelassemble demo --overwrite begins anew",
            waiting=display.look,
        )
        for found in finished:
            scores = sorted([*scores, *found], key=lambda score: (score.seed, ARMS.index(score.arm)))
            write_summary(output / "summary.csv", scores)
            display.done(found, len(scores))
    return scores


class _Display:
    """Trainings done and time left: a bar on a terminal, a line per training everywhere.

    How far a training is it takes from the rows of its metrics.csv, one per epoch.
    """

    def __init__(self, output: Path, seeds: Sequence[int], console: Console) -> None:
        config = load_config(seed_folder(output, seeds[0]) / "demo.yaml")
        self._console = console
        self._warmup = config.loss.warmup_epochs
        self._runs = [seed_folder(output, seed) / arm.name for seed in seeds for arm in ARMS]
        self._total = len(self._runs) * config.train.epochs - len(seeds) * self._warmup
        self._started = time.monotonic()
        self._progress = Progress(
            TextColumn("training"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f}%  {task.fields[left]}"),
            console=console,
            disable=not console.is_terminal,
            transient=True,
        )
        self._task = self._progress.add_task("", total=self._total, left="")

    def __enter__(self) -> "_Display":
        self._progress.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._progress.stop()

    def look(self) -> None:
        """Move the bar on a terminal."""
        if self._console.is_terminal:
            done = self._epochs()
            self._progress.update(self._task, completed=done, left=self._left(done))

    def done(self, scores: Sequence[Score], trainings: int) -> None:
        """Say that trainings have ended, so many in all."""
        for score in scores:
            left = f", {self._left(self._epochs())}" if score is scores[-1] else ""
            self._console.print(
                f"seed {score.seed}, {score.arm.title}: AUC {score.auc:.3f} "
                f"({trainings} of {len(self._runs)} trainings done{left})",
                highlight=False,
                soft_wrap=True,
            )

    def _epochs(self) -> int:
        """Return the epochs done by all; the last arm's warm-up is that of the arm before it."""
        done = 0
        for run in self._runs:
            try:
                rows = (run / "metrics.csv").read_text(encoding="utf-8").count("\n") - 1
            except OSError:
                continue
            done += max(0, rows - self._warmup) if run.name == ARMS[-1].name else rows
        return done

    def _left(self, done: int) -> str:
        if not done:
            return ""
        return f"about {(time.monotonic() - self._started) / done * (self._total - done):.0f} s left"


def _check_in_cpp(run: Path) -> tuple[float, int]:
    """Export a run, let the C++ program answer the held-out images; return how far it is from Python, and on how many.

    Raises:
        LabelAssembleError: the answers differ by more than rounding.
    """
    export_run(run)
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
    return largest, len(images)


def _print_start(seeds: Sequence[int], clinic_images: int, console: Console) -> None:
    with_seeds = f"with {len(seeds)} seeds" if len(seeds) > 1 else f"with seed {seeds[0]}"
    lines = [
        f"A clinic labels the digit eight on {clinic_images} images, {clinic_images // 3} of them eights. Two archives "
        f"label the other digits on {2 * ARCHIVE_IMAGES} images, and never the eight. How well does a network find the "
        f"eight on images that it has not seen? {len(ARMS)} trainings {with_seeds}, all of the same length, each with "
        "one thing more than the one before:",
        *(f"  {arm.title:<17}{arm.about}" for arm in ARMS),
        "",
    ]
    console.print("\n".join(lines), highlight=False, soft_wrap=True, markup=False)


def _print_scores(scores: Sequence[Score], console: Console) -> None:
    """Print the scores of one seed."""
    table = _table(
        f"AUC of the {_INTEREST} on held-out images, 95% interval (DeLong)", "training", "AUC", "interval"
    )
    for score in scores:
        table.add_row(score.arm.title, f"{score.auc:.3f}", f"{score.low:.3f} to {score.high:.3f}")
    console.print(table)
    console.print(
        f"With one seed no part's share can be told from chance: --seeds {SEEDS} repeats all of it with other "
        "images.\n"
        f"Where assembling does not help: {_RESULTS}\n",
        highlight=False,
        soft_wrap=True,
    )


def _print_over_seeds(over_seeds: OverSeeds, console: Console) -> None:
    table = _table(
        f"AUC of the {_INTEREST} on held-out images, mean ± sd over {over_seeds.seeds} seeds",
        "training",
        "AUC",
        "over the row above (95%)",
        "seeds won",
    )
    for row in over_seeds.rows:
        gain = row.over_before
        compared = ("", "") if gain is None else (gain_text(gain), f"{gain.won} of {over_seeds.seeds}")
        table.add_row(row.name, f"{row.mean:.3f} ± {row.deviation:.3f}", *compared)
    console.print(table)
    lines = [*verdict(over_seeds), ""]
    console.print("\n".join(lines), highlight=False, soft_wrap=True, markup=False)


def verdict(over_seeds: OverSeeds) -> list[str]:
    """Return what the figures say, also where something does not help or where it cannot be told from chance."""
    seeds = over_seeds.seeds
    gains = [(row.name, row.over_before) for row in over_seeds.rows if row.over_before is not None]
    whole = over_seeds.rows[-1].over_first
    assert whole is not None
    lines = [
        f"All of it over the clinic alone: {gain_text(whole)}, better with {whole.won} of {seeds} seeds."
    ]
    name, most = max(gains, key=lambda part: part[1].value)
    if most.won == seeds:
        lines[0] += f" Most comes with “{name}”: {signed(most.value)}."
    lines += [
        f"“{name}” makes it worse here: {gain_text(gain)}, better with {gain.won} of {seeds} seeds."
        for name, gain in gains
        if gain.value < 0
    ]
    unsure = [f"“{name}”" for name, gain in gains if gain.value >= 0 and not _is_sure(gain)]
    if unsure:
        lines.append(
            f"With so few seeds chance may explain the gain of {', '.join(unsure)}: the interval includes 0. "
            f"Ten seeds: {_TEN_SEEDS}"
        )
    lines.append(f"Where assembling does not help, on chest radiographs for one: {_RESULTS}")
    return lines


def _is_sure(gain: Gain) -> bool:
    return gain.interval is not None and gain.interval.lower > 0


def gain_text(gain: Gain) -> str:
    """Return a gain with its interval."""
    if gain.interval is None:
        return signed(gain.value)
    return f"{signed(gain.value)} ({signed(gain.interval.lower)} to {signed(gain.interval.upper)})"


def _table(title: str, *columns: str) -> RichTable:
    table = RichTable(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    for column in columns:
        table.add_column(column, no_wrap=True)
    return table
