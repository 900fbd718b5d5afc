"""CheXpert as it is unpacked: one folder, four archives, resized copies, and the tables with fewer columns."""

import gzip
import os
from pathlib import Path

import pytest

from labelassemble.data import CheXpertSource, Table
from labelassemble.data.readers.chexpert import CHEXPERT_CLASSES
from labelassemble.errors import LabelAssembleError

HEADER = "Path,Sex,Age,Frontal/Lateral,AP/PA," + ",".join(CHEXPERT_CLASSES) + "\n"
BATCHES = (
    "CheXpert-v1.0 batch 1 (validate & csv)",
    "CheXpert-v1.0 batch 2 (train 1)",
    "CheXpert-v1.0 batch 3 (train 2)",
    "CheXpert-v1.0 batch 4 (train 3)",
)


def row(part: str, patient: int, prefix: str = "CheXpert-v1.0/") -> str:
    about = "Male,60,Frontal,AP" + ",1.0" * len(CHEXPERT_CLASSES)
    return f"{prefix}{part}/patient{patient:05}/study1/view1_frontal.jpg,{about}\n"


def tables(folder: Path, prefix: str = "CheXpert-v1.0/") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "train.csv").write_text(HEADER + "".join(row("train", number, prefix) for number in (1, 2, 3)))
    (folder / "valid.csv").write_text(HEADER + row("valid", 64541, prefix))


def image(root: Path, folder: str, patient: int, ending: str = ".jpg") -> str:
    name = f"{folder}/patient{patient:05}/study1/view1_frontal{ending}"
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_bytes(b"")
    return name


def read(root: Path, **options: object) -> Table:
    return CheXpertSource.model_validate({"name": "c", "root": root, **options}).read()


def places(table: Table, root: Path) -> list[str]:
    return [Path(path).relative_to(root).as_posix() for path in table.paths]


@pytest.mark.parametrize("home", ["", BATCHES[0], "CheXpert-v1.0"])
@pytest.mark.parametrize("within", ["", "train/", "CheXpert-v1.0/train/"])
def test_the_four_archives(tmp_path: Path, home: str, within: str) -> None:
    tables(tmp_path / home)
    there = [image(tmp_path, f"{BATCHES[number]}/{within}".rstrip("/"), number) for number in (1, 2, 3)]
    there.append(image(tmp_path, f"{BATCHES[0]}/valid", 64541))
    table = read(tmp_path)
    assert places(table, tmp_path) == there
    assert table.names.tolist()[0] == "train/patient00001/study1/view1_frontal.jpg"
    assert list(table.splits) == ["trainval"] * 3 + ["test"]
    assert table.files == tuple(str(tmp_path / home / name) for name in ("train.csv", "valid.csv"))


def test_a_folder_above(tmp_path: Path) -> None:
    root = tmp_path / "archive" / "CheXpert-v1.0-small"
    tables(root, "CheXpert-v1.0-small/")
    there = [image(root, "train", number) for number in (1, 2, 3)] + [image(root, "valid", 64541)]
    assert places(read(tmp_path), root) == there
    tables(tmp_path / "archive" / "CheXpert-v1.0")
    with pytest.raises(
        LabelAssembleError, match=r"archive/CheXpert-v1\.0/train\.csv, archive/CheXpert-v1\.0-small/tr"
    ):
        read(tmp_path)


def test_images_converted_to_another_format(tmp_path: Path) -> None:
    tables(tmp_path)
    there = [image(tmp_path, "train", number, ".png") for number in (1, 2, 3)]
    there.append(image(tmp_path, "valid", 64541, ".png"))
    assert places(read(tmp_path), tmp_path) == there


