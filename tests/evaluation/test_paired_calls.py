"""Sensitivity and specificity of two detections on the same patients."""

from pathlib import Path

import numpy as np
import pytest

from labelassemble.data.predictions import Predictions
from labelassemble.evaluation import compare_runs as runs
from labelassemble.evaluation.compare_runs import compare_runs
from labelassemble.evaluation.paired_calls import PairedShares
from labelassemble.report.compare_page import compare_text, write_comparison


def test_the_interval_is_newcombes_and_p_is_the_exact_binomial() -> None:
    # Newcombe 1998, Statistics in Medicine 17, 2635-2650, table III: 36, 12, 2, 0 by method 10
    counts = PairedShares(both=36, first=12, second=2, patients=50)
    assert counts.difference == pytest.approx(0.2)
    assert [round(end, 4) for end in counts.interval] == [0.0569, 0.3404]
    assert counts.p == pytest.approx(2 * (1 + 14 + 91) / 2**14)


def test_runs_that_never_differ_have_p_1_and_an_interval_around_0() -> None:
    counts = PairedShares(both=9, first=0, second=0, patients=10)
    assert counts.p == 1.0
    assert counts.interval.lower < 0 < counts.interval.upper
    all_of_them = PairedShares(both=10, first=0, second=0, patients=10)
    assert all_of_them.interval.lower == pytest.approx(-all_of_them.interval.upper)


def predictions(scores: list[float], groups: list[str] | None = None) -> Predictions:
    """Return validation and then 12 test patients, every second one with the class."""
    rows = len(scores)
    labels = np.array([[row % 2] for row in range(rows)], np.int8)
    return Predictions(
        classes=("PDAC",),
        paths=[f"p{row}" for row in range(rows)],
        names=[""] * rows,
        groups=groups or [f"p{row}" for row in range(rows)],
        splits=["val"] * (rows - 12) + ["test"] * 12,
        sources=["s"] * rows,
        labels=labels,
        origins=np.zeros((rows, 1), np.uint8),
        probabilities=np.array(scores)[:, None],
    )


VAL = [
    0.1,
    0.6,
    0.2,
    0.7,
    0.3,
    0.8,
    0.4,
    0.9,
    0.5,
    0.95,
] * 10  # any score above 0.5 calls a patient positive: 0.6
FIRST = [*VAL, *[0.2, 0.7] * 6]
SECOND = [*VAL, *[0.2, 0.3] * 5, 0.9, 0.7]  # finds one of six, and calls one negative positive


def run(
    name: str, scores: list[float], *, volumes: bool = True, groups: list[str] | None = None
) -> runs.TestedRun:
    config = {"volumes": {"patch": [32, 32]}} if volumes else {}
    return runs.TestedRun(Path(name), {**config, "model": {"backbone": name}}, predictions(scores, groups))


def test_compare_tests_calls_of_detections_beside_the_auroc(tmp_path: Path) -> None:
    found = compare_runs([run("a", FIRST), run("b", SECOND)])
    shown = [(test.figure, test.target, test.counts) for test in found.calls if test.target == 0.95]
    assert shown == [
        ("sensitivity", 0.95, PairedShares(1, 5, 0, 6)),
        ("specificity", 0.95, PairedShares(5, 1, 0, 6)),
    ]
    first = found.calls[0]
    assert first.counts.p == pytest.approx(2 / 2**5)
    assert first.holm == pytest.approx(6 * 2 / 2**5)
    text = " ".join(compare_text(found).split())
    assert "McNemar's exact test" in text
    assert "PDAC sensitivity at 95% a b 100% - 16.7% +0.833" in text
    write_comparison(found, tmp_path / "c.csv")
    assert "mcnemar,PDAC,a,b,0.833333333," in (tmp_path / "c.csv").read_text(encoding="utf-8")
    write_comparison(found, tmp_path / "c.html")
    assert "on the same test patients, two-sided" in (tmp_path / "c.html").read_text(encoding="utf-8")


def test_a_specificity_that_a_run_has_too_few_validation_patients_for_is_left_out() -> None:
    found = compare_runs([run("a", FIRST[len(VAL) - 40 :]), run("b", SECOND[len(VAL) - 40 :])])
    assert [(test.figure, test.target) for test in found.calls] == [
        (figure, target) for target in (0.9, 0.95) for figure in ("sensitivity", "specificity")
    ]
    assert not compare_runs([run("a", FIRST[len(VAL) - 18 :]), run("b", SECOND)]).calls


def test_images_and_patients_with_several_rows_are_not_tested_so() -> None:
    assert not compare_runs([run("a", FIRST, volumes=False), run("b", SECOND, volumes=False)]).calls
    groups = [f"p{row // 2}" for row in range(len(FIRST))]
    assert not compare_runs([run("a", FIRST, groups=groups), run("b", SECOND, groups=groups)]).calls
