"""The same image in two sources: found, merged by the stated rule, reported, and on one side of a split."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from labelassemble.data import CsvSource, assemble
from labelassemble.data.duplicates import find_duplicates, joined_groups, merge_labels
from labelassemble.data.fingerprints import near_pairs
from labelassemble.data.text import text_array


def source(folder: Path, name: str, text: str, **options: object) -> CsvSource:
    path = folder / f"{name}.csv"
    path.write_text(text)
    return CsvSource.model_validate({"name": name, "path": path, "root": folder} | options)


def test_two_tables_of_the_same_files_become_one_row_an_image(tmp_path: Path) -> None:
    sources = [
        source(tmp_path, "a", "path,patient,Mass,Edema\n1.png,7,1,0\n2.png,8,0,-2\n3.png,9,1,\n"),
        source(tmp_path, "b", "path,patient,Edema,COVID-19\n3.png,x,1,0\n1.png,y,1,\n4.png,y,0,1\n"),
    ]
    assembly = assemble(sources)
    table = assembly.table
    assert list(table.names) == ["1.png", "2.png", "3.png", "4.png"]
    assert list(table.sources) == ["a", "a", "a", "b"]
    np.testing.assert_array_equal(table.labels, [[1, -2, -1], [0, -2, -1], [1, 1, 0], [-1, 0, 1]])
    assert list(table.groups) == ["a:7", "a:8", "a:9", "a:7"]  # 4.png is of the patient of 1.png
    assert table.splits[0] == table.splits[3]
    report = assembly.report
    assert report.duplicates.to_dict("records") == [
        {"kept": "3.png", "kept_source": "a", "merged": "3.png", "merged_source": "b"},
        {"kept": "1.png", "kept_source": "a", "merged": "1.png", "merged_source": "b"},
    ]
    assert report.conflicts.to_dict("records") == [
        {
            "class": "Edema",
            "positive": "1.png",
            "positive_source": "b",
            "negative": "1.png",
            "negative_source": "a",
            "result": "uncertain",
        }
    ]
    text = report.to_text()
    assert "duplicates merged: 2" in text
    assert "conflicting labels: 1" in text


def test_what_is_given_beats_what_is_assumed(tmp_path: Path) -> None:
    sources = [
        source(tmp_path, "a", "path,Mass\n1.png,1\n2.png,0\n", assume={"COVID-19": "negative"}),
        source(tmp_path, "b", "path,COVID-19\n1.png,1\n3.png,0\n"),
    ]
    assembly = assemble(sources)
    np.testing.assert_array_equal(assembly.table.labels, [[1, 1], [0, 0], [-1, 0]])
    np.testing.assert_array_equal(assembly.table.assumed[:, 1], [False, True, False])
    assert assembly.report.conflicts.empty


def test_hidden_labels_of_merged_rows_are_kept(tmp_path: Path) -> None:
    sources = [
        source(tmp_path, "a", "path,Mass\n1.png,1\n2.png,0\n"),
        source(tmp_path, "b", "path,Edema,Mass\n1.png,1,\n2.png,0,0\n3.png,0,1\n", hide=["Mass"]),
    ]
    assembly = assemble(sources)
    assert assembly.hidden is not None
    assert list(assembly.hidden.names) == ["2.png", "3.png"]
    np.testing.assert_array_equal(assembly.hidden.labels, [[0, -1], [1, -1]])


def images(folder: Path) -> None:
    random = np.random.default_rng(0)
    for name in ("a", "b", "c"):
        coarse = random.integers(0, 256, (6, 6), dtype=np.uint8)
        Image.fromarray(coarse).resize((64, 64), Image.Resampling.BICUBIC).save(folder / f"{name}.png")
    shutil.copy(folder / "a.png", folder / "copy.png")
    Image.open(folder / "b.png").resize((48, 48), Image.Resampling.BICUBIC).save(
        folder / "smaller.jpg", quality=80
    )


def test_copies_are_found_by_content(tmp_path: Path) -> None:
    images(tmp_path)
    names = ["a", "b", "c", "copy", "gone"]
    paths = text_array([str(tmp_path / f"{name}.png") for name in names])
    found = find_duplicates(paths, "content", workers=2)
    assert found.image.tolist() == [0, 1, 2, 0, 4]
    assert found.unread.tolist() == [4]
    assert len(found.alike) == 0
    assert find_duplicates(paths, "path").image.tolist() == [0, 1, 2, 3, 4]


def test_scaled_copies_are_found_by_looks(tmp_path: Path) -> None:
    images(tmp_path)
    (tmp_path / "broken.png").write_text("x")
    names = ["a.png", "b.png", "broken.png", "c.png", "copy.png", "smaller.jpg", "a.png"]
    paths = text_array([str(tmp_path / name) for name in names])
    calls: list[tuple[int, int]] = []
    found = find_duplicates(paths, "looks", workers=2, progress=lambda done, of: calls.append((done, of)))
    assert found.image.tolist() == [0, 1, 2, 3, 0, 5, 0]
    assert found.alike.tolist() == [[1, 5]]
    assert found.unread.tolist() == [2]
    assert calls[-1] == (5, 5)  # the broken one fails only when it is decoded


def test_alike_images_stay_on_one_side_and_their_conflicts_are_told(tmp_path: Path) -> None:
    images(tmp_path)
    sources = [
        source(tmp_path, "x", "path,patient,split,Mass\na.png,1,train,1\nb.png,2,train,1\nc.png,3,train,0\n"),
        source(tmp_path, "y", "path,patient,split,Mass\nsmaller.jpg,1,test,0\n"),
    ]
    assembly = assemble(sources, duplicates="looks")
    assert list(assembly.table.splits) == ["train", "test", "train", "test"]
    assert list(assembly.table.groups) == ["x:1", "x:2", "x:3", "x:2"]
    assert assembly.report.alike["other"].tolist() == ["smaller.jpg"]
    conflict = assembly.report.conflicts.to_dict("records")[0]
    assert (conflict["positive"], conflict["negative"], conflict["result"]) == (
        "b.png",
        "smaller.jpg",
        "both kept",
    )
    assert assembly.report.moved["name"].tolist() == ["b.png"]


def test_unreadable_images_are_mentioned(tmp_path: Path) -> None:
    text = "path,Mass\n1.png,1\n2.png,0\n"
    assembly = assemble([source(tmp_path, "x", text)], duplicates="content")
    assert any(
        note.startswith("images that could not be read to look for duplicates: 2")
        for note in assembly.report.notes
    )


states = st.tuples(st.sampled_from([1, 0, -1, -2]), st.booleans())


@settings(deadline=None)
@given(rows=st.lists(st.tuples(st.integers(0, 4), states), min_size=1, max_size=12))
def test_the_rule_of_merging_against_plain_words(rows: list[tuple[int, tuple[int, bool]]]) -> None:
    image = np.array([number for number, _ in rows], dtype=np.int64)
    labels = np.array([[state] for _, (state, _) in rows], dtype=np.int8)
    assumed = np.array([[mark and state >= 0] for _, (state, mark) in rows])
    merged = merge_labels(image, labels, assumed.astype(np.uint8))
    order = list(dict.fromkeys(image.tolist()))
    assert merged.keep.tolist() == [image.tolist().index(number) for number in order]
    conflicts = 0
    for place, number in enumerate(order):
        mine = image == number
        given = {int(state) for state in labels[mine & ~assumed[:, 0], 0] if state >= 0}
        guessed = {int(state) for state in labels[mine & assumed[:, 0], 0]}
        uncertain = bool((labels[mine] == -2).any())
        if len(given) == 2:
            expected, mark, conflicts = -2, False, conflicts + 1
        elif given:
            expected, mark = given.pop(), False
        elif uncertain:
            expected, mark = -2, False
        elif len(guessed) == 2:
            expected, mark, conflicts = -2, False, conflicts + 1
        elif guessed:
            expected, mark = guessed.pop(), True
        else:
            expected, mark = -1, False
        assert (merged.labels[place, 0], merged.origins[place, 0]) == (expected, mark)
    assert len(merged.conflicts) == conflicts


def test_groups_are_joined_along_chains() -> None:
    groups = text_array(["a", "b", "c", "d", "b", "e"])
    image = np.array([0, 1, 0, 3, 4, 4])  # a = c by the first image, b = e by the last
    joined = joined_groups(groups, image, np.array([[2, 3]]))
    assert joined.tolist() == ["a", "b", "a", "a", "b", "b"]
    assert joined_groups(groups, np.arange(6), np.empty((0, 2), dtype=np.int64)) is groups


@settings(deadline=None)
@given(seed=st.integers(0, 1000))
def test_near_hashes_are_all_found(seed: int) -> None:
    random = np.random.default_rng(seed)
    bits = random.integers(0, 2, (6, 256), dtype=np.uint8)
    bits = np.concatenate([bits, bits])
    for row in range(6, 12):
        bits[row, random.choice(256, int(random.integers(0, 14)), replace=False)] ^= 1
    found = {tuple(pair) for pair in near_pairs(np.packbits(bits, axis=1)).tolist()}
    distance = (bits[:, None] != bits[None]).sum(axis=2)
    near = {
        (left, right) for left in range(12) for right in range(left + 1, 12) if distance[left, right] <= 8
    }
    assert found == near
    assert len(near_pairs(np.empty((0, 32), dtype=np.uint8))) == 0


@pytest.mark.parametrize("rows", [0, 1])
def test_little_tables_have_no_duplicates(rows: int) -> None:
    found = find_duplicates(text_array(["a.png"] * rows), "path")
    assert len(found.image) == rows
