"""Sets of images answered by a run: tar shards and Parquet lists, by one process or many."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
import torch

from labelassemble.data.containers import SEPARATOR, let_go
from labelassemble.data.decoding import Decoding, reference
from labelassemble.data.errors import ImageError, PluginError
from labelassemble.data.shards import PART_ROWS, parts_of
from labelassemble.detection_options import DetectionOptions
from labelassemble.errors import LabelAssembleError
from labelassemble.evaluation.calibration import Calibration
from labelassemble.models.predict import predict
from labelassemble.run.calibration import calibration_in_use
from labelassemble.run.folder import (
    TrainedModel,
    TrainedSegmenter,
    learns_from_masks,
    load_segmenter,
    load_trained,
)
from labelassemble.run.parts import PartAnswers, Plan
from labelassemble.run.prediction import model_statement
from labelassemble.run.segment import answer_volume, detection_options, volume_scores
from labelassemble.views.bad_files import BadFiles

PART_VOLUMES: Final = 64
"""Volumes of a part of a Parquet list, at most: each takes seconds."""


class SetAnswerer:
    """A run that answers a set of images or volumes part by part, with the answers of `labelassemble predict`.

    Attributes:
        plan: the parts, and where their answers go.
    """

    def __init__(
        self,
        run: Path,
        inputs: Sequence[Path],
        folder: Path,
        *,
        uncalibrated: bool = False,
        how: Decoding | None = None,
        rows: int | None = None,
        local_rank: int = 0,
    ) -> None:
        """Load the run and look which parts there are.

        Args:
            run: its folder.
            inputs: tar shards and Parquet lists, see `parts_of`.
            folder: for the answers.
            uncalibrated: whether probabilities stay as the network gives them.
            how: images are decoded; default: as their files say.
            rows: of a part of a list, at most; default: 8192 images, 64 volumes.
            local_rank: which process of its machine this is, and so which GPU it takes, where there are any.

        Raises:
            LabelAssembleError: no trained model, no such set, ...
        """
        masks = learns_from_masks(run)
        self._trained: TrainedModel | TrainedSegmenter = (
            load_segmenter(run) if masks else on_device(load_trained(run), local_rank)
        )
        self._options = detection_options(run) if masks else None
        self._calibration = None if uncalibrated or masks else calibration_in_use(run)
        self._how = how or Decoding()
        statement = model_statement(run, self._calibration or Calibration())
        about = dict(line.split("=", 1) for line in statement.lines)
        about |= {
            "probabilities": "as the network gives them" if uncalibrated else "calibrated",
            "decoded": reference("", self._how) or "as the files say",
        }
        if self._calibration is not None:
            about["calibration"] = self._calibration.model_dump_json()
        if self._options is not None:  # of a patient's score, which is no probability
            about = {key: value for key, value in about.items() if key not in ("probabilities", "decoded")}
            about["scores"] = self._options.aggregate
        parts = parts_of(inputs, rows or (PART_VOLUMES if masks else PART_ROWS))
        kind = "score" if masks else "probability"
        self.plan = Plan(folder, parts, self._trained.net.classes, about, kind)

    def answer(self, images: Sequence[str]) -> PartAnswers:
        """Return the answers for images; those that cannot be read are named.

        Raises:
            LabelAssembleError: an answer is not finite, or a package is missing that reads an image.
        """
        if isinstance(self._trained, TrainedSegmenter):
            assert self._options is not None
            return _volumes_answered(self._trained, images, self._options)
        found = answer_readable(self._trained, [reference(image, self._how) for image in images])
        for container in {image.partition(SEPARATOR)[0] for image in images if SEPARATOR in image}:
            let_go(container)
        if self._calibration is None:
            return found._replace(images=images)
        calibrated = self._calibration.apply(found.probabilities, self.plan.classes)
        return found._replace(images=images, probabilities=calibrated)


def answer_readable(trained: TrainedModel, images: Sequence[str]) -> PartAnswers:
    """Return what a network gives for images, and why some cannot be read.

    Raises:
        LabelAssembleError: an answer is not finite, or a package is missing that reads an image.
    """
    bad_files = BadFiles(len(images), policy="skip", limit=1.0)
    try:
        probabilities = predict(trained.net, images, trained.views, bad_files=bad_files)
    except LabelAssembleError:
        if len(bad_files) < len(images):
            raise
        probabilities = np.full((len(images), len(trained.net.classes)), np.nan)  # none can be read
    return PartAnswers(images, probabilities, {row: error.reason for row, error in bad_files.errors.items()})


def _volumes_answered(
    trained: TrainedSegmenter, volumes: Sequence[str], options: DetectionOptions
) -> PartAnswers:
    """Return the scores of volumes, and why some cannot be read."""
    scores = np.full((len(volumes), len(trained.net.classes)), np.nan)
    errors = {}
    for row, path in enumerate(volumes):
        try:
            scores[row] = volume_scores(answer_volume(trained, path).probabilities, options)
        except PluginError:
            raise
        except ImageError as error:
            errors[row] = error.reason
    return PartAnswers(volumes, scores, errors)


def on_device(trained: TrainedModel, local_rank: int) -> TrainedModel:
    """Return the network on the GPU of a process, where there are GPUs."""
    if torch.cuda.is_available():
        trained.net.to(torch.device("cuda", local_rank % torch.cuda.device_count()))
    return trained
