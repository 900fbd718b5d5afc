"""An experiment over several sources: within each of them, at the threshold, and what sees no more than a border."""

import csv
import json
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from labelassemble.errors import LabelAssembleError
from labelassemble.evaluation import wilson
from labelassemble.experiments.figures import sources_figure
from labelassemble.experiments.jobs import Job, JobResult
from labelassemble.experiments.loading import load_experiment
from labelassemble.experiments.measures import SourceResult
from labelassemble.experiments.outcome import write_outcome
from labelassemble.experiments.runner import run_experiment
from labelassemble.experiments.settings import Experiment
from labelassemble.experiments.sources_summary import (
    leakage_rows,
    place_rows,
    places_csv,
    within_differences,
)
from labelassemble.experiments.sources_table import sources_blocks
from labelassemble.experiments.summary import Done, mean_interval, run_rates


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def experiment() -> Experiment:
    return load_experiment("covid-few-labels")


@pytest.fixture(scope="module")
def made_up(experiment: Experiment) -> Done:
    """Two seeds of two arms at one size, with two sources of which one has no negatives."""
    setting, options = experiment.settings[0], (experiment.views, experiment.model, experiment.loss)
    done = []
    for seed in (0, 1):
        for index, name in enumerate(("alone", "alone-border")):
            job = Job(
                setting,
                experiment.arm(name),
                50,
                seed,
                None,
                ("COVID19",),
                *options,
                experiment.train,
                "last",
                {},
                "",
            )
            auc = 0.9 - 0.2 * index - 0.02 * seed
            sources = (
                SourceResult("both", 10, 20, 5, auc - 0.1, auc - 0.2, auc, 8 - seed, 16 + seed),
                SourceResult("one", 6, 0, 0, None, None, None, 6, 0),
            )
            result = JobResult(
                *(auc, auc - 0.05, auc + 0.05, 16, 20, 100, 50, 3, 12, 1.0),
                threshold=0.5,
                true_positives=14 - seed,
                true_negatives=16 + seed,
                leakage=0.8 + 0.1 * seed,
                leakage_within=0.7,
                sources=sources,
            )
            done.append((job, result))
    return done


def test_from_end_to_end(hospital_values: dict[str, Any], hospitals: Path, tmp_path: Path, run: Any) -> None:
    output = tmp_path / "out"
    report, _ = run(hospital_values, output, hospitals)
    assert len(report.done) == 8
    runs = _rows(output / "runs.csv")
    for run in runs:
        assert (run["test_positives"], run["test_negatives"]) == ("16", "32")  # 16 of them assumed
        for rate in ("sensitivity", "specificity", "accuracy"):
            assert 0 <= float(run[f"{rate}_low"]) <= float(run[rate]) <= float(run[f"{rate}_high"]) <= 1
        assert 0 <= float(run["leakage"]) <= 1
        assert run["train_images"] == str(2 * int(run["size"]) + (24 if run["arm"] == "border" else 0))
        assert run["train_positives"] == run["size"]
    rows = _rows(output / "sources.csv")
    assert [row["source"] for row in rows[:4]] == ["all", "east", "west", "archive"]
    assert [row["assumed"] for row in rows[:4]] == ["16", "0", "0", "16"]
    assert rows[3]["auc"] == ""
    table = (output / "table.md").read_text()
    assert "| setting | n | arm | sees | all test images | within east | within west | leakage |" in table
    assert "| masses | 4 | border | border alone | 0." in table
    assert "| masses | archive | 0 | 16 | 16 |" in table
    assert "| masses | 4 | west | border - alone |" in table
    assert (output / "figure.png").read_bytes().startswith(b"\x89PNG")
    figure = (output / "figure.svg").read_text()
    assert figure.count('<g id="axes_') == 3


def test_what_an_arm_sees_changes_its_result_and_its_fingerprint(
    hospital_values: dict[str, Any], hospitals: Path, tmp_path: Path, run: Any
) -> None:
    hospital_values["settings"][0]["sizes"] = [4]
    hospital_values["arms"] = [
        {"name": name, "parts": ["clinic"], "sees": name} for name in ("whole", "border", "thumbnail")
    ]
    hospital_values["comparisons"] = []
    report, _ = run(hospital_values, tmp_path / "out", hospitals, seeds=1)
    assert len({job.fingerprint for job, _ in report.done}) == 3
    assert len({result.threshold for _, result in report.done}) == 3
    assert [job.settings.get("sees") for job, _ in report.done] == [None, "border", "thumbnail"]


