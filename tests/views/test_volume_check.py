"""Reading every case before training."""

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from labelassemble.cli.app import app


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Return a configuration of three cases, the second with a voxel that is no number."""
    volumes = {name: np.full((9, 10, size), 50.0) for name, size in (("p", 12), ("q", 12), ("r", 7))}
    volumes["p"][0], volumes["q"][3, 3, 3] = -2000, np.nan
    np.savez(tmp_path / "i.npz", **volumes)
    masks = {name: np.zeros(volume.shape, dtype=np.uint8) for name, volume in volumes.items()}
    for mask in masks.values():
        mask[2, 2, 2:4] = 1
    np.savez(tmp_path / "m.npz", **masks)
    (tmp_path / "c.yaml").write_text(
        "sources:\n  - {name: a, reader: volumes, root: ., images: i.npz, "
        "masks: {files: m.npz, labels: {1: lesion}}}\n"
        "volumes: {patch: [8, 8, 8], window: [-100, 240]}\n"
    )
    return tmp_path / "c.yaml"


def test_assemble_reads_every_case_and_names_those_that_cannot_be(config: Path) -> None:
    result = CliRunner().invoke(app, ["assemble", str(config), "--check-images"])
    assert result.exit_code == 2
    assert "1 of 3 cases cannot be read" in result.output
    assert f"{config.parent}/i.npz::q: 1 of its 1080 voxels are NaN or infinite" in result.output
    lines = [" ".join(line.split()) for line in result.output.splitlines()]
    assert "source cases shape spacing in mm at 0 at 1 smaller than a patch" in lines
    assert "a 2 9 x 10 x 7-12 not in the files 6% 0% 1" in lines
    assert "a lesion 3 3 6 2 2" in lines


def test_cases_that_can_be_read_are_counted(config: Path) -> None:
    volumes = dict(np.load(config.parent / "i.npz"))
    volumes["q"][3, 3, 3] = 0
    np.savez(config.parent / "i.npz", **volumes)
    result = CliRunner().invoke(app, ["assemble", str(config), "--check-images"])
    assert result.exit_code == 0
    assert "all 3 cases can be read" in result.output
