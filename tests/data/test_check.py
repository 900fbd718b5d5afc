"""Looking at the files: every bad one is named; and the picture of the coverage."""

from pathlib import Path

import numpy as np
from PIL import Image

from labelassemble.data import CsvSource, assemble, check_images, missing_files
from labelassemble.data.coverage import coverage_figure
from labelassemble.data.table import Table


def table(folder: Path) -> Table:
    Image.fromarray(np.zeros((4, 4), dtype=np.uint8)).save(folder / "good.png")
    (folder / "text.png").write_text("x")
    (folder / "folder.png").mkdir()
    np.savez(folder / "a.npz", a=np.zeros((2, 4, 4), dtype=np.uint8))
    names = ["good.png", "text.png", "folder.png", "gone.png", "a.npz::a::1", "a.npz::a::7", "b.npz::a::1"]
    (folder / "labels.csv").write_text("path,Mass\n" + "".join(f"{name},1\n" for name in names))
    return assemble([CsvSource(name="x", path=folder / "labels.csv")]).table


def test_each_bad_image_is_named(tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    check = check_images(table(tmp_path), workers=3, progress=lambda done, of: calls.append((done, of)))
    assert [Path(path).name for path, _ in check.bad] == [
        "text.png",
        "folder.png",
        "gone.png",
        "a.npz::a::7",
        "b.npz::a::1",
    ]
    assert calls == [(7, 7)]
    text = check.to_text()
    assert text.startswith("5 of 7 images cannot be read\n")
    assert f"{tmp_path}/text.png: not an image of a known kind" in text


def test_when_all_is_well(tmp_path: Path) -> None:
    check = check_images(table(tmp_path).select([0, 4, 0]))
    assert check.to_text() == "all 2 images can be read\n"


def test_missing_files_are_listed_without_opening_any(tmp_path: Path) -> None:
    missing = missing_files(table(tmp_path).paths)
    assert missing == [f"{tmp_path}/gone.png", f"{tmp_path}/b.npz::a::1"]
    assert missing_files(["nowhere/at/all.png", "/", "nowhere/at/all.png"]) == ["nowhere/at/all.png", "/"]


def test_the_picture_of_the_coverage(tmp_path: Path) -> None:
    coverage = table(tmp_path).coverage()
    picture = coverage_figure(coverage)
    assert picture.startswith(b"<?xml")
    assert b">Mass<" in picture
    assert picture == coverage_figure(coverage)
    assert coverage_figure(coverage, format="png").startswith(b"\x89PNG")
