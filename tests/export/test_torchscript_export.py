"""The exported file answers as the network does, says what it is, and is not written when it differs."""

import json
import math
import re
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from labelassemble.errors import LabelAssembleError
from labelassemble.export import ExportSummary, export_torchscript, load_metadata
from labelassemble.export.parts import take_apart
from labelassemble.export.pt2 import description
from labelassemble.views.preprocess import Preprocess

Images = list[NDArray[np.uint8]]
Eager = Callable[[nn.Module, Preprocess, Images], NDArray[np.float32]]
CLASSES = ("one", "two, too")


def test_exported_model_answers_as_eager_for_every_dtype_channel_count_and_size(
    model: Path, network: nn.Module, preprocess: Preprocess, images: Images, eager: Eager
) -> None:
    exported = torch.jit.load(model)
    expected = eager(network, preprocess, images)
    for image, row in zip(images, expected, strict=True):
        served = torch.from_numpy(image)[None]
        for form in (served, served.float() / 255, served.double() / 255):
            answer = exported(form)
            assert answer.dtype == torch.float32
            np.testing.assert_allclose(answer.numpy()[0], row, atol=1e-6)


def test_floating_images_outside_0_to_1_are_refused_by_the_file(model: Path) -> None:
    script = torch.jit.load(str(model))
    image = torch.randint(0, 256, (2, 1, 9, 11), dtype=torch.uint8)
    torch.testing.assert_close(script(image / 255), script(image))
    for wrong in (image.float(), (image / 255 - 0.5) / 0.25, image * torch.nan):
        with pytest.raises(
            torch.jit.Error, match=r"images must be uint8 \(0..255\) or floating in 0..1, got values"
        ):
            script(wrong)


def test_batches_answer_as_single_images(model: Path) -> None:
    exported = torch.jit.load(model)
    batch = torch.randint(0, 256, (5, 3, 20, 9), dtype=torch.uint8)
    single = torch.cat([exported(image[None]) for image in batch])
    torch.testing.assert_close(exported(batch), single, atol=1e-6, rtol=0)


def test_summary_and_metadata_say_what_was_exported(
    tmp_path: Path, network: nn.Module, preprocess: Preprocess, images: Images
) -> None:
    path = tmp_path / "m.pt"
    summary = export_torchscript(
        network,
        path,
        classes=CLASSES,
        preprocess=preprocess,
        images=images,
        interest=["one"],
        thresholds={"two, too": 0.5, "one": 0.1},
    )
    assert isinstance(summary, ExportSummary)
    assert summary.path == path
    assert summary.size == path.stat().st_size
    metadata = load_metadata(path)
    assert metadata == summary.metadata
    assert metadata.classes == CLASSES
    assert metadata.interest == ("one",)
    assert list((metadata.thresholds or {}).items()) == [("one", 0.1), ("two, too", 0.5)]
    assert (metadata.input.channels, metadata.input.size) == (1, 12)
    assert metadata.input.mean == pytest.approx((0.4,))
    assert metadata.torch == torch.__version__
    assert metadata.images == len(images)
    assert 0 <= metadata.difference <= 1e-6
    assert re.fullmatch(
        rf"{re.escape(str(path))}: 2 classes, 0\.\d MB, largest difference from eager over 7 images .*",
        str(summary),
    )


def test_attributes_that_cpp_reads_agree_with_the_json(model: Path) -> None:
    exported = torch.jit.load(model)
    metadata = load_metadata(model)
    assert exported.labelassemble_format == metadata.format
    assert exported.library == metadata.library
    assert tuple(exported.classes) == metadata.classes
    assert tuple(exported.interest) == metadata.interest
    assert dict(zip(exported.classes, exported.thresholds, strict=True)) == metadata.thresholds
    assert exported.input_channels == metadata.input.channels
    assert exported.input_size == metadata.input.size
    assert tuple(exported.input_mean) == metadata.input.mean
    assert tuple(exported.input_std) == metadata.input.std


def test_head_is_one_linear_layer(model: Path) -> None:
    names = [name for name, _ in torch.jit.load(model).named_parameters()]
    assert "head.weight" in names
    assert not any("queries" in name or "adapter" in name for name in names)


def test_norms_are_folded_into_convolutions(model: Path, network: nn.Module) -> None:
    assert any("running_mean" in name for name, _ in network.named_buffers())
    assert not any("running_mean" in name for name, _ in torch.jit.load(model).named_buffers())


