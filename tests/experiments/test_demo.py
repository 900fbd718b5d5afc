"""The demo's sources and configurations, what it computes from scores, and its shared warm-up; `make demo` runs all."""

import csv
import inspect
import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from rich.console import Console
from scipy import stats
from sklearn.datasets import load_digits

from labelassemble.cli import train
from labelassemble.config import Config, load_config
from labelassemble.data import assemble
from labelassemble.errors import LabelAssembleError
from labelassemble.evaluation.proportion import Interval
from labelassemble.experiments import demo, demo_arms, demo_output
from labelassemble.experiments.demo import Trainings
from labelassemble.experiments.demo_arms import ARMS, Score, arm_config, summarize, write_summary
from labelassemble.experiments.demo_output import verdict
from labelassemble.experiments.digits import CLINIC_IMAGES, NAMES, write_images, write_tables
from labelassemble.run import train_run
from labelassemble.training.checkpoint import load_checkpoint

SOURCES = ("clinic", "archive-a", "archive-b", "held-out")


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A demo's folder before the first training, with seed 0."""
    folder = tmp_path_factory.mktemp("demo")
    write_images(folder / "images")
    demo.prepare_seed(folder, 0, 15)
    return folder


@pytest.fixture(scope="module")
def tables(output: Path) -> Path:
    return output / "seed-0" / "data"


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_every_digit_is_in_one_source_and_none_is_left_out(tables: Path) -> None:
    paths = [row["path"] for source in SOURCES for row in _rows(tables / f"{source}.csv")]
    assert len(paths) == len(set(paths)) == 1797
    counts = {source: len(_rows(tables / f"{source}.csv")) for source in SOURCES}
    assert counts == {"clinic": 75, "archive-a": 460, "archive-b": 460, "held-out": 802}


def test_each_source_labels_its_own_digits_rightly(tables: Path) -> None:
    target = load_digits().target
    for source, labelled in (
        ("clinic", {"eight"}),
        ("archive-a", {"zero", "one", "two", "three", "four"}),
        ("archive-b", {"five", "six", "seven", "nine"}),
        ("held-out", set(NAMES)),
    ):
        rows = _rows(tables / f"{source}.csv")
        assert set(rows[0]) - {"path", "split"} == labelled
        for row in rows:
            name = NAMES[target[int(Path(row["path"]).stem)]]
            assert {key for key in labelled if row[key] == "1"} == {name} & labelled
    splits = {source: {row["split"] for row in _rows(tables / f"{source}.csv")} for source in SOURCES}
    assert splits["held-out"] == {"test"}
    assert all(splits[source] == {"train", "val"} for source in SOURCES[:3])


def test_images_are_the_digits(output: Path) -> None:
    pixels = np.asarray(Image.open(output / "images" / "0003.png"))
    assert pixels.shape == (8, 8)
    assert np.abs(pixels / 255 * 16 - load_digits().images[3]).max() < 0.05


def test_another_seed_chooses_other_images(tables: Path, tmp_path: Path) -> None:
    write_tables(tmp_path, seed=1)
    assert _rows(tmp_path / "clinic.csv") != _rows(tables / "clinic.csv")


def test_a_third_of_the_clinics_images_are_eights(tables: Path, tmp_path: Path) -> None:
    write_tables(tmp_path, seed=0, clinic_images=60)
    for folder, images in ((tables, 15), (tmp_path, 60)):
        train = [row for row in _rows(folder / "clinic.csv") if row["split"] == "train"]
        assert len(train) == images
        assert sum(row["eight"] == "1" for row in train) == images // 3
    with pytest.raises(LabelAssembleError, match="must be 3 to 300, got 2"):
        write_tables(tmp_path, seed=0, clinic_images=2)


def test_each_training_has_one_thing_more_than_the_one_before(output: Path) -> None:
    file = output / "seed-0" / "demo.yaml"
    alone, strong, archives, rule, recommended = (arm_config(file, arm) for arm in ARMS)
    assert recommended == load_config(file)
    assert recommended.preset == "recommended"
    assert (
        len({config.train.model_dump_json() for config in (alone, strong, archives, rule, recommended)}) == 1
    )
    assert alone.views == recommended.views
    assert alone.model == recommended.model

    def loss(config: Config) -> tuple[bool, bool, bool]:
        found = config.loss
        assert found.pseudo_weight == found.consistency_weight
        return found.strong_known, found.exclusive, found.pseudo_weight == 1.0

    assert [loss(config) for config in (alone, strong, archives, rule, recommended)] == [
        (False, False, False),
        (True, False, False),
        (True, False, False),
        (True, True, False),
        (True, True, True),
    ]
    assert alone.sources == strong.sources
    assert [source.name for source in alone.sources] == ["clinic", "held-out"]
    assert archives.sources != rule.sources == recommended.sources
    assert archives.sources == tuple(source.model_copy(update={"exclusive": None}) for source in rule.sources)


