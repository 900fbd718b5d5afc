"""MONAI's networks as feature extractors, each in two and three dimensions."""

import pytest
import torch

from labelassemble.errors import LabelAssembleError
from labelassemble.models.segmentation.networks import voxel_features
from labelassemble.models.segmentation.segment_net import FoldedSegmentNet, SegmentNet

pytest.importorskip("monai")
pytest.importorskip("einops")

BACKBONES = ("dynunet", "dynunet_small", "segresnet", "swin_unetr")


def _smallest(divisor: int, dims: int) -> tuple[int, ...]:
    return (2 * divisor, *[divisor] * (dims - 1))


@pytest.mark.parametrize("backbone", BACKBONES)
def test_every_pixel_gets_a_vector_of_features_in_which_all_weights_have_a_part(backbone: str) -> None:
    features = voxel_features(backbone, in_channels=2, dims=2)
    size = _smallest(features.divisor, 2)
    out = features(torch.randn(1, 2, *size))
    assert out.shape == (1, features.out_features, *size)
    out.square().sum().backward()
    assert all(parameter.grad is not None for parameter in features.parameters())


@pytest.mark.parametrize("backbone", BACKBONES)
def test_every_voxel_of_a_volume_gets_one(backbone: str) -> None:
    # shapes alone: the computation takes seconds
    features = voxel_features(backbone, in_channels=1, dims=3).to("meta")
    size = _smallest(features.divisor, 3)
    images = torch.empty(1, 1, *size, device="meta")
    assert features(images).shape == (1, features.out_features, *size)


@pytest.mark.parametrize("backbone", ["dynunet_small", "segresnet"])
def test_scripted_and_traced_answers_are_the_same(backbone: str) -> None:
    net = SegmentNet(backbone, classes=["a", "b", "c"], dims=2).eval()
    images = torch.randn(2, 1, *_smallest(net.divisor, 2))
    folded = FoldedSegmentNet(net)
    with torch.no_grad():
        expected = net(images)
        torch.testing.assert_close(folded(images), expected)
        torch.testing.assert_close(torch.jit.script(folded)(images), expected)  # type: ignore[no-untyped-call]
        torch.testing.assert_close(torch.jit.script(net)(images, ["b"]), expected[:, 1:2])  # type: ignore[no-untyped-call]


def test_a_batch_without_images_gives_zero_gradients_everywhere() -> None:
    net = SegmentNet("dynunet_small", classes=["a", "b"], dims=2).train()
    logits = net(torch.empty(0, 1, 16, 8))
    assert logits.shape == (0, 2, 16, 8)
    logits.sum().backward()
    assert all(parameter.grad is not None and not parameter.grad.any() for parameter in net.parameters())


def test_sizes_that_do_not_fit_are_named() -> None:
    net = SegmentNet("dynunet_small", classes=["a"], dims=2)
    net.check_patch((16, 8))
    with pytest.raises(
        LabelAssembleError, match=r"multiples of 8 .* got \[20, 96\]: the nearest is \[16, 96\]"
    ):
        net.check_patch((20, 96))
    with pytest.raises(LabelAssembleError, match=r"larger than 8 along one axis .* got \[8, 8\]"):
        net.check_patch((8, 8))
    with pytest.raises(LabelAssembleError, match=r"must have 2 sizes, got \[96, 96, 96\]"):
        net.check_patch((96, 96, 96))


def test_unknown_backbones_and_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(LabelAssembleError, match="unknown backbone 'dynunett', did you mean 'dynunet'"):
        voxel_features("dynunett", in_channels=1, dims=3)
    with pytest.raises(LabelAssembleError, match="2 or 3 spatial dimensions, got 4"):
        voxel_features("dynunet", in_channels=1, dims=4)
    monkeypatch.setitem(__import__("sys").modules, "monai", None)
    with pytest.raises(LabelAssembleError, match=r"'dynunet' needs the package monai.*labelassemble\[ct\]"):
        voxel_features("dynunet", in_channels=1, dims=2)
