"""The jobs of an experiment and their results: each is a `train_run`, measured on the test images."""

import hashlib
import json
import shutil
from collections.abc import Iterable, Sequence
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
from labelassemble.data.states import NEGATIVE, POSITIVE, UNKNOWN
from labelassemble.errors import LabelAssembleError, did_you_mean
from labelassemble.evaluation import auroc_per_class, delong, wilson, youden_threshold
from labelassemble.evaluation.leakage import source_leakage
from labelassemble.experiments.dataset import Dataset
from labelassemble.experiments.experiment import Arm, Experiment, Setting
from labelassemble.experiments.label_split import LabelSplit, split_labels
from labelassemble.experiments.released_loss import ReleasedLoss
from labelassemble.head import ClassQueryHead
from labelassemble.loss import PartialLabelLoss
from labelassemble.models.features import predict_with_features
from labelassemble.models.predict import predict
from labelassemble.run import train_run
from labelassemble.run.folder import load_trained
from labelassemble.training.checkpoint import load_checkpoint

Row = dict[str, Any]
"""One run: what is measured by column. ``auc:CLASS`` is of a class, ``auc@SOURCE`` within a source."""

_FORMAT: Final = 2  # raised when the same settings come to mean something else
_SPEED: Final = {"cache_mb", "threads", "backend"}  # views: how quickly, not what


