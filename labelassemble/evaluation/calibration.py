"""Calibration: corrections and thresholds chosen on validation images, and calibration.json, which keeps them.

Each class has a correction of its own or none (`labelassemble.evaluation.calibrators` has the rule), since each is a
yes-or-no question with its own share of positives. Every command and every exported model answers with what this file
says.

The file is one JSON object::

    {
      "format": 2,
      "split": "val",
      "data": "",
      "checkpoint": "5f0c...",
      "score": "",
      "at": "specificity=0.95",
      "images": 210,
      "classes": {
        "COVID-19": {
          "positives": 31,
          "negatives": 120,
          "method": "platt",
          "temperature": 1.84,
          "offset": -0.31,
          "reason": "",
          "log_loss": {"none": 0.52, "temperature": 0.44, "platt": 0.41},
          "thresholds": {"specificity=0.9": 0.45, "specificity=0.95": 0.54, "specificity=0.98": null}
        }
      }
    }

- ``data``: "" for the run's own validation images, else the name of the data that `labelassemble calibrate` was given.
- ``checkpoint``: SHA-256 of the weights that it belongs to.
- ``score``: of a detection, how its patients are scored, such as "patient_score=mean, top=0.01": thresholds of another
  score are on another scale; "" for images.
- ``at``: the operating point that exports and `labelassemble calibrate` use.
- ``images``: validation images that could be read; 0 where the run has none.
- ``classes``: by name, in the order of the model's outputs.
- ``positives``, ``negatives``: known validation labels that the rest was chosen by.
- ``method``: "none", "temperature" or "platt"; the answer is sigmoid(logit / temperature + offset).
- ``reason``: why there is no correction.
- ``log_loss``: the mean log loss on patients that were left out, by method.
- ``thresholds``: by the specificity (or sensitivity) asked for, on the answered probabilities: an image is called
  positive where its probability is at least the threshold; null: nothing is called positive. A specificity is there
  only where negatives are known, a sensitivity only where positives are.
- ``kept``: why a class has the run's own calibration in the file of a site; "" where it has the site's.
"""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from labelassemble._files import write_text
from labelassemble.data.predictions import Predictions
from labelassemble.errors import LabelAssembleError
from labelassemble.evaluation.bootstrap import patient_indices
from labelassemble.evaluation.calibrators import Method, choose_calibrator, scaled
from labelassemble.evaluation.metrics import threshold_at_sensitivity, threshold_at_specificity

CALIBRATION_FILE: Final = "calibration.json"

SPECIFICITIES: Final = (0.90, 0.95, 0.98)
"""The specificities at which sensitivity is given."""


def negatives_needed(specificity: float) -> int:
    """Return the fewest validation negatives that a specificity is told by: of fewer, one alone is more than 1 - it."""
    return math.ceil(1 / (1 - specificity) - 1e-9)


NO_PROBABILITY: Final = "the score is no probability"
"""Why the scores of a detection's patients are not corrected."""

Floats = NDArray[np.float64]
Thresholds = dict[str, Annotated[float, Field(ge=0)] | None]


class OperatingRule(NamedTuple):
    """What a threshold is chosen by; as text "specificity=0.95"."""

    figure: Literal["specificity", "sensitivity"]
    value: float  # between 0 and 1

    def __str__(self) -> str:
        return f"{self.figure}={self.value:g}"

    @classmethod
    def parse(cls, text: str) -> "OperatingRule":
        """Return what a text says.

        Raises:
            LabelAssembleError: it is no such text.
        """
        figure, _, number = text.partition("=")
        try:
            value = float(number)
        except ValueError:
            value = math.nan
        if figure == "specificity" and 0 < value < 1:
            return cls("specificity", value)
        if figure == "sensitivity" and 0 < value < 1:
            return cls("sensitivity", value)
        raise LabelAssembleError(
            f"the operating point must be specificity=X or sensitivity=X with X between 0 and 1, got '{text}'"
        )


DEFAULT_RULE: Final = OperatingRule("specificity", 0.95)