def test_restricting_a_part_changes_the_fingerprint_and_not_restricting_does_not(
    hospital_values: dict[str, Any], hospitals: Path, tmp_path: Path, run: Any
) -> None:
    hospital_values["settings"][0]["sizes"] = [4]
    hospital_values["arms"] = [{"name": "alone", "classes": "interest", "parts": ["clinic"]}]
    hospital_values["comparisons"] = []
    first, _ = run(hospital_values, tmp_path / "out", hospitals, seeds=1)
    hospital_values["parts"][0]["sources"] = ["east"]
    second, text = run(hospital_values, tmp_path / "out", hospitals, seeds=1)
    assert "1 runs, 0 done before" in text
    assert first.done[0][0].fingerprint != second.done[0][0].fingerprint


def test_results_that_are_older_than_the_measures(
    tiny: dict[str, Any], shapes: Path, tmp_path: Path, run: Any
) -> None:
    run(tiny, tmp_path / "out", shapes, seeds=1)
    for path in (tmp_path / "out" / "jobs").glob("*.json"):
        values = json.loads(path.read_text())
        assert values["result"]["threshold"] is not None
        for name in (
            *("threshold", "true_positives", "true_negatives"),
            "leakage",
            "leakage_within",
            "sources",
        ):
            del values["result"][name]
        path.write_text(json.dumps(values))
    _, text = run(tiny, tmp_path / "out", shapes, seeds=1)
    assert "2 runs, 2 done before" in text
    runs = _rows(tmp_path / "out" / "runs.csv")
    assert {(run["threshold"], run["sensitivity"], run["accuracy_high"], run["leakage"]) for run in runs} == {
        ("",) * 4
    }
    assert not (tmp_path / "out" / "sources.csv").exists()
    assert "Leakage" not in (tmp_path / "out" / "table.md").read_text()


def test_a_result_is_the_same_after_json(made_up: Done) -> None:
    result = made_up[0][1]
    again = JobResult(**json.loads(json.dumps(result.__dict__)))
    assert again == result
    assert isinstance(again.sources[0], SourceResult)


def test_sources_that_the_dataset_lacks_are_one_sentence(
    hospital_values: dict[str, Any], hospitals: Path, tmp_path: Path, run: Any
) -> None:
    values = hospital_values["datasets"]["hospitals"]
    hospital_values["datasets"]["other"] = {
        **values,
        "places": [{"name": "south", "reader": "csv", "path": "east.csv", "classes": ["mass"]}],
    }
    hospital_values["settings"][0]["data"] = "other"
    hospital_values["parts"][0]["sources"] = ["east"]
    with pytest.raises(
        LabelAssembleError, match=r"part 'clinic' takes images of east, but the sources of .* south"
    ):
        run(hospital_values, tmp_path / "out", hospitals)


def test_rates_of_a_run_with_wilsons_intervals() -> None:
    cells = run_rates(10, 30, 9, 15)
    assert cells == pytest.approx([0.9, *wilson(9, 10), 0.5, *wilson(15, 30), 0.6, *wilson(24, 40)])  # type: ignore[misc]
    assert run_rates(10, 30, None, None) == [None] * 9
    assert run_rates(0, 30, 0, 15)[:3] == [None] * 3


def test_means_over_seeds_by_place(made_up: Done) -> None:
    rows = place_rows(made_up)
    assert [(row.arm, row.place) for row in rows] == [
        (arm, place) for arm in ("alone", "alone-border") for place in ("all", "both", "one")
    ]
    everywhere, both, one = rows[:3]
    assert everywhere.auc == mean_interval([0.9, 0.88], within=(0, 1))
    assert (everywhere.low, everywhere.high) == pytest.approx((0.84, 0.94))
    assert (everywhere.positives, everywhere.negatives, everywhere.assumed) == (16, 20, 5)
    assert both.auc == mean_interval([0.9 - 0.1, 0.88 - 0.1], within=(0, 1))
    assert both.sensitivity is not None
    assert both.sensitivity.mean.mean == pytest.approx(0.75)
    assert (both.sensitivity.low, both.sensitivity.high) == wilson(7.5, 10)
    assert both.accuracy is not None
    assert both.accuracy.mean.mean == pytest.approx(24 / 30)
    assert (one.auc, one.specificity) == (None, None)
    assert one.sensitivity is not None
    assert one.sensitivity.mean.mean == 1.0


def test_the_tests_within_a_source_are_of_its_aucs(experiment: Experiment, made_up: Done) -> None:
    found = within_differences(made_up, experiment.comparisons)
    assert [(place, row.first, row.second, row.seeds) for place, row in found] == [
        ("both", "alone", "alone-border", 2)
    ]
    assert found[0].row.difference.value == pytest.approx(0.2)


