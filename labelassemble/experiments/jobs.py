"""The jobs of an experiment and their results: each is a `train_run`, measured on the test images."""

import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import BaseModel
from rich.console import Console

from labelassemble._files import make_folder
from labelassemble.config import Config, make_config
from labelassemble.data import Table
from labelassemble.data.states import NEGATIVE, UNKNOWN
from labelassemble.errors import LabelAssembleError, did_you_mean
from labelassemble.experiments.dataset import Dataset
from labelassemble.experiments.experiment import Arm, Experiment, Setting
from labelassemble.experiments.label_split import LabelSplit, split_labels
from labelassemble.experiments.measures import Row, measures
from labelassemble.experiments.released_loss import ReleasedLoss
from labelassemble.loss import PartialLabelLoss
from labelassemble.run import train_run

_FORMAT: Final = 2  # raised when the same settings come to mean something else
_VALIDATION: Final = {"brain": 20, "heart": 8, "hippocampus": 10}
"""Validation patients of the shipped datasets with masks: the default there, which fingerprints leave out."""
_SPEED: Final = {"cache_mb", "threads", "backend"}  # views: how quickly, not what


@dataclass(frozen=True)
class Job:
    """One training.

    Attributes:
        setting, arm, size, seed: what it is.
        other: the class assembled with the one of interest, None where none is.
        fold: whose patients it is tested on; None of images.
        classes: outputs of its network; the class of interest, where there is one, is the first.
        checkpoint: which one is measured, "best" or "last".
        config: all of its configuration but the sources.
        settings: all that decides the result, as JSON has it.
        fingerprint: of those settings that are not at their defaults.
    """

    setting: Setting
    arm: Arm
    size: int | str
    seed: int
    other: str | None
    classes: tuple[str, ...]
    checkpoint: str
    config: dict[str, Any]
    settings: dict[str, Any]
    fingerprint: str
    fold: int | None = None

    @property
    def name(self) -> str:
        """A text for people and file names, which the fingerprint makes unique."""
        other = "" if self.other is None else f"-{self.other.replace(' ', '_').replace('/', '_')}"
        fold = "" if self.fold is None else f"-f{self.fold}"
        return f"{self.setting.name}-{self.arm.name}{other}-n{self.size}-s{self.seed}{fold}-{self.fingerprint[:8]}"

    @property
    def kind(self) -> tuple[str, str, int | str]:
        """Jobs of one kind take about the same time."""
        return self.setting.name, self.arm.name, self.size

    @property
    def measured(self) -> int:
        """How many of the classes, from the first, are measured: the one of interest, or all."""
        return len(self.classes) if self.setting.interest is None else 1


def jobs_of(experiment: Experiment, setting: Setting, dataset: Dataset, seeds: Sequence[int]) -> list[Job]:
    """Return all jobs of a setting, seed by seed, so that what is done first is complete for fewer seeds.

    Raises:
        LabelAssembleError: a class that the dataset lacks.
    """
    classes = dataset.table.classes
    named = [
        (f"setting '{setting.name}': dataset '{setting.data}' has no class", name)
        for name in (setting.interest, *(setting.others if isinstance(setting.others, tuple) else ()))
    ]
    named += [
        (f"part '{part.name}': dataset '{setting.data}' has no class", name)
        for part in experiment.parts
        for name in (part.labels if isinstance(part.labels, tuple) else ())
    ]
    named += [
        (f"arm '{arm.name}': dataset '{setting.data}' has no class", name)
        for arm in experiment.arms_of(setting)
        for name in (arm.classes if isinstance(arm.classes, tuple) else ())
    ]
    for rule, name in named:
        if name is not None and name not in classes:
            raise LabelAssembleError(f"{rule} '{name}'{did_you_mean(name, classes)}")
    rest = tuple(name for name in classes if name != setting.interest)
    others = rest if setting.others == "each" else setting.others or ()
    return [
        _job(experiment, setting, arm, dataset, size, seed, other, fold)
        for seed in seeds
        for size in setting.sizes
        for arm in experiment.arms_of(setting)
        for other in (others if arm.classes == "pair" else (None,))
        for fold in (range(experiment.folds) if experiment.volumes is not None else (None,))
    ]


def _job(
    experiment: Experiment,
    setting: Setting,
    arm: Arm,
    dataset: Dataset,
    size: int | str,
    seed: int,
    other: str | None,
    fold: int | None,
) -> Job:
    every = dataset.table.classes
    classes = _classes(setting, arm, every, other)
    values = experiment.config_values(setting, arm)
    values["train"] = values.get("train", {}) | {"seed": seed}
    config = make_config(values | {"sources": [{"name": "any", "reader": "csv", "path": "any"}]}, base=Path())
    settings = {
        "format": _FORMAT,
        "data": dataset.fingerprint,
        "held_out": [len(dataset.rows(split)) for split in ("val", "test")],
        "all_classes": list(every),
        "classes": list(classes),
        "other": other,
        "size": size,
        "checkpoint": experiment.checkpoint,
        # The split of labels depends on the order and numbers of all parts, so all of them count.
        "chosen": [p.name for p in experiment.parts if arm.parts is None or p.name in arm.parts],
        "arm": arm.model_dump(
            mode="json",
            include={"labels", "sources", "criterion", "transform", "baseline"},
            exclude_defaults=True,
        ),
    } | ({} if fold is None else {"fold": fold, "folds": experiment.folds})
    if isinstance(arm.classes, tuple) and (fold is None or arm.labels != "all"):
        settings |= {"interest": setting.interest}  # other arms have it in the order of their classes
    validation = experiment.datasets[setting.data].validation
    usual = _VALIDATION.get(setting.data) == validation is not None

    def dumped(*, exclude_defaults: bool) -> str:
        options: list[BaseModel] = [*experiment.parts, config.views, config.model, config.loss, config.train]
        options += [] if config.volumes is None else [config.volumes]
        said = [o.model_dump(mode="json", exclude=_SPEED, exclude_defaults=exclude_defaults) for o in options]
        own = settings | {"taxonomy": config.taxonomy, "options": said}
        if fold is not None and not (usual and exclude_defaults):
            own |= {"validation": validation}
        return json.dumps(own, sort_keys=True)

    fingerprint = hashlib.sha256(dumped(exclude_defaults=True).encode()).hexdigest()[:16]
    return Job(
        setting,
        arm,
        size,
        seed,
        other,
        classes,
        experiment.checkpoint,
        values,
        json.loads(dumped(exclude_defaults=False)),
        fingerprint,
        fold,
    )