class ClassCalibration(BaseModel):
    """The calibration of one class; the fields are those of the file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    positives: int = Field(default=0, ge=0)
    negatives: int = Field(default=0, ge=0)
    method: Method = "none"
    temperature: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    offset: float = Field(default=0.0, allow_inf_nan=False)
    reason: str = ""
    kept: str = ""
    log_loss: dict[str, float] = {}
    thresholds: Thresholds = {}

    @property
    def by_specificity(self) -> tuple[tuple[float, float], ...]:
        """(specificity asked for, threshold; inf calls nothing positive), for those of `SPECIFICITIES` that are known.

        There is none where fewer negatives than `negatives_needed` chose it.
        """
        known = [target for target in SPECIFICITIES if self.negatives >= negatives_needed(target)]
        found = [(target, f"specificity={target:g}") for target in known]
        return tuple((target, self.threshold(key)) for target, key in found if key in self.thresholds)

    def threshold(self, rule: str) -> float:
        """Return the threshold of an operating rule that is among `thresholds`; inf calls nothing positive."""
        value = self.thresholds[rule]
        return math.inf if value is None else value

    @property
    def correction(self) -> str:
        """The correction in words, "" without one."""
        if self.method == "none":
            return ""
        offset = "" if self.method == "temperature" else f", offset {self.offset:+.2f}"
        return f"temperature {self.temperature:.2f}{offset}"


class Calibration(BaseModel):
    """Corrections and thresholds by class name; the fields are those of the file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[2] = 2
    split: Literal["val"] = "val"
    data: str = ""
    checkpoint: str = ""
    score: str = ""
    at: str = str(DEFAULT_RULE)
    images: int = Field(default=0, ge=0)
    classes: dict[str, ClassCalibration] = {}

    def of(self, name: str) -> ClassCalibration:
        """Return the calibration of a class; for one that was not there, the empty one."""
        return self.classes.get(name, ClassCalibration(reason="not in the run"))

    @property
    def chosen_on(self) -> str:
        """Whose images it was chosen on, in words."""
        if not self.data:
            return "the validation images of the run"
        kept = ", ".join(name for name, own in self.classes.items() if own.kept)
        return f"the validation images of “{self.data}”{f' ({kept}: of the run)' if kept else ''}"

    @property
    def chosen_on_patients(self) -> str:
        """The same of a detection, whose thresholds are those of patients."""
        return self.chosen_on.replace("validation images", "validation patients")

    def apply(self, probabilities: Floats, classes: Sequence[str]) -> Floats:
        """Return the probabilities [N, C] to answer for those that the network gave; the columns are `classes`."""
        found = [self.of(name) for name in classes]
        columns = [scaled(probabilities[:, c], of.temperature, of.offset) for c, of in enumerate(found)]
        return np.stack(columns, axis=1)

    def temperatures(self, classes: Sequence[str]) -> dict[str, float]:
        """Return the temperature of each class, 1 where there is none."""
        return {name: self.of(name).temperature for name in classes}

    def offsets(self, classes: Sequence[str]) -> dict[str, float]:
        """Return the offset of each class, 0 where there is none."""
        return {name: self.of(name).offset for name in classes}

    def thresholds(self, classes: Sequence[str], rule: str | None = None) -> dict[str, float | None] | None:
        """Return the threshold of each class, inf where nothing is called positive, None where none could be chosen.

        Args:
            classes: their names.
            rule: "specificity=0.95" or the like; default: `at`.

        Returns:
            None where no class has thresholds.

        Raises:
            LabelAssembleError: Thresholds were chosen by other rules only.
        """
        key = self.at if rule is None else rule
        own = {name: self.of(name) for name in classes}
        known = list(dict.fromkeys(rule for of in own.values() for rule in of.thresholds))
        if rule is not None and known and rule not in known:
            raise LabelAssembleError(
                f"{CALIBRATION_FILE}: no threshold for {rule}, known: {', '.join(known)}"
            )
        found = {name: of.threshold(key) if key in of.thresholds else None for name, of in own.items()}
        return None if set(found.values()) <= {None} else found


def calibrate(
    predictions: Predictions,
    at: OperatingRule = DEFAULT_RULE,
    *,
    data: str = "",
    checkpoint: str = "",
    score: str = "",
    correct: bool = True,
) -> Calibration:
    """Return corrections and thresholds chosen by the known labels of the validation split.

    Args:
        predictions: as the network gives them.
        at: the operating point, beside those of `SPECIFICITIES`.
        data: name of the data, "" for the run's own.
        checkpoint: SHA-256 of the weights that gave the predictions.
        score: of a detection, how its patients are scored (`DetectionOptions.score`).
        correct: False chooses thresholds only, for scores that are no probabilities: those of a detection's patients.
    """
    rows = predictions.subset_by_split("val")
    targets, patients = rows.given_targets(), patient_indices(rows.groups, len(rows))
    return Calibration(
        data=data,
        checkpoint=checkpoint,
        score=score,
        at=str(at),
        images=len(rows),
        classes={
            name: _of_class(targets[:, column], rows.probabilities[:, column], patients, at, correct=correct)
            for column, name in enumerate(predictions.classes)
        },
    )


def _of_class(
    targets: Floats, probabilities: Floats, patients: NDArray[np.intp], at: OperatingRule, *, correct: bool
) -> ClassCalibration:
    positive, negative = targets == 1, targets == 0
    if not correct:
        return ClassCalibration(
            positives=int(np.count_nonzero(positive)),
            negatives=int(np.count_nonzero(negative)),
            reason=NO_PROBABILITY,
            thresholds=_thresholds(probabilities[positive], probabilities[negative], at),
        )
    fitted = choose_calibrator(
        probabilities[positive], probabilities[negative], patients[positive], patients[negative]
    )
    answered = scaled(probabilities, fitted.temperature, fitted.offset)
    return ClassCalibration(
        positives=int(np.count_nonzero(positive)),
        negatives=int(np.count_nonzero(negative)),
        method=fitted.method,
        temperature=fitted.temperature,
        offset=fitted.offset,
        reason=fitted.reason,
        log_loss=fitted.log_loss,
        thresholds=_thresholds(answered[positive], answered[negative], at),
    )


def _thresholds(positives: Floats, negatives: Floats, at: OperatingRule) -> Thresholds:
    """Return the threshold of each rule whose state is known: without positives no sensitivity can be kept."""
    found: Thresholds = {}
    known = np.concatenate([positives, negatives])
    rules = [OperatingRule("specificity", value) for value in SPECIFICITIES]
    for rule in [*rules, *([] if at in rules else [at])]:
        if rule.figure == "specificity" and len(negatives):
            value = threshold_at_specificity(negatives, known, rule.value)
        elif rule.figure == "sensitivity" and len(positives):
            value = threshold_at_sensitivity(positives, rule.value)
        else:
            continue
        found[str(rule)] = value if math.isfinite(value) else None
    return found


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
        if where == "format":
            raise LabelAssembleError(
                f"{path}: written by another version of labelassemble: "
                f"`labelassemble evaluate {path.parent}` writes it anew"
            ) from None
        raise LabelAssembleError(f"{path}: damaged: {where}: {first['msg']}") from None
