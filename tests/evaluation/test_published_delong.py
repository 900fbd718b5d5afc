"""The example of DeLong, DeLong and Clarke-Pearson (1988): three tests of 43 patients with ovarian cancer.

Data and figures as published in the SAS/STAT User's Guide, PROC LOGISTIC, "Comparing Receiver Operating Characteristic
Curves" (six of the paper's 49 patients lack a test). The event is popind = 0; all three tests are lower with it.
"""

import math
from fractions import Fraction

import numpy as np
import pytest
from scipy.stats import norm

from labelassemble.evaluation.statistics import delong, paired_delong

# albumin, total protein, 10 - K-G score, popind
_TEXT = """
    3.0 5.8 10 0  3.2 6.3 5 1  3.9 6.8 3 1  2.8 4.8 6 0  3.2 5.8 3 1  0.9 4.0 5 0  2.5 5.7 8 0  1.6 5.6 5 1
    3.8 5.7  5 1  3.7 6.7 6 1  3.2 5.4 4 1  3.8 6.6 6 1  4.1 6.6 5 1  3.6 5.7 5 1  4.3 7.0 4 1  3.6 6.7 4 0
    2.3 4.4  6 1  4.2 7.6 4 0  4.0 6.6 6 0  3.5 5.8 6 1  3.8 6.8 7 1  3.0 4.7 8 0  4.5 7.4 5 1  3.7 7.4 5 1
    3.1 6.6  6 1  4.1 8.2 6 1  4.3 7.0 5 1  4.3 6.5 4 1  3.2 5.1 5 1  2.6 4.7 6 1  3.3 6.8 6 0  1.7 4.0 7 0
    3.7 6.1  5 1  3.3 6.3 7 1  4.2 7.7 6 1  3.5 6.2 5 1  2.9 5.7 9 0  2.1 4.8 7 1  2.8 6.2 8 0  4.0 7.0 7 1
    3.3 5.7  6 1  3.7 6.9 5 1  3.6 6.6 5 1
"""
ROWS = np.array(_TEXT.split(), dtype=np.float64).reshape(-1, 4)
EVENT = ROWS[:, 3] == 0
SCORES = {"albumin": -ROWS[:, 0], "total protein": -ROWS[:, 1], "K-G": ROWS[:, 2]}


@pytest.mark.parametrize(
    ("name", "area", "standard_error"),
    [("albumin", 0.7366, 0.0927), ("K-G", 0.7258, 0.1028), ("total protein", 0.6478, 0.1000)],
)
def test_areas_and_standard_errors_are_the_published_ones(
    name: str, area: float, standard_error: float
) -> None:
    found = delong(SCORES[name][EVENT], SCORES[name][~EVENT])
    assert found is not None
    assert round(found.auroc, 4) == area
    assert round(math.sqrt(found.variance), 4) == standard_error


@pytest.mark.parametrize("name", list(SCORES))
def test_area_and_variance_are_the_definition_in_fractions(name: str) -> None:
    positives, negatives = SCORES[name][EVENT].tolist(), SCORES[name][~EVENT].tolist()
    wins = [[Fraction(int(x > y) * 2 + int(x == y), 2) for y in negatives] for x in positives]
    rows = [sum(row, Fraction()) / len(negatives) for row in wins]
    columns = [sum(column, Fraction()) / len(positives) for column in zip(*wins, strict=True)]
    area = sum(rows, Fraction()) / len(positives)
    variance = sum(
        (
            sum(((value - area) ** 2 for value in part), Fraction()) / (len(part) - 1) / len(part)
            for part in (rows, columns)
        ),
        Fraction(),
    )
    found = delong(SCORES[name][EVENT], SCORES[name][~EVENT])
    assert found is not None
    assert found.auroc == pytest.approx(float(area), abs=1e-9)
    assert found.variance == pytest.approx(float(variance), abs=1e-9)


@pytest.mark.parametrize(
    ("name", "difference", "standard_error", "lower", "upper", "p"),
    [
        ("albumin", 0.0108, 0.0953, -0.1761, 0.1976, 0.9102),
        ("total protein", -0.0780, 0.1046, -0.2830, 0.1271, 0.4561),
    ],
)
def test_differences_from_the_kg_score_are_the_published_ones(
    name: str, difference: float, standard_error: float, lower: float, upper: float, p: float
) -> None:
    scores = np.stack([SCORES[name], SCORES["K-G"]])
    found = paired_delong(scores[:, EVENT], scores[:, ~EVENT])
    assert found is not None
    assert round(found.difference, 4) == difference
    assert round(math.sqrt(found.variance), 4) == standard_error
    deviation = math.sqrt(found.variance)
    half = float(norm.ppf(0.975)) * deviation
    assert (round(found.difference - half, 4), round(found.difference + half, 4)) == (lower, upper)
    assert round(2 * float(norm.sf(abs(found.difference) / deviation)), 4) == p
    # With 12 events the library's own are more careful.
    assert found.interval is not None
    assert found.interval.lower < lower
    assert upper < found.interval.upper
    assert found.p is not None
    assert p < found.p < p + 0.05
