"""The .pt2 package and the ONNX file answer as the network does, and are not written when they differ."""

import json
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from labelassemble.errors import LabelAssembleError
from labelassemble.export import load_metadata, run_program
from labelassemble.export.formats import check_choice, write_export
from labelassemble.export.onnx import write_onnx
from labelassemble.export.parts import ExportParts, take_apart
from labelassemble.export.pt2 import description, write_pt2
from labelassemble.export.repository import RepositoryOptions
from labelassemble.export.traced import as_input
from labelassemble.views.preprocess import Preprocess

Images = list[NDArray[np.uint8]]
CLASSES = ("one", "two, too")


@pytest.fixture
def parts(network: nn.Module, preprocess: Preprocess, images: Images) -> ExportParts:
    return take_apart(
        network,
        classes=CLASSES,
        preprocess=preprocess,
        images=images,
        interest=["one"],
        thresholds={"one": 0.25, "two, too": float("inf")},
        temperature={"one": 2.0, "two, too": 1.0},
    )


@pytest.mark.slow
def test_a_package_answers_in_python_and_in_the_program(
    tmp_path: Path,
    parts: ExportParts,
    images: Images,
    preprocess: Preprocess,
    capfd: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "model.pt2"
    summary = write_pt2(parts, path)
    assert [file.name for file in tmp_path.iterdir()] == ["model.pt2"]
    assert load_metadata(path) == summary.metadata
    assert 0 <= summary.metadata.difference <= 1e-6

    package = torch._inductor.aoti_load_package(str(path))
    with torch.inference_mode():
        batch = torch.cat([as_input(image, 1) for image in parts.images if image.shape[2:] == (12, 12)])
        rows = [
            row
            for image, row in zip(parts.images, parts.expected, strict=True)
            if image.shape[2:] == (12, 12)
        ]
        np.testing.assert_allclose(package(batch), torch.stack(rows), atol=1e-6)
        single = torch.cat([package(image[None]) for image in batch])
        np.testing.assert_allclose(single, torch.stack(rows), atol=1e-6)

    if "LABELASSEMBLE_WITHOUT_PROGRAMS" not in os.environ:  # make test-newest builds ops and bindings alone
        answer = run_program(path, images, batch=3, threads=1)
        np.testing.assert_allclose(answer, parts.expected, atol=1e-6)
    for wrong in (batch * 255, batch - 0.01, batch * float("nan")):
        with pytest.raises(RuntimeError) as refusal:
            package(wrong)
        printed = capfd.readouterr().err  # torch 2.11 raises a sentence of its own and prints the model's
        said = printed if torch.__version__ < "2.13" else str(refusal.value)
        assert "images must be floating in 0..1" in said
    metadata = package.get_metadata()
    assert metadata["labelassemble.thresholds"] == "0.25\ninf"
    assert metadata["labelassemble.classes"] == "one\ntwo, too"


def test_an_onnx_file_answers_and_names_itself(tmp_path: Path, parts: ExportParts) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    path = tmp_path / "model.onnx"
    summary = write_onnx(parts, path)
    assert [file.name for file in tmp_path.iterdir()] == ["model.onnx"]
    assert load_metadata(path) == summary.metadata
    assert 0 <= summary.metadata.difference <= 1e-6
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (given,), (answered,) = session.get_inputs(), session.get_outputs()
    assert (given.name, given.type, given.shape[1]) == ("INPUT__0", "tensor(float)", 1)
    assert (answered.name, answered.shape[1]) == ("OUTPUT__0", 2)
    batch = torch.rand(5, 1, 7, 30)
    together = session.run(None, {"INPUT__0": batch.numpy()})[0]
    alone = [session.run(None, {"INPUT__0": image[None].numpy()})[0] for image in batch]
    assert np.ptp(together, axis=0).max() > 1e-3
    np.testing.assert_allclose(together, np.concatenate(alone), atol=1e-6)
    for value in (255.0, 1.01, -0.01, np.inf, np.nan):
        wrong = batch.numpy().copy()
        wrong[1, 0, 3, 4] = value
        answer = session.run(None, {"INPUT__0": wrong})[0]
        assert np.isnan(answer[1]).all()
        np.testing.assert_allclose(answer[[0, 2, 3, 4]], together[[0, 2, 3, 4]], atol=1e-6)


def test_an_onnx_file_that_differs_is_not_written(
    tmp_path: Path, network: nn.Module, preprocess: Preprocess, images: Images
) -> None:
    pytest.importorskip("onnxruntime")
    network.head.fold_error = 1e-3
    parts = take_apart(network, classes=CLASSES, preprocess=preprocess, images=images)
    with pytest.raises(LabelAssembleError, match=r"model\.onnx: not written: .* may differ .* by 1e-05, got"):
        write_onnx(parts, tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []


def test_what_is_missing_is_one_sentence(
    tmp_path: Path, parts: ExportParts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(
        LabelAssembleError, match=r"the C\+\+ compiler no-such-compiler is not there: install one"
    ):
        write_pt2(parts, tmp_path / "model.pt2")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "onnxscript" else name)
    with pytest.raises(LabelAssembleError, match=r"needs the package onnxscript: pip install"):
        write_onnx(parts, tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []


def test_what_a_format_cannot_hold_is_one_sentence(
    tmp_path: Path, network: nn.Module, preprocess: Preprocess, images: Images, parts: ExportParts
) -> None:
    pytest.importorskip("onnxruntime")
    bf16 = take_apart(network, classes=CLASSES, preprocess=preprocess, images=images, precision="bfloat16")
    with pytest.raises(LabelAssembleError, match="onnxruntime has no bfloat16 convolution for CPUs"):
        write_onnx(bf16, tmp_path / "model.onnx")
    named = parts.metadata.model_copy(update={"classes": ("one", "a\nb")})
    with pytest.raises(LabelAssembleError, match="a class name must not contain a control character"):
        description(named)


def test_formats_and_names_of_files(tmp_path: Path, parts: ExportParts) -> None:
    with pytest.raises(LabelAssembleError, match="unknown format 'torchscrip', did you mean 'torchscript'"):
        check_choice("torchscrip")
    with pytest.raises(LabelAssembleError, match=r"model_format are of a model repository \(triton\), got"):
        write_export(parts, None, format="torchscript", folder=tmp_path, repository=RepositoryOptions())
    with pytest.raises(LabelAssembleError, match=r"^name, version, .* are of a model repository"):
        write_export(parts, None, format="onnx", folder=tmp_path, name="a")
    with pytest.raises(
        LabelAssembleError, match=r"x\.pt2: a file of the format torchscript must be named \*\.pt"
    ):
        write_export(parts, tmp_path / "x.pt2", format="torchscript", folder=tmp_path)
    with pytest.raises(LabelAssembleError, match=r"no/x\.pt: the folder .* does not exist"):
        write_export(parts, tmp_path / "no" / "x.pt", format="torchscript", folder=tmp_path)
    assert list(tmp_path.iterdir()) == []
    write_export(parts, None, format="torchscript", folder=tmp_path)
    write_export(parts, None, format="triton", folder=tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.pt", "model_repository"]


def test_metadata_of_other_files_is_refused(tmp_path: Path) -> None:
    package = tmp_path / "m.pt2"
    package.write_text("text")
    with pytest.raises(LabelAssembleError, match=r"m\.pt2: not an AOTInductor package"):
        load_metadata(package)
    with zipfile.ZipFile(package, "w") as archive:
        archive.writestr("m/archive_format", json.dumps("pt2"))
    with pytest.raises(LabelAssembleError, match="not exported by labelassemble"):
        load_metadata(package)
    pytest.importorskip("onnx")
    onnx = tmp_path / "m.onnx"
    onnx.write_text("text")
    with pytest.raises(LabelAssembleError, match=r"m\.onnx: not an ONNX file"):
        load_metadata(onnx)
