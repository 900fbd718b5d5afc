"""Calibration: temperatures and thresholds chosen on validation images, and calibration.json, which keeps them.

Temperature scaling (Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, section 4.2): probabilities
become sigmoid(logit / T), T fitted on validation images. Each class has its own T, since each is a yes-or-no question
with its own share of positives; the ranking within a class, and with it AUROC, stays.

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
- ``temperature``: null where none was fitted (use 1), and ``no_temperature`` says why.
- ``thresholds``: by the specificity asked for, on the model's own probabilities: an image is called positive where its
  probability is at least the threshold; null: nothing is called positive. Empty without negatives.
- ``calibrated_thresholds``: the same thresholds on calibrated probabilities.
"""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from scipy.optimize import brentq
from scipy.special import expit, logit

from labelassemble._files import write_text
from labelassemble.data.predictions import Predictions
from labelassemble.errors import LabelAssembleError
from labelassemble.evaluation.metrics import threshold_at_specificity

CALIBRATION_FILE: Final = "calibration.json"

SPECIFICITIES: Final = (0.90, 0.95, 0.98)
"""The specificities at which sensitivity is given."""

LEAST: Final = 10
"""With fewer known validation labels of either state no temperature is fitted."""

BOUNDS: Final = (0.1, 10.0)
"""A temperature outside these is none: the labels were separated without an error, or the scores tell nothing."""

_CERTAIN: Final = 36.0  # the logit of the largest float64 below 1

Floats = NDArray[np.float64]
Thresholds = dict[str, Annotated[float, Field(ge=0)] | None]


class ClassCalibration(BaseModel):
    """The calibration of one class; the fields are those of the file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    positives: int = Field(default=0, ge=0)
    negatives: int = Field(default=0, ge=0)
    temperature: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    no_temperature: str = ""
    thresholds: Thresholds = {}
    calibrated_thresholds: Thresholds = {}

    @property
    def by_specificity(self) -> tuple[tuple[float, float], ...]:
        """(specificity asked for, threshold on uncalibrated probabilities; inf calls nothing positive)."""
        return tuple(
            (float(target), math.inf if value is None else value) for target, value in self.thresholds.items()
        )


class Calibration(BaseModel):
    """Temperatures and thresholds by class name; the fields are those of the file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    split: Literal["val"] = "val"
    images: int = Field(default=0, ge=0)
    classes: dict[str, ClassCalibration] = {}

    def of(self, name: str) -> ClassCalibration:
        """Return the calibration of a class; for one that was not there, the empty one."""
        return self.classes.get(name, ClassCalibration(no_temperature="not in the run"))

    def apply(self, probabilities: Floats, classes: Sequence[str]) -> Floats:
        """Return calibrated probabilities [N, C] of those that the model gave; the columns are `classes`."""
        columns = [scaled(probabilities[:, c], self.of(name).temperature) for c, name in enumerate(classes)]
        return np.stack(columns, axis=1)

    def temperatures(self, classes: Sequence[str]) -> dict[str, float]:
        """Return the temperature of each class, 1 where there is none."""
        return {name: self.of(name).temperature or 1.0 for name in classes}

    def thresholds(self, classes: Sequence[str], specificity: float) -> dict[str, float] | None:
        """Return the threshold of each class on calibrated probabilities, inf where nothing is called positive.

        Returns:
            None unless every class has thresholds.

        Raises:
            LabelAssembleError: A class has thresholds for other specificities only.
        """
        key, found = f"{specificity:g}", {}
        for name in classes:
            offered = self.of(name).calibrated_thresholds
            if offered and key not in offered:
                raise LabelAssembleError(
                    f"{CALIBRATION_FILE}: no threshold for the specificity {key}, known: {', '.join(offered)}"
                )
            if offered:
                value = offered[key]
                found[name] = math.inf if value is None else value
        return found if len(found) == len(classes) else None


