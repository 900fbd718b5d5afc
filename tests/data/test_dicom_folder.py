"""The reader of folders of DICOM files: headers as a table, labels joined, what is no radiograph counted."""

import gzip
import os
import sys
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from labelassemble.data import DicomSource, Table, assemble, decode_image
from labelassemble.data.pseudonyms import pseudonyms, read_key
from labelassemble.data.subgroup_report import read_with_subgroups
from labelassemble.data.text import text_array
from labelassemble.errors import LabelAssembleError

CR, DX, CAPTURE = "1.2.840.10008.5.1.4.1.1.1", "1.2.840.10008.5.1.4.1.1.1.1", "1.2.840.10008.5.1.4.1.1.7"
FOR_PROCESSING, CT, REPORT = (f"1.2.840.10008.5.1.4.1.1.{end}" for end in ("1.1.1", "2", "88.11"))
DIRECTORY = "1.2.840.10008.1.3.10"
Writer = Callable[..., str]


@pytest.fixture
def put(tmp_path: Path) -> Writer:
    """Return a function that writes a DICOM file below the folder `export`."""
    import pydicom
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian

    def write(name: str, sop_class: str = DX, *, pixels: bool = True, **elements: Any) -> str:
        data = pydicom.Dataset()
        data.file_meta = FileMetaDataset()
        data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        uid = elements.setdefault("SOPInstanceUID", f"1.2.3.{zlib.crc32(name.encode())}")
        data.file_meta.MediaStorageSOPClassUID = sop_class
        data.file_meta.MediaStorageSOPInstanceUID = uid
        data.SOPClassUID = sop_class
        data.Modality = "DX"
        if pixels:
            data.Rows, data.Columns, data.SamplesPerPixel = 2, 3, 1
            data.PhotometricInterpretation = "MONOCHROME2"
            data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 8, 8, 7, 0
            data.PixelData = bytes(range(0, 240, 40))
        for key, value in elements.items():
            if value is None:
                delattr(data, key)
            else:
                setattr(data, key, value)
        path = tmp_path / "export" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            pydicom.dcmwrite(path, data, enforce_file_format=True)
        return uid

    return write


@pytest.fixture
def export(put: Writer, tmp_path: Path) -> Path:
    """Two patients in three studies, and what else a hospital puts on the disk."""
    about = {"PatientSex": "F", "PatientAge": "058Y", "Manufacturer": "Maker"}
    put(
        "7/a/IM1",
        PatientID="7",
        StudyInstanceUID="1.1",
        SeriesInstanceUID="1.1.1",
        ViewPosition="PA",
        **about,
    )
    put(
        "7/a/IM2",
        PatientID="7",
        StudyInstanceUID="1.1",
        SeriesInstanceUID="1.1.2",
        ViewPosition="LL",
        **about,
    )
    put("7/b/IM1", CR, PatientID="7", StudyInstanceUID="1.2", Modality="CR", ViewPosition="AP", **about)
    put(
        *("8/c/IM9.dcm", DX),
        **{
            "PatientID": "8",
            "StudyInstanceUID": "1.3",
            "PatientBirthDate": "19600301",
            "StudyDate": "20200229",
        },
        **{"PatientSex": "M", "ImageLaterality": "L", "AccessionNumber": "A17"},
    )
    put("7/a/CT1", CT, Modality="CT")
    put("7/a/CT2", CT, Modality="CT")
    put("7/a/SR1", REPORT, Modality="SR", pixels=False)
    put("7/a/SC1", CAPTURE, Modality="CR", PatientID="7", StudyInstanceUID="1.1")
    put("7/a/RAW", FOR_PROCESSING)
    put("8/c/RUN", NumberOfFrames=3)
    put("8/c/NOTHING", pixels=False)
    put("8/c/ODD", Modality="ZZ")
    put("DICOMDIR", DIRECTORY, pixels=False, Modality=None)
    root = tmp_path / "export"
    (root / "viewer.exe").write_bytes(b"MZ" + bytes(200))
    (root / "empty").write_bytes(b"")
    (root / "damaged.dcm").write_bytes(bytes(128) + b"DICM" + b"\xff" * 40)
    (root / "copy").write_bytes((root / "7/a/IM1").read_bytes())
    return root


