"""Backbones of other libraries: names, values, stems, weights of a file, what is exported and explained."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from torch import Tensor, nn

from labelassemble.config import load_config, make_config
from labelassemble.errors import LabelAssembleError
from labelassemble.explain.gradcam import heat_maps
from labelassemble.export.parts import take_apart
from labelassemble.export.traced import as_input, trace
from labelassemble.models import AssembleNet, LibraryBackbone
from labelassemble.models.libraries.backbone import library_backbone
from labelassemble.run import load_trained
from labelassemble.views.preprocess import Preprocess

Cli = Callable[..., tuple[int, str, str]]
SOURCES = {"sources": [{"name": "clinic", "reader": "csv", "path": "clinic.csv"}]}
libraries = pytest.mark.libraries

# What the seed's comparison names, each as small as it can be trained.
TRAINED = [
    pytest.param({"library": "torchvision", "name": "densenet121"}, 1, 32, marks=libraries),
    pytest.param({"library": "timm", "name": "swin_tiny_patch4_window7_224"}, 3, 64, marks=libraries),
    pytest.param({"library": "timm", "name": "vit_small_patch16_224"}, 1, 32, marks=libraries),
    pytest.param({"library": "monai", "name": "resnet10"}, 1, 32),
]
NAMES = [
    *[
        pytest.param("timm", name, features, marks=libraries)
        for name, features in {
            "resnet18": 512,
            "mobilenetv3_small_100": 1024,
            "vit_tiny_patch16_224": 192,
        }.items()
    ],
    *[
        pytest.param("torchvision", name, features, marks=libraries)
        for name, features in {"mobilenet_v3_small": 1024, "swin_t": 768, "squeezenet1_1": 512}.items()
    ],
    ("monai", "resnet18", 512),
    ("monai", "DenseNet121", 1024),
    ("monai", "efficientnet-b0", 1280),
    pytest.param("torchxrayvision", "resnet50-res512-all", 2048, marks=libraries),
]


def _of(library: str, name: str, **more: Any) -> LibraryBackbone:
    return LibraryBackbone(library=library, name=name, **more)  # type: ignore[arg-type]


def _images(channels: int, size: int, count: int = 2) -> Tensor:
    return torch.randn(count, channels, size, size, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("library", "name", "features"), NAMES)
def test_the_number_of_features_is_found_and_a_grey_stem_answers_as_three_copies(
    library: str, name: str, features: int, tmp_path: Path
) -> None:
    colour = library_backbone(_of(library, name), channels=3, size=64).eval()
    assert colour.out_features == features
    torch.save(colour.state_dict(), tmp_path / "weights.pt")
    grey = library_backbone(
        _of(library, name, pretrained=tmp_path / "weights.pt"), channels=1, size=64
    ).eval()
    images = _images(1, 64)
    with torch.no_grad():
        expected = colour(images.expand(-1, 3, -1, -1))
        torch.testing.assert_close(grey(images), expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))


def test_parameters_without_a_part_in_the_features_are_frozen() -> None:
    network = library_backbone(_of("monai", "ViT"), channels=1, size=32)
    network(_images(1, 32)).sum().backward()
    trained = {name: part for name, part in network.named_parameters() if part.requires_grad}
    assert all(part.grad is not None for part in trained.values())
    assert "network.blocks.0.norm_cross_attn.weight" not in trained
    assert "network.blocks.0.norm1.weight" in trained


@pytest.mark.parametrize(("backbone", "channels", "size"), TRAINED)
@pytest.mark.usefixtures("one_thread", "no_pages")
def test_a_run_from_yaml_trains_resumes_explains_exports_and_is_gone_on_from(
    small_sources: Path, cli: Cli, backbone: dict[str, str], channels: int, size: int
) -> None:
    torch.manual_seed(0)
    start = AssembleNet(
        LibraryBackbone.model_validate(backbone), classes=["x"], in_channels=3, image_size=size
    )
    torch.save({"state_dict": start.backbone.state_dict()}, small_sources / "weights.pt")
    run = small_sources / "run.yaml"
    values = yaml.safe_load(run.read_text())
    values["model"] = {"backbone": {**backbone, "pretrained": "weights.pt"}}
    values["views"] |= {"size": size, "channels": channels}
    values["train"] |= {"epochs": 1, "steps_per_epoch": 2, "lr": 1e-5}
    run.write_text(yaml.safe_dump(values))
    status, out, err = cli("train", run, "-o", small_sources / "run")
    assert status == 0, out + err

    trained = load_trained(small_sources / "run")
    weights = [state.eval().backbone.state_dict() for state in (start, trained.net)]
    same = [key for key in weights[0] if weights[0][key].dim() == 2]
    assert all(
        torch.allclose(weights[0][key], weights[1][key], atol=1e-3) for key in same
    )  # begun with the file
    (small_sources / "weights.pt").unlink()  # what is trained needs it no more
    config = load_config(small_sources / "run" / "config.yaml")
    assert (config.views.mean, config.views.std) == (trained.views.mean, trained.views.std)

    image = small_sources / "images" / "north-1.png"
    status, out, err = cli("predict", small_sources / "run", image, "-o", small_sources / "own.csv")
    assert status == 0, out + err
    status, out, err = cli("export", small_sources / "run")
    assert status == 0, out + err
    own = (small_sources / "own.csv").read_text().splitlines()[1].split(",")[1:]
    pixels = torch.from_numpy(np.array(Image.open(image)))[None, None]
    with torch.inference_mode():
        exported = torch.jit.load(small_sources / "run" / "model.pt")(pixels)
    np.testing.assert_allclose(exported[0].numpy(), np.array(own, dtype=float), atol=2e-5)

    if backbone["name"] not in ("resnet10", "vit_small_patch16_224"):  # below, nothing depends on the library
        return
    heat = heat_maps(trained.net, _images(channels, size), [0, 1]).maps
    assert heat.shape[:2] == (2, 2)
    assert heat.shape[2] == heat.shape[3] > 1 or size == 32
    (small_sources / "run" / "config.yaml").write_text(
        (small_sources / "run" / "config.yaml").read_text().replace("epochs: 1\n", "epochs: 2\n", 1)
    )
    status, out, err = cli(
        "train", small_sources / "run" / "config.yaml", "--resume", "-o", small_sources / "run"
    )
    assert status == 0, out + err
    values["model"] = {"backbone": backbone}
    run.write_text(yaml.safe_dump(values))
    status, out, err = cli("train", run, "-o", small_sources / "next", "--from", small_sources / "run")
    assert status == 0, out + err


@pytest.mark.parametrize(("backbone", "channels", "size"), TRAINED)
@pytest.mark.usefixtures("one_thread")
def test_torch_export_gives_a_program_for_any_number_of_images(
    backbone: dict[str, str], channels: int, size: int
) -> None:
    net = AssembleNet(
        LibraryBackbone.model_validate(backbone), classes=["a", "b"], in_channels=channels, image_size=size
    ).eval()
    images = [np.full((channels, 20 + side, 30), 40 * side, np.uint8) for side in range(3)]
    parts = take_apart(net, classes=["a", "b"], preprocess=Preprocess(channels, size), images=images)
    program = trace(parts, "x.pt2", outside="refused").module()
    with torch.inference_mode():
        for image, expected in zip(parts.images, parts.expected, strict=True):
            several = as_input(image, channels).repeat(2, 1, 1, 1)
            torch.testing.assert_close(program(several).double(), expected.expand(2, -1), rtol=0, atol=1e-5)


class Tokens(nn.Module):
    """Patches of 4 x 4 pixels as tokens behind a class token, one attention, and the class token as features."""

    def __init__(self) -> None:
        super().__init__()
        self.out_features = 8
        self.patches = nn.Conv2d(1, 8, 4, stride=4)
        self.norm = nn.LayerNorm(8)
        self.last = nn.LayerNorm(8)

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.patches(images).flatten(2).mT
        tokens = torch.cat([torch.zeros(len(images), 1, 8), tokens], dim=1)
        normed = self.norm(tokens)
        tokens = tokens + torch.softmax(normed @ normed.mT, dim=2) @ normed
        return self.last(tokens)[:, 0]


class ChannelsLast(nn.Module):
    """The same image of patches with its channels last, averaged."""

    def __init__(self) -> None:
        super().__init__()
        self.out_features = 8
        self.patches = nn.Conv2d(1, 8, 4, stride=4)
        self.norm = nn.LayerNorm(8)

    def forward(self, images: Tensor) -> Tensor:
        return self.norm(self.patches(images).movedim(1, 3)).mean(dim=(1, 2))


def test_heat_maps_of_tokens_and_of_channels_last_lie_over_the_positions() -> None:
    images = _images(1, 16)
    for make in (Tokens, ChannelsLast):
        torch.manual_seed(0)
        net = AssembleNet(lambda _, make=make: make(), classes=["a", "b"], head="linear").eval()
        found = heat_maps(net, images, [1]).maps
        assert found.shape == (2, 1, 4, 4)
        with torch.enable_grad():  # by hand: the map is what the norm gives, the class token apart
            kept: list[Tensor] = []
            hook = net.backbone.norm.register_forward_hook(lambda *given, kept=kept: kept.append(given[2]))
            logit = net(images)[:, 1].sum()
            hook.remove()
            slope = torch.autograd.grad(logit, kept[0])[0]
        values = kept[0]
        if make is Tokens:
            values, slope = (x[:, 1:].unflatten(1, (4, 4)) for x in (values, slope))
        expected = (slope.mean(dim=(1, 2))[:, None, None] * values).sum(dim=3).clamp_min(0)
        torch.testing.assert_close(found[:, 0], expected.detach())


@pytest.mark.parametrize(
    ("backbone", "said"),
    [
        ({"library": "monay", "name": "ViT"}, "did you mean 'monai'"),
        ({"library": "monai", "nam": "ViT"}, "unknown key 'model.backbone.nam', did you mean 'name'"),
        ({"library": "monai"}, "the key 'model.backbone.name' is missing"),
        (
            {"library": "monai", "name": "DenseNet12"},
            "monai has no network 'DenseNet12' for images, did you mean",
        ),
        (
            {"library": "monai", "name": "ViT", "pretrained": 3},
            "'model.backbone.pretrained': it must be true, or a file",
        ),
    ],
)
def test_what_is_misspelt_is_named_with_the_nearest_name(backbone: dict[str, Any], said: str) -> None:
    with pytest.raises(LabelAssembleError) as raised:
        make_config({**SOURCES, "model": {"backbone": backbone}}, base=Path())
    assert said in str(raised.value)


@pytest.mark.parametrize("library", ["timm", "torchvision", "monai", "torchxrayvision"])
def test_a_library_that_is_missing_is_named_with_its_extra(
    library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in list(sys.modules):
        if name.partition(".")[0] == library:
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(LabelAssembleError, match=rf"backbones of {library} need.*labelassemble\[{library}\]"):
        make_config({**SOURCES, "model": {"backbone": {"library": library, "name": "x"}}}, base=Path())


def test_weights_that_do_not_fit_and_sizes_that_are_not_taken_are_one_sentence(tmp_path: Path) -> None:
    torch.save({"conv1.weight": torch.zeros(1)}, tmp_path / "other.pt")
    torch.save(nn.Linear(1, 1), tmp_path / "module.pt")
    with pytest.raises(
        LabelAssembleError, match=r"module\.pt: not a state dict .*\(.*Linear.*\): save one"
    ) as raised:
        library_backbone(_of("monai", "resnet10", pretrained=tmp_path / "module.pt"), channels=1, size=32)
    assert "\n" not in str(raised.value)
    with pytest.raises(LabelAssembleError, match=r"other\.pt: lacks weights: .* and \d+ more"):
        library_backbone(_of("monai", "resnet18", pretrained=tmp_path / "other.pt"), channels=1, size=32)
    with pytest.raises(LabelAssembleError, match=r"monai's ViT divides images into patches of 16 .*got 40"):
        library_backbone(_of("monai", "ViT"), channels=1, size=40)
    with pytest.raises(LabelAssembleError, match=r"MONAI does not describe its weights"):
        library_backbone(_of("monai", "resnet18", pretrained=True), channels=1, size=32)
    with pytest.raises(LabelAssembleError, match=r"belong into model\.backbone\.pretrained"):
        make_config(
            {**SOURCES, "model": {"backbone": {"library": "monai", "name": "ViT"}, "pretrained": "x.pt"}},
            base=Path(),
        )


@libraries
@pytest.mark.parametrize(
    ("library", "name", "size"), [("timm", "vit_tiny_patch16_224", 60), ("torchvision", "vit_b_16", 60)]
)
def test_a_vision_transformer_refuses_sizes_that_its_patches_do_not_cover(
    library: str, name: str, size: int
) -> None:
    with pytest.raises(LabelAssembleError, match=rf"{library}'s {name} .*60"):
        library_backbone(_of(library, name), channels=1, size=size)


@libraries
def test_published_weights_without_a_network_to_load_them_over_are_one_sentence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def offline(*_: object, **__: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr("torch.hub.load_state_dict_from_url", offline)
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", offline)
    monkeypatch.setattr("timm.models._builder.load_state_dict_from_hf", offline)
    monkeypatch.setattr("torchxrayvision.models.get_weights", offline)
    for library, name in (
        ("timm", "resnet18"),
        ("torchvision", "resnet18"),
        ("torchxrayvision", "densenet121-res224-all"),
    ):
        with pytest.raises(
            LabelAssembleError, match=rf"{library}'s {name}, which failed \(no route to host\): give a"
        ):
            library_backbone(_of(library, name, pretrained=True), channels=3, size=64)


@libraries
@pytest.mark.parametrize(
    ("library", "name", "channels", "mean", "std"),
    [
        ("timm", "resnet18", 3, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ("timm", "vit_small_patch16_224", 1, (0.5,), (0.5,)),
        ("torchvision", "densenet121", 1, (0.449,), (0.226,)),
        ("torchvision", "inception_v3", 3, (0.5,), (0.5,)),
        ("torchxrayvision", "densenet121-res224-all", 1, (0.5,), (1 / 2048,)),
    ],
)
def test_the_values_are_those_of_the_weights_own_description(
    library: str, name: str, channels: int, mean: tuple[float, ...], std: tuple[float, ...], caplog: Any
) -> None:
    backbone = {"library": library, "name": name}
    values = {**SOURCES, "model": {"backbone": backbone}, "views": {"channels": channels}}
    config = make_config(values, base=Path())
    np.testing.assert_allclose(config.views.mean, mean)
    np.testing.assert_allclose(config.views.std, std)
    assert not caplog.records
    values["views"] |= {"mean": [0.1] * channels}
    values["model"] = {"backbone": {**backbone, "pretrained": "weights.pt"}}
    config = make_config(values, base=Path())
    assert config.views.mean == (0.1,) * channels
    assert "leave it out to take the weights' own" in caplog.text


@libraries
def test_radiographs_reach_the_networks_of_torchxrayvision_as_they_do_there(tmp_path: Path) -> None:
    import torchvision
    import torchxrayvision as xrv

    pixels = np.random.default_rng(0).integers(0, 256, (224, 224), dtype=np.uint8)
    theirs = torch.from_numpy(xrv.utils.normalize(pixels.astype(np.float32), 255))[None, None]
    torch.manual_seed(0)
    dense = xrv.models.DenseNet(num_classes=18).eval()
    torch.save(dense.state_dict(), tmp_path / "dense.pt")
    torch.save(dense, tmp_path / "whole.pt")
    resnet = torchvision.models.resnet50(num_classes=18).eval()
    resnet.conv1 = nn.Conv2d(1, 64, 7, stride=2, padding=3, bias=False)
    torch.save(resnet.state_dict(), tmp_path / "resnet.pt")
    for name, file, network in (
        ("densenet121-res224-all", "dense.pt", dense),
        ("densenet121-res224-all", "whole.pt", dense),
        ("resnet50-res512-all", "resnet.pt", resnet),
    ):
        values = {
            **SOURCES,
            "model": {"backbone": {"library": "torchxrayvision", "name": name, "pretrained": file}},
        }
        config = make_config(values, base=tmp_path)
        backbone = config.model.backbone
        assert isinstance(backbone, LibraryBackbone)
        ours = library_backbone(backbone, channels=1, size=224).eval()
        with torch.no_grad():
            view = config.views.preprocess()(torch.from_numpy(pixels)[None, None])
            torch.testing.assert_close(view, theirs, rtol=0, atol=1e-3)
            network.fc = nn.Identity()
            features = network.features2(theirs) if network is dense else network(theirs)
            torch.testing.assert_close(ours(view), features, rtol=1e-3, atol=1e-3)
