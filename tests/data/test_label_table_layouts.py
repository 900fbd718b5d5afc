"""MIMIC-CXR-JPG, PadChest and VinDr-CXR as they are unpacked, in every release, or refused by name."""

import gzip
from collections.abc import Sequence
from pathlib import Path

import pytest

from labelassemble.data import MimicCxrSource, PadChestSource, Source, VinDrCxrSource
from labelassemble.data.readers.mimic import MIMIC_CLASSES
from labelassemble.errors import LabelAssembleError


def images(root: Path, *names: str) -> list[str]:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")
    return list(names)


def places(source: Source, root: Path) -> list[str]:
    return [Path(path).relative_to(root).as_posix() for path in source.read().paths]


STUDIES = [("10000032", "50414267", "02aa804e-bde0afdd"), ("11000764", "57375967", "096052b7-d256dc40")]


def mimic(folder: Path, root: Path | None = None) -> MimicCxrSource:
    folder.mkdir(parents=True, exist_ok=True)
    lines = "".join(f"{image},{study},{subject},train\n" for subject, study, image in STUDIES)
    text = "dicom_id,study_id,subject_id,split\n" + lines
    (folder / "mimic-cxr-2.0.0-split.csv.gz").write_bytes(gzip.compress(text.encode()))
    labels = "".join(f"{subject},{study},1.0{',' * 13}\n" for subject, study, _ in STUDIES)
    text = "subject_id,study_id," + ",".join(MIMIC_CLASSES) + "\n" + labels
    (folder / "mimic-cxr-2.0.0-chexpert.csv.gz").write_bytes(gzip.compress(text.encode()))
    return MimicCxrSource(name="m", root=root or folder)


def nested(pattern: str) -> list[str]:
    return [
        pattern.format(ten=subject[:2], subject=subject, study=study, image=image)
        for subject, study, image in STUDIES
    ]


@pytest.mark.parametrize(
    "pattern",
    [
        "files/p{ten}/p{subject}/s{study}/{image}.jpg",
        "p{ten}/p{subject}/s{study}/{image}.jpg",
        "physionet.org/files/mimic-cxr-jpg/2.1.0/files/p{ten}/p{subject}/s{study}/{image}.jpg",
        "official_data_iccv_final/files/p{ten}/p{subject}/s{study}/{image}.jpg",
        "files/p{ten}/p{subject}/s{study}/{image}.png",
        "images/p{subject}/s{study}/{image}.jpg",
        "images-224/{image}.png",
        "{image}.jpg",
    ],
)
def test_mimic_is_found_where_it_was_unpacked(tmp_path: Path, pattern: str) -> None:
    there = images(tmp_path, *nested(pattern))
    source = mimic(tmp_path)
    assert places(source, tmp_path) == there
    assert list(source.read().names) == nested("files/p{ten}/p{subject}/s{study}/{image}.jpg")


def test_mimic_as_wget_leaves_it(tmp_path: Path) -> None:
    home = tmp_path / "physionet.org" / "files" / "mimic-cxr-jpg" / "2.0.0"
    source = mimic(home, tmp_path)
    there = images(home, *nested("files/p{ten}/p{subject}/s{study}/{image}.jpg"))
    assert places(source, home) == there
    assert source.read().files == tuple(
        str(home / f"mimic-cxr-2.0.0-{part}.csv.gz") for part in ("split", "chexpert")
    )


def test_a_resized_copy_beside_mimic(tmp_path: Path) -> None:
    source = mimic(tmp_path)
    there = images(tmp_path, *nested("files/p{ten}/p{subject}/s{study}/{image}.jpg"))
    images(tmp_path, *nested("images-224/p{ten}/p{subject}/s{study}/{image}.jpg"))
    assert places(source, tmp_path) == there  # the publisher's name


def test_mimic_refused_or_without_fit(tmp_path: Path) -> None:
    source = mimic(tmp_path)
    images(tmp_path, "files/p19/p19999999/s1/a.jpg")
    with pytest.raises(
        LabelAssembleError, match=r"split\.csv\.gz was found .*found files/p19/ \(rename or move the folders"
    ):
        source.read()
    (tmp_path / "mimic-cxr-2.0.0-split.csv.gz").rename(tmp_path / "mimic-cxr-2.1.0-test-set-labeled.csv.gz")
    with pytest.raises(
        LabelAssembleError, match=r"test-set-labeled\.csv\.gz is the test labels of release 2\.1\.0 al"
    ):
        source.read()
    (tmp_path / "mimic-cxr-2.1.0-test-set-labeled.csv.gz").rename(tmp_path / "cxr-record-list.csv.gz")
    with pytest.raises(
        LabelAssembleError, match=r"cxr-record-list\.csv\.gz is of MIMIC-CXR, which has no labels"
    ):
        source.read()
    (tmp_path / "cxr-record-list.csv.gz").rename(tmp_path / "mimic_cxr_aug_train.csv")
    with pytest.raises(
        LabelAssembleError, match=r"mimic_cxr_aug_train\.csv is a table of reports without labels"
    ):
        source.read()


PADCHEST = "ImageID,ImageDir,PatientID,Projection,Labels\n1.png,0,7,PA,['normal']\n2.png,54,8,PA,['normal']\n"


