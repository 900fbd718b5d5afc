"""MIMIC-CXR-JPG, PadChest and VinDr-CXR, in tiny folders of each publisher's exact format."""

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from labelassemble.data import MimicCxrSource, PadChestSource, Taxonomy, VinDrCxrSource
from labelassemble.data.readers.mimic import MIMIC_CLASSES
from labelassemble.errors import LabelAssembleError


@pytest.fixture
def mimic(tmp_path: Path) -> Path:
    header = "subject_id,study_id," + ",".join(MIMIC_CLASSES)
    labels = f"{header}\n10000032,50414267,,,,,,,,,1.0,,,,,\n10000764,57375967,,-1.0,1.0,,,,,,,0.0,,,,1.0\n"
    (tmp_path / "mimic-cxr-2.0.0-chexpert.csv.gz").write_bytes(gzip.compress(labels.encode()))
    (tmp_path / "mimic-cxr-2.0.0-split.csv").write_text(
        "dicom_id,study_id,subject_id,split\n"
        "02aa804e-bde0afdd,50414267,10000032,train\n"
        "174413ec-4ec4c1f7,50414267,10000032,train\n"
        "096052b7-d256dc40,57375967,10000764,validate\n"
        "dea5eb5a-b7b5a7e4,50771383,10000898,test\n"
    )
    (tmp_path / "mimic-cxr-2.0.0-metadata.csv").write_text(
        "dicom_id,subject_id,study_id,PerformedProcedureStepDescription,ViewPosition,Rows\n"
        '02aa804e-bde0afdd,10000032,50414267,"CHEST (PA AND LAT)",PA,3056\n'
        '174413ec-4ec4c1f7,10000032,50414267,"CHEST (PA AND LAT)",LATERAL,3056\n'
        "096052b7-d256dc40,10000764,57375967,CHEST,AP,2544\n"
        "dea5eb5a-b7b5a7e4,10000898,50771383,CHEST,,3056\n"
    )
    return tmp_path


def test_mimic(mimic: Path) -> None:
    table = MimicCxrSource(name="mimic", root=mimic).read()
    assert list(table.names[:1]) == ["files/p10/p10000032/s50414267/02aa804e-bde0afdd.jpg"]
    assert list(table.splits) == ["train", "train", "val", "test"]
    assert list(table.groups) == ["10000032", "10000032", "10000764", "10000898"]
    assert table.labels[1].tolist() == [-1] * 8 + [1] + [-1] * 5
    assert table.labels[2].tolist() == [-1, -2, 1, -1, -1, -1, -1, -1, -1, 0, -1, -1, -1, 1]
    assert table.labels[3].tolist() == [-1] * 14
    negative = MimicCxrSource(name="mimic", root=mimic, blank="negative").read()
    assert negative.labels[2].tolist() == [0, -2, 1, 0, -1, 0, 0, 1, 0, 0, 0, -1, 0, 1]
    assert negative.labels[3].tolist() == [-1] * 14  # nobody has labelled this study


@pytest.mark.parametrize(("views", "rows"), [("frontal", [0, 2]), ("lateral", [1])])
def test_mimic_views(mimic: Path, views: str, rows: list[int]) -> None:
    every = MimicCxrSource(name="mimic", root=mimic).read()
    chosen = MimicCxrSource.model_validate({"name": "mimic", "root": mimic, "views": views}).read()
    assert chosen == every.select(rows)


def test_mimic_damage(mimic: Path) -> None:
    with pytest.raises(LabelAssembleError, match=r"has no mimic-cxr-2\.0\.0-negbio\.csv \(each may end"):
        MimicCxrSource(name="mimic", root=mimic, labeler="negbio").read()
    split = mimic / "mimic-cxr-2.0.0-split.csv"
    text = split.read_text()
    split.write_text(text.replace("validate", "valid"))
    with pytest.raises(
        LabelAssembleError, match="line 4, column 'split': must be train, validate or test, got 'valid'"
    ):
        MimicCxrSource(name="mimic", root=mimic).read()
    split.write_text(text.replace("10000898,test", "../1,test"))
    with pytest.raises(LabelAssembleError, match="line 5, column 'dicom_id': no path can be made of"):
        MimicCxrSource(name="mimic", root=mimic).read()
    header = "subject_id,study_id," + ",".join(MIMIC_CLASSES)
    row = "1,2" + "," * 14 + "\n"
    (mimic / "mimic-cxr-2.0.0-chexpert.csv.gz").write_bytes(gzip.compress(f"{header}\n{row}{row}".encode()))
    with pytest.raises(LabelAssembleError, match="line 3, column 'study_id': the study '2' stands twice"):
        MimicCxrSource(name="mimic", root=mimic).read()


