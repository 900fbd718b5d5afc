"""Heat maps: Grad-CAM as by hand, heat maps as files."""

import io
import re
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from labelassemble.cli.app import check_not_input
from labelassemble.config import load_config
from labelassemble.data.output_names import named_after
from labelassemble.errors import LabelAssembleError
from labelassemble.explain.gradcam import heat_maps
from labelassemble.explain.overlay import Shown, heat_figure, overlay, small_jpeg, view_pixels
from labelassemble.models import AssembleNet
from labelassemble.run import train_run


class TinyBackbone(nn.Module):
    """One convolution, ReLU, average."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Conv2d(1, 3, 3, padding=1)

    def forward(self, images):
        return torch.relu(self.features(images)).mean(dim=[2, 3])


class TinyNet(nn.Module):
    def __init__(self, head: nn.Module | None = None) -> None:
        super().__init__()
        self.backbone = TinyBackbone()
        self.head = head or nn.Linear(3, 2)

    def forward(self, images):
        return self.head(self.backbone(images))


@pytest.fixture
def images():
    return torch.randn(3, 1, 16, 16, generator=torch.Generator().manual_seed(0))


def test_grad_cam_is_the_one_by_hand_on_a_linear_network():
    net = TinyNet().eval()
    images = torch.randn(4, 1, 5, 6)
    found = heat_maps(net, images, [1, 0])
    a = torch.relu(net.backbone.features(images))
    # d z_c / d A_k = w_ck / (h w), so the map is the positive part of sum_k w_ck A_k / (h w).
    by_hand = torch.relu(torch.einsum("ck,bkhw->bchw", net.head.weight, a) / 30)[:, [1, 0]]
    torch.testing.assert_close(found.maps, by_hand)
    assert (by_hand > 0).any(dim=(2, 3)).any()
    torch.testing.assert_close(found.probabilities, torch.sigmoid(net(images).double()), rtol=1e-6, atol=1e-6)


def test_grad_cam_is_autograds_behind_a_head_that_is_not_linear():
    net = TinyNet(nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))).eval()
    images = torch.randn(3, 1, 5, 5)
    a = torch.relu(net.backbone.features(images)).detach().requires_grad_()
    logits = net.head(a.mean(dim=[2, 3]))
    expected = []
    for column in (0, 1):
        (slope,) = torch.autograd.grad(logits[:, column].sum(), a, retain_graph=True)
        weights = slope.mean(dim=[2, 3], keepdim=True)  # equation 1
        expected.append(torch.relu((weights * a).sum(1)))  # equation 2
    torch.testing.assert_close(heat_maps(net, images, [0, 1]).maps, torch.stack(expected, 1).detach())


def test_the_maps_of_a_densenet_add_up_to_its_logit():
    net = AssembleNet("densenet_small", classes=["a", "b"]).eval()
    images = torch.randn(2, 1, 16, 16)
    with torch.no_grad():
        logits = net(images)
        positive = heat_maps(net, images, [0]).maps.sum(dim=(2, 3))[:, 0]
        turned = AssembleNet("densenet_small", classes=["a", "b"])
        turned.load_state_dict(net.state_dict())
        turned.head.weight.neg_(), turned.head.bias.neg_()
        negative = heat_maps(turned.eval(), images, [0]).maps.sum(dim=(2, 3))[:, 0]
    torch.testing.assert_close(positive - negative, logits[:, 0], rtol=1e-4, atol=1e-5)


def test_grad_cam_takes_any_network_with_a_map(images):
    torch.manual_seed(0)
    parts = [
        nn.Conv2d(1, 4, 3),
        nn.ReLU(inplace=True),
        nn.AdaptiveMaxPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 2),
    ]
    found = heat_maps(nn.Sequential(*parts).eval(), images, [1])
    a = torch.relu(parts[0](images)).detach().requires_grad_()
    logits = parts[4](a.amax(dim=(2, 3)))
    (slope,) = torch.autograd.grad(logits[:, 1].sum(), a)
    expected = torch.relu((slope.mean(dim=(2, 3), keepdim=True) * a).sum(1))
    torch.testing.assert_close(found.maps[:, 0], expected.detach())


def test_a_map_that_may_be_negative_is_taken_as_it_is(images):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.AvgPool2d(14), nn.Flatten(), nn.Linear(4, 2)).eval()
    a = net[0](images)
    expected = torch.relu(torch.einsum("k,bkhw->bhw", net[3].weight[0], a) / 196)
    torch.testing.assert_close(heat_maps(net, images, [0]).maps[:, 0], expected.detach())


def test_mistakes_are_named(images):
    with pytest.raises(LabelAssembleError, match=r"need a network with a feature map \[B, D, h, w\]"):
        heat_maps(nn.Sequential(nn.Flatten(), nn.Linear(256, 2)), images, [0])
    with pytest.raises(LabelAssembleError, match=r"a column must lie in \[0, 2\), got 2"):
        heat_maps(TinyNet(), images, [2])

    class Several(nn.Module):
        def __init__(self):
            super().__init__()
            self.parts = nn.ModuleList([TinyNet(), TinyNet()])

        def forward(self, images):
            return torch.cat([part(images) for part in self.parts], 1)

    with pytest.raises(LabelAssembleError, match="one feature map that every class comes from"):
        heat_maps(Several().eval(), images, [0])


def test_an_overlay_is_clear_where_nothing_speaks_and_coloured_where_it_does():
    pixels = np.full((8, 8, 3), 100, np.uint8)
    assert (overlay(pixels, np.zeros((2, 2))) == pixels).all()
    heat = np.zeros((8, 8))
    heat[2, 3] = 5.0
    drawn = overlay(pixels, heat)
    assert (np.delete(drawn.reshape(64, 3), 2 * 8 + 3, axis=0) == 100).all()
    assert drawn[2, 3].tolist() == np.round(0.25 * 100 + 0.75 * np.array([252, 255, 164])).tolist()


def test_a_view_is_shown_as_it_was_before_it_was_normalised():
    view = (torch.tensor([[[0.0, 0.5], [1.0, 0.25]]]) - 0.5) / 0.25
    assert view_pixels(view, (0.5,), (0.25,))[..., 0].tolist() == [[0, 128], [255, 64]]
    assert view_pixels(view, (0.5,), (0.25,)).shape == (2, 2, 3)
    three = torch.rand(3, 4, 4)
    assert view_pixels(three, (0.0,), (1.0,)).shape == (4, 4, 3)


def test_pictures_are_small_and_whole():
    rng = np.random.default_rng(0)
    smooth = np.asarray(Image.fromarray(rng.integers(0, 255, (14, 14, 3), np.uint8)).resize((224, 224)))
    png = small_jpeg(smooth, side=160)
    assert Image.open(io.BytesIO(png)).size == (160, 160)
    assert len(png) < 30_000
    data = heat_figure(
        "a $file$.png", smooth, [Shown("x", 0.5, np.ones((2, 2))), Shown("y", 0.1, np.zeros((2, 2)))]
    )
    picture = Image.open(io.BytesIO(data))
    assert picture.width > picture.height > 200


def test_names_stand_in_pictures_as_they_are_written():
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a letter that the font lacks is no warning of ours
        shown = [Shown("a $\\frac{1$ 名", 0.5, np.ones((2, 2)))]
        assert heat_figure("$x_{3$.png", np.zeros((8, 8, 3), np.uint8), shown).startswith(b"\x89PNG")


def test_explain_from_the_command_line(small_sources, cli):
    from rich.console import Console

    run = small_sources / "out"
    config = load_config(small_sources / "run.yaml", ["train.epochs=1"])
    train_run(config, run, resume=False, console=Console(quiet=True))
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "Best and worst test images" in page
    assert "It is no proof of reasoning" in page
    assert page.count("data:image/jpeg;base64,") % 2 == 0
    assert page.count("data:image/jpeg;base64,") >= 2
    assert len(page) < 2_000_000

    twice = [small_sources / "images/north-1.png", small_sources / "images/./north-1.png"]
    status, out, _ = cli("explain", run, *twice, "-o", small_sources / "heat")
    assert status == 0
    assert sorted(p.name for p in (small_sources / "heat").iterdir()) == ["north-1-2.png", "north-1.png"]
    assert "no proof of reasoning" in out
    with Image.open(small_sources / "heat" / "north-1.png") as picture:
        one = picture.width
    assert cli("explain", run, twice[0], "--classes", "square,stripe", "-o", small_sources / "heat")[0] == 0
    with Image.open(small_sources / "heat" / "north-1.png") as picture:
        assert picture.width > one
    for words, message in (
        ((run, twice[0], "--classes", "sqare", "-o", "x"), r"no class 'sqare', did you mean 'square'\?"),
        ((run, "nowhere.png", "-o", small_sources / "heat"), r"nowhere\.png"),
        ((small_sources, twice[0], "-o", "x"), "holds no trained model"),
        ((run, twice[0], "-o", Path(small_sources / "run.yaml")), "run.yaml: cannot be made"),
    ):
        status, _, err = cli("explain", *words)
        assert status == 2
        assert re.search(message, err)
        assert len(err.splitlines()) == 1


@pytest.mark.parametrize("given", ["{}", "{}::bits=8", "{}::orientation=ignore"])
def test_no_picture_replaces_the_image_that_it_explains(tmp_path: Path, given: str) -> None:
    image = tmp_path / "0.png"
    image.write_bytes(b"")
    with pytest.raises(LabelAssembleError, match="would replace an image that is read"):
        named_after([given.format(image)], tmp_path, ".png")
    with pytest.raises(LabelAssembleError, match="would replace what is read"):
        check_not_input(image, [Path(given.format(image))])
