"""The backbones for small images: features, export, heat maps, weights of another run."""

from pathlib import Path

import numpy as np
import pytest
import torch

from labelassemble.errors import LabelAssembleError
from labelassemble.explain.gradcam import heat_maps
from labelassemble.export import export_torchscript
from labelassemble.export.program import run_program
from labelassemble.models import AssembleNet, PatchNet, SmallCnn, densenet_small
from labelassemble.training.checkpoint import save_checkpoint
from labelassemble.views.preprocess import Preprocess

CLASSES = ["Edema", "Mass"]
NAMES = ("cnn_small", "patch_small")


@pytest.mark.parametrize("size", [8, 16, 28, 64])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("make", [SmallCnn, PatchNet])
def test_they_take_small_images_of_any_size_and_are_scriptable(
    make: type[PatchNet], channels: int, size: int
) -> None:
    net = make(channels).eval()
    images = torch.randn(2, channels, size, size)
    features = net(images)
    assert features.shape == (2, net.out_features) == (2, 64)
    assert torch.equal(torch.jit.script(net)(images), features)


def test_they_are_as_small_as_they_say() -> None:
    counts = [sum(parameter.numel() for parameter in net.parameters()) for net in (SmallCnn(), PatchNet())]
    assert counts == [60_400, 2_752]


def test_cnn_small_64_pools_once_more() -> None:
    net, expected = AssembleNet("cnn_small_64", classes=CLASSES), SmallCnn(size=64)
    assert str(net.backbone) == str(expected)
    assert str(net.backbone) != str(SmallCnn())


def test_patches_do_not_see_how_they_lie_to_each_other() -> None:
    net = PatchNet().eval()
    images = torch.randn(2, 1, 8, 8)
    torch.testing.assert_close(net(images.roll((4, 4), dims=(2, 3))), net(images))


def test_from_64_pixels_on_there_can_be_a_pooling_more() -> None:
    def pools(net: SmallCnn) -> int:
        return sum(isinstance(layer, torch.nn.MaxPool2d) for layer in net.features)

    assert [pools(SmallCnn(1, size=size)) for size in (8, 63, 64)] == [2, 2, 3]
    assert pools(SmallCnn(1)) == 2


@pytest.mark.parametrize("name", NAMES)
def test_an_export_is_folded_and_answers_in_cpp_as_in_python(tmp_path: Path, name: str) -> None:
    net = AssembleNet(name, classes=CLASSES)
    with torch.no_grad():  # statistics of a batch, as training leaves them
        net(torch.randn(32, 1, 8, 8) * 2 + 1)
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (1, 8, 8), dtype=np.uint8) for _ in range(5)]
    preprocess = Preprocess(1, 8)
    export_torchscript(net, tmp_path / "model.pt", classes=CLASSES, preprocess=preprocess, images=images)
    scripted = torch.jit.load(tmp_path / "model.pt")
    assert not any("batch_norm" in str(node) for node in scripted.inlined_graph.nodes())
    with torch.inference_mode():
        prepared = torch.cat([preprocess(torch.from_numpy(image)[None]) for image in images])
        expected = torch.sigmoid(net.eval()(prepared)).numpy()
    answer = run_program(tmp_path / "model.pt", images, threads=1)
    np.testing.assert_allclose(answer, expected, atol=1e-5)


@pytest.mark.parametrize(("name", "side"), [("cnn_small", 2), ("patch_small", 4)])
def test_heat_maps_add_up_to_at_least_the_logit(name: str, side: int) -> None:
    net = AssembleNet(name, classes=CLASSES).eval()
    images = torch.randn(2, 1, 16, 16)
    heat = heat_maps(net, images, [0, 1])
    assert heat.maps.shape == (2, 2, side, side)
    assert bool((heat.maps.sum(dim=(2, 3)) >= net(images).clamp_min(0) - 1e-5).all())


@pytest.mark.parametrize("name", NAMES)
def test_weights_of_a_run_and_of_a_state_dict_are_taken(tmp_path: Path, name: str) -> None:
    source = AssembleNet(name, classes=CLASSES)
    path = tmp_path / "best.pt"
    save_checkpoint(path, {"description": {"classes": "[]"}, "model": source.state_dict(), "epoch": 1})
    images = torch.randn(2, 1, 16, 16)
    expected = source.eval().backbone(images)
    net = AssembleNet(name, classes=["Hernia"], head="linear", pretrained=path)
    assert torch.equal(net.eval().backbone(images), expected)
    torch.save(source.backbone.state_dict(), tmp_path / "weights.pt")
    colour = AssembleNet(name, classes=["Hernia"], in_channels=3, pretrained=tmp_path / "weights.pt")
    torch.testing.assert_close(colour.eval().backbone(images.expand(-1, 3, -1, -1)), expected)
    with pytest.raises(LabelAssembleError, match=r"best\.pt: lacks weights: features\.conv0\.weight"):
        densenet_small(1).load_pretrained(path)
