"""WebDataset shards: labels in .json and .cls, and damage that must never drop a sample."""

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from labelassemble.data import Table, WebDatasetSource, assemble, check_images, decode_image
from labelassemble.errors import LabelAssembleError


def png(value: int) -> bytes:
    data = io.BytesIO()
    Image.fromarray(np.full((3, 3), value, dtype=np.uint8)).save(data, "png")
    return data.getvalue()


def write(path: Path, members: dict[str, bytes | str]) -> None:
    with tarfile.open(path, "w") as tar:
        for name, content in members.items():
            data = content.encode() if isinstance(content, str) else content
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))


def read(path: Path, **options: object) -> Table:
    return WebDatasetSource.model_validate({"name": "w", "shards": path} | options).read()


def test_labels_in_json(tmp_path: Path) -> None:
    first = {"labels": {"Edema": 1, "Mass": None}, "patient": 7, "split": "valid", "name": "one"}
    second = {"labels": {"Mass": 0, "COVID-19": -2, "Edema": True}}
    write(tmp_path / "s-0008.tar", {"a/1.png": png(10), "a/1.json": json.dumps(first)})
    write(tmp_path / "s-0009.tar", {"2.json": json.dumps(second), "2.txt": "a report", "2.PNG": png(20)})
    table = read(tmp_path / "s-{0008..0009}.tar")
    assert table.classes == ("Edema", "Mass", "COVID-19")
    np.testing.assert_array_equal(table.labels, [[1, -1, -1], [1, 0, -2]])
    assert list(table.names) == ["one", "s-0009/2"]
    assert list(table.groups) == ["7", ""]
    assert list(table.splits) == ["val", ""]
    assert [int(decode_image(path)[0, 0, 0]) for path in table.paths] == [10, 20]
    assert read(tmp_path / "*.tar") == table
    assert read(tmp_path / "*.tar", classes=["Mass"]).labels.tolist() == [[-1], [0]]
    assembly = assemble([WebDatasetSource(name="w", shards=Path("*.tar"), split="train").resolved(tmp_path)])
    assert not check_images(assembly.table).bad


@pytest.mark.parametrize(
    ("written", "patient"), [("7.0", "7"), ("7", "7"), ('"007"', "007"), ("NaN", ""), ("null", "")]
)
def test_a_patient_may_be_a_number(tmp_path: Path, written: str, patient: str) -> None:
    content = f'{{"labels": {{"Edema": 1}}, "patient": {written}}}'
    write(tmp_path / "s.tar", {"1.png": png(1), "1.json": content})
    assert read(tmp_path / "s.tar").groups.tolist() == [patient]


def test_labels_in_cls(tmp_path: Path) -> None:
    write(tmp_path / "s.tar", {"1.png": png(1), "1.cls": "1\n", "2.png": png(2), "2.cls": "0"})
    table = read(tmp_path / "s.tar", labels="cls", classes=["cat", "dog"])
    np.testing.assert_array_equal(table.labels, [[0, 1], [1, 0]])
    with pytest.raises(LabelAssembleError, match=r"labels in \.cls need the names"):
        read(tmp_path / "s.tar", labels="cls")
    with pytest.raises(LabelAssembleError, match=r"sample '1': its \.cls must be a number below 1, got '1'"):
        read(tmp_path / "s.tar", labels="cls", classes=["cat"])


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"1.json": '{"labels": {}}'}, "sample '1': must have one image, got none"),
        ({"1.png": "", "1.jpg": "", "1.json": ""}, "sample '1': must have one image, got 1.png, 1.jpg"),
        ({"1.png": "", "1.txt": ""}, r"sample '1': has no \.json, got png, txt"),
        ({"1.png": "", "1.json": "{"}, r"sample '1': its \.json cannot be read"),
        ({"1.png": "", "1.json": b"\xff"}, r"sample '1': its \.json cannot be read"),
        ({"1.png": "", "1.json": "[1]"}, "sample '1': its .json must be an object with \"labels\""),
        ({"1.png": "", "1.json": '{"labels": {"A": 2}}'}, "label 'A': must be 1, 0, -1, -2 or null, got '2'"),
        (
            {"1.png": "", "1.json": '{"labels": {"A": "1"}}'},
            "label 'A': must be 1, 0, -1, -2 or null, got '1'",
        ),
        ({"1.png": "", "1.json": '{"labels": {"A": [1]}}'}, "label 'A': must be"),
        ({"1.png": "", "1.json": '{"labels": {"path": 1}}'}, "a class must not be named 'path'"),
        (
            {"1.png": "", "1.json": '{"labels": {"A": 1}, "split": "tests"}'},
            "\"split\" must be .* did you mean 'test'",
        ),
        (
            {"1.png": "", "1.json": '{"labels": {"A": 1}, "patient": 1.5}'},
            "\"patient\" must be text, got '1.5'",
        ),
        ({"png": ""}, "the member 'png' must be called KEY.ENDING"),
    ],
)
def test_bad_samples(tmp_path: Path, members: dict[str, bytes | str], message: str) -> None:
    write(tmp_path / "s.tar", members)
    with pytest.raises(LabelAssembleError, match=message) as caught:
        read(tmp_path / "s.tar")
    assert "\n" not in str(caught.value)


def test_missing_shards(tmp_path: Path) -> None:
    with pytest.raises(LabelAssembleError, match="no shard matches"):
        read(tmp_path / "*.tar")
    with pytest.raises(
        LabelAssembleError, match=r"s-1\.tar: cannot be read as an uncompressed tar file \(No such file"
    ):
        read(tmp_path / "s-{1..2}.tar")


@settings(deadline=None)
@given(data=st.data())
def test_damage_never_drops_a_sample(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    path = tmp_path_factory.mktemp("shard") / "s.tar"
    members: dict[str, bytes | str] = {}
    for index in range(4):
        members |= {f"{index}.png": png(index), f"{index}.json": '{"labels": {"A": 1}}'}
    write(path, members)
    whole = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(0, 3))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(whole[: data.draw(st.integers(0, len(whole)))] if data.draw(st.booleans()) else whole)
    try:
        table = read(path)
    except LabelAssembleError:
        return
    assert len(table) == 4
