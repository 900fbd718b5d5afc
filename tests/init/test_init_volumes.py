"""`labelassemble init` on folders and tables of volumes: image and mask of each case are found, and it assembles."""

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from labelassemble.config import load_config
from labelassemble.data import assemble
from labelassemble.init.mask_patterns import is_dicom_file

nibabel = pytest.importorskip("nibabel")

Cli = Callable[..., tuple[int, str, str]]


def nifti(path: Path, *values: int, low: int = 0) -> None:
    """Write a volume or mask of 20 x 18 x 6 voxels of 1 x 1 x 2 mm that holds some values."""
    voxels = np.zeros((20, 18, 6), dtype=np.int16)
    voxels.reshape(-1)[: len(values)] = values
    voxels[5:7] += low
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(voxels, np.diag([1.0, 1.0, 2.0, 1.0])), path)


def decathlon(data: Path) -> None:
    for case in ("pancreas_001", "pancreas_010", "pancreas_100"):
        nifti(data / "imagesTr" / f"{case}.nii.gz", low=-1000)
        nifti(data / "labelsTr" / f"{case}.nii.gz", 1, 2)
    nifti(data / "imagesTs" / "pancreas_002.nii.gz")
    (data / "imagesTr" / "._pancreas_001.nii.gz").write_bytes(b"left by a Mac")
    labels = {"0": "background", "1": "pancreas", "2": "cancer"}
    (data / "dataset.json").write_text(json.dumps({"modality": {"0": "CT"}, "labels": labels}))


def nnunet(data: Path) -> None:
    for case in ("a_1", "a_10"):
        nifti(data / "imagesTr" / f"{case}_0000.nii.gz")
        nifti(data / "imagesTr" / f"{case}_0001.nii.gz")
        nifti(data / "labelsTr" / f"{case}.nii.gz", 1, 2)
    labels = {"background": 0, "whole": [1, 2], "organ": 1, "tumour": 2}
    (data / "dataset.json").write_text(json.dumps({"channel_names": {"0": "T1"}, "labels": labels}))


def brats(data: Path) -> None:
    for index in range(1, 103):  # more folders than are looked into
        case = f"BraTS20_Training_{index:03}"
        folder = data / case
        folder.mkdir(parents=True)
        if index <= 4:
            for kind in ("flair", "t1", "t1ce", "t2"):
                nifti(folder / f"{case}_{kind}.nii.gz")
            nifti(folder / f"{case}_seg.nii.gz", 1, 2, 4)


def kits(data: Path) -> None:
    for case in ("case_00000", "case_00001"):
        nifti(data / case / "imaging.nii.gz", low=-900)
        nifti(data / case / "segmentation.nii.gz", 1, 2)


def lits(data: Path) -> None:
    for index in (0, 1, 10):
        nifti(data / f"volume-{index}.nii", low=-900)
        nifti(data / f"segmentation-{index}.nii", 1, 2)


def split_folders(data: Path) -> None:
    for split in ("train", "val", "test"):
        for index in range(2):
            nifti(data / split / "images" / f"{split}{index}.nii.gz")
            nifti(data / split / "masks" / f"{split}{index}_mask.nii.gz", 1, 2)


@pytest.mark.parametrize(
    ("layout", "images", "masks", "cases", "names"),
    [
        (decathlon, "imagesTr/*.nii.gz", "labelsTr/{}.nii.gz", 3, ("pancreas", "cancer")),
        (nnunet, "imagesTr/*_0000.nii.gz", "labelsTr/{}.nii.gz", 2, ("organ", "tumour")),
        (brats, "*/*_flair.nii.gz", "{}/{}_seg.nii.gz", 4, ("value 1", "value 2", "value 4")),
        (kits, "*/imaging.nii.gz", "{}/segmentation.nii.gz", 2, ("value 1", "value 2")),
        (lits, "volume-*.nii", "segmentation-{}.nii", 3, ("value 1", "value 2")),
        (split_folders, "*/images/*.nii.gz", "{}/masks/{}_mask.nii.gz", 6, ("value 1", "value 2")),
    ],
)
def test_layouts_of_volumes(
    tmp_path: Path,
    cli: Cli,
    layout: Callable[[Path], None],
    images: str,
    masks: str,
    cases: int,
    names: tuple[str, ...],
) -> None:
    layout(tmp_path / "data")
    status, _, err = cli("init", tmp_path / "data", "-o", tmp_path / "c.yaml")
    assert status == 0, err
    config = load_config(tmp_path / "c.yaml")
    source: Any = config.sources[0]
    assert (source.reader, source.images, source.masks.files) == ("volumes", images, masks)
    assert config.volumes is not None
    assert config.volumes.patch == (16, 16, 16)
    assert config.volumes.spacing == (1.0, 1.0, 2.0)
    assert config.volumes.window == ((-100, 240) if layout in (decathlon, kits, lits) else None)
    table = assemble(config.sources).table
    assert table.classes == names
    assert len(table) == cases == int((table.masks != "").sum())
    assert (table.labels == 1).all()
    assert ("nothing says what the values" in err) == (names[0] == "value 1")
    assert "is taken for a patient of its own" in err
    assert ("a network sees one" in err) == (layout in (nnunet, brats))
    assert len(set(table.groups)) == cases  # which `split` divides, except where folders say the split
    if layout is split_folders:
        assert all(f"/{split}/" in path for path, split in zip(table.paths, table.splits, strict=True))
    assert f"{cases} cases, {cases} of them with a mask" in (tmp_path / "c.yaml").read_text()


