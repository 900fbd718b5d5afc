"""What a run's calibration.json has for an export: a temperature and a threshold for each class."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from labelassemble.errors import LabelAssembleError


class Calibration(NamedTuple):
    """Temperatures and thresholds by class name.

    Attributes:
        temperatures: probabilities are sigmoid(logit / temperature); 1 for a class without one.
        thresholds: of the calibrated probabilities; infinity calls nothing positive; None: none were chosen.
    """

    temperatures: dict[str, float]
    thresholds: dict[str, float] | None


def read_calibration(path: Path, classes: Sequence[str], *, specificity: float = 0.95) -> Calibration:
    """Return the calibration in a file that evaluation wrote; without the file, temperatures of 1 and no threshold.

    Args:
        path: calibration.json in a run's folder. What it lacks for a class counts as absent.
        classes: the names that are wanted.
        specificity: the operating point of the thresholds. Thresholds are all there or none.

    Raises:
        LabelAssembleError: no JSON, a temperature or threshold that is none, or thresholds for other specificities.
    """
    temperatures = dict.fromkeys(classes, 1.0)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return Calibration(temperatures, None)
    try:
        content = json.loads(text)
    except ValueError:
        raise LabelAssembleError(f"{path}: not a calibration: no JSON") from None
    entries = content.get("classes") if isinstance(content, dict) else None
    if not isinstance(entries, dict) or not all(isinstance(entry, dict) for entry in entries.values()):
        raise LabelAssembleError(f"{path}: not a calibration: 'classes' must hold an object for each class")

    thresholds: dict[str, float] = {}
    key = f"{specificity:g}"
    for name in classes:
        entry: dict[str, Any] = entries.get(name, {})
        if entry.get("temperature") is not None:
            temperatures[name] = _number(path, name, "temperature", entry["temperature"])
        offered = entry.get("calibrated_thresholds") or {}
        if offered and key not in offered:
            raise LabelAssembleError(
                f"{path}: no threshold for the specificity {key}, known: {', '.join(offered)}"
            )
        if key in offered:
            value = offered[key]
            thresholds[name] = math.inf if value is None else _number(path, name, "threshold", value)
    return Calibration(temperatures, thresholds if len(thresholds) == len(temperatures) else None)


def _number(path: Path, name: str, what: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0:
        raise LabelAssembleError(
            f"{path}: the {what} of '{name}' must be a number of at least 0, got {value!r}"
        )
    return float(value)
