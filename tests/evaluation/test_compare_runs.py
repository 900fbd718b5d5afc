"""Runs held against each other: the tests are scipy's and DeLong's, corrected by Holm, and seeds are recognised."""

import csv
import gzip
import re
from dataclasses import replace

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from scipy.special import expit

from labelassemble.data.text import text_array
from labelassemble.errors import LabelAssembleError
from labelassemble.evaluation import (
    Predictions,
    auroc,
    evaluate,
    paired_delong,
    read_predictions,
    write_predictions,
)
from labelassemble.evaluation.compare_runs import MEAN, holm
from labelassemble.evaluation.compare_runs import compare_runs as compare_tested_runs
from labelassemble.evaluation.leakage import Leakage, write_leakage
from labelassemble.report.compare_page import compare_text, write_comparison
from labelassemble.run.record import read_tested_run


def make_run(folder, *, skill=1.0, seed=0, classes=("a", "b"), images=160, subgroups=None, **settings):
    """Write predictions and a configuration: the same images for every run, other scores for every seed."""
    rng = np.random.default_rng(5)
    labels = rng.choice(np.array([1, 0, -1], np.int8), (images, len(classes)))
    names = np.array([f"{i}.png" for i in range(images)])
    noise = np.random.default_rng([seed, round(100 * skill)]).normal(size=labels.shape)
    folder.mkdir(parents=True)
    write_predictions(
        Predictions(
            classes=classes,
            labels=labels,
            probabilities=expit(noise + skill * (labels == 1)),
            origins=np.zeros(labels.shape, np.uint8),
            names=names,
            sources=np.full(images, "nih"),
            groups=np.array([f"p{i // 2}" for i in range(images)]),
            splits=np.full(images, "test"),
            paths=names,
            subgroups=subgroups or {},
        ),
        folder / "predictions.csv",
    )
    config = {"train": {"seed": seed, "lr": 1e-3}, "skill": skill, **settings}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    return folder


def compare_runs(paths, groups=None):
    """Compare runs by their folders."""
    read = {name: [read_tested_run(path) for path in members] for name, members in (groups or {}).items()}
    return compare_tested_runs([read_tested_run(path) for path in paths], read)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_agrees_with_its_definition(values):
    order = np.argsort(values, kind="stable")
    expected = np.empty(len(values))
    for rank, index in enumerate(order):
        steps = [(len(values) - k) * values[order[k]] for k in range(rank + 1)]
        expected[index] = min(1.0, max(steps))
    assert holm(values) == pytest.approx(expected.tolist())
    assert holm([None, *values, None])[1:-1] == holm(values)  # what is not tested does not count


def test_a_known_example_of_holm():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []


def test_pairs_are_delongs_and_corrected_over_all_of_them(tmp_path):
    paths = [make_run(tmp_path / f"skill-{skill}", skill=skill) for skill in (0.2, 1.0, 2.0)]
    found = compare_runs(paths)
    assert found.groups == ()
    assert len(found.pairs) == 6
    rows = [read_predictions(path / "predictions.csv") for path in paths]
    for pair in found.pairs:
        a, b = (
            rows[["skill-0.2", "skill-1.0", "skill-2.0"].index(name)] for name in (pair.first, pair.second)
        )
        column = a.column(pair.name)
        y, scores = a.given_targets()[:, column], np.stack([r.probabilities[:, column] for r in (a, b)])
        expected = paired_delong(
            scores[:, y == 1],
            scores[:, y == 0],
            positive_groups=a.groups[y == 1],
            negative_groups=a.groups[y == 0],
        )
        assert pair.test.p == pytest.approx(expected.p, abs=1e-12)
        assert pair.test.difference == pytest.approx(expected.difference, abs=1e-12)
    assert [pair.holm for pair in found.pairs] == holm([pair.test.p for pair in found.pairs])


