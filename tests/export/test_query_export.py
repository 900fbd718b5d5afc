"""An export that keeps its queries answers some classes alone."""

from pathlib import Path

import numpy as np
import pytest
import torch

from labelassemble.errors import LabelAssembleError
from labelassemble.export import export_torchscript, load_metadata
from labelassemble.export.parts import ExportParts, take_apart
from labelassemble.export.repository import RepositoryOptions, write_repository
from labelassemble.models import AssembleNet
from labelassemble.views.preprocess import Preprocess

CLASSES = ["Nodule", "Edema", "COVID-19"]


@pytest.fixture(scope="module")
def parts() -> ExportParts:
    return take_apart(
        _network(),
        classes=CLASSES,
        preprocess=Preprocess(1, 16),
        images=[np.full((1, 16, 16), level, np.uint8) for level in (0, 100, 255)],
        queries=True,
    )


def _network() -> AssembleNet:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = AssembleNet("densenet_small", classes=CLASSES, in_channels=1)
        torch.nn.init.normal_(network.head.queries)
        torch.nn.init.normal_(network.head.bias)
        with torch.no_grad():
            network(torch.randn(16, 1, 16, 16))
    return network


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[AssembleNet, Path]:
    network = _network()
    path = tmp_path_factory.mktemp("queries") / "model.pt"
    export_torchscript(
        network,
        path,
        classes=CLASSES,
        preprocess=Preprocess(1, 16),
        images=[np.full((1, 16, 16), level, np.uint8) for level in (0, 100, 255)],
        temperature={"Nodule": 1.0, "Edema": 2.0, "COVID-19": 0.5},
        queries=True,
    )
    return network.eval(), path


def test_some_classes_in_any_order(exported: tuple[AssembleNet, Path]) -> None:
    network, path = exported
    model = torch.jit.load(path)
    images = torch.rand(2, 1, 16, 16)
    with torch.inference_mode():
        logits = network(Preprocess(1, 16)(images))
    expected = torch.sigmoid(logits / torch.tensor([1.0, 2.0, 0.5]))
    torch.testing.assert_close(model(images), expected, atol=1e-6, rtol=0)
    some = model(images, ["COVID-19", "Nodule"])
    torch.testing.assert_close(some, expected[:, [2, 0]], atol=1e-6, rtol=0)
    assert model(images, []).shape == (2, 0)


def test_the_queries_are_in_the_file(exported: tuple[AssembleNet, Path]) -> None:
    network, path = exported
    assert load_metadata(path).queries
    torch.testing.assert_close(torch.jit.load(path).head.queries, network.head.queries)


def test_an_unknown_class_is_named(exported: tuple[AssembleNet, Path]) -> None:
    with pytest.raises(torch.jit.Error, match="the model has no class 'Oedema'"):
        torch.jit.load(exported[1])(torch.rand(1, 1, 16, 16), ["Oedema"])


def test_in_a_repository_a_call_takes_tensors_alone(tmp_path: Path, parts: ExportParts) -> None:
    write_repository(parts, tmp_path, "chest")
    model = torch.jit.load(tmp_path / "chest" / "1" / "model.pt")
    # What Triton's PyTorch backend asks of `forward` before it loads a model (ValidateInputs): one argument for each
    # input of config.pbtxt, a Tensor or a list.
    _, *arguments = model._c._get_method("forward").schema.arguments
    assert [argument.type.kind() for argument in arguments] == ["TensorType"]
    images = torch.rand(2, 1, 16, 16)
    with torch.inference_mode():
        some = model.classify_some(model.prepare(images), ["COVID-19", "Nodule"])
        torch.testing.assert_close(some, model(images)[:, [2, 0]], atol=1e-6, rtol=0)
    with pytest.raises(
        LabelAssembleError, match="queries are kept in the model format torchscript only, got onnx"
    ):
        write_repository(parts, tmp_path, "chest", RepositoryOptions(model_format="onnx"))
