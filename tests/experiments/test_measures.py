"""The operating point comes from validation labels that somebody gave; every source is measured by itself."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from labelassemble.evaluation import delong
from labelassemble.experiments.measures import Measures, measure, youden_threshold
from labelassemble.experiments.stack import Stack
from labelassemble.models.features import predict_with_features
from labelassemble.views.options import ViewOptions

VIEWS = ViewOptions(size=16, mean=(0.0,), std=(1.0,))


class _Brightness(nn.Module):
    """Calls an image positive by its mean; the features are the mean and the upper left pixel."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))
        self.backbone = nn.Identity()

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.backbone(torch.stack([images.mean((1, 2, 3)), images[:, 0, 0, 0]], dim=1))
        return features[:, :1] * self.weight


def _stack(folder: Path) -> Stack:
    """40 validation and 80 test images of two sources and an archive, brighter where the label is positive."""
    rng = np.random.default_rng(0)
    labels = (np.arange(120) % 2).astype(np.float32)
    sources = np.array(["east", "west", "archive"])[np.arange(120) // 2 % 3]
    labels[sources == "archive"] = 0
    images = rng.integers(0, 100, (120, 1, 1)) + 60 * labels[:, None, None] + np.zeros((120, 16, 16))
    images[:, 0, 0] = np.where(sources == "west", 200, 0)
    np.savez(folder / "s.npz", images=images.astype(np.uint8))
    targets = np.stack([np.full(120, np.nan), labels], axis=1).astype(np.float32)
    return Stack(
        folder / "s.npz",
        ("stripe", "mass"),
        targets,
        np.where(np.arange(120) < 40, "val", "test"),
        np.arange(120).astype("U"),
        "f",
        sources,
        (sources == "archive")[:, None] & np.array([False, True]),
    )


def _scores(stack: Stack) -> NDArray[np.float64]:
    with np.load(stack.file) as archive:
        pixels = archive["images"][stack.rows("test")].astype(np.float64)
    scores: NDArray[np.float64] = 1 / (1 + np.exp(-pixels.mean(axis=(1, 2)) / 255))
    return scores


def _measure(stack: Stack) -> Measures:
    net, tested = _Brightness(), stack.paths(stack.rows("test"))
    features = predict_with_features(net, tested, VIEWS).features
    return measure(net, stack, _scores(stack), features, column=1, views=VIEWS)


def test_youden_by_hand() -> None:
    labels, scores = [0, 0, 1, 0, 1, 1], [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]
    assert (
        youden_threshold(labels, scores) == 0.5
    )  # 2/3 + 1; at 0.3 it is 1 + 2/3 too, and the highest is taken
    assert youden_threshold([np.nan, *labels], [0.0, *scores]) == 0.5
    assert youden_threshold([1, 1], [0.1, 0.2]) is None
    assert youden_threshold([0, 1], [0.5, 0.5]) == 0.5


def test_the_operating_point(tmp_path: Path) -> None:
    stack = _stack(tmp_path)
    scores, found = _scores(stack), _measure(stack)
    assert found.threshold is not None
    truth = stack.targets[stack.rows("test"), 1]
    assert found.true_positives == (scores[truth == 1] >= found.threshold).sum()
    assert found.true_negatives == (scores[truth == 0] < found.threshold).sum()
    assert found.true_positives + found.true_negatives > 50


def test_the_threshold_is_not_chosen_by_assumed_or_test_labels(tmp_path: Path) -> None:
    stack = _stack(tmp_path)
    threshold = _measure(stack).threshold
    turned = stack.targets.copy()
    test, archive = stack.splits == "test", np.asarray(stack.sources) == "archive"
    turned[test | archive, 1] = 1 - turned[test | archive, 1]
    assert _measure(replace(stack, targets=turned)).threshold == threshold
    unknown = stack.targets.copy()
    unknown[stack.splits == "val"] = np.nan
    assert _measure(replace(stack, targets=unknown))[:3] == (None, None, None)


def test_every_source_by_itself(tmp_path: Path) -> None:
    stack = _stack(tmp_path)
    scores, found = _scores(stack), _measure(stack)
    rows = stack.rows("test")
    assert [row.source for row in found.sources] == ["east", "west", "archive"]
    for row in found.sources:
        mine = np.asarray(stack.sources)[rows] == row.source
        truth, own = stack.targets[rows, 1][mine], scores[mine]
        assert (row.positives, row.negatives) == ((truth == 1).sum(), (truth == 0).sum())
        area = delong(own[truth == 1], own[truth == 0])
        assert row.auc == (None if area is None else area.auroc)
        assert (row.low, row.high) == ((None, None) if area is None else pytest.approx(area.interval))
        assert row.assumed == (row.negatives if row.source == "archive" else 0)
    for total, name in ((found.true_positives, "true_positives"), (found.true_negatives, "true_negatives")):
        assert total == sum(getattr(row, name) for row in found.sources)


def test_leakage_is_of_the_features(tmp_path: Path) -> None:
    found = _measure(_stack(tmp_path))
    assert found.leakage is not None
    assert found.leakage > 0.7  # west is told by a pixel, east from the archive by brightness, and badly
    assert found.leakage_within is not None
    stack = _stack(tmp_path)
    with np.load(stack.file) as archive:
        images = archive["images"]
    images[:, 0, 0] = 0
    np.savez(stack.file, images=images)
    blind = _measure(stack)
    assert blind.leakage is not None
    assert blind.leakage < found.leakage - 0.1


def test_one_source_has_no_leakage(tmp_path: Path) -> None:
    stack = replace(_stack(tmp_path), sources=None, assumed=None)
    found = _measure(stack)
    assert found.threshold is not None
    assert found[3:] == (None, None, ())
    same = replace(stack, sources=np.full(120, "east"))
    assert _measure(same) == found
