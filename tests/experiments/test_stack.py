"""Stacks: the publishers' forms, one decode, and a sentence where a dataset is not at hand or damaged."""

from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from labelassemble.data.images import decode_image
from labelassemble.errors import LabelAssembleError
from labelassemble.experiments.settings import Dataset
from labelassemble.experiments.stack import NotAtHand, Stack, open_stack


def _open(dataset: Dataset, data: Path, size: int = 16, channels: int = 1) -> Stack:
    return open_stack("set", dataset, data=data, size=size, channels=channels, cache=data / "cache")


def _dataset(*places: dict[str, object], **options: object) -> Dataset:
    return Dataset.model_validate({"places": places, "download": "fetch it", **options})


SHAPES = {"name": "s", "reader": "archives", "root": "shapes", "labels": ["square", "stripe", "dot"]}


def test_archives(shapes: Path) -> None:
    stack = _open(_dataset(SHAPES), shapes)
    assert stack.classes == ("square", "stripe", "dot")
    assert {split: len(stack.rows(split)) for split in ("train", "val", "test")} == {
        "train": 108,
        "val": 12,
        "test": 30,
    }
    with np.load(shapes / "shapes" / "test.npz") as archive:
        expected = archive["images"][4]
    assert (decode_image(stack.paths(stack.rows("test")[4:5])[0])[0] == expected).all()
    assert (_open(_dataset(SHAPES), shapes).splits == stack.splits).all()


def test_fewer_held_out_images_and_classes(shapes: Path) -> None:
    stack = _open(_dataset(SHAPES, validation=5, test=7, classes=["dot", "square"]), shapes)
    assert (len(stack.rows("val")), len(stack.rows("test"))) == (5, 7)
    assert stack.classes == ("dot", "square")
    assert stack.targets[:3].tolist() == [[0.0, 1.0], [0.0, 0.0], [1.0, 0.0]]
    with pytest.raises(LabelAssembleError, match="dataset 'set' has no class 'dott', did you mean 'dot'"):
        _open(_dataset(SHAPES, classes=["dott"]), shapes)


def test_jpeg_archives_are_decoded_and_resized(tmp_path: Path) -> None:
    (tmp_path / "c").mkdir()
    for split in ("train", "test"):
        files = []
        for value in (40, 200):
            buffer = BytesIO()
            Image.fromarray(np.full((32, 32, 3), value, dtype=np.uint8)).save(buffer, "JPEG")
            files.append(buffer.getvalue())
        np.savez(
            tmp_path / "c" / f"{split}.npz",
            jpeg=np.frombuffer(b"".join(files), dtype=np.uint8),
            offsets=np.cumsum([0, *map(len, files)]),
            labels=np.array([0, 9], dtype=np.uint8),
        )
    stack = _open(_dataset({"name": "c", "reader": "archives", "root": "c"}), tmp_path, size=8, channels=3)
    pixels = decode_image(stack.paths(np.array([1]))[0])
    assert pixels.shape == (3, 8, 8)
    assert abs(int(pixels.mean()) - 200) <= 1
    assert stack.classes[9] == "truck"


def test_cifar10_binary(tmp_path: Path) -> None:
    root = tmp_path / "b"
    root.mkdir()
    rng = np.random.default_rng(0)
    records = rng.integers(0, 10, (20, 3073), dtype=np.uint8)
    for name in (*(f"data_batch_{n}" for n in range(1, 6)), "test_batch"):
        (root / f"{name}.bin").write_bytes(records.tobytes())
    dataset = _dataset({"name": "c", "reader": "cifar10-binary", "root": "b"})
    stack = _open(dataset, tmp_path, size=32, channels=3)
    assert len(stack.targets) == 120
    row = int(stack.rows("test")[3])
    assert stack.targets[row].argmax() == records[3, 0]
    assert (decode_image(stack.paths(np.array([row]))[0]).reshape(-1) == records[3, 1:]).all()
    (root / "test_batch.bin").write_bytes(b"short")
    with pytest.raises(NotAtHand, match=r"test_batch\.bin: must be records of 3073 bytes, got 5"):
        _open(dataset, tmp_path, size=16, channels=3)


