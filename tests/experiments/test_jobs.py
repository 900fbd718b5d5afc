"""Jobs: what each trains on, and what is measured of a trained network, source by source."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from labelassemble.data import Table, assemble
from labelassemble.data.states import UNKNOWN, LabelOrigin
from labelassemble.errors import LabelAssembleError
from labelassemble.evaluation import delong, wilson
from labelassemble.experiments import measures
from labelassemble.experiments.dataset import Dataset, open_dataset
from labelassemble.experiments.experiment import Experiment, make_experiment
from labelassemble.experiments.jobs import Task, jobs_of
from labelassemble.experiments.measures import Row


class _Brightness(nn.Module):
    """Calls an image positive by its mean; the features are the mean and the upper left pixel."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.backbone, self.head = nn.Identity(), nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.backbone(torch.stack([images.mean((1, 2, 3)), images[:, 0, 0, 0]], dim=1))
        return features[:, :1] * self.weight


VALUES = """"""


def _experiment() -> Experiment:
    return make_experiment(
        {
            "title": "t",
            "paper": "p",
            "datasets": {
                "set": {"sources": [{"name": "s", "reader": "csv", "path": "s.csv"}], "download": "draw it"}
            },
            "settings": [{"name": "masses", "data": "set", "interest": "mass", "sizes": ["all"]}],
            "parts": [{"name": "images", "images": "all"}],
            "arms": [{"name": "alone", "classes": "interest"}],
            "views": {"size": 16, "mean": [0.0], "std": [1.0]},
            "model": {"backbone": "cnn_small"},
        }
    )


