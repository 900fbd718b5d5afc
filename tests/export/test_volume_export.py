"""The export of networks that answer every voxel."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from labelassemble.detection_options import DetectionOptions
from labelassemble.errors import LabelAssembleError
from labelassemble.export import export_volumes, load_metadata, load_volume_metadata
from labelassemble.models.segmentation.segment_net import SegmentNet
from labelassemble.views.volume_options import VolumeOptions

PATCH = VolumeOptions(patch=(16, 24), window=(-100, 240), spacing=(1.5, 0.75), overlap=0.25)


class Features(nn.Module):
    """A backbone of one convolution."""

    out_features = 5

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, 5, 3, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.conv(images).relu()
        return features


def _net() -> SegmentNet:
    return SegmentNet(Features, classes=["PDAC", "cyst"], dims=2, shares={"PDAC": 0.01}).eval()


def test_a_file_answers_as_its_network_and_says_what_it_is(tmp_path: Path) -> None:
    net = _net()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    summary = export_volumes(
        net,
        tmp_path / "model.pt",
        classes=net.classes,
        options=PATCH,
        detection=DetectionOptions(threshold=0.3, patient_score="maximum", top=0.02),
        interest=["PDAC"],
        thresholds={"cyst": 0.5, "PDAC": float("inf")},
    )
    metadata = load_volume_metadata(summary.path)
    assert metadata == summary.metadata
    assert metadata.difference < 1e-6
    assert metadata.model_dump(exclude={"library", "torch", "difference", "patches", "percentiles"}) == {
        "format": 1,
        "classes": ("PDAC", "cyst"),
        "interest": ("PDAC",),
        "thresholds": {"PDAC": float("inf"), "cyst": 0.5},
        "patch": (16, 24),
        "overlap": 0.25,
        "spacing": (1.5, 0.75),
        "orientation": "RAS",
        "window": (-100.0, 240.0),
        "threshold": 0.3,
        "patient_score": "maximum",
        "top": 0.02,
    }
    assert str(summary).startswith(f"{summary.path}: 2 classes, patches of 16 x 24, ")
    script = torch.jit.load(summary.path)  # type: ignore[no-untyped-call]
    assert script.labelassemble_volumes["labelassemble.thresholds"] == "inf\n0.5"
    assert not any("queries" in name for name, _ in script.named_parameters())
    patches = torch.rand(3, 1, 16, 24)
    torch.testing.assert_close(script(patches), net(patches))
    for name, value in net.state_dict().items():
        assert torch.equal(value, before[name])


def test_a_class_without_a_threshold(tmp_path: Path) -> None:
    thresholds = {"PDAC": None, "cyst": 0.5}
    summary = export_volumes(
        _net(), tmp_path / "model.pt", classes=["PDAC", "cyst"], options=PATCH, thresholds=thresholds
    )
    assert load_volume_metadata(summary.path).thresholds == thresholds
    script = torch.jit.load(summary.path)  # type: ignore[no-untyped-call]
    assert script.labelassemble_volumes["labelassemble.thresholds"] == "nan\n0.5"


class NotScripted(nn.Module):
    """Cannot be scripted, only traced, as SwinUNETR."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 1, 3, padding=1)

    def forward(self, *images: Tensor, **more: Tensor) -> Tensor:
        logits: Tensor = self.conv(images[0])
        return logits


def test_a_network_that_cannot_be_scripted_is_traced(tmp_path: Path) -> None:
    net = NotScripted()
    export_volumes(net, tmp_path / "model.pt", classes=["a"], options=PATCH)
    patches = torch.rand(3, 1, 16, 24)
    script = torch.jit.load(tmp_path / "model.pt")  # type: ignore[no-untyped-call]
    torch.testing.assert_close(script(patches), net(patches))


class Changing(nn.Module):
    """Answers something else in a script, as a mistaken export would."""

    def forward(self, images: Tensor) -> Tensor:
        return images + 1.0 if torch.jit.is_scripting() else images  # type: ignore[attr-defined]


def test_mistakes_are_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    with pytest.raises(LabelAssembleError, match=r"none/model\.pt: the folder .*none does not exist"):
        export_volumes(_net(), tmp_path / "none" / "model.pt", classes=["a", "b"], options=PATCH)
    with pytest.raises(LabelAssembleError, match="each of the network's 2 channels, got 1 names"):
        export_volumes(_net(), path, classes=["a"], options=PATCH)
    with pytest.raises(
        LabelAssembleError, match=r"not written: .* may differ from the network's by 1e-05, got 0"
    ):
        export_volumes(Changing(), path, classes=["a"], options=PATCH)
    with pytest.raises(LabelAssembleError, match=r"must be named \*\.pt2"):
        export_volumes(_net(), path, classes=["a", "b"], options=PATCH, format="pt2")
    assert not path.exists()
    with pytest.raises(LabelAssembleError, match="no such model"):
        load_volume_metadata(path)
    path.write_bytes(b"text")
    with pytest.raises(LabelAssembleError, match="not a TorchScript file"):
        load_volume_metadata(path)
    export_volumes(_net(), path, classes=["a", "b"], options=PATCH)
    with pytest.raises(
        LabelAssembleError, match="answers the voxels of volumes, and whole images were meant"
    ):
        load_metadata(path)


def test_metadata_of_images_is_not_that_of_volumes(model: Path) -> None:
    with pytest.raises(
        LabelAssembleError, match="not exported by labelassemble of a network that answers vox"
    ):
        load_volume_metadata(model)
