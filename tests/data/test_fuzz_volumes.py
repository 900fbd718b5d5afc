"""Damaged volumes and masks: what is read is right, or one sentence names the file. `fuzz_volumes.py` does more."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from labelassemble.data.errors import ImageError
from labelassemble.data.mask_files import read_mask
from labelassemble.data.volumes import read_volume

sys.path.insert(0, str(Path(__file__).parents[1]))

pytest.importorskip("nibabel")
pytest.importorskip("pydicom")

from fuzz_volumes import ATTEMPTS, attempt, nifti, png

RUNS = 60


@pytest.mark.parametrize("kind", ATTEMPTS)
def test_what_is_read_is_right_or_one_sentence(kind: str) -> None:
    endings = [attempt(kind, run, seed=0) for run in range(RUNS)]
    assert [item for item in endings if item[0] not in ("read", "refused")] == []
    assert 5 < sum(ending == "read" for ending, _ in endings) < RUNS - 5  # both happen


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_grey_masks_of_few_bits_hold_the_numbers_that_are_stored(tmp_path: Path, bits: int) -> None:
    values = np.arange(8).reshape(2, 4) % 2**bits
    rows = []
    for row in values.tolist():
        text = "".join(f"{value:0{bits}b}" for value in row)
        text += "0" * (-len(text) % 8)
        rows.append(bytes(int(text[at : at + 8], 2) for at in range(0, len(text), 8)))
    (tmp_path / "a.png").write_bytes(png(bits, 0, rows, 4))
    np.testing.assert_array_equal(read_mask(str(tmp_path / "a.png")).values, values)


@pytest.mark.parametrize("mode", ["1", "L"])
def test_a_tiff_whose_0_is_white_holds_what_is_stored(tmp_path: Path, mode: str) -> None:
    values = np.array([[0, 1, 1], [1, 0, 0]], np.uint8)
    file = tmp_path / "a.tif"
    Image.fromarray(values * 255).convert(mode).save(file, tiffinfo={262: 1})
    plain = read_mask(str(file)).values
    Image.fromarray(values * 255).convert(mode).save(file, tiffinfo={262: 0})
    with Image.open(file) as image:
        tags: Any = image.tag_v2  # type: ignore[attr-defined]
        assert tags[262] == 0
        stored = np.frombuffer(file.read_bytes()[tags[273][0] :], np.uint8, 2 if mode == "1" else 6)
    if mode == "1":
        stored = np.unpackbits(stored.reshape(2, 1), axis=1)[:, :3]
    np.testing.assert_array_equal(read_mask(str(file)).values, stored.reshape(2, 3))
    assert set(plain.reshape(-1).tolist()) == {0, 1 if mode == "1" else 255}


@pytest.mark.parametrize("field", [252, 254])
def test_a_form_that_nifti_does_not_know_is_named(tmp_path: Path, field: int) -> None:
    import random

    data = nifti(random.Random(1))
    data[field : field + 2] = (16).to_bytes(2, "little" if data[0] else "big")
    (tmp_path / "a.nii").write_bytes(data)
    with pytest.raises(ImageError, match=r"a.nii: damaged: its [sq]form_code is 16, and NIfTI knows 0 to 5"):
        read_volume(str(tmp_path / "a.nii"))


def test_what_is_no_image_is_said_so_without_the_names_of_objects(tmp_path: Path) -> None:
    table = tmp_path / "cases.csv"
    table.write_text("image,mask\n")
    for read in (read_volume, read_mask):
        with pytest.raises(ImageError) as found:
            read(str(table))
        assert "no image file of a kind that is read" in str(found.value)
        assert "object at" not in str(found.value)
