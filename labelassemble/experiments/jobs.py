"""The jobs of an experiment, and their results: one file a job, found again by what the job is."""

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from labelassemble.errors import LabelAssembleError, did_you_mean
from labelassemble.experiments.measures import SourceResult
from labelassemble.experiments.settings import Arm, Checkpoint, Experiment, NetOptions, Setting, overlaid
from labelassemble.experiments.stack import Stack
from labelassemble.loss import LossOptions
from labelassemble.training.options import TrainOptions
from labelassemble.views.options import ViewOptions

_FORMAT = 1  # raised when the same settings come to mean something else


@dataclass(frozen=True)
class Job:
    """One training.

    Attributes:
        setting, arm, size, seed: what it is.
        other: the class assembled with the one of interest, None where none is.
        classes: outputs of its network; the class of interest, where there is one, is the first.
        views, model, loss, train: the options, everything overlaid.
        checkpoint: which one is measured.
        settings: all that decides the result, as JSON has it.
        fingerprint: of those settings that are not at their defaults.
    """

    setting: Setting
    arm: Arm
    size: int | str
    seed: int
    other: str | None
    classes: tuple[str, ...]
    views: ViewOptions
    model: NetOptions
    loss: LossOptions
    train: TrainOptions
    checkpoint: Checkpoint
    settings: dict[str, Any]
    fingerprint: str

    @property
    def name(self) -> str:
        """A text for people and file names, which the fingerprint makes unique."""
        other = "" if self.other is None else f"-{self.other.replace(' ', '_').replace('/', '_')}"
        return f"{self.setting.name}-{self.arm.name}{other}-n{self.size}-s{self.seed}-{self.fingerprint[:8]}"

    @property
    def kind(self) -> tuple[str, str, int | str]:
        """Jobs of one kind take about the same time."""
        return self.setting.name, self.arm.name, self.size


def views_of(experiment: Experiment, setting: Setting) -> ViewOptions:
    """Return the views of a setting."""
    return overlaid(experiment.views, setting.views)


def jobs_of(experiment: Experiment, setting: Setting, stack: Stack, seeds: Sequence[int]) -> list[Job]:
    """Return all jobs of a setting, seed by seed, so that what is done first is complete for fewer seeds.

    Raises:
        LabelAssembleError: a class that the dataset lacks.
    """
    for name in (setting.interest, *(setting.others if isinstance(setting.others, tuple) else ())):
        if name is not None and name not in stack.classes:
            raise LabelAssembleError(
                f"setting '{setting.name}': dataset '{setting.data}' has no class '{name}'"
                f"{did_you_mean(name, stack.classes)}"
            )
    for part in experiment.parts:
        for name in part.labels if isinstance(part.labels, tuple) else ():
            if name not in stack.classes:
                raise LabelAssembleError(
                    f"part '{part.name}' labels '{name}', which dataset '{setting.data}' does not have"
                    f"{did_you_mean(name, stack.classes)}"
                )
    rest = tuple(name for name in stack.classes if name != setting.interest)
    others = rest if setting.others == "each" else setting.others or ()
    jobs = []
    for seed in seeds:
        for size in setting.sizes:
            for arm in experiment.arms:
                for other in others if arm.classes == "pair" else (None,):
                    jobs.append(_job(experiment, setting, arm, stack, size, seed, other, rest))
    return jobs


def _job(
    experiment: Experiment,
    setting: Setting,
    arm: Arm,
    stack: Stack,
    size: int | str,
    seed: int,
    other: str | None,
    rest: tuple[str, ...],
) -> Job:
    classes: tuple[str, ...] = () if setting.interest is None else (setting.interest,)
    if arm.classes == "all":
        classes += rest
    elif other is not None:
        classes += (other,)
    views = views_of(experiment, setting)
    model = overlaid(experiment.model, arm.model)
    loss = overlaid(experiment.loss, arm.loss)
    train = overlaid(overlaid(overlaid(experiment.train, setting.train), arm.train), {"seed": seed})
    chosen = [p for p in experiment.parts if arm.parts is None or p.name in arm.parts]
    decides: list[BaseModel] = [views, model, loss, train, *experiment.parts]
    # Dealing depends on the order and numbers of all parts, so all of them count.
    settings = {
        "format": _FORMAT,
        "data": stack.fingerprint,
        "held_out": [int((stack.splits == split).sum()) for split in ("val", "test")],
        "all_classes": list(stack.classes),
        "classes": list(classes),
        "other": other,
        "size": size,
        "chosen": [part.name for part in chosen],
        "checkpoint": experiment.checkpoint,
        **_unusual(experiment, arm),
        **({} if arm.sees == "whole" else {"sees": arm.sees}),
    }
    left_out = {"cache_mb", "threads", "backend"}  # how quickly, not what
    brief = settings | {
        "options": [o.model_dump(mode="json", exclude=left_out, exclude_defaults=True) for o in decides]
    }
    whole = settings | {"options": [o.model_dump(mode="json", exclude=left_out) for o in decides]}
    fingerprint = hashlib.sha256(json.dumps(brief, sort_keys=True).encode()).hexdigest()[:16]
    return Job(
        setting,
        arm,
        size,
        seed,
        other,
        classes,
        views,
        model,
        loss,
        train,
        experiment.checkpoint,
        json.loads(json.dumps(whole)),
        fingerprint,
    )


