"""The headers of a folder of DICOM files: which of them are radiographs, whose, and how they were taken."""

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np
import pandas as pd
import pyarrow as pa

from labelassemble._quiet import quiet
from labelassemble.data.dicom import is_dicom
from labelassemble.data.links import leads_back
from labelassemble.data.text import TextArray, text_array
from labelassemble.errors import LabelAssembleError

KEYWORDS: Final = (
    *("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "AccessionNumber", "PatientID"),
    *("PatientSex", "PatientAge", "ViewPosition", "Laterality", "BodyPartExamined"),
    *("Modality", "Manufacturer", "ManufacturerModelName", "StationName", "InstitutionName"),
)
"""The attributes that are read of every radiograph, by their keywords in DICOM PS3.6."""
_ALSO_READ: Final = (
    *("SOPClassUID", "ImageLaterality", "ViewCodeSequence", "PatientBirthDate", "StudyDate"),
    *("PresentationIntentType", "NumberOfFrames", "Rows", "Columns"),
)
_PIXELS: Final = frozenset({0x7FE00008, 0x7FE00009, 0x7FE00010})  # of floats, of doubles, of integers
_DIRECTORY: Final = "1.2.840.10008.1.3.10"
_STORAGE: Final = "1.2.840.10008.5.1.4.1.1."
_FOR_PROCESSING: Final = f"{_STORAGE}1.1.1"
_RADIOGRAPHY: Final = {f"{_STORAGE}1": "CR", f"{_STORAGE}1.1": "DX", _FOR_PROCESSING: "DX"}
_RADIOGRAPHS: Final = frozenset({"CR", "DX", "DR", "RG", "XR"})
_KINDS: Final = {
    "CT": "CT images",
    "MR": "MR images",
    "US": "ultrasound images",
    "PT": "PET images",
    "NM": "nuclear medicine images",
    "MG": "mammograms",
    "XA": "angiograms",
    "RF": "fluoroscopies",
    "SR": "structured reports",
    "PR": "presentation states",
    "KO": "key object selections",
    "DOC": "documents",
    "SEG": "segmentations",
    "OT": "images of modality OT",
}
_NOT_DICOM: Final = "files that are not DICOM"
_DAMAGED: Final = "DICOM files with a damaged header"
_THREADS: Final = 16  # more than cores: on a network's disk most of the time is waiting
_BLOCK: Final = 64


@dataclass(frozen=True)
class Radiographs:
    """The radiographs below a folder.

    Attributes:
        root: The folder, absolute.
        files: Where each lies below it, text [N].
        columns: What their headers say, by keyword, text [N] each, "" where nothing. PatientAge is made of the dates of
            birth and of the study where it is blank itself, Laterality is that of the image where it has one.
        skipped: How many files were left out and the first of them, by kind.
    """

    root: Path
    files: TextArray
    columns: Mapping[str, TextArray]
    skipped: Mapping[str, tuple[int, str]]


def read_radiographs(
    root: Path, *, also: Sequence[str] = (), secondary_captures: bool = False, without: Sequence[Path] = ()
) -> Radiographs:
    """Return the radiographs in `root` and all folders below it; no pixel is read.

    Left out, and counted by kind: what is not DICOM, a DICOMDIR, other modalities, reports and other documents,
    secondary captures, radiographs for processing, of several frames or without an image, and all files but one of
    those that have one SOP Instance UID.

    Args:
        root: The folder.
        also: Further keywords.
        secondary_captures: Whether a secondary capture of a radiograph's modality is one.
        without: Files that are not looked at.

    Raises:
        LabelAssembleError: pydicom is not installed, or the folder is not there or holds no radiograph.
    """
    base = Path(os.path.abspath(root))
    if not base.is_dir():
        raise LabelAssembleError(f"{base} {'is not a folder' if base.exists() else 'does not exist'}")
    try:
        import_module("pydicom")
    except ImportError:
        raise LabelAssembleError("DICOM files need pydicom: pip install 'labelassemble[dicom]'") from None
    wanted = tuple(dict.fromkeys((*KEYWORDS, *also)))
    left_out = {os.path.abspath(path) for path in without}
    files = sorted(file for file in _files(base) if f"{base}/{file}" not in left_out)

    def read(block: Sequence[str]) -> list[dict[str, str] | str]:
        return [_header(f"{base}/{file}", wanted, secondary_captures) for file in block]

    blocks = [files[first : first + _BLOCK] for first in range(0, len(files), _BLOCK)]
    with quiet("pydicom", logging.CRITICAL), ThreadPoolExecutor(_THREADS) as pool:
        headers = [header for block in pool.map(read, blocks) for header in block]
    skipped: dict[str, tuple[int, str]] = {}
    kept: list[str] = []
    rows: list[dict[str, str]] = []
    seen: set[str] = set()
    for file, header in zip(files, headers, strict=True):
        kind = header if isinstance(header, str) else None
        if not isinstance(header, str) and header["SOPInstanceUID"] in seen:
            kind = "copies of a radiograph (of the same SOP Instance UID)"
        if kind is not None:
            count, first = skipped.get(kind, (0, file))
            skipped[kind] = (count + 1, first)
        elif not isinstance(header, str):
            seen.add(header["SOPInstanceUID"])
            kept.append(file)
            rows.append(header)
    if not kept:
        raise LabelAssembleError(f"{base} holds no radiograph{skipped_sentence(skipped, '; ')}")
    columns = {name: text_array([row[name] for row in rows]) for name in wanted}
    columns["PatientAge"] = _ages(columns["PatientAge"], rows)
    return Radiographs(base, text_array(kept), columns, skipped)


def header_columns(paths: Sequence[str], keywords: Sequence[str]) -> dict[str, TextArray]:
    """Return what the headers of files say, by keyword, text [N] each; "" where a file is not there or no DICOM.

    Raises:
        LabelAssembleError: pydicom is not installed.
    """
    try:
        pydicom = import_module("pydicom")
    except ImportError:
        raise LabelAssembleError("DICOM files need pydicom: pip install 'labelassemble[dicom]'") from None

    def read(path: str) -> list[str]:
        try:
            data = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=list(keywords))
            return [_text(data, name) for name in keywords]
        except Exception:  # pydicom answers damage with many types
            return [""] * len(keywords)

    with quiet("pydicom", logging.CRITICAL), ThreadPoolExecutor(_THREADS) as pool:
        rows = list(pool.map(read, paths))
    return {name: text_array([row[index] for row in rows]) for index, name in enumerate(keywords)}