def read(root: Path, **options: object) -> Table:
    return DicomSource.model_validate({"name": "d", "root": root, **options}).read()


def labels(root: Path, text: str, name: str = "labels.csv") -> Path:
    path = root / name
    path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return path


def test_the_headers_are_the_table(export: Path) -> None:
    table = read(export)
    assert list(table.names) == ["7/a/IM1", "7/a/IM2", "7/b/IM1", "8/c/IM9.dcm"]
    assert list(table.paths)[3] == str(export / "8/c/IM9.dcm")
    assert list(table.groups) == ["7", "7", "7", "8"]
    assert table.classes == ()
    assert decode_image(table.paths[0]).shape == (1, 2, 3)


def test_what_is_no_radiograph_is_counted(export: Path) -> None:
    (note,) = read(export).notes
    assert note.startswith("left out: 2 CT images (such as 7/a/CT1), ")
    for part in (
        "1 structured reports (such as 7/a/SR1)",
        "1 secondary captures (such as 7/a/SC1)",
        "1 radiographs for processing (the detector's raw values) (such as 7/a/RAW)",
        "1 radiographs of several frames (such as 8/c/RUN)",
        "1 radiographs without an image (such as 8/c/NOTHING)",
        "1 files of modality ZZ (such as 8/c/ODD)",
        "1 DICOMDIR files (such as DICOMDIR)",
        "2 files that are not DICOM (such as empty)",
        "1 DICOM files with a damaged header (such as damaged.dcm)",
        "1 copies of a radiograph (of the same SOP Instance UID) (such as copy)",
    ):
        assert part in note
    assert len(read(export, secondary_captures=True)) == 5


def test_a_header_without_pixels_is_no_radiograph(put: Writer, tmp_path: Path) -> None:
    put("a")
    put("compressed", PixelData=b"\xfe\xff\x00\xe0" + bytes(4) + b"\xfe\xff\xdd\xe0" + bytes(4))
    put("empty", PixelData=b"")
    put("header", PixelData=None)
    table = read(tmp_path / "export")
    assert list(table.names) == ["a", "compressed"]
    assert table.notes == ("left out: 2 radiographs without an image (such as empty)",)


def test_subgroups_come_from_the_headers(export: Path) -> None:
    wanted = ["sex", "age", "view", "laterality", "scanner"]
    table = read_with_subgroups(DicomSource(name="d", root=export), wanted)
    assert {name: values.tolist() for name, values in table.subgroups.items()} == {
        "sex": ["female", "female", "female", "male"],
        "age": ["58", "58", "58", "59"],  # of the dates of birth and of the study, a day before the birthday
        "view": ["PA", "lateral", "AP", ""],
        "laterality": ["", "", "", "L"],
        "scanner": ["Maker", "Maker", "Maker", ""],
    }
    chosen = DicomSource.model_validate(
        {"name": "d", "root": export, "subgroup_columns": {"site": "AccessionNumber", "day": "StudyDate"}}
    )
    table = read_with_subgroups(chosen, ["site", "day"])
    assert table.subgroups["site"].tolist() == ["", "", "", "A17"]
    assert table.subgroups["day"].tolist() == ["", "", "", "20200229"]


def test_views(export: Path) -> None:
    table = read(export, views="frontal")
    assert list(table.names) == ["7/a/IM1", "7/b/IM1"]
    assert "left out by views: frontal, of other or unknown views: 2" in table.notes
    assert list(read(export, views="lateral").names) == ["7/a/IM2"]


