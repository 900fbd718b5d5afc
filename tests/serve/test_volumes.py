"""Volumes: an exported patch model in the repository answers NIfTI files over HTTP and gRPC as `predict` does."""

import gzip
import json
import math
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http
import yaml
from numpy.typing import NDArray
from torch import nn
from tritonclient.utils import InferenceServerException

from labelassemble.data.new_table import new_table
from labelassemble.export import find_program
from labelassemble.export.volumes import export_volumes
from labelassemble.models import ModelOptions
from labelassemble.training.checkpoint import save_checkpoint
from labelassemble.views.volume_options import VolumeOptions

sys.path.insert(0, str(Path(__file__).parents[1]))
from nifti_bytes import changed

nib = pytest.importorskip("nibabel")
pytest.importorskip("monai")

CLASSES = ("PDAC", "cyst, large")
# The axes of the file are head, right and back; turned by 15 degrees.
PERMUTED = np.array([[0, 1.5, 0, -30], [0, 0, -1.1, 12], [2.0, 0, 0, 7], [0, 0, 0, 1]])
TURNED = np.array([[-1.352, 0.233, 0, 80], [-0.362, -0.869, 0, 60], [0, 0, 2.5, -300], [0, 0, 0, 1]])
OUTPUTS = ("SCORES", "MASK", "PROBABILITIES")


class Network(nn.Module):
    """Looks further than a voxel; `width` makes it slow."""

    def __init__(self, dims: int, width: int = 4, classes: int = 2) -> None:
        super().__init__()
        conv = nn.Conv2d if dims == 2 else nn.Conv3d
        self.layers = nn.Sequential(
            conv(1, width, 5, padding=2), nn.LeakyReLU(), conv(width, classes, 3, padding=1)
        )
        nn.init.normal_(self.layers[2].weight, std=0.6)  # type: ignore[arg-type]

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.layers(images)
        return logits


def _export(folder: Path, dims: int, *, width: int = 4, classes: Any = CLASSES, **options: Any) -> Path:
    (folder / "1").mkdir(parents=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        net = Network(dims, width, len(classes)).eval()
    path = folder / "1" / "model.pt"
    thresholds = dict.fromkeys(classes, 0.5) | {classes[0]: None}
    export_volumes(net, path, classes=classes, options=VolumeOptions(**options), thresholds=thresholds)
    return path


def _bytes(shape: Any, affine: Any = None, dtype: Any = np.int16, seed: int = 0) -> bytes:
    """A NIfTI file of noise, not compressed."""
    values = np.random.default_rng(seed).normal(0, 120, shape).astype(dtype)
    data: bytes = nib.Nifti1Image(values, np.eye(4) if affine is None else affine).to_bytes()
    return data


def _read(file: bytes) -> Any:
    return nib.Nifti1Image.from_bytes(gzip.decompress(file))


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory, models: Any, images: Any, write_config: Any) -> Path:
    root = tmp_path_factory.mktemp("volumes")
    _export(root / "ct", 3, patch=(8, 8, 8), window=(-200, 300), overlap=0.25)
    _export(root / "spaced", 3, patch=(8, 12, 8), spacing=(1.4, 0.9, 2.5))
    _export(root / "slices", 2, patch=(8, 16), percentiles=(1, 99))
    _export(root / "slow", 3, width=48, patch=(32, 32, 32), window=(-200, 300), overlap=0.75)
    (root / "pancreas").symlink_to(root / "ct")  # as docs/howto/serving.md has it
    models["grey", 1].export(root / "grey", 1, images)
    write_config(root / "grey", delay=0)
    return root


@pytest.fixture(scope="module")
def server(repository: Path, serving: Any) -> Iterator[Any]:
    with serving(repository, "--grpc-port", "0", strict=True) as running:
        yield running


@pytest.fixture(scope="module")
def http(server: Any) -> Iterator[Any]:
    with triton_http.InferenceServerClient(server.url, concurrency=4, network_timeout=300) as client:
        yield client


