"""Every reader whose publisher names sex, age, view or scanner carries them, from the publisher's own columns."""

import gzip
import io
import json
import tarfile
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pytest

from labelassemble.data import (
    ChestXray14Source,
    CheXpertSource,
    CovidxSource,
    CsvSource,
    MimicCxrSource,
    PadChestSource,
    Source,
    VinDrCxrSource,
    WebDatasetSource,
)
from labelassemble.data.readers.chexpert import CHEXPERT_CLASSES
from labelassemble.data.readers.mimic import MIMIC_CLASSES
from labelassemble.data.subgroup_report import read_with_subgroups
from labelassemble.data.subgroups import SubgroupColumn


def subgroups(source: Source, wanted: Sequence[str]) -> dict[str, list[str]]:
    table = read_with_subgroups(source, wanted)
    assert list(table.subgroups) == list(wanted)
    return {name: values.tolist() for name, values in table.subgroups.items()}


def test_chestxray14(tmp_path: Path) -> None:
    rows = "1.png,Mass,1,058Y,M,PA\n2.png,Edema,2,414Y,F,AP\n3.png,No Finding,3,006M,,PA\n"
    header = "Image Index,Finding Labels,Patient ID,Patient Age,Patient Gender,View Position\n"
    (tmp_path / "Data_Entry_2017.csv").write_text(header + rows)
    item = ChestXray14Source(name="nih", root=tmp_path)
    assert subgroups(item, ["view", "sex", "age"]) == {
        "view": ["PA", "AP", "PA"],
        "sex": ["male", "female", ""],
        "age": ["58", "", "0.5"],
    }
    header = header.replace("Gender", "Sex").replace("Patient Age", "Patient Age")
    (tmp_path / "Data_Entry_2017_v2020.csv").write_text(header + rows.replace("058Y", "58"))
    assert subgroups(item, ["sex", "age"])["age"] == ["58", "", "0.5"]
    assert ChestXray14Source(name="nih", root=tmp_path).read().subgroups == {}


def test_chexpert(tmp_path: Path) -> None:
    header = "Path,Sex,Age,Frontal/Lateral,AP/PA," + ",".join(CHEXPERT_CLASSES) + "\n"
    labels = "," * len(CHEXPERT_CLASSES)

    def row(part: str, patient: int, view: str, about: str) -> str:
        return f"CheXpert-v1.0/{part}/patient0000{patient}/study1/view1_{view}.jpg,{about}{labels}1.0\n"

    train = row("train", 1, "frontal", "Male,60,Frontal,AP") + row(
        "train", 2, "lateral", "Female,18,Lateral,"
    )
    train += row("train", 3, "frontal", "Unknown,0,Frontal,PA") + row(
        "train", 4, "frontal", "Female,90,Frontal,"
    )
    (tmp_path / "train.csv").write_text(header + train)
    (tmp_path / "valid.csv").write_text(header + row("valid", 5, "frontal", "Male,73,Frontal,PA"))
    item = CheXpertSource(name="chexpert", root=tmp_path)
    assert subgroups(item, ["sex", "age", "view"]) == {
        "sex": ["male", "female", "", "female", "male"],
        "age": ["60", "18", "", "90", "73"],
        "view": ["AP", "lateral", "PA", "frontal", "PA"],
    }
    frontal = CheXpertSource(name="chexpert", root=tmp_path, views="frontal")
    assert subgroups(frontal, ["sex"]) == {"sex": ["male", "", "female", "male"]}
    without = "Path,Frontal/Lateral," + ",".join(CHEXPERT_CLASSES) + "\n"
    (tmp_path / "valid.csv").write_text(without + row("valid", 5, "frontal", "Frontal"))
    assert subgroups(item, ["sex", "view"]) == {
        "sex": ["male", "female", "", "female", ""],
        "view": ["AP", "lateral", "PA", "frontal", "frontal"],
    }


def test_padchest(tmp_path: Path) -> None:
    header = (
        "ImageID,ImageDir,StudyDate_DICOM,PatientID,PatientBirth,PatientSex_DICOM,ViewPosition_DICOM,Projection,"
        "Manufacturer_DICOM,Labels\n"
    )
    rows = (
        "1.png,0,20140915,7,1930.0,M,POSTEROANTERIOR,PA,PhilipsMedicalSystems,['normal']\n"
        "2.png,0,20140915,7,,F,LATERAL,L,ImagingDynamicsCompanyLtd,['normal']\n"
        "3.png,0,20140915,8,1800,None,,AP_horizontal,,['normal']\n"
    )
    (tmp_path / "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv").write_text(header + rows)
    item = PadChestSource(name="p", root=tmp_path, classes=("normal",))
    assert subgroups(item, ["sex", "age", "view", "scanner"]) == {
        "sex": ["male", "female", ""],
        "age": ["84", "", ""],
        "view": ["PA", "lateral", "AP supine"],
        "scanner": ["PhilipsMedicalSystems", "ImagingDynamicsCompanyLtd", ""],
    }
    item = item.model_copy(update={"views": "lateral"})
    assert subgroups(item, ["sex"]) == {"sex": ["female"]}


