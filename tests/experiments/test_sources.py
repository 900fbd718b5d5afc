"""An experiment over several sources: within each of them, at the threshold, and with no more than a border."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from rich.console import Console

from labelassemble.errors import LabelAssembleError
from labelassemble.evaluation import wilson
from labelassemble.experiments.experiment import Experiment, load_experiment
from labelassemble.experiments.runner import run_experiment
from labelassemble.experiments.summary import mean_interval, runs_frame
from labelassemble.experiments.tables import write_summary


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def experiment() -> Experiment:
    return load_experiment("covid-few-labels")


@pytest.fixture(scope="module")
def made_up() -> pd.DataFrame:
    """Two seeds of two arms at one size, with two sources of which one has no negatives."""
    rows = []
    for seed in (0, 1):
        for index, name in enumerate(("alone", "alone-border")):
            auc = 0.9 - 0.2 * index - 0.02 * seed
            right = {"sensitivity": (14 - seed) / 16, "specificity": (16 + seed) / 20, "accuracy": 30 / 36}
            both = {"sensitivity": (8 - seed) / 10, "specificity": (16 + seed) / 20, "accuracy": 24 / 30}
            both |= {"auc": auc - 0.1, "auc_low": auc - 0.2, "auc_high": auc}
            both |= {"test_positives": 10, "test_negatives": 20, "assumed": 5}
            one = {
                "sensitivity": 1.0,
                "accuracy": 1.0,
                "test_positives": 6,
                "test_negatives": 0,
                "assumed": 0,
            }
            rows.append(
                {"setting": "collections", "interest": "COVID19", "arm": name, "size": "50", "seed": seed}
                | {"auc": auc, "auc_low": auc - 0.05, "auc_high": auc + 0.05}
                | {
                    "test_positives": 16,
                    "test_negatives": 20,
                    "leakage": 0.8 + 0.1 * seed,
                    "leakage_within": 0.7,
                }
                | right
                | {f"{key}@both": value for key, value in both.items()}
                | {f"{key}@one": value for key, value in one.items()}
            )
    return runs_frame(rows)


@pytest.mark.pages
def test_from_end_to_end(hospital_values: dict[str, Any], hospitals: Path, tmp_path: Path, run: Any) -> None:
    output = tmp_path / "out"
    report, _ = run(hospital_values, output, hospitals)
    assert len(report.runs) == 8
    runs = _rows(output / "runs.csv")
    for run in runs:
        assert (run["test_positives"], run["test_negatives"]) == ("16", "32")  # 16 of them assumed
        for rate in ("sensitivity", "specificity", "accuracy"):
            assert 0 <= float(run[f"{rate}_low"]) <= float(run[rate]) <= float(run[f"{rate}_high"]) <= 1
        assert 0 <= float(run["leakage"]) <= 1
        assert run["train_images"] == str(2 * int(run["size"]) + (24 if run["arm"] == "border" else 0))
        assert run["train_positives"] == run["size"]
    columns = [name for name in runs[0] if name.startswith("assumed@")]
    assert columns == ["assumed@east", "assumed@west", "assumed@archive"]
    assert [runs[0][name] for name in columns] == ["0", "0", "16"]
    assert "auc@archive" not in runs[0] or runs[0]["auc@archive"] == ""
    table = (output / "table.md").read_text()
    assert "| masses | 4 | border | border | all | 16 | 32 |  | 0." in table
    assert "| masses | 4 | border | border | archive | 0 | 16 | 16 |  |" in table
    assert "| masses | 4 |  | west | border - alone |" in table
    assert (output / "figure.png").read_bytes().startswith(b"\x89PNG")
    figure = (output / "figure.svg").read_text()
    assert figure.count('<g id="axes_') == 3


def test_what_becomes_of_images_changes_its_result_and_its_fingerprint(
    hospital_values: dict[str, Any], hospitals: Path, tmp_path: Path, run: Any
) -> None:
    hospital_values["settings"][0]["sizes"] = [4]
    hospital_values["arms"] = [
        {"name": str(name), "parts": ["clinic"], "transform": name} for name in (None, "border", "thumbnail")
    ]
    hospital_values["comparisons"] = []
    report, _ = run(hospital_values, tmp_path / "out", hospitals, seeds=1)
    assert report.runs["fingerprint"].nunique() == 3
    assert report.runs["threshold"].nunique() == 3


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
    assert first.runs["fingerprint"].tolist() != second.runs["fingerprint"].tolist()


def test_sources_that_the_dataset_lacks_are_one_sentence(
    hospital_values: dict[str, Any], hospitals: Path, tmp_path: Path, run: Any
) -> None:
    values = hospital_values["datasets"]["hospitals"]
    hospital_values["datasets"]["other"] = {
        **values,
        "sources": [{"name": "south", "reader": "csv", "path": "east.csv", "classes": ["mass"]}],
    }
    hospital_values["settings"][0]["data"] = "other"
    hospital_values["parts"][0]["sources"] = ["east"]
    with pytest.raises(
        LabelAssembleError, match=r"part 'clinic' takes images of east, but the sources of .* south"
    ):
        run(hospital_values, tmp_path / "out", hospitals)


@pytest.mark.pages
def test_tables(experiment: Experiment, made_up: pd.DataFrame, tmp_path: Path) -> None:
    files = write_summary(experiment, made_up, tmp_path, absent=["the other one"])
    assert {"table.md", "means.csv", "differences.csv", "figure.svg", "figure.png"} == {p.name for p in files}
    text = (tmp_path / "table.md").read_text()
    lines = text.splitlines()
    mean = mean_interval([0.7, 0.68], within=(0, 1))
    all_test = f"{mean.mean:.3f} ({mean.low:.3f} to {mean.high:.3f}) [0.640 to 0.740]"
    assert f"| collections | 50 | alone-border | border | all | 16 | 20 |  | {all_test} |" in text
    assert text.count("| 0.850 (0.215 to 1.000) | 0.700 (0.700 to 0.700) |") == 2  # leakage
    low, high = wilson(7.5, 10) or (0, 0)
    within = f"| 0.750 (0.115 to 1.000) [{low:.3f} to {high:.3f}] |"
    (both,) = (
        line for line in lines if line.startswith("| collections | 50 | alone | whole | both | 10 | 20 | 5 |")
    )
    assert within in both
    (one,) = (
        line for line in lines if line.startswith("| collections | 50 | alone | whole | one | 6 | 0 | 0 |")
    )
    assert one.startswith(
        "| collections | 50 | alone | whole | one | 6 | 0 | 0 |  |"
    )  # which has no negatives
    assert lines.index("Not run:") > lines.index(one)
    differences = _rows(tmp_path / "differences.csv")
    found = [(r["of"], r["first"], r["second"], r["seeds"]) for r in differences]
    assert found == [("", "alone", "alone-border", "2"), ("both", "alone", "alone-border", "2")]
    assert [float(row["difference"]) for row in differences] == pytest.approx([0.2, 0.2])


@pytest.mark.pages
def test_the_figure_has_a_panel_a_source_and_a_line_an_arm(
    experiment: Experiment, made_up: pd.DataFrame, tmp_path: Path
) -> None:
    write_summary(experiment, made_up, tmp_path)
    text = (tmp_path / "figure.svg").read_text()
    assert text.count('<g id="axes_') == 2  # all test images, and the source with both
    for words in ("within both", "10 positive, 20 negative", "alone, border only"):
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
        "covid-few-labels",
        ["train.epochs=1", "train.steps_per_epoch=1", "views.size=16", "model.backbone=cnn_small"],
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
    alone, assembled = report.runs.to_dict("records")
    assert [
        alone[name] for name in ("train_images", "train_positives", "test_positives", "test_negatives")
    ] == [*(6, 3, 12, 28)]
    assert (assembled["assumed@covidx"], assembled["assumed@nih"]) == (0, 16)
    assert pd.notna(assembled["leakage"])
    assert assembled["unknown"] == assembled["train_images"] - 6