def test_the_axes_of_spacing_and_patch_are_those_of_the_patient(tmp_path: Path, cli: Cli) -> None:
    """Sagittal slices of 4 mm: the first axis of the files runs to the back, the second to the head."""
    affine = np.array([[0, 0, 4.0, 0], [-0.5, 0, 0, 0], [0, 0.6, 0, 0], [0, 0, 0, 1]])
    for folder in ("imagesTr", "labelsTr"):
        (tmp_path / "data" / folder).mkdir(parents=True)
        for index in range(2):
            voxels = np.ones((80, 64, 20), dtype=np.int16)
            nibabel.save(nibabel.Nifti1Image(voxels, affine), tmp_path / "data" / folder / f"a{index}.nii")
    status, _, err = cli("init", tmp_path / "data", "-o", tmp_path / "c.yaml")
    assert status == 0, err
    config = load_config(tmp_path / "c.yaml")
    assert config.volumes is not None
    assert config.volumes.spacing == (4.0, 0.5, 0.6)
    assert config.volumes.patch == (16, 80, 64)


def test_slices_and_their_masks(tmp_path: Path, cli: Cli) -> None:
    for index in range(3):
        for folder, value in (("images", 90 + index), ("masks", index)):
            (tmp_path / "data" / folder).mkdir(parents=True, exist_ok=True)
            pixels = np.full((40, 70), value, dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "data" / folder / f"{index}.png")
    status, _, err = cli("init", tmp_path / "data", "-o", tmp_path / "c.yaml")
    assert status == 0, err
    config = load_config(tmp_path / "c.yaml")
    assert config.volumes is not None
    assert config.volumes.patch == (32, 64)
    assert assemble(config.sources).table.labels.tolist() == [[0, 0], [1, 0], [0, 1]]


def test_a_table_of_volumes(tmp_path: Path, cli: Cli) -> None:
    for name in ("a", "b", "c"):
        nifti(tmp_path / "scans" / f"{name}.nii.gz")
    nifti(tmp_path / "drawn" / "a.nii.gz", 1)
    nifti(tmp_path / "drawn" / "b.nii.gz", 1, 3)
    (tmp_path / "cases.csv").write_text(
        "image,mask,patient,split,cyst\nscans/a.nii.gz,drawn/a.nii.gz,p1,train,0\n"
        "scans/b.nii.gz,drawn/b.nii.gz,p2,val,1\nscans/c.nii.gz,,p3,test,\n"
    )
    status, _, err = cli("init", tmp_path / "cases.csv", "-o", tmp_path / "c.yaml")
    assert status == 0, err
    assert "nothing says what the values 1, 3 of the masks stand for" in err
    table = assemble(load_config(tmp_path / "c.yaml").sources).table
    assert table.classes == ("value 1", "value 3", "cyst")
    assert table.labels.tolist() == [[1, 0, 0], [1, 1, 1], [-1, -1, -1]]
    assert table.groups.tolist() == ["cases:p1", "cases:p2", "cases:p3"]
    assert table.splits.tolist() == ["train", "val", "test"]


def test_volumes_without_masks_are_one_sentence(tmp_path: Path, cli: Cli) -> None:
    nifti(tmp_path / "data" / "a.nii.gz")
    status, _, err = cli("init", tmp_path / "data", "-o", tmp_path / "c.yaml")
    assert status == 2
    assert err.count("\n") == 1
    assert "holds volumes and no masks" in err


