"""The model repository, against the schema that Triton publishes, and answered through its own files."""

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from labelassemble.errors import LabelAssembleError
from labelassemble.export.formats import write_export
from labelassemble.export.parts import ExportParts, take_apart
from labelassemble.export.repository import RepositoryOptions, write_repository
from labelassemble.export.triton import labels_text, model_config
from labelassemble.views.preprocess import Preprocess

Images = list[NDArray[np.uint8]]
CLASSES = ("one", "two, too")

text_format = pytest.importorskip("google.protobuf.text_format")
model_config_pb2 = pytest.importorskip("tritonclient.grpc.model_config_pb2")


@pytest.fixture
def parts(network: nn.Module, preprocess: Preprocess, images: Images) -> ExportParts:
    return take_apart(network, classes=CLASSES, preprocess=preprocess, images=images)


def _parsed(text: str):  # type: ignore[no-untyped-def]
    return text_format.Parse(text, model_config_pb2.ModelConfig())


def test_the_repository_is_what_triton_reads(tmp_path: Path, parts: ExportParts, images: Images) -> None:
    summary = write_repository(parts, tmp_path / "models", "chest-1.b")
    folder = tmp_path / "models" / "chest-1.b"
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()) == [
        "models/chest-1.b/1/model.pt",
        "models/chest-1.b/config.pbtxt",
        "models/chest-1.b/labels.txt",
    ]
    assert (folder / "labels.txt").read_text() == "one\ntwo, too\n"
    config = _parsed((folder / "config.pbtxt").read_text())
    assert (config.name, config.backend, config.default_model_filename) == ("", "pytorch", "model.pt")
    assert not config.HasField("version_policy")
    assert config.max_batch_size == 16
    assert config.dynamic_batching.max_queue_delay_microseconds == 2000
    (given,), (answered,) = config.input, config.output
    assert (given.name, given.data_type, list(given.dims)) == (
        "INPUT__0", model_config_pb2.TYPE_UINT8, [-1, -1, -1],
    )  # fmt: skip
    assert (answered.name, answered.data_type, list(answered.dims)) == (
        "OUTPUT__0", model_config_pb2.TYPE_FP32, [2],
    )  # fmt: skip
    assert answered.label_filename == "labels.txt"
    assert [warmup.batch_size for warmup in config.model_warmup] == [1, 16]
    for warmup in config.model_warmup:
        warm = warmup.inputs["INPUT__0"]
        assert (warm.data_type, list(warm.dims), warm.zero_data) == (given.data_type, [1, 12, 12], True)
    assert str(summary).startswith(f"{folder}: 2 classes, largest difference from eager over 7 images ")
    assert torch.jit.load(folder / "1" / "model.pt")(torch.zeros(16, 1, 12, 12, dtype=torch.uint8)).shape == (
        16,
        2,
    )


def test_a_model_of_the_same_name_is_replaced_and_others_stay(tmp_path: Path, parts: ExportParts) -> None:
    for name in ("a", "b", "a"):
        write_repository(parts, tmp_path, name)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


def test_versions_stand_beside_each_other(tmp_path: Path, parts: ExportParts) -> None:
    for version in (1, 3, 3):
        options = RepositoryOptions(version=version, max_batch=4, queue_delay_us=500)
        write_repository(parts, tmp_path, "chest", options)
    folder = tmp_path / "chest"
    assert sorted(path.name for path in folder.iterdir()) == ["1", "3", "config.pbtxt", "labels.txt"]
    for version in ("1", "3"):
        torch.jit.load(folder / version / "model.pt")
    config = _parsed((folder / "config.pbtxt").read_text())
    assert (config.max_batch_size, config.dynamic_batching.max_queue_delay_microseconds) == (4, 500)
    assert config.version_policy.HasField("all")  # or the newest alone would be served
    write_repository(parts, tmp_path, "chest", RepositoryOptions(version=3, max_batch=2))
    config = _parsed((folder / "config.pbtxt").read_text())  # what is not said stays as the others have it
    assert (config.max_batch_size, config.dynamic_batching.max_queue_delay_microseconds) == (2, 500)
    (folder / "labels.txt").write_text("other\n")
    with pytest.raises(
        LabelAssembleError, match=r"version 2 has other classes than version [13], and versions share"
    ):
        write_repository(parts, tmp_path, "chest", RepositoryOptions(version=2))
    write_repository(parts, tmp_path, "chest")  # without a version the model is replaced
    assert sorted(path.name for path in folder.iterdir()) == ["1", "config.pbtxt", "labels.txt"]
    config = _parsed((folder / "config.pbtxt").read_text())
    assert (config.max_batch_size, config.dynamic_batching.max_queue_delay_microseconds) == (16, 2000)


def test_versions_that_one_configuration_cannot_serve(
    tmp_path: Path, parts: ExportParts, colour_network: nn.Module, images: Images
) -> None:
    pytest.importorskip("onnxruntime")
    write_repository(parts, tmp_path, "chest")
    with pytest.raises(
        LabelAssembleError,
        match=r"chest/1/model\.onnx is not there: version 2 is to be model\.onnx and version 1",
    ):
        write_repository(parts, tmp_path, "chest", RepositoryOptions(version=2, model_format="onnx"))
    write_repository(parts, tmp_path, "chest", RepositoryOptions(model_format="onnx"))
    colour = take_apart(colour_network, classes=CLASSES, preprocess=Preprocess(3, 12), images=images)
    with pytest.raises(
        LabelAssembleError, match="version 2 takes images of 3 channels and version 1 does not"
    ):
        write_repository(colour, tmp_path, "chest", RepositoryOptions(version=2, model_format="onnx"))


