"""The demo's sources and configurations; `make demo` runs the whole."""

import csv
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from sklearn.datasets import load_digits

from labelassemble.config import load_config
from labelassemble.data import assemble
from labelassemble.errors import LabelAssembleError
from labelassemble.experiments.demo import METHODS, Score, method_config, write_scores
from labelassemble.experiments.digits import NAMES, write_digits

SOURCES = ("clinic", "archive-a", "archive-b", "held-out")


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("digits")
    write_digits(folder, seed=0)
    return folder


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_every_digit_goes_to_one_source_and_all_are_dealt(digits: Path) -> None:
    dealt = [row["path"] for source in SOURCES for row in _rows(digits / f"{source}.csv")]
    assert len(dealt) == len(set(dealt)) == 1797
    counts = {source: len(_rows(digits / f"{source}.csv")) for source in SOURCES}
    assert counts == {"clinic": 120, "archive-a": 460, "archive-b": 460, "held-out": 757}


def test_each_source_labels_its_own_digits_rightly(digits: Path) -> None:
    target = load_digits().target
    for source, labelled in (
        ("clinic", {"eight"}),
        ("archive-a", {"zero", "one", "two", "three", "four"}),
        ("archive-b", {"five", "six", "seven", "nine"}),
        ("held-out", set(NAMES)),
    ):
        rows = _rows(digits / f"{source}.csv")
        assert set(rows[0]) - {"path", "split"} == labelled
        for row in rows:
            name = NAMES[target[int(Path(row["path"]).stem)]]
            assert {key for key in labelled if row[key] == "1"} == {name} & labelled
    splits = {source: {row["split"] for row in _rows(digits / f"{source}.csv")} for source in SOURCES}
    assert splits["held-out"] == {"test"}
    assert all(splits[source] == {"train", "val"} for source in SOURCES[:3])


def test_images_are_the_digits(digits: Path) -> None:
    pixels = np.asarray(Image.open(digits / "images" / "0003.png"))
    assert pixels.shape == (8, 8)
    assert np.abs(pixels / 255 * 16 - load_digits().images[3]).max() < 0.05


def test_another_seed_deals_otherwise(digits: Path, tmp_path: Path) -> None:
    write_digits(tmp_path, seed=1)
    assert _rows(tmp_path / "clinic.csv") != _rows(digits / "clinic.csv")


def test_the_clinic_can_have_fewer_images_a_third_of_them_eights(tmp_path: Path) -> None:
    write_digits(tmp_path, seed=0, clinic_images=15)
    train = [row for row in _rows(tmp_path / "clinic.csv") if row["split"] == "train"]
    assert len(train) == 15
    assert sum(row["eight"] == "1" for row in train) == 5
    with pytest.raises(LabelAssembleError, match="must be 3 to 300, got 2"):
        write_digits(tmp_path, seed=0, clinic_images=2)


def test_the_three_trainings_differ_only_in_what_they_compare(digits: Path, tmp_path: Path) -> None:
    from importlib.resources import files

    text = files("labelassemble.experiments").joinpath("demo.yaml").read_text(encoding="utf-8")
    (tmp_path / "demo.yaml").write_text(text)
    (tmp_path / "data").symlink_to(digits)
    alone, masked, ours = (method_config(yaml.safe_load(text), method, tmp_path) for method in METHODS)
    assert ours == load_config(tmp_path / "demo.yaml")
    assert alone.train == masked.train == ours.train
    assert alone.views == masked.views == ours.views
    assert masked.sources == ours.sources
    assert (masked.loss.pseudo_weight, masked.loss.consistency_weight) == (0, 0)
    assert (ours.loss.pseudo_weight, ours.loss.consistency_weight) == (1, 1)
    test = {}
    for config in (alone, masked, ours):
        table = assemble(config.sources, classes=config.classes, split=config.split).table
        held_out = table.subset_by_split("test")
        test[len(table.classes)] = set(held_out.paths.tolist())
        assert (held_out.sources == "held-out").all()
    assert test[1] == test[10]
    assert len(test[1]) == 757


def test_scores_are_a_row_a_seed_and_training(tmp_path: Path) -> None:
    scores = [Score(method, 60, 3, 0.9, 0.85, 0.94, 12.3) for method in METHODS]
    write_scores(tmp_path / "scores.csv", scores)
    rows = _rows(tmp_path / "scores.csv")
    assert [row["method"] for row in rows] == ["clinic-alone", "masked-bce", "label-assemble"]
    assert rows[0] == {
        "clinic_images": "60",
        "seed": "3",
        "method": "clinic-alone",
        "auc": "0.900000",
        "low": "0.850000",
        "high": "0.940000",
        "seconds": "12.3",
    }