def _classes(setting: Setting, arm: Arm, every: Sequence[str], other: str | None) -> tuple[str, ...]:
    """Return the outputs of an arm's network."""
    if isinstance(arm.classes, tuple):
        return arm.classes
    interest: tuple[str, ...] = () if setting.interest is None else (setting.interest,)
    rest = tuple(name for name in every if name != setting.interest)
    return {
        "interest": interest,
        "all": interest + rest,
        "others": rest,
        "pair": interest + (() if other is None else (other,)),
    }[arm.classes]


@dataclass(frozen=True)
class Task:
    """A job and the images that it is trained and measured on.

    Attributes:
        job: the job.
        training: its training images.
        held_out: validation and test images; labels that are assumed are held against test images alone.
        run: folder of its run.
    """

    job: Job
    training: LabelSplit
    held_out: Table
    run: Path

    @classmethod
    def of(cls, experiment: Experiment, job: Job, dataset: Dataset, run: Path) -> "Task":
        """Return the task of a job: its labels split.

        Raises:
            LabelAssembleError: what `split_labels` raises.
        """
        dataset = dataset.transformed(job.arm.transform)
        training = split_labels(
            dataset,
            experiment.parts,
            chosen=job.arm.parts,
            interest=job.setting.interest,
            other=job.other,
            size=job.size,
            seed=job.seed,
        )
        if job.arm.labels == "all":
            training = LabelSplit(training.table, training.table.labels, training.parts)
        return cls(job, training, dataset.table.select(dataset.rows("val", "test")), run)

    def train(self) -> Row:
        """Train the network in the folder, or go on there, and return what it comes to on the test images.

        The folder keeps everything that a run has but the checkpoints.

        Raises:
            TrainingInterrupted: on Ctrl-C.
            LabelAssembleError: what `train_run` raises.
        """
        config = self.config()
        criterion = ReleasedLoss if self.job.arm.criterion == "released" else PartialLabelLoss
        result = train_run(config, self.run, resume=True, console=Console(quiet=True), criterion=criterion)
        row: Row = {
            "setting": self.job.setting.name,
            "data": self.job.setting.data,
            "interest": self.job.setting.interest,
            "arm": self.job.arm.name,
            "other": self.job.other,
            "size": str(self.job.size),
            "seed": self.job.seed,
            **measures(self, config),
            "best_epoch": result.outcome.best_epoch,
            "epochs": result.outcome.epochs,
            "steps": result.outcome.steps,
            "seconds": round(result.outcome.seconds, 2),
            "fingerprint": self.job.fingerprint,
        }
        shutil.rmtree(self.run / "checkpoints", ignore_errors=True)
        return row

    def config(self) -> Config:
        """Write the tables of the job's sources into its folder and return its configuration."""
        folder, job = self.run / "sources", self.job
        make_folder(folder)
        classes = self.training.table.classes
        sources = []
        for part in dict.fromkeys(self.training.parts.tolist()):
            mine = self.training.parts == part
            _write_source(
                folder / f"{part}.csv", self.training.table.select(mine), self.training.labels[mine]
            )
            sources.append({"name": part, "path": f"sources/{part}.csv", **job.arm.sources})
        labels = self.held_out.labels.copy()
        # Epochs are chosen by what is measured alone: arms must be chosen by the same labels.
        chosen_by = np.isin(classes, job.classes[: job.measured]) & ~self.held_out.assumed
        labels[(self.held_out.splits == "val")[:, None] & ~chosen_by] = UNKNOWN
        _write_source(folder / "held-out.csv", self.held_out, labels, source=self.held_out.sources)
        sources.append({"name": "held-out", "path": "sources/held-out.csv"})
        images = Path(str(self.held_out.paths[0]).partition("::")[0]).parent
        shared = {"reader": "csv", "root": images, "classes": classes, "patients": "images", "ids": "exact"}
        values = job.config | {
            "sources": [source | shared for source in sources],
            "classes": job.classes,
            "interest": job.classes[:1] if job.setting.interest is not None else (),
            "duplicates": "path",
        }
        config = make_config(values, base=self.run, where=job.name)
        size = min(config.train.batch_size, len(self.training.table))
        return config.model_copy(update={"train": config.train.model_copy(update={"batch_size": size})})


def _write_source(
    path: Path, table: Table, labels: NDArray[np.int8], *, source: Sequence[str] | None = None
) -> None:
    frame = pd.DataFrame({"path": table.paths, "patient": table.groups, "split": table.splits})
    if source is not None:
        frame["source"] = source
    cells = np.where(labels < NEGATIVE, "", labels.astype(np.str_))
    pd.concat([frame, pd.DataFrame(cells, columns=list(table.classes))], axis=1).to_csv(path, index=False)
