"""Looking at the files: every bad one is named; and the picture of the coverage."""

import warnings
from pathlib import Path

import numpy as np
from PIL import Image

from labelassemble.data import CsvSource, assemble, check_images, missing_files
from labelassemble.data.coverage import coverage_figure
from labelassemble.data.pixel_range import ON_COMMAND_LINE, sample_files, sample_pixels
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
    assert check.to_text() == (
        "all 2 images can be read\n\npixels of each source\n"
        "source  bits  images grey values  turned  height / width\n"
        "     x     8       2      0 to 0       0             1.0\n"
    )


def shown(folder: Path, **images: Image.Image) -> Table:
    """Return the table of images that are saved with their names, an underscore for the point."""
    rows = ""
    for name, image in images.items():
        file = name.replace("_", ".")
        image.save(folder / file, **({"exif": image.getexif()} if image.getexif() else {}))
        rows += f"{file},1\n"
    (folder / "labels.csv").write_text("path,Mass\n" + rows)
    return assemble([CsvSource(name="x", path=folder / "labels.csv")]).table


def test_images_that_use_little_of_their_range_are_a_warning(tmp_path: Path) -> None:
    ramp = np.arange(256, dtype=np.uint16).reshape(16, 16)
    eight, twelve, whole = (
        Image.fromarray(pixels) for pixels in (ramp.astype(np.uint8), ramp * 16, ramp * 257)
    )
    for check in (check_images, sample_pixels):
        assert not getattr(check(shown(tmp_path, a_png=eight, b_png=whole)), "bad", ())
    mixed = shown(tmp_path, a_png=eight, c_png=twelve, d_png=twelve)
    message = (
        "warning: source 'x': the 2 images of 16 bits that were looked at use 6% of the grey range, the first: "
        f"{tmp_path}/c.png (the greatest value is 4080: set `bits: 12` of the source if they have 12 bits)"
    )
    assert check_images(mixed).pixels.warnings() == sample_pixels(mixed).warnings() == (message,)
    assert message in check_images(mixed).to_text()
    some = shown(tmp_path, **{f"w{index}_png": whole for index in range(8)}, c_png=twelve)
    (warning,) = check_images(some).pixels.warnings()
    assert warning.startswith("warning: source 'x': the image of 16 bits that was looked at uses 6%")
    told = assemble([CsvSource(name="x", path=tmp_path / "labels.csv", bits=16)]).table
    assert len(check_images(told).pixels.warnings()) == 1
    dark = {f"d{index}_png": Image.fromarray((ramp // 8).astype(np.uint8)) for index in range(4)}
    (warning,) = check_images(shown(tmp_path, **dark)).pixels.warnings()
    first = f"{tmp_path}/d0.png"
    assert warning.endswith(f"use 12% of the grey range, the first: {first} (look at one of them)")
    dark.pop("d3_png")
    assert check_images(shown(tmp_path, **dark)).pixels.warnings() == ()  # too few to say
    fourteen = {f"d{index}_png": Image.fromarray(ramp * 64) for index in range(4)}
    (warning,) = check_images(shown(tmp_path, **fourteen)).pixels.warnings()
    assert warning.endswith(
        "(the greatest value is 16320: set `bits: 14` of the source if they have 14 bits)"
    )
    files = shown(tmp_path, c_png=twelve).paths.tolist()
    (warning,) = sample_files(files).warnings(ON_COMMAND_LINE)
    assert warning == (
        f"warning: the image of 16 bits that was looked at uses 6% of the grey range, the first: {files[0]} "
        "(the greatest value is 4080: use --bits 12 if they have 12 bits)"
    )
    assert sample_files([]).warnings() == ()


def test_healthy_images_are_no_warning(tmp_path: Path) -> None:
    ramp = np.arange(256, dtype=np.uint16).reshape(16, 16)
    blank = Image.fromarray(np.zeros((16, 16), dtype=np.uint8))
    table = shown(
        tmp_path,
        a_png=Image.fromarray(ramp.astype(np.uint8)),
        b_png=Image.fromarray(ramp * 257),
        c_png=blank,
        d_jpg=Image.fromarray(ramp.astype(np.uint8)),
        e_png=Image.fromarray(ramp.astype(np.uint8)[:, :6]),
    )
    assert check_images(table).pixels.warnings() == ()
    assert sample_pixels(table).warnings() == ()
    assert check_images(shown(tmp_path, c_png=blank)).pixels.warnings() == ()


def test_turned_and_long_images_are_warnings(tmp_path: Path) -> None:
    ramp = Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16))
    turned = ramp.copy()
    turned.getexif()[0x0112] = 6
    long = ramp.resize((100, 33))
    table = shown(tmp_path, a_png=ramp, b_jpg=turned, c_png=long)
    assert check_images(table).pixels.warnings() == (
        "warning: source 'x': 1 of the 3 images that were looked at is turned by an EXIF orientation, the first: "
        f"{tmp_path}/b.jpg (`orientation: ignore` of the source leaves them as they are stored)",
        "warning: source 'x': 1 of the 3 images that were looked at is more than 3 times as long as wide, the first: "
        f"{tmp_path}/c.png (views stretch images to a square)",
    )
    ignored = CsvSource(name="x", path=tmp_path / "labels.csv", orientation="ignore")
    assert len(check_images(assemble([ignored]).table).pixels.warnings()) == 1


def test_a_sample_has_some_images_of_each_source(tmp_path: Path) -> None:
    ramp = np.arange(256, dtype=np.uint8).reshape(16, 16)
    np.savez(tmp_path / "a.npz", a=np.repeat(ramp[None], 100, axis=0))
    rows = "".join(f"a.npz::a::{index},{'ab'[index > 2]},1\n" for index in range(100))
    (tmp_path / "labels.csv").write_text(f"path,source,Mass\n{rows}")
    table = assemble([CsvSource(name="x", path=tmp_path / "labels.csv")]).table
    assert sample_pixels(table).summary()["images"].tolist() == [3, 16]
    assert sample_pixels(table.select([])).summary().empty


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


def test_the_picture_of_names_with_dollar_signs_and_rare_letters(tmp_path: Path) -> None:
    coverage = table(tmp_path).coverage().assign(source="s $\\frac{$ 名")
    coverage["class"] = coverage["class"] + " $x_{3$"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert b"$x_{3$<" in coverage_figure(coverage)
        assert coverage_figure(coverage, format="png").startswith(b"\x89PNG")