@pytest.mark.parametrize(
    ("text", "options", "expected"),
    [
        ("PatientID,Mass\n007,1\n8,0\n", {}, [1, 1, 1, 0]),
        ("patient_id,Mass\n7.0,1\n8.0,\n", {"blank": "negative"}, [1, 1, 1, 0]),
        ("study,Mass\n1.1,1\n1.2,0\n1.3,-2\n", {}, [1, 1, 0, -2]),
        ("Study Instance UID,Mass\n1.1,1\n1.2,0\n", {}, [1, 1, 0, -1]),
        ("series_uid,Mass\n1.1.1,1\n1.1.2,0\n", {}, [1, 0, -1, -1]),
        ("accession_number,Mass\nA17,1\n", {}, [-1, -1, -1, 1]),
        ("file,Mass\n7/a/IM1,1\n7/a/IM2,0\n8/c/IM9,1\n", {}, [1, 0, -1, 1]),
        ("path,Mass\n./7/a/IM1,1\n8\\c\\IM9.dcm,0\n", {}, [1, -1, -1, 0]),
        ("image_id,Mass\nIM9,1\nIM2,0\n", {}, [-1, 0, -1, 1]),
        ("patient,study,Mass\n7,1.1,1\n7,1.2,0\n8,1.3,0\n", {}, [1, 1, 0, 0]),
        ("patient,study,Mass\n7,x,1\n8,y,0\n", {"join": "patient"}, [1, 1, 1, 0]),
        ("who,Mass\n7,1\n8,0\n", {"join": "patient", "join_column": "who"}, [1, 1, 1, 0]),
    ],
)
def test_labels_are_joined(
    export: Path, tmp_path: Path, text: str, options: dict[str, Any], expected: list[int]
) -> None:
    for name in ("labels.csv", "labels.csv.gz"):
        path = labels(tmp_path, text, name)
        table = read(export, labels=path, **options)
        assert table.classes == ("Mass",)
        assert table.labels[:, 0].tolist() == expected
        assert table.files == (str(path),)


@pytest.mark.parametrize(
    ("headers", "text", "options", "expected"),
    [
        (["12", "0012", "77"], "12,0\n0012,1\n77,0\n", {}, [0, 1, 0]),
        (["12", "0012", "77"], " 12,0\n0012 ,1\n077,0\n", {}, [0, 1, 0]),
        (["12", "77", "78"], "12,0\n0077,1\n78.0,1\n", {}, [0, 1, 1]),
        (["12", "77"], "12,1\n0012,1\n77,0\n", {}, [1, 0]),
        (["12", "0012", "77"], "0012,1\n77,0\n", {"ids": "text"}, [-1, 1, 0]),
        (["12", "0012", "77"], "0012,1\n77,0\n", {"ids": "exact"}, [-1, 1, 0]),
        (["12", "0012", "77"], "0012,1\n77,0\n", {"ids": "numbers"}, [1, 1, 0]),
        (["12", "unknown", "", "77"], "12,1\nunknown,1\n,0\n77,0\n", {}, [1, -1, -1, 0]),
    ],
)
def test_numbers_are_joined_by_their_text_first(
    put: Writer,
    tmp_path: Path,
    headers: list[str],
    text: str,
    options: dict[str, Any],
    expected: list[int],
) -> None:
    for place, accession in enumerate(headers):
        put(f"{place}", AccessionNumber=accession)
    path = labels(tmp_path, f"AccessionNumber,Mass\n{text}")
    table = read(tmp_path / "export", labels=path, **options)
    assert table.labels[:, 0].tolist() == expected
    assert ("1 of 3 accessions" in " ".join(table.notes)) == (expected[0] == -1)


@pytest.mark.parametrize(
    ("headers", "text", "error"),
    [
        (
            ["12", "0012", "77"],
            "0012,1\n77,0\n",
            r"export has accessions '12' and '0012', which are one number, so whether '12' of .*export is '0012' of "
            r"labels\.csv cannot be told: .* `ids: text`",
        ),
        (["12", "0012", "77"], "00012,1\n77,0\n", r"export has accessions '12' and '0012'.* is '00012' of"),
        (["012", "77"], "12,1\n0012,1\n77,0\n", r"labels\.csv has accessions '12' and '0012'.* '012' of"),
        (["12", "77"], "12,1\n0012,0\n77,0\n", "says two things of the accession '0012'"),
    ],
)
def test_numbers_that_the_text_does_not_tell_apart(
    put: Writer, tmp_path: Path, headers: list[str], text: str, error: str
) -> None:
    for place, accession in enumerate(headers):
        put(f"{place}", AccessionNumber=accession)
    path = labels(tmp_path, f"AccessionNumber,Mass\n{text}")
    with pytest.raises(LabelAssembleError, match=error):
        read(tmp_path / "export", labels=path)


