"""ChestX-ray14, CheXpert and COVIDx, in tiny folders of each publisher's exact format."""

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from labelassemble.data import ChestXray14Source, CheXpertSource, CovidxSource, CsvSource, Taxonomy, assemble
from labelassemble.errors import LabelAssembleError

HEADER_2017 = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
    "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y],\n"
)
ROWS_2017 = (
    "00000001_000.png,Cardiomegaly,0,1,058Y,M,PA,2682,2749,0.143,0.143,\n"
    "00000001_001.png,Cardiomegaly|Emphysema,1,1,058Y,M,PA,2894,2729,0.143,0.143,\n"
    "00000002_000.png,No Finding,0,2,081Y,M,PA,2500,2048,0.171,0.171,\n"
    "00000003_000.png,Pleural_Thickening,0,3,081Y,F,PA,2582,2991,0.143,0.143,\n"
)


@pytest.fixture
def nih(tmp_path: Path) -> Path:
    root = tmp_path / "ChestX-ray14"
    (root / "images_001" / "images").mkdir(parents=True)
    (root / "images_001" / "images" / "00000001_000.png").write_bytes(b"")
    (root / "images").mkdir()
    (root / "images" / "00000002_000.png").write_bytes(b"")
    (root / "Data_Entry_2017.csv").write_text(HEADER_2017 + ROWS_2017)
    (root / "train_val_list.txt").write_text("00000001_000.png\n00000001_001.png\n00000002_000.png")
    (root / "test_list.txt").write_text("00000003_000.png\n")
    return root


def test_chestxray14(nih: Path) -> None:
    table = ChestXray14Source(name="nih", root=nih).read()
    assert len(table.classes) == 14
    positives = [[table.classes[column] for column in np.flatnonzero(row == 1)] for row in table.labels]
    assert positives == [["Cardiomegaly"], ["Cardiomegaly", "Emphysema"], [], ["Pleural_Thickening"]]
    assert set(np.unique(table.labels)) == {0, 1}
    assert list(table.groups) == ["1", "1", "2", "3"]
    assert list(table.splits) == ["trainval", "trainval", "trainval", "test"]
    assert list(table.paths) == [
        str(nih / "images_001/images/00000001_000.png"),
        str(nih / "images/00000001_001.png"),  # lies nowhere
        str(nih / "images/00000002_000.png"),
        str(nih / "images/00000003_000.png"),
    ]


def test_chestxray14_lists_meet_the_table(nih: Path) -> None:
    table = ChestXray14Source(name="nih", root=nih).read()
    both = "train_val_list.txt and test_list.txt"
    assert table.notes == (f"all 4 images of Data_Entry_2017.csv are in {both}, which has 4",)
    names = (nih / "train_val_list.txt").read_text().splitlines()
    (nih / "train_val_list.txt").write_text("".join(f" images/{name} \n" for name in names))
    assert ChestXray14Source(name="nih", root=nih).read() == table  # a list of paths, spaces around them
    (nih / "train_val_list.txt").write_text("00000001_000\n00000001_001\n00000002_000\n")
    with pytest.raises(
        LabelAssembleError,
        match=r"3 of 4 images of Data_Entry_2017\.csv have no row in train_val_list\.txt and test_list\.txt, such as "
        r"'00000001_000\.png' against '00000001_000': at least 50%",
    ):
        ChestXray14Source(name="nih", root=nih).read()


def test_chestxray14_options(nih: Path, tmp_path: Path) -> None:
    table = (
        ChestXray14Source(name="nih", root=Path("ChestX-ray14"), no_finding=True).resolved(tmp_path).read()
    )
    np.testing.assert_array_equal(table.labels[:, table.column("No Finding")], [0, 0, 1, 0])
    (nih / "train_val_list.txt").unlink()
    with pytest.raises(LabelAssembleError, match=r"test_list\.txt is there but train_val_list\.txt is not"):
        ChestXray14Source(name="nih", root=nih).read()
    (nih / "test_list.txt").unlink()
    assert set(ChestXray14Source(name="nih", root=nih).read().splits) == {""}


def test_chestxray14_takes_the_newer_table(nih: Path) -> None:
    header = HEADER_2017.removesuffix(",\n") + "\n"
    row = "00000001_000.png,Hernia,0,3,81,F,PA,2582,2991,0.143,0.14300000000000002\n"
    (nih / "Data_Entry_2017_v2020.csv").write_text(header + row)
    table = ChestXray14Source(name="nih", root=nih).read()
    assert len(table) == 1
    assert [Path(file).name for file in table.files] == [
        "Data_Entry_2017_v2020.csv",
        "train_val_list.txt",
        "test_list.txt",
    ]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "Cardiomegaly|",
            "Cardiomegali|",
            "line 3, column 'Finding Labels': no finding 'Cardiomegali', did you mean",
        ),
        ("No Finding", "No Finding|Mass", "line 4, column 'Finding Labels': 'No Finding' must stand alone"),
        (",Pleural_Thickening,", ",,", "line 5, column 'Finding Labels': no finding ''"),
        (
            "00000003_000",
            "00000004_000",
            r"line 5, column 'Image Index': '00000004_000\.png' is in neither of",
        ),
        ("00000003_000", "../0000003", "line 5, column 'Image Index': must be the name of an image"),
        ("Patient ID", "Patient", "line 1: no column 'Patient ID'"),
        (",0.171,\n", ",0.171\n", "line 4: the header has 12 columns, this row 11"),
    ],
)
def test_chestxray14_damage(nih: Path, old: str, new: str, message: str) -> None:
    path = nih / "Data_Entry_2017.csv"
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(LabelAssembleError, match=message) as caught:
        ChestXray14Source(name="nih", root=nih).read()
    assert "Data_Entry_2017.csv" in str(caught.value)


