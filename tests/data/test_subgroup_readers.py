"""Every reader whose publisher names sex, age, view or scanner carries them, from the publisher's own columns."""

from collections.abc import Sequence
from pathlib import Path

from labelassemble.data import ChestXray14Source, CheXpertSource, PadChestSource, Source
from labelassemble.data.readers.chexpert import CHEXPERT_CLASSES
from labelassemble.data.subgroup_report import read_with_subgroups


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