PADCHEST = (
    ",ImageID,ImageDir,StudyDate_DICOM,StudyID,PatientID,PatientBirth,PatientSex_DICOM,ViewPosition_DICOM,Projection,"
    "MethodProjection,Pediatric,ReportID,Report,MethodLabel,Labels\n"
    "0,2053_m3.png,0,20140915,2053_st,83991,1930,M,POSTEROANTERIOR,PA,Manual,No,485,ctr dent .,Physician,"
    "\"['pulmonary fibrosis', 'chronic changes', ' kyphosis']\"\n"
    "1,1399_m3.png,17,20140915,1399_st,83992,1930,F,LATERAL,L,Manual,No,486,\"sin \nhallazgos\",Physician,['normal']\n"
    "2,2054_m3.png,54,20140915,2054_st,83993,1930,F,,AP_horizontal,Manual,No,487,,RNN_model,"
    "\"['exclude', 'kyphosis']\"\n"
    "3,2055_m3.png,54,20140915,2055_st,83993,1930,F,,AP,Manual,No,487,,RNN_model,\n"
)


@pytest.fixture
def padchest(tmp_path: Path) -> Path:
    (tmp_path / "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv").write_text(PADCHEST)
    return tmp_path


def test_padchest(padchest: Path) -> None:
    table = PadChestSource(name="p", root=padchest, classes=("kyphosis", "normal")).read()
    assert table.labels.tolist() == [[1, 0], [0, 1], [-1, -1], [-1, -1]]
    assert list(table.groups) == ["83991", "83992", "83993", "83993"]
    assert list(table.names) == ["0/2053_m3.png", "17/1399_m3.png", "54/2054_m3.png", "54/2055_m3.png"]
    assert set(table.splits) == {""}
    lateral = PadChestSource(name="p", root=padchest, classes=("normal",), views="lateral", flat=True).read()
    assert list(lateral.paths) == [str(padchest / "1399_m3.png")]


def test_padchest_damage(padchest: Path) -> None:
    with pytest.raises(
        LabelAssembleError, match="no report has the label 'kyphoses', did you mean 'kyphosis'"
    ):
        PadChestSource(name="p", root=padchest, classes=("kyphoses",)).read()
    path = padchest / "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv"
    for cell in ("['normal'", "open('x')", "[1]", "{'a': 1}"):
        path.write_text(PADCHEST.replace("['normal']", f'"{cell}"'))
        with pytest.raises(LabelAssembleError, match=r"line 4, column 'Labels': must be a list such as"):
            PadChestSource(name="p", root=padchest, classes=("kyphosis",)).read()
    path.unlink()
    with pytest.raises(LabelAssembleError, match="has no PADCHEST_chest"):
        PadChestSource(name="p", root=padchest, classes=("kyphosis",)).read()


@pytest.fixture
def vindr(tmp_path: Path) -> Path:
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "image_labels_train.csv").write_text(
        "image_id,rad_id,Aortic enlargement,Nodule/Mass,Other diseases,No finding\n"
        "0005,R10,1,0,0,0\n0005,R9,1,1,0,0\n0007,R8,0,0,0,1\n0005,R8,0,0,0,0\n0007,R9,1,0,0,0\n"
    )
    (tmp_path / "annotations" / "image_labels_test.csv").write_text(
        "image_id,Aortic enlargement,Nodule/Mass,Other disease,No finding\n0009,0,1,0,0\n"
    )
    return tmp_path


def test_vindr(vindr: Path) -> None:
    table = VinDrCxrSource(name="v", root=vindr).read()
    assert table.classes == ("Aortic enlargement", "Nodule/Mass", "Other diseases", "No finding")
    # two of three saw it; one of three; nobody; and a tie is uncertain
    np.testing.assert_array_equal(table.labels, [[1, 0, 0, 0], [-2, 0, 0, -2], [0, 1, 0, 0]])
    assert list(table.names) == ["train/0005.dicom", "train/0007.dicom", "test/0009.dicom"]
    assert list(table.splits) == ["trainval", "trainval", "test"]
    table = VinDrCxrSource(name="v", root=vindr, disagreement="uncertain", suffix=".png").read()
    np.testing.assert_array_equal(table.labels, [[-2, -2, 0, 0], [-2, 0, 0, -2], [0, 1, 0, 0]])
    assert str(table.paths[0]) == str(vindr / "train/0005.png")


def test_vindr_damage(vindr: Path) -> None:
    path = vindr / "annotations" / "image_labels_test.csv"
    text = path.read_text()
    path.write_text(text.replace("Nodule/Mass", "Mass"))
    with pytest.raises(
        LabelAssembleError, match=r"image_labels_test\.csv, line 1: its classes must be those"
    ):
        VinDrCxrSource(name="v", root=vindr).read()
    path.write_text(text.replace("0009,0", "0009,-1"))
    with pytest.raises(
        LabelAssembleError, match="line 2, column 'Aortic enlargement': a label must be 1 or 0"
    ):
        VinDrCxrSource(name="v", root=vindr).read()
    path.write_text(text.replace("0009", "../9"))
    with pytest.raises(LabelAssembleError, match="line 2, column 'image_id': must be the name of an image"):
        VinDrCxrSource(name="v", root=vindr).read()