def test_seeds_are_recognised_and_t_tested(tmp_path):
    paths = [
        make_run(tmp_path / f"{name}-{seed}", skill=skill, seed=seed)
        for name, skill in (("weak", 0.5), ("strong", 1.2))
        for seed in range(3)
    ]
    found = compare_runs(paths)
    assert [group.runs for group in found.groups] == [
        ("weak-0", "weak-1", "weak-2"), ("strong-0", "strong-1", "strong-2"),
    ]  # fmt: skip
    assert found.groups[0].name == "weak-0 and 2 more seeds"
    assert [test.name for test in found.group_tests] == ["a", "b", MEAN]
    values = [
        [
            auroc(r.given_targets()[:, 0], r.probabilities[:, 0])
            for r in (read_predictions(p / "predictions.csv") for p in part)
        ]
        for part in (paths[:3], paths[3:])
    ]
    test = found.group_tests[0]
    assert test.student == pytest.approx(stats.ttest_ind(*values).pvalue, abs=1e-12)
    assert test.welch == pytest.approx(stats.ttest_ind(*values, equal_var=False).pvalue, abs=1e-12)
    assert found.groups[0].mean("a") == pytest.approx(np.mean(values[0]))
    assert found.groups[0].deviation("a") == pytest.approx(np.std(values[0], ddof=1))
    assert [t.holm for t in found.group_tests] == holm([t.welch for t in found.group_tests])
    # Runs of a group are not tested against each other; between groups those of the same seed are.
    assert {(p.first[-1], p.second[-1]) for p in found.pairs} == {("0", "0"), ("1", "1"), ("2", "2")}
    assert {p.first.split("-")[0] for p in found.pairs} == {"weak"}


def test_groups_by_hand_and_names_by_the_shortest_end(tmp_path):
    first = [make_run(tmp_path / f"seed-{s}" / "ours", seed=s, place=s) for s in (0, 1)]
    second = [make_run(tmp_path / f"seed-{s}" / "theirs", seed=s, skill=0.4, place=s) for s in (0, 1)]
    assert compare_runs([*first, *second]).groups == ()  # configurations that differ in more than the seed
    found = compare_runs([], {"ours": first, "theirs": second})
    assert [group.name for group in found.groups] == ["ours", "theirs"]
    assert found.groups[0].runs == ("seed-0/ours", "seed-1/ours")
    assert found.group_tests[0].welch is not None
    alone = compare_runs([second[0]], {"ours": first[:1]})
    assert alone.group_tests == ()
    assert alone.groups[0].deviation("a") is None


def test_other_images_are_not_tested_and_said(tmp_path):
    paths = [make_run(tmp_path / "a"), make_run(tmp_path / "b", images=150, skill=0.5)]
    found = compare_runs(paths)
    known = [read_predictions(path / "predictions.csv").known[:, 0] for path in paths]
    shared = int((known[0][:150] & known[1][:150]).sum())
    assert found.pairs[0].reason == (
        f"other test images: {shared} of {known[0].sum()} and {known[1].sum()} are the same"
    )
    assert [pair.holm for pair in found.pairs] == [None, None]
    text = compare_text(found)
    assert "a and b were tested on other images of a, so they are not tested against each other, nor" in text
    assert "not tested: other test images" in text
    moved = read_predictions(paths[1] / "predictions.csv")
    elsewhere = replace(moved, paths=text_array("/data/" + moved.paths))
    write_predictions(elsewhere, paths[1] / "predictions.csv")
    first = f"{known[0].argmax()}.png", elsewhere.paths[known[1]][0]
    assert compare_runs(paths).pairs[0].reason == (
        f"other test images: 0 of {known[0].sum()} and {known[1].sum()} are the same, such as {first[0]} "
        f"against {first[1]}"
    )