def test_all_are_tested_on_the_same_images_and_the_rule_makes_negatives(output: Path) -> None:
    tested, negatives = set(), []
    for arm in ARMS:
        config = arm_config(output / "seed-0" / "demo.yaml", arm)
        table = assemble(config.sources, classes=config.classes, split=config.split).table
        held_out = table.subset_by_split("test")
        assert set(held_out.sources.tolist()) == {"held-out"}
        tested.add((tuple(held_out.paths.tolist()), tuple(held_out.labels[:, 0].tolist())))
        train = table.subset_by_split("train")
        negatives.append(int((train.labels[:, 0] == 0).sum()))
        assert int((train.labels[:, 0] == 1).sum()) == 5
    assert len(tested) == 1
    assert len(held_out) == 802
    target = load_digits().target
    derived = 0
    for source, names in (("archive-a", NAMES[:5]), ("archive-b", ("five", "six", "seven", "nine"))):
        rows = [r for r in _rows(output / "seed-0" / "data" / f"{source}.csv") if r["split"] == "train"]
        derived += sum(NAMES[target[int(Path(row["path"]).stem)]] in names for row in rows)
    assert negatives == [10, 10, 10, 10 + derived, 10 + derived]


PREPARE = demo.prepare_seed


def _shorten(output: Path, seed: int, clinic_images: int) -> None:
    """Prepare a seed with two epochs after one of warm-up, all short, and an eighth of the held-out images."""
    PREPARE(output, seed, clinic_images)
    file = demo.seed_folder(output, seed) / "demo.yaml"
    values = yaml.safe_load(file.read_text())
    values["loss"]["warmup_epochs"] = 1
    values["train"] |= {"epochs": 3, "steps_per_epoch": 4}
    file.write_text(yaml.safe_dump(values))
    held_out = file.parent / "data" / "held-out.csv"
    header, *rows = held_out.read_text().splitlines(keepends=True)
    held_out.write_text(header + "".join(rows[::8]))


def test_a_shared_warm_up_changes_nothing(tmp_path: Path) -> None:
    short = tmp_path / "demo"
    _shorten(short, 0, 15)
    write_images(short / "images")
    scores = Trainings(short, 0, ARMS[-2:])()
    assert [score.arm for score in scores] == list(ARMS[-2:])
    for arm, score in zip(ARMS[-2:], scores, strict=True):
        shared, unshared = short / "seed-0" / arm.name, tmp_path / arm.name
        config = arm_config(short / "seed-0" / "demo.yaml", arm)
        result = train_run(config, unshared, resume=False, console=Console(quiet=True))
        assert result.evaluation is not None
        assert result.evaluation.of("eight").auroc == score.auc  # type: ignore[union-attr]
        assert score.low < score.auc < score.high
        for name in ("last.pt", "best.pt"):
            ours, theirs = (load_checkpoint(run / "checkpoints" / name) for run in (shared, unshared))
            assert ours["description"] == theirs["description"]
            assert set(ours["model"]) == set(theirs["model"])
            assert all((value == theirs["model"][key]).all() for key, value in ours["model"].items())
        assert (shared / "config.yaml").read_text() == (unshared / "config.yaml").read_text()
        assert (shared / "predictions.csv").read_bytes() == (unshared / "predictions.csv").read_bytes()
        left_out = {"seconds", "images_per_second"}
        ours, theirs = (
            [
                {key: value for key, value in row.items() if key not in left_out}
                for row in _rows(run / "metrics.csv")
            ]
            for run in (shared, unshared)
        )
        assert ours == theirs
        assert len(ours) == 3
    different = [(short / "seed-0" / arm.name / "predictions.csv").read_bytes() for arm in ARMS[-2:]]
    assert different[0] != different[1]