class Temperature(NamedTuple):
    """What was fitted for one class."""

    value: float | None  # None: probabilities are left as they are
    reason: str  # why there is none, "" where there is one


def fit_temperature(positives: ArrayLike, negatives: ArrayLike) -> Temperature:
    """Return the temperature that gives the known labels the least negative log-likelihood.

    With b = 1/T that is the sum of log(1 + exp(-b z)) over positives and of log(1 + exp(b z)) over negatives, z the
    logits: convex in b, so its derivative, the sum of z (sigmoid(b z) - y), has one root, found by Brent's method.

    Args:
        positives: [m], probabilities of the known positives.
        negatives: [n], probabilities of the known negatives.

    Returns:
        A temperature within `BOUNDS`, or none with the reason: fewer than `LEAST` labels of a state, or a minimum
        outside the bounds.

    Raises:
        LabelAssembleError: a value outside [0, 1].
    """
    hits, misses = np.asarray(positives, np.float64), np.asarray(negatives, np.float64)
    scores = np.concatenate([hits, misses])
    if not bool(((scores >= 0) & (scores <= 1)).all()):
        raise LabelAssembleError("temperatures are fitted to probabilities, each a number from 0 to 1")
    if len(hits) < LEAST or len(misses) < LEAST:
        return Temperature(
            None,
            f"{len(hits)} positive and {len(misses)} negative validation labels are too few "
            f"(at least {LEAST} of each)",
        )
    z = np.clip(logit(scores), -_CERTAIN, _CERTAIN)
    positive = np.arange(len(z)) < len(hits)

    def slope(b: float) -> float:
        return float(np.sum(z * (expit(b * z) - positive)))

    low, high = 1 / BOUNDS[1], 1 / BOUNDS[0]
    if not slope(low) < 0 < slope(high):
        cause = (
            "the validation labels are separated with hardly an error"
            if slope(low) < 0
            else "the probabilities tell the validation labels apart too badly"
        )
        return Temperature(None, f"none from {BOUNDS[0]:g} to {BOUNDS[1]:g} fits best: {cause}")
    return Temperature(1 / float(brentq(slope, low, high, xtol=1e-12)), "")


def scaled(probabilities: ArrayLike, temperature: float | None) -> Floats:
    """Return sigmoid(logit(p) / temperature) of probabilities of any shape; None leaves them as they are.

    Raises:
        LabelAssembleError: a temperature that is not positive and finite.
    """
    values = np.asarray(probabilities, np.float64)
    if temperature is None:
        return values
    if not (np.isfinite(temperature) and temperature > 0):
        raise LabelAssembleError(f"a temperature must be positive and finite, got {temperature}")
    calibrated: Floats = expit(logit(values) / temperature)
    return calibrated


def calibrate(predictions: Predictions) -> Calibration:
    """Return thresholds and temperatures chosen by the known labels of the validation split."""
    rows = predictions.subset_by_split("val")
    targets = rows.given_targets()
    return Calibration(
        images=len(rows),
        classes={
            name: _of_class(targets[:, column], rows.probabilities[:, column])
            for column, name in enumerate(predictions.classes)
        },
    )


def _of_class(targets: Floats, probabilities: Floats) -> ClassCalibration:
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
    return ClassCalibration(
        positives=len(positives),
        negatives=len(negatives),
        temperature=fitted.value,
        no_temperature=fitted.reason,
        thresholds=thresholds,
        calibrated_thresholds=calibrated,
    )


def write_calibration(calibration: Calibration, path: Path) -> None:
    """Write calibration.json, whole or not at all.

    Raises:
        LabelAssembleError: the file cannot be written.
    """
    content = json.dumps(calibration.model_dump(mode="json"), indent=2, ensure_ascii=False)
    write_text(path, content + "\n")


def read_calibration(path: Path) -> Calibration:
    """Return what `write_calibration` wrote.

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
        return Calibration.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise LabelAssembleError(f"{path}: damaged: {where}: {first['msg']}") from None
