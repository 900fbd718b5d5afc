"""MedMNIST, MNIST and CIFAR-10 in tiny files of the publishers' formats, and images referred to inside containers."""

import gzip
import io
import os
import pickle
import struct
import tarfile
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from labelassemble.data import Cifar10Source, ImageError, MedMnistSource, MnistSource, decode_image
from labelassemble.data.readers.medmnist_info import MEDMNIST
from labelassemble.data.stacks import load_cifar_batch, load_idx, load_npz_array
from labelassemble.data.tar import TarIndex
from labelassemble.errors import LabelAssembleError

random = np.random.default_rng(0)


def save_medmnist(
    path: Path, labels: dict[str, list[list[int]]], colour: bool = False, size: int = 28, packed: bool = True
) -> dict[str, np.ndarray]:
    arrays: dict[str, np.ndarray] = {}
    for split, values in labels.items():
        shape = (len(values), size, size, 3) if colour else (len(values), size, size)
        arrays[f"{split}_images"] = random.integers(0, 256, shape, dtype=np.uint8)
        arrays[f"{split}_labels"] = np.array(values, dtype=np.uint8)
    (np.savez_compressed if packed else np.savez)(path, **arrays)  # type: ignore[arg-type]
    return arrays


@pytest.mark.parametrize("packed", [True, False])
def test_medmnist_ordinal(tmp_path: Path, packed: bool) -> None:
    path = tmp_path / "retinamnist.npz"
    arrays = save_medmnist(
        path, {"train": [[0], [4]], "val": [[2]], "test": [[3]]}, colour=True, packed=packed
    )
    table = MedMnistSource(name="retina", path=path).read()
    assert table.classes == ("grade 0", "grade 1", "grade 2", "grade 3", "grade 4")
    np.testing.assert_array_equal(table.labels, np.eye(5, dtype=np.int8)[[0, 4, 2, 3]])
    assert list(table.splits) == ["train", "train", "val", "test"]
    assert table.paths[1] == f"{path}::train_images::1"
    np.testing.assert_array_equal(decode_image(table.paths[1]), arrays["train_images"][1].transpose(2, 0, 1))
    thresholds = MedMnistSource(name="retina", path=path, ordinal="thresholds").read()
    assert thresholds.classes == ("grade >= 1", "grade >= 2", "grade >= 3", "grade >= 4")
    np.testing.assert_array_equal(thresholds.labels, [[0, 0, 0, 0], [1, 1, 1, 1], [1, 1, 0, 0], [1, 1, 1, 0]])


def test_medmnist_binary(tmp_path: Path) -> None:
    values = {"train": [[0], [1]], "val": [[1]], "test": [[0]]}
    arrays = save_medmnist(tmp_path / "pneumoniamnist_64.npz", values, size=64)
    table = MedMnistSource(name="p", path=tmp_path / "pneumoniamnist_64.npz").read()
    assert table.classes == ("pneumonia",)
    assert table.labels[:, 0].tolist() == [0, 1, 1, 0]
    np.testing.assert_array_equal(decode_image(table.paths[3]), arrays["test_images"][:1])
    save_medmnist(tmp_path / "b.npz", values)
    table = MedMnistSource(name="b", path=tmp_path / "b.npz", dataset="breastmnist").read()
    assert table.classes == ("malignant",)
    assert table.labels[:, 0].tolist() == [1, 0, 0, 1]


def test_medmnist_multi_label_and_multi_class(tmp_path: Path) -> None:
    rows = random.integers(0, 2, (3, 14)).tolist()
    save_medmnist(tmp_path / "chestmnist.npz", {"train": rows, "val": rows[:1], "test": rows[:1]})
    table = MedMnistSource(name="chest", path=tmp_path / "chestmnist.npz").read()
    np.testing.assert_array_equal(table.labels[:3], rows)
    save_medmnist(tmp_path / "octmnist.npz", {"train": [[3]], "val": [[1]], "test": [[0]]})
    table = MedMnistSource(name="oct", path=tmp_path / "octmnist.npz").read()
    np.testing.assert_array_equal(table.labels, np.eye(4, dtype=np.int8)[[3, 1, 0]])


