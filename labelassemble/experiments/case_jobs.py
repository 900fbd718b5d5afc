"""A job on cases with masks: a `train_run`, or a baseline, measured on the patients of its fold."""

import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from rich.console import Console

from labelassemble._files import make_folder
from labelassemble.config import Config, make_config
from labelassemble.data.states import POSITIVE
from labelassemble.data.table_io import read_predictions
from labelassemble.data.text import TextArray
from labelassemble.errors import LabelAssembleError
from labelassemble.evaluation.bootstrap import patient_indices
from labelassemble.evaluation.detection import Detection
from labelassemble.evaluation.metrics import auroc_of
from labelassemble.experiments.baselines import baseline_features, patient_scores
from labelassemble.experiments.case_split import CaseSplit, Rows, split_cases
from labelassemble.experiments.cases import case_images, case_masks, class_values
from labelassemble.experiments.dataset import Dataset
from labelassemble.experiments.experiment import Baseline, Experiment, Part
from labelassemble.experiments.jobs import Job
from labelassemble.experiments.label_split import labelled_classes
from labelassemble.experiments.measures import Row
from labelassemble.run import train_run

DETAIL: Final = "detail"
"""In a row: what each test patient and each predicted lesion came to, columns of two frames."""
SUMS: Final = ("cases", "lesions", "found", "alarms", "dice", "surface", "drawn")
"""Sums by patient that are kept, as `LesionSums` has them."""

_REGISTER: Final = "experiment"  # all sources of a job share their patients


