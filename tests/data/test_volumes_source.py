"""The reader of volumes: tables, folders and archives with masks, and the mistakes one can make with them."""

import gzip
import struct
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from labelassemble.config import load_config, make_config
from labelassemble.data import Table, Taxonomy, VolumesSource, assemble
from labelassemble.data.duplicates import find_duplicates
from labelassemble.data.mask_files import mask_summary, read_mask
from labelassemble.data.text import text_array
from labelassemble.data.volumes import read_grid, read_volume
from labelassemble.errors import LabelAssembleError

LABELS = {1: "PDAC", 2: "cyst"}


def source(**options: Any) -> VolumesSource:
    return VolumesSource.model_validate({"name": "a", **options})


def mask_of(*values: int, shape: tuple[int, ...] = (6, 5, 4)) -> NDArray[np.uint8]:
    """Return a mask in which each value has as many voxels as it is great."""
    mask = np.zeros(shape, dtype=np.uint8)
    place = 3
    for value in values:
        mask.reshape(-1)[place : place + value] = value
        place += value + 1
    return mask


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """Three cases in NumPy archives, the last without a mask, and a table that names them."""
    images = {name: np.ones((6, 5, 4), dtype=np.float32) for name in ("p", "q", "r")}
    np.savez(
        tmp_path / "images.npz", **{name: image * index for index, (name, image) in enumerate(images.items())}
    )
    np.savez(tmp_path / "masks.npz", p=mask_of(1), q=mask_of(1, 2))
    (tmp_path / "cases.csv").write_text(
        "image,mask,patient,split,sex,cyst,PanNET\n"
        "images.npz::p,masks.npz::p,1,train,f,1,0\n"
        "images.npz::q,masks.npz::q,2,val,m,,1\n"
        "images.npz::r,,1,train,f,0,\n"
    )
    return tmp_path


def test_a_table_names_images_masks_and_what_holds_for_a_case(archive: Path) -> None:
    options = source(path=archive / "cases.csv", masks={"labels": LABELS}, classes=("cyst", "PanNET"))
    table = options.read(["sex"])
    assert table.classes == ("PDAC", "cyst", "PanNET")
    # the mask of p shows no cyst, whatever the table says; r has no mask
    assert table.labels.tolist() == [[1, 0, 0], [1, 1, 1], [-1, 0, -1]]
    assert [Path(path).name for path in table.masks] == ["masks.npz::p", "masks.npz::q", ""]
    assert list(table.names) == ["images.npz::p", "images.npz::q", "images.npz::r"]
    assert list(table.groups) == ["1", "2", "1"]
    assert list(table.splits) == ["train", "val", "train"]
    assert list(table.subgroups["sex"]) == ["female", "male", "female"]
    assert table.mask_values == {"a": LABELS}
    assert table.drawn(0) == {1: 0, 2: 1}
    assert table.drawn(2) == {}
    assert table.notes == (
        "1 of its 3 cases have no mask: nothing is drawn in them",
        "1 cases are positive for 'cyst' by the table though their masks do not show it: the mask counts (the first "
        f"is {archive}/images.npz::p)",
    )


def test_the_report_counts_cases_and_voxels(archive: Path) -> None:
    assembly = assemble([source(path=archive / "cases.csv", masks={"labels": LABELS})])
    assert assembly.report.masks.to_dict("records") == [
        {"source": "a", "class": "PDAC", "drawn": 2, "shown": 2, "voxels": 2, "smallest": 1, "largest": 1},
        {"source": "a", "class": "cyst", "drawn": 2, "shown": 1, "voxels": 2, "smallest": 2, "largest": 2},
    ]
    assert "masks of each source, in cases and voxels" in assembly.report.to_text()
    assert assembly.table.groups.tolist() == ["a:1", "a:2", "a:1"]


def test_what_is_hidden_is_not_drawn(archive: Path) -> None:
    options = source(path=archive / "cases.csv", masks={"labels": LABELS}, hide=("cyst",))
    assembly = assemble([options])
    assert assembly.table.drawn(1) == {1: 0}
    assert assembly.hidden is not None
    assert [assembly.hidden.drawn(row) for row in range(2)] == [{2: 1}, {2: 1}]
    assert assembly.report.masks["class"].tolist() == ["PDAC"]
    few = options.model_copy(update={"hide": (), "labelled": {"PDAC": 0}})
    table = assemble([few]).table
    assert table.drawn(0) == {2: 1}
    assert table.drawn(1) == {1: 0, 2: 1}  # not in train