def padchest(root: Path, name: str, **options: object) -> PadChestSource:
    data = PADCHEST.encode()
    (root / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return PadChestSource.model_validate({"name": "p", "root": root, "classes": ("normal",), **options})


@pytest.mark.parametrize(
    "name",
    [
        "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv",
        "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv.gz",
        "PADCHEST_chest_x_ray_images_labels_160K.csv",
        "chest_x_ray_images_labels_sample.csv",
    ],
)
@pytest.mark.parametrize(
    "there",
    [
        ("0/1.png", "54/2.png"),
        ("1.png", "2.png"),
        ("images-224/images-224/1.png", "images-224/images-224/2.png"),
    ],
)
def test_padchest(tmp_path: Path, name: str, there: Sequence[str]) -> None:
    images(tmp_path, *there)
    source = padchest(tmp_path, name)
    assert places(source, tmp_path) == list(there)
    assert list(source.read().names) == ["0/1.png", "54/2.png"]
    assert source.read().files == (str(tmp_path / name),)
    assert places(padchest(tmp_path, name, flat=True), tmp_path) == list(there)


def test_padchest_in_two_sizes_and_two_tables(tmp_path: Path) -> None:
    source = padchest(tmp_path, "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv")
    padchest(tmp_path, "PADCHEST_chest_x_ray_images_labels_160K_mine.csv")
    padchest(tmp_path, "chest_x_ray_images_labels_sample.csv")
    images(tmp_path, "images-224/1.png", "0/1.png", "images-224/2.png")
    assert places(source, tmp_path) == ["0/1.png", "images-224/2.png"]
    assert len(source.read().files) == 1
    images(tmp_path, "small/2.png")
    with pytest.raises(
        LabelAssembleError, match=r"images-224/2\.png and small/2\.png in .* are two images of one name"
    ):
        source.read()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("master_table.csv", "is PadChest-GR, grounded reports"),
        ("pneumo_dataset_balanced_0.tsv", "is a part of PadChest in groups"),
        (
            "mine.csv",
            r"has no PADCHEST_chest_x_ray.* or chest_x_ray_images_labels_sample\.csv .*found mine\.csv",
        ),
    ],
)
def test_padchest_refused(tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises(LabelAssembleError, match=message):
        padchest(tmp_path, name).read()


def vindr(root: Path, folder: str = "annotations", **options: object) -> VinDrCxrSource:
    (root / folder).mkdir(parents=True, exist_ok=True)
    (root / folder / "image_labels_train.csv").write_text("image_id,rad_id,Mass\n5,R1,1\n5,R2,1\n")
    (root / folder / "image_labels_test.csv").write_text("image_id,Mass\n6,0\n")
    return VinDrCxrSource.model_validate({"name": "v", "root": root, **options})


@pytest.mark.parametrize("folder", ["annotations", ".", "physionet.org/files/vindr-cxr/1.0.0/annotations"])
@pytest.mark.parametrize("ending", [".dicom", ".dcm", ".png", ".jpg"])
def test_vindr(tmp_path: Path, folder: str, ending: str) -> None:
    source = vindr(tmp_path, folder)
    there = images(tmp_path, f"1.0.0/train/5{ending}", f"1.0.0/test/6{ending}", f"other/train/6{ending}")[:2]
    assert places(source, tmp_path) == there
    assert list(source.read().names) == ["train/5.dicom", "test/6.dicom"]


def test_vindr_in_two_formats(tmp_path: Path) -> None:
    source = vindr(tmp_path)
    images(tmp_path, "train/5.dicom", "train/5.png", "test/6.dicom")
    with pytest.raises(
        LabelAssembleError, match=r"train/5\.dicom and train/5\.png in .* are two images of one name"
    ):
        source.read()
    assert places(vindr(tmp_path, suffix=".dicom"), tmp_path) == ["train/5.dicom", "test/6.dicom"]


def test_vindr_with_one_table(tmp_path: Path) -> None:
    source = vindr(tmp_path)
    (tmp_path / "annotations" / "image_labels_train.csv").unlink()
    assert list(source.read().splits) == ["test"]
    path = tmp_path / "annotations" / "image_labels_test.csv"
    path.rename(path.with_name("annotations_test.csv"))
    with pytest.raises(
        LabelAssembleError, match=r"annotations/annotations_test\.csv is the boxes of 22 findings"
    ):
        source.read()


def test_vindr_of_kaggle(tmp_path: Path) -> None:
    rows = "a,Nodule/Mass,8,R1,1,2,3,4\na,Nodule/Mass,8,R1,5,6,7,8\na,ILD,5,R2,1,2,3,4\na,Nodule/Mass,8,R3,1,2,3,4\n"
    rows += "b,No finding,14,R1,,,,\nb,No finding,14,R2,,,,\nb,No finding,14,R3,,,,\n"
    (tmp_path / "train.csv").write_text(
        "image_id,class_name,class_id,rad_id,x_min,y_min,x_max,y_max\n" + rows
    )
    there = images(tmp_path, "train/a.png", "train/b.png", "test/c.png")[:2]
    source = VinDrCxrSource(name="v", root=tmp_path)
    table = source.read()
    assert table.classes == ("ILD", "No finding", "Nodule/Mass")
    labels = {name: table.labels[:, table.column(name)].tolist() for name in table.classes}
    assert labels["Nodule/Mass"] == [1, 0]  # two of three readers, whatever the number of boxes
    assert labels["No finding"] == [0, 1]
    assert set(table.splits) == {""}
    assert places(source, tmp_path) == there
    (tmp_path / "train.csv").write_text(
        "image_id,class_name,class_id,rad_id,x_min,y_min,x_max,y_max\na,,1,R1,,,,\n"
    )
    with pytest.raises(
        LabelAssembleError, match=r"train\.csv, line 2, column 'image_id': must have image, class"
    ):
        source.read()
    (tmp_path / "train.csv").write_text("image_id,height,width\n")
    with pytest.raises(
        LabelAssembleError, match=r"line 1: no column 'class_name' \(a column of the table of Kaggle"
    ):
        source.read()