def test_the_shipped_taxonomy_knows_these_classes() -> None:
    thorax = Taxonomy.load("thorax")
    vindr = [
        *(
            "Aortic enlargement",
            "Atelectasis",
            "Calcification",
            "Cardiomegaly",
            "Clavicle fracture",
            "Consolidation",
        ),
        *(
            "Edema",
            "Emphysema",
            "Enlarged PA",
            "ILD",
            "Infiltration",
            "Lung Opacity",
            "Lung cavity",
            "Lung cyst",
        ),
        *("Mediastinal shift", "Nodule/Mass", "Pleural effusion", "Pleural thickening", "Pneumothorax"),
        *(
            "Pulmonary fibrosis",
            "Rib fracture",
            "Other lesion",
            "COPD",
            "Lung tumor",
            "Pneumonia",
            "Tuberculosis",
        ),
        *("Other diseases", "No finding"),
    ]
    for classes in (vindr, list(MIMIC_CLASSES)):
        assert len({thorax.canonical(name, "") for name in classes}) == len(classes)


def test_mimic_ids_are_numbers_however_they_are_written(mimic: Path) -> None:
    plain = MimicCxrSource(name="mimic", root=mimic).read()
    labels, split = mimic / "mimic-cxr-2.0.0-chexpert.csv.gz", mimic / "mimic-cxr-2.0.0-split.csv"
    written, ids = gzip.decompress(labels.read_bytes()).decode(), split.read_text()
    for study in ("50414267", "57375967", "50771383", "10000032", "10000764", "10000898"):
        written = written.replace(study, f"{study}.0")  # as pandas writes a column with a gap
        ids = ids.replace(study, f" {study}")
    labels.write_bytes(gzip.compress(written.encode()))
    split.write_text(ids)
    assert MimicCxrSource(name="mimic", root=mimic).read() == plain


def test_mimic_tables_that_do_not_meet(mimic: Path) -> None:
    table = MimicCxrSource(name="mimic", root=mimic).read()
    assert table.notes == (
        "warning: 1 of 3 studies of mimic-cxr-2.0.0-split.csv have no row in mimic-cxr-2.0.0-chexpert.csv.gz, such as "
        "'50771383'",
    )
    labels = mimic / "mimic-cxr-2.0.0-chexpert.csv.gz"
    text = gzip.decompress(labels.read_bytes()).decode()
    other = text.replace("50414267", "s50414267").replace("57375967", "s57375967")
    labels.write_bytes(gzip.compress(other.encode()))
    with pytest.raises(
        LabelAssembleError,
        match=r"source 'mimic': none of the 3 studies of mimic-cxr-2\.0\.0-split\.csv has a row in mimic-cxr-2\.0\.0-"
        r"chexpert\.csv\.gz, such as '50414267' against 's50414267': at least 50% of the studies of the smaller table",
    ):
        MimicCxrSource(name="mimic", root=mimic).read()
    row = "," * 14 + "\n"
    few = text.replace("50414267", "59999999") + f"1,59999998,{row[1:]}" + f"1,59999997,{row[1:]}"
    labels.write_bytes(gzip.compress(few.encode()))
    with pytest.raises(
        LabelAssembleError,
        match=r"2 of 3 studies of .*-split\.csv have no row in .* '50414267' against '59999999'",
    ):
        MimicCxrSource(name="mimic", root=mimic).read()
    labels.write_bytes(gzip.compress(text.encode()))
    metadata = mimic / "mimic-cxr-2.0.0-metadata.csv"
    metadata.write_text(metadata.read_text().replace("-", "_"))
    assert MimicCxrSource(name="mimic", root=mimic).read() == table  # which needs no metadata
    with pytest.raises(
        LabelAssembleError, match=r"none of the 4 images of .* '02aa804e-bde0afdd' against '02aa804e_bd"
    ):
        MimicCxrSource(name="mimic", root=mimic, views="frontal").read()


def test_vindr_image_in_both_tables(vindr: Path) -> None:
    test = vindr / "annotations" / "image_labels_test.csv"
    image = (vindr / "annotations" / "image_labels_train.csv").read_text().splitlines()[1].split(",")[0]
    lines = test.read_text().splitlines()
    test.write_text("\n".join([*lines, ",".join([f" {image}", *lines[1].split(",")[1:]])]) + "\n")
    with pytest.raises(LabelAssembleError, match=f"1 of its images are in both tables, such as '{image}"):
        VinDrCxrSource(name="v", root=vindr).read()


def test_init_recognises_mimic(mimic: Path, init_and_assemble: Callable[..., dict[str, Any]]) -> None:
    assert init_and_assemble(mimic)["reader"] == "mimic-cxr"


def test_init_recognises_padchest(padchest: Path, init_and_assemble: Callable[..., dict[str, Any]]) -> None:
    source = init_and_assemble(padchest)
    assert source["reader"] == "padchest"
    assert {"kyphosis", "normal"} <= {*source["classes"]}
    assert "exclude" not in source["classes"]


def test_init_recognises_vindr(vindr: Path, init_and_assemble: Callable[..., dict[str, Any]]) -> None:
    assert init_and_assemble(vindr)["reader"] == "vindr-cxr"