def test_names_of_masks_are_those_of_the_taxonomy(archive: Path, tmp_path: Path) -> None:
    taxonomy = tmp_path / "t.yaml"
    taxonomy.write_text(
        "classes:\n"
        "  - {name: pancreatic cancer, synonyms: [PDAC]}\n"
        "  - {name: pancreatic cyst, synonyms: [cyst]}\n"
    )
    options = source(path=archive / "cases.csv", masks={"labels": LABELS})
    table = assemble([options], taxonomy=Taxonomy.load(str(taxonomy))).table
    assert table.classes == ("pancreatic cancer", "pancreatic cyst")
    assert table.drawn(1) == {1: 0, 2: 1}


def test_two_sources_draw_each_their_own(archive: Path) -> None:
    cysts = source(name="b", path=archive / "cases.csv", masks={"labels": {1: "PanNET", 2: "cyst"}}, limit=1)
    table = assemble([source(path=archive / "cases.csv", masks={"labels": LABELS}, limit=2), cysts]).table
    assert table.mask_values == {"a": LABELS, "b": {1: "PanNET", 2: "cyst"}}


def test_the_row_with_the_mask_stands_for_an_image_of_two_sources(archive: Path) -> None:
    plain = source(name="b", path=archive / "cases.csv", classes=("PanNET",))
    assembly = assemble([plain, source(path=archive / "cases.csv", masks={"labels": LABELS})])
    assert len(assembly.table) == 3
    assert assembly.table.sources.tolist() == ["a", "a", "b"]
    assert assembly.table.drawn(0) == {1: 1, 2: 2}
    assert assembly.table.labels[0].tolist() == [0, 1, 0]
    again = source(name="c", path=archive / "cases.csv", masks={"labels": {1: "PanNET", 2: "cyst"}})
    both = assemble([source(path=archive / "cases.csv", masks={"labels": LABELS}), again])
    assert any(note.startswith("2 images have masks in several rows") for note in both.report.notes)
    assert both.table.sources.tolist() == ["a", "a", "a", "c", "c"]
    assert [list(both.table.drawn(row)) for row in range(5)] == [[1, 2], [1, 2], [], [1], [1]]


def test_what_a_mask_shows_counts_against_another_source(archive: Path) -> None:
    (archive / "said.csv").write_text("image,patient,split,PDAC,cyst\nimages.npz::p,1,train,0,1\n")
    drawn = source(path=archive / "cases.csv", masks={"labels": LABELS})
    said = source(name="b", path=archive / "said.csv", classes=("PDAC", "cyst"))
    for sources in ([drawn, said], [said, drawn]):
        assembly = assemble(sources)
        table = assembly.table
        row = [Path(path).name for path in table.paths].index("images.npz::p")
        assert table.labels[row, [table.column(name) for name in LABELS.values()]].tolist() == [1, -2]
        assert table.drawn(row) == {1: table.column("PDAC")}
        results = dict(
            zip(assembly.report.conflicts["class"], assembly.report.conflicts["result"], strict=True)
        )
        assert results == {"PDAC": "the mask counts", "cyst": "uncertain"}


def test_what_a_drawn_class_implies_is_not_absent(archive: Path) -> None:
    (archive / "said.csv").write_text("image,patient,split,PDAC,disease\nimages.npz::p,1,train,0,0\n")
    (archive / "t.yaml").write_text(
        "classes:\n  - {name: PDAC, implies: [disease]}\n  - {name: disease}\n  - {name: cyst}\n"
    )
    drawn = source(path=archive / "cases.csv", masks={"labels": LABELS})
    said = source(name="b", path=archive / "said.csv", classes=("PDAC", "disease"))
    assembly = assemble([drawn, said], taxonomy=Taxonomy.load(str(archive / "t.yaml")))
    table = assembly.table
    row = [Path(path).name for path in table.paths].index("images.npz::p")
    assert table.labels[row, [table.column(name) for name in ("PDAC", "disease")]].tolist() == [1, -2]
    results = assembly.report.conflicts.set_index("class")["result"]
    assert results["disease"] == "uncertain, implied by PDAC"


