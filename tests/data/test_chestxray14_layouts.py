"""ChestX-ray14 as it is unpacked: the archives of the publisher, flat copies, Kaggle's sample, resized copies."""

import gzip
import os
from pathlib import Path

import pytest

from labelassemble.data import ChestXray14Source, Table
from labelassemble.errors import LabelAssembleError

HEADER = "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position\n"
ROWS = "00000001_000.png,Mass,0,1,58,M,PA\n00000002_000.png,No Finding,0,2,81,M,PA\n"
NAMES = ("00000001_000.png", "00000002_000.png")


def images(root: Path, *names: str) -> list[str]:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")
    return list(names)


def read(root: Path) -> Table:
    return ChestXray14Source(name="nih", root=root).read()


def places(root: Path) -> list[str]:
    return [Path(path).relative_to(root).as_posix() for path in read(root).paths]


@pytest.mark.parametrize(
    "folders",
    [
        ("images_001/images", "images_012/images"),
        ("images_001", "images_002"),
        ("images", "images"),
        ("images-224/images-224", "images-224/images-224"),
        ("images-224-NIH", "images-224-NIH"),
        ("images/images_001/images", "images/images_002/images"),
        (".", "."),
    ],
)
def test_images_are_found_where_they_were_unpacked(tmp_path: Path, folders: tuple[str, str]) -> None:
    (tmp_path / "Data_Entry_2017.csv").write_text(HEADER + ROWS)
    there = [(Path(folder) / name).as_posix() for folder, name in zip(folders, NAMES, strict=True)]
    images(tmp_path, *there)
    assert places(tmp_path) == there


def test_a_compressed_table_below_the_root(tmp_path: Path) -> None:
    (tmp_path / "archive").mkdir()
    (tmp_path / "archive" / "Data_Entry_2017_v2020.csv.gz").write_bytes(
        gzip.compress((HEADER + ROWS).encode())
    )
    images(tmp_path, *(f"archive/images/{name}" for name in NAMES))
    assert places(tmp_path) == [f"archive/images/{name}" for name in NAMES]


def test_the_sample_of_kaggle(tmp_path: Path) -> None:
    """Its archive holds everything twice, once a folder deeper."""
    for folder in ("sample", "sample/sample"):
        images(tmp_path, *(f"{folder}/images/{name}" for name in NAMES))
        (tmp_path / folder / "sample_labels.csv").write_text(HEADER + ROWS)
    table = read(tmp_path)
    assert table.files == (str(tmp_path / "sample/sample_labels.csv"),)
    assert set(table.splits) == {""}
    assert places(tmp_path) == [f"sample/images/{name}" for name in NAMES]


def test_the_lists_of_a_resized_copy(tmp_path: Path) -> None:
    (tmp_path / "Data_Entry_2017.csv").write_text(HEADER + ROWS)
    (tmp_path / "train_val_list_NIH.txt").write_text("00000001_000.png\n")
    (tmp_path / "test_list_NIH.txt").write_text("00000002_000.png\n")
    assert list(read(tmp_path).splits) == ["trainval", "test"]
    (tmp_path / "test_list_NIH.txt").unlink()
    with pytest.raises(
        LabelAssembleError, match=r"train_val_list_NIH\.txt is there but test_list_NIH\.txt is not"
    ):
        read(tmp_path)


def test_several_files_could_be_the_table(tmp_path: Path) -> None:
    mine, other = tmp_path / "Data_Entry_2017 (1).csv", tmp_path / "Data_Entry_2017_clean.csv"
    mine.write_text(HEADER + ROWS)
    assert read(tmp_path).files == (str(mine),)
    other.write_text(HEADER)
    with pytest.raises(
        LabelAssembleError,
        match=r"Data_Entry_2017 \(1\)\.csv, Data_Entry_2017_clean\.csv in .* could each be",
    ):
        read(tmp_path)
    (tmp_path / "sample_labels.csv").write_text(HEADER + ROWS)
    assert read(tmp_path).files == (str(tmp_path / "sample_labels.csv"),)
    exact = tmp_path / "Data_Entry_2017.csv"
    exact.write_text(HEADER + ROWS)
    assert read(tmp_path).files == (str(exact),)
    (tmp_path / "Data_Entry_2017.csv.gz").write_bytes(gzip.compress(exact.read_bytes()))
    assert read(tmp_path).files == (str(exact),)  # the same table twice
    (tmp_path / "Data_Entry_2017.csv.gz").write_bytes(gzip.compress(HEADER.encode()))
    with pytest.raises(
        LabelAssembleError, match=r"Data_Entry_2017\.csv, Data_Entry_2017\.csv\.gz in .* could each be"
    ):
        read(tmp_path)


