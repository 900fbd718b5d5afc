"""What every output for a hospital says: which model answered, by which rule, and that it is for research use."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from labelassemble.evaluation.calibration import Calibration

RESEARCH_USE: Final = (
    "For research use only. Not a medical device, not validated for clinical use, not for diagnosis."
)

SCHEME: Final = "99LABELASSEMBLE"
"""The designator of our codes: private ones begin with 99 (DICOM PS3.16, section 8.2)."""
SCHEME_NAME: Final = "Names of labelassemble: classes of a model, and what is said of them"
SCHEME_UID: Final = "2.25.118156455224758665173185698790426571227"
"""Names the scheme in DICOM, and as urn:oid:... in FHIR; made of a random UUID (DICOM PS3.5, B.2)."""

_LONG_STRING: Final = 64  # characters of a Long String of DICOM, at most

THRESHOLD: Final = ("threshold", "Threshold of the probability")
DECISION: Final = ("decision", "Probability compared with its threshold")
REACHED: Final = ("reached", "At or above the threshold")
BELOW: Final = ("below", "Below the threshold")


@dataclass(frozen=True)
class ClassAnswer:
    """What is answered of one class.

    Attributes:
        name: of the class.
        probability: as `labelassemble predict` answers it.
        threshold: at the operating point in use; inf: nothing is called positive; None: none could be chosen.
    """

    name: str
    probability: float
    threshold: float | None

    @property
    def decision(self) -> tuple[str, str] | None:
        """`REACHED` or `BELOW`, None without a threshold."""
        if self.threshold is None:
            return None
        return REACHED if self.probability >= self.threshold else BELOW

    @property
    def threshold_text(self) -> str:
        """The threshold in words."""
        if self.threshold is None:
            return "no threshold could be chosen"
        if math.isinf(self.threshold):
            return "none: nothing is called positive"
        return f"{self.threshold:.6g}"


@dataclass(frozen=True)
class ModelStatement:
    """Which model answered.

    Attributes:
        name: of the run.
        version: of labelassemble.
        checkpoint: SHA-256 of its weights.
        preset: of its configuration; "" where that is not known.
        rule: by which thresholds were chosen, such as "specificity=0.95".
        chosen_on: whose images calibration and thresholds were chosen on.
    """

    name: str
    version: str
    checkpoint: str
    preset: str
    rule: str
    chosen_on: str

    @property
    def lines(self) -> tuple[str, ...]:
        """What is said of the model, a fact a line."""
        return (
            f"model={self.name}",
            f"labelassemble={self.version}",
            f"checkpoint=sha256:{self.checkpoint}",
            f"preset={self.preset or 'unknown'}",
            f"thresholds={self.rule}",
            f"calibration and thresholds chosen on={self.chosen_on}",
        )


def class_answers(
    probabilities: NDArray[np.float64],  # [C]
    classes: Sequence[str],
    calibration: Calibration,
) -> list[ClassAnswer]:
    """Return what is answered of each class of an image.

    Args:
        probabilities: that are answered, by calibration.
        classes: their names.
        calibration: that is in use.
    """
    thresholds = calibration.thresholds(classes) or {}
    return [
        ClassAnswer(name, float(value), thresholds.get(name))
        for name, value in zip(classes, probabilities, strict=True)
    ]


def long_string(text: str) -> str:
    """Return a text as one Long String of DICOM: a backslash would part two values, tabs are none of its characters."""
    return cut(" ".join(text.replace("\\", "/").split()), _LONG_STRING)


def cut(text: str, longest: int) -> str:
    """Return a text as a value of DICOM of so many characters at most, "..." where it was cut.

    A value of an odd number of bytes gets a space, which is one of them.
    """
    short = text if len(text) <= longest else f"{text[: longest - 3]}..."
    if len(short) == longest and len(short.encode()) % 2:
        return f"{text[: longest - 4]}..."
    return short


def equipment(model: ModelStatement) -> dict[str, str]:
    """Return what each object of DICOM says of what made it, as keywords of highdicom."""
    return {
        "manufacturer": "labelassemble",
        "manufacturer_model_name": long_string(model.name),
        "software_versions": model.version,
        "device_serial_number": long_string(model.checkpoint),
        "series_description": "labelassemble: for research use only",
    }