def test_a_patient_has_one_class_at_most(archive: Path) -> None:
    options = source(
        path=archive / "cases.csv", masks={"labels": {1: "PDAC", 2: "PDAC"}}, exclusive="patient"
    )
    (archive / "other.csv").write_text("image,cyst\nimages.npz::r,1\n")
    cyst = source(name="c", path=archive / "other.csv", classes=("cyst",), patients="a")
    assembly = assemble([options, cyst])
    table = assembly.table
    assert table.classes == ("PDAC", "cyst")
    # r is of the patient of p, in whom PDAC is drawn
    assert table.labels.tolist() == [[1, 0], [1, 0], [0, 1]]
    assert table.origins.tolist() == [[0, 4], [0, 4], [4, 0]]
    assert any("1 patients have several classes" in note for note in assembly.report.notes)
    assert assembly.voxel_exclusions.matrices[assembly.voxel_exclusions.rows[0]].tolist() == [
        [False, True],
        [True, False],
    ]


def test_a_voxel_has_one_class_at_most(archive: Path) -> None:
    drawn = source(path=archive / "cases.csv", masks={"labels": LABELS}, exclusive="voxel")
    other = source(name="b", path=archive / "cases.csv", classes=("PanNET",))
    assembly = assemble([drawn, other])
    assert not assembly.exclusions
    held = assembly.voxel_exclusions
    assert held.matrices[held.rows[0]].tolist() == (~np.eye(3, dtype=bool)).tolist()
    assert (assembly.table.origins == 0).all()
    assert not [note for note in assembly.report.notes if "exclusive" in note]
    with pytest.raises(LabelAssembleError, match=r"exclusive: 'voxel' is about what masks draw"):
        assemble([other.model_copy(update={"exclusive": "voxel"})])


def test_patterns_find_files_and_their_masks(tmp_path: Path) -> None:
    for split, count in (("train", 2), ("test", 1)):
        for index in range(count):
            folder = tmp_path / split / f"P{index}_{split}"
            folder.mkdir(parents=True)
            Image.fromarray(np.full((6, 5), 40 * index, dtype=np.uint8)).save(folder / "image.png")
            Image.fromarray(mask_of(1, shape=(6, 5))).save(folder / "mask.png")
            (folder / "._image.png").write_bytes(b"left by a Mac")
    options = source(
        root=tmp_path,
        images="*/*/*.png",
        masks={"labels": LABELS, "files": "{}/{}/mask.png"},
        patient_pattern="(P[0-9]+)_",
    )
    table = options.read()
    assert list(table.names) == [
        "test/P0_test/image.png",
        "train/P0_train/image.png",
        "train/P1_train/image.png",
    ]
    assert list(table.splits) == ["test", "trainval", "trainval"]  # nothing is for validation
    assert list(table.groups) == ["P0", "P0", "P1"]
    assert [Path(mask).name for mask in table.masks] == ["mask.png"] * 3
    assert table.labels.tolist() == [[1, 0]] * 3


@pytest.mark.parametrize("joined", [False, True])
def test_archives_with_stacks_and_a_table_each(tmp_path: Path, joined: bool) -> None:
    rng = np.random.default_rng(0)
    for split in ("train", "val", "test"):
        images = rng.integers(0, 255, (3, 6, 5)).astype(np.uint8)
        if joined:
            encoded = []
            for image in images:
                Image.fromarray(image).save(tmp_path / "one.png")
                encoded.append((tmp_path / "one.png").read_bytes())
            data = np.frombuffer(b"".join(encoded), dtype=np.uint8)
            offsets = np.cumsum([0, *map(len, encoded)])
            np.savez(tmp_path / f"{split}_images.npz", jpeg=data, offsets=offsets)
        else:
            np.savez(tmp_path / f"{split}_images.npz", images=images)
        masks = np.stack([mask_of(1, shape=(6, 5)), mask_of(2, shape=(6, 5)), mask_of(shape=(6, 5))])
        np.savez_compressed(tmp_path / f"{split}_masks.npz", masks=masks)
        (tmp_path / f"{split}.csv").write_text(f"patient\n{split}1\n{split}2\n{split}2\n")
    options = source(
        root=tmp_path,
        images="*_images.npz",
        path=tmp_path / "{}.csv",
        masks={"labels": LABELS, "files": "{}_masks.npz"},
    )
    table = options.read()
    assert list(table.splits) == ["test"] * 3 + ["train"] * 3 + ["val"] * 3
    assert list(table.groups) == [f"{split}{i}" for split in ("test", "train", "val") for i in (1, 2, 2)]
    assert table.labels.tolist() == [[1, 0], [0, 1], [0, 0]] * 3
    np.testing.assert_array_equal(read_volume(table.paths[2]).values, images[2])
    np.testing.assert_array_equal(read_mask(table.masks[1]).values, masks[1])
    assert read_grid(table.paths[8]).shape == (6, 5)
    (tmp_path / "val.csv").write_text("patient\n1\n")
    with pytest.raises(LabelAssembleError, match=r"val\.csv: must have a row per image of .* \(3\), got 1"):
        options.read()


