"""Evaluation: what a model reaches per class and source, how sure that is, and a report of it."""

from labelassemble.data.predictions import Predictions
from labelassemble.data.table_csv import read_predictions, write_predictions
from labelassemble.evaluation.bootstrap import bootstrap_auroc
from labelassemble.evaluation.calibration import Calibration, ReliabilityPoint, calibration_of
from labelassemble.evaluation.choices import Choices, ClassChoice, choose, read_choices, write_choices
from labelassemble.evaluation.evaluate import evaluate
from labelassemble.evaluation.metrics import (
    OperatingPoint,
    RocCurve,
    auroc,
    auroc_per_class,
    average_precision,
    roc_curve,
    sensitivity_at_specificity,
    youden_threshold,
)
from labelassemble.evaluation.results import ROW_HEADER, ClassResult, Evaluation, MeanResult, OverallResult
from labelassemble.evaluation.statistics import (
    DeLong,
    Interval,
    PairedTest,
    Proportion,
    delong,
    paired_delong,
    wilson,
)
from labelassemble.evaluation.temperature import Temperature, fit_temperature, scaled

__all__ = [
    "ROW_HEADER",
    "Calibration",
    "Choices",
    "ClassChoice",
    "ClassResult",
    "DeLong",
    "Evaluation",
    "Interval",
    "MeanResult",
    "OperatingPoint",
    "OverallResult",
    "PairedTest",
    "Predictions",
    "Proportion",
    "ReliabilityPoint",
    "RocCurve",
    "Temperature",
    "auroc",
    "auroc_per_class",
    "average_precision",
    "bootstrap_auroc",
    "calibration_of",
    "choose",
    "delong",
    "evaluate",
    "fit_temperature",
    "paired_delong",
    "read_choices",
    "read_predictions",
    "roc_curve",
    "scaled",
    "sensitivity_at_specificity",
    "wilson",
    "write_choices",
    "write_predictions",
    "youden_threshold",
]
