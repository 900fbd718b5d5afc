"""The plot of a case's crops."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from labelassemble.cli.app import app

CONFIG = """
sources:
  - {name: a, reader: volumes, root: ., images: i.npz, hide: [cyst], masks: {files: m.npz, labels: {1: PDAC, 2: cyst}}}
volumes: {patch: PATCH}
"""


@pytest.mark.parametrize("shape", [(20, 24), (20, 24, 18)])
def test_crops_of_a_case_are_drawn_with_what_is_known(tmp_path: Path, shape: tuple[int, ...]) -> None:
    mask = np.zeros(shape, dtype=np.uint8)
    mask[8:12, 8:16] = 1
    np.savez(tmp_path / "i.npz", p=np.zeros(shape), q=np.random.default_rng(0).random(shape))
    np.savez(tmp_path / "m.npz", p=np.zeros(shape, dtype=np.uint8), q=mask)
    (tmp_path / "c.yaml").write_text(CONFIG.replace("PATCH", str([16] * len(shape))))
    out = tmp_path / "deep" / "plot.png"
    result = CliRunner().invoke(app, ["views", str(tmp_path / "c.yaml"), "-o", str(out), "--count", "2"])
    assert result.exit_code == 0, result.output
    pixels = np.asarray(Image.open(io.BytesIO(out.read_bytes())).convert("RGB")).reshape(-1, 3)
    colours = {tuple(colour) for colour in pixels[::7].tolist()}
    assert (0xE6, 0x55, 0x0D) in colours  # PDAC of q, the first case in which something is drawn
    assert (89, 89, 89) in colours  # cyst is unknown there


def test_a_case_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    np.savez(tmp_path / "i.npz", case1=np.zeros((9, 9)))
    np.savez(tmp_path / "m.npz", case1=np.ones((9, 9), dtype=np.uint8))
    (tmp_path / "c.yaml").write_text(CONFIG.replace("PATCH", "[8, 8]"))
    arguments = ["views", str(tmp_path / "c.yaml"), "-o", str(tmp_path / "a.png"), "--image", "i.npz::case2"]
    with pytest.raises(Exception, match=r"no case has the path or the name .*, did you mean 'i\.npz::case1'"):
        CliRunner().invoke(app, arguments, catch_exceptions=False)