def skipped_sentence(skipped: Mapping[str, tuple[int, str]], start: str = "") -> str:
    """Return what was left out, "" where nothing was; `start` stands before it."""
    if not skipped:
        return f"{start}it is empty" if start else ""
    most = sorted(skipped, key=lambda kind: -skipped[kind][0])
    return f"{start}left out: " + ", ".join(
        f"{skipped[kind][0]} {kind} (such as {skipped[kind][1]})" for kind in most
    )


def _files(base: Path) -> Iterator[str]:
    """Yield every file below `base`; a folder that is linked to is looked into once."""
    seen = {os.path.realpath(base)}
    waiting = [""]
    while waiting:
        folder = waiting.pop()
        try:
            with os.scandir(base / folder) as entries:
                for entry in entries:
                    path = f"{folder}{entry.name}"
                    if not entry.is_dir():
                        yield path
                        continue
                    if entry.is_symlink():
                        if leads_back(entry.path):
                            continue
                        real = os.path.realpath(entry.path)
                        if real in seen:
                            continue
                        seen.add(real)
                    waiting.append(f"{path}/")
        except OSError as error:
            raise LabelAssembleError(
                f"{base / folder}: cannot be listed ({error.strerror or error})"
            ) from None


def _header(path: str, wanted: Sequence[str], secondary_captures: bool) -> dict[str, str] | str:
    """Return what the header of a radiograph says, or of which kind another file is."""
    try:
        with open(path, "rb") as file:
            if not is_dicom(file):
                return _NOT_DICOM
            data, has_pixels = _before_pixels(file, [*wanted, *_ALSO_READ])
        if str(data.file_meta.get("MediaStorageSOPClassUID", "")) == _DIRECTORY:
            return "DICOMDIR files"
        kind = _kind(data, has_pixels, secondary_captures)
        return {name: _text(data, name) for name in (*wanted, *_ALSO_READ)} if kind is None else kind
    except OSError as error:
        return f"files that cannot be read ({error.strerror or error})"
    except Exception:  # pydicom answers damage with many types
        return _DAMAGED