@dataclass(frozen=True)
class CaseTask:
    """A job and the cases that it is trained and measured on.

    Attributes:
        job: the job.
        dataset: all cases.
        split: those of each part, of validation and of test.
        labelled: the classes that each part draws, of those of the network.
        masks: where masks lie that draw these classes alone, of all cases, by part; "held-out" has every class of the
            network.
        run: folder of its run.
    """

    job: Job
    dataset: Dataset
    split: CaseSplit
    labelled: dict[str, tuple[str, ...]]
    masks: dict[str, TextArray]
    run: Path

    @classmethod
    def of(cls, experiment: Experiment, job: Job, dataset: Dataset, run: Path) -> "CaseTask":
        """Return the task of a job: its patients divided, and masks made that draw what each part does.

        Raises:
            LabelAssembleError: what `split_cases` raises, or a part that draws nothing of the network's classes.
        """
        assert job.fold is not None
        split = split_cases(
            dataset,
            experiment.parts,
            size=job.size,
            seed=job.seed,
            fold=job.fold,
            folds=experiment.folds,
            validation=experiment.datasets[job.setting.data].validation,
        )
        chosen = [p for p in experiment.parts if job.arm.parts is None or p.name in job.arm.parts]
        labelled = {part.name: _labelled(part, job, dataset) for part in chosen}
        masks = {name: case_masks(dataset, names) for name, names in labelled.items()}
        masks["held-out"] = case_masks(dataset, job.classes)
        return cls(job, dataset, split, labelled, masks, run)

    def train(self) -> Row:
        """Train the network in the folder, or go on there, and return what it comes to on the fold's patients.

        The folder keeps everything that a run has but the checkpoints.

        Raises:
            TrainingInterrupted: on Ctrl-C.
            LabelAssembleError: what `train_run` raises.
        """
        about: Row = {
            "setting": self.job.setting.name,
            "data": self.job.setting.data,
            "interest": self.job.setting.interest,
            "arm": self.job.arm.name,
            "size": str(self.job.size),
            "seed": self.job.seed,
            "fold": self.job.fold,
            "train_cases": sum(len(self.split.parts[name]) for name in self.labelled),
            "test_cases": len(self.split.test),
            "fingerprint": self.job.fingerprint,
        }
        if self.job.arm.baseline is not None:
            return about | self._baseline(self.job.arm.baseline)
        result = train_run(self.config(), self.run, resume=True, console=Console(quiet=True))
        if result.detection is None:
            raise LabelAssembleError(f"{self.job.name}: no test case of the fold could be read")
        row = about | self._measured(result.detection)
        shutil.rmtree(self.run / "checkpoints", ignore_errors=True)
        return row | {
            "best_epoch": result.outcome.best_epoch,
            "epochs": result.outcome.epochs,
            "steps": result.outcome.steps,
            "seconds": round(result.outcome.seconds, 2),
        }

    def config(self) -> Config:
        """Write the tables of the job's sources into its folder and return its configuration."""
        folder, job = self.run / "sources", self.job
        make_folder(folder)
        sources = []
        for name, drawn in self.labelled.items():
            absent = [of for of in job.classes if of not in drawn] if job.arm.labels == "background" else []
            rows = self.split.parts[name]
            self._write(folder / f"{name}.csv", rows, self.masks[name], "train", dict.fromkeys(absent, 0))
            sources.append(self._source(name, drawn) | {"classes": absent, **job.arm.sources})
        held = [(self.split.validation, "val"), (self.split.test, "test")]
        rows = np.concatenate([rows for rows, _ in held])
        splits = [split for rows, split in held for _ in rows]
        self._write(folder / "held-out.csv", rows, self.masks["held-out"], splits, {})
        sources.append(self._source("held-out", job.classes))
        values = job.config | {
            "sources": sources,
            "classes": job.classes,
            "duplicates": "path",
            # What the dataset was scaled by is done.
            "volumes": job.config["volumes"] | {"spacing": None, "window": [0, 255]},
        }
        config = make_config(values, base=self.run, where=job.name)
        cases = sum(len(self.split.parts[name]) for name in self.labelled)
        size = min(config.train.batch_size, cases)
        return config.model_copy(update={"train": config.train.model_copy(update={"batch_size": size})})

    def _source(self, name: str, classes: Sequence[str]) -> dict[str, Any]:
        values = class_values(self.dataset)
        return {
            "name": name,
            "reader": "volumes",
            "root": self.dataset.file.parent,
            "patients": _REGISTER,
            "ids": "exact",
            "path": f"sources/{name}.csv",
            "masks": {"labels": {values[of]: of for of in classes}},
        }

    def _write(
        self, path: Path, rows: Rows, masks: TextArray, split: str | list[str], classes: dict[str, int]
    ) -> None:
        table = self.dataset.table
        columns = {
            "image": table.paths[rows],
            "mask": masks[rows],
            "patient": table.groups[rows],
            "split": split,
        }
        pd.DataFrame(columns | classes).to_csv(path, index=False)

    def _measured(self, detection: Detection) -> Row:
        """Return the fold's figures, and what is needed to pool them with those of other folds."""
        predictions = read_predictions(self.run / "predictions.csv").subset_by_split("test")
        names = sorted(set(predictions.groups.tolist()))
        at = {name: place for place, name in enumerate(names)}
        order = [at[name] for name in predictions.groups.tolist()]
        names = [name.removeprefix(f"{_REGISTER}:") for name in names]  # as the dataset calls them
        patients, lesions, row = list[pd.DataFrame](), list[pd.DataFrame](), Row()
        for result in detection.classes:
            column, sums = predictions.column(result.name), result.sums
            frame = pd.DataFrame(
                {
                    "patient": names,
                    "class": result.name,
                    "label": pd.Series(predictions.labels[:, column], order).sort_index(),
                    "score": pd.Series(predictions.probabilities[:, column], order).sort_index(),
                    **{key: getattr(sums, key) for key in SUMS},
                }
            )
            patients.append(frame)
            lesions.append(
                pd.DataFrame(
                    {
                        "patient": [names[place] for place in sums.patients],
                        "class": result.name,
                        "score": sums.scores,
                        "hit": sums.hits.astype(int),
                    }
                )
            )
            row[f"dice:{result.name}"] = result.figures.dice.value
            row[f"hit_rate:{result.name}"] = result.figures.hit_rate.value
        defined = [row[f"dice:{name}"] for name in self.job.classes if row[f"dice:{name}"] is not None]
        row["dice"] = float(np.mean(defined)) if defined else None
        return row | {DETAIL: {"patients": _columns(patients), "lesions": _columns(lesions)}}

    def _baseline(self, kind: Baseline) -> Row:
        """Return the row of a regression on so little of the images that nothing is detected by it."""
        started = time.monotonic()
        table, test = self.dataset.table, self.split.test
        columns = [table.column(name) for name in self.job.classes]
        labels = table.labels[:, columns] == POSITIVE
        code = patient_indices(table.groups, len(table))
        training = np.concatenate([self.split.parts[name] for name in self.labelled])
        features = baseline_features(case_images(self.dataset, np.arange(len(table))), kind)
        scores = patient_scores(features, labels, code, (training, self.split.validation, test))
        patients, areas = [], []
        groups = table.groups[test].astype(object)
        for column, name in enumerate(self.job.classes):
            has = pd.Series(labels[test, column]).groupby(code[test]).max().to_numpy()
            named = pd.Series(groups).groupby(code[test]).first()
            frame = pd.DataFrame({"patient": named, "class": name, "label": has.astype(int)})
            patients.append(frame.assign(score=scores[:, column]))
            areas.append(auroc_of(scores[has, column], scores[~has, column]))
        defined = [area for area in areas if area is not None]
        return {
            "auc": float(np.mean(defined)) if defined else None,
            "seconds": round(time.monotonic() - started, 2),
            DETAIL: {"patients": _columns(patients), "lesions": {}},
        }


def _labelled(part: Part, job: Job, dataset: Dataset) -> tuple[str, ...]:
    """Return the classes that a part draws, of those of the network."""
    names: Sequence[str] = dataset.table.classes
    if job.arm.labels != "all":
        names = labelled_classes(part, names, job.setting.interest, job.other)
    drawn = tuple(name for name in job.classes if name in names)
    if not drawn:
        raise LabelAssembleError(
            f"arm '{job.arm.name}': its part '{part.name}' draws none of its classes, {', '.join(job.classes)}"
        )
    return drawn


def _columns(frames: Sequence[pd.DataFrame]) -> dict[str, list[Any]]:
    """Return the columns of frames one below the other, numbers with six digits."""
    whole = pd.concat(frames, ignore_index=True)
    return {
        str(name): [float(f"{value:.6g}") for value in column]
        if column.dtype.kind == "f"
        else column.tolist()
        for name, column in whole.items()
    }
