"""Images that the programs which answer by an exported model refuse, or decode otherwise, are named."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from labelassemble.data import CsvSource, assemble
from labelassemble.data.served import PROGRAMS, not_served_alike
from labelassemble.data.table import Table
from labelassemble.report.model_card import model_card
from labelassemble.report.record import Results, RunRecord


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Table:
    """Two PNGs, a WebP and a DICOM file, where the programs read all formats but WebP."""
    monkeypatch.setattr("labelassemble.data.served.program_formats", lambda: ("PNG", "JPEG", "BMP"))
    image = Image.fromarray(np.zeros((4, 4), dtype=np.uint8))
    for name in ("a.png", "b.png", "c.webp"):
        image.save(tmp_path / name)
    (tmp_path / "d.dcm").write_bytes(b"\0" * 128 + b"DICM")
    rows = "".join(f"{name},1\n" for name in ("a.png", "b.png", "c.webp", "d.dcm", "gone.png"))
    (tmp_path / "labels.csv").write_text("path,Mass\n" + rows)
    return assemble([CsvSource(name="clinic", path=tmp_path / "labels.csv")]).table


def test_what_the_programs_refuse_is_named_by_format(table: Table) -> None:
    (warning,) = not_served_alike(table)
    assert warning.startswith(
        "warning: source 'clinic': of 5 images looked at, 1 WebP and 1 DICOM, which labelassemble-predict and "
        "labelassemble-serve of this build refuse; they read PNG, JPEG, BMP"
    )


def test_what_they_read_is_no_warning(table: Table) -> None:
    assert not_served_alike(table.select([0, 1])) == ()


def test_options_that_the_programs_do_not_know_are_named(table: Table, tmp_path: Path) -> None:
    source = CsvSource(name="clinic", path=tmp_path / "labels.csv", orientation="ignore")
    of_png = assemble([source]).table.select([0, 1])
    (warning,) = not_served_alike(of_png)
    assert "source 'clinic' is decoded by its options `bits` or `orientation` (the first: " in warning


def test_the_model_card_says_it(table: Table, tmp_path: Path) -> None:
    record = RunRecord(tmp_path, ("Mass",), ("Mass",), {}, None, None, None, None, None)
    (section,) = (part for part in model_card(record, Results()) if part.title == "Data")
    assert not any(PROGRAMS in sentence for sentence in section.sentences)
    told = replace(record, notes=("another note", *not_served_alike(table)))
    (section,) = (part for part in model_card(told, Results()) if part.title == "Data")
    assert section.sentences[-1].startswith("Source 'clinic': of 5 images looked at, 1 WebP and 1 DICOM")
