"""Archives of single-label images, one per split: pixels or joined JPEG files; CIFAR-10's binary batches."""

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from labelassemble.data import ImageError, decode_image
from labelassemble.data.readers import Cifar10Source, NpzSource
from labelassemble.errors import LabelAssembleError

PIXELS = np.random.default_rng(0).integers(0, 256, (3, 8, 8), dtype=np.uint8)


def _jpegs(path: Path, labels: list[int], **arrays: np.ndarray) -> None:
    files = []
    for label in labels:
        buffer = BytesIO()
        Image.fromarray(np.full((32, 32, 3), 40 + 80 * label, dtype=np.uint8)).save(buffer, "JPEG")
        files.append(buffer.getvalue())
    joined = np.frombuffer(b"".join(files), dtype=np.uint8)
    values = {"jpeg": joined, "offsets": np.cumsum([0, *map(len, files)]), "labels": np.array(labels)}
    np.savez(path, **(values | arrays))


def test_pixels_of_two_archives(tmp_path: Path) -> None:
    np.savez(tmp_path / "set_train.npz", images=PIXELS, labels=np.array([2, 0, 1]))
    np.savez(tmp_path / "set_test.npz", images=PIXELS[:1], labels=np.array([1], dtype=np.uint8))
    table = NpzSource(name="set", root=tmp_path, labels=("a", "b", "c")).read()
    assert table.classes == ("a", "b", "c")
    assert table.labels.tolist() == [[0, 0, 1], [1, 0, 0], [0, 1, 0], [0, 1, 0]]
    assert table.splits.tolist() == ["trainval", "trainval", "trainval", "test"]
    assert (decode_image(table.paths[1])[0] == PIXELS[1]).all()


def test_joined_files_groups_and_classes(tmp_path: Path) -> None:
    names = {"classes": np.array(["melanoma", "nevus"])}
    _jpegs(tmp_path / "train_images.npz", [0, 1], groups=np.array(["p1", "p2"]), **names)
    _jpegs(tmp_path / "val_images.npz", [1], groups=np.array(["p3"]), **names)
    _jpegs(tmp_path / "test_images.npz", [1, 0], groups=np.array(["p4", "p4"]), **names)
    np.savez(tmp_path / "train_masks.npz", masks=PIXELS)  # others' business
    table = NpzSource(name="skin", root=tmp_path).read()
    assert table.classes == ("melanoma", "nevus")
    assert table.splits.tolist() == ["train", "train", "val", "test", "test"]
    assert table.groups.tolist() == ["p1", "p2", "p3", "p4", "p4"]
    pixels = decode_image(table.paths[2])
    assert pixels.shape == (3, 32, 32)
    assert abs(int(pixels.mean()) - 120) <= 1
    with pytest.raises(ImageError, match="a member must be a number below 2, got '2'"):
        decode_image(f"{tmp_path / 'test_images.npz'}::jpeg::2")


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"labels": np.array([0, 1])}, r"must have one label per image \(3\), got int64 \[2\]"),
        ({"labels": np.array([0, 1, 5])}, "a label must be 0 to 1, got 0 to 5"),
        ({"images": PIXELS / 255}, r"images must be uint8 .*, got float64 \[3, 8, 8\]"),
        ({"jpeg": PIXELS.ravel(), "offsets": np.array([0, 50, 20, 192])}, "offsets must rise from 0"),
        (
            {"jpeg": PIXELS.ravel(), "offsets": np.array([0, 50, 90, 120])},
            "offsets must end at the 192 bytes",
        ),
    ],
)
def test_damage(tmp_path: Path, arrays: dict[str, np.ndarray], message: str) -> None:
    for split in ("train", "test"):
        np.savez(tmp_path / f"{split}.npz", **({"images": PIXELS, "labels": np.array([0, 1, 0])} | arrays))
    with pytest.raises(LabelAssembleError, match=message):
        NpzSource(name="s", root=tmp_path, labels=("a", "b")).read()


def test_groups_are_numbers_however_their_array_holds_them(tmp_path: Path) -> None:
    names = {"classes": np.array(["a", "b"])}
    _jpegs(tmp_path / "train_images.npz", [0, 1], groups=np.array([13.0, np.nan]), **names)
    _jpegs(tmp_path / "val_images.npz", [1], groups=np.array([7]), **names)
    _jpegs(tmp_path / "test_images.npz", [1, 0], groups=np.array([14, 7], np.float32), **names)
    table = NpzSource(name="x", root=tmp_path).read()
    assert table.groups.tolist() == ["13", "", "7", "14", "7"]


def test_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(
        LabelAssembleError, match=r"must hold one archive \*train\*.npz with labels, got none"
    ):
        NpzSource(name="s", root=tmp_path / "nowhere").read()
    for split in ("train", "test"):
        np.savez(tmp_path / f"{split}.npz", images=PIXELS, labels=np.array([0, 1, 0]))
    with pytest.raises(LabelAssembleError, match=r"train\.npz does not name its classes, so `labels` must"):
        NpzSource(name="s", root=tmp_path).read()


def test_several_archives_are_named(tmp_path: Path) -> None:
    for name in ("train_a", "train_b", "test"):
        np.savez(tmp_path / f"{name}.npz", images=PIXELS, labels=np.array([0, 1, 0]))
    source = NpzSource(name="s", root=tmp_path, labels=("a", "b"))
    with pytest.raises(LabelAssembleError, match=r"with labels, got train_a\.npz, train_b\.npz"):
        source.read()
    np.savez(tmp_path / "train.npz", images=PIXELS, labels=np.array([0, 1, 0]))
    assert source.read().files == (str(tmp_path / "train.npz"), str(tmp_path / "test.npz"))


def test_cifar10_below_the_root(tmp_path: Path) -> None:
    (tmp_path / "cifar-10-batches-bin").mkdir()
    for name in (*(f"data_batch_{n}" for n in range(1, 6)), "test_batch"):
        (tmp_path / "cifar-10-batches-bin" / f"{name}.bin").write_bytes(bytes(3073 * 2))
    assert len(Cifar10Source(name="c", root=tmp_path).read()) == 12


def test_cifar10_binary(tmp_path: Path) -> None:
    records = np.random.default_rng(0).integers(0, 10, (20, 3073), dtype=np.uint8)
    for name in (*(f"data_batch_{n}" for n in range(1, 6)), "test_batch"):
        (tmp_path / f"{name}.bin").write_bytes(records.tobytes())
    table = Cifar10Source(name="c", root=tmp_path).read()
    assert len(table) == 120
    assert table.splits.tolist() == ["trainval"] * 100 + ["test"] * 20
    assert table.labels[103].argmax() == records[3, 0]
    assert (decode_image(table.paths[103]).reshape(-1) == records[3, 1:]).all()
    (tmp_path / "test_batch.bin").write_bytes(b"short")
    with pytest.raises(LabelAssembleError, match=r"test_batch\.bin: must be records of 3073 bytes, got 5"):
        Cifar10Source(name="c", root=tmp_path).read()