def test_two_folders_with_the_table(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "Data_Entry_2017.csv").write_text(HEADER + ROWS)
    with pytest.raises(
        LabelAssembleError, match=r"a/Data_Entry_2017\.csv, b/Data_Entry_2017\.csv in .* set `root`"
    ):
        read(tmp_path)


def test_no_table(tmp_path: Path) -> None:
    (tmp_path / "data_entry_2017.CSV").write_text(HEADER + ROWS)
    images(tmp_path, "images/00000001_000.png")
    with pytest.raises(
        LabelAssembleError,
        match=r"found data_entry_2017\.CSV, images/, did you mean 'data_entry_2017\.CSV'\? Then",
    ):
        read(tmp_path)


def test_one_image_in_two_sizes(tmp_path: Path) -> None:
    (tmp_path / "Data_Entry_2017.csv").write_text(HEADER + ROWS)
    images(tmp_path, *(f"images-224/images-224/{name}" for name in NAMES), f"images_001/images/{NAMES[0]}")
    with pytest.raises(
        LabelAssembleError,
        match=r"images-224/images-224/00000001_000\.png and images_001/images/00000001_000\.png",
    ):
        read(tmp_path)


def test_a_copy_of_all_images_in_another_format(tmp_path: Path) -> None:
    (tmp_path / "Data_Entry_2017.csv").write_text(HEADER + ROWS)
    there = images(tmp_path, *(f"images-512/{Path(name).stem}.jpg" for name in NAMES))
    assert places(tmp_path) == there
    assert list(read(tmp_path).names) == list(NAMES)
    images(tmp_path, f"images/{NAMES[0]}")  # one of the publisher's: the others are only missing
    assert places(tmp_path) == [f"images/{name}" for name in NAMES]


def test_masks_beside_the_images(tmp_path: Path) -> None:
    (tmp_path / "Data_Entry_2017.csv").write_text(HEADER + ROWS)
    there = [f"images_001/images/{name}" for name in NAMES]
    images(tmp_path, *there, *(f"masks/{name}" for name in NAMES))
    assert places(tmp_path) == there


def test_nothing_fits(tmp_path: Path) -> None:
    (tmp_path / "Data_Entry_2017.csv").write_text(HEADER + ROWS)
    images(tmp_path, "images/1.jpg")
    with pytest.raises(
        LabelAssembleError,
        match=r"none of the images of Data_Entry_2017\.csv was .*found images/1\.jpg",
    ):
        read(tmp_path)
    (tmp_path / "images" / "1.jpg").unlink()
    (tmp_path / "images_001.tar.gz").write_bytes(b"")
    with pytest.raises(LabelAssembleError, match=r"unpack images_001\.tar\.gz in"):
        read(tmp_path)


def test_the_disk_is_listed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each folder is listed once and no image is asked for, whatever the number of candidates."""
    (tmp_path / "Data_Entry_2017.csv").write_text(HEADER + ROWS)
    images(
        tmp_path, *(f"images_{part:03}/images/{number}.png" for part in range(1, 4) for number in range(50))
    )
    images(tmp_path, f"images_002/images/{NAMES[0]}")
    listed, asked = [], []
    scandir, is_dir = os.scandir, Path.exists
    monkeypatch.setattr(os, "scandir", lambda path: listed.append(str(path)) or scandir(path))
    monkeypatch.setattr(Path, "exists", lambda path: asked.append(path) or is_dir(path))
    read(tmp_path)
    assert len(listed) == len(set(listed)) == 7
    assert not [path for path in asked if path.suffix == ".png"]
