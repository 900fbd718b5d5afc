"""The network of a detection and its head: classes by name, what is kept when some are added."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from labelassemble.errors import LabelAssembleError
from labelassemble.models.carry_over import carry_over, train_only_added
from labelassemble.models.segmentation.segment_net import FoldedSegmentNet, SegmentNet
from labelassemble.models.segmentation.voxel_head import VoxelQueryHead


class Convolution(nn.Module):
    """A backbone of one layer, so that no test waits for MONAI."""

    out_features = 5

    def __init__(self, channels: int, dims: int) -> None:
        super().__init__()
        kind = nn.Conv2d if dims == 2 else nn.Conv3d
        self.layer = kind(channels, self.out_features, kernel_size=3, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.layer(images)
        return features


def _net(*classes: str, dims: int = 2, shares: dict[str, float] | None = None) -> SegmentNet:
    return SegmentNet(
        lambda channels: Convolution(channels, dims), classes=classes, dims=dims, shares=shares
    ).eval()


def _learnt(*classes: str) -> SegmentNet:
    net = _net(*classes)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    return net


@pytest.mark.parametrize("size", [(6, 4), (3, 4), (3, 3), (3, 5, 3)])
def test_logits_are_those_of_a_plain_loop_also_where_an_axis_is_as_long_as_the_classes(
    size: tuple[int, ...],
) -> None:
    head = VoxelQueryHead(5, ["a", "b", "c"], shares={"b": 0.02}).double()
    with torch.no_grad():
        for parameter in head.parameters():
            parameter += torch.randn_like(parameter)
    features = torch.randn(2, 5, *size, dtype=torch.float64)
    q, a, b, o = (value.detach().numpy() for value in (head.queries, head.weight, head.bias, head.offset))
    w = q @ a.T + b
    f = features.numpy()
    expected = np.empty((2, 3, *size))
    for index in np.ndindex(2, *size):
        vector = f[(index[0], slice(None), *index[1:])]
        for row in range(3):
            expected[(index[0], row, *index[1:])] = w[row] @ vector + o[row]
    np.testing.assert_allclose(head(features).detach().numpy(), expected, rtol=1e-12)
    some = head(features, classes=["c", "a"]).detach().numpy()
    np.testing.assert_allclose(some, expected[:, [2, 0]], rtol=1e-12)
    folded = head.to_convolution(len(size))(features).detach().numpy()
    np.testing.assert_allclose(folded, expected, rtol=1e-12)
    vectors = features.flatten(2)[0].T
    np.testing.assert_allclose(
        head.to_linear()(vectors).detach().numpy().T, expected[0].reshape(3, -1), rtol=1e-12
    )


def test_an_offset_begins_at_the_log_odds_of_the_share() -> None:
    net = _net("a", "b", "c", shares={"a": 0.01, "c": 0.0})
    expected = [math.log(0.01 / 0.99), 0.0, math.log(1e-4 / (1 - 1e-4))]
    torch.testing.assert_close(net.head.offset.detach(), torch.tensor(expected))
    with pytest.raises(LabelAssembleError, match=r"share of voxels of 'a' must lie .* got 1\.5"):
        _net("a", shares={"a": 1.5})


def test_added_classes_leave_the_others_as_they_are_and_learn() -> None:
    net = _learnt("a", "b")
    images = torch.randn(2, 1, 3, 3)
    before = net(images).detach()
    optimizer = torch.optim.Adam(net.parameters(), lr=0.1)
    net(images).sum().backward()
    optimizer.step()
    before = net(images).detach()
    net.add_classes(["c"], shares={"c": 0.1})
    assert net.classes == ("a", "b", "c") == tuple(net.head.classes)
    torch.testing.assert_close(net(images)[:, :2], before, rtol=0, atol=1e-6)
    assert net.head.offset[2].item() == pytest.approx(math.log(1 / 9))
    assert net.similarity().shape == (3, 3)
    optimizer.zero_grad()
    net(images)[:, 2].sum().backward()
    optimizer.step()
    assert net.head.offset[2].item() < math.log(1 / 9) - 0.05
    torch.testing.assert_close(FoldedSegmentNet(net)(images), net(images))


def test_a_state_dict_in_another_order_is_put_in_order_by_name() -> None:
    learnt, net = _learnt("a", "b", "c"), _net("c", "a", "b")
    net.load_state_dict(learnt.state_dict())
    images = torch.randn(1, 1, 4, 4)
    torch.testing.assert_close(net(images), learnt(images)[:, [2, 0, 1]])
    with pytest.raises(RuntimeError, match="saved for other classes"):
        _net("a", "b", "d").load_state_dict(learnt.state_dict())


def test_what_another_network_learnt_is_carried_over_by_name_and_can_be_frozen() -> None:
    learnt, net = _learnt("a", "b"), _net("c", "b", "a", shares={"c": 0.2})
    assert carry_over(learnt, net) == (("a", "b"), ("c",))
    images = torch.randn(2, 1, 4, 3)
    torch.testing.assert_close(net(images)[:, [2, 1]], learnt(images), rtol=0, atol=1e-6)
    assert net.head.offset[0].item() == pytest.approx(math.log(0.25))
    before = net(images).detach()
    train_only_added(net, ("c",))
    optimizer = torch.optim.Adam([p for p in net.parameters() if p.requires_grad], lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        nn.functional.softplus(-net(images)).sum().backward()
        optimizer.step()
    after = net(images).detach()
    assert torch.equal(after[:, 1:], before[:, 1:])
    assert bool((after[:, 0] > before[:, 0]).all())


def test_unknown_classes_and_pooling_are_refused() -> None:
    net = _net("PDAC", "cyst")
    with pytest.raises(LabelAssembleError, match="no class 'cist', did you mean 'cyst'"):
        net(torch.zeros(1, 1, 4, 4), classes=["cist"])
    with pytest.raises(LabelAssembleError, match="at least one class"):
        _net()
    with pytest.raises(LabelAssembleError, match="does not pool"):
        net.head.from_feature_map(torch.zeros(1, 5, 4, 4))