def test_leakage_over_seeds(made_up: Done) -> None:
    alone, _ = leakage_rows(made_up)
    assert alone.auc == mean_interval([0.8, 0.9], within=(0, 1))
    assert alone.within == mean_interval([0.7, 0.7], within=(0, 1))


def test_tables_and_csv(experiment: Experiment, made_up: Done, tmp_path: Path) -> None:
    images, aucs, operating = sources_blocks(experiment, place_rows(made_up), leakage_rows(made_up))
    assert list(images.rows) == [
        ("collections", "all together", "16", "20", "5"),
        ("collections", "both", "10", "20", "5"),
        ("collections", "one", "6", "0", "0"),
    ]
    assert aucs.header[4:] == ("all test images", "within both", "leakage", "leakage, same label")
    assert aucs.rows[1][3:5] == ["border alone", "0.690 (0.563 to 0.817) [0.640 to 0.740]"]
    assert [row[4] for row in operating.rows] == ["all", "both"] * 2  # "one" has no negatives
    low, high = wilson(7.5, 10) or (0, 0)
    assert operating.rows[1][5] == f"0.750 (0.115 to 1.000) [{low:.3f} to {high:.3f}]"
    rows = list(csv.DictReader(StringIO(places_csv(place_rows(made_up)))))
    assert rows[1]["sensitivity"] == "0.75"
    assert rows[1]["seeds"] == "2"
    assert rows[2]["auc"] == rows[2]["specificity_test_high"] == ""
    files = write_outcome(
        experiment, made_up, tmp_path, settings=experiment.settings, absent=["the other one"]
    )
    assert {"sources.csv", "places.csv", "figure.svg"} <= {path.name for path in files}
    lines = (tmp_path / "table.md").read_text().splitlines()
    assert lines.index("Not run:") > lines.index("Differences of the AUC within a source.")
    assert sources_blocks(experiment, [], []) == []


def test_the_figure_has_a_panel_a_place_and_a_line_an_arm(experiment: Experiment, made_up: Done) -> None:
    text = sources_figure(experiment, place_rows(made_up), experiment.settings, "svg").decode()
    assert text.count('<g id="axes_') == 2  # all test images, and the source with both
    for words in ("within both", "10 positive, 20 negative", "alone, sees the border"):
        assert words in text


def test_the_publishers_datasets_where_somebody_has_them(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    covidx, nih = tmp_path / "COVIDx-CXR2", tmp_path / "ChestX-ray14"
    for folder in (covidx / "train", covidx / "test", nih / "images"):
        folder.mkdir(parents=True)

    def draw(path: Path) -> None:
        Image.fromarray(rng.integers(0, 255, (16, 16), dtype=np.uint8)).save(path)

    for split, count in (("train", 60), ("test", 24)):
        lines = []
        for index in range(count):
            lines.append(f"{split}{index} {index}.png {('positive', 'negative')[index % 2]} cohen")
            draw(covidx / split / f"{index}.png")
        (covidx / f"{split}.txt").write_text("\n".join(lines) + "\n")
    entries = ["Image Index,Finding Labels,Follow-up #,Patient ID"]
    for index in range(40):
        entries.append(f"{index}.png,{('No Finding', 'Edema|Mass')[index % 2]},0,{index}")
        draw(nih / "images" / f"{index}.png")
    (nih / "Data_Entry_2017.csv").write_text("\n".join(entries) + "\n")
    (nih / "train_val_list.txt").write_text("".join(f"{index}.png\n" for index in range(24)))
    (nih / "test_list.txt").write_text("".join(f"{index}.png\n" for index in range(24, 40)))

    values = load_experiment(
        "covid-few-labels", ["train.epochs=1", "train.steps_per_epoch=1", "views.size=16"]
    )
    experiment = values.model_copy(
        update={
            "settings": tuple(s.model_copy(update={"sizes": (3,)}) for s in values.settings),
            "arms": values.arms[:2],
            "comparisons": values.comparisons[:1],
        }
    )
    report = run_experiment(experiment, tmp_path / "out", data=tmp_path, console=Console(quiet=True), seeds=1)
    assert [sentence.split(" is")[0] for sentence in report.absent] == ["dataset 'collections'"]
    (alone, first), (assembled, second) = report.done
    assert (alone.classes, len(assembled.classes)) == (("COVID-19",), 15)
    assert (first.train_images, first.train_positives, first.positives, first.negatives) == (6, 3, 12, 28)
    assert [(row.source, row.assumed) for row in second.sources] == [("covidx", 0), ("nih", 16)]
    assert second.leakage is not None
    assert second.unknown == second.train_images - 6
