"""Any damage to any file of any reader: a table or one sentence, never another exception."""

import gzip
import io
import pickle
import struct
import tarfile
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labelassemble.data import (
    ChestXray14Source,
    CheXpertSource,
    Cifar10Source,
    CovidxSource,
    CsvSource,
    DicomSource,
    MedMnistSource,
    MimicCxrSource,
    MnistSource,
    PadChestSource,
    Source,
    Table,
    VinDrCxrSource,
    WebDatasetSource,
)
from labelassemble.data.readers.chexpert import CHEXPERT_CLASSES
from labelassemble.data.readers.mimic import MIMIC_CLASSES
from labelassemble.errors import LabelAssembleError


def csv(root: Path) -> Source:
    (root / "labels.csv").write_text(
        "path,patient,split,Mass,Edema\n" + '"a,1.png",7,train,1,-2\nb.png,8,test,0,\n' * 3
    )
    return CsvSource(name="x", path=root / "labels.csv")


def chestxray14(root: Path) -> Source:
    rows = "".join(
        f"{index}.png,Mass|Edema,0,{index},058Y\n{index}b.png,No Finding,0,1,9\n" for index in range(3)
    )
    (root / "Data_Entry_2017.csv").write_text(
        "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age\n" + rows
    )
    (root / "train_val_list.txt").write_text("0.png\n1.png\n2.png\n")
    (root / "test_list.txt").write_text("0b.png\n1b.png\n2b.png\n")
    return ChestXray14Source(name="x", root=root)


def chexpert(root: Path) -> Source:
    for part in ("train", "valid"):
        row = (
            f"CheXpert-v1.0/{part}/patient00001/study1/view1_frontal.jpg,Frontal"
            + ",1.0,-1.0,,0.0,,,,,,,,,,1.0\n"
        )
        (root / f"{part}.csv").write_text("Path,Frontal/Lateral," + ",".join(CHEXPERT_CLASSES) + "\n" + row)
    return CheXpertSource(name="x", root=root)


def covidx(root: Path) -> Source:
    (root / "train.txt").write_text("3 a b.png positive cohen\n4 c.png negative rsna\n")
    (root / "test.csv").write_text("patient_id,filename,class,source\n7,a.png,positive,rsna\n")
    return CovidxSource(name="x", root=root)


def mimic(root: Path) -> Source:
    labels = "subject_id,study_id," + ",".join(MIMIC_CLASSES) + "\n10000032,5,,1.0,-1.0,,,,,,,0.0,,,,\n"
    (root / "mimic-cxr-2.0.0-chexpert.csv.gz").write_bytes(gzip.compress(labels.encode()))
    (root / "mimic-cxr-2.0.0-split.csv").write_text(
        "dicom_id,study_id,subject_id,split\nab-cd,5,10000032,validate\n"
    )
    return MimicCxrSource(name="x", root=root)


def padchest(root: Path) -> Source:
    header = "ImageID,ImageDir,PatientID,Projection,Labels\n"
    rows = "1.png,0,7,PA,\"['kyphosis', ' normal']\"\n2.png,1,8,L,['normal']\n3.png,1,8,L,\n"
    (root / "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv").write_text(header + rows)
    return PadChestSource(name="x", root=root, classes=("normal",))


def vindr(root: Path) -> Source:
    (root / "annotations").mkdir()
    (root / "annotations" / "image_labels_train.csv").write_text(
        "image_id,rad_id,Mass,Edema\n5,R1,1,0\n5,R2,0,0\n"
    )
    (root / "annotations" / "image_labels_test.csv").write_text("image_id,Mass,Edema\n6,1,0\n")
    return VinDrCxrSource(name="x", root=root)