def test_names_of_files_are_no_numbers(put: Writer, tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("0123456789abcdef")
    for name in ("001.dcm", "1.dcm", "2.dcm", "3.dcm"):
        put(name)
    for text in ("001,1\n2,0\n3,0\n", "001.dcm,1\n2.dcm,0\n3.dcm,0\n"):
        path = labels(tmp_path, f"file,Mass\n{text}")
        for options in ({}, {"ids": "numbers"}, {"pseudonyms": key}):
            table = read(tmp_path / "export", labels=path, **options)
            assert table.labels[:, 0].tolist() == [1, -1, 0, 0]
            assert any("1 of 4 files" in note for note in table.notes)
    path = labels(tmp_path, "file,Mass\n001,1\n1,0\n2,0\n3,-2\n")
    assert read(tmp_path / "export", labels=path).labels[:, 0].tolist() == [1, 0, 0, -2]


def test_labels_in_chexperts_coding(export: Path, tmp_path: Path) -> None:
    path = labels(tmp_path, "patient,Mass,Edema\n7,-1.0,\n8,,1\n")
    plain = read(export, labels=path)
    assert plain.labels.tolist() == [[-1, -1]] * 3 + [[-1, 1]]
    assert any(note.startswith("warning: 1 cells are -1 and 2 are blank") for note in plain.notes)
    told = read(export, labels=path, minus_one="uncertain")
    assert told.labels.tolist() == [[-2, -1]] * 3 + [[-1, 1]]
    assert not any("are blank" in note for note in told.notes)


def test_labels_by_image_with_split(export: Path, tmp_path: Path) -> None:
    uids = [f"1.2.3.{zlib.crc32(name.encode())}" for name in ("7/a/IM1", "8/c/IM9.dcm")]
    path = labels(tmp_path, f"SOPInstanceUID,split,Mass,Edema\n{uids[0]},train,1,\n{uids[1]},test,0,1\n")
    table = read(export, labels=path, classes=["Edema"])
    assert table.labels[:, 0].tolist() == [-1, -1, -1, 1]
    assert list(table.splits) == ["train", "", "", "test"]
    assert any("2 of 4 images" in note for note in table.notes)


def test_mistakes_of_labels(export: Path, tmp_path: Path) -> None:
    path = labels(tmp_path, "PatientID,Mass\nAA,1\nBB,0\n")
    with pytest.raises(
        LabelAssembleError, match=r"source 'd': none of the 2 patients of .* has a row in labels\.csv.*'7' ag"
    ):
        read(export, labels=path)
    labels(tmp_path, "PatientID,Mass\n7,1\n07,0\n8,1\n")
    with pytest.raises(LabelAssembleError, match="says two things of the patient '07'"):
        read(export, labels=path)
    labels(tmp_path, "PatientID,Mass\n7,1\n07,1\n8,1\n")
    assert read(export, labels=path).labels[:, 0].tolist() == [1, 1, 1, 1]
    labels(tmp_path, "file,Mass\nIM1,1\nIM9,0\n")
    with pytest.raises(
        LabelAssembleError, match="the file 'IM1' of the labels is 7/a/IM1 and 7/b/IM1: give paths"
    ):
        read(export, labels=path)
    labels(tmp_path, "who,Mass\n7,1\n")
    with pytest.raises(
        LabelAssembleError, match=r"no column of .* is called as no identifier .*got who, Mass"
    ):
        read(export, labels=path)
    with pytest.raises(
        LabelAssembleError, match=r"what the column 'who' of .*labels\.csv says must be named by `join`"
    ):
        read(export, labels=path, join_column="who")
    labels(tmp_path, "PatientID,Mass\n7,2\n")
    with pytest.raises(LabelAssembleError, match="line 2, column 'Mass': a label must be 1, 0"):
        read(export, labels=path)
    labels(tmp_path, "PatientID,Mass\n")
    with pytest.raises(LabelAssembleError, match=r"source 'd': .*labels\.csv has no rows"):
        read(export, labels=path)
    labels(tmp_path, "PatientID\n7\n")
    with pytest.raises(LabelAssembleError, match="line 1: no column is a class"):
        read(export, labels=path)


def test_pseudonyms(export: Path, tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("0123456789abcdef\n")
    path = labels(tmp_path, "PatientID,Mass\n07,1\n8,0\n9,0\n")
    plain, hidden = read(export, labels=path), read(export, labels=path, pseudonyms=key)
    np.testing.assert_array_equal(plain.labels, hidden.labels)
    assert len(set(hidden.groups)) == 2
    assert hidden.groups[0] == pseudonyms(text_array(["0007"]), "patient", read_key(key))[0]
    assert not {"7", "8"} & {*hidden.groups, *hidden.names}
    assert len(set(hidden.names)) == 4
    assert list(hidden.paths) == list(plain.paths)
    (export / "viewer.exe").write_bytes(b"another folder")
    assert list(read(export, pseudonyms=key).groups) == list(hidden.groups)
    key.write_text("fedcba9876543210")
    assert hidden.groups[0] not in read(export, pseudonyms=key).groups
    key.write_text("short")
    with pytest.raises(LabelAssembleError, match="a key for pseudonyms must have 16 bytes or more, got 5"):
        read(export, pseudonyms=key)


def test_a_known_pseudonym() -> None:
    """HMAC-SHA256 of "patient:7", made with openssl."""
    expected = "pa3fd2fdaa5cae3f0972a231dfb25da82"
    assert pseudonyms(text_array(["7", "", "7.0"]), "patient", b"0123456789abcdef").tolist() == [
        expected,
        "",
        expected,
    ]


def test_patients_that_nobody_knows(put: Writer, tmp_path: Path) -> None:
    put("1", PatientID="", StudyInstanceUID="5.1")
    put("2", PatientID="ANON", StudyInstanceUID="5.1")
    put("3", StudyInstanceUID="5.2")
    put("4", PatientID="unknown")
    table = read(tmp_path / "export")
    assert list(table.groups) == ["study 5.1", "study 5.1", "study 5.2", ""]


def test_classes_without_labels(export: Path, put: Writer) -> None:
    table = read(export, classes=["Mass"])
    assert table.classes == ("Mass",)
    assert set(table.labels.ravel().tolist()) == {-1}


def test_it_assembles(export: Path, tmp_path: Path) -> None:
    path = labels(tmp_path, "PatientID,Mass\n7,1\n8,0\n")
    report = assemble([DicomSource(name="d", root=export, labels=path)]).report
    assert "left out: 2 CT images" in report.to_text()
    assert f"d: {path}" in report.to_text()


def test_folders_that_hold_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(LabelAssembleError, match=r"source 'd': .*nowhere does not exist"):
        read(tmp_path / "nowhere")
    with pytest.raises(LabelAssembleError, match="holds no radiograph; it is empty"):
        read(tmp_path)
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(
        LabelAssembleError, match=r"no radiograph; left out: 1 files that are not DICOM \(such as notes\.t"
    ):
        read(tmp_path)
    with pytest.raises(LabelAssembleError, match=r"notes\.txt is not a folder"):
        read(tmp_path / "notes.txt")
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(LabelAssembleError, match=r"pip install 'labelassemble\[dicom\]'"):
        read(tmp_path)


def test_linked_folders_are_looked_into_once(export: Path, tmp_path: Path) -> None:
    (tmp_path / "linked").mkdir()
    os.symlink(export / "7", tmp_path / "linked" / "patient")
    os.symlink(export / "7", tmp_path / "linked" / "again")
    os.symlink(tmp_path / "linked", tmp_path / "linked" / "itself")
    assert len(read(tmp_path / "linked")) == 3


def test_no_pixel_is_read(export: Path) -> None:
    """A file that is cut off in its pixels has its header."""
    path = export / "7" / "a" / "IM1"
    path.write_bytes(path.read_bytes()[:-4])
    assert "7/a/IM1" in read(export).names.tolist()


def test_init(
    export: Path, cli: Callable[..., Any], init_and_assemble: Callable[..., dict[str, Any]]
) -> None:
    status, _, err = cli("init", export, "-o", export.parent / "d.yaml")
    assert (status, err.count("\n")) == (2, 1)
    assert "holds DICOM files and no table: name the table of their labels by --labels FILE" in err
    path = labels(export.parent, "PatientID,Edema\n7,1\n8,0\n")
    source = init_and_assemble(export, "--labels", path)
    assert source == {
        "name": "export",
        "reader": "dicom",
        "root": str(export),
        "labels": str(path),
        "classes": ["Edema"],
    }
