"""Volumes segmented by the C++ library, against MONAI and the rest of the Python side."""

import json
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import nn

from labelassemble.data.errors import ImageError
from labelassemble.evaluation.detection_case import slice_scores
from labelassemble.export import find_program, load_volume_metadata
from labelassemble.export.volumes import export_volumes
from labelassemble.models.segmentation.predict_volume import predict_volume
from labelassemble.views.volume_options import VolumeOptions
from labelassemble.views.volumes import load_case, to_stored

nib = pytest.importorskip("nibabel")
pytest.importorskip("monai")

CLASSES = ("PDAC", "cyst, large")
THRESHOLDS = {"cyst, large": 0.0, "PDAC": float("inf")}
# Turned by 15 degrees, with the axes to the left, back and head.
TURNED = np.array(
    [[-1.352, 0.233, 0, 80], [-0.362, -0.869, 0, 60], [0, 0, 2.5, -300], [0, 0, 0, 1]],
)
# The axes of the file are head, right and back.
PERMUTED = np.array([[0, 1.5, 0, -30], [0, 0, -1.1, 12], [2.0, 0, 0, 7], [0, 0, 0, 1]])
# Two axes of the file are nearest to the same side of the body.
OBLIQUE = np.array([[1.0, -0.6, -1.8, 3], [1.0, 1.2, 0.9, 2], [0.5, -1.2, 1.8, 1], [0, 0, 0, 1]])
HALF_WAY = np.array(
    [[0.5**0.5, -(0.5**0.5), 0, 0], [0.5**0.5, 0.5**0.5, 0, 0], [0, 0, 2.5, 0], [0, 0, 0, 1]],
)
SHEARED = np.array([[1.0, 0.2, 0, 3], [0, 1.2, 0.1, 2], [0.1, 0, 2.0, 1], [0, 0, 0, 1]])


class Network(nn.Module):
    """Looks far enough that windows differ where they overlap."""

    def __init__(self, dims: int) -> None:
        super().__init__()
        conv, norm = (nn.Conv2d, nn.InstanceNorm2d) if dims == 2 else (nn.Conv3d, nn.InstanceNorm3d)
        self.layers = nn.Sequential(
            conv(1, 4, 5, padding=2), norm(4), nn.LeakyReLU(), conv(4, 2, 3, padding=1)
        )
        nn.init.normal_(self.layers[3].weight, std=0.6)  # type: ignore[arg-type]

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.layers(images)
        return logits


class Model(NamedTuple):
    """An exported network, and the network."""

    path: Path
    net: nn.Module
    options: VolumeOptions


class Answer(NamedTuple):
    """What the C++ library wrote of a volume."""

    said: str
    out: Path

    def floats(self, kind: str, shape: Sequence[int]) -> Any:
        return np.fromfile(f"{self.out}.{kind}", np.float32).reshape(shape)

    def nifti(self, kind: str) -> Any:
        return np.asarray(nib.load(f"{self.out}.{kind}.nii").dataobj)

    @property
    def scores(self) -> list[float]:
        return [float(text) for text in self.said.split()[3:]]


Segment = Callable[[Sequence[tuple[Path, Path, int]]], list[Answer]]


@pytest.fixture(scope="module")
def segment(cpp_program: Callable[[str], Path]) -> Segment:
    """Segment (model, volume, batch) by the C++ library, all in one process."""
    program = cpp_program("segment_volumes")

    def run(lines: Sequence[tuple[Path, Path, int]]) -> list[Answer]:
        outs = [Path(f"{volume}.{number}") for number, (_, volume, _) in enumerate(lines)]
        text = "\n".join("\t".join(map(str, [*line, out])) for line, out in zip(lines, outs, strict=True))
        done = subprocess.run([program], input=text, capture_output=True, text=True, check=True)
        return [Answer(said, out) for said, out in zip(done.stdout.splitlines(), outs, strict=True)]

    return run