@pytest.fixture(scope="module")
def grpc(server: Any) -> Iterator[Any]:
    with triton_grpc.InferenceServerClient(server.grpc_url) as client:
        yield client


def _infer(client: Any, model: str, file: bytes, outputs: Any = ("SCORES",), **more: Any) -> Any:
    triton = triton_grpc if isinstance(client, triton_grpc.InferenceServerClient) else triton_http
    volume = triton.InferInput("VOLUME", [1], "BYTES")
    volume.set_data_from_numpy(np.array([file], dtype=np.object_))
    wanted = [triton.InferRequestedOutput(name) for name in outputs] if outputs else None
    return client.infer(model, [volume], outputs=wanted, **more)


def _refused(client: Any, model: str, file: bytes, *outputs: str, **more: Any) -> str:
    with pytest.raises(InferenceServerException) as caught:
        _infer(client, model, file, outputs or ("SCORES",), **more)
    return f"{caught.value.status()}: {caught.value.message()}"


def _apart(url: str, *arguments: Any, **more: Any) -> str:
    """Ask with a client of this thread's own: "200", or why not."""
    with triton_http.InferenceServerClient(url, network_timeout=300) as client:
        try:
            _infer(client, *arguments, **more)
        except InferenceServerException as refused:
            return f"{refused.status()}: {refused.message()}"
    return "200"


class Program(NamedTuple):
    """What labelassemble-predict answers."""

    scores: NDArray[np.float64]
    mask: Any
    probabilities: Any