@pytest.mark.pages
def test_the_whole_demo_in_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arms = (ARMS[0], *ARMS[-2:])
    for module in (demo, demo_arms, demo_output):
        monkeypatch.setattr(module, "ARMS", arms)
    monkeypatch.setattr(demo, "prepare_seed", _shorten)
    # In this process: test_workers.py runs trainings side by side.
    monkeypatch.setattr(demo, "side_by_side", lambda tasks, **_: (task() for task in tasks))
    text = io.StringIO()
    folder = tmp_path / "demo"
    scores = demo.run_demo(folder, seeds=range(3, 5), console=Console(file=text, width=100))
    assert [(score.seed, score.arm.name) for score in scores] == [
        (seed, arm.name) for seed in (3, 4) for arm in arms
    ]
    rows = _rows(folder / "summary.csv")
    assert list(rows[0]) == ["arm", "seed", "auc", "low", "high", "seconds"]
    assert [row["arm"] for row in rows] == [arm.name for arm in arms] * 2
    printed = text.getvalue()
    lines = printed.splitlines()
    assert lines[-1] == f"Report: {folder / 'seed-3' / 'recommended' / 'report.html'}"
    assert "6 of 6 trainings done, about 0 s left" in printed
    assert "mean ± sd over 2 seeds" in printed
    assert "benchmarks/paper/RESULTS.md" in printed
    assert "answers 101 held-out images with the same probabilities" in printed
    page = (folder / "seed-3" / "recommended" / "report.html").read_text(encoding="utf-8")
    assert page.index("eight: what each part brings, over 2 seeds") < page.index("This run beside the others")
    assert page.index("This run beside the others") < page.index('<section id="result">')
    for arm in arms:
        assert arm.title in page


def test_the_command_line_says_the_defaults_once_more() -> None:
    parameters = inspect.signature(train.demo).parameters
    assert parameters["seeds"].default == demo_output.SEEDS
    assert parameters["clinic_images"].default == CLINIC_IMAGES


def _scores(aucs: dict[str, list[float]]) -> list[Score]:
    return [
        Score(arm, seed, auc, auc - 0.02, auc + 0.01, 12.3)
        for arm in ARMS
        for seed, auc in enumerate(aucs[arm.name], start=3)
    ]


AUCS = {
    "clinic-alone": [0.90, 0.93, 0.92],
    "clinic-alone-strong": [0.94, 0.95, 0.95],
    "archives": [0.93, 0.955, 0.94],
    "rule": [0.97, 0.98, 0.975],
    "recommended": [0.98, 0.985, 0.985],
}


def test_gains_are_paired_over_seeds() -> None:
    found = summarize(_scores(AUCS))
    assert (found.class_name, found.seeds) == ("eight", 3)
    assert [row.name for row in found.rows] == [arm.title for arm in ARMS]
    assert [row.mean for row in found.rows] == pytest.approx([np.mean(values) for values in AUCS.values()])
    assert found.rows[0].deviation == pytest.approx(np.std([0.90, 0.93, 0.92], ddof=1))
    assert found.rows[0].over_first is found.rows[0].over_before is None
    over_before, over_first = found.rows[3].over_before, found.rows[3].over_first
    assert over_before is not None
    assert over_first is not None
    expected = stats.ttest_rel(AUCS["rule"], AUCS["archives"])
    assert over_before.p == pytest.approx(expected.pvalue)
    assert over_before.interval == pytest.approx(Interval(*expected.confidence_interval(0.95)))
    assert (over_before.won, over_first.won) == (3, 3)
    assert over_first.value == pytest.approx(np.mean(AUCS["rule"]) - np.mean(AUCS["clinic-alone"]))
    archives = found.rows[2].over_before
    assert archives is not None
    assert archives.won == 1


def test_what_helps_most_is_said_and_what_does_not_help() -> None:
    lines = verdict(summarize(_scores(AUCS)))
    assert lines[0].startswith("All of it over the clinic alone: +0.067 (+0.0")
    assert lines[0].endswith("better with 3 of 3 seeds. Most comes with “+ rule”: +0.033.")
    assert len(lines) == 4
    assert lines[1].startswith("“+ archives” makes it worse here: \N{MINUS SIGN}0.005 (")
    assert lines[1].endswith("better with 1 of 3 seeds.")
    assert "chance may explain the difference that “+ archives” makes: the interval includes 0" in lines[2]
    assert lines[3].endswith("benchmarks/paper/RESULTS.md")
    unsure = verdict(
        summarize(_scores(AUCS | {"rule": [0.95, 0.96, 0.93], "recommended": [0.95, 0.965, 0.93]}))
    )
    assert unsure[0].endswith("Most comes with “+ strong view”: +0.030.")
    assert (
        "chance may explain the difference that “+ archives”, “+ rule”, “+ pseudo-labels” makes" in unsure[2]
    )


def test_the_summary_has_one_row_per_training(tmp_path: Path) -> None:
    scores = [replace(score, auc=0.9, low=0.85, high=0.94) for score in _scores(AUCS) if score.seed == 3]
    write_summary(tmp_path / "summary.csv", scores)
    rows = _rows(tmp_path / "summary.csv")
    assert [row["arm"] for row in rows] == [arm.name for arm in ARMS]
    assert rows[0] == {
        "arm": "clinic-alone",
        "seed": "3",
        "auc": "0.900000",
        "low": "0.850000",
        "high": "0.940000",
        "seconds": "12.3",
    }