def _model(folder: Path, name: str, dims: int, **options: Any) -> Model:
    torch.manual_seed(1)
    net = Network(dims).eval()
    volumes = VolumeOptions(**options)
    path = folder / f"{name}.pt"
    export_volumes(net, path, classes=CLASSES, options=volumes, thresholds=THRESHOLDS)
    return Model(path, net, volumes)


def _volume(folder: Path, name: str, shape: Sequence[int], affine: Any = None) -> Path:
    values = np.random.default_rng(len(name)).normal(0, 120, shape)
    path = folder / f"{name}.nii.gz"
    nib.save(nib.Nifti1Image(values.astype(np.float32), np.eye(4) if affine is None else affine), path)
    return path


def _expected(model: Model, volume: Path) -> tuple[Any, Any]:
    case = load_case(str(volume), model.options)
    return case, predict_volume(model.net, torch.from_numpy(case.image)[None], model.options).numpy()


@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.6])
def test_windows_are_those_of_monai(tmp_path: Path, segment: Segment, overlap: float) -> None:
    three = _model(tmp_path, "three", 3, patch=(16, 8, 12), overlap=overlap, window=(-200, 300))
    two = _model(tmp_path, "two", 2, patch=(16, 8), overlap=overlap)
    volumes = [
        (three, _volume(tmp_path, "larger", (37, 9, 29))),
        (three, _volume(tmp_path, "smaller", (5, 7, 9))),
        (three, _volume(tmp_path, "mixed", (11, 30, 12))),
        (three, _volume(tmp_path, "patch", (16, 8, 12))),
        (two, _volume(tmp_path, "slice", (33, 21))),
        (two, _volume(tmp_path, "one slice", (9, 40, 1))),
        (two, _volume(tmp_path, "small slice", (3, 5))),
    ]
    answers = segment([(model.path, path, batch) for batch in (0, 1, 3) for model, path in volumes])
    for answer, (model, path) in zip(answers, volumes * 3, strict=True):
        case, expected = _expected(model, path)
        np.testing.assert_allclose(answer.floats("prepared", case.image.shape), case.image, atol=1e-6)
        found = answer.floats("probabilities", expected.shape)
        np.testing.assert_allclose(found, expected, atol=1e-5, rtol=0, err_msg=str(path))
        scores = [slice_scores(one, 0.01).mean() for one in expected]
        np.testing.assert_allclose(answer.scores, scores, atol=1e-5)


@pytest.mark.parametrize("spacing", [None, (1.4, 0.9, 2.5), (2.0, 1.3, 1.9)])
def test_turned_and_resampled_as_in_training(tmp_path: Path, segment: Segment, spacing: Any) -> None:
    model = _model(tmp_path, "model", 3, patch=(8, 12, 16), spacing=spacing)
    places = {
        "turned": TURNED,
        "permuted": PERMUTED,
        "sheared": SHEARED,
        "oblique": OBLIQUE,
        "half way": HALF_WAY,
        "straight": np.diag([1.4, 0.9, 2.5, 1]),
    }
    volumes = [_volume(tmp_path, name, (17, 21, 13), place) for name, place in places.items()]
    for answer, path in zip(segment([(model.path, path, 2) for path in volumes]), volumes, strict=True):
        case, expected = _expected(model, path)
        assert [int(size) for size in answer.said.split()[:3]] == list(case.image.shape), path
        np.testing.assert_allclose(
            answer.floats("prepared", case.image.shape), case.image, atol=2e-5, err_msg=str(path)
        )
        found = answer.floats("probabilities", expected.shape)
        np.testing.assert_allclose(found, expected, atol=1e-4, rtol=0, err_msg=str(path))
        back = to_stored(expected, case)
        np.testing.assert_allclose(np.moveaxis(answer.nifti("map"), -1, 0), back, atol=2e-4, rtol=0)
        mask = np.where(back.max(axis=0) >= 0.5, back.argmax(axis=0) + 1, 0)
        assert (
            answer.nifti("mask") != mask
        ).mean() < 2e-3  # where two probabilities or the threshold are met
        assert 0 < (mask > 0).mean() < 1