def test_chestxray14_missing(nih: Path) -> None:
    (nih / "test_list.txt").write_text("00000001_000.png\n")
    with pytest.raises(
        LabelAssembleError, match=r"test_list\.txt, line 1: '00000001_000\.png' is in both lists"
    ):
        ChestXray14Source(name="nih", root=nih).read()
    (nih / "Data_Entry_2017.csv").unlink()
    with pytest.raises(
        LabelAssembleError, match=r"has no Data_Entry_2017_v2020\.csv or Data_Entry_2017\.csv"
    ):
        ChestXray14Source(name="nih", root=nih).read()
    with pytest.raises(LabelAssembleError, match="nowhere does not exist"):
        ChestXray14Source(name="nih", root=nih / "nowhere").read()


CHEXPERT_HEADER = (
    "Path,Sex,Age,Frontal/Lateral,AP/PA,No Finding,Enlarged Cardiomediastinum,Cardiomegaly,Lung Opacity,Lung Lesion,"
    "Edema,Consolidation,Pneumonia,Atelectasis,Pneumothorax,Pleural Effusion,Pleural Other,Fracture,Support Devices\n"
)


@pytest.fixture
def chexpert(tmp_path: Path) -> Path:
    root = tmp_path / "CheXpert-v1.0-small"
    root.mkdir()
    (root / "train.csv").write_text(
        CHEXPERT_HEADER
        + "CheXpert-v1.0-small/train/patient00001/study1/view1_frontal.jpg,Female,68,Frontal,AP,"
        + "1.0,,,,,,,,,0.0,,,,1.0\n"
        + "CheXpert-v1.0-small/train/patient00002/study2/view2_lateral.jpg,Female,87,Lateral,,"
        + ",,-1.0,1.0,,-1.0,-1.0,,-1.0,,-1.0,,1.0,\n"
    )
    (root / "valid.csv").write_text(
        CHEXPERT_HEADER
        + "CheXpert-v1.0-small/valid/patient64541/study1/view1_frontal.jpg,Male,73,Frontal,AP,"
        + "0.0,1.0,1.0,1.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0,0.0\n"
    )
    return root


def test_chexpert(chexpert: Path) -> None:
    table = CheXpertSource(name="chexpert", root=chexpert).read()
    assert table.classes[0] == "No Finding"
    assert table.labels[0].tolist() == [1, -1, -1, -1, -1, -1, -1, -1, -1, 0, -1, -1, -1, 1]
    assert table.labels[1].tolist() == [-1, -1, -2, 1, -1, -2, -2, -1, -2, -1, -2, -1, 1, -1]
    assert list(table.groups) == ["patient00001", "patient00002", "patient64541"]
    assert list(table.splits) == ["trainval", "trainval", "test"]
    assert table.paths[1] == str(chexpert / "train/patient00002/study2/view2_lateral.jpg")


def test_chexpert_options(chexpert: Path) -> None:
    table = CheXpertSource(name="c", root=chexpert, blank="negative", views="lateral").read()
    assert table.labels.tolist() == [[0, -1, -2, 1, -1, -2, -2, -1, -2, 0, -2, 0, 1, 0]]
    table = CheXpertSource(name="c", root=chexpert, views="frontal", valid="val").read()
    assert list(table.splits) == ["train", "val"]


def test_chexpert_no_finding_spares_devices(chexpert: Path) -> None:
    source = CheXpertSource(name="c", root=chexpert, uncertain={"Effusion": "ones"})
    assembly = assemble(
        [source],
        classes=["Pneumonia", "pleural effusion", "Support Devices"],
        taxonomy=Taxonomy.load("thorax"),
    )
    assert assembly.table.classes == ("Pneumonia", "Effusion", "Support Devices")
    assert assembly.table.labels[0].tolist() == [0, 0, 1]
    assert assembly.targets()[1].tolist()[1] == 1.0


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (",Lateral,,", ",Latreal,,", "line 3, column 'Frontal/Lateral': a view must be Frontal or Lateral"),
        (",-1.0,1.0,", ",-2.0,1.0,", "line 3, column 'Cardiomegaly': a label must be 1.0, 0.0, -1.0"),
        ("/patient00002/", "/../", "line 3, column 'Path': a path must be like"),
        ("Pneumothorax", "Pneumo", "line 1: no column 'Pneumothorax'"),
    ],
)
def test_chexpert_damage(chexpert: Path, old: str, new: str, message: str) -> None:
    path = chexpert / "train.csv"
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(LabelAssembleError, match=message):
        CheXpertSource(name="c", root=chexpert).read()