def medmnist(root: Path) -> Source:
    arrays = {f"{part}_images": np.zeros((2, 3, 3), dtype=np.uint8) for part in ("train", "val", "test")}
    arrays |= {f"{part}_labels": np.array([[0], [1]], dtype=np.uint8) for part in ("train", "val", "test")}
    np.savez_compressed(root / "pneumoniamnist.npz", **arrays)  # type: ignore[arg-type]
    return MedMnistSource(name="x", path=root / "pneumoniamnist.npz")


def mnist(root: Path) -> Source:
    for part in ("train", "t10k"):
        images = struct.pack(">HBB3I", 0, 8, 3, 2, 2, 2) + bytes(8)
        (root / f"{part}-images-idx3-ubyte.gz").write_bytes(gzip.compress(images))
        (root / f"{part}-labels-idx1-ubyte").write_bytes(struct.pack(">HBB1I", 0, 8, 1, 2) + bytes([3, 4]))
    return MnistSource(name="x", root=root)


def cifar10(root: Path) -> Source:
    content = {"labels": [3], "data": np.zeros((1, 3072), dtype=np.uint8), "filenames": ["a.png"]}
    for file in (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"):
        (root / file).write_bytes(pickle.dumps(content, protocol=2))
    return Cifar10Source(name="x", root=root)


def webdataset(root: Path) -> Source:
    with tarfile.open(root / "s.tar", "w") as tar:
        for name, data in (
            ("1.png", b"x"),
            ("1.json", b'{"labels": {"Mass": 1}, "patient": 7, "split": "val"}'),
        ):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return WebDatasetSource(name="x", shards=root / "s.tar")


def dicom(root: Path) -> Source:
    import pydicom
    from pydicom.dataset import FileMetaDataset

    for number in (1, 2):
        data = pydicom.Dataset()
        data.file_meta = FileMetaDataset()
        data.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1"
        data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID = "1.2.840.10008.5.1.4.1.1.1"
        data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID = f"1.2.{number}"
        data.Modality, data.PatientID, data.PatientAge, data.ViewPosition = "CR", str(number), "058Y", "PA"
        data.Rows = data.Columns = 1
        (root / "deep").mkdir(exist_ok=True)
        data.BitsAllocated = 8
        data.PixelData = bytes(2)
        pydicom.dcmwrite(root / "deep" / str(number), data, enforce_file_format=True)
    (root / "labels.csv").write_text("PatientID,split,Mass\n1,train,1\n2,test,0\n")
    return DicomSource(name="x", root=root, labels=root / "labels.csv")


BUILDERS = [
    csv,
    chestxray14,
    chexpert,
    covidx,
    mimic,
    padchest,
    vindr,
    medmnist,
    mnist,
    cifar10,
    webdataset,
    dicom,
]
JUNK = [
    b"",
    b"\0",
    b'"',
    b",",
    b"\n",
    b"\r",
    b"\xff",
    b"\xef\xbb\xbf",
    b"|",
    b"'",
    b"../",
    b"-2",
    b"x" * 200_000,
]


@pytest.mark.parametrize("build", BUILDERS)
def test_the_undamaged_files_are_read(build: Callable[[Path], Source], tmp_path: Path) -> None:
    assert len(build(tmp_path).read()) > 0


@pytest.mark.parametrize("build", BUILDERS)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_damage_gives_a_table_or_one_sentence(
    build: Callable[[Path], Source], tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    root = tmp_path_factory.mktemp("damage")
    source = build(root)
    files = sorted(path for path in root.rglob("*") if path.is_file())
    path = data.draw(st.sampled_from(files))
    content = path.read_bytes()
    start = data.draw(st.integers(0, len(content)))
    end = data.draw(
        st.sampled_from([start, min(start + 1, len(content)), min(start + 40, len(content)), len(content)])
    )
    path.write_bytes(
        content[:start] + data.draw(st.sampled_from(JUNK) | st.binary(max_size=8)) + content[end:]
    )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # numpy warns of odd headers
            table = source.read()
    except LabelAssembleError as error:
        assert "\n" not in str(error)  # noqa: PT017
    else:
        assert isinstance(table, Table)