def _dataset(folder: Path) -> Dataset:
    """10 training, 40 validation and 80 test images of two sources and an archive, brighter where positive."""
    rng = np.random.default_rng(0)
    labels = (np.arange(130) % 2).astype(np.int8)
    sources = np.array(["east", "west", "archive"])[np.arange(130) // 2 % 3]
    labels[sources == "archive"] = 0
    images = rng.integers(0, 100, (130, 1, 1)) + 60 * labels[:, None, None] + np.zeros((130, 16, 16))
    images[:, 0, 0] = np.where(sources == "west", 200, 0)
    np.savez(folder / "s.npz", images=images.astype(np.uint8))
    states = np.stack([np.full(130, UNKNOWN), labels], axis=1).astype(np.int8)
    origins = np.zeros(states.shape, np.uint8)
    origins[sources == "archive", 1] = LabelOrigin.ASSUME
    numbers = np.arange(130).astype("U")
    table = Table(
        ("stripe", "mass"),
        paths=np.array([f"{folder / 's.npz'}::images::{row}" for row in range(130)]),
        names=numbers,
        sources=sources,
        groups=numbers,
        splits=np.repeat(["val", "test", "train"], [40, 80, 10]),
        labels=states,
        origins=origins,
    )
    return Dataset(table, folder / "s.npz", "f")


Measure = Callable[[Dataset], Row]


@pytest.fixture
def measure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Measure:
    """Return what is measured of `_Brightness` on a dataset."""

    class Trained:
        net = _Brightness().eval()

    def measured(dataset: Dataset) -> Row:
        monkeypatch.setattr(measures, "load_trained", lambda _: Trained)
        experiment = _experiment()
        (job,) = jobs_of(experiment, experiment.settings[0], dataset, [0])
        task = Task.of(experiment, job, dataset, tmp_path / "run")
        return measures.measures(task, task.config())

    return measured


def _truth_and_scores(dataset: Dataset) -> tuple[np.ndarray, np.ndarray]:
    with np.load(dataset.file) as archive:
        pixels = archive["images"][dataset.rows("test")].astype(np.float64)
    scores = 1 / (1 + np.exp(-pixels.mean(axis=(1, 2)) / 255))
    return dataset.table.labels[dataset.rows("test"), 1], scores


def test_the_operating_point(tmp_path: Path, measure: Measure) -> None:
    dataset = _dataset(tmp_path)
    row = measure(dataset)
    truth, scores = _truth_and_scores(dataset)
    right = (
        int((scores[truth == 1] >= row["threshold"]).sum()),
        int((scores[truth == 0] < row["threshold"]).sum()),
    )
    trials = int((truth == 1).sum()), int((truth == 0).sum())
    assert (row["test_positives"], row["test_negatives"]) == trials
    for name, hits, of in zip(("sensitivity", "specificity"), right, trials, strict=True):
        assert row[name] == hits / of
        assert (row[f"{name}_low"], row[f"{name}_high"]) == wilson(hits, of)
    assert row["accuracy"] == sum(right) / sum(trials)
    assert sum(right) > 50


def test_the_threshold_is_not_chosen_by_assumed_or_test_labels(tmp_path: Path, measure: Measure) -> None:
    dataset = _dataset(tmp_path)
    threshold = measure(dataset)["threshold"]
    turned = dataset.table.labels.copy()
    elsewhere = (dataset.table.splits == "test") | (dataset.table.sources == "archive")
    turned[elsewhere, 1] = 1 - turned[elsewhere, 1]
    assert measure(replace(dataset, table=replace(dataset.table, labels=turned)))["threshold"] == threshold
    unknown, origins = dataset.table.labels.copy(), dataset.table.origins.copy()
    unknown[dataset.table.splits == "val"] = UNKNOWN
    origins[dataset.table.splits == "val"] = LabelOrigin.GIVEN
    row = measure(replace(dataset, table=replace(dataset.table, labels=unknown, origins=origins)))
    assert row["threshold"] is None
    assert "accuracy" not in row


def test_every_source_by_itself(tmp_path: Path, measure: Measure) -> None:
    dataset = _dataset(tmp_path)
    row = measure(dataset)
    truth, scores = _truth_and_scores(dataset)
    sources = dataset.table.sources[dataset.rows("test")]
    for source in ("east", "west", "archive"):
        mine = sources == source
        positive, negative = scores[mine & (truth == 1)], scores[mine & (truth == 0)]
        assert (row[f"test_positives@{source}"], row[f"test_negatives@{source}"]) == (
            len(positive),
            len(negative),
        )
        area = delong(positive, negative)
        assert row.get(f"auc@{source}") == (None if area is None else pytest.approx(area.auroc))
        if area is not None:
            found = row[f"auc_low@{source}"], row[f"auc_high@{source}"]
            assert found == pytest.approx(area.interval)
        assert row[f"assumed@{source}"] == (len(negative) if source == "archive" else 0)


def test_leakage_is_of_the_features(tmp_path: Path, measure: Measure) -> None:
    dataset = _dataset(tmp_path)
    row = measure(dataset)
    assert row["leakage"] > 0.7  # west is told by a pixel, east from the archive by brightness, and badly
    assert row["leakage_within"] is not None
    with np.load(dataset.file) as archive:
        images = archive["images"]
    images[:, 0, 0] = 0
    (tmp_path / "blind").mkdir()
    np.savez(tmp_path / "blind" / "s.npz", images=images)
    paths = np.char.replace(
        dataset.table.paths.tolist(), str(dataset.file), str(tmp_path / "blind" / "s.npz")
    )
    blind = measure(Dataset(replace(dataset.table, paths=paths), tmp_path / "blind" / "s.npz", "f"))
    assert blind["leakage"] < row["leakage"] - 0.1


def test_one_source_has_no_leakage(tmp_path: Path, measure: Measure) -> None:
    dataset = _dataset(tmp_path)
    row = measure(replace(dataset, table=replace(dataset.table, sources=np.full(130, "east"))))
    assert row["threshold"] is not None
    assert not [name for name in row if "@" in name or "leakage" in name]


def _tasks(values: dict[str, Any], data: Path) -> dict[str, Task]:
    """Return the task of each arm, of the first setting, size and seed."""
    experiment = make_experiment(values)
    setting = experiment.settings[0]
    dataset = open_dataset(
        setting.data, experiment.datasets[setting.data], data=data, size=16, channels=1, cache=data / "cache"
    )
    found: dict[str, Task] = {}
    for job in jobs_of(experiment, setting, dataset, [0]):
        found.setdefault(job.arm.name, Task.of(experiment, job, dataset, data / "work" / job.name))
    return found


def test_a_job_is_a_configuration_that_can_be_trained_by_hand(
    hospital_values: dict[str, Any], hospitals: Path
) -> None:
    hospital_values["arms"].append({"name": "rule", "sources": {"exclusive": "all"}, "preset": "recommended"})
    tasks = _tasks(hospital_values, hospitals)
    config = tasks["border"].config()
    assert [source.name for source in config.sources] == ["clinic", "old", "held-out"]
    assert (config.preset, config.classes, config.interest) == ("paper", ("mass", "stripe"), ("mass",))
    tables = {source.name: source.read() for source in config.sources}
    clinic, old, held_out = tables.values()
    assert clinic.labels[:, clinic.column("mass")].tolist() == [1] * 4 + [0] * 4
    assert (clinic.labels[:, clinic.column("stripe")] == UNKNOWN).all()
    assert (
        old.labels[:, old.column("mass")] == UNKNOWN
    ).all()  # assumed to have none, which is not trained on
    assert all("-border.npz::" in path for path in clinic.paths)
    val, test = held_out.splits == "val", held_out.splits == "test"
    archive = held_out.sources == "held-out/archive"
    assert (held_out.labels[val & archive] == UNKNOWN).all()  # nothing is chosen by what nobody gave
    assert (held_out.labels[test & archive, held_out.column("mass")] == 0).all()
    alone = tasks["alone"].config()
    assert ([source.name for source in alone.sources], alone.classes) == (["clinic", "held-out"], ("mass",))
    rule = tasks["rule"].config()
    assert [source.exclusive for source in rule.sources] == ["all", "all", None]
    assert rule.loss.strong_known


def test_a_batch_is_no_larger_than_what_is_trained_on(tiny: dict[str, Any], shapes: Path) -> None:
    tiny["train"]["batch_size"] = 64
    assert _tasks(tiny, shapes)["binary"].config().train.batch_size == 12


def test_epochs_are_chosen_by_what_is_measured(tiny: dict[str, Any], shapes: Path) -> None:
    table = _tasks(tiny, shapes)["multi-class"].config().sources[-1].read()
    labels = table.labels[table.splits == "val"]
    assert (labels != UNKNOWN).all(axis=0).tolist() == [True, False, False]


def test_a_class_that_no_source_labels(tiny: dict[str, Any], shapes: Path, run: Any, tmp_path: Path) -> None:
    tiny["settings"] = [{"name": "shapes", "data": "shapes", "sizes": ["all"]}]
    tiny["parts"] = [{"name": "a", "images": 0.5, "labels": ["square"]}, {"name": "b", "labels": ["stripe"]}]
    tiny["arms"] = [{"name": "heads", "model": {"head": "source_heads"}}]
    with pytest.raises(LabelAssembleError, match="cannot answer 'dot': no source labels it for training"):
        run(tiny | {"comparisons": []}, tmp_path / "out", shapes)


def test_archives_as_plain_negatives_have_one_output(tiny: dict[str, Any], shapes: Path) -> None:
    tiny["parts"] = [
        {"name": "clinic", "images": 6, "positives": 2, "labels": "interest"},
        {"name": "archive", "images": 30, "labels": "others"},
    ]
    tiny["arms"] = [{"name": "plain", "classes": "interest", "sources": {"exclusive": "all"}}]
    config = _tasks(tiny | {"comparisons": []}, shapes)["plain"].config()
    table = assemble(config.sources, classes=config.classes).table
    train = table.select((table.sources == "archive") & (table.splits == "train"))
    assert table.classes == ("square",)
    # The archive does not say which of its images is a square: what it calls a stripe or a dot is none.
    assert set(train.labels[:, 0].tolist()) == {0, UNKNOWN}
    assert train.assumed[train.labels == 0].all()


def test_cosine_of_features_is_that_of_class_means_from_the_mean_of_all() -> None:
    features = np.array([[2, 0], [0, 2], [4, 0], [-6, -2]], np.float32)
    labels = np.array([[1, 0], [1, 0], [0, 1], [0, UNKNOWN]], np.int8)
    # The mean of all is 0; the first class's mean is (1, 1), the second's (4, 0).
    assert measures._cosine_of_features(features, labels) == pytest.approx(0.5**0.5)
    assert measures._cosine_of_features(features + 5, labels) == pytest.approx(0.5**0.5)
    assert measures._cosine_of_features(features, labels * np.array([1, 0], np.int8)) is None
