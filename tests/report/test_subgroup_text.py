"""Subgroups in the console's text, in subgroups.csv, on the page and on the model card."""

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from labelassemble.data.text import text_array
from labelassemble.evaluation import Evaluation, Predictions, evaluate
from labelassemble.report.model_card import card_markdown, model_card
from labelassemble.report.page import report_page
from labelassemble.report.record import Results, RunRecord
from labelassemble.report.subgroups import gap_sentence, subgroup_lines, write_subgroups
from labelassemble.report.text import evaluation_text

UGLY = "<b>x</b> & y"


def predictions(size: int = 600) -> Predictions:
    rng = np.random.default_rng(1)
    labels = rng.choice(np.array([1, 0, 0], dtype=np.int8), (size, 2))
    names = text_array([f"{index}.png" for index in range(size)])
    return Predictions(
        ("Mass", "Edema"),
        paths=names,
        names=names,
        groups=names,
        splits=text_array(["val" if index % 4 == 0 else "test" for index in range(size)]),
        sources=text_array(["h"] * size),
        labels=labels,
        origins=np.zeros(labels.shape, dtype=np.uint8),
        probabilities=1 / (1 + np.exp(-rng.normal(size=(size, 2)) - labels)),
        subgroups={
            "sex": text_array(np.array(["male", "female", ""])[rng.integers(0, 3, size)].tolist()),
            "scanner": text_array([UGLY if index % 2 else "B" for index in range(size)]),
        },
    )


@pytest.fixture(scope="module")
def evaluation() -> Evaluation:
    return evaluate(predictions(), bootstrap=200)


def record(folder: Path) -> RunRecord:
    return RunRecord(folder, ("Mass", "Edema"), ("Mass",), {}, None, None, None, None, None)


def test_the_text_has_a_row_per_value_and_class(evaluation: Evaluation) -> None:
    text = evaluation_text(evaluation)
    sex = evaluation.subgroups[0]
    assert f"By sex (missing for {sex.missing} of 450 images):" in text
    rows = [
        line.split()[:2] for line in text.splitlines() if line.startswith(("male ", "female ", "missing "))
    ]
    assert rows == [[value.value, name] for name in ("Mass", "Edema") for value in sex.values]
    gap = sex.gaps[0]
    assert f"- Mass: {gap.best} is above {gap.worst} by +" in text
    assert "so no difference is shown" in text
    assert "widened to hold for all pairs of groups" in text
    assert subgroup_lines(replace(evaluation, subgroups=())) == []


def test_a_gap_claims_no_more_than_its_interval(evaluation: Evaluation) -> None:
    gap = replace(evaluation.subgroups[0].gaps[0], name="Mass", best="a", worst="b", difference=0.1)
    assert gap_sentence(replace(gap, interval=None)) == (
        "Mass: a is above b by +0.100, without an interval, so nothing can be said of it"
    )
    inside = type(evaluation.classes[0].interval)
    assert inside is not None
    assert gap_sentence(replace(gap, interval=inside(-0.01, 0.2))).endswith(
        "holds 0, so no difference is shown"
    )
    assert gap_sentence(replace(gap, interval=inside(0.01, 0.2))).endswith(
        "(+0.010 to +0.200): the interval lies above 0"
    )


def test_many_rows_stand_in_the_file_alone(evaluation: Evaluation, monkeypatch: pytest.MonkeyPatch) -> None:
    assert (
        gap_sentence(replace(evaluation.subgroups[0].gaps[0], difference=0.0))
        == "Mass: no group is above another"
    )
    monkeypatch.setattr("labelassemble.report.subgroups.ROWS", 5)
    text = evaluation_text(evaluation)
    assert "(6 rows: see subgroups.csv)" in text
    assert f"\n{UGLY}" in text


def test_few_cases_are_marked(evaluation: Evaluation) -> None:
    small = evaluate(predictions(120), bootstrap=0)
    assert " (few) " in evaluation_text(small)
    assert "nothing can be said of it" in evaluation_text(
        small
    ) or "no groups are compared" in evaluation_text(small)


def test_the_csv_has_every_figure(evaluation: Evaluation, tmp_path: Path) -> None:
    write_subgroups(evaluation, tmp_path)
    with (tmp_path / "subgroups.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * (3 + 2)
    row = rows[0]
    value = evaluation.subgroups[0].values[0]
    result = value.classes[0]
    assert (row["subgroup"], row["value"], row["class"]) == ("sex", value.value, "Mass")
    assert int(row["images"]) == value.images
    assert (int(row["positives"]), int(row["negatives"])) == (result.positives, result.negatives)
    assert result.interval is not None
    assert float(row["auroc_lower"]) == pytest.approx(result.interval.lower, rel=1e-8)
    point = result.operating_points[1]
    assert float(row["sensitivity_at_0.95"]) == pytest.approx(point.sensitivity.value, rel=1e-8)
    assert float(row["specificity_at_0.95_upper"]) == pytest.approx(
        point.specificity.interval.upper, rel=1e-8
    )
    write_subgroups(replace(evaluation, subgroups=()), tmp_path)
    assert not (tmp_path / "subgroups.csv").exists()


def test_the_page_and_the_card_have_a_section(evaluation: Evaluation, tmp_path: Path) -> None:
    results = Results(predictions(), evaluation=evaluation)
    page = report_page(record(tmp_path), results, (), None, None)
    section = page[page.index('<section id="subgroups">') : page.index('<section id="leakage">')]
    assert "&lt;b&gt;x&lt;/b&gt; &amp; y" in section
    assert UGLY not in section
    assert section.count("<h3>") == 2
    assert section.count('<div class="forest"') == 2
    card = card_markdown("run", model_card(record(tmp_path), results))
    assert "## Subgroups" in card
    assert "- **Mass by sex**: AUROC " in card
    assert "- By sex: Mass: " in card
    without = replace(results, evaluation=replace(evaluation, subgroups=()))
    assert '<section id="subgroups">' not in report_page(record(tmp_path), without, (), None, None)
    assert "names no \\`subgroups\\`" in card_markdown("run", model_card(record(tmp_path), without))