def test_medmnist_class_names_can_head_a_table() -> None:
    assert len(MEDMNIST) == 12
    promyelocytes = "immature granulocytes(myelocytes, metamyelocytes and promyelocytes)"
    assert MEDMNIST["bloodmnist"].labels[3] == promyelocytes
    for info in MEDMNIST.values():
        assert len(set(info.labels)) == len(info.labels)
        assert (info.task == "binary") == (len(info.labels) == 2)


def test_medmnist_mistakes(tmp_path: Path) -> None:
    path = tmp_path / "retinamnist.npz"
    with pytest.raises(
        LabelAssembleError, match="dataset 'retinmnist' is no set of MedMNIST, did you mean 'retinamnist'"
    ):
        MedMnistSource(name="x", path=tmp_path / "retinmnist.npz").read()
    with pytest.raises(LabelAssembleError, match="'organmnist3d' has volumes"):
        MedMnistSource(name="x", path=tmp_path / "organmnist3d.npz").read()
    with pytest.raises(
        LabelAssembleError, match=r"retinamnist\.npz: cannot be read as a NumPy archive \(No such file"
    ):
        MedMnistSource(name="x", path=path).read()
    save_medmnist(path, {"train": [[0]], "val": [[1]], "test": [[5]]})
    with pytest.raises(LabelAssembleError, match="test_labels must be 0 to 4, got 5 to 5"):
        MedMnistSource(name="x", path=path).read()
    save_medmnist(path, {"train": [[0]], "val": [[1]]})
    with pytest.raises(LabelAssembleError, match="has no array 'test_images'"):
        MedMnistSource(name="x", path=path).read()
    save_medmnist(path, {"train": [[0, 1]], "val": [[1, 0]], "test": [[1, 0]]})
    with pytest.raises(
        LabelAssembleError, match=r"train_labels must be whole numbers \[N, 1\], got uint8 \[1, 2\]"
    ):
        MedMnistSource(name="x", path=path).read()
    arrays = save_medmnist(path, {"train": [[0]], "val": [[1]], "test": [[1]]})
    np.savez(path, **arrays | {"val_images": np.zeros((1, 28, 28, 28), dtype=np.uint8)})
    with pytest.raises(
        LabelAssembleError, match=r"val_images must be uint8 \[1, H, W\] .* got uint8 \[1, 28, 28, 28\]"
    ):
        MedMnistSource(name="x", path=path).read()


def idx(array: np.ndarray) -> bytes:
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