def png(path: Path, pixels: "np.ndarray[Any, Any]") -> None:
    """Write an image file of the given pixels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def noise(*shape: int) -> "np.ndarray[Any, Any]":
    """Return pixels as those of a photograph: many values, none of which is a class."""
    return np.random.default_rng(sum(shape)).integers(0, 255, shape).astype(np.uint8)


@pytest.mark.parametrize(
    ("folder", "shape"),
    [
        ("lesion", (24, 24)),
        ("lesion", (24, 24, 3)),
        ("roi", (24, 24)),
        ("Label", (24, 24)),
        ("mask", (24, 24, 3)),
    ],
)
def test_folders_of_classes_whose_names_may_mean_masks_are_classes(
    tmp_path: Path, cli: Cli, folder: str, shape: tuple[int, ...]
) -> None:
    for name in (folder, "normal", "benign"):
        for index in range(4):
            png(tmp_path / "data" / name / f"{index}.png", noise(*shape))
    status, _, err = cli("init", tmp_path / "data", "-o", tmp_path / "c.yaml")
    assert status == 0, err
    config = load_config(tmp_path / "c.yaml")
    assert (config.volumes, config.sources[0].reader) == (None, "csv")
    assert set(assemble(config.sources).table.classes) == {folder, "normal", "benign"}


def test_flat_pictures_in_a_folder_of_lesions_are_a_class_and_beside_images_they_are_masks(
    tmp_path: Path, cli: Cli
) -> None:
    for other, reader in (("normal", "csv"), ("images", "volumes")):
        data = tmp_path / other
        for index in range(3):
            png(data / "lesions" / f"{index}.png", np.full((20, 20), index, np.uint8))
            png(data / other / f"{index}.png", noise(20, 20))
        status, _, err = cli("init", data, "-o", tmp_path / f"{other}.yaml")
        assert status == 0, err
        assert load_config(tmp_path / f"{other}.yaml").sources[0].reader == reader


@pytest.mark.parametrize(
    ("mask", "shape", "reason"),
    [
        ("masks/{}.png", (30, 30, 3), "must have one channel of whole numbers, got RGB"),
        ("masks/{}.jpg", (30, 30), "must be stored without loss"),
        ("masks/{}.png", (30, 30), "values, and a mask has at most 16 classes"),
        ("masks/{}.png", (0, 31), r"must have the shape of its image, \[30, 30\]"),
        ("images/{}_seg.png", (30, 30, 3), "must have one channel of whole numbers, got RGB"),
    ],
)
def test_files_that_are_called_masks_and_are_none_are_one_sentence(
    tmp_path: Path, cli: Cli, mask: str, shape: tuple[int, ...], reason: str
) -> None:
    for index in range(3):
        png(tmp_path / "data" / "images" / f"{index}.png", noise(30, 30))
        pixels = noise(*shape) if shape[0] else np.full((31, 31), 1, np.uint8)
        png(tmp_path / "data" / mask.format(index), pixels)
    status, _, err = cli("init", tmp_path / "data", "-o", tmp_path / "c.yaml")
    assert (status, err.count("\n")) == (2, 1), err
    assert re.search(reason, err), err
    assert "are masks of images/*.png" in err


def test_folders_of_volumes_that_are_no_masks_are_no_source(tmp_path: Path, cli: Cli) -> None:
    for folder in ("lesion", "normal"):
        for index in range(2):
            nifti(tmp_path / "data" / folder / f"{index}.nii.gz", low=-1000)
    status, _, err = cli("init", tmp_path / "data", "-o", tmp_path / "c.yaml")
    assert (status, err.count("\n")) == (2, 1), err
    assert "holds volumes and no masks" in err


def test_a_column_of_masks_that_are_none_is_one_sentence(tmp_path: Path, cli: Cli) -> None:
    for index in range(2):
        png(tmp_path / f"{index}.png", noise(20, 20))
        png(tmp_path / f"m{index}.png", noise(20, 20))
    (tmp_path / "t.csv").write_text("image,mask\n0.png,m0.png\n1.png,m1.png\n")
    status, _, err = cli("init", tmp_path / "t.csv", "-o", tmp_path / "c.yaml")
    assert (status, err.count("\n")) == (2, 1), err
    assert "column 'mask'" in err
    assert "a mask has at most 16 classes" in err


def test_what_is_no_file_is_passed_over(tmp_path: Path, cli: Cli) -> None:
    decathlon(tmp_path / "data")
    for folder in ("logs", "logs/deeper", "imagesTr", "labelsTr"):
        (tmp_path / "data" / folder).mkdir(exist_ok=True, parents=True)
        for name in ("0", "1", "0.nii.gz"):
            (tmp_path / "data" / folder / name).symlink_to(tmp_path / "gone")
        (tmp_path / "data" / folder / "round").symlink_to("round")
    status, _, err = cli("init", tmp_path / "data", "-o", tmp_path / "c.yaml")
    assert status == 0, err
    source: Any = load_config(tmp_path / "c.yaml").sources[0]
    assert (source.images, source.masks.files) == ("imagesTr/*.nii.gz", "labelsTr/{}.nii.gz")


def test_a_folder_of_links_to_nothing_is_one_sentence(tmp_path: Path, cli: Cli) -> None:
    for name in ("a", "b"):
        (tmp_path / "data").mkdir(exist_ok=True)
        (tmp_path / "data" / name).symlink_to(tmp_path / "gone")
    (tmp_path / "data" / "round").symlink_to("round")
    status, _, err = cli("init", tmp_path / "data", "-o", tmp_path / "c.yaml")
    assert (status, err.count("\n")) == (2, 1), err
    assert "holds 0 images" in err


def test_a_pipe_is_no_dicom_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    both = os.open(tmp_path / "pipe", os.O_RDWR)  # so that reading it would not wait
    try:
        os.write(both, bytes(128) + b"DICM")
        assert not is_dicom_file(tmp_path / "pipe")
    finally:
        os.close(both)


@pytest.mark.parametrize("text", ["a,a\n1,2\n", "a,b\n1\n2,3,4\n", ""])
def test_a_table_that_cannot_be_read_does_not_stop_a_folder_of_volumes(
    tmp_path: Path, cli: Cli, text: str
) -> None:
    kits(tmp_path / "data")
    (tmp_path / "data" / "a_notes.csv").write_text(text)
    (tmp_path / "data" / "cases.csv").write_text("case,patient\ncase_00000,p\ncase_00001,p\n")
    status, _, err = cli("init", tmp_path / "data", "-o", tmp_path / "c.yaml")
    assert status == 0, err
    assert "a_notes.csv" in err
    assert "the table is left out" in err
    assert set(assemble(load_config(tmp_path / "c.yaml").sources).table.groups) == {"data:p"}


@pytest.mark.parametrize("mask", ["mask", "label"])
def test_a_column_of_words_beside_masks_is_named(tmp_path: Path, cli: Cli, mask: str) -> None:
    rows = [f"image,{mask},patient,diagnosis"]
    for index, word in enumerate(("nevus", "melanoma", "nevus")):
        png(tmp_path / f"{index}.png", noise(20, 20))
        png(tmp_path / f"m{index}.png", np.full((20, 20), index, np.uint8))
        rows.append(f"{index}.png,m{index}.png,p{index},{word}")
    (tmp_path / "t.csv").write_text("\n".join(rows) + "\n")
    status, _, err = cli("init", tmp_path / "t.csv", "-o", tmp_path / "c.yaml")
    assert status == 0, err
    assert "t.csv: column 'diagnosis' holds words (nevus, melanoma) and is not read" in err


def test_a_column_of_words_in_the_table_of_a_folder_is_named(tmp_path: Path, cli: Cli) -> None:
    kits(tmp_path / "data")
    (tmp_path / "data" / "cases.csv").write_text("case,malignant\ncase_00000,yes\ncase_00001,no\n")
    status, _, err = cli("init", tmp_path / "data", "-o", tmp_path / "c.yaml")
    assert status == 0, err
    assert "cases.csv: column 'malignant' holds words (yes, no) and is not read" in err


@pytest.mark.parametrize("slices", [True, False])
def test_a_table_that_names_no_image_is_left_out(tmp_path: Path, cli: Cli, slices: bool) -> None:
    data = tmp_path / "data"
    if slices:
        for folder, value in (("images", 90), ("masks", 1)):
            (data / folder).mkdir(parents=True)
            for index in range(3):
                pixels = np.zeros((20, 24), np.uint8)
                pixels[3:9, 4 : 8 + index] = value
                Image.fromarray(pixels).save(data / folder / f"c{index}.png")
    else:
        decathlon(data)
    (data / "inventory.csv").write_text("device,bought,price\nA,2001,3\nB,2003,4\n")
    status, _, err = cli("init", data, "-o", tmp_path / "a.yaml")
    assert status == 0, err
    assert ("inventory.csv: no column names an image, so the table is left out" in err) == slices
    config = load_config(tmp_path / "a.yaml")
    assert len(assemble(config.sources).table) == 3


def test_cases_that_lie_in_another_way_are_named(tmp_path: Path, cli: Cli) -> None:
    for name, end in (("north", ".nii.gz"), ("south", ".nii")):
        for index in range(3):
            nifti(tmp_path / "data" / name / "imagesTr" / f"P{index}{end}")
            nifti(tmp_path / "data" / name / "labelsTr" / f"P{index}{end}", 1)
    status, _, err = cli("init", tmp_path / "data", "-o", tmp_path / "a.yaml")
    assert status == 0, err
    assert "a case has several images" not in err
    assert (
        "3 of the masks found belong to no image of north/imagesTr/*.nii.gz and are left out, such as south/"
        in err
    )
