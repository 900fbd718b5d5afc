"""report.html: self-contained, well-formed, safe with any name, and honest about what is missing."""

import csv
import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
import yaml

from labelassemble.data.table import Table
from labelassemble.errors import LabelAssembleError
from labelassemble.evaluation import (
    Predictions,
    evaluate,
    paired_delong,
    read_predictions,
    write_predictions,
)
from labelassemble.report.page import write_report as write_report_of
from labelassemble.report.record import Results
from labelassemble.run.record import read_other_run, read_run

UGLY = '<script>alert("x")</script> & \'q\' "r"\u2603'
VOID = {"meta", "br", "wbr"}


class Page(HTMLParser):
    """Checks that tags are balanced; keeps the text by section id, the tags used and where links lead."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.open, self.tags, self.links, self.sections, self.ids = [], set(), [], {}, []
        self.section = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        self.tags.add(tag)
        self.links += [
            values[key] for key in ("src", "href", "xlink:href", "action", "data") if key in values
        ]
        if tag == "section":
            self.section = values["id"]
            self.ids.append(self.section)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.add(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag
        if tag == "section":
            self.section = ""

    def handle_data(self, data):
        if "style" not in self.open:
            words = self.sections.get(self.section, "") + data
            self.sections[self.section] = re.sub(r"\s+", " ", words)


def make_run(
    folder, *, classes=("COVID-19", UGLY, "one state"), interest=("COVID-19",), seed=0, epochs=4, skill=1.5
):
    """Write a run's folder as training leaves it: 400 images of 160 patients from two sources."""
    rng = np.random.default_rng(9)
    size, count = 400, len(classes)
    patients = rng.integers(0, 160, size)
    labels = rng.choice(np.array([1, 0, 0, -1, -2], np.int8), (size, count))
    labels[:, -1] = np.minimum(labels[:, -1], 0)
    assumed = (rng.random((size, count)) < 0.1) & (labels == 0)
    texts = {
        "paths": np.array([f"images/{i}.png" for i in range(size)]),
        "names": np.array([f"{i}.png" for i in range(size)]),
        "groups": np.array([f"p{p}" for p in patients]),
        "splits": np.array(["train", "val", "test", "test"])[patients % 4],
        "sources": rng.choice(["nih", "<b>clinic</b>"], size),
    }
    folder.mkdir(parents=True, exist_ok=True)
    Table(classes=classes, labels=labels, origins=assumed.astype(np.uint8), **texts).to_csv(
        folder / "table.csv"
    )
    noise = np.random.default_rng(seed).normal(size=(size, count))
    predictions = Predictions(
        classes=classes,
        labels=labels,
        origins=assumed.astype(np.uint8),
        probabilities=1 / (1 + np.exp(-noise - skill * (labels == 1))),
        **texts,
    )
    write_predictions(predictions.select(texts["splits"] != "train"), folder / "predictions.csv")
    columns = [
        "epoch",
        "step",
        "seconds",
        "learning_rate",
        "pseudo_weight",
        "consistency_weight",
        "train_loss",
    ]
    columns += ["train_bce", "train_pseudo", "train_consistency", "train_known", "train_unknown", "val_loss"]
    columns += ["val_auc_mean", "val_auc_interest", *(f"val_auc:{name}" for name in classes)]
    with (folder / "metrics.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        for epoch in range(1, epochs + 1):
            late = float(epoch > 2)
            row = [epoch, epoch * 10, epoch * 31.5, 2e-4, late, late, 0.7 / epoch, 0.6, 0.1, 0.1, 900, 300]
            writer.writerow([*row, 0.8 / epoch, 0.7 + 0.02 * epoch, 0.8 + 0.02 * epoch, *[""] * count])
    config = {"classes": list(classes), "interest": list(interest), "train": {"lr": 2e-4}}
    (folder / "config.yaml").write_text(yaml.safe_dump(config, allow_unicode=True), encoding="utf-8")
    environment = {"torch": "2.13.0", "cpu": {"threads": 2}, "command": ["train", "<odd>.yaml"]}
    (folder / "environment.json").write_text(json.dumps(environment), encoding="utf-8")
    return folder


def write_report(run, *, similarity=None, **options):
    """Write the report of a folder, from its own predictions."""
    file = run / "predictions.csv"
    predictions = read_predictions(file) if file.exists() else None
    classes = () if predictions is None else predictions.classes
    record = read_run(run, classes=classes, interest=classes)
    interest = tuple(name for name in record.config.get("interest", ()) if name in classes)
    record = replace(record, interest=interest or classes)
    results = Results(predictions, similarity=similarity)
    if predictions is not None and (predictions.splits == "test").any():
        results = replace(results, evaluation=evaluate(predictions))
    return write_report_of(record, results, **options)


def page_of(run, **options):
    path = write_report(run, **options)
    assert path == run / "report.html"
    return Page(path.read_text(encoding="utf-8"))


@pytest.fixture
def run(tmp_path):
    return make_run(tmp_path / 'a <i>run"')


def test_the_page_is_whole_and_self_contained(run):
    page = page_of(run, similarity=np.eye(3))
    assert page.ids == [
        "result", "classes", "roc", "details", "overall", "sources", "leakage", "calibration", "data",
        "training", "similarity", "limits", "card", "settings",
    ]  # fmt: skip
    assert {link for link in page.links if not link.startswith("#m")} == {"#limits"}  # and markers of plots
    assert not page.tags & {"script", "img", "link", "iframe", "object", "i>", "b>"}
    text = (run / "report.html").read_text(encoding="utf-8")
    assert "@import" not in text
    assert "url(" not in text
    assert set(re.findall(r"https?://[^\"' ]+", text)) <= {
        "http://www.w3.org/2000/svg",
        "http://www.w3.org/1999/xlink",
    }
    assert "nan" not in re.sub(r"<style>.*?</style>", "", text, flags=re.S).lower().split()
    assert "None" not in page.sections["result"]


def test_figures_are_those_of_the_evaluation(run):
    page = page_of(run)
    evaluation = evaluate(read_predictions(run / "predictions.csv"))
    result = evaluation.of("COVID-19")
    assert f"{result.auroc:.3f}" in page.sections["result"]
    assert (
        f"95% interval {result.interval.lower:.3f} to {result.interval.upper:.3f}" in page.sections["result"]
    )
    assert f"{result.positives} positive and {result.negatives} negative" in page.sections["result"]
    assert f"{result.bootstrap.lower:.3f} to {result.bootstrap.upper:.3f}" in page.sections["details"]
    for within in evaluation.by_source:
        if within.auroc is not None:
            assert f"{within.auroc:.3f} ({within.interval.lower:.3f} to" in page.sections["sources"]
    inside = [evaluation.of("COVID-19", source) for source in evaluation.sources]
    listed = "; ".join(
        f"{r.source} {r.auroc:.3f} ({r.interval.lower:.3f} to {r.interval.upper:.3f})" for r in inside
    )
    assert f"Within one source: {listed}." in page.sections["result"]
    assert evaluation.within("one state") == ()
    assert "not defined" in page.sections["classes"]
    assert "trained in 2 min 6 s" in page.sections[""]


def test_names_are_shown_as_they_are_and_never_run(run):
    page = page_of(run, similarity=np.eye(3))
    for section in ("classes", "details", "sources", "data", "similarity"):
        assert UGLY in page.sections[section], section
    assert "<b>clinic</b>" in page.sections["data"]
    assert 'a <i>run"' in page.sections[""]
    assert "<odd>.yaml" in page.sections["settings"]


def test_the_data_section_counts_labels(run):
    table = Table.from_csv(run / "table.csv")
    page = page_of(run)
    frame = table.coverage()
    row = frame[(frame["source"] == "nih") & (frame["class"] == "COVID-19")].iloc[0]
    assert f"{row['positive']} / {row['negative']}" in page.sections["data"]
    assert (
        "No patient stands in more than one split, as far as the sources name patients."
        in page.sections["data"]
    )


def test_patients_on_both_sides_are_told(run):
    text = (run / "table.csv").read_text(encoding="utf-8")
    (run / "table.csv").write_text(re.sub(r",p(\d+),(train|test),", r",p4,\2,", text), encoding="utf-8")
    assert "1 patient stands in more than one split: the results flatter" in page_of(run).sections["data"]
    (run / "table.csv").write_text(re.sub(r",p\d+,(train|val|test),", r",,\1,", text), encoding="utf-8")
    assert "every image is a patient of its own" in page_of(run).sections["data"]


def test_what_was_said_of_the_data_is_told(run):
    (run / "notes.txt").write_text("source 'a': fine\nwarning: source 'b': <odd>\n", encoding="utf-8")
    data = page_of(run).sections["data"]
    assert "Warnings when the data were assembled source 'b': <odd>" in data
    assert "Notes when the data were assembled source 'a': fine" in data
    (run / "notes.txt").unlink()
    assert "when the data were assembled" not in page_of(run).sections["data"]


@pytest.mark.parametrize(
    ("file", "section", "note"),
    [
        ("predictions.csv", "roc", "Left out: there is no predictions.csv"),
        ("table.csv", "data", "Left out: there is no table.csv"),
        ("metrics.csv", "training", "Left out: there is no metrics.csv"),
        ("config.yaml", "settings", "There is no config.yaml"),
        ("environment.json", "settings", "There is no environment.json"),
    ],
)
def test_a_missing_file_leaves_its_section_out_with_a_note(run, file, section, note):
    (run / file).unlink()
    assert note in page_of(run).sections[section]


def test_an_empty_folder_still_gives_a_page(tmp_path):
    page = page_of(tmp_path)
    assert "says nothing about how good the model is" in page.sections["result"]
    assert "Not a medical device" in page.sections["limits"]


def test_no_test_images_still_give_a_page(run):
    predictions = read_predictions(run / "predictions.csv")
    write_predictions(predictions.subset_by_split("val"), run / "predictions.csv")
    page = page_of(run)
    assert "holds no images of the test split" in page.sections["roc"]
    assert "says nothing about how good" in page.sections["result"]
    assert "AUROC on validation images" in page.sections["training"]


def test_without_classes_of_interest_all_are(tmp_path):
    page = page_of(make_run(tmp_path / "run", classes=tuple("abcdef"), interest=()))
    assert "Averaged over 5 of 6 classes" in page.sections["result"]
    assert all(f"{name} " in page.sections["roc"] for name in "abcde")
    page = page_of(make_run(tmp_path / "two", classes=("a", "b", "c"), interest=("b", "a")))
    assert re.search(r"% of the time for b and [\d.]+% of the time for a\.", page.sections["result"])


def test_no_defined_class_is_said(tmp_path):
    page = page_of(make_run(tmp_path / "run", classes=("only",), interest=("only",)))
    assert "No class has both positive and negative test labels" in page.sections["result"]


@pytest.mark.parametrize("epochs", [0, 1, 60])
def test_any_number_of_epochs(tmp_path, epochs):
    page = page_of(make_run(tmp_path / "run", epochs=epochs))
    expected = "no finished epoch" if epochs == 0 else "Loss"
    assert expected in page.sections["training"]
    assert ("from epoch 3 on" in page.sections["training"]) == (epochs == 60)


def test_other_runs_are_compared_on_the_same_images(run, tmp_path):
    other = make_run(tmp_path / "other", seed=1, skill=0.2)
    page = page_of(run, others=[read_other_run(other, "<em>less</em> skill", "its description")])
    ours, theirs = (evaluate(read_predictions(r / "predictions.csv")).of("COVID-19") for r in (run, other))
    section = page.sections["comparison"]
    assert "<em>less</em> skill its description" in section.replace("skillits", "skill its")
    assert f"{theirs.auroc:.3f} ({theirs.interval.lower:.3f} to {theirs.interval.upper:.3f})" in section
    assert f"{ours.auroc - theirs.auroc:+.3f} (" in section
    rows = [read_predictions(r / "predictions.csv").subset_by_split("test") for r in (run, other)]
    scores, targets = np.stack([r.probabilities[:, 0] for r in rows]), rows[0].given_targets()[:, 0]
    expected = paired_delong(
        scores[:, targets == 1],
        scores[:, targets == 0],
        positive_groups=rows[0].groups[targets == 1],
        negative_groups=rows[0].groups[targets == 0],
    )
    assert f"({expected.interval.lower:+.3f} to {expected.interval.upper:+.3f}) {expected.p:.3f} " in section
    assert "<em>less</em> skill" in page.sections["roc"]


def test_other_images_or_labels_are_not_tested(run, tmp_path):
    other = make_run(tmp_path / "other", seed=1)
    predictions = read_predictions(other / "predictions.csv")
    rows = np.flatnonzero(predictions.splits == "test")
    write_predictions(predictions.select(rows[1:]), other / "predictions.csv")
    assert (
        "not tested: other test images"
        in page_of(run, others=[read_other_run(other, "x")]).sections["comparison"]
    )
    labels = predictions.labels.copy()
    swap = rows[(labels[rows, 0] == 1) & ~predictions.assumed[rows, 0]][0]
    labels[swap, 0] = 0
    write_predictions(replace(predictions, labels=labels), other / "predictions.csv")
    assert (
        "not tested: other labels" in page_of(run, others=[read_other_run(other, "x")]).sections["comparison"]
    )


def test_rows_in_another_order_are_matched_by_path(run, tmp_path):
    other = make_run(tmp_path / "other")
    predictions = read_predictions(other / "predictions.csv")
    order = np.random.default_rng(0).permutation(len(predictions))
    write_predictions(predictions.select(order), other / "predictions.csv")
    section = page_of(run, others=[read_other_run(other, "shuffled")]).sections["comparison"]
    assert re.search(r"0\.000 1\.000", section)  # no difference, p = 1


def test_a_run_that_lacks_the_class_says_so(run, tmp_path):
    other = make_run(tmp_path / "other", classes=("a", "b", "c"), interest=())
    section = page_of(run, others=[read_other_run(other, "x")]).sections["comparison"]
    assert "does not predict this class" in section


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("config.yaml", "a: [", "config.yaml: not valid YAML"),
        ("environment.json", "{", "environment.json: not valid JSON"),
        ("environment.json", "[]", "environment.json: must hold an object"),
        ("metrics.csv", "epoch,step\n1,2\n", "metrics.csv, line 1: no column 'seconds'"),
        ("predictions.csv", "path\n", "predictions.csv, line 1: the columns of predictions must start with"),
    ],
)
def test_a_damaged_file_is_named_and_the_old_page_stays(run, file, content, message):
    before = write_report(run).read_bytes()
    (run / file).write_text(content, encoding="utf-8")
    with pytest.raises(LabelAssembleError, match=message):
        write_report(run)
    assert (run / "report.html").read_bytes() == before