def test_onnx_in_the_repository(tmp_path: Path, parts: ExportParts) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    summary = write_repository(parts, tmp_path, "chest", RepositoryOptions(model_format="onnx"))
    config = _parsed((tmp_path / "chest" / "config.pbtxt").read_text())
    assert (config.backend, config.default_model_filename) == ("onnxruntime", "model.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "chest" / "1" / "model.onnx"))
    (given,), (answered,) = session.get_inputs(), session.get_outputs()
    assert (given.name, answered.name) == (config.input[0].name, config.output[0].name)
    assert (given.type, config.input[0].data_type) == ("tensor(float)", model_config_pb2.TYPE_FP32)
    assert given.shape[1:2] == list(config.input[0].dims)[:1] == [1]
    assert summary.metadata.difference <= 1e-6
    with pytest.raises(
        LabelAssembleError, match="dali decodes to uint8 images, which a model in the format onnx"
    ):
        RepositoryOptions(model_format="onnx", dali=True)


def test_the_folder_of_a_run_may_be_renamed(tmp_path: Path, parts: ExportParts) -> None:
    (tmp_path / "covid").mkdir()
    write_export(parts, None, format="triton", folder=tmp_path / "covid")
    (tmp_path / "covid").rename(tmp_path / "other")
    write_export(parts, None, format="triton", folder=tmp_path / "other")
    root = tmp_path / "other" / "model_repository"
    assert [path.name for path in root.iterdir()] == [
        "covid"
    ]  # the name that clients know, and no second model
    write_export(parts, None, format="triton", folder=tmp_path / "other", name="chest")
    write_export(
        parts, None, format="triton", folder=tmp_path / "other"
    )  # which of the two is not for us to say
    assert sorted(path.name for path in root.iterdir()) == ["chest", "covid", "other"]


@pytest.mark.parametrize(("field", "value"), [("version", 0), ("max_batch", 0), ("queue_delay_us", -1)])
def test_options_that_cannot_be(field: str, value: int) -> None:
    with pytest.raises(LabelAssembleError, match=f"{field} must be at least "):
        RepositoryOptions(**{field: value})  # type: ignore[arg-type]


def test_a_package_takes_floats_of_the_networks_channels(parts: ExportParts) -> None:
    config = _parsed(model_config("model.pt2", parts.metadata))
    assert (config.backend, config.platform) == ("pytorch", "torch_aoti")
    assert (config.input[0].data_type, list(config.input[0].dims)) == (
        model_config_pb2.TYPE_FP32,
        [1, -1, -1],
    )
    assert not config.parameters


@pytest.mark.dali
def test_the_ensemble_decodes_in_front_of_the_network(tmp_path: Path, parts: ExportParts) -> None:
    summary = write_repository(parts, tmp_path, "chest", RepositoryOptions(dali=True))
    assert summary.names == ("chest", "chest_images", "chest_decoder")
    assert summary.decoded_difference is not None
    assert 0 < summary.decoded_difference < 0.02  # whole grey values, and another filter's edges
    assert "JPEG and PNG decoded by DALI, largest difference from eager" in str(summary)
    ensemble = _parsed((tmp_path / "chest_images" / "config.pbtxt").read_text())
    decoder = _parsed((tmp_path / "chest_decoder" / "config.pbtxt").read_text())
    assert (ensemble.platform, decoder.backend) == ("ensemble", "dali")
    assert list(ensemble.input[0].dims) == [-1]
    first, second = ensemble.ensemble_scheduling.step
    assert (first.model_name, second.model_name) == ("chest_decoder", "chest")
    assert first.input_map[decoder.input[0].name] == ensemble.input[0].name
    assert first.output_map[decoder.output[0].name] == second.input_map["INPUT__0"]
    assert second.output_map["OUTPUT__0"] == ensemble.output[0].name
    assert list(decoder.output[0].dims) == [1, 12, 12]
    assert (tmp_path / "chest_decoder" / "1" / "model.dali").stat().st_size > 0
    assert (tmp_path / "chest_images" / "1").is_dir()


@pytest.mark.parametrize("name", ["", "../a", "a b", "-a", "a/b"])
def test_a_name_that_is_no_folder_is_refused(tmp_path: Path, parts: ExportParts, name: str) -> None:
    with pytest.raises(LabelAssembleError, match="a model's name must be letters, digits"):
        write_repository(parts, tmp_path, name)
    assert list(tmp_path.iterdir()) == []


def test_a_repository_that_cannot_be_made_is_one_sentence(tmp_path: Path, parts: ExportParts) -> None:
    taken = tmp_path / "taken"
    taken.write_text("a file")
    with pytest.raises(LabelAssembleError, match=r"taken: cannot be made \(File exists\)"):
        write_repository(parts, taken, "chest")


def test_a_class_of_two_lines_is_refused() -> None:
    with pytest.raises(
        LabelAssembleError,
        match="a class name must not contain a control character or a line break",
    ):
        labels_text(["fine", "not\nfine"])


def test_without_dali_one_sentence(
    tmp_path: Path, parts: ExportParts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(LabelAssembleError, match=r"decoding by DALI needs the package: pip install"):
        write_repository(parts, tmp_path / "models", "a", RepositoryOptions(dali=True))
    assert not (tmp_path / "models").exists()