def test_not_at_hand(tmp_path: Path) -> None:
    with pytest.raises(
        NotAtHand, match=r"dataset 'set' is not at hand: fetch it \(.*nowhere does not exist\)"
    ):
        _open(_dataset({"name": "m", "reader": "mnist", "root": "nowhere"}), tmp_path)
    (tmp_path / "shapes").mkdir()
    with pytest.raises(NotAtHand, match=r"must hold one archive \*train\*.npz, got none"):
        _open(_dataset(SHAPES), tmp_path)


def test_damaged_archives(shapes: Path) -> None:
    np.savez(shapes / "shapes" / "train.npz", images=np.zeros((3, 4, 4), np.uint8), labels=np.array([0, 1]))
    with pytest.raises(NotAtHand, match=r"must have one label an image \(3\), got \[2\]"):
        _open(_dataset(SHAPES), shapes)
    np.savez(shapes / "shapes" / "train.npz", images=np.zeros((1, 4, 4), np.uint8), labels=np.array([7]))
    with pytest.raises(NotAtHand, match="a label must be below 3, got 7"):
        _open(_dataset(SHAPES), shapes)


def test_a_table_keeps_its_splits_and_patients(small_sources: Path) -> None:
    place = {"name": "n", "reader": "csv", "path": "north.csv"}
    stack = _open(_dataset(place), small_sources)
    assert stack.classes == ("square",)
    assert {split: len(stack.rows(split)) for split in ("train", "val", "test")} == {
        "train": 12,
        "val": 6,
        "test": 6,
    }
    assert len(set(stack.groups.tolist())) == 24


def _hospitals(values: dict[str, Any]) -> Dataset:
    return Dataset.model_validate(values["datasets"]["hospitals"])


def test_several_places_together(hospital_values: dict[str, Any], hospitals: Path) -> None:
    stack = _open(_hospitals(hospital_values), hospitals)
    assert stack.classes == ("mass", "stripe")
    assert stack.sources is not None
    assert stack.assumed is not None
    assert list(dict.fromkeys(stack.sources.tolist())) == ["east", "west", "archive"]
    archive = stack.sources == "archive"
    assert (stack.targets[archive, 0] == 0).all()
    assert (stack.assumed == np.stack([archive, np.zeros(144, np.bool_)], axis=1)).all()
    assert np.isnan(stack.given[archive, 0]).all()
    assert (stack.given[~archive, 0] == stack.targets[~archive, 0]).all()
    assert np.isnan(stack.targets[~archive, 1]).all()
    assert len(set(stack.groups.tolist())) == 144  # patient 3 of one hospital is not patient 3 of another


def test_what_belongs_together_must_all_be_there(hospital_values: dict[str, Any], hospitals: Path) -> None:
    (hospitals / "west.csv").unlink()
    with pytest.raises(
        NotAtHand, match=r"ask the hospitals \(.*nowhere.csv does not exist; .*west.csv does not"
    ):
        _open(_hospitals(hospital_values), hospitals)


def test_assumed_labels_follow_the_chosen_classes(hospital_values: dict[str, Any], hospitals: Path) -> None:
    hospital_values["datasets"]["hospitals"]["classes"] = ["stripe", "mass"]
    stack = _open(_hospitals(hospital_values), hospitals)
    assert stack.assumed is not None
    assert stack.assumed.any(axis=0).tolist() == [False, True]


def test_the_fingerprint_of_one_source_is_of_pixels_labels_and_splits(small_sources: Path) -> None:
    place = {"name": "n", "reader": "csv", "path": "north.csv"}
    stack = _open(_dataset(place), small_sources)
    with np.load(stack.file) as archive:
        parts = [archive[name].tobytes() for name in ("images", "targets", "splits")]
    assert stack.fingerprint == sha256(b"".join(parts)).hexdigest()[:16]  # as it was before sources counted


def test_sources_and_what_is_assumed_count_in_the_fingerprint(
    hospital_values: dict[str, Any], hospitals: Path
) -> None:
    first = _open(_hospitals(hospital_values), hospitals).fingerprint
    places = hospital_values["datasets"]["hospitals"]["places"]
    places[0]["name"] = "orient"
    second = _open(_hospitals(hospital_values), hospitals).fingerprint
    places[1:] = []
    alone = _open(_hospitals(hospital_values), hospitals).fingerprint
    places[0]["assume"] = {"mass": "negative"}  # every label is given, so that nothing is assumed
    assert _open(_hospitals(hospital_values), hospitals).fingerprint == alone
    assert len({first, second, alone}) == 3
