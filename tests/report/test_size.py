"""A page of 20 classes and 5 sources keeps under 2 MB, and its names are broken between words only."""

import base64
import re
from pathlib import Path

import numpy as np
import pytest

from labelassemble.data.table import Table
from labelassemble.evaluation import Predictions, calibrate, evaluate
from labelassemble.evaluation.leakage import Leakage, SourceLeak
from labelassemble.evaluation.operating import decision_curves, operating_rows
from labelassemble.explain.overlay import small_jpeg
from labelassemble.report.examples import CLASSES, RIGHT, SIDE, WRONG, Example
from labelassemble.report.format import breakable
from labelassemble.report.page import report_page
from labelassemble.report.record import OtherRun, Results, RunRecord

NAMES = tuple(f"Enlarged cardiomediastinum of_kind_{i}" for i in range(20))
SOURCES = tuple(f"local_hospital_{i}_prospective_cohort" for i in range(5))


def noisy_example(name, rng):
    """Return pictures that a JPEG hardly makes smaller, as no radiograph is."""
    pixels = rng.integers(60, 190, (SIDE, SIDE, 3), np.uint8)
    uri = "data:image/jpeg;base64," + base64.b64encode(small_jpeg(pixels, side=SIDE)).decode()
    return Example(name, "found", "x.png", SOURCES[0], 0.9, uri, uri)


@pytest.fixture(scope="module")
def page():
    rng = np.random.default_rng(0)
    size, count = 4000, len(NAMES)
    source = rng.integers(0, len(SOURCES), size)
    rates = rng.uniform(0.05, 0.3, (len(SOURCES), count))
    labels = (rng.random((size, count)) < rates[source]).astype(np.int8)
    numbers = np.array([f"{i:08}.png" for i in range(size)])
    texts = {
        "paths": numbers,
        "names": numbers,
        "groups": numbers,
        "splits": np.array(["val", "test", "test", "test"])[np.arange(size) % 4],
        "sources": np.array(SOURCES)[source],
    }
    sex = {"sex": np.array(["female", "male"])[rng.integers(0, 2, size)]}
    origins = np.zeros(labels.shape, np.uint8)
    chances = 1 / (1 + np.exp(2 - rng.normal(size=labels.shape) - 1.2 * labels))
    rows = Predictions(
        classes=NAMES, labels=labels, origins=origins, probabilities=chances, subgroups=sex, **texts
    )
    leakage = Leakage("test", 3000, tuple(SourceLeak(name, 600, 0.9, 0.8) for name in SOURCES), 0.9, 0.8, ())
    calibration = calibrate(rows)
    test = rows.subset_by_split("test")
    shown = CLASSES * (RIGHT + 2 * WRONG)
    results = Results(
        rows,
        calibration,
        evaluate(rows, calibration=calibration, leakage=leakage, bootstrap=20),
        leakage,
        rng.uniform(-1, 1, (count, count)),
        tuple(noisy_example(NAMES[0], rng) for _ in range(shown)),
        operating_rows(test, calibration),
        decision_curves(test, calibration),
    )
    table = Table(classes=NAMES, labels=labels, origins=origins, **texts)
    run = RunRecord(Path("run"), NAMES, NAMES, {}, "a: 1\n" * 60, {}, table, None, None)
    return report_page(run, results, [OtherRun("another", "", rows, None, leakage)], None, None)


def test_twenty_classes_and_five_sources_keep_under_two_megabytes(page):
    assert page.count("<svg") > 2 * len(NAMES)
    assert page.count("data:image/jpeg") == 2 * CLASSES * (RIGHT + 2 * WRONG)
    assert len(page.encode()) < 2_000_000


def test_a_class_stands_once_beside_its_rows_and_names_break_at_their_marks(page):
    section = re.search(r'<section id="operating">.*?</section>', page, re.DOTALL).group()
    assert section.count('<th scope="rowgroup"') == len(NAMES)
    assert "local_<wbr>hospital_<wbr>0_<wbr>prospective_<wbr>cohort" in section
    assert breakable("<b>a_b</b> c.d/e") == "&lt;b&gt;a_<wbr>b&lt;/<wbr>b&gt; c.<wbr>d/<wbr>e"
    assert breakable("") == ""
    assert breakable("St. Mary's") == "St. Mary&#39;s"
