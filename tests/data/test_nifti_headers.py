"""NIfTI files whose header or name says less than it should: told, or read by what the file itself says."""

import gzip
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from labelassemble.data.volumes import read_grid, read_volume
from labelassemble.errors import LabelAssembleError

VALUES = np.arange(60, dtype=np.int16).reshape(3, 4, 5)


def written(path: Path, *, sform: int, qform: int, depth: int = 5, **sizes: float) -> Path:
    """Write a volume with voxels of 1 x 1 x 2 mm, then codes and other sizes (`axis_1=0`) into its header."""
    nibabel.save(nibabel.Nifti1Image(VALUES[:, :, :depth], np.diag([1.0, 1.0, 2.0, 1.0])), path)
    data = bytearray(path.read_bytes())
    header = np.frombuffer(data, nibabel.nifti1.header_dtype, count=1)
    header["sform_code"], header["qform_code"] = sform, qform
    for name, size in sizes.items():
        header["pixdim"][0, int(name[-1])] = size
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("size", [0.0, np.nan, np.inf])
@pytest.mark.parametrize("qform", [0, 1])
@pytest.mark.parametrize("read", [read_volume, read_grid])
def test_voxels_without_a_size_have_none_by_default(
    tmp_path: Path, size: float, qform: int, read: Callable[[str], Any]
) -> None:
    path = written(tmp_path / "a.nii", sform=0, qform=qform, axis_3=size)
    with pytest.raises(
        LabelAssembleError, match=r"a\.nii: its voxels have no size along axis 3 \(pixdim\), and it has no"
    ):
        read(str(path))


def test_the_sform_alone_holds_where_there_are_no_sizes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        found = read_volume(str(written(tmp_path / "a.nii", sform=1, qform=1, axis_3=0.0)))
    assert found.affine is not None
    assert found.affine.diagonal().tolist() == [1, 1, 2, 1]
    assert not caplog.records  # nibabel would tell that it makes them 1


def test_an_axis_of_one_voxel_needs_no_size(tmp_path: Path) -> None:
    path = written(tmp_path / "a.nii", sform=0, qform=1, depth=1, axis_1=0.5, axis_3=0.0)
    assert read_grid(str(path)).spacing().tolist() == [0.5, 1.0, 1.0]


def test_a_name_does_not_decide_whether_a_file_is_compressed(tmp_path: Path) -> None:
    plain = written(tmp_path / "a.nii", sform=1, qform=1).read_bytes()
    (tmp_path / "b.nii").write_bytes(gzip.compress(plain))
    (tmp_path / "c.nii.gz").write_bytes(plain)
    for name in ("a.nii", "b.nii", "c.nii.gz"):
        assert read_grid(str(tmp_path / name)).shape == VALUES.shape
        assert np.array_equal(read_volume(str(tmp_path / name)).values, VALUES)