def test_a_configuration_that_is_no_mapping_is_named(run):
    (run / "config.yaml").write_text("- a", encoding="utf-8")
    with pytest.raises(LabelAssembleError, match="a configuration is a mapping of keys, got list"):
        read_run(run, classes=("a",), interest=("a",))


def test_a_metric_that_is_no_number_is_named(run):
    text = (run / "metrics.csv").read_text(encoding="utf-8").replace("63.0", "soon")
    (run / "metrics.csv").write_text(text, encoding="utf-8")
    with pytest.raises(
        LabelAssembleError, match="line 3, column 'seconds': must be a number or blank, got 'soon'"
    ):
        write_report(run)


def test_other_mistakes_are_named(run, tmp_path):
    with pytest.raises(LabelAssembleError, match="nowhere: no such folder of a run"):
        write_report(tmp_path / "nowhere")
    with pytest.raises(LabelAssembleError, match=r"similarity must have shape \[3, 3\], .* got \[2, 2\]"):
        write_report(run, similarity=np.eye(2))
    with pytest.raises(LabelAssembleError, match="similarity must hold cosines"):
        write_report(run, similarity=np.full((3, 3), np.nan))
    (tmp_path / "bare").mkdir()
    with pytest.raises(LabelAssembleError, match=r"the run 'x' has no predictions.csv to compare with"):
        write_report(run, others=[read_other_run(tmp_path / "bare", "x")])