def _predict(model: Path, volume: Path, folder: Path) -> Program:
    mask, maps = folder / "program.nii.gz", folder / "program_map.nii.gz"
    command: list[str | Path] = [
        find_program(),
        model,
        volume,
        "--format",
        "json",
        "--mask",
        mask,
        "--probabilities",
        maps,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    (answer,) = json.loads(done.stdout)["volumes"]
    return Program(np.array(list(answer["scores"].values())), nib.load(mask), nib.load(maps))


@pytest.mark.parametrize(
    ("model", "shape", "affine"),
    [
        ("ct", (17, 9, 21), PERMUTED),
        ("ct", (5, 6, 7), None),
        ("spaced", (13, 17, 11), TURNED),
        ("slices", (19, 30), None),
        ("slices", (19, 30, 1), TURNED),
    ],
)
def test_answers_are_those_of_the_program(
    http: Any, grpc: Any, repository: Path, tmp_path: Path, model: str, shape: Any, affine: Any
) -> None:
    plain = _bytes(shape, affine, np.float32)
    (tmp_path / "ct.nii").write_bytes(plain)
    program = _predict(repository / model / "1" / "model.pt", tmp_path / "ct.nii", tmp_path)
    for client in (http, grpc):
        for file in (plain, gzip.compress(plain)):
            answer = _infer(client, model, file, OUTPUTS, request_id="7")
            scores = answer.as_numpy("SCORES")
            assert (scores.shape, scores.dtype) == ((1, 2), np.float32)
            np.testing.assert_allclose(scores[0], program.scores, atol=1e-5)
            for name, expected in (("MASK", program.mask), ("PROBABILITIES", program.probabilities)):
                (found,) = answer.as_numpy(name)
                written = _read(found)
                np.testing.assert_array_equal(np.asarray(written.dataobj), np.asarray(expected.dataobj))
                assert written.header == expected.header
            assert np.unique(np.asarray(program.mask.dataobj)).size > 1


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run's folder with a network that was not trained, and one held-out volume."""
    from labelassemble.models.segmentation.segment_net import SegmentNet

    options = VolumeOptions(patch=(16, 16, 16), window=(-200, 300), overlap=0.25)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = SegmentNet("dynunet_small", classes=list(CLASSES), dims=3)
    description = {
        "volumes": options.model_dump_json(),
        "model": ModelOptions(backbone="dynunet_small").model_dump_json(),
        "classes": json.dumps(CLASSES),
        "interest": json.dumps(CLASSES[:1]),
    }
    folder = tmp_path / "run"
    (folder / "checkpoints").mkdir(parents=True)
    state = {"model": net.state_dict(), "description": description, "epoch": 3}
    save_checkpoint(folder / "checkpoints" / "best.pt", state)
    path = tmp_path / "scan.nii.gz"
    path.write_bytes(gzip.compress(_bytes((22, 17, 20), PERMUTED)))
    table = new_table(
        list(CLASSES),
        paths=[str(path)],
        names=["scan"],
        labels=np.array([[1, 0]], np.int8),
        sources="made",
        groups=["p1"],
        splits=["test"],
    )
    table.to_csv(folder / "table.csv")
    (folder / "config.yaml").write_text(yaml.safe_dump({"detection": {"threshold": 0.5, "top": 0.05}}))
    return folder


def test_answers_are_those_of_predict(
    run: Path, tmp_path: Path, cli: Callable[..., tuple[int, str, str]], serving: Any
) -> None:
    exported = ("--format", "triton", "--output", tmp_path / "repository", "--name", "pancreas")
    assert cli("export", run, *exported)[0] == 0
    scan, mask = tmp_path / "scan.nii.gz", tmp_path / "mask.nii.gz"
    status, out, _ = cli("predict", run, scan, "-o", mask)
    assert status == 0
    scores = [float(cell) for cell in out.splitlines()[1].split(",")[-2:]]
    maps = nib.load(tmp_path / "mask_probabilities.nii.gz")
    with (
        serving(tmp_path / "repository", strict=True) as server,
        triton_http.InferenceServerClient(server.url) as client,
    ):
        answer = _infer(client, "pancreas", scan.read_bytes(), OUTPUTS)
    np.testing.assert_allclose(answer.as_numpy("SCORES")[0], scores, atol=1e-4)
    found, probabilities = (_read(answer.as_numpy(name)[0]) for name in ("MASK", "PROBABILITIES"))
    np.testing.assert_allclose(np.asarray(probabilities.dataobj), np.asarray(maps.dataobj), atol=1e-4)
    np.testing.assert_array_equal(np.asarray(found.dataobj), np.asarray(nib.load(mask).dataobj))
    assert 0 < (np.asarray(found.dataobj) > 0).mean() < 1
    for written, expected in ((found, nib.load(mask)), (probabilities, maps)):
        np.testing.assert_array_equal(written.affine, expected.affine)
        assert written.get_data_dtype() == expected.get_data_dtype()


def test_a_model_says_what_it_takes_and_counts_what_it_answered(server: Any, http: Any, grpc: Any) -> None:
    _infer(http, "ct", _bytes((9, 9, 9)), OUTPUTS)
    metadata = http.get_model_metadata("ct")
    assert metadata["inputs"] == [{"name": "VOLUME", "datatype": "BYTES", "shape": [1]}]
    assert metadata["outputs"] == [
        {"name": "SCORES", "datatype": "FP32", "shape": [1, 2]},
        {"name": "MASK", "datatype": "BYTES", "shape": [1]},
        {"name": "PROBABILITIES", "datatype": "BYTES", "shape": [1]},
    ]
    parameters = metadata["parameters"]
    assert parameters["classes"] == list(CLASSES)
    assert parameters["thresholds"] == [None, 0.5]
    assert (parameters["patch"], parameters["window"]) == ([8, 8, 8], [-200, 300])
    assert [output.name for output in grpc.get_model_metadata("ct").outputs] == list(OUTPUTS)
    config = http.get_model_config("ct")
    assert config["max_batch_size"] == 0
    assert config["input"] == [{"name": "VOLUME", "data_type": "TYPE_STRING", "dims": [1]}]
    assert [output["name"] for output in config["output"]] == list(OUTPUTS)
    assert grpc.get_model_config("ct").config.output[1].data_type == 13  # TYPE_STRING
    assert {"name": "ct", "version": "1", "state": "READY"} in http.get_model_repository_index()
    assert http.is_model_ready("ct")
    (before,) = http.get_inference_statistics("ct")["model_stats"]
    _infer(http, "ct", _bytes((9, 9, 9)))
    _infer(grpc, "ct", _bytes((9, 9, 9)))
    _refused(http, "ct", b"no volume")
    (after,) = http.get_inference_statistics("ct")["model_stats"]
    assert after["inference_count"] == before["inference_count"] + 2
    for kind, more in (("success", 2), ("fail", 1), ("compute_infer", 2)):
        counts = [stats["inference_stats"][kind]["count"] for stats in (before, after)]
        assert counts[1] == counts[0] + more, kind
    _infer(http, "ct", _bytes((9, 9, 9)), request_id="last")
    server.wait_until(lambda: any(line.get("id") == "last" for line in server.access), "its line")
    line = next(line for line in server.access if line.get("id") == "last")
    assert (line["model"], line["images"], line["batch"], line["status"]) == ("ct", 1, 1, 200)


def test_some_classes_and_the_highest(http: Any, grpc: Any) -> None:
    file = _bytes((12, 9, 10), PERMUTED)
    whole = _infer(http, "ct", file, OUTPUTS)
    for client in (http, grpc):
        some = _infer(client, "ct", file, OUTPUTS, parameters={"classes": '["cyst, large"]'})
        np.testing.assert_array_equal(some.as_numpy("SCORES")[0], whole.as_numpy("SCORES")[0, 1:])
        maps = [np.asarray(_read(one.as_numpy("PROBABILITIES")[0]).dataobj) for one in (some, whole)]
        np.testing.assert_array_equal(maps[0], maps[1][..., 1:])
        # The mask has the model's classes, whichever are asked for.
        assert some.as_numpy("MASK")[0] == whole.as_numpy("MASK")[0]
    volume = triton_http.InferInput("VOLUME", [1], "BYTES")
    volume.set_data_from_numpy(np.array([file], dtype=np.object_))
    wanted = [triton_http.InferRequestedOutput("SCORES", class_count=1)]
    (first,) = http.infer("ct", [volume], outputs=wanted).as_numpy("SCORES")[0]
    scores = whole.as_numpy("SCORES")[0]
    assert first.decode().split(":", 2)[1:] == [str(scores.argmax()), CLASSES[scores.argmax()]]


def test_a_file_is_a_request_as_it_is(server: Any, http: Any) -> None:
    file = gzip.compress(_bytes((9, 9, 9)))
    answer = server.request("/v2/models/ct/infer", file, {"Inference-Header-Content-Length": "0"})
    assert answer.status == 200
    (output,) = answer.json["outputs"]
    assert (output["name"], output["shape"]) == ("SCORES", [1, 2])
    np.testing.assert_allclose(output["data"], _infer(http, "ct", file).as_numpy("SCORES")[0], atol=1e-6)
    # Files are sent as they are, numbers compressed where the client takes that.
    compressed = server.request(
        "/v2/models/ct/infer",
        file,
        {"Inference-Header-Content-Length": "0", "Accept-Encoding": "gzip"},
    )
    assert compressed.headers["content-encoding"] == "gzip"
    whole = _raw(server, file, {"name": "MASK", "parameters": {"binary_data": True}})
    assert "content-encoding" not in whole.headers
    start = int(whole.headers["inference-header-content-length"])
    (output,) = json.loads(whole.body[:start])["outputs"]
    size = output["parameters"]["binary_data_size"]
    assert len(whole.body) - start == size == 4 + int.from_bytes(whole.body[start : start + 4], "little")
    as_json = _raw(server, file, {"name": "MASK"})
    assert (as_json.status, as_json.error) == (
        400,
        "output 'MASK' is a file: ask for it as binary data (the parameter binary_data), JSON cannot hold it",
    )


def _raw(server: Any, file: bytes, output: dict[str, Any]) -> Any:
    """Ask for an output by bytes of our own, and for compressed answers."""
    size = {"binary_data_size": 4 + len(file)}
    volume = {"name": "VOLUME", "datatype": "BYTES", "shape": [1], "parameters": size}
    header = json.dumps({"inputs": [volume], "outputs": [output]}).encode()
    headers = {"Inference-Header-Content-Length": str(len(header)), "Accept-Encoding": "gzip"}
    return server.request("/v2/models/ct/infer", header + len(file).to_bytes(4, "little") + file, headers)


PAGE = Path(__file__).parents[2] / "docs" / "howto" / "serving.md"


def _block(language: str, number: int = 0) -> str:
    """Return a block in that language below "Volumes"."""
    section = PAGE.read_text().partition("### Volumes")[2].partition("\n### ")[0]
    return re.findall(rf"^```{language}\n(.*?)^```", section, re.M | re.S)[number]


def test_the_page_shows_how(
    server: Any,
    http: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    file = gzip.compress(_bytes((9, 9, 9)))
    (tmp_path / "scan.nii.gz").write_bytes(file)
    expected = _infer(http, "ct", file, OUTPUTS)
    exec(compile(_block("python").replace("127.0.0.1:8000", server.url), str(PAGE), "exec"), {})
    printed = np.fromstring(capsys.readouterr().out.strip("[]\n"), sep=" ")
    np.testing.assert_allclose(printed, expected.as_numpy("SCORES")[0], atol=1e-6)
    assert (tmp_path / "mask.nii.gz").read_bytes() == expected.as_numpy("MASK")[0]
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    command = _block("sh", 1).replace("127.0.0.1:8000", server.url)
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    answer, shown = json.loads(done.stdout), json.loads(_block("json"))
    np.testing.assert_allclose(answer["outputs"][0].pop("data"), expected.as_numpy("SCORES")[0], atol=1e-6)
    assert len(shown["outputs"][0].pop("data")) == 2
    assert answer == shown


def _hostile() -> list[tuple[str, bytes, str]]:
    good = _bytes((4, 5, 6))
    packed = gzip.compress(good)
    odd = np.zeros((4, 5, 6), np.float32)
    odd[1, 1, :2] = np.nan
    large = {f"dim__{axis}": 1000 for axis in (1, 2, 3)}
    return [
        ("empty", b"", "not a NIfTI-1 file: its header has 348 bytes, got 0"),
        ("text", b"hello " * 100, "not a NIfTI-1 file"),
        ("png", b"\x89PNG\r\n\x1a\n" + bytes(400), "not a NIfTI-1 file"),
        ("truncated", good[:-1], "damaged NIfTI file: its header tells of 240 bytes of values, and the"),
        ("truncated gz", packed[:-30], "damaged NIfTI file: gzip says 'unexpected end of file'"),
        ("header alone", packed[:10], "damaged NIfTI file: gzip says 'unexpected end of file'"),
        ("damaged gz", packed[:40] + bytes(60) + packed[100:], "damaged NIfTI file: gzip says"),
        ("check sum", packed[:-8] + bytes([packed[-8] ^ 1]) + packed[-7:], "gzip says 'incorrect data check'"),
        ("fewer", gzip.compress(good[:-2]), "tells of 240 bytes of values, and fewer follow"),
        ("bomb", gzip.compress(changed(good, **large)), "tells of 2000000000 bytes of values, and no file of"),
        ("no axes", changed(good, dim__0=0), "a volume must have 2 or 3 axes, got 0"),
        ("a size of 0", changed(good, dim__2=0), "its size is 4 x 0"),
        ("a size below 0", changed(good, dim__2=-5), "its size is 4 x -5"),
        ("huge", changed(good, dim__1=32767, dim__2=32767, dim__3=32767), "at most 1073741824 voxels"),
        ("datatype", changed(good, datatype=7), "got data type 7"),
        ("colour", changed(good, datatype=128), "got data type 128"),
        ("channels", _bytes((4, 5, 6, 3)), "it must hold one volume, got 4 x 5 x 6 x 3"),
        ("slice", _bytes((4, 5)), "the model answers volumes, and the file has two axes (4 x 5)"),
        ("sform_code", changed(good, sform_code=9), "its sform_code is 9, and NIfTI knows 0 to 5"),
        ("qform_code", changed(good, qform_code=-1), "its qform_code is -1, and NIfTI knows 0 to 5"),
        ("offset", changed(good, vox_offset=6e7), "damaged NIfTI file"),
        ("place", changed(good, srow_y=[np.nan, 1, 0, 0], sform_code=1), "no three directions"),
        ("nan", nib.Nifti1Image(odd, np.eye(4)).to_bytes(), "2 of the volume's 120 voxels are NaN or infinite"),
    ]  # fmt: skip


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_a_hostile_file_is_refused_in_one_sentence(server: Any, http: Any, grpc: Any, protocol: str) -> None:
    client = http if protocol == "http" else grpc
    for name, file, reason in _hostile():
        said = _refused(client, "ct", file, *OUTPUTS)
        assert said.startswith(
            "400: input 'VOLUME': " if protocol == "http" else "StatusCode.INVALID_ARGUMENT: input 'VOLUME': "
        ), (name, said)
        assert reason in said, (name, said)
        assert "\n" not in said, name
    far = np.diag([2.0**30, 2.0**30, 2.0**30, 1.0])
    assert "must have 1 to 1073741824 voxels, got" in _refused(client, "spaced", _bytes((8, 8, 8), far))
    # Two voxels a thousand kilometres apart: whatever is to lie between them takes no memory.
    before = _status(server, "VmHWM")
    distant = _refused(client, "spaced", _bytes((2, 1, 1), np.diag([1e9, 0.9, 2.5, 1.0])))
    assert "the request needs more memory than the" in distant
    assert _status(server, "VmHWM") - before < SLACK
    assert "the model answers slices, and the volume has 6 of them" in _refused(
        client, "slices", _bytes((4, 5, 6))
    )
    # What follows the values nobody reads, as in `predict`.
    good = _bytes((9, 9, 9))
    expected = _infer(client, "ct", good).as_numpy("SCORES")
    for file in (good + bytes(1000), gzip.compress(good) + b"rest", gzip.compress(good + bytes(10**6))):
        np.testing.assert_array_equal(_infer(client, "ct", file).as_numpy("SCORES"), expected)
    assert server.process.poll() is None


def test_another_request_is_refused(server: Any, http: Any) -> None:
    file = _bytes((9, 9, 9))
    assert "has no output 'WEIGHTS'; its outputs are 'SCORES', 'MASK', 'PROBABILITIES'" in _refused(
        http, "ct", file, "WEIGHTS"
    )
    assert "output 'MASK' is asked for twice" in _refused(http, "ct", file, "MASK", "SCORES", "MASK")
    assert "no class 'liver'" in _refused(http, "ct", file, parameters={"classes": '["liver"]'})
    for name, shape, data, reason in (
        ("IMAGE", [1], [file], "the model has no input 'IMAGE'; its input is 'VOLUME', a NIfTI file"),
        ("VOLUME", [2], [file, file], "must be one NIfTI file, BYTES of the shape [1], got BYTES [2]"),
    ):
        volume = triton_http.InferInput(name, shape, "BYTES")
        volume.set_data_from_numpy(np.array(data, dtype=np.object_))
        with pytest.raises(InferenceServerException, match=re.escape(reason)):
            http.infer("ct", [volume])
    numbers = triton_http.InferInput("VOLUME", [1, 8, 8, 8], "FP32")
    numbers.set_data_from_numpy(np.zeros((1, 8, 8, 8), np.float32))
    with pytest.raises(InferenceServerException, match="must be one NIfTI file"):
        http.infer("ct", [numbers])
    volume = triton_http.InferInput("VOLUME", [1], "BYTES")
    volume.set_data_from_numpy(np.array([file], dtype=np.object_))
    with pytest.raises(InferenceServerException, match="output 'MASK' is a file and has no classification"):
        http.infer("ct", [volume], outputs=[triton_http.InferRequestedOutput("MASK", class_count=1)])
    answer = server.request("/v2/models/ct/infer", b"", {"Inference-Header-Content-Length": "0"}, "POST")
    assert (answer.status, answer.error) == (400, "the body must hold an image or a volume, and is empty")


LONG = (160, 160, 160)  # more than a minute of the slow network


def test_a_volume_that_takes_too_long_is_given_up_and_holds_nobody_up(
    server: Any, http: Any, grpc: Any, models: Any, images: Any
) -> None:
    file = gzip.compress(_bytes(LONG, dtype=np.uint8), 1)
    said: list[str] = []
    threads = [
        threading.Thread(target=lambda: said.append(_apart(server.url, "slow", file, timeout=4_000_000))),
        threading.Thread(target=lambda: said.append(_refused(grpc, "slow", file, client_timeout=5))),
    ]
    threads[0].start()
    started = time.monotonic()
    server.wait_until(
        lambda: b'pending_request_count{model="slow",version="1"} 1' in server.request("/metrics").body,
        "the volume waits or computes",
    )
    threads[1].start()
    waits = []
    answered = 0
    while threads[0].is_alive():
        start = time.monotonic()
        assert server.request("/v2/health/live").status == 200
        waits.append(time.monotonic() - start)
        result = http.infer("grey", [_image(images[0])])
        np.testing.assert_allclose(
            result.as_numpy("OUTPUT__0"), models["grey", 1].probabilities([images[0]]), atol=1e-6
        )
        answered += threads[0].is_alive()
    for thread in threads:
        thread.join()
    assert time.monotonic() - started < 40
    assert answered >= 3
    assert float(np.median(waits)) < 0.5
    own, of_client = sorted(said)
    assert own == "504: the volume took longer than the request's time allows"
    assert of_client.startswith("StatusCode.DEADLINE_EXCEEDED: ")


def _image(image: Any) -> Any:
    wanted = triton_http.InferInput("INPUT__0", [1, *image.shape], "UINT8")
    wanted.set_data_from_numpy(image[None])
    return wanted


def test_a_client_that_leaves_ends_its_volume(server: Any) -> None:
    file = gzip.compress(_bytes(LONG, dtype=np.uint8), 1)
    head = f"POST /v2/models/slow/infer HTTP/1.1\r\nHost: x\r\nContent-Length: {len(file)}\r\n"
    before = len(server.access)
    with server.connect() as connection:
        connection.sendall((head + "Inference-Header-Content-Length: 0\r\n\r\n").encode() + file)
        server.wait_until(
            lambda: b'pending_request_count{model="slow",version="1"} 1' in server.request("/metrics").body,
            "the volume waits or computes",
        )
        time.sleep(0.5)
    gone = "the client closed the connection"
    server.wait_until(
        lambda: b'pending_request_count{model="slow",version="1"} 0' in server.request("/metrics").body, gone
    )
    assert all(line["status"] != 200 for line in server.access[before:] if line.get("model") == "slow")
    server.wait_until(lambda: b"request_memory_bytes 0" in server.request("/metrics").body, "memory is free")


SLACK = 24 << 20  # of threads, windows and blocks of the allocator


def _status(server: Any, name: str) -> int:
    """A line of the server's status, in bytes."""
    text = Path(f"/proc/{server.process.pid}/status").read_text()
    return int(text.partition(f"{name}:")[2].split()[0]) * 1024


def test_memory_is_taken_before_it_is_used(serving: Any, tmp_path: Path) -> None:
    shape = (128, 128, 128)
    file = gzip.compress(_bytes(shape, dtype=np.uint8), 1)
    voxels = math.prod(shape)
    _export(tmp_path / "ct", 3, patch=(32, 32, 32), window=(-200, 300), overlap=0.1)
    # Seen, two classes; the mask, a block of it and its file; a map, a block of it and the file of two.
    needed = 4 * voxels * (1 + 2) + 3 * voxels + 4 * voxels * (1 + 1 + 2)
    most = int(1.02 * needed) + (4 << 20) + len(file)  # windows, and what zlib takes
    with (
        serving(tmp_path, "--max-memory", str(most), strict=True) as server,
        triton_http.InferenceServerClient(server.url) as client,
    ):
        _infer(client, "ct", _bytes((9, 9, 9)), OUTPUTS)
        before = _status(server, "VmHWM")
        _infer(client, "ct", file, OUTPUTS)
        taken = _status(server, "VmHWM") - before
        assert 0.5 * needed < taken < most + SLACK
        answers: list[str] = []
        threads = [
            threading.Thread(target=lambda: answers.append(_apart(server.url, "ct", file, OUTPUTS)))
            for _ in range(2)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        # Either is refused for what the other has, perhaps both.
        assert "503: no memory is free for this request" in answers
        assert set(answers) <= {"200", "503: no memory is free for this request"}
        assert _status(server, "VmHWM") - before < most + SLACK
        server.wait_until(
            lambda: b"request_memory_bytes 0" in server.request("/metrics").body, "memory is free"
        )
    with (
        serving(tmp_path, "--max-memory", str(needed // 2), "--max-image", "16M", strict=True) as server,
        triton_http.InferenceServerClient(server.url) as client,
    ):
        before = _status(server, "VmHWM")
        said = _refused(client, "ct", file, *OUTPUTS)
        assert said.startswith("413: the request needs more memory than the ")
        assert _status(server, "VmHWM") - before < 4 * voxels + SLACK  # it was read, and no more
        empty = nib.Nifti1Image(np.zeros((256, 256, 300), np.uint8), np.eye(4)).to_bytes()
        large = gzip.compress(empty, 1)
        said = _refused(client, "ct", large)
        assert said == "413: a volume must have at most 16777216 bytes of values (--max-image), got 19660800"


def test_a_configuration_that_promises_other_classes_is_refused(tmp_path: Path, serving: Any) -> None:
    _export(tmp_path / "good", 3, patch=(8, 8, 8))
    tensors = (
        'input [ {{ name: "INPUT__0" data_type: TYPE_FP32 dims: [ {batch}1, 8, 8, 8 ] }} ]\n'
        'output [ {{ name: "OUTPUT__0" data_type: TYPE_FP32 dims: [ {batch}{classes}, 8, 8, 8 ] }} ]\n'
    )
    config = 'backend: "pytorch"\nmax_batch_size: 4\n' + tensors.format(batch="", classes=2)
    (tmp_path / "good" / "config.pbtxt").write_text(config)
    _export(tmp_path / "other", 3, patch=(8, 8, 8))
    config = 'backend: "pytorch"\n' + tensors.format(batch="-1, ", classes=3)
    (tmp_path / "other" / "config.pbtxt").write_text(config)
    with serving(tmp_path) as server:
        server.wait_for("model 'other' version 1 is refused: output 'OUTPUT__0' has dims [3] in config.pbtxt")
        assert server.request("/v2/models/good/ready").status == 200
        config = server.request("/v2/models/good/config").json
        assert (config["max_batch_size"], config["input"][0]["name"]) == (0, "VOLUME")