def test_test_labels_with_fewer_columns(tmp_path: Path) -> None:
    """The tables of CheXlocalize have neither sex nor view."""
    tables(tmp_path)
    columns = ("Airspace Opacity" if name == "Lung Opacity" else name for name in CHEXPERT_CLASSES[1:12])
    head = "Path," + ",".join(columns) + "\n"
    lines = "test/patient64741/study1/view1_frontal.jpg" + ",1" * 11 + "\n"
    lines += "test/patient64741/study1/view2_lateral.jpg" + ",0" * 11 + "\n"
    (tmp_path / "test_labels.csv.gz").write_bytes(gzip.compress((head + lines).encode()))
    table = read(tmp_path)
    assert list(table.splits) == ["train"] * 3 + ["val", "test", "test"]
    assert table.labels.tolist()[4] == [-1] + [1] * 11 + [-1, -1]
    assert table.notes == (
        "test_labels.csv.gz has no column No Finding, Fracture, Support Devices: unknown for its test images",
    )
    assert len(read(tmp_path, views="lateral")) == 1
    assert list(read(tmp_path, valid="test").splits) == ["trainval"] * 3 + ["test"] * 3
    (tmp_path / "train.csv").unlink()
    (tmp_path / "valid.csv").unlink()
    assert list(read(tmp_path).splits) == ["test", "test"]
    (tmp_path / "test_labels.csv.gz").write_bytes(
        gzip.compress((head.replace("Edema", "Oedema") + lines).encode())
    )
    with pytest.raises(LabelAssembleError, match="line 1: no column 'No Finding'"):
        read(tmp_path)


def test_validation_labels_of_chexlocalize(tmp_path: Path) -> None:
    tables(tmp_path)
    (tmp_path / "valid.csv").rename(tmp_path / "val_labels.csv")
    there = [image(tmp_path, "train", number) for number in (1, 2, 3)] + [image(tmp_path, "val", 64541)]
    assert places(read(tmp_path), tmp_path) == there


def test_what_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "df_chexpert_plus_240401.csv").write_text("path_to_image\n")
    with pytest.raises(
        LabelAssembleError, match=r"df_chexpert_plus_240401\.csv is CheXpert Plus, whose labels"
    ):
        read(tmp_path)
    (tmp_path / "df_chexpert_plus_240401.csv").rename(tmp_path / "groundtruth.csv")
    with pytest.raises(LabelAssembleError, match=r"groundtruth\.csv is the test labels by study"):
        read(tmp_path)
    for name in ("train_cheXbert.csv", "train_visualCheXbert.csv"):
        (tmp_path / name).write_text(HEADER)
    with pytest.raises(
        LabelAssembleError,
        match=r"no train\.csv but train_cheXbert\.csv, train_visualCheXbert\.csv: call the one",
    ):
        read(tmp_path)


def test_a_patient_in_two_folders(tmp_path: Path) -> None:
    tables(tmp_path)
    near = image(tmp_path, "train", 1)
    image(tmp_path, "small/train", 1)
    image(tmp_path, "small/valid", 1)
    assert places(read(tmp_path), tmp_path)[0] == near
    image(tmp_path, "a/train", 2)
    image(tmp_path, "b/train", 2)
    with pytest.raises(
        LabelAssembleError, match=r"a/train/patient00002/ and b/train/patient00002/ in .* two"
    ):
        read(tmp_path)


def test_nothing_fits(tmp_path: Path) -> None:
    tables(tmp_path)
    (tmp_path / "CheXpert-v1.0 batch 2 (train 1).zip").write_bytes(b"")
    with pytest.raises(LabelAssembleError, match=r"unpack CheXpert-v1\.0 batch 2 \(train 1\)\.zip in"):
        read(tmp_path)
    image(tmp_path, "train", 900)
    with pytest.raises(
        LabelAssembleError,
        match=r"none of the images of train\.csv was found .* found train/patient00900/ \(rename",
    ):
        read(tmp_path)


def test_the_patients_are_not_looked_into(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tables(tmp_path)
    for number in range(1, 200):
        image(tmp_path, "train", number)
    listed: list[str] = []
    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: listed.append(str(path)) or scandir(path))
    read(tmp_path)
    assert len(listed) == 2