def test_chexpert_missing(chexpert: Path) -> None:
    (chexpert / "valid.csv").unlink()
    with pytest.raises(
        LabelAssembleError, match=r"has no valid\.csv .*, the table of CheXpert; found train\.csv"
    ):
        CheXpertSource(name="c", root=chexpert).read()


@pytest.fixture
def covidx(tmp_path: Path) -> Path:
    (tmp_path / "train.txt").write_text(
        "379 1e64990d1b40c1758a2aaa9c7f7a85_jumbo.jpeg negative cohen\n"
        "MIDRC-RICORD-1C-419639-001037 MIDRC RICORD-46647-0.png positive ricord\n"
    )
    (tmp_path / "test.txt").write_text("379 sub-S03047.png positive bimcv\n")
    return tmp_path


def test_covidx_lists(covidx: Path) -> None:
    (covidx / "train").mkdir()
    (covidx / "train" / "MIDRC RICORD-46647-0.png").write_bytes(b"")
    table = CovidxSource(name="covid", root=covidx).read()
    assert table.classes == ("COVID-19",)
    assert table.labels[:, 0].tolist() == [0, 1, 1]
    assert list(table.groups) == ["cohen:379", "ricord:MIDRC-RICORD-1C-419639-001037", "bimcv:379"]
    assert list(table.splits) == ["trainval", "trainval", "test"]
    assert table.paths[1] == str(covidx / "train/MIDRC RICORD-46647-0.png")


def test_covidx_with_a_val_list_and_csv(covidx: Path) -> None:
    (covidx / "val.csv").write_text("patient_id,filename,class,data_source\n7,a.png,positive,rsna\n")
    table = CovidxSource(name="covid", root=covidx).read()
    assert list(table.splits) == ["train", "train", "val", "test"]
    (covidx / "val.csv").write_text("patient_id,filename,class\n7,a.png,positive\n")
    with pytest.raises(LabelAssembleError, match=r"val\.csv, line 1: no column 'source'"):
        CovidxSource(name="covid", root=covidx).read()


def test_covidx_with_three_classes(covidx: Path) -> None:
    (covidx / "train.txt").write_text("1 a.png normal rsna\n2 b.png pneumonia rsna\n3 c.png COVID-19 cohen\n")
    (covidx / "test.txt").write_text("")
    table = CovidxSource(name="covid", root=covidx).read()
    assert table.classes == ("COVID-19", "Pneumonia")
    assert table.labels.tolist() == [[0, 0], [0, 1], [1, -1]]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("a.png positive", "train.txt, line 1: must be 'patient file class origin'"),
        ("a.png positive rsna", "train.txt, line 1: a class must be .*got 'rsna'"),
        (
            "1 a.png positiv rsna",
            "train.txt, line 1: a class must be covid-19 or pneumonia or normal, got 'positiv'",
        ),
        (
            "1 a.png negative rsna\n2 b.png normal rsna",
            "line 2: a class must be positive or negative, got 'normal'",
        ),
        ("1 ../a.png negative rsna", "line 1: must name a file below train/"),
    ],
)
def test_covidx_damage(covidx: Path, line: str, message: str) -> None:
    (covidx / "train.txt").write_text(line + "\n")
    with pytest.raises(LabelAssembleError, match=message):
        CovidxSource(name="covid", root=covidx).read()


def test_covidx_missing(covidx: Path) -> None:
    (covidx / "test.txt").unlink()
    with pytest.raises(LabelAssembleError, match=r"has no test\.txt and no test\.csv"):
        CovidxSource(name="covid", root=covidx).read()


def test_a_compressed_csv_and_damage_to_it(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv.gz"
    whole = gzip.compress(b"path,Mass\n" + b"".join(b"%d.png,1\n" % index for index in range(5000)))
    path.write_bytes(whole)
    assert len(CsvSource(name="x", path=path).read()) == 5000
    path.write_bytes(whole[:-2000])
    with pytest.raises(LabelAssembleError, match=r"labels\.csv\.gz, after line \d+: cannot be read"):
        CsvSource(name="x", path=path).read()
    path.write_bytes(b"path,Mass\n")
    with pytest.raises(LabelAssembleError, match="cannot be read"):
        CsvSource(name="x", path=path).read()


def test_init_recognises_them(
    nih: Path, chexpert: Path, init_and_assemble: Callable[..., dict[str, Any]]
) -> None:
    for folder, reader in ((nih, "chestxray14"), (chexpert, "chexpert")):
        source = init_and_assemble(folder)
        assert source == {"name": folder.name.split(".")[0], "reader": reader, "root": str(folder)}


def test_init_recognises_covidx(covidx: Path, init_and_assemble: Callable[..., dict[str, Any]]) -> None:
    assert init_and_assemble(covidx, "--name", "c") == {"name": "c", "reader": "covidx", "root": str(covidx)}