def test_a_slice_has_its_own_spacing(tmp_path: Path, segment: Segment) -> None:
    model = _model(tmp_path, "model", 2, patch=(8, 16), spacing=(1.0, 2.0), percentiles=(1, 90))
    path = _volume(tmp_path, "slice", (19, 30), TURNED)
    (answer,) = segment([(model.path, path, 1)])
    case, expected = _expected(model, path)
    np.testing.assert_allclose(answer.floats("prepared", case.image.shape), case.image, atol=2e-5)
    np.testing.assert_allclose(answer.floats("probabilities", expected.shape), expected, atol=1e-4)
    back = to_stored(expected, case)
    np.testing.assert_allclose(np.moveaxis(answer.nifti("map")[:, :, 0], -1, 0), back, atol=2e-4)


@pytest.mark.slow
def test_a_compiled_package_answers_likewise(tmp_path: Path, segment: Segment) -> None:
    script = _model(tmp_path, "model", 3, patch=(16, 8, 12))
    package = tmp_path / "model.pt2"
    export_volumes(script.net, package, classes=CLASSES, options=script.options, format="pt2")
    assert load_volume_metadata(package).patch == (16, 8, 12)
    volume = _volume(tmp_path, "volume", (23, 9, 20))
    shape = (2, 23, 9, 20)
    first, *others = segment([(script.path, volume, 1), (package, volume, 1), (package, volume, 3)])
    for other in others:
        found = other.floats("probabilities", shape)
        np.testing.assert_allclose(found, first.floats("probabilities", shape), atol=1e-5)


def test_what_cannot_be_segmented_is_said_in_one_sentence(
    tmp_path: Path, segment: Segment, model: Path
) -> None:
    two = _model(tmp_path, "two", 2, patch=(8, 8)).path
    patches = _model(tmp_path, "good", 3, patch=(8, 8, 8)).path
    served = torch.jit.load(patches)  # type: ignore[no-untyped-call]
    getattr(served.network.layers, "3").bias.data[1] = torch.inf
    torch.jit.save(served, tmp_path / "broken.pt")
    plain = tmp_path / "plain.pt"
    torch.jit.save(served.network, plain)
    odd = np.zeros((8, 8, 8), np.float32)
    odd[3, 3, :2] = np.nan
    nan = tmp_path / "nan.nii"
    nib.save(nib.Nifti1Image(odd, np.eye(4)), nan)
    volume = _volume(tmp_path, "volume", (8, 8, 8))
    flat = _volume(tmp_path, "flat", (8, 9))
    spaced = _model(tmp_path, "spaced", 3, patch=(8, 8, 8), spacing=(1.0, 1.0, 1.0)).path
    huge = [  # whose product is small, or has no type
        _volume(tmp_path, f"huge{edge}", (8, 8, 8), np.diag([edge, edge, edge, 1.0]))
        for edge in (2.0**19, 2.0**30, 1e30)
    ]
    with pytest.raises(ImageError, match="must have 3 axes"):  # as in C++
        load_case(str(flat), VolumeOptions(patch=(8, 8, 8)))
    cases = [
        (patches, flat, "the model answers volumes, and the file has two axes (8 x 9)"),
        (two, volume, "the model answers slices, and the volume has 8 of them (8 x 8 x 8)"),
        (patches, nan, "2 of the volume's 512 voxels are NaN or infinite"),
        (tmp_path / "broken.pt", volume, "answer for 'cyst, large' must be finite at every voxel"),
        (plain, volume, "not exported by labelassemble"),
        (model, volume, "a model that answers whole images"),
        (tmp_path / "none.pt", volume, "no such model"),
        *((spaced, one, "a volume must have 1 to 1073741824 voxels, got ") for one in huge),
    ]
    for answer, (_, _, reason) in zip(segment([(*case[:2], 1) for case in cases]), cases, strict=True):
        assert answer.said.startswith("refused: ")
        assert reason in answer.said


