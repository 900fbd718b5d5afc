"""Resizing by products, calibration of a run, and files that appear whole."""

import json
import math
from pathlib import Path

import pytest
import torch

from labelassemble.errors import LabelAssembleError
from labelassemble.export.calibration import read_calibration
from labelassemble.export.files import written_whole
from labelassemble.export.resize import resize_by_products
from labelassemble.views.preprocess import resize


@pytest.mark.parametrize("shape", [(1, 1), (12, 12), (13, 11), (5, 400), (900, 37)])
def test_resizing_by_products_is_resizing(shape: tuple[int, int]) -> None:
    images = torch.rand(2, 3, *shape)
    torch.testing.assert_close(resize_by_products(images, 12), resize(images, 12), atol=1e-6, rtol=0)


def test_resizing_by_products_leaves_what_fits() -> None:
    images = torch.rand(1, 1, 224, 224)
    torch.testing.assert_close(resize_by_products(images, 224), images, atol=0, rtol=0)


def test_without_a_calibration_temperatures_are_1_and_thresholds_absent(tmp_path: Path) -> None:
    calibration = read_calibration(tmp_path / "calibration.json", ["a", "b"])
    assert calibration.temperatures == {"a": 1.0, "b": 1.0}
    assert calibration.thresholds is None


def _calibration(tmp_path: Path, classes: object) -> Path:
    path = tmp_path / "calibration.json"
    path.write_text(json.dumps({"format": 1, "split": "val", "classes": classes}))
    return path


def test_a_calibration_gives_what_it_has(tmp_path: Path) -> None:
    a = {"temperature": 1.5, "thresholds": {"0.9": 0.1}, "calibrated_thresholds": {"0.9": 0.2, "0.95": 0.3}}
    b = {
        "temperature": None,
        "no_temperature": "no positives",
        "calibrated_thresholds": {"0.9": 0.4, "0.95": None},
    }
    path = _calibration(tmp_path, {"b": b, "a": a})
    calibration = read_calibration(path, ["a", "b"])
    assert calibration.temperatures == {"a": 1.5, "b": 1.0}
    assert calibration.thresholds == {"a": 0.3, "b": math.inf}
    assert read_calibration(path, ["a", "b"], specificity=0.9).thresholds == {"a": 0.2, "b": 0.4}
    # A class without thresholds of its own: none for any, since all are needed.
    assert read_calibration(path, ["a", "b", "c"]).thresholds is None
    with pytest.raises(
        LabelAssembleError, match=r"no threshold for the specificity 0\.8, known: 0\.9, 0\.95"
    ):
        read_calibration(path, ["a", "b"], specificity=0.8)


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ([], "'classes' must hold an object for each class"),
        ({"a": 1}, "'classes' must hold an object for each class"),
        ({"a": {"temperature": "hot"}}, "the temperature of 'a' must be a number of at least 0, got 'hot'"),
        (
            {"a": {"calibrated_thresholds": {"0.95": -1}}},
            "the threshold of 'a' must be a number of at least 0",
        ),
    ],
)
def test_a_damaged_calibration_is_named(tmp_path: Path, classes: object, message: str) -> None:
    with pytest.raises(LabelAssembleError, match=r"calibration\.json: .*") as caught:
        read_calibration(_calibration(tmp_path, classes), ["a"])
    assert message in str(caught.value)
    (tmp_path / "calibration.json").write_text("{")
    with pytest.raises(LabelAssembleError, match="not a calibration: no JSON"):
        read_calibration(tmp_path / "calibration.json", ["a"])


def test_a_block_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "m.pt"
    path.write_text("old")

    def fail() -> None:
        with written_whole(path) as temporary:
            temporary.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