def test_archives_with_a_case_a_key_and_a_table_by_name(tmp_path: Path) -> None:
    shapes = {"c1": (6, 5, 4), "c2": (4, 4, 4), "c3": (3, 4, 5)}
    np.savez(tmp_path / "i.npz", **{name: np.ones(shape) for name, shape in shapes.items()})
    np.savez(tmp_path / "m.npz", **{name: mask_of(1, shape=shape) for name, shape in shapes.items()})
    (tmp_path / "t.csv").write_text("case,PanNET\nc2,0\nc9,1\nc1,1\n")
    options = source(
        root=tmp_path,
        images="i.npz",
        path=tmp_path / "t.csv",
        name_column="case",
        classes=("PanNET",),
        masks={"labels": {1: "PDAC"}, "files": "m.npz"},
    )
    table = options.read()
    assert table.labels.tolist() == [[1, 1], [1, 0], [1, -1]]
    assert table.notes == (
        "1 of its 3 cases have no row in its table: it says nothing of them",
        "1 rows of its table are of cases that `images` did not find: they are left out",
    )
    (tmp_path / "t.csv").write_text("case,PanNET\nc2,0\nc2,1\n")
    with pytest.raises(LabelAssembleError, match="the case 'c2' has two rows"):
        options.read()
    (tmp_path / "t.csv").write_text("case,PanNET\nx,0\n")
    with pytest.raises(LabelAssembleError, match=r"no row is of a case .* such as 'c1' and 'x'"):
        options.read()


def nifti(path: Path, values: NDArray[Any], affine: NDArray[np.float64] | None = None) -> Path:
    nibabel = pytest.importorskip("nibabel")
    affine = np.diag([1.0, 1.0, 2.0, 1.0]) if affine is None else affine
    nibabel.save(nibabel.Nifti1Image(values, affine), path)
    return path


def one_case(folder: Path, image: str, mask: str) -> VolumesSource:
    (folder / "cases.csv").write_text(f"image,mask\n{image},{mask}\n")
    return source(path=folder / "cases.csv", masks={"labels": LABELS})


def moved(by: float) -> NDArray[np.float64]:
    affine = np.diag([1.0, 1.0, 2.0, 1.0])
    affine[0, 3] = by
    return affine


MISTAKES = [
    (mask_of(1, shape=(6, 5, 3)), None, r"the shape of its image, \[6, 5, 4\] \(.*i\.nii\), got \[6, 5, 3\]"),
    (
        mask_of(1),
        np.diag([1.0, 1.0, 2.5, 1.0]),
        r"the spacing of its image, 1 x 1 x 2 mm \(.*i\.nii\), got 1 x 1 x 2\.5",
    ),
    (mask_of(1), np.diag([-1.0, 1.0, 2.0, 1.0]), r"the orientation of its image, RAS \(.*i\.nii\), got LAS"),
    (mask_of(1), moved(0.5), r"must lie where its image lies \(.*i\.nii\), got one shifted by 0\.5 mm"),
    (mask_of(1, 3), None, r"3 voxels have the value 3, which `masks: labels` does not name \(1, 2\)"),
    (mask_of(1) * np.float32(0.5), None, r"a mask must hold whole numbers, got 0\.5"),
    (mask_of(1) * np.float32(np.nan), None, "a mask must hold whole numbers, got nan"),
    (mask_of(1).astype(np.int16) * -1, None, r"whole numbers from 0 to 65535, got -1 to 0"),
    (mask_of(1, shape=(6, 5, 4, 2)), None, r"a volume must have 2 or 3 axes, got \[6, 5, 4, 2\]"),
]