def _predict(*arguments: object) -> tuple[int, str, str]:
    done = subprocess.run([find_program(), *map(str, arguments)], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


def test_the_program_prints_scores_and_writes_the_mask(tmp_path: Path) -> None:
    model = _model(tmp_path, "model", 3, patch=(8, 8, 8))
    volume = _volume(tmp_path, "volume", (9, 10, 11), PERMUTED)
    mask, probabilities = tmp_path / "mask.nii.gz", tmp_path / "map.nii"
    status, out, error = _predict(
        model.path, volume, "--format", "csv", "--mask", mask, "--probabilities", probabilities
    )
    assert (status, error) == (0, "")
    case, expected = _expected(model, volume)
    header, row = out.splitlines()
    assert header == 'path,score:PDAC,"score:cyst, large"'
    scores = [slice_scores(one, 0.01).mean() for one in expected]
    np.testing.assert_allclose([float(cell) for cell in row.split(",")[1:]], scores, atol=1e-5)
    back = to_stored(expected, case)
    np.testing.assert_allclose(np.moveaxis(nib.load(probabilities).get_fdata(), -1, 0), back, atol=1e-5)
    np.testing.assert_allclose(nib.load(mask).affine, nib.load(volume).affine)
    table = _predict(model.path, volume)[1].splitlines()[1].split()
    assert not table[1].endswith("*")
    assert table[2].endswith("*")
    thresholds = {"PDAC": None, "cyst, large": float("inf")}
    export_volumes(model.net, model.path, classes=CLASSES, options=model.options, thresholds=thresholds)
    table = _predict(model.path, volume)[1].splitlines()[1].split()
    assert [table[1][-1], table[2][-1].isdigit()] == ["?", True]
    assert json.loads(_predict(model.path, volume, "--format", "json")[1])["thresholds"] == [None, "Infinity"]
    status, out, error = _predict(model.path, volume, tmp_path / "image.png")
    assert (status, out) == (2, "")
    assert error.count("\n") == 1
    assert "images and volumes cannot be mixed" in error
    before = volume.read_bytes()
    status, out, error = _predict(model.path, volume, "--mask", volume)
    assert (status, out) == (2, "")
    assert "would replace the volume that is read" in error
    assert volume.read_bytes() == before
    again = mask.parent / "." / ".." / mask.parent.name / mask.name
    status, out, error = _predict(model.path, volume, "--mask", mask, "--probabilities", again)
    assert (status, out) == (2, "")
    assert "--mask and --probabilities must be two files" in error
    status, out, error = _predict(model.path, volume, volume, "--mask", mask)
    assert (status, out) == (2, "")
    assert "--mask and --probabilities go with one volume (.nii, .nii.gz), got 2 volumes" in error


def test_images_are_refused_by_a_model_of_volumes(tmp_path: Path) -> None:
    path = _model(tmp_path, "model", 2, patch=(8, 8)).path
    image = tmp_path / "image.pgm"
    image.write_bytes(b"P5 2 2 255 abcd")
    status, out, error = _predict(path, image)
    assert (status, out) == (2, "")
    assert "a model that answers the voxels of volumes" in error


def test_the_example_writes_the_mask(cpp_program: Callable[[str], Path], tmp_path: Path) -> None:
    model = _model(tmp_path, "model", 3, patch=(8, 8, 8)).path
    volume, mask = _volume(tmp_path, "volume", (9, 10, 11), PERMUTED), tmp_path / "mask.nii"
    done = subprocess.run(
        [cpp_program("segment"), model, volume, mask], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("PDAC 0.")
    assert nib.load(mask).shape == (9, 10, 11)
