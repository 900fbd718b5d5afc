"""Whether a calibration still belongs to a run's weights and scores, and which thresholds an export gets."""

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml

from labelassemble.data import Table
from labelassemble.data.predictions import Predictions
from labelassemble.data.table_io import write_predictions
from labelassemble.detection_options import DetectionOptions
from labelassemble.errors import LabelAssembleError
from labelassemble.evaluation.calibration import (
    Calibration,
    ClassCalibration,
    OperatingRule,
    calibrate,
    read_calibration,
    write_calibration,
)
from labelassemble.run.calibration import calibration_in_use, exported_thresholds, renewed_calibration
from labelassemble.run.segment import detection_options
from labelassemble.run.site import calibrate_own
from labelassemble.training.checkpoint import checkpoint_sum

Cli = Callable[..., tuple[int, str, str]]
SITE_RULE = OperatingRule("sensitivity", 0.9)


def configure(run: Path, **detection: object) -> None:
    path = run / "config.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | {"detection": detection}))


@pytest.fixture
def at_site(evaluated: Path) -> tuple[Path, Predictions]:
    """A run whose thresholds are those of a site, and its own predictions; patients are scored by the mean."""
    table = Table.from_csv(evaluated / "table.csv")
    table = table.select(table.splits != "train")
    scores = np.random.default_rng(0).random((len(table), 2))
    predictions = Predictions.of(table, scores)
    write_predictions(predictions, evaluated / "predictions.csv", scores)
    weights = checkpoint_sum(evaluated / "checkpoints" / "best.pt")
    score = detection_options(evaluated).score
    site = calibrate(predictions, SITE_RULE, data="site", checkpoint=weights, score=score, correct=False)
    write_calibration(site, evaluated / "calibration.json")
    return evaluated, predictions


@pytest.mark.parametrize("change", [{"patient_score": "maximum"}, {"top": 0.05}])
def test_thresholds_of_other_scores_are_refused_until_the_run_is_evaluated_again(
    detection_run: Path,
    at_site: tuple[Path, Predictions],
    change: dict[str, object],
    cli: Cli,
    caplog: pytest.LogCaptureFixture,
) -> None:
    run, predictions = at_site
    site = read_calibration(run / "calibration.json")
    configure(run, threshold=0.4, tolerance=1.0, hit="any", least_iou=0.3)  # none of a patient's score
    score = detection_options(run).score
    assert calibration_in_use(run) == site
    assert renewed_calibration(run, predictions, score=score, correct=False) == site
    assert not caplog.records

    configure(run, **change)
    log = run / "log.csv"
    log.write_text("path,score:disc,score:bar\na,0.1,0.2\n")
    data = detection_run.parent / "site.yaml"
    for command in (
        ("evaluate", run, "--data", data),
        ("monitor", run, "--predictions", log),
        ("export", run),
        ("calibrate", run, "--data", data),
        ("calibrate", run),
    ):
        status, _, err = cli(*command)
        assert status == 2, command
        assert "belongs to other scores of patients (patient_score=mean, top=0.01) than " in err
        assert f"`labelassemble evaluate {run}` writes it anew" in err
    assert read_calibration(run / "calibration.json") == site
    score = detection_options(run).score
    caplog.clear()
    own = renewed_calibration(run, predictions, score=score, correct=False)
    assert (own.data, own.score) == ("", score)
    assert calibration_in_use(run) == own
    assert calibrate_own(run, SITE_RULE).score == score
    [record] = caplog.records
    assert record.getMessage() == (
        "the thresholds of “site” belong to other scores, so those of the run's own validation patients are in use: "
        f"`labelassemble calibrate {run} --data` chooses a site's anew"
    )


def test_predictions_of_other_weights_give_no_thresholds(at_site: tuple[Path, Predictions]) -> None:
    run, _ = at_site
    site = read_calibration(run / "calibration.json")
    write_calibration(site.model_copy(update={"checkpoint": "0" * 64}), run / "calibration.json")
    with pytest.raises(LabelAssembleError, match="belongs to other weights"):
        calibrate_own(run, SITE_RULE)


def test_a_wrong_section_is_a_sentence(evaluated: Path) -> None:
    configure(evaluated, patient_score="max")
    with pytest.raises(
        LabelAssembleError, match=r"config.yaml: detection: 'patient_score' must be 'mean' or"
    ):
        detection_options(evaluated)


def test_what_the_scale_of_a_score_depends_on_is_named_in_full() -> None:
    assert DetectionOptions(top=0.123456789).score == "patient_score=mean, top=0.123456789"


AT_SITE = Calibration(
    at="sensitivity=0.9",
    classes={
        "a": ClassCalibration(thresholds={"sensitivity=0.9": 0.4, "specificity=0.95": 0.5}),
        "b": ClassCalibration(thresholds={"specificity=0.95": 0.6}),  # no positive is known
        "c": ClassCalibration(thresholds={"sensitivity=0.9": None, "specificity=0.95": None}),  # never
    },
)


@pytest.mark.parametrize(
    ("classes", "specificity", "found", "told"),
    [
        (
            "abc",
            None,
            {"a": 0.4, "b": None, "c": np.inf},
            "'b', since none could be chosen for sensitivity=0.9",
        ),
        ("b", None, None, "'b', since none could be chosen for sensitivity=0.9"),
        (
            "abd",
            0.95,
            {"a": 0.5, "b": 0.6, "d": None},
            "'d', since none could be chosen for specificity=0.95",
        ),
        ("abc", 0.95, {"a": 0.5, "b": 0.6, "c": np.inf}, ""),
        ("de", None, None, ""),  # a run without validation labels
    ],
)
def test_a_class_without_the_threshold_that_is_exported_is_named(
    classes: str,
    specificity: float | None,
    found: object,
    told: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING):
        assert exported_thresholds(AT_SITE, list(classes), specificity) == found
    expected = [f"the export has no threshold for {told}: it answers a score and no decision"] if told else []
    assert [record.getMessage() for record in caplog.records] == expected
