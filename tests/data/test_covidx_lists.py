"""Every form in which COVIDx was published: the lists of its releases, and where its images may lie."""

from collections.abc import Iterable
from pathlib import Path

import pytest

from labelassemble.data import CovidxSource, Table
from labelassemble.errors import LabelAssembleError


def images(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")


def lists(root: Path, train: Iterable[str], test: Iterable[str], release: str = "") -> None:
    root.mkdir(parents=True, exist_ok=True)
    for split, lines in (("train", train), ("test", test)):
        (root / f"{split}{release}.txt").write_text("".join(f"{line}\n" for line in lines))


def read(root: Path, **options: object) -> Table:
    return CovidxSource.model_validate({"name": "c", "root": root, **options}).read()


SPACES = ["COVID 1 COVID(1).png positive sirm", "COVID 2 COVID(2).png positive sirm"]


def test_a_patient_with_a_space(tmp_path: Path) -> None:
    """Releases 7 and 8."""
    lists(tmp_path, [*SPACES, "ab7 ab7.png negative rsna"], ["COVID 70 COVID(70).png positive sirm"])
    images(tmp_path, "train/COVID(1).png", "train/COVID(2).png", "train/ab7.png", "test/COVID(70).png")
    there = read(tmp_path)
    assert list(there.groups) == ["sirm:COVID 1", "sirm:COVID 2", "rsna:ab7", "sirm:COVID 70"]
    assert list(there.names)[:2] == ["train/COVID(1).png", "train/COVID(2).png"]
    for name in ("train", "test"):
        (tmp_path / name).rename(tmp_path.parent / f"{tmp_path.name}-{name}")
    assert read(tmp_path) == there  # without images the last word is the file


def test_the_disk_says_where_the_patient_ends(tmp_path: Path) -> None:
    lists(tmp_path, SPACES, ["p q MIDRC RICORD 0.png positive ricord"])
    images(tmp_path, "train/1 COVID(1).png", "train/COVID(2).png", "test/MIDRC RICORD 0.png")
    table = read(tmp_path)
    assert list(table.groups) == ["sirm:COVID", "sirm:COVID 2", "ricord:p q"]
    assert table.paths.tolist()[0] == str(tmp_path / "train/1 COVID(1).png")
    assert table.paths.tolist()[2] == str(tmp_path / "test/MIDRC RICORD 0.png")
    images(tmp_path, "train/COVID(1).png")
    with pytest.raises(
        LabelAssembleError, match=r"train\.txt, line 1: .* are both there, so the line has two"
    ):
        read(tmp_path)


def test_lists_without_an_origin(tmp_path: Path) -> None:
    """Releases 1 and 2, the test lists of 3 to 5 and of 7A: a patient is the same with and without its origin."""
    lists(
        tmp_path,
        ["3 a.jpeg pneumonia cohen", "u-1 u-1.png normal rsna", "9 b.png COVID-19 cohen"],
        ["u-1 u-1b.png normal", "9 c.png COVID-19 fig1", "9 d.png pneumonia", "7 e.png normal"],
    )
    table = read(tmp_path)
    assert list(table.groups) == ["cohen:3", "rsna:u-1", "cohen:9", "rsna:u-1", "fig1:9", "9", "7"]
    assert table.labels.tolist() == [[0, 1], [0, 0], [1, -1], [0, 0], [1, -1], [0, 1], [0, 0]]


def test_the_first_release_divides_pneumonia(tmp_path: Path) -> None:
    lists(
        tmp_path, ["3 a.png viral", "4 b.png bacteria", "5 c.png normal", "6 d.png COVID-19"], [], "_split_v1"
    )
    assert read(tmp_path).labels.tolist() == [[0, 1], [0, 1], [0, 0], [1, -1]]


def test_the_lists_of_the_repository(tmp_path: Path) -> None:
    """The publisher's repository keeps every release in labels/ and puts the images into data/."""
    lists(tmp_path / "labels", ["1 a.png positive rsna"], ["2 b.png negative rsna"], "_COVIDx9B")
    images(tmp_path, "data/train/a.png", "data/test/b.png")
    table = read(tmp_path)
    assert list(table.paths) == [str(tmp_path / "data/train/a.png"), str(tmp_path / "data/test/b.png")]
    assert table.files == tuple(str(tmp_path / f"labels/{part}_COVIDx9B.txt") for part in ("train", "test"))
    lists(tmp_path / "labels", ["1 a.png COVID-19 rsna"], ["2 b.png normal rsna"], "_COVIDx9A")
    with pytest.raises(LabelAssembleError, match=r"train_COVIDx9A\.txt, .*test_COVIDx9B\.txt.*release: 9B"):
        read(tmp_path)
    assert read(tmp_path, release="9A").classes == ("COVID-19", "Pneumonia")
    assert read(tmp_path, release="COVIDx9B") == table
    with pytest.raises(LabelAssembleError, match="no lists of the release 'COVIDx9C', did you mean 'COVIDx9"):
        read(tmp_path, release="COVIDx9C")
    lists(tmp_path / "labels", ["1 a.png negative rsna"], ["2 b.png negative rsna"])
    assert read(tmp_path).labels.tolist() == [[0], [0]]  # Kaggle's names win


def test_lists_that_are_refused_by_name(tmp_path: Path) -> None:
    lists(tmp_path, ["1 a.png level1 ricord"], ["2 b.png level2 ricord"], "_COVIDxSev")
    with pytest.raises(LabelAssembleError, match=r"train_COVIDxSev\.txt.* grade how severe COVID-19 is"):
        read(tmp_path)
    (tmp_path / "test_COVIDxSev.txt").rename(tmp_path / "test_list.txt")
    (tmp_path / "train_COVIDxSev.txt").rename(tmp_path / "train_list.txt")
    with pytest.raises(LabelAssembleError, match=r"has no train\.txt or test\.txt.*train_list\.txt"):
        read(tmp_path)
    lists(tmp_path, ["1 a.png negative rsna"], [], "_COVIDx9B")
    (tmp_path / "test_COVIDx9B.txt").unlink()
    with pytest.raises(LabelAssembleError, match=r"no test_COVIDx9B\.txt and no test_COVIDx9B\.csv beside"):
        read(tmp_path)


def test_images_that_lie_elsewhere(tmp_path: Path) -> None:
    lists(tmp_path, ["1 a.png positive rsna"], ["2 b.png negative rsna", "1 a.png negative rsna"])
    images(tmp_path, "images/a.png", "train/positive/a.png", "test/a.png", "test/b.png")
    paths = [Path(path).relative_to(tmp_path).as_posix() for path in read(tmp_path).paths]
    assert paths == ["train/positive/a.png", "test/b.png", "test/a.png"]
    images(tmp_path, "other/train/x/a.png", "other/train/y/a.png")
    (tmp_path / "train" / "positive" / "a.png").unlink()
    with pytest.raises(LabelAssembleError, match="are two images of one name: move the folder"):
        read(tmp_path)


def test_a_copy_of_all_images_in_another_format(tmp_path: Path) -> None:
    lists(tmp_path, ["1 a.png positive rsna"], ["2 b.png negative rsna"])
    images(tmp_path, "small/train/a.jpg", "small/test/b.jpg", "small/train/b.jpg")
    paths = [Path(path).relative_to(tmp_path).as_posix() for path in read(tmp_path).paths]
    assert paths == ["small/train/a.jpg", "small/test/b.jpg"]


def test_nothing_fits(tmp_path: Path) -> None:
    lists(tmp_path, ["1 a.png positive rsna"], ["2 b.png negative rsna"])
    assert len(read(tmp_path)) == 2  # the lists alone can be looked at
    (tmp_path / "archive.zip").write_bytes(b"")
    with pytest.raises(
        LabelAssembleError, match=r"none of the images of train\.txt is there yet: unpack archive\.zip"
    ):
        read(tmp_path)
    images(tmp_path, "pictures/1.jpeg")
    with pytest.raises(
        LabelAssembleError,
        match=r"such as 'a\.png': the reader looks in train/.*found pictures/1\.jpeg \(rename",
    ):
        read(tmp_path)


def test_endings_in_capitals(tmp_path: Path) -> None:
    lists(tmp_path, ["p1 a.PNG positive sirm", "p2 b.jpg negative rsna"], ["p3 c.png positive sirm"])
    images(tmp_path, "train/a.png", "train/b.JPG", "test/c.png")
    wanted = [str(tmp_path / name) for name in ("train/a.png", "train/b.JPG", "test/c.png")]
    assert read(tmp_path).paths.tolist() == wanted
