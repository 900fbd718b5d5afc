from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from labelassemble.errors import LabelAssembleError
from labelassemble.models import AssembleNet
from labelassemble.models.densenet import DenseNet, densenet121, densenet169, densenet201, densenet_small
from labelassemble.training.checkpoint import save_checkpoint


def _as_torchvision(net: DenseNet, *, legacy: bool = False) -> dict[str, torch.Tensor]:
    """The state dict of torchvision's network of the same shape: a classifier too, and on request the old names."""
    state = dict(net.state_dict())
    state["classifier.weight"] = torch.zeros(1000, net.out_features)
    state["classifier.bias"] = torch.zeros(1000)
    if not legacy:
        return state
    renamed = {}
    for key, value in state.items():
        if key.endswith("num_batches_tracked"):
            continue
        for part in ("norm", "conv"):
            for number in "12":
                if "denselayer" in key:
                    key = key.replace(f".{part}{number}.", f".{part}.{number}.")
        renamed[key] = value
    return renamed


def test_densenet121_is_the_published_one() -> None:
    net = densenet121(3)
    assert net.out_features == 1024
    assert sum(parameter.numel() for parameter in net.parameters()) == 7978856 - 1024 * 1000 - 1000
    state = _as_torchvision(net)
    assert len(state) == 727
    # Names of torchvision's, at the ends of the network.
    for key in (
        "features.conv0.weight",
        "features.norm0.running_mean",
        "features.denseblock3.denselayer24.conv2.weight",
        "features.transition3.conv.weight",
        "features.norm5.bias",
    ):
        assert key in state


@pytest.mark.parametrize(
    ("make", "features", "parameters", "entries"),
    [(densenet169, 1664, 14_149_480, 1015), (densenet201, 1920, 20_013_928, 1207)],
)
def test_larger_ones_are_the_published_ones(
    make: Callable[[int], DenseNet], features: int, parameters: int, entries: int
) -> None:
    with torch.device("meta"):
        net = make(3)
    assert net.out_features == features
    # torchvision's counts, with its classifier of 1000 classes
    assert sum(parameter.numel() for parameter in net.parameters()) + 1000 * (features + 1) == parameters
    assert len(net.state_dict()) + 2 == entries


def test_scripted_and_eager_are_the_same() -> None:
    net = densenet_small(1).eval()
    images = torch.randn(2, 1, 32, 32)
    assert torch.equal(torch.jit.script(net)(images), net(images))


@pytest.mark.parametrize("legacy", [False, True])
def test_torchvisions_file_loads_with_its_old_and_new_names(tmp_path: Path, legacy: bool) -> None:
    source = densenet_small(3)
    torch.save(_as_torchvision(source, legacy=legacy), tmp_path / "weights.pth")
    net = densenet_small(3)
    net.load_pretrained(tmp_path / "weights.pth")
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(net.eval()(images), source.eval()(images))


def test_colour_weights_answer_grey_images_as_three_copies(tmp_path: Path) -> None:
    source = densenet_small(3)
    torch.save(source.state_dict(), tmp_path / "weights.pth")
    net = densenet_small(1)
    net.load_pretrained(tmp_path / "weights.pth")
    grey = torch.randn(2, 1, 32, 32)
    assert torch.allclose(net.eval()(grey), source.eval()(grey.expand(-1, 3, -1, -1)), atol=1e-5)


def test_grey_weights_answer_colour_images_of_three_copies(tmp_path: Path) -> None:
    source = densenet_small(1)
    torch.save(source.state_dict(), tmp_path / "weights.pth")
    net = densenet_small(3)
    net.load_pretrained(tmp_path / "weights.pth")
    grey = torch.randn(2, 1, 32, 32)
    assert torch.allclose(net.eval()(grey.expand(-1, 3, -1, -1)), source.eval()(grey), atol=1e-5)


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("channels", [1, 3])
def test_densenet121_takes_a_file_as_torchvision_publishes_it(
    tmp_path: Path, legacy: bool, channels: int
) -> None:
    source = densenet121(3).eval()
    state = _as_torchvision(source, legacy=legacy)
    assert len(state) == (606 if legacy else 727)  # as published: without and with BatchNorm's counters
    torch.save(state, tmp_path / "densenet121.pth")
    net = AssembleNet(
        "densenet121", classes=["Edema"], in_channels=channels, pretrained=tmp_path / "densenet121.pth"
    )
    grey = torch.randn(1, 1, 64, 64)
    features = net.eval().backbone(grey.expand(-1, channels, -1, -1))
    torch.testing.assert_close(features, source(grey.expand(-1, 3, -1, -1)), rtol=1e-3, atol=1e-4)


def _checkpoint(path: Path, net: AssembleNet) -> Path:
    save_checkpoint(path, {"description": {"classes": "[]"}, "model": net.state_dict(), "epoch": 1})
    return path


def test_the_backbone_of_a_run_is_taken_from_its_checkpoint(tmp_path: Path) -> None:
    source = AssembleNet("densenet_small", classes=["Edema", "Mass"])
    path = _checkpoint(tmp_path / "best.pt", source)
    net = AssembleNet("densenet_small", classes=["Hernia"], head="linear", pretrained=path)
    images = torch.randn(2, 1, 32, 32)
    assert torch.equal(net.eval().backbone(images), source.eval().backbone(images))

    with pytest.raises(
        LabelAssembleError, match=r"best\.pt: (lacks|has unknown|has misshapen) weights: features\."
    ):
        densenet121(1).load_pretrained(path)
    many = AssembleNet("densenet_small", classes=["A"], head="multi_network", sources={"x": ["A"]})
    with pytest.raises(LabelAssembleError, match="holds a backbone for each source"):
        densenet_small(1).load_pretrained(_checkpoint(tmp_path / "many.pt", many))
    save_checkpoint(tmp_path / "none.pt", {"description": {}, "model": {}})
    with pytest.raises(LabelAssembleError, match="a checkpoint without the weights of a backbone"):
        densenet_small(1).load_pretrained(tmp_path / "none.pt")


def test_weights_that_do_not_fit_are_named(tmp_path: Path) -> None:
    state = densenet_small(3).state_dict()
    path = tmp_path / "weights.pth"

    torch.save({key: value for key, value in state.items() if key != "features.conv0.weight"}, path)
    with pytest.raises(LabelAssembleError, match=r"lacks weights: features\.conv0\.weight"):
        densenet_small(3).load_pretrained(path)

    torch.save({**state, "fc.weight": torch.zeros(1)}, path)
    with pytest.raises(LabelAssembleError, match=r"has unknown weights: fc\.weight"):
        densenet_small(3).load_pretrained(path)

    torch.save({**state, "features.norm4.bias": torch.zeros(7)}, path)
    with pytest.raises(
        LabelAssembleError, match=r"has misshapen weights: features\.norm4\.bias \[7\] for \[120\]"
    ):
        densenet_small(3).load_pretrained(path)

    path.write_bytes(b"not a checkpoint")
    with pytest.raises(LabelAssembleError, match="not a state dict that torch can load safely"):
        densenet_small(3).load_pretrained(path)
    with pytest.raises(LabelAssembleError, match="no such file of pretrained weights"):
        densenet_small(3).load_pretrained(tmp_path / "absent.pth")
