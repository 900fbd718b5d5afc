"""Sex, age and view of MIMIC-CXR-JPG: from its metadata, and from MIMIC-IV's table of patients where that is there."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import pandas as pd
import pyarrow as pa

from labelassemble.data.csvfile import Chunk, CsvFile, TextColumns
from labelassemble.data.identifiers import plain_keys
from labelassemble.data.joins import join_note
from labelassemble.data.subgroups import SubgroupCells, published
from labelassemble.data.text import text_array

_AGE: Final = "(age)"  # made of the dates of both tables
_DATED: Final = ("StudyDate", "anchor_age", "anchor_year")
_SUBGROUPS: Final = published(sex="gender", age=_AGE, view="ViewPosition")


class _Joined(NamedTuple):
    columns: dict[str, pd.Series]
    note: str


def add_mimic_subgroups(
    cells: SubgroupCells,
    source: str,
    tables: Mapping[str, Path],
    images: Sequence[str],
    subjects: Sequence[str],
    split_name: str,
) -> list[str]:
    """Add the subgroups of each image to `cells`, and return how many images and patients the tables have.

    Ages are anchor_age plus the years from anchor_year to the study (Johnson et al., Scientific Data 2023).

    Args:
        cells: Gets the subgroups.
        source: Its name, for errors.
        tables: The metadata, keyed by "dicom_id", and the patients, keyed by "subject_id", as far as they are there.
        images: The images, [N].
        subjects: Their patients, [N].
        split_name: The file that names them.

    Raises:
        LabelAssembleError: A table breaks the format, or hardly an image or patient is in it.
    """
    headers = {key: _header(path) for key, path in tables.items()}
    header = [column for columns in headers.values() for column in columns]
    header += [_AGE] if {*_DATED} <= {*header} else []
    columns = cells.columns(header, " and ".join(str(path) for path in tables.values()) or source, _SUBGROUPS)
    wanted = {item.column for item in columns.values()}
    wanted |= {*_DATED} if _AGE in wanted else set()
    joined: dict[str, pd.Series] = {"dicom_id": pd.Series(images, dtype=object)}
    notes = []
    for key, own in (("dicom_id", images), ("subject_id", subjects)):
        needed = [column for column in headers.get(key, ()) if column in wanted and column not in joined]
        if needed:
            found = _join(source, key, tables[key], needed, own, split_name)
            joined |= found.columns
            notes.append(found.note)
    if _AGE in wanted:
        studied, age, year = (pd.to_numeric(joined[name].str[:4], errors="coerce") for name in _DATED)
        ages = age + studied - year
        joined[_AGE] = ages.map("{:g}".format).where(ages.notna(), "")
    arrays = {name: pa.array(values, pa.large_string()) for name, values in joined.items()}
    cells.add(Chunk(Path(split_name), arrays, "row {}".format), columns)
    return notes


def _header(path: Path) -> tuple[str, ...]:
    with CsvFile(path) as file:
        return file.header


def _join(
    source: str, key: str, path: Path, columns: Sequence[str], own: Sequence[str], split_name: str
) -> _Joined:
    """Return the `columns` of the rows that `own` identifiers have in a table, "" where they have none."""
    texts = TextColumns(key, *columns)
    with CsvFile(path) as file:
        file.require(key, "what its rows are of")
        for chunk in file.chunks((key, *columns)):
            texts.add({name: chunk.columns[name] for name in (key, *columns)})
    theirs, ours = texts.take(key), text_array(list(own))
    what = "images" if key == "dicom_id" else "patients"
    note = join_note(source, what, ours, split_name, theirs, path.name)
    ids = pd.Index(plain_keys(theirs).astype(object))
    first = ~ids.duplicated()
    place = pd.Index(plain_keys(ours).astype(object))
    found = {}
    for name in columns:
        values = pd.Series(texts.take(name).astype(object)[first], index=ids[first], dtype=object)
        found[name] = values.reindex(place).fillna("").reset_index(drop=True)
    return _Joined(found, note)
