"""The demo: does it help to learn from archives that never labelled the finding of interest, and what of it helps?"""

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import numpy as np
from rich.console import Console

from labelassemble.data.images import decode_image
from labelassemble.errors import LabelAssembleError
from labelassemble.evaluation import read_calibration, read_predictions
from labelassemble.evaluation.calibration import CALIBRATION_FILE
from labelassemble.experiments.demo_arms import (
    ARMS,
    INTEREST,
    Arm,
    Score,
    arm_config,
    seed_folder,
    summarize,
    write_summary,
)
from labelassemble.experiments.demo_output import Display, print_over_seeds, print_scores, print_start
from labelassemble.experiments.digits import CLINIC_IMAGES, write_images, write_tables
from labelassemble.experiments.processes import Killed, log_in, side_by_side
from labelassemble.export.program import run_program
from labelassemble.run import evaluate_run, export_run, train_run
from labelassemble.run.record import read_other_run

_TOLERANCE = 1e-5


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
    print_start(seeds, clinic_images, console)
    scores = _train_all(output, seeds, console)
    over_seeds = summarize(scores) if len(seeds) > 1 else None
    if over_seeds is None:
        print_scores(scores, console)
    else:
        print_over_seeds(over_seeds, console)
    first = seed_folder(output, seeds[0])
    main = first / ARMS[-1].name
    others = [read_other_run(first / arm.name, arm.title, arm.about) for arm in reversed(ARMS[:-1])]
    evaluate_run(main, others=others, over_seeds=over_seeds)
    largest, images = _check_in_cpp(main)
    console.print(
        f"The recommended run of seed {seeds[0]}, exported: a C++ program without Python answers {images} held-out "
        f"images with the same probabilities (largest difference {largest:.1e}, at most {_TOLERANCE:.0e}).\n\n"
        f"All figures: {output / 'summary.csv'}\nReport: {main / 'report.html'}",
        highlight=False,
        soft_wrap=True,
        markup=False,
    )
    return scores


def prepare_seed(output: Path, seed: int, clinic_images: int) -> None:
    """Write the tables and demo.yaml of a seed; the images that they name are those of `write_images`."""
    folder = seed_folder(output, seed)
    write_tables(folder / "data", seed=seed, clinic_images=clinic_images)
    text = files("labelassemble.experiments").joinpath("demo.yaml").read_text(encoding="utf-8")
    (folder / "demo.yaml").write_text(text.replace("seed: 0}", f"seed: {seed}}}"), encoding="utf-8")


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
            auc = result.evaluation.of(INTEREST)
            assert auc is not None
            assert auc.auroc is not None
            assert auc.interval is not None
            scores.append(Score(arm, self.seed, auc.auroc, *auc.interval, result.outcome.seconds))
        return scores


def _train_all(output: Path, seeds: Sequence[int], console: Console) -> list[Score]:
    """Train everything, side by side; keep summary.csv up to date, say what is done and how long the rest takes."""
    arms_of_task = [(ARMS[-2], ARMS[-1]), *((arm,) for arm in ARMS[:-2])]
    tasks = [Trainings(output, seed, arms) for seed in seeds for arms in arms_of_task]
    workers = min(len(os.sched_getaffinity(0)), len(tasks))
    scores: list[Score] = []
    with Display(output, seeds, console) as display:
        killed: list[str] = []
        for found in side_by_side(iter(tasks), workers=workers, threads=1, waiting=display.look):
            if isinstance(found, Killed):
                assert isinstance(found.task, Trainings)
                killed += [f"{arm.title} of seed {found.task.seed}" for arm in found.task.arms]
                continue
            scores = sorted([*scores, *found], key=lambda score: (score.seed, ARMS.index(score.arm)))
            write_summary(output / "summary.csv", scores)
            display.done(found, len(scores))
    if killed:
        raise LabelAssembleError(
            f"the process of {', '.join(killed)} was killed (for its memory?): labelassemble demo --overwrite begins "
            "anew"
        )
    return scores


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
    calibration = read_calibration(run / CALIBRATION_FILE)  # it is inside model.pt
    expected = calibration.apply(predictions.probabilities[held_out], predictions.classes)
    largest = float(np.abs(answered - expected).max())
    if not largest <= _TOLERANCE:
        raise LabelAssembleError(
            f"the C++ program's probabilities differ from Python's by {largest:.1e}, at most {_TOLERANCE:.0e} is right"
        )
    return largest, len(images)
