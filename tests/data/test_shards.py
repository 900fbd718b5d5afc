"""Sets of images in parts: tar shards and Parquet lists."""

import io
import os
import re
import tarfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from labelassemble.data import containers
from labelassemble.data.shards import are_sets, expand, files_stamp, parts_of
from labelassemble.errors import LabelAssembleError


def write_tar(path: Path, *members: str) -> Path:
    with tarfile.open(path, "w") as tar:
        for member in members:
            tar.addfile(tarfile.TarInfo(member), io.BytesIO())
    return path


def test_ranges_and_wildcards_stand_for_files(tmp_path: Path) -> None:
    assert expand(Path("a-{098..101}.tar")) == [Path(f"a-{n:03}.tar") for n in (98, 99, 100, 101)]
    for name in ("b.tar", "a.tar"):
        write_tar(tmp_path / name)
    assert expand(tmp_path / "*.tar") == [tmp_path / "a.tar", tmp_path / "b.tar"]
    assert expand(Path("no.tar")) == [Path("no.tar")]


def test_a_shard_is_a_part_with_its_images_alone(tmp_path: Path) -> None:
    shard = write_tar(tmp_path / "a.tar", "1.png", "1.json", "b/2.JPG", "3.cls", "4.dcm")
    [part] = parts_of([shard])
    stamp = part.stamp()
    assert part.name == str(shard)
    assert part.images() == [f"{shard}::{name}" for name in ("1.png", "b/2.JPG", "4.dcm")]
    containers.let_go(str(shard))
    write_tar(shard, "1.png", "2.png", *(f"{n}.cls" for n in range(20)))
    [other] = parts_of([shard])
    assert other.stamp() != stamp
    assert len(other.images()) == 2


def test_a_list_is_cut_within_its_row_groups(tmp_path: Path) -> None:
    names = [f"x/{n}.png" for n in range(6)] + ["/data/6.png"]
    path = tmp_path / "list.parquet"
    pq.write_table(pa.table({"label": range(7), "path": names}), path, row_group_size=5)
    parts = parts_of([path], rows=3)
    assert [part.name.rpartition(", ")[2] for part in parts] == [
        "rows 1 to 3",
        "rows 4 to 5",
        "rows 6 to 7",
    ]
    images = [image for part in parts for image in part.images()]
    assert images == [f"{tmp_path}/x/{n}.png" for n in range(6)] + ["/data/6.png"]


def test_a_list_that_was_written_anew_is_read_anew(tmp_path: Path) -> None:
    path = tmp_path / "list.parquet"
    pq.write_table(pa.table({"path": ["a.png", "b.png"]}), path)
    [part] = parts_of([path])
    assert part.images() == [f"{tmp_path}/{name}" for name in ("a.png", "b.png")]
    pq.write_table(pa.table({"path": ["c.png", "d.png", "e.png"]}), path)
    [part] = parts_of([path])
    assert part.images() == [f"{tmp_path}/{name}" for name in ("c.png", "d.png", "e.png")]


def test_a_file_that_is_there_is_no_pattern(tmp_path: Path) -> None:
    for name in ("a[1].tar", "a1.tar"):
        write_tar(tmp_path / name)
    assert expand(tmp_path / "a[1].tar") == [tmp_path / "a[1].tar"]
    assert expand(tmp_path / "a[0-9].tar") == [tmp_path / "a1.tar"]


def test_the_stamp_of_a_series_is_that_of_its_slices(tmp_path: Path) -> None:
    series = tmp_path / "series"
    series.mkdir()
    for number in range(3):
        (series / f"{number}.dcm").write_bytes(b"before")
    stamp = files_stamp([str(series)])
    assert files_stamp([str(series)]) == stamp
    slice_ = series / "1.dcm"
    slice_.write_bytes(b"behind")  # in place: the folder itself says nothing of it
    os.utime(slice_, ns=(0, slice_.stat().st_mtime_ns + 1000))
    changed = files_stamp([str(series)])
    assert changed != stamp
    slice_.unlink()
    assert files_stamp([str(series)]) not in (stamp, changed)


def test_mistakes_are_named(tmp_path: Path) -> None:
    shard = write_tar(tmp_path / "a.tar", "1.png")
    no_path, gaps, broken = (tmp_path / f"{name}.parquet" for name in ("no_path", "gaps", "broken"))
    pq.write_table(pa.table({"paths": ["a"]}), no_path)
    pq.write_table(pa.table({"path": ["a", None]}), gaps)
    broken.write_bytes(b"PAR1")
    for inputs, sentence in (
        ([shard, tmp_path / ".." / tmp_path.name / "a.tar"], "a.tar: is named twice"),
        ([tmp_path / "z*.tar"], "no file matches"),
        ([tmp_path / "z-{1..2}.tar"], "z-1.tar: cannot be read (No such file"),
        ([no_path], "must have a column 'path', did you mean 'paths'?"),
        ([broken], "broken.parquet: cannot be read as Parquet"),
    ):
        with pytest.raises(LabelAssembleError, match=re.escape(sentence)):
            parts_of(inputs)
    [part] = parts_of([gaps])
    with pytest.raises(LabelAssembleError, match="must have no gaps"):
        part.images()
    assert are_sets([shard, gaps])
    assert not are_sets([tmp_path / "a.png"])
    with pytest.raises(LabelAssembleError, match=r"cannot be answered together, got .*a\.png and .*a\.tar"):
        are_sets([tmp_path / "a.png", shard])


def test_members_without_an_ending_are_tried_and_a_shard_without_images_is_one_sentence(
    tmp_path: Path,
) -> None:
    def shard(name: str, *members: bytes) -> Path:
        path = tmp_path / name
        with tarfile.open(path, "w", format=tarfile.GNU_FORMAT, encoding="latin-1") as tar:
            for member in members:
                tar.addfile(tarfile.TarInfo(member.decode("latin-1")), io.BytesIO())
        return path

    path = shard("pacs.tar", b"1.2.840.5", b"d/IM000001", b"a.png", b"a.json", b"a.cls")
    (part,) = parts_of([path], 8)
    assert [image.rpartition("::")[2] for image in part.images()] == ["1.2.840.5", "d/IM000001", "a.png"]
    (part,) = parts_of([shard("text.tar", b"a.json")], 8)
    with pytest.raises(LabelAssembleError, match=r"text\.tar: holds no image, but members such as a\.json"):
        part.images()
    (part,) = parts_of([shard("old.tar", "Müller.png".encode("latin-1"))], 8)
    with pytest.raises(LabelAssembleError, match=r"old\.tar: the name of a member is not UTF-8, 'M"):
        part.images()