@pytest.mark.parametrize(("values", "affine", "message"), MISTAKES)
def test_a_mask_that_does_not_fit_is_one_sentence(
    tmp_path: Path, values: NDArray[Any], affine: NDArray[np.float64] | None, message: str
) -> None:
    nifti(tmp_path / "i.nii", np.zeros((6, 5, 4), dtype=np.int16))
    nifti(tmp_path / "m.nii.gz", values, affine)
    with pytest.raises(LabelAssembleError, match=rf"^{tmp_path}/m\.nii\.gz: .*{message}"):
        one_case(tmp_path, "i.nii", "m.nii.gz").read()


def test_a_length_in_another_unit_is_one_sentence(tmp_path: Path) -> None:
    nibabel = pytest.importorskip("nibabel")
    image = nibabel.Nifti1Image(np.zeros((6, 5, 4), dtype=np.int16), np.diag([0.4, 0.4, 0.4, 1.0]))
    image.header.set_xyzt_units("micron")
    nibabel.save(image, tmp_path / "i.nii")
    with pytest.raises(LabelAssembleError, match=r"i\.nii: its header says that lengths are in micrometres"):
        read_volume(f"{tmp_path}/i.nii")


@pytest.mark.parametrize("name", ["i.nii", "i.nii.gz"])
def test_a_header_that_lies_about_its_size_takes_no_memory(tmp_path: Path, name: str) -> None:
    path = nifti(tmp_path / name, np.zeros((6, 5, 4), dtype=np.int16))
    data = gzip.decompress(path.read_bytes()) if name.endswith(".gz") else path.read_bytes()
    data = data[:42] + np.array([30000] * 3, dtype="<i2").tobytes() + data[48:]
    path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    for read in (read_volume, read_grid, read_mask):
        with pytest.raises(
            LabelAssembleError, match=rf"{name}: damaged or cut off \(its header tells of 54000000000000"
        ):
            read(str(path))


def test_masks_as_they_are_usually_stored_are_taken(tmp_path: Path) -> None:
    nifti(tmp_path / "i.nii", np.zeros((6, 5, 4), dtype=np.int16))
    for values in (
        mask_of(1, 2).astype(np.float64),
        mask_of(1, 2)[..., None],
        mask_of(1, 2).astype(np.int32),
    ):
        nifti(tmp_path / "m.nii.gz", values, moved(1e-4))
        assert one_case(tmp_path, "i.nii", "m.nii.gz").read().labels.tolist() == [[1, 1]]
        assert read_mask(f"{tmp_path}/m.nii.gz").values.dtype == np.uint8


