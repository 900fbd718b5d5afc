"""A table predicted part by part, by one process or many, so that an evaluation goes on where it was ended."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np

from labelassemble.data import Table
from labelassemble.data.errors import ImageError
from labelassemble.data.shards import Part
from labelassemble.errors import LabelAssembleError
from labelassemble.models.features import predict_with_features
from labelassemble.run.evaluation import Predicted, Progress, predicted_of
from labelassemble.run.folder import TrainedModel, bad_files_of
from labelassemble.run.parts import (
    PLAN_FILE,
    PartAnswers,
    Plan,
    answer_parts,
    forget_errors,
    open_parts,
    read_answers,
)
from labelassemble.run.sets import answer_readable, on_device
from labelassemble.training.distributed import Processes

ANSWERS: Final = ".answers"
"""The folder of the parts, in that of the evaluation; it is removed when the report is written."""


@dataclass(frozen=True)
class TableParts:
    """What each process needs to predict its share of a table.

    Attributes:
        paths: of the images.
        folder: of the answers.
        about: what answers, in words.
        rows: of a part, at most.
    """

    paths: Sequence[str]
    folder: Path
    about: Mapping[str, str]
    rows: int

    def predict(self, trained: TrainedModel, processes: Processes, progress: Progress) -> Plan:
        """Predict the parts of this process, and return when all of them are there; all processes must call it.

        Args:
            trained: the network.
            processes: that share the parts.
            progress: shows how far this one is.

        Raises:
            LabelAssembleError: too many images cannot be read, or an answer is not finite.
            OtherProcessFailed: in another process.
        """
        plan = Plan(self.folder, self._parts(), trained.net.classes, self.about)
        processes.from_first(lambda: _begin_anew(plan))
        processes.together(plan.begin)
        on_device(trained, processes.local_rank)
        bad_files = bad_files_of(len(self.paths), trained.views)

        todo = open_parts(plan, processes.rank, processes.count)
        own = sum(len(self.paths[index * self.rows : (index + 1) * self.rows]) for index in todo)
        done = 0

        def wrote(index: int, found: PartAnswers) -> None:
            nonlocal done
            done += len(found.images)
            progress(done, own)
            try:
                bad_files.merge(_image_errors(found, index * self.rows))
            except LabelAssembleError:  # once the files are mended, they are to be read again
                forget_errors(plan, rank=processes.rank, count=processes.count)
                raise

        answer = partial(answer_readable, trained)
        processes.together(
            lambda: answer_parts(plan, answer, rank=processes.rank, count=processes.count, wrote=wrote)
        )
        return plan

    def _parts(self) -> list[Part]:
        parts = []
        for first in range(0, len(self.paths), self.rows):
            images = list(self.paths[first : first + self.rows])
            name = f"rows {first + 1} to {first + len(images)}"
            parts.append(Part(name, partial(list, images)))
        return parts


def table_predicted(plan: Plan, trained: TrainedModel, table: Table) -> Predicted:
    """Return what the parts say of a table.

    Raises:
        LabelAssembleError: a part is damaged, or too many images cannot be read.
    """
    bad_files = bad_files_of(len(table), trained.views)
    probabilities = np.empty((len(table), len(plan.classes)))
    row = 0
    for found in read_answers(plan):
        probabilities[row : row + len(found.images)] = found.probabilities
        try:
            bad_files.merge(_image_errors(found, row))
        except LabelAssembleError:
            forget_errors(plan, rank=0, count=1)
            raise
        row += len(found.images)
    paths, views = table.paths, trained.views
    return predicted_of(
        trained,
        table,
        probabilities,
        bad_files,
        lambda rows: predict_with_features(trained.net, paths[rows].tolist(), views).features,
    )


def _image_errors(found: PartAnswers, first: int) -> dict[int, ImageError]:
    return {first + row: ImageError(found.images[row], reason) for row, reason in found.errors.items()}


def _begin_anew(plan: Plan) -> None:
    """Begin, without what is there of an evaluation of other images or by another model."""
    try:
        plan.begin()
    except LabelAssembleError:
        if not (plan.folder / PLAN_FILE).exists():
            raise
        shutil.rmtree(plan.folder)
        plan.begin()