def _unusual(experiment: Experiment, arm: Arm) -> dict[str, str]:
    """Return what else decides a result, where it is not as it was before there was a choice."""
    values = {
        "metric": (experiment.metric, "auc"),
        "labels": (arm.labels, "parts"),
        "criterion": (arm.criterion, "paper"),
    }
    return {key: value for key, (value, usual) in values.items() if value != usual}


@dataclass(frozen=True)
class JobResult:
    """What a job came to.

    Where the experiment has no class of interest (metric "mean_auc"), what is said of it here is over all classes:
    AUROCs are means over the classes that have one, numbers of labels are sums.

    Attributes:
        auc: AUROC of the class of interest on the test images; None where it is not defined.
        low, high: DeLong's 95% interval, over patients; None for a mean over classes.
        positives, negatives: test images with a known label of the class of interest.
        train_images, train_positives: images trained on, and positives of the class of interest labelled among them.
        best_epoch, epochs, seconds: of the training.
        cosine: of the learned queries of the class of interest and the one assembled; None without.
        unknown: cells of the class of interest that training saw as unknown.
        unknown_above: share of them that the trained network puts above the threshold; None without any.
        unknown_positive: share of them that are positive in truth; None without any.
        unknown_auc: AUROC on them; None where it is not defined.
        auc_best: of the checkpoint with the best validation AUC, where the last one is measured; None elsewhere.
        class_auc: AUROC on the test images of every class of the network, by name, over the cells whose label is
            known; None where it is not defined. Empty in results of before it was measured.
        threshold, true_positives, true_negatives, leakage, leakage_within, sources: see `Measures`; None and empty in
            results that are older than they.
    """

    auc: float | None
    low: float | None
    high: float | None
    positives: int
    negatives: int
    train_images: int
    train_positives: int
    best_epoch: int
    epochs: int
    seconds: float
    cosine: float | None = None
    unknown: int = 0
    unknown_above: float | None = None
    unknown_positive: float | None = None
    unknown_auc: float | None = None
    auc_best: float | None = None
    class_auc: dict[str, float | None] = field(default_factory=dict)
    threshold: float | None = None
    true_positives: int | None = None
    true_negatives: int | None = None
    leakage: float | None = None
    leakage_within: float | None = None
    sources: tuple[SourceResult, ...] = ()

    def __post_init__(self) -> None:
        # JSON keeps a row as a list.
        object.__setattr__(self, "sources", tuple(SourceResult(*row) for row in self.sources))


class Results:
    """The finished jobs in a folder.

    Args:
        folder: gets a file ``NAME.json`` a job.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def load(self, job: Job) -> JobResult | None:
        """Return the result of exactly this job, None where there is none: one of other settings does not count.

        An option that the library has got since counts as it was before, at its default; one whose default has changed
        since does not.
        """
        try:
            values = json.loads((self._folder / f"{job.name}.json").read_text(encoding="utf-8"))
            if values["fingerprint"] != job.fingerprint or not _same(values["settings"], job.settings):
                return None
            return JobResult(**values["result"])
        except (OSError, ValueError, KeyError, TypeError):  # absent, or cut off by something that is not us
            return None

    def save(self, job: Job, result: JobResult) -> None:
        """Write the result, whole or not at all.

        Raises:
            LabelAssembleError: it cannot be written.
        """
        path = self._folder / f"{job.name}.json"
        unfinished = path.with_name(f".{os.getpid()}-{path.name}")
        values = {
            "fingerprint": job.fingerprint,
            "settings": job.settings,
            "job": {
                "setting": job.setting.name,
                "arm": job.arm.name,
                "size": job.size,
                "seed": job.seed,
                "other": job.other,
            },
            "result": result.__dict__,
        }
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            unfinished.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
            os.replace(unfinished, path)
        except OSError as error:
            raise LabelAssembleError(f"{path}: cannot be written ({error.strerror})") from error

    def left_aside(self, jobs: Sequence[Job]) -> int:
        """Return how many results in the folder are of other jobs or settings than these."""
        names = {f"{job.name}.json" for job in jobs}
        return sum(path.name not in names for path in self._folder.glob("[!.]*.json"))


def _same(stored: Any, now: Any) -> bool:
    """Return whether every stored value is the same now; options that are new now are at their defaults.

    That they are, the fingerprint says.
    """
    if isinstance(stored, dict) and isinstance(now, dict):
        return all(key in now and _same(value, now[key]) for key, value in stored.items())
    if isinstance(stored, list) and isinstance(now, list):
        return len(stored) == len(now) and all(map(_same, stored, now))
    return bool(stored == now)
