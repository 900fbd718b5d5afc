"""What a run answers for image files: the same for everything that is written of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from labelassemble._yaml import read_mapping
from labelassemble.data.pixel_range import ON_COMMAND_LINE, sample_files
from labelassemble.evaluation.calibration import Calibration
from labelassemble.interoperability.statement import ModelStatement
from labelassemble.models.predict import predict
from labelassemble.run.calibration import calibration_in_use
from labelassemble.run.folder import load_trained
from labelassemble.training.checkpoint import checkpoint_sum
from labelassemble.version import __version__


@dataclass(frozen=True)
class Answered:
    """The answers of a run.

    Attributes:
        classes: the names of the C columns.
        probabilities: float64 [N, C], as every command answers them.
        calibration: with which they are answered.
        warnings: of the files, a sentence each.
    """

    classes: tuple[str, ...]
    probabilities: NDArray[np.float64]
    calibration: Calibration
    warnings: tuple[str, ...]


def answer_images(run: Path, references: Sequence[str], *, uncalibrated: bool = False) -> Answered:
    """Return what a run's best checkpoint answers for each image.

    Args:
        run: its folder.
        references: the images, with how they are decoded behind them.
        uncalibrated: whether probabilities stay as the network gives them.

    Raises:
        ImageError: a file that cannot be read.
        LabelAssembleError: no trained model, a calibration of other weights, or an answer that is not finite.
    """
    trained = load_trained(run)
    calibration = Calibration() if uncalibrated else calibration_in_use(run)
    probabilities = predict(trained.net, references, trained.views)
    warnings = sample_files(references, workers=trained.views.decoders()).warnings(ON_COMMAND_LINE)
    classes = trained.net.classes
    answered = probabilities if uncalibrated else calibration.apply(probabilities, classes)
    return Answered(classes, answered, calibration, warnings)


def model_statement(run: Path, calibration: Calibration) -> ModelStatement:
    """Return what outputs say of a run's model.

    Raises:
        LabelAssembleError: a file of the run is missing or damaged.
    """
    config = run / "config.yaml"
    return ModelStatement(
        name=run.resolve().name,
        version=__version__,
        checkpoint=checkpoint_sum(run / "checkpoints" / "best.pt"),
        preset=str(read_mapping(config).get("preset", "")) if config.exists() else "",
        rule=calibration.at,
        chosen_on=calibration.chosen_on,
    )
