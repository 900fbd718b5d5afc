"""The training cases of an assembly."""

from pathlib import Path

import numpy as np

from labelassemble.data import VolumesSource, assemble
from labelassemble.run.volumes import volume_data


def test_what_excludes_each_other_in_a_voxel_reaches_the_crops_and_the_loss(tmp_path: Path) -> None:
    mask = np.zeros((9, 9), dtype=np.uint8)
    mask[2:5, 2:5] = 1
    np.savez(tmp_path / "i.npz", a=np.zeros((9, 9)), b=np.ones((9, 9)))
    np.savez(tmp_path / "m.npz", a=mask, b=mask)
    place = {"reader": "volumes", "root": tmp_path, "images": "i.npz", "split": "train"}
    heart = {"masks": {"labels": {1: "LV"}, "files": "m.npz"}, "exclusive": "voxel"}
    source = VolumesSource.model_validate({"name": "a", **place, **heart})
    (tmp_path / "b.csv").write_text("image,RV\ni.npz::b,1\n")
    other = VolumesSource.model_validate(
        {"name": "b", "path": tmp_path / "b.csv", "root": tmp_path, "classes": ["RV"], "split": "train"}
    )
    data = volume_data(assemble([source, other]))
    assert data.exclusions is not None
    assert data.exclusions.matrices[data.exclusions.rows[0]].tolist() == [[False, True], [True, False]]