@pytest.mark.parametrize("name", ["m.nii.gz", "m.nii", "m.png", "m.npz"])
@pytest.mark.parametrize("damage", ["missing", "empty", "cut", "other"])
def test_a_damaged_mask_is_one_sentence(tmp_path: Path, name: str, damage: str) -> None:
    np.savez(tmp_path / "i.npz", i=np.zeros((6, 5) if name == "m.png" else (6, 5, 4)))
    path = tmp_path / name
    if name == "m.png":
        Image.fromarray(mask_of(1, shape=(6, 5))).save(path)
    elif name == "m.npz":
        np.savez(path, m=mask_of(1))
    else:
        nifti(path, mask_of(1))
    data = path.read_bytes()
    path.unlink()
    if damage != "missing":
        path.write_bytes({"empty": b"", "cut": data[: len(data) // 2], "other": b"no mask at all"}[damage])
    mask = f"{name}::m" if name == "m.npz" else name
    with pytest.raises(LabelAssembleError, match=rf"^{path}"):
        one_case(tmp_path, "i.npz::i", mask).read()


def test_a_truncated_stream_is_damage(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 2, (40, 40, 40)).astype(np.uint8)
    path = nifti(tmp_path / "m.nii.gz", values)
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(LabelAssembleError, match=r"m\.nii\.gz: damaged or cut off"):
        read_mask(str(path))
    with gzip.open(path, "wb") as file:
        file.write(b"\0" * 400)
    with pytest.raises(LabelAssembleError, match=r"m\.nii\.gz: (damaged|not a NIfTI file)"):
        read_volume(str(path))


def test_masks_that_are_images(tmp_path: Path) -> None:
    values = mask_of(1, 2, shape=(6, 5))
    palette = Image.fromarray(values).convert("P")
    palette.putdata(values.reshape(-1).tolist())
    palette.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0] + [0] * 759)
    palette.save(tmp_path / "p.png")
    np.testing.assert_array_equal(read_mask(f"{tmp_path}/p.png").values, values)
    Image.fromarray(values.astype(np.uint16) * 300).save(tmp_path / "d.png")
    assert read_mask(f"{tmp_path}/d.png").values.max() == 600
    Image.fromarray(values > 0).save(tmp_path / "b.png")
    assert read_mask(f"{tmp_path}/b.png").values.max() == 1
    Image.fromarray(np.stack([values] * 3, axis=2)).save(tmp_path / "c.png")
    with pytest.raises(LabelAssembleError, match="one channel of whole numbers, got RGB"):
        read_mask(f"{tmp_path}/c.png")
    Image.fromarray(values * 100).save(tmp_path / "j.jpg")
    Image.fromarray(values * 100).save(tmp_path / "j.tif", compression="jpeg")
    for name in ("j.jpg", "j.tif"):
        with pytest.raises(LabelAssembleError, match=r"without loss \(PNG\), got JPEG"):
            read_mask(f"{tmp_path}/{name}")


def test_sixteen_bits_of_a_slice_stay_as_they_are(tmp_path: Path) -> None:
    values = np.arange(30, dtype=np.uint16).reshape(6, 5) * 70
    Image.fromarray(values).save(tmp_path / "i.png")
    np.testing.assert_array_equal(read_volume(f"{tmp_path}/i.png").values, values)
    Image.fromarray(np.stack([values.astype(np.uint8)] * 3, axis=2)).save(tmp_path / "c.png")
    np.testing.assert_allclose(read_volume(f"{tmp_path}/c.png").values, values.astype(np.uint8), atol=1e-4)


def test_an_image_that_exif_turns_needs_a_word(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.zeros((6, 5), dtype=np.uint8)).save(tmp_path / "i.png", exif=exif)
    with pytest.raises(
        LabelAssembleError, match="its EXIF orientation 6 turns it, and would not turn its mask"
    ):
        read_volume(f"{tmp_path}/i.png")
    assert read_volume(f"{tmp_path}/i.png::orientation=ignore").values.shape == (6, 5)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.float32])
def test_a_tiff_and_its_mask_stay_as_they_are_stored(tmp_path: Path, kind: Any, orientation: int) -> None:
    """Pillow turns a TIFF by its orientation while it loads, and no other file."""
    values = np.arange(12).reshape(3, 4).astype(kind)
    image = tmp_path / "i.tif"
    Image.fromarray(values).save(image, tiffinfo={0x0112: orientation})
    if orientation > 1:
        with pytest.raises(LabelAssembleError, match=f"its EXIF orientation {orientation} turns it"):
            read_volume(str(image))
    as_stored = f"{image}::orientation=ignore"
    np.testing.assert_array_equal(read_volume(as_stored).values, values)
    assert read_grid(as_stored).shape == values.shape
    if kind != np.float32:
        np.testing.assert_array_equal(read_mask(str(image)).values, values)


@pytest.mark.parametrize("from_lowest", [False, True])
@pytest.mark.parametrize("white_is_zero", [False, True])
@pytest.mark.parametrize("bits", [1, 2, 4])
def test_a_tiff_mask_of_few_bits_holds_its_numbers(
    tmp_path: Path, bits: int, white_is_zero: bool, from_lowest: bool
) -> None:
    values = np.random.default_rng(bits).integers(0, 2**bits, (5, 16)).astype(np.uint8)
    each = (values[..., None] >> np.arange(bits - 1, -1, -1)) & 1
    order: Any = "little" if from_lowest else "big"
    pixels = np.packbits(each.reshape(5, -1), axis=1, bitorder=order).tobytes()
    pixels += b"\0" * (len(pixels) % 2)
    numbers = {256: 16, 257: 5, 258: bits, 259: 1, 262: int(not white_is_zero), 266: 1 + from_lowest}
    numbers |= {273: 8, 277: 1, 278: 5, 279: len(pixels)}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, number) for tag, number in numbers.items())
    start = struct.pack("<4sI", b"II*\0", 8 + len(pixels))
    (tmp_path / "m.tif").write_bytes(start + pixels + struct.pack("<H", len(numbers)) + entries + bytes(4))
    np.testing.assert_array_equal(read_mask(f"{tmp_path}/m.tif").values, values)