@dataclass(frozen=True)
class Job:
    """One training.

    Attributes:
        setting, arm, size, seed: what it is.
        other: the class assembled with the one of interest, None where none is.
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

    @property
    def name(self) -> str:
        """A text for people and file names, which the fingerprint makes unique."""
        other = "" if self.other is None else f"-{self.other.replace(' ', '_').replace('/', '_')}"
        return f"{self.setting.name}-{self.arm.name}{other}-n{self.size}-s{self.seed}-{self.fingerprint[:8]}"

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
    for rule, name in named:
        if name is not None and name not in classes:
            raise LabelAssembleError(f"{rule} '{name}'{did_you_mean(name, classes)}")
    rest = tuple(name for name in classes if name != setting.interest)
    others = rest if setting.others == "each" else setting.others or ()
    return [
        _job(experiment, setting, arm, dataset, size, seed, other)
        for seed in seeds
        for size in setting.sizes
        for arm in experiment.arms
        for other in (others if arm.classes == "pair" else (None,))
    ]


def _job(
    experiment: Experiment,
    setting: Setting,
    arm: Arm,
    dataset: Dataset,
    size: int | str,
    seed: int,
    other: str | None,
) -> Job:
    every = dataset.table.classes
    classes: tuple[str, ...] = () if setting.interest is None else (setting.interest,)
    if arm.classes == "all":
        classes += tuple(name for name in every if name != setting.interest)
    elif other is not None:
        classes += (other,)
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
            mode="json", include={"labels", "sources", "criterion", "transform"}, exclude_defaults=True
        ),
    }

    def dumped(*, exclude_defaults: bool) -> str:
        options: list[BaseModel] = [*experiment.parts, config.views, config.model, config.loss, config.train]
        said = [o.model_dump(mode="json", exclude=_SPEED, exclude_defaults=exclude_defaults) for o in options]
        return json.dumps(settings | {"taxonomy": config.taxonomy, "options": said}, sort_keys=True)

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
    )


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
            **self._measures(config),
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

    def _measures(self, config: Config) -> Row:
        """Return what the trained network comes to."""
        job = self.job
        net = load_trained(self.run).net
        best = None
        columns = [self.held_out.column(name) for name in job.classes]
        is_test = self.held_out.splits == "test"
        test = self.held_out.select(is_test)
        truth, measured = _targets(test.labels[:, columns]), slice(job.measured)
        if job.checkpoint == "last":
            scores = predict(net, test.paths.tolist(), config.views, batch_size=256)
            best = _mean(_aucs(scores, truth, job.classes)[measured])
            net.load_state_dict(load_checkpoint(self.run / "checkpoints" / "last.pt")["model"])
        answers = predict_with_features(net, self.held_out.paths.tolist(), config.views, batch_size=256)
        scores = answers.probabilities[is_test]
        aucs = _aucs(scores, truth, job.classes)
        row: Row = {"auc": _mean(aucs), "auc_best": best}
        if job.setting.interest is not None:
            val = self.held_out.select(~is_test)
            given = _targets(np.where(val.assumed, np.int8(UNKNOWN), val.labels)[:, columns[0]])
            threshold = youden_threshold(given, answers.probabilities[~is_test, 0])
            row |= {"threshold": threshold} | _rates(test, truth[:, 0], scores[:, 0], threshold)
            if len(sources := list(dict.fromkeys(self.held_out.sources.tolist()))) > 1:
                for source in sources:
                    inside = test.sources == source
                    found = _rates(test.select(inside), truth[inside, 0], scores[inside, 0], threshold)
                    found["assumed"] = int(test.assumed[inside, columns[0]].sum())
                    row |= {f"{name}@{source}": value for name, value in found.items()}
                if answers.features is not None:
                    features = answers.features[is_test]
                    leak = source_leakage(
                        features, test.sources, test.groups, truth[:, :1].astype(np.float64)
                    )
                    if leak is not None:
                        row |= {"leakage": leak.auc, "leakage_within": leak.within}
        else:
            row |= {f"auc:{name}": auc for name, auc in zip(job.classes, aucs, strict=True)}
            row |= _counts("test", truth)
        row |= self._unknown(net, config, columns[measured])
        if isinstance(net.head, ClassQueryHead) and job.other is not None:
            weight = net.head.to_linear().weight.detach().double().numpy()
            row["cosine"] = float(net.head.similarity()[0, 1])
            row["cosine_of_classifiers"] = _cosine(weight[0], weight[1])
            if answers.features is not None:
                labels = self.held_out.labels[:, columns]
                row["cosine_of_features"] = _cosine_of_features(answers.features, labels)
        return row

    def _unknown(self, net: Any, config: Config, columns: Sequence[int]) -> Row:
        """Return what was trained on, and what the network says of the measured cells that it saw as unknown."""
        labels = self.training.labels[:, columns]
        unknown = labels == UNKNOWN
        row: Row = {
            "train_images": len(labels),
            "train_positives": int((labels == POSITIVE).sum()),
            "unknown": int(unknown.sum()),
        }
        some = unknown.any(axis=1)
        if some.any():
            table = self.training.table.select(some)
            scores = predict(net, table.paths.tolist(), config.views, batch_size=256)[:, : len(columns)]
            hidden = _targets(np.where(unknown[some], table.labels[:, columns], np.int8(UNKNOWN)))
            row["unknown_above"] = float((scores[unknown[some]] > config.loss.threshold).mean())
            if not np.isnan(hidden).all():
                row["unknown_positive"] = float(np.nanmean(hidden))
            row["unknown_auc"] = _mean(_aucs(scores, hidden, self.job.classes[: len(columns)]))
        return row


def _write_source(
    path: Path, table: Table, labels: NDArray[np.int8], *, source: Sequence[str] | None = None
) -> None:
    frame = pd.DataFrame({"path": table.paths, "patient": table.groups, "split": table.splits})
    if source is not None:
        frame["source"] = source
    cells = np.where(labels < NEGATIVE, "", labels.astype(np.str_))
    pd.concat([frame, pd.DataFrame(cells, columns=list(table.classes))], axis=1).to_csv(path, index=False)


def _targets(labels: NDArray[np.int8]) -> NDArray[np.float32]:
    return np.where(labels < NEGATIVE, np.float32(np.nan), labels.astype(np.float32))


def _cosine(a: NDArray[np.floating[Any]], b: NDArray[np.floating[Any]]) -> float:
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))


def _cosine_of_features(features: NDArray[np.float32], labels: NDArray[np.int8]) -> float | None:
    """Return the cosine of two classes' mean features, each mean taken from the mean of all images.

    Args:
        features: [N, D].
        labels: states [N, 2], of which the positive ones count; None comes where a class has none.
    """
    centred = features.astype(np.float64) - features.mean(axis=0, dtype=np.float64)
    positive = labels == POSITIVE
    if not positive.any(axis=0).all():
        return None
    return _cosine(centred[positive[:, 0]].mean(axis=0), centred[positive[:, 1]].mean(axis=0))


def _aucs(
    scores: NDArray[np.float64], truth: NDArray[np.float32], classes: Sequence[str]
) -> list[float | None]:
    return auroc_per_class(scores, truth, classes=classes)


def _mean(values: Iterable[float | None]) -> float | None:
    defined = [value for value in values if value is not None]
    return sum(defined) / len(defined) if defined else None


def _counts(prefix: str, truth: NDArray[np.float32]) -> Row:
    return {f"{prefix}_positives": int((truth == 1).sum()), f"{prefix}_negatives": int((truth == 0).sum())}


def _rates(
    table: Table, truth: NDArray[np.float32], scores: NDArray[np.float64], threshold: float | None
) -> Row:
    """Return AUC with DeLong's interval over patients, and what is called right at the threshold with Wilson's."""
    row = _counts("test", truth)
    positive, negative = truth == 1, truth == 0
    area = delong(
        scores[positive],
        scores[negative],
        positive_groups=table.groups[positive],
        negative_groups=table.groups[negative],
    )
    if area is not None:
        row |= {"auc": area.auroc, "auc_low": area.interval.lower, "auc_high": area.interval.upper}
    if threshold is not None:
        right = np.where(positive, scores >= threshold, scores < threshold)
        for name, of in (
            ("sensitivity", positive),
            ("specificity", negative),
            ("accuracy", positive | negative),
        ):
            hits, trials = int(right[of].sum()), int(of.sum())
            if (interval := wilson(hits, trials)) is not None:
                row |= {name: hits / trials, f"{name}_low": interval.lower, f"{name}_high": interval.upper}
    return row