def test_the_page_and_the_csv_hold_the_same_figures(tmp_path):
    paths = [make_run(tmp_path / f"<i>{s}-{k}", skill=k, seed=s) for k in (0.5, 1.5) for s in (0, 1)]
    found = compare_runs(paths)
    write_comparison(found, tmp_path / "compare.html")
    write_comparison(found, tmp_path / "compare.csv")
    page = (tmp_path / "compare.html").read_text(encoding="utf-8")
    assert "&lt;i&gt;0-0.<wbr>5" in page
    assert "<i>0-0.5" not in page
    assert not re.search(r"<(script|img|link|iframe)|url\(|@import", page)
    with (tmp_path / "compare.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["kind"] for row in rows] == ["run"] * 8 + ["delong"] * 4 + ["group"] * 6 + ["t-test"] * 3
    test = found.group_tests[0]
    assert float(rows[-3]["p"]) == pytest.approx(test.welch)
    assert float(rows[-3]["p_student"]) == pytest.approx(test.student)
    assert float(rows[8]["p_holm"]) == pytest.approx(found.pairs[0].holm)
    assert f"{found.pairs[0].test.difference:+.3f}".replace("-", "\N{MINUS SIGN}") in page
    with pytest.raises(LabelAssembleError, match=r"must end in \.html or \.csv, got '.*compare\.pdf'"):
        write_comparison(found, tmp_path / "compare.pdf")


def test_mistakes_are_named(tmp_path):
    run = make_run(tmp_path / "run")
    other = make_run(tmp_path / "other", classes=("x", "y"))
    (tmp_path / "empty").mkdir()
    for arguments, message in (
        (([run],), "takes two runs at least, got 1"),
        (([run, tmp_path / "." / "run"],), "run is given twice"),
        (([run, other],), "have no class in common"),
        (([run, tmp_path / "empty"],), "empty holds no predictions for test images"),
        (([run, tmp_path / "nowhere"],), "nowhere: no such folder of a run"),
        (([run, other], {"none": []}), "the group 'none' names no run"),
    ):
        with pytest.raises(LabelAssembleError, match=message):
            compare_runs(*arguments)


def test_the_command_line(tmp_path, cli):
    runs = [make_run(tmp_path / f"r{s}", seed=s, skill=1 + s) for s in range(4)]

    page = tmp_path / "out.html"
    status, out, err = cli("compare", "-o", page, "--group", "one", *runs[:2], "--group", "two", *runs[2:])
    assert (status, err) == (0, "")
    assert re.search(r"t-tests over seeds; Holm over all of Welch's:\n", out)
    assert re.search(r"a +one +two +[+\N{MINUS SIGN}]0\.\d{3}", out)
    assert page.exists()
    for words, message in (
        ((*runs, "--gruop", "x"), "no such option: --gruop, did you mean '--group'?"),
        ((runs[0], "--group"), "--group must be followed by a name"),
        (("--group", "x", runs[0], "--group", "x", runs[1]), "the group 'x' is named twice"),
        ((*runs, "-o", "x.pdf"), "--output must end in .html or .csv, got 'x.pdf'"),
    ):
        status, _, err = cli("compare", *words)
        assert status == 2
        assert message in err


def test_runs_are_compared_within_subgroups(tmp_path):
    sex = np.array(["male", "female", ""])[np.random.default_rng(3).integers(0, 3, 160)]
    carried = {"sex": sex, "age": np.array([str(index % 90) for index in range(160)])}
    runs = [
        make_run(tmp_path / name, skill=skill, subgroups=carried, age_bands=[40])
        for name, skill in (("x", 1), ("y", 2))
    ]
    alone = make_run(tmp_path / "z", skill=0.5)
    found = compare_runs([*runs, alone])
    assert [(v.subgroup, v.value) for v in found.subgroups if v.name == "a"] == [
        ("sex", value) for value in dict.fromkeys(v.value for v in found.subgroups if v.subgroup == "sex")
    ] + [("age", "under 40"), ("age", "40 and over")]
    assert [v.value for v in found.subgroups if v.subgroup == "sex"][-1] == "missing"
    first = read_predictions(runs[0] / "predictions.csv")
    second = read_predictions(runs[1] / "predictions.csv")
    for value in found.subgroups:
        if value.subgroup != "sex":
            continue
        assert list(value.runs) == ["x", "y"]
        rows = first.subgroups["sex"] == value.value.replace("missing", "")
        column = first.column(value.name)
        labels = first.labels[rows, column]
        scores = np.stack([first.probabilities[rows, column], second.probabilities[rows, column]])
        assert value.runs["x"].auroc == pytest.approx(auroc(labels, scores[0]))
        groups = first.groups[rows].astype(object)
        expected = paired_delong(
            scores[:, labels == 1],
            scores[:, labels == 0],
            positive_groups=groups[labels == 1],
            negative_groups=groups[labels == 0],
        )
        assert value.pairs[0].test.difference == pytest.approx(expected.difference)
        assert value.pairs[0].test.interval == pytest.approx(expected.interval)
    text = compare_text(found)
    assert "sex: male" in text
    assert "age: 40 and over" in text
    write_comparison(found, tmp_path / "c.csv")
    with (tmp_path / "c.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["subgroup"]]
    assert len(rows) == 2 * 5 * 3  # classes, values, two runs and their difference
    write_comparison(found, tmp_path / "c.html")
    page = (tmp_path / "c.html").read_text(encoding="utf-8")
    assert "a, sex: female" in page
    assert '<section id="subgroups">' in page
    assert compare_runs([runs[0], alone]).subgroups == ()


def test_predictions_that_were_compressed_are_those_of_the_run(tmp_path):
    plain, packed = make_run(tmp_path / "plain"), make_run(tmp_path / "packed")
    file = packed / "predictions.csv"
    (packed / "predictions.csv.gz").write_bytes(gzip.compress(file.read_bytes()))
    file.unlink()
    assert read_tested_run(packed).predictions == read_tested_run(plain).predictions


def tied(run, *, leakage, skill):
    """Two sources of other shares of positives, and a score that knows the source and some of the finding."""
    rng = np.random.default_rng(9)
    source, size = np.repeat([0, 1], 100), 200
    labels = (np.arange(size) % 10 < np.array([2, 8])[source]).astype(np.int8)
    names = np.array([f"{i}.png" for i in range(size)])
    scores = rng.normal(size=size) + 3 * source + skill * labels
    run.mkdir()
    rows = Predictions(
        classes=("a",),
        labels=labels[:, None],
        probabilities=expit(scores)[:, None],
        origins=np.zeros((size, 1), np.uint8),
        names=names,
        sources=np.array(["nih", "clinic"])[source],
        groups=names,
        splits=np.full(size, "test"),
        paths=names,
    )
    write_predictions(rows, run / "predictions.csv")
    if leakage is not False:
        write_leakage(leakage, run)
    return read_tested_run(run)


LEAK = Leakage("test", 200, (), 0.95, 0.9, ())


def test_a_class_tied_to_the_source_is_compared_within_sources(tmp_path):
    runs = [
        tied(tmp_path / "a", leakage=LEAK, skill=0.2),
        tied(tmp_path / "b", leakage=None, skill=2.5),
    ]
    found = compare_tested_runs(runs)
    results = [evaluate(run.predictions, leakage=LEAK, bootstrap=0) for run in runs]
    for run, result in zip(found.runs, results, strict=True):
        assert run.classes["a"].first.auroc == result.headline("a").auroc
        assert run.classes["a"].auroc == result.classes[0].auroc > run.classes["a"].first.auroc
    assert found.within["a"] == ("a", results[0].headline("a").reason)
    [pair] = found.pairs
    assert pair.test.difference == pytest.approx(
        results[0].headline("a").auroc - results[1].headline("a").auroc, abs=1e-12
    )
    text = compare_text(found)
    first, pooled = results[0].headline("a").auroc, results[0].classes[0].auroc
    assert re.search(rf"a, within sources +a +{first:.3f} \(.*\) +{pooled:.3f} \(", text)
    assert (
        "a is compared within sources, of pairs of images from the same source: in a, the features alone"
        in text
    )
    write_comparison(found, tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert f'<small>within sources; <span class="nowrap">pooled {pooled:.3f} (' in page
    assert "the features alone tell the sources apart (AUC 0.95)" in page
    write_comparison(found, tmp_path / "page.csv")
    with open(tmp_path / "page.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["within_sources"] for row in rows] == ["yes", "yes", "yes"]
    assert float(rows[0]["value"]) == pytest.approx(first)
    assert float(rows[0]["pooled"]) == pytest.approx(pooled)


def test_without_leakage_the_pooled_figure_stands_and_what_was_never_measured_is_said(tmp_path):
    runs = [
        tied(tmp_path / "a", leakage=replace(LEAK, auc=0.6, within=0.6), skill=0.2),
        tied(tmp_path / "b", leakage=False, skill=1.0),
    ]
    found = compare_tested_runs(runs)
    assert found.within == {}
    assert found.runs[0].classes["a"].first.auroc == found.runs[0].classes["a"].auroc
    assert (
        "a is tied to the source, and how well the features of b tell the sources apart is not recorded, so the pooled"
        in compare_text(found)
    )


def test_a_damaged_record_of_leakage_is_one_sentence(tmp_path):
    tied(tmp_path / "a", leakage=LEAK, skill=1.0)
    assert read_tested_run(tmp_path / "a").leakage == LEAK
    (tmp_path / "a" / "leakage.json").write_text('{"split": "test"')
    with pytest.raises(
        LabelAssembleError, match=r"leakage\.json: cannot be read \(not as `labelassemble evaluate`"
    ):
        read_tested_run(tmp_path / "a")
