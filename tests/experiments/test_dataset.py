"""Datasets: one decode, what becomes of images, and a sentence where one is not at hand or damaged."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from labelassemble.data.images import decode_image
from labelassemble.experiments.dataset import Dataset, NotAtHand, border, open_dataset, thumbnail
from labelassemble.experiments.experiment import DatasetOptions


def _open(options: DatasetOptions, data: Path, size: int = 16, channels: int = 1) -> Dataset:
    return open_dataset("set", options, data=data, size=size, channels=channels, cache=data / "cache")


def _options(*sources: dict[str, object], **options: object) -> DatasetOptions:
    return DatasetOptions.model_validate({"sources": sources, "download": "fetch it", **options})


SHAPES = {"name": "s", "reader": "npz", "root": "shapes", "labels": ["square", "stripe", "dot"]}


def test_images_are_resized_once_and_keep_their_labels_and_splits(shapes: Path) -> None:
    dataset = _open(_options(SHAPES), shapes, size=8)
    assert dataset.table.classes == ("square", "stripe", "dot")
    assert len(dataset.rows("train")) + len(dataset.rows("val")) == 120
    assert len(dataset.rows("test")) == 30
    row = dataset.rows("test")[4]
    with np.load(shapes / "shapes" / "test.npz") as archive:
        expected = archive["images"][4].reshape(8, 2, 8, 2).mean(axis=(1, 3))
    pixels = decode_image(str(dataset.table.paths[row]))[0]
    assert pixels.shape == (8, 8)
    assert abs(pixels.mean() - expected.mean()) < 2
    assert dataset.table.labels[row].tolist() == [0, 1, 0]
    written = dataset.file.stat().st_mtime_ns
    again = _open(_options(SHAPES), shapes, size=8)
    assert again.file.stat().st_mtime_ns == written
    assert again.fingerprint == dataset.fingerprint
    assert (_open(_options(SHAPES), shapes).table.splits == dataset.table.splits).all()
    assert _open(_options(SHAPES), shapes).fingerprint != dataset.fingerprint


def test_fewer_held_out_images_and_classes(shapes: Path) -> None:
    dataset = _open(_options(SHAPES, validation=5, test=7), shapes)
    assert (len(dataset.rows("val")), len(dataset.rows("test"))) == (5, 7)
    fewer = dataset.select_classes(["dot", "square"])
    assert fewer.table.classes == ("dot", "square")
    assert fewer.table.labels[:3].tolist() == [[0, 1], [0, 0], [1, 0]]


def test_not_at_hand(tmp_path: Path) -> None:
    with pytest.raises(
        NotAtHand, match=r"dataset 'set' is not at hand: fetch it \(.*nowhere does not exist\)"
    ):
        _open(_options({"name": "m", "reader": "mnist", "root": "nowhere"}), tmp_path)
    (tmp_path / "shapes").mkdir()
    with pytest.raises(NotAtHand, match=r"must hold one archive \*train\*.npz with labels, got none"):
        _open(_options(SHAPES), tmp_path)


def test_damaged_archives(shapes: Path) -> None:
    np.savez(shapes / "shapes" / "train.npz", images=np.zeros((3, 4, 4), np.uint8), labels=np.array([0, 1]))
    with pytest.raises(NotAtHand, match=r"must have one label per image \(3\), got int64 \[2\]"):
        _open(_options(SHAPES), shapes)


def test_a_table_keeps_its_splits_and_patients(small_sources: Path) -> None:
    dataset = _open(_options({"name": "n", "reader": "csv", "path": "north.csv"}), small_sources)
    assert dataset.table.classes == ("square",)
    assert [len(dataset.rows(split)) for split in ("train", "val", "test")] == [12, 6, 6]
    assert len(set(dataset.table.groups.tolist())) == 24


def _hospitals(values: dict[str, Any]) -> DatasetOptions:
    return DatasetOptions.model_validate(values["datasets"]["hospitals"])


def test_several_sources_together(hospital_values: dict[str, Any], hospitals: Path) -> None:
    dataset = _open(_hospitals(hospital_values), hospitals)
    table = dataset.table
    assert table.classes == ("mass", "stripe")
    assert list(dict.fromkeys(table.sources.tolist())) == ["east", "west", "archive"]
    archive = table.sources == "archive"
    assert (table.labels[archive, 0] == 0).all()
    assert (table.assumed == np.stack([archive, np.zeros(144, np.bool_)], axis=1)).all()
    assert (dataset.given[archive, 0] == -1).all()
    assert (dataset.given[~archive, 0] == table.labels[~archive, 0]).all()
    assert (table.labels[~archive, 1] == -1).all()
    assert len(set(table.groups.tolist())) == 144  # patient 3 of one hospital is not patient 3 of another


def test_what_belongs_together_must_all_be_there(hospital_values: dict[str, Any], hospitals: Path) -> None:
    (hospitals / "west.csv").unlink()
    with pytest.raises(
        NotAtHand, match=r"ask the hospitals \(.*nowhere.csv does not exist; .*west.csv does not"
    ):
        _open(_hospitals(hospital_values), hospitals)


def test_assumed_labels_follow_the_chosen_classes(hospital_values: dict[str, Any], hospitals: Path) -> None:
    dataset = _open(_hospitals(hospital_values), hospitals).select_classes(["stripe", "mass"])
    assert dataset.table.assumed.any(axis=0).tolist() == [False, True]


def test_sources_and_what_is_assumed_count_in_the_fingerprint(
    hospital_values: dict[str, Any], hospitals: Path
) -> None:
    first = _open(_hospitals(hospital_values), hospitals).fingerprint
    sources = hospital_values["datasets"]["hospitals"]["sources"]
    sources[0]["name"] = "orient"
    second = _open(_hospitals(hospital_values), hospitals).fingerprint
    sources[3]["assume"] = {}
    third = _open(_hospitals(hospital_values), hospitals).fingerprint
    assert len({first, second, third}) == 3


def test_a_border_of_an_eighth() -> None:
    images = np.random.default_rng(0).integers(1, 255, (2, 16, 16), dtype=np.uint8)
    left = border(images)
    assert (left[:, 2:-2, 2:-2] == 0).all()
    outside = np.ones((16, 16), dtype=np.bool_)
    outside[2:-2, 2:-2] = False
    assert (left[:, outside] == images[:, outside]).all()
    assert (border(images[:, :12, :12])[:, 1:-1, 1:-1] == 0).all()  # 12 / 8 is one pixel
    assert (border(images[:, :12, :12])[:, 0] == images[:, 0, :12]).all()


def test_a_thumbnail_of_eight_pixels() -> None:
    images = np.random.default_rng(0).integers(0, 255, (3, 32, 32), dtype=np.uint8)
    found = thumbnail(images)
    means = images.reshape(3, 8, 4, 8, 4).mean(axis=(2, 4)).round()
    assert (found == means.repeat(4, axis=1).repeat(4, axis=2)).all()
    odd = thumbnail(images[:, :20, :20])
    assert odd.shape == (3, 20, 20)
    assert len(np.unique(odd[0])) <= 64


def test_colours_are_kept_apart() -> None:
    images = np.zeros((1, 16, 16, 3), dtype=np.uint8)
    images[..., 1] = 200
    assert (thumbnail(images) == images).all()
    assert (border(images)[0, 0] == [0, 200, 0]).all()


def test_images_are_transformed_once_and_beside_their_file(shapes: Path) -> None:
    dataset = _open(_options(SHAPES), shapes)
    assert dataset.transformed(None) is dataset
    with np.load(dataset.file) as archive:
        images = archive["images"]
    for name, change in (("border", border), ("thumbnail", thumbnail)):
        found = dataset.transformed(name)  # type: ignore[arg-type]
        assert found.file == dataset.file.with_name(f"{dataset.file.stem}-{name}.npz")
        assert (decode_image(str(found.table.paths[2]))[0] == change(images)[2]).all()
        written = found.file.stat().st_mtime_ns
        assert dataset.transformed(name).file.stat().st_mtime_ns == written  # type: ignore[arg-type]
        assert (found.table.labels == dataset.table.labels).all()