class Branching(nn.Module):
    """A backbone that TorchScript takes and torch.fx cannot trace."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        if bool(x.mean() > 0):
            x = x + 1
        return self.inner(x)


def test_a_backbone_that_cannot_be_folded_is_exported_as_it_is(
    tmp_path: Path, network: nn.Module, preprocess: Preprocess, images: Images, eager: Eager
) -> None:
    network.backbone = Branching(network.backbone)
    export_torchscript(network, tmp_path / "m.pt", classes=CLASSES, preprocess=preprocess, images=images[:1])
    for level in (0, 255):
        image = np.full((1, 12, 12), level, np.uint8)
        answer = torch.jit.load(tmp_path / "m.pt")(torch.from_numpy(image)[None])
        np.testing.assert_allclose(answer.numpy(), eager(network, preprocess, [image]), atol=1e-6)


class Untyped(nn.Module):
    """A backbone with Python that neither TorchScript nor torch.fx reads.

    Args:
        backbone: what it calls.
        kind: "plain", or "branching" by values.
    """

    def __init__(self, backbone: nn.Module, kind: str) -> None:
        super().__init__()
        self.backbone = backbone
        self.kind = kind

    def forward(self, images: Tensor, **options: object) -> Tensor:
        assert type(images) is Tensor  # no proxy
        features: Tensor = self.backbone(images)
        if self.kind == "branching" and bool(images.mean() > 0):
            return features + 1
        return features


def test_a_backbone_that_torchscript_cannot_read_is_traced(
    tmp_path: Path, network: nn.Module, preprocess: Preprocess, images: Images
) -> None:
    network.backbone = Untyped(network.backbone, "plain")
    summary = export_torchscript(
        network, tmp_path / "m.pt", classes=CLASSES, preprocess=preprocess, images=images
    )
    assert summary.metadata.difference <= 1e-6


def test_a_trace_that_holds_for_some_images_alone_is_refused(
    tmp_path: Path, network: nn.Module, preprocess: Preprocess, images: Images
) -> None:
    network.backbone = Untyped(network.backbone, "branching")
    with pytest.raises(
        LabelAssembleError, match=r"m\.pt: not written: .* nor record it \(.*\): export it as pt2"
    ):
        export_torchscript(network, tmp_path / "m.pt", classes=CLASSES, preprocess=preprocess, images=images)
    assert not (tmp_path / "m.pt").exists()


def test_temperature_divides_the_logits(
    tmp_path: Path, network: nn.Module, preprocess: Preprocess, images: Images, eager: Eager
) -> None:
    summary = export_torchscript(
        network, tmp_path / "m.pt", classes=CLASSES, preprocess=preprocess, images=images, temperature=2.5
    )
    assert summary.metadata.temperatures == {"one": 2.5, "two, too": 2.5}
    answer = torch.jit.load(tmp_path / "m.pt")(torch.from_numpy(images[0])[None])
    plain = eager(network, preprocess, images)[0].astype(np.float64)
    expected = 1 / (1 + np.exp(-np.log(plain / (1 - plain)) / 2.5))
    np.testing.assert_allclose(answer.numpy()[0], expected, atol=1e-6)


def test_each_class_has_a_temperature_of_its_own(
    tmp_path: Path, network: nn.Module, preprocess: Preprocess, images: Images, eager: Eager
) -> None:
    export_torchscript(
        network,
        tmp_path / "m.pt",
        classes=CLASSES,
        preprocess=preprocess,
        images=images,
        temperature={"two, too": 0.5, "one": 3.0},
    )
    answer = torch.jit.load(tmp_path / "m.pt")(torch.from_numpy(images[0])[None])
    plain = eager(network, preprocess, images)[0].astype(np.float64)
    expected = 1 / (1 + np.exp(-np.log(plain / (1 - plain)) / np.array([3.0, 0.5])))
    np.testing.assert_allclose(answer.numpy()[0], expected, atol=1e-6)


def test_a_threshold_of_infinity_travels(
    tmp_path: Path, network: nn.Module, preprocess: Preprocess, images: Images
) -> None:
    thresholds = {"one": math.inf, "two, too": 0.5}
    path = tmp_path / "m.pt"
    export_torchscript(
        network, path, classes=CLASSES, preprocess=preprocess, images=images, thresholds=thresholds
    )
    assert load_metadata(path).thresholds == thresholds
    assert torch.jit.load(path).thresholds == [math.inf, 0.5]


def test_a_class_without_a_threshold(
    tmp_path: Path, network: nn.Module, preprocess: Preprocess, images: Images
) -> None:
    thresholds = {"one": 0.5, "two, too": None}
    path = tmp_path / "m.pt"
    parts = take_apart(network, classes=CLASSES, preprocess=preprocess, images=images, thresholds=thresholds)
    export_torchscript(
        network, path, classes=CLASSES, preprocess=preprocess, images=images, thresholds=thresholds
    )
    assert load_metadata(path).thresholds == thresholds
    one, two = torch.jit.load(path).thresholds
    assert one == 0.5
    assert math.isnan(two)
    assert description(parts.metadata)["labelassemble.thresholds"] == "0.5\nnan"
    without = load_metadata(path).model_copy(update={"thresholds": {"one": 0.5}})  # of another writer
    assert math.isnan(without.threshold_numbers[1])


def test_bfloat16_differs_a_little_and_says_so(
    tmp_path: Path, network: nn.Module, preprocess: Preprocess, images: Images, eager: Eager
) -> None:
    path = tmp_path / "m.pt"
    summary = export_torchscript(
        network, path, classes=CLASSES, preprocess=preprocess, images=images, precision="bfloat16"
    )
    assert "classes in bfloat16" in str(summary)
    exported = torch.jit.load(path)
    assert {p.dtype for p in exported.backbone.parameters()} == {torch.bfloat16}
    answers = torch.cat([exported(torch.from_numpy(image)[None]) for image in images])
    assert answers.dtype == torch.float32
    difference = np.abs(answers.numpy() - eager(network, preprocess, images)).max()
    assert 1e-6 < difference < 0.02
    assert load_metadata(path).difference == pytest.approx(difference, abs=1e-4)


def test_plain_linear_head_with_a_bias_and_colour_input(
    tmp_path: Path, colour_network: nn.Module, eager: Eager
) -> None:
    network = colour_network
    network.head = nn.Linear(32, 2)
    preprocess = Preprocess(3, 10, [0.5, 0.4, 0.3], [0.2, 0.3, 0.4])
    images = [np.arange(300, dtype=np.uint16).astype(np.uint8).reshape(3, 10, 10)]
    summary = export_torchscript(
        network, tmp_path / "m.pt", classes=CLASSES, preprocess=preprocess, images=images
    )
    assert summary.metadata.input.std == pytest.approx((0.2, 0.3, 0.4))
    assert summary.metadata.thresholds is None
    answer = torch.jit.load(tmp_path / "m.pt")(torch.from_numpy(images[0])[None])
    np.testing.assert_allclose(answer.numpy(), eager(network, preprocess, images), atol=1e-6)


def test_network_is_left_as_it_was(
    tmp_path: Path, network: nn.Module, preprocess: Preprocess, images: Images
) -> None:
    network.train()
    network.backbone[1].eval()  # a frozen norm, which .train() afterwards would thaw
    before = {name: value.clone() for name, value in network.state_dict().items()}
    modes = [module.training for module in network.modules()]
    export_torchscript(network, tmp_path / "m.pt", classes=CLASSES, preprocess=preprocess, images=images)
    assert [module.training for module in network.modules()] == modes
    assert all(parameter.requires_grad for parameter in network.parameters())
    for name, value in network.state_dict().items():
        torch.testing.assert_close(value, before[name], atol=0, rtol=0)


def test_an_infinite_logit_is_no_probability(
    tmp_path: Path, overflowing: nn.Module, preprocess: Preprocess
) -> None:
    path, grey, white = tmp_path / "m.pt", np.full((1, 4, 4), 99, np.uint8), np.full((1, 4, 4), 255, np.uint8)
    export_torchscript(overflowing, path, classes=CLASSES, preprocess=preprocess, images=[grey])
    answer = torch.jit.load(path)(torch.from_numpy(np.stack([grey, white])))
    assert torch.isfinite(answer).tolist() == [[True, True], [True, False]]
    with pytest.raises(
        LabelAssembleError,
        match="image 1 of those to compare on: the model's answer for 'two, too' must be finite",
    ):
        export_torchscript(overflowing, path, classes=CLASSES, preprocess=preprocess, images=[grey, white])


def test_no_warning_reaches_the_caller(
    tmp_path: Path, network: nn.Module, preprocess: Preprocess, images: Images
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        export_torchscript(network, tmp_path / "m.pt", classes=CLASSES, preprocess=preprocess, images=images)


@pytest.mark.parametrize("error", [1e-3, float("nan")])
def test_an_export_that_differs_is_not_written_and_keeps_the_old_file(
    tmp_path: Path, network: nn.Module, preprocess: Preprocess, images: Images, error: float
) -> None:
    path = tmp_path / "m.pt"
    path.write_text("the old one")
    network.head.fold_error = error
    with pytest.raises(
        LabelAssembleError, match=r"m\.pt: not written: .* may differ .* by 1e-05, got .* over 7"
    ):
        export_torchscript(network, path, classes=CLASSES, preprocess=preprocess, images=images)
    assert path.read_text() == "the old one"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"classes": ("one",)}, "classes must name the 2 outputs of the head, got 1"),
        ({"classes": ("one", "one")}, "classes must be unique, got 'one' twice"),
        ({"classes": ("one", " ")}, "a class name must not be blank, got ' '"),
        ({"classes": ("one", "t\two")}, "a class name must not contain a control character"),
        ({"classes": ("two, too", "one")}, "classes must be the network's own, in its order"),
        ({"interest": ["on"]}, "unknown class 'on', did you mean 'one'?"),
        (
            {"thresholds": {"one": 0.5}},
            "thresholds must hold every class (None: no threshold), got none for 'two, too'",
        ),
        (
            {"thresholds": {"one": 0.5, "two, too": 1.5}},
            "thresholds must lie in 0..1, got 1.5 for 'two, too'",
        ),
        ({"thresholds": {"One": 0.5}}, "unknown class 'One', did you mean 'one'?"),
        ({"temperature": 0.0}, "temperature must be positive and finite, got 0.0"),
        ({"temperature": float("nan")}, "temperature must be positive and finite, got nan"),
        ({"temperature": {"one": 1.0}}, "temperatures must hold every class, got none for 'two, too'"),
        ({"temperature": {"on": 1.0}}, "unknown class 'on', did you mean 'one'?"),
        ({"precision": "float16"}, "precision must be float32 or bfloat16, got 'float16'"),
        ({"queries": True}, "queries can be kept of a ClassQueryHead only, got TinyHead"),
        ({"images": []}, "images must hold at least one image"),
        ({"path": Path("no") / "such" / "m.pt"}, "the folder no/such does not exist"),
        ({"network": nn.Linear(3, 2)}, "network must have the modules backbone and head, got Linear"),
    ],
)
def test_mistakes_get_one_sentence(
    tmp_path: Path,
    network: nn.Module,
    preprocess: Preprocess,
    images: Images,
    changes: dict[str, object],
    message: str,
) -> None:
    arguments = {
        "network": network,
        "path": tmp_path / "m.pt",
        "classes": CLASSES,
        "preprocess": preprocess,
        "images": images,
        **changes,
    }
    with pytest.raises(LabelAssembleError, match=re.escape(message)):
        export_torchscript(**arguments)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_a_head_that_is_not_linear_is_refused(
    tmp_path: Path, network: nn.Module, preprocess: Preprocess, images: Images
) -> None:
    network.head = nn.Sequential(nn.Linear(32, 2), nn.ReLU())
    with pytest.raises(
        LabelAssembleError, match=r"offer to_linear\(\), or have out_features, .*, got Sequential"
    ):
        export_torchscript(network, tmp_path / "m.pt", classes=CLASSES, preprocess=preprocess, images=images)


def test_load_metadata_names_what_is_wrong(tmp_path: Path, model: Path) -> None:
    with pytest.raises(LabelAssembleError, match="no such model"):
        load_metadata(tmp_path / "none.pt")
    text = tmp_path / "text.pt"
    text.write_text("not a model")
    with pytest.raises(LabelAssembleError, match=r"text\.pt: not a TorchScript file"):
        load_metadata(text)
    with pytest.raises(LabelAssembleError, match="not a TorchScript file"):
        load_metadata(tmp_path)
    plain = tmp_path / "plain.pt"
    torch.save({"a": torch.zeros(1)}, plain)
    with pytest.raises(LabelAssembleError, match="not exported by labelassemble"):
        load_metadata(plain)
    damaged = tmp_path / "damaged.pt"
    description = json.loads(load_metadata(model).model_dump_json())
    del description["classes"]
    with zipfile.ZipFile(damaged, "w") as archive:
        archive.writestr("archive/extra/labelassemble.json", json.dumps(description))
    with pytest.raises(LabelAssembleError, match="damaged metadata: classes: Field required"):
        load_metadata(damaged)
