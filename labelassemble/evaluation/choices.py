"""calibration.json: what a run chose on its validation images, for later use on any others.

The file is one JSON object::

    {
      "format": 1,
      "split": "val",
      "images": 210,
      "classes": {
        "COVID-19": {
          "positives": 31,
          "negatives": 120,
          "temperature": 1.84,
          "no_temperature": "",
          "thresholds": {"0.9": 0.41, "0.95": 0.57, "0.98": null},
          "calibrated_thresholds": {"0.9": 0.45, "0.95": 0.54, "0.98": null}
        }
      }
    }

- ``images``: validation images that could be read; 0 where the run has none.
- ``classes``: by name, in the order of the model's outputs.
- ``positives``, ``negatives``: known validation labels that the rest was chosen by.
- ``temperature``: the calibrated probability is sigmoid(logit / temperature); null: none was fitted (use 1), and
  ``no_temperature`` says why.
- ``thresholds``: by the specificity asked for, on probabilities as the model gives them: an image is called positive
  where its probability is at least the threshold; null: nothing is called positive. Empty without negatives.
- ``calibrated_thresholds``: the same thresholds on calibrated probabilities.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from labelassemble._files import atomic_file
from labelassemble.data.predictions import Predictions
from labelassemble.errors import LabelAssembleError
from labelassemble.evaluation.metrics import threshold_at_specificity
from labelassemble.evaluation.temperature import fit_temperature, scaled

CALIBRATION_FILE: Final = "calibration.json"

SPECIFICITIES: Final = (0.90, 0.95, 0.98)
"""The specificities at which sensitivity is given."""

Thresholds = dict[str, float | None]


class ClassChoice(BaseModel):
    """What was chosen for one class; the fields are those of the file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    positives: int = Field(ge=0)
    negatives: int = Field(ge=0)
    temperature: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    no_temperature: str = ""
    thresholds: Thresholds = {}
    calibrated_thresholds: Thresholds = {}

    @property
    def by_specificity(self) -> tuple[tuple[float, float], ...]:
        """(specificity asked for, threshold on uncalibrated probabilities; inf calls nothing positive)."""
        return tuple(
            (float(target), float("inf") if value is None else value)
            for target, value in self.thresholds.items()
        )


class Choices(BaseModel):
    """What was chosen on validation images, by class name."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    split: Literal["val"] = "val"
    images: int = Field(ge=0)
    classes: dict[str, ClassChoice]

    def of(self, name: str) -> ClassChoice:
        """Return the choice for a class; for one that was not there, the empty choice."""
        return self.classes.get(name, ClassChoice(positives=0, negatives=0, no_temperature="not in the run"))

    def calibrated(self, probabilities: NDArray[np.float64], classes: Sequence[str]) -> NDArray[np.float64]:
        """Return calibrated probabilities [N, C] of those that the model gave; the columns are `classes`."""
        columns = [scaled(probabilities[:, c], self.of(name).temperature) for c, name in enumerate(classes)]
        return np.stack(columns, axis=1)


def choose(predictions: Predictions) -> Choices:
    """Return thresholds and temperatures chosen by the known labels of the validation split."""
    rows = predictions.subset_by_split("val")
    targets = rows.given_targets()
    return Choices(
        images=len(rows),
        classes={
            name: _of_class(targets[:, column], rows.probabilities[:, column])
            for column, name in enumerate(predictions.classes)
        },
    )


def _of_class(targets: NDArray[np.float64], probabilities: NDArray[np.float64]) -> ClassChoice:
    positives, negatives = probabilities[targets == 1], probabilities[targets == 0]
    fitted = fit_temperature(positives, negatives)
    thresholds: Thresholds = {}
    calibrated: Thresholds = {}
    if len(negatives):
        known = probabilities[~np.isnan(targets)]
        for target in SPECIFICITIES:
            value = threshold_at_specificity(negatives, known, target)
            finite = bool(np.isfinite(value))
            thresholds[f"{target:g}"] = value if finite else None
            calibrated[f"{target:g}"] = float(scaled(value, fitted.value)) if finite else None
    return ClassChoice(
        positives=len(positives),
        negatives=len(negatives),
        temperature=fitted.value,
        no_temperature=fitted.reason,
        thresholds=thresholds,
        calibrated_thresholds=calibrated,
    )


def write_choices(choices: Choices, path: Path) -> None:
    """Write calibration.json, whole or not at all.

    Raises:
        LabelAssembleError: the file cannot be written.
    """
    with atomic_file(path) as file:
        json.dump(choices.model_dump(mode="json"), file, indent=2, ensure_ascii=False)
        file.write("\n")


def read_choices(path: Path) -> Choices:
    """Return what `write_choices` wrote.

    Raises:
        LabelAssembleError: no such file, or not such a file; the first thing that is wrong, by its place.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise LabelAssembleError(
            f"{path} does not exist: `labelassemble evaluate {path.parent}` writes it"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise LabelAssembleError(f"{path}: cannot be read ({error})") from None
    try:
        return Choices.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise LabelAssembleError(f"{path}: damaged: {where}: {first['msg']}") from None