def test_mimic(tmp_path: Path) -> None:
    labels = "subject_id,study_id," + ",".join(MIMIC_CLASSES) + "\n"
    labels += "".join(f"1000003{row},5{row},{',' * (len(MIMIC_CLASSES) - 1)}1.0\n" for row in range(3))
    (tmp_path / "mimic-cxr-2.0.0-chexpert.csv").write_text(labels)
    split = "".join(f"im{row},5{row},1000003{row},train\n" for row in range(3))
    (tmp_path / "mimic-cxr-2.0.0-split.csv").write_text("dicom_id,study_id,subject_id,split\n" + split)
    item = MimicCxrSource(name="m", root=tmp_path)
    assert subgroups(item, ["sex", "view"]) == {"sex": [""] * 3, "view": [""] * 3}
    (tmp_path / "mimic-cxr-2.0.0-metadata.csv").write_text(
        "dicom_id,subject_id,ViewPosition,StudyDate\nim2,10000032,LATERAL,21450703\nim0,10000030,PA,21500703\n"
        "im1,10000031,,21500703\n"
    )
    assert subgroups(item, ["sex", "view"]) == {"sex": [""] * 3, "view": ["PA", "", "lateral"]}
    patients = "subject_id,gender,anchor_age,anchor_year\n10000032,F,52,2142\n10000030,M,91,2150\n"
    (tmp_path / "patients.csv.gz").write_bytes(gzip.compress(patients.encode()))
    assert subgroups(item, ["sex", "view", "age"]) == {
        "sex": ["male", "", "female"],
        "view": ["PA", "", "lateral"],
        "age": ["91", "", "55"],
    }
    table = read_with_subgroups(item, ["sex"])
    assert [file.rpartition("/")[2] for file in map(str, table.files)][-1] == "patients.csv.gz"
    assert read_with_subgroups(item, []).subgroups == {}


def test_covidx(tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_text("3 a.png positive cohen\n4 c.png negative rsna\n")
    (tmp_path / "test.csv").write_text(
        "patient_id,filename,class,source,sex,view\n7,b.png,positive,rsna,F,AP Supine\n"
    )
    item = CovidxSource(name="c", root=tmp_path)
    assert subgroups(item, ["origin", "sex", "view"]) == {
        "origin": ["cohen", "rsna", "rsna"],
        "sex": ["", "", "female"],
        "view": ["", "", "AP supine"],
    }


def test_webdataset(tmp_path: Path) -> None:
    samples = [
        {"labels": {"Mass": 1}, "sex": "F", "Age": 60.0, "machine": "A"},
        {"labels": {"Mass": 0}, "sex": None, "Age": "018M"},
        {"labels": {"Mass": 0}},
    ]
    with tarfile.open(tmp_path / "s.tar", "w") as tar:
        for row, sample in enumerate(samples):
            for ending, data in (("png", b"x"), ("json", json.dumps(sample).encode())):
                member = tarfile.TarInfo(f"{row}.{ending}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    columns = {"scanner": SubgroupColumn(column="machine")}
    item = WebDatasetSource(name="w", shards=tmp_path / "s.tar", subgroup_columns=columns)
    assert subgroups(item, ["sex", "age", "scanner"]) == {
        "sex": ["female", "", ""],
        "age": ["60", "1.5", ""],
        "scanner": ["A", "", ""],
    }


def test_parquet(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {"path": ["1.png", "2.png"], "sex": ["M", None], "age": [60.0, None], "Mass": [1, 0]}
    )
    frame.to_parquet(tmp_path / "t.parquet")
    item = CsvSource(name="q", reader="parquet", path=tmp_path / "t.parquet")
    assert subgroups(item, ["sex", "age"]) == {"sex": ["male", ""], "age": ["60", ""]}


def test_vindr(tmp_path: Path) -> None:
    pydicom = pytest.importorskip("pydicom")
    (tmp_path / "annotations").mkdir()
    (tmp_path / "test").mkdir()
    rows = "".join(f"{name},1\n" for name in "abc")
    (tmp_path / "annotations" / "image_labels_test.csv").write_text("image_id,Mass\n" + rows)
    item = VinDrCxrSource(name="v", root=tmp_path)
    for name, sex, age in (("a", "F", "060Y"), ("b", "", "411Y")):
        data = pydicom.Dataset()
        data.file_meta = pydicom.dataset.FileMetaDataset()
        data.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1"
        data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID = "1.2.840.10008.5.1.4.1.1.1"
        data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID = "1.2.3"
        data.PatientSex, data.PatientAge, data.KVP = sex, age, "90"
        pydicom.dcmwrite(tmp_path / "test" / f"{name}.dicom", data, enforce_file_format=True)
    (tmp_path / "test" / "c.dicom").write_bytes(b"damaged")
    assert subgroups(item, ["sex", "age"]) == {"sex": ["female", "", ""], "age": ["60", "", ""]}
    item = item.model_copy(update={"subgroup_columns": {"voltage": SubgroupColumn(column="KVP")}})
    assert subgroups(item, ["voltage"]) == {"voltage": ["90", "90", ""]}