def test_a_mask_is_counted_in_little_memory(tmp_path: Path) -> None:
    values = np.zeros((96, 256, 256), dtype=np.uint8)  # 6 MiB
    values[3:5], values[90:, :7, :7] = 1, 200
    np.savez(tmp_path / "m.npz", m=values)
    tracemalloc.start()
    try:
        found = mask_summary(f"{tmp_path}/m.npz::m")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert found.counts == {1: 2 * 256 * 256, 200: 6 * 7 * 7}
    assert peak < 4 * values.nbytes


def test_an_image_that_is_not_there_is_left_to_whoever_reads_it(archive: Path) -> None:
    text = (archive / "cases.csv").read_text()
    (archive / "cases.csv").write_text(text.replace("images.npz::q", "gone.nii.gz"))
    table = source(path=archive / "cases.csv", masks={"labels": LABELS}).read()
    assert table.labels.tolist() == [[1, 0], [1, 1], [-1, -1]]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "`path` \\(a table\\) or `images` \\(a pattern\\) must say where the cases are"),
        ({"images": "*.nii"}, "`images` is a pattern below `root`, which must be given"),
        ({"path": "t.csv", "masks": {"labels": {1: "a"}, "files": "x"}}, "`masks: files` goes with `images`"),
        (
            {"path": "t.csv", "masks": {"labels": {0: "a"}}},
            "from 1 to 65535 \\(0 is where nothing is drawn\\), got 0",
        ),
        (
            {"path": "t.csv", "masks": {"labels": {1: "a", "1": "b"}}},
            "the value 1 stands for two classes, 'a' and 'b'",
        ),
        ({"path": "t.csv", "masks": {"labels": {1.5: "a"}}}, "a whole number .* got 1.5"),
        ({"path": "t.csv", "masks": {"labels": {}}}, "at least one entry|at least 1 item"),
        (
            {"path": "t.csv", "masks": {"label": {1: "a"}}},
            "unknown key 'sources.0.masks.label', did you mean 'labels'",
        ),
        ({"root": "r", "images": "*", "classes": ["a"]}, "`classes` are columns of the table"),
        ({"root": "r", "images": "*", "patient_pattern": "P[0-9]"}, "must have a group in brackets"),
        ({"path": "t.csv", "patient_pattern": "(P)"}, "`patient_pattern` goes with `images`"),
    ],
)
def test_a_wrong_option_is_one_sentence(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    values = {"sources": [{"name": "a", "reader": "volumes", **options}], "volumes": {"patch": [8, 8]}}
    with pytest.raises(LabelAssembleError, match=message):
        make_config(values, base=tmp_path)


def test_volumes_need_their_section(tmp_path: Path) -> None:
    values = {"sources": [{"name": "a", "reader": "volumes", "path": "t.csv", "masks": {"labels": {1: "b"}}}]}
    with pytest.raises(
        LabelAssembleError, match="source 'a' has volumes or slices, and the section `volumes`"
    ):
        make_config(values, base=tmp_path)
    config = make_config({**values, "volumes": {"patch": [64, 64]}}, base=tmp_path)
    (tmp_path / "again.yaml").write_text(config.to_yaml())
    assert load_config(tmp_path / "again.yaml") == config


@pytest.mark.parametrize(
    ("images", "files", "message"),
    [
        ("*.nii", "{}", r"images: nothing below .* matches '\*\.nii'"),
        ("*.npz", "{}_m.nii", r"no image has a mask, the first would be .*/i_m\.nii"),
        ("i.npz", "{}", r"'\{\}' has more \{\} than `images` has \*, 'i\.npz' \(0\)"),
    ],
)
def test_a_pattern_that_finds_nothing_is_one_sentence(
    tmp_path: Path, images: str, files: str, message: str
) -> None:
    np.savez(tmp_path / "i.npz", a=np.zeros((3, 3)))
    with pytest.raises(LabelAssembleError, match=message):
        source(root=tmp_path, images=images, masks={"labels": LABELS, "files": files}).read()


def test_a_source_without_classes_or_patients_is_one_sentence(tmp_path: Path) -> None:
    np.savez(tmp_path / "i.npz", a=np.zeros((3, 3)))
    with pytest.raises(LabelAssembleError, match="neither `masks: labels` nor `classes` names a class"):
        source(root=tmp_path, images="i.npz").read()
    np.savez(tmp_path / "m.npz", a=mask_of(1, shape=(3, 3)))
    masks = {"labels": LABELS, "files": "m.npz"}
    with pytest.raises(LabelAssembleError, match=r"'\(X\)' finds no patient in 'i\.npz::a'"):
        source(root=tmp_path, images="i.npz", masks=masks, patient_pattern="(X)").read()


def test_a_mask_column_without_masks_is_one_sentence(archive: Path) -> None:
    text = (archive / "cases.csv").read_text().replace("masks.npz::p", "").replace("masks.npz::q", "")
    (archive / "cases.csv").write_text(text)
    with pytest.raises(LabelAssembleError, match="it has `masks`, and none of its cases has one"):
        source(path=archive / "cases.csv", masks={"labels": LABELS}).read()


def test_without_nibabel_the_error_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = nifti(tmp_path / "m.nii.gz", mask_of(1))
    monkeypatch.setitem(sys.modules, "nibabel", None)
    with pytest.raises(
        LabelAssembleError, match=r"m\.nii\.gz: needs nibabel: pip install 'labelassemble\[ct\]'"
    ):
        read_mask(str(path))


def test_the_same_volume_twice_is_found_by_its_content(tmp_path: Path) -> None:
    volume = np.random.default_rng(0).normal(size=(6, 5, 4)).astype(np.float32)
    np.savez(tmp_path / "i.npz", a=volume, b=volume, c=volume + 1)
    np.savez(tmp_path / "m.npz", a=mask_of(1), b=mask_of(1), c=mask_of(1))
    options = source(root=tmp_path, images="i.npz", masks={"labels": LABELS, "files": "m.npz"})
    assembly = assemble([options], duplicates="content")
    assert len(assembly.table) == 2
    assert not any("could not be read" in note for note in assembly.report.notes)
    looks = assemble([options], duplicates="looks").report
    assert len(looks.alike) == 1  # of c, whose voxels are those of a and one more
    assert not any("could not be read" in note for note in looks.notes)


def test_a_volume_that_is_stored_the_other_way_round_looks_the_same(tmp_path: Path) -> None:
    nibabel = pytest.importorskip("nibabel")
    values = np.random.default_rng(0).normal(size=(20, 18, 8)).cumsum(axis=0).astype(np.float32)
    image = nibabel.Nifti1Image(values, np.diag([1.0, 1.0, 2.0, 1.0]))
    nibabel.save(image, tmp_path / "a.nii.gz")
    for name, to in (("b.nii", "LPS"), ("c.nii.gz", "ILA"), ("d.nii.gz", "PSR")):
        turned = nibabel.orientations.ornt_transform(
            nibabel.orientations.io_orientation(image.affine), nibabel.orientations.axcodes2ornt(tuple(to))
        )
        nibabel.save(image.as_reoriented(turned), tmp_path / name)
    other = nibabel.Nifti1Image(values[::-1].copy(), image.affine)  # another side of the body
    nibabel.save(other, tmp_path / "e.nii.gz")
    paths = text_array(
        [f"{tmp_path}/{name}" for name in ("a.nii.gz", "b.nii", "c.nii.gz", "d.nii.gz", "e.nii.gz")]
    )
    found = find_duplicates(paths, "looks")
    assert found.alike.tolist() == [[0, 1], [0, 2], [0, 3]]
    assert len(found.unread) == 0


def test_a_table_with_masks_goes_through_a_file(archive: Path, tmp_path: Path) -> None:
    table = assemble([source(path=archive / "cases.csv", masks={"labels": LABELS})]).table
    table.to_csv(tmp_path / "table.csv")
    back = Table.from_csv(tmp_path / "table.csv")
    assert back == table
    assert [back.drawn(row) for row in range(3)] == [table.drawn(row) for row in range(3)]