@pytest.fixture
def mnist(tmp_path: Path) -> Path:
    for part, count in (("train", 4), ("t10k", 2)):
        images = random.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        (tmp_path / f"{part}-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(images)))
        (tmp_path / f"{part}-labels-idx1-ubyte").write_bytes(idx(np.arange(count, dtype=np.uint8)))
    return tmp_path


def test_mnist(mnist: Path) -> None:
    table = MnistSource(name="mnist", root=mnist).read()
    assert table.classes == tuple("0123456789")
    np.testing.assert_array_equal(table.labels, np.eye(10, dtype=np.int8)[[0, 1, 2, 3, 0, 1]])
    assert list(table.splits) == ["trainval"] * 4 + ["test"] * 2
    pixels = load_idx(mnist / "train-images-idx3-ubyte.gz")
    np.testing.assert_array_equal(decode_image(table.paths[2]), pixels[2:3])


def test_mnist_below_the_root(mnist: Path) -> None:
    """As torchvision leaves it: compressed and not, in MNIST/raw."""
    table = MnistSource(name="mnist", root=mnist).read()
    raw = mnist / "data" / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for path in mnist.glob("*ubyte*"):
        path.rename(raw / path.name)
    for path in raw.glob("*.gz"):
        path.with_suffix("").write_bytes(gzip.decompress(path.read_bytes()))
    below = MnistSource(name="mnist", root=mnist / "data").read()
    np.testing.assert_array_equal(below.labels, table.labels)
    assert below.files[0] == str(raw / "train-labels-idx1-ubyte")
    (mnist / "data" / "FashionMNIST" / "raw").mkdir(parents=True)
    for path in raw.iterdir():
        (mnist / "data" / "FashionMNIST" / "raw" / path.name).write_bytes(path.read_bytes())
    with pytest.raises(
        LabelAssembleError, match=r"FashionMNIST/raw/train-images-idx3-ubyte, .* could each be"
    ):
        MnistSource(name="mnist", root=mnist / "data").read()


def test_mnist_damage(mnist: Path) -> None:
    labels = mnist / "train-labels-idx1-ubyte"
    labels.write_bytes(idx(np.full(4, 10, dtype=np.uint8)))
    with pytest.raises(LabelAssembleError, match="a label must be below 10, got 10"):
        MnistSource(name="x", root=mnist).read()
    labels.write_bytes(idx(np.zeros(3, dtype=np.uint8)))
    with pytest.raises(LabelAssembleError, match=r"must hold one label per image \(4\), got \[3\]"):
        MnistSource(name="x", root=mnist).read()
    labels.write_bytes(idx(np.zeros(4, dtype=np.uint8))[:-1])
    with pytest.raises(LabelAssembleError, match="must hold 4 bytes by its header, got 3"):
        MnistSource(name="x", root=mnist).read()
    labels.write_bytes(b"\0\0\x0d\1\0\0\0\4")
    with pytest.raises(LabelAssembleError, match="not an idx file of unsigned bytes"):
        MnistSource(name="x", root=mnist).read()
    labels.unlink()
    with pytest.raises(LabelAssembleError, match=r"has no train-labels-idx1-ubyte \(each may"):
        MnistSource(name="x", root=mnist).read()
    images = mnist / "train-images-idx3-ubyte.gz"
    images.write_bytes(images.read_bytes()[:-20])
    with pytest.raises(LabelAssembleError, match="cannot be read as an idx file"):
        load_idx(images)


def save_cifar(root: Path, count: int = 3) -> None:
    root.mkdir(exist_ok=True)
    for file in (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"):
        content = {
            "batch_label": file,
            "labels": list(range(count)),
            "data": random.integers(0, 256, (count, 3072), dtype=np.uint8),
            "filenames": [f"image_s_{index:06}.png" for index in range(count)],
        }
        (root / file).write_bytes(pickle.dumps(content, protocol=2))


def test_cifar10(tmp_path: Path) -> None:
    save_cifar(tmp_path)
    table = Cifar10Source(name="cifar", root=tmp_path).read()
    assert len(table) == 18
    assert table.classes[:3] == ("airplane", "automobile", "bird")
    np.testing.assert_array_equal(table.labels[3:6], np.eye(10, dtype=np.int8)[[0, 1, 2]])
    assert list(table.splits[[0, 14, 15]]) == ["trainval", "trainval", "test"]
    batch = load_cifar_batch(tmp_path / "data_batch_2")
    np.testing.assert_array_equal(decode_image(table.paths[4]), batch.pixels[1])
    assert table.names[4] == "data_batch_2/image_s_000001.png"


def test_cifar10_as_python_2_wrote_it(tmp_path: Path) -> None:
    """The publisher's batches are protocol-2 pickles of Python 2: byte strings, numpy.core, dtype('u1', 0, 1)."""
    pixels = bytes(range(256)) * 12
    data = (
        b"\x80\x02}q\x01(U\x06labelsq\x02]q\x03K\x07aU\tfilenamesq\x04]q\x05U\x05a.pngaU\x04dataq\x06"
        b"cnumpy.core.multiarray\n_reconstruct\nq\x07cnumpy\nndarray\nq\x08K\x00\x85U\x01b\x87R"
        b"(K\x01K\x01M\x00\x0c\x86cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R"
        b"(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89T"
        + struct.pack("<I", 3072)
        + pixels
        + b"tbu."
    )
    (tmp_path / "data_batch_1").write_bytes(data)
    batch = load_cifar_batch(tmp_path / "data_batch_1")
    assert (batch.labels.tolist(), batch.names) == ([7], ("a.png",))
    assert batch.pixels[0, 0, 0, :5].tolist() == [0, 1, 2, 3, 4]


def test_a_pickle_that_would_run_code_is_refused(tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.system, (f"touch {tmp_path}/ran",)

    (tmp_path / "data_batch_1").write_bytes(pickle.dumps({"data": Evil()}))
    with pytest.raises(LabelAssembleError, match=r"it holds 'posix\.system', which no such batch does"):
        load_cifar_batch(tmp_path / "data_batch_1")
    assert not (tmp_path / "ran").exists()


def test_cifar10_damage(tmp_path: Path) -> None:
    save_cifar(tmp_path)
    path = tmp_path / "data_batch_1"
    whole = path.read_bytes()
    path.write_bytes(whole[:-100])
    with pytest.raises(LabelAssembleError, match="cannot be read as a batch of CIFAR-10"):
        load_cifar_batch(path)
    path.write_bytes(pickle.dumps({"data": np.zeros((2, 5), dtype=np.uint8), "labels": [], "filenames": []}))
    with pytest.raises(LabelAssembleError, match=r"data must be uint8 \[N, 3072\], got uint8 \[2, 5\]"):
        load_cifar_batch(path)
    path.unlink()
    with pytest.raises(
        LabelAssembleError, match=r"data_batch_1: cannot be read as a batch of CIFAR-10 \(No such file"
    ):
        Cifar10Source(name="x", root=tmp_path).read()


def save_tar(path: Path, count: int = 3) -> dict[str, np.ndarray]:
    images = {f"a/{index:04}.png": random.integers(0, 256, (5, 4), dtype=np.uint8) for index in range(count)}
    with tarfile.open(path, "w") as tar:
        for name, pixels in images.items():
            data = io.BytesIO()
            Image.fromarray(pixels).save(data, "png")
            member = tarfile.TarInfo(name)
            member.size = len(data.getvalue())
            tar.addfile(member, io.BytesIO(data.getvalue()))
    return images


def test_members_of_a_tar_file(tmp_path: Path) -> None:
    images = save_tar(tmp_path / "s.tar", 20)
    with ThreadPoolExecutor(8) as pool:
        decoded = list(pool.map(decode_image, [f"{tmp_path}/s.tar::{name}" for name in images] * 5))
    for pixels, expected in zip(decoded, list(images.values()) * 5, strict=True):
        np.testing.assert_array_equal(pixels[0], expected)


def test_each_of_many_shards_is_gone_through_once_however_their_images_are_mixed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []

    def index(path: Path) -> TarIndex:
        opened.append(path.name)
        return TarIndex(path)

    monkeypatch.setattr("labelassemble.data.containers.TarIndex", index)
    shards = [save_tar(tmp_path / f"{number}.tar", 2) for number in range(30)]
    for member in list(shards[0]) * 2:
        for number, images in enumerate(shards):
            np.testing.assert_array_equal(
                decode_image(f"{tmp_path}/{number}.tar::{member}")[0], images[member]
            )
    assert opened == [f"{number}.tar" for number in range(30)]


@pytest.mark.parametrize(
    ("reference", "reason"),
    [
        ("s.tar::b.png", "the tar file has no member 'b.png'"),
        ("gone.tar::b.png", r"cannot be read as an uncompressed tar file \(No such file"),
        ("x.zip::b.png::1", "a container must be a .npz, .tar, idx or CIFAR-10 batch file"),
        ("r.npz::a::3", "a member must be a number below 3, got '3'"),
        ("r.npz::a::-1", "a member must be a number below 3, got '-1'"),
        ("r.npz::b::0", "the archive has no array 'b'"),
        ("r.npz::volumes::0", r"images must be uint8 \[N, H, W\] or \[N, H, W, 3\] \(no volumes\)"),
        ("gone.npz::a::0", "cannot be read as a NumPy archive"),
        ("t-idx3-ubyte::0", r"cannot be read as an idx file \(No such file"),
    ],
)
def test_bad_references(tmp_path: Path, reference: str, reason: str) -> None:
    save_tar(tmp_path / "s.tar")
    volumes = np.zeros((2, 4, 4, 4), dtype=np.uint8)
    np.savez_compressed(tmp_path / "r.npz", a=np.zeros((3, 2, 2), dtype=np.uint8), volumes=volumes)
    with pytest.raises(ImageError, match=reason) as caught:
        decode_image(tmp_path / reference)
    assert str(caught.value).startswith(str(tmp_path / reference))


def test_a_file_with_the_separator_in_its_name_is_a_file(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((2, 2), dtype=np.uint8)).save(tmp_path / "a::1.png")
    assert decode_image(tmp_path / "a::1.png").shape == (1, 2, 2)


@settings(deadline=None)
@given(data=st.data())
def test_damage_to_a_tar_file_never_drops_a_member(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("tar") / "s.tar"
    save_tar(path, 4)
    whole = bytearray(path.read_bytes())
    members = dict(TarIndex(path).members)
    if data.draw(st.booleans()):
        damaged = whole[: data.draw(st.integers(0, len(whole)))]
    else:
        position = data.draw(st.integers(0, len(whole) - 1))
        damaged = whole.copy()
        damaged[position] = data.draw(st.integers(0, 255))
    path.write_bytes(damaged)
    try:
        found = TarIndex(path)
    except LabelAssembleError:
        return
    assert len(found.members) == len(members)


@settings(deadline=None)
@given(position=st.integers(0, 400), value=st.integers(0, 255), cut=st.booleans())
def test_damage_to_an_archive_is_an_image_error(
    tmp_path_factory: pytest.TempPathFactory, position: int, value: int, cut: bool
) -> None:
    path = tmp_path_factory.mktemp("npz") / "r.npz"
    np.savez(path, a=np.arange(12, dtype=np.uint8).reshape(3, 2, 2))
    whole = bytearray(path.read_bytes())
    position = position % len(whole)
    if cut:
        whole = whole[:position]
    else:
        whole[position] = value
    path.write_bytes(whole)
    try:
        assert decode_image(f"{path}::a::1").shape == (1, 2, 2)
    except ImageError as error:
        assert error.path == f"{path}::a::1"  # noqa: PT017


def test_a_great_compressed_member_is_unpacked_to_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("labelassemble.data.stacks._IN_MEMORY", 100)
    pixels = random.integers(0, 256, (50, 4, 4, 3), dtype=np.uint8)
    np.savez_compressed(tmp_path / "r.npz", great=pixels, little=pixels[:1, :, :, 0])
    mapped = load_npz_array(tmp_path / "r.npz", "great")
    assert isinstance(mapped, np.memmap)
    np.testing.assert_array_equal(mapped, pixels)
    np.testing.assert_array_equal(decode_image(f"{tmp_path}/r.npz::great::49"), pixels[49].transpose(2, 0, 1))
    assert [item.name for item in tmp_path.iterdir()] == ["r.npz"]


def test_a_stored_member_is_mapped_and_not_read(tmp_path: Path) -> None:
    np.savez(tmp_path / "r.npz", a=np.zeros((3, 2, 2), dtype=np.uint8))
    assert isinstance(load_npz_array(tmp_path / "r.npz", "a"), np.memmap)
    assert zipfile.is_zipfile(tmp_path / "r.npz")
