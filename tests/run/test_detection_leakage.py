"""Sources of volumes that a network's features tell apart: the figures within a source stand first."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from labelassemble.models.segmentation.pooled_features import PooledFeatures
from labelassemble.models.segmentation.predict_volume import predict_volume
from labelassemble.views.volume_options import VolumeOptions

pytest.importorskip("monai")

Cli = Callable[..., tuple[int, str, str]]


def _sources(folder: Path, draw_cases: Callable[..., Path]) -> Path:
    """Write two sources of 24 patients: a dark one with 2 discs and a bright one with 22; return the configuration."""
    for name, shift, discs in (("dark", 0, 2), ("bright", 120, 22)):
        draw_cases(folder, name, 24, 3, splits=False)
        for index in range(24):
            path, mask = folder / name / f"{index}.png", folder / name / f"{index}_mask.png"
            pixels = np.asarray(Image.open(path)).astype(int) + shift + index % 3
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path)
            drawn = np.asarray(Image.open(mask)).copy()
            drawn[drawn == 1] = 0
            drawn[1:5, 3:8] = index < discs
            Image.fromarray(drawn).save(mask)
    text = (folder / "dark.yaml").read_text().splitlines()
    other = (folder / "bright.yaml").read_text().splitlines()[1]
    (folder / "both.yaml").write_text("\n".join([*text[:2], other, *text[2:]]) + "\n")
    return folder / "both.yaml"


def test_where_features_give_the_source_away_pairs_of_one_source_stand_first(
    evaluated: Path, tmp_path: Path, cli: Cli, made_cases: Callable[..., Path]
) -> None:
    out = tmp_path / "other"
    status, said, err = cli("evaluate", evaluated, "--data", _sources(tmp_path, made_cases), "--output", out)
    assert status == 0, err
    leakage = json.loads((out / "leakage.json").read_text())
    assert leakage["auc"] > 0.9
    assert leakage["images"] == 48
    with (out / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    right = pairs = 0.0
    for positive in (row for row in rows if row["label:disc"] == "1"):
        for negative in (row for row in rows if row["label:disc"] == "0"):
            if positive["source"] == negative["source"]:
                one, two = float(positive["probability:disc"]), float(negative["probability:disc"])
                right += (one > two) + (one == two) / 2
                pairs += 1
    assert pairs == 2 * 22 * 2
    (line,) = [
        line for line in said.splitlines() if line.startswith("- disc: ") and "within sources, pooled" in line
    ]
    assert line.startswith(f"- disc: {right / pairs:.3f} (")
    assert "AUROC to go by, of pairs of patients from the same source:" in said
    page = " ".join((out / "report.html").read_text().split())
    assert "the features alone tell the sources apart" in page
    assert "asked for the source of a patient" in page


def test_sources_with_few_patients_are_not_measured(evaluated: Path, cli: Cli) -> None:
    assert cli("evaluate", evaluated)[0] == 0  # of one source
    assert (evaluated / "leakage.json").read_text() == "null\n"
    page = " ".join((evaluated / "report.html").read_text().split())
    assert "Not measured: that needs two sources with 10 patients or more each" in page


class Plain(nn.Module):
    """Features [B, 2, *s] and logits of them."""

    classes = ("a",)

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Conv3d(1, 2, 1)
        self.head = nn.Conv3d(2, 1, 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        answer: torch.Tensor = self.head(self.backbone(images))
        return answer


@pytest.mark.parametrize("windows", [1, 2, 4, 5])
def test_features_of_a_volume_are_the_mean_over_its_windows(windows: int) -> None:
    torch.manual_seed(0)
    net, options = Plain(), VolumeOptions(patch=(8, 8, 8), overlap=0.0)
    image = torch.randn(1, 8 * windows, 8, 8)
    with PooledFeatures(net.backbone) as pooled, torch.no_grad():
        predict_volume(net, image, options)
        found = pooled.take()
        expected = net.backbone(image[None]).mean((0, 2, 3, 4)).numpy()
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
    assert not net.backbone._forward_hooks
