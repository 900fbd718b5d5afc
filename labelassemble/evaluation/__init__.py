"""Evaluation: what a model reaches per class and source, and how sure that is."""

from labelassemble.data.predictions import Predictions
from labelassemble.data.table_io import read_predictions, write_predictions
from labelassemble.evaluation.bootstrap import bootstrap_auroc
from labelassemble.evaluation.calibration import (
    Calibration,
    ClassCalibration,
    OperatingRule,
    calibrate,
    read_calibration,
    write_calibration,
)
from labelassemble.evaluation.calibrators import (
    Calibrator,
    Platt,
    Temperature,
    choose_calibrator,
    fit_platt,
    fit_temperature,
    scaled,
)
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
from labelassemble.evaluation.proportion import Interval, Proportion, wilson
from labelassemble.evaluation.reliability import Reliability, ReliabilityPoint, reliability_of
from labelassemble.evaluation.results import (
    ClassResult,
    Evaluation,
    MeanResult,
    OverallResult,
    SubgroupGap,
    SubgroupResult,
    SubgroupValue,
    Unreadable,
)
from labelassemble.evaluation.statistics import DeLong, PairedTest, delong, paired_delong

__all__ = [
    "Calibration",
    "Calibrator",
    "ClassCalibration",
    "ClassResult",
    "DeLong",
    "Evaluation",
    "Interval",
    "MeanResult",
    "OperatingPoint",
    "OperatingRule",
    "OverallResult",
    "PairedTest",
    "Platt",
    "Predictions",
    "Proportion",
    "Reliability",
    "ReliabilityPoint",
    "RocCurve",
    "SubgroupGap",
    "SubgroupResult",
    "SubgroupValue",
    "Temperature",
    "Unreadable",
    "auroc",
    "auroc_per_class",
    "average_precision",
    "bootstrap_auroc",
    "calibrate",
    "choose_calibrator",
    "delong",
    "evaluate",
    "fit_platt",
    "fit_temperature",
    "paired_delong",
    "read_calibration",
    "read_predictions",
    "reliability_of",
    "roc_curve",
    "scaled",
    "sensitivity_at_specificity",
    "wilson",
    "write_calibration",
    "write_predictions",
    "youden_threshold",
]
