"""Groups of assembled images: patients however they are written, placeholders, and what is odd about a group."""

from pathlib import Path

import pytest

from labelassemble.data import Assembly, CsvSource, Source, SplitOptions, assemble
from labelassemble.errors import LabelAssembleError


def source(folder: Path, name: str, of: list[str], splits: list[str] | None = None, **options: str) -> Source:
    """Return a source of images, one per patient given, its labels by turns."""
    lines = ["path,patient,split,Edema"]
    for index, patient in enumerate(of):
        lines.append(f"{name}-{index}.png,{patient},{'' if splits is None else splits[index]},{index % 2}")
    (folder / f"{name}.csv").write_text("\n".join(lines) + "\n")
    return CsvSource.model_validate({"name": name, "path": folder / f"{name}.csv", **options})


def sides(assembly: Assembly) -> dict[str, set[str]]:
    """Return the splits of each group."""
    found: dict[str, set[str]] = {}
    for group, split in zip(assembly.table.groups, assembly.table.splits, strict=True):
        found.setdefault(group, set()).add(split)
    return found


def warnings(assembly: Assembly) -> list[str]:
    return [note for note in assembly.report.notes if note.startswith("warning: ")]


@pytest.mark.parametrize("written", ["{:08}", "{}.0", " {}", "{} ", "{:.7e}", "000{}.00"])
def test_a_patient_of_two_sources_is_one_however_its_number_is_written(tmp_path: Path, written: str) -> None:
    numbers = range(1, 41)
    first = source(tmp_path, "nih", [str(number) for number in numbers], patients="nih")
    second = source(tmp_path, "other", [written.format(number) for number in numbers], patients="nih")
    for sources in ([first, second], [second, first]):
        assembly = assemble(sources)
        assert set(sides(assembly)) == {f"nih:{number}" for number in numbers}
        assert all(len(splits) == 1 for splits in sides(assembly).values())
        assert warnings(assembly) == []
        assert any("40 in both" in note for note in assembly.report.notes)


def test_zeros_can_count(tmp_path: Path) -> None:
    first = source(tmp_path, "a", ["007", "7", "8"], patients="x", ids="text")
    second = source(tmp_path, "b", ["007", "7", "8.0"], patients="x", ids="text")
    assert set(sides(assemble([first, second]))) == {"x:007", "x:7", "x:8", "x:8.0"}
    with pytest.raises(
        LabelAssembleError,
        match=r"'a' and 'b' share the patients of 'x', so their `ids` must be the same, got text and",
    ):
        assemble([first, source(tmp_path, "b", ["7"], patients="x")])


def test_ids_of_one_source_that_differ_in_zeros_are_not_made_one_silently(tmp_path: Path) -> None:
    patients = ["007", "7", "8", "12.0", "12", "9"]
    with pytest.raises(
        LabelAssembleError,
        match=r"source 'a': 2 of its patient ids are numbers that it writes in several ways \('007' and '7'; '12.0' "
        r"and '12'\): say `ids: numbers` where those are the same patient, `ids: text` where they are different ones",
    ):
        assemble([source(tmp_path, "a", patients)])
    assert len(sides(assemble([source(tmp_path, "a", patients, ids="numbers")]))) == 4
    assert len(sides(assemble([source(tmp_path, "a", patients, ids="text")]))) == 6
    assert len(sides(assemble([source(tmp_path, "a", ["7", " 7", "7 ", "8"])]))) == 2


def test_a_placeholder_is_no_patient(tmp_path: Path) -> None:
    patients = ["unknown"] * 7 + ["nan", "N/A", "-", "?", "", "7", "7"]
    assembly = assemble([source(tmp_path, "a", patients)])
    assert len(sides(assembly)) == 13
    assert assembly.report.notes[0] == (
        "source 'a': no patient is known for 12 of its 14 images ('unknown' 7 times, 'nan' 1 times, 'N/A' 1 times, "
        "'-' 1 times, '?' 1 times, blank 1 times): each of them is a group of its own"
    )
    assert warnings(assembly) == []
    assert len(sides(assemble([source(tmp_path, "a", patients, ids="exact")]))) == 7


def test_images_of_unknown_patients_with_the_same_name_are_groups_of_their_own(tmp_path: Path) -> None:
    lines = ["path,name,patient,Edema", "a/1.png,1,,1", "b/1.png,1,,0", "b/2.png,2,,0", "b/3.png,3,P3,1"]
    (tmp_path / "a.csv").write_text("\n".join(lines) + "\n")
    table = assemble([CsvSource(name="x", path=tmp_path / "a.csv")]).table
    assert table.groups.tolist() == ["x/a/1.png", "x/b/1.png", "x/2", "x:P3"]


def test_patients_that_a_register_does_not_share(tmp_path: Path) -> None:
    first = source(tmp_path, "a", ["13", "14", "15"], patients="x")
    with pytest.raises(
        LabelAssembleError,
        match=r"patients of 'x': 3 in source 'a', 2 in source 'b', none in both: their ids are not written alike, such "
        r"as '13' and 'P0013' \(write them alike, or leave `patients` out",
    ):
        assemble([first, source(tmp_path, "b", ["P0013", "P0014"], patients="x")])
    apart = assemble([first, source(tmp_path, "b", ["16", "17"], patients="x")])
    assert warnings(apart) == [
        "warning: patients of 'x': 3 in source 'a', 2 in source 'b', none in both, such as '13' and '16'"
    ]
    exact = [
        source(tmp_path, "a", ["13", "14"], patients="x", ids="exact"),
        source(tmp_path, "b", ["P0013"], patients="x", ids="exact"),
    ]
    assert warnings(assemble(exact))[0].endswith("none in both, such as '13' and 'P0013'")
    first = source(tmp_path, "a", ["13", "14", "15"], patients="x")
    some = assemble([first, source(tmp_path, "b", ["15", "16"], patients="x")])
    assert some.report.notes[0] == "patients of 'x': 3 in source 'a', 2 in source 'b', 1 in both"


def test_a_group_that_is_far_too_large_is_a_warning(tmp_path: Path) -> None:
    patients = ["hospital"] * 60 + [f"P{index}" for index in range(40)]
    found = warnings(assemble([source(tmp_path, "a", patients)], split=SplitOptions(val=0.2, test=0.3)))
    assert len(found) == 1
    assert found[0].startswith(
        "warning: source 'a': 60 of its 100 images (60%) are one group, 'a:hospital', as if of one patient; all of "
        "them are in "
    )
    alike = [f"P{index // 30}" for index in range(90)]  # three patients of 30 slices each are nothing odd
    assert warnings(assemble([source(tmp_path, "a", alike)])) == []


def test_a_group_that_spans_published_splits_is_a_warning(tmp_path: Path) -> None:
    patients = ["P1", "P1", "P1", "P2", "P2", "P3"]
    splits = ["train", "train", "test", "trainval", "test", "val"]
    found = warnings(assemble([source(tmp_path, "a", patients, splits)]))
    assert found == [
        "warning: source 'a': 3 of its 6 images leave the split that they were published in, since 2 patients are in "
        "several splits (2 from train to test, 1 from trainval to test; 'a:P1' has 2 of them); none of its images is "
        "left in train"
    ]


def test_numbers_that_have_lost_their_digits_are_a_warning(tmp_path: Path) -> None:
    found = warnings(assemble([source(tmp_path, "a", ["1.23457E+11", "1.23458E+11", "7"])]))
    assert found == [
        "warning: source 'a': 2 of its 3 images have a patient id such as '1.23457E+11', which has lost its last "
        "digits, so different patients may be one (write the column as text)"
    ]
