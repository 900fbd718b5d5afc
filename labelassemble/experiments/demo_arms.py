"""The demo's arms: what each of them trains on, and what they come to."""

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from labelassemble._files import atomic_file
from labelassemble._yaml import read_mapping
from labelassemble.config import Config, make_config
from labelassemble.evaluation.proportion import Interval
from labelassemble.experiments.summary import mean_interval, t_test
from labelassemble.report.record import Gain, OverSeeds, SeedsRow

INTEREST: Final = "eight"
"""The class that the clinic labels."""


@dataclass(frozen=True)
class Arm:
    """One of the trainings that the demo compares; each has what the one before it has, and one thing more.

    Attributes:
        name: of its folder, and in summary.csv.
        title: in tables; what it has more than the arm before it.
        about: the same as a sentence.
        parts: how many it has of, in this order: the strong view for known labels too; the archives; the rule that an
            image shows one digit; pseudo-labels and the consistency of both views for unknown labels.
    """

    name: str
    title: str
    about: str
    parts: int


ARMS: Final = (
    Arm("clinic-alone", "clinic alone", "few images, in slightly changed views", 0),
    Arm(
        "clinic-alone-strong", "+ strong view", "known labels are learned from strongly changed views too", 1
    ),
    Arm("archives", "+ archives", "more images, with what the archives labelled", 2),
    Arm("rule", "+ rule", "an image shows one digit, so that a three in an archive is a known “no eight”", 3),
    Arm(
        "recommended",
        "+ pseudo-labels",
        "what is still unknown is learned from answers of the network itself (recommended)",
        4,
    ),
)


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


def arm_config(file: Path, arm: Arm) -> Config:
    """Return the configuration in `file` as the arm changes it; the last arm is the file as it stands."""
    values = read_mapping(file)
    loss: dict[str, Any] = dict(values["loss"])
    sources: list[dict[str, Any]] = values["sources"]
    if arm.parts < 1:  # the strong view
        loss["strong_known"] = False
    if arm.parts < 2:  # archives
        sources = [source for source in sources if source["name"] in ("clinic", "held-out")]
        sources[-1]["classes"] = [INTEREST]
        values["classes"] = [INTEREST]
    if arm.parts < 3:  # the rule
        loss["exclusive"] = False
        for source in sources:
            source.pop("exclusive", None)
    if arm.parts < 4:  # pseudo-labels
        loss |= {"pseudo_weight": 0.0, "consistency_weight": 0.0}
    return make_config({**values, "sources": sources, "loss": loss}, base=file.parent, where=str(file))


def write_summary(path: Path, scores: Sequence[Score]) -> None:
    """Write arm,seed,auc,low,high,seconds with one row per training."""
    with atomic_file(path) as file:
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
        rows.append(SeedsRow(arm.title, arm.about, mean.mean, mean.sd, over_first, over_before))
    return OverSeeds(INTEREST, len(aucs[0]), tuple(rows))


def _gain(ours: Sequence[float], others: Sequence[float]) -> Gain:
    found = t_test(ours, others, "paired-t")
    defined = not math.isnan(found.p)
    interval = Interval(found.low, found.high) if defined else None
    return Gain(
        found.difference,
        interval,
        found.p if defined else None,
        sum(a > b for a, b in zip(ours, others, strict=True)),
    )


def seed_folder(output: Path, seed: int) -> Path:
    """Return the folder of a seed."""
    return output / f"seed-{seed}"
