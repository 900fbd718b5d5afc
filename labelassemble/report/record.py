"""What a report is made from."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labelassemble.data.predictions import Predictions
from labelassemble.data.table import Table
from labelassemble.evaluation.calibration import Calibration
from labelassemble.evaluation.leakage import Leakage
from labelassemble.evaluation.operating import DecisionCurve, OperatingRow
from labelassemble.evaluation.proportion import Interval
from labelassemble.evaluation.results import Evaluation
from labelassemble.report.examples import Example
from labelassemble.training.curves import Curves


@dataclass(frozen=True)
class RunRecord:
    """What is known of a training; None where it is not recorded.

    Attributes:
        path: the run's folder.
        classes: names of the network's classes.
        interest: the classes of interest.
        config: the configuration, empty where it is not recorded.
        config_text: the same as YAML.
        environment: versions and machine.
        table: what was assembled.
        curves: how training went.
        trained: the day of the last epoch.
        notes: what was said when the images were assembled, a sentence each.
    """

    path: Path
    classes: tuple[str, ...]
    interest: tuple[str, ...]
    config: Mapping[str, Any]
    config_text: str | None
    environment: Mapping[str, Any] | None
    table: Table | None
    curves: Curves | None
    trained: str | None
    notes: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """The folder's name."""
        return self.path.resolve().name.encode("utf-8", "replace").decode("utf-8")


@dataclass(frozen=True)
class Results:
    """What a network reaches on held-out images or on other data; None where there is nothing to go by.

    Attributes:
        predictions: of the images that could be read.
        calibration: corrections and thresholds in use.
        evaluation: on the test images.
        leakage: how well the network's features tell sources apart.
        similarity: cosine of each pair of learned queries, [C, C].
        examples: test images to show.
        operating: the classes at the threshold in use.
        benefit: their decision curves.
    """

    predictions: Predictions | None = None
    calibration: Calibration | None = None
    evaluation: Evaluation | None = None
    leakage: Leakage | None = None
    similarity: NDArray[np.floating] | None = None
    examples: tuple[Example, ...] = ()
    operating: tuple[OperatingRow, ...] = ()
    benefit: tuple[DecisionCurve, ...] = ()


@dataclass(frozen=True)
class OtherRun:
    """A run to show beside another one.

    Attributes:
        name: of the run.
        description: what it is.
        predictions: its own.
        seconds: how long it was trained, None where it is not recorded.
        leakage: how well its features tell sources apart; None where it is not known.
    """

    name: str
    description: str
    predictions: Predictions
    seconds: float | None
    leakage: Leakage | None = None


@dataclass(frozen=True)
class Gain:
    """A difference of two means over seeds, paired seed by seed.

    Attributes:
        value: the difference.
        interval: Student's 95% interval; None where there is nothing to go by.
        p: two-sided; None where there is nothing to go by.
        won: seeds in which the first is higher.
    """

    value: float
    interval: Interval | None
    p: float | None
    won: int


@dataclass(frozen=True)
class SeedsRow:
    """What one way of training comes to over seeds.

    Attributes:
        name: of the way of training.
        description: what it is.
        mean: of the AUROC.
        deviation: standard deviation of the AUROC; None with one seed.
        over_first: gain over the first row; None for that row.
        over_before: gain over the row before; None for the first row.
    """

    name: str
    description: str
    mean: float
    deviation: float | None
    over_first: Gain | None
    over_before: Gain | None


@dataclass(frozen=True)
class OverSeeds:
    """Ways of training compared over seeds, each with something more than the one before it.

    Attributes:
        class_name: whose AUROC it is.
        seeds: how many.
        rows: the ways of training, this run's the last.
    """

    class_name: str
    seeds: int
    rows: tuple[SeedsRow, ...]