def _before_pixels(file: BinaryIO, keywords: Sequence[str]) -> tuple[Any, bool]:
    """Return what stands before the pixels of a DICOM file, and whether pixels that are not empty come there."""
    reader, tag = import_module("pydicom.filereader"), import_module("pydicom.tag").Tag
    lengths: list[int] = []

    def at_pixels(element: int, _: str | None, length: int) -> bool:
        if element in _PIXELS:
            lengths.append(length)
        return element in _PIXELS

    data = reader.read_partial(file, at_pixels, specific_tags=[tag(keyword) for keyword in keywords])
    return data, any(lengths)


def _kind(data: Any, has_pixels: bool, secondary_captures: bool) -> str | None:
    """Return what a DICOM file is that is no radiograph, None for a radiograph (DICOM PS3.4, B.5; PS3.3, C.7.3.1)."""
    sop_class = _text(data, "SOPClassUID") or str(data.file_meta.get("MediaStorageSOPClassUID", ""))
    modality = _text(data, "Modality").upper() or _RADIOGRAPHY.get(sop_class, "")
    if not sop_class or not _text(data, "SOPInstanceUID"):
        return _DAMAGED
    is_capture = sop_class == f"{_STORAGE}7" or sop_class.startswith(f"{_STORAGE}7.")
    if is_capture and not (secondary_captures and modality in _RADIOGRAPHS):
        return "secondary captures"
    if modality not in _RADIOGRAPHS:
        return _KINDS.get(
            modality, f"files of modality {modality}" if modality else "files without a modality"
        )
    if sop_class == _FOR_PROCESSING or "PROCESSING" in _text(data, "PresentationIntentType"):
        return "radiographs for processing (the detector's raw values)"
    if not (has_pixels and int(data.get("Rows") or 0) and int(data.get("Columns") or 0)):
        return "radiographs without an image"
    return "radiographs of several frames" if int(data.get("NumberOfFrames") or 1) > 1 else None


def _text(data: Any, name: str) -> str:
    if name == "Laterality":
        return header_value(data, "ImageLaterality") or header_value(data, "Laterality")
    if name == "ViewPosition" and not header_value(data, name) and data.get("ViewCodeSequence"):
        return header_value(data.ViewCodeSequence[0], "CodeMeaning")
    return header_value(data, name)


def header_value(data: Any, name: str) -> str:
    """Return an attribute of a pydicom Dataset as text, a backslash between several values; "" where it has none."""
    value = data.get(name, "")
    if value is None or name == "ViewCodeSequence":
        return ""
    many = value if isinstance(value, (list, tuple)) or type(value).__name__ == "MultiValue" else [value]
    return "\\".join(str(item) for item in many).replace("\0", "").strip()


def _ages(ages: TextArray, rows: Sequence[Mapping[str, str]]) -> TextArray:
    """Return the ages, those that are blank made of the dates of birth and of the study."""
    frame = pd.DataFrame(
        {name: [row[name] for row in rows] for name in ("PatientBirthDate", "StudyDate")}, dtype=object
    )
    born, studied = (
        pd.to_datetime(frame[name], format="%Y%m%d", errors="coerce")
        for name in ("PatientBirthDate", "StudyDate")
    )
    before = (studied.dt.month * 100 + studied.dt.day) < (born.dt.month * 100 + born.dt.day)
    years = studied.dt.year - born.dt.year - before
    made = np.where((years >= 0).to_numpy(), years.map("{:03.0f}Y".format), "")
    return text_array(np.where(ages != "", ages.astype(object), made.astype(object)))


def as_arrow(columns: Mapping[str, TextArray]) -> dict[str, pa.Array]:
    """Return columns of text as a block of a table has them."""
    arrays = {name: values.__arrow_array__() for name, values in columns.items()}
    return {
        name: array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array
        for name, array in arrays.items()
    }
