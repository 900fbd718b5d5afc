"""The DenseNet of an export is another network that computes the same."""

import pytest
import torch
from torch import nn

from labelassemble.export.densenet import ChannelClamp, fold_densenet
from labelassemble.models.densenet import DenseNet


def _norms(net: nn.Module) -> list[nn.BatchNorm2d]:
    return [module for module in net.modules() if isinstance(module, nn.BatchNorm2d)]


@pytest.fixture
def trained() -> DenseNet:
    """Statistics and weights of every sign, and channels that a norm has switched off."""
    net = DenseNet(3, growth_rate=8, block_config=(2, 3), stem_channels=16).eval()
    for norm in _norms(net):
        norm.running_mean.normal_(0, 0.5)
        norm.running_var.uniform_(0.2, 3)
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
        norm.weight.data[0] = 0.0
        norm.weight.data[1] = 1e-40
        norm.weight.data[2] = -1e-8
    return net.requires_grad_(False)


@pytest.mark.parametrize("small_stem", [False, True])
@pytest.mark.parametrize("compiling", [False, True])
def test_folded_features_give_the_features(
    trained: DenseNet, small_stem: bool, compiling: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if small_stem:
        stemmed = DenseNet(3, growth_rate=8, block_config=(2, 3), stem_channels=16, small_stem=True).eval()
        state = {name: value for name, value in trained.state_dict().items() if "conv0" not in name}
        stemmed.load_state_dict(state, strict=False)
        trained = stemmed.requires_grad_(False)
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: compiling)
    folded = fold_densenet(trained).requires_grad_(False)
    images = torch.randn(3, 3, 40, 36)
    expected = trained(images).double()
    answer = folded.scale * folded(images) + folded.shift
    assert expected.abs().max() > 0.1
    torch.testing.assert_close(answer, expected, atol=2e-6, rtol=1e-5)
    assert not _norms(folded)


def test_clamp_into_scratch_is_the_clamp_of_a_slice() -> None:
    clamp = ChannelClamp(torch.tensor([-1.0, -torch.inf, 0.5]), torch.tensor([torch.inf, 0.2, 0.6]))
    wide = torch.randn(2, 5, 4, 3).contiguous(memory_format=torch.channels_last)
    scratch = torch.full([2 * 5 * 4 * 3], torch.nan)
    out = clamp.into(wide[:, :3], scratch)
    torch.testing.assert_close(out, clamp(wide[:, :3]), atol=0, rtol=0)
    assert out.is_contiguous(memory_format=torch.channels_last)
    assert out.data_ptr() == scratch.data_ptr()


def test_a_cpu_export_of_densenet121_is_folded_to_convolutions_and_clamps() -> None:
    net = DenseNet(1, growth_rate=8, block_config=(2, 2), stem_channels=16).eval()
    kinds = {type(module).__name__ for module in fold_densenet(net).modules() if not list(module.children())}
    assert kinds == {"Conv2d", "ChannelClamp"}
