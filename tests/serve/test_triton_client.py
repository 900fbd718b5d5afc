"""tritonclient[http] from PyPI, unmodified, against the server: every call of it that applies."""

import json
import threading

import numpy as np
import pytest
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException


@pytest.fixture
def client(server):
    with triton.InferenceServerClient(server.url, concurrency=4) as client:
        yield client


def tensor(array, datatype, name="INPUT__0", binary=True):
    wanted = triton.InferInput(name, list(array.shape), datatype)
    wanted.set_data_from_numpy(array, binary_data=binary)
    return wanted


def encoded(images, png):
    return tensor(np.array([png(image) for image in images], dtype=np.object_), "BYTES")


def test_health_and_metadata(client):
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("grey")
    assert client.is_model_ready("grey", "1")
    assert client.is_model_ready("colour floats")
    assert not client.is_model_ready("grey", "3")
    assert not client.is_model_ready("none")
    assert not client.is_model_ready("broken")
    server = client.get_server_metadata()
    assert server["name"] == "labelassemble-serve"
    assert "binary_tensor_data" in server["extensions"]
    thresholds = [
        client.get_model_metadata(name)["parameters"]["thresholds"] for name in ("grey", "overflowing")
    ]
    assert thresholds == [[], [0.5, None, "Infinity"]]
    model = client.get_model_metadata("grey")
    assert model["versions"] == ["1", "2"]
    assert model["inputs"] == [{"name": "INPUT__0", "datatype": "UINT8", "shape": [-1, -1, -1, -1]}]
    assert model["outputs"] == [{"name": "OUTPUT__0", "datatype": "FP32", "shape": [-1, 3]}]
    assert model["parameters"]["classes"] == ["one", "two, too", "three"]
    config = client.get_model_config("colour floats", "1")
    assert config["max_batch_size"] == 4
    assert config["input"][0]["data_type"] == "TYPE_FP32"
    assert config["output"][0]["label_filename"] == "labels.txt"
    assert config["dynamic_batching"]["max_queue_delay_microseconds"] == 50_000


@pytest.mark.parametrize("binary_in", [True, False])
@pytest.mark.parametrize("binary_out", [True, False])
@pytest.mark.parametrize("version", [1, 2])
def test_infer_answers_as_python(client, models, images, binary_in, binary_out, version):
    batch = np.stack([images[0], images[6]])
    result = client.infer(
        "grey",
        [tensor(batch, "UINT8", binary=binary_in)],
        model_version=str(version),
        outputs=[triton.InferRequestedOutput("OUTPUT__0", binary_data=binary_out)],
        request_id='a "quoted" id',
    )
    expected = models["grey", version].probabilities(batch)
    np.testing.assert_allclose(result.as_numpy("OUTPUT__0"), expected, atol=1e-6)
    response = result.get_response()
    assert response["id"] == 'a "quoted" id'
    assert (response["model_name"], response["model_version"]) == ("grey", str(version))


def test_newest_version_and_all_outputs_by_default(client, models, images):
    result = client.infer("grey", [tensor(images[0][None], "UINT8")])
    assert result.get_response()["model_version"] == "2"
    np.testing.assert_allclose(
        result.as_numpy("OUTPUT__0"), models["grey", 2].probabilities([images[0]]), atol=1e-6
    )


@pytest.mark.parametrize("binary", [True, False])
def test_infer_floats(client, models, images, binary):
    batch = np.stack([images[1], 255 - images[1]]).astype(np.float32) / 255
    result = client.infer("colour floats", [tensor(batch, "FP32", binary=binary)])
    expected = models["colour floats", 1].probabilities(batch)
    np.testing.assert_allclose(result.as_numpy("OUTPUT__0"), expected, atol=1e-6)


@pytest.mark.parametrize("model", ["grey", "colour floats"])
def test_infer_encoded_images_of_any_sizes(client, models, images, png, model):
    for some in (images[:4], images[3:]):
        result = client.infer(model, [encoded(some, png)])
        expected = models[model, 2 if model == "grey" else 1].probabilities(some)
        np.testing.assert_allclose(result.as_numpy("OUTPUT__0"), expected, atol=1e-6)


def test_one_image_as_raw_body(server, models, images, png):
    answer = server.request("/v2/models/grey/infer", png(images[5]), {"Inference-Header-Content-Length": "0"})
    assert answer.status == 200
    expected = models["grey", 2].probabilities([images[5]])
    np.testing.assert_allclose(answer.json["outputs"][0]["data"], expected[0], atol=1e-6)


def test_classification(client, models, images):
    batch = np.stack([images[0], images[6]])
    outputs = [triton.InferRequestedOutput("OUTPUT__0", class_count=2)]
    result = client.infer("grey", [tensor(batch, "UINT8")], outputs=outputs)
    rows = models["grey", 2].probabilities(batch)
    names = ("one", "two, too", "three")
    answer = result.as_numpy("OUTPUT__0")
    assert answer.shape == (2, 2)
    for row, texts in zip(rows, answer, strict=True):
        for index, text in zip(np.argsort(-row), texts, strict=False):
            value, number, name = text.decode().split(":")
            assert (int(number), name) == (index, names[index])
            assert float(value) == pytest.approx(row[index], abs=1e-5)
    with pytest.raises(
        InferenceServerException, match="classification of output 'OUTPUT__0' must be at most 3"
    ):
        client.infer(
            "grey",
            [tensor(batch, "UINT8")],
            outputs=[triton.InferRequestedOutput("OUTPUT__0", class_count=4)],
        )


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_compression(client, models, images, algorithm):
    result = client.infer(
        "grey",
        [tensor(images[0][None], "UINT8")],
        request_compression_algorithm=algorithm,
        response_compression_algorithm=algorithm,
    )
    expected = models["grey", 2].probabilities([images[0]])
    np.testing.assert_allclose(result.as_numpy("OUTPUT__0"), expected, atol=1e-6)


def test_async_infer(client, models, images):
    requests = [client.async_infer("grey", [tensor(images[i][None], "UINT8")]) for i in (0, 1, 2, 5)]
    for i, request in zip((0, 1, 2, 5), requests, strict=True):
        expected = models["grey", 2].probabilities([images[i]])
        np.testing.assert_allclose(request.get_result().as_numpy("OUTPUT__0"), expected, atol=1e-6)


def test_request_and_answer_built_by_hand(server, models, images):
    body, header = triton.InferenceServerClient.generate_request_body([tensor(images[0][None], "UINT8")])
    answer = server.request("/v2/models/grey/infer", body, {"Inference-Header-Content-Length": str(header)})
    assert answer.status == 200
    result = triton.InferenceServerClient.parse_response_body(
        answer.body, header_length=int(answer.headers["inference-header-content-length"])
    )
    expected = models["grey", 2].probabilities([images[0]])
    np.testing.assert_allclose(result.as_numpy("OUTPUT__0"), expected, atol=1e-6)


def test_many_threads_get_their_own_answers(server, models, images):
    wrong = []

    def ask(seed):
        rng = np.random.default_rng(seed)
        with triton.InferenceServerClient(server.url) as client:
            for _ in range(8):
                some = [images[i] for i in rng.integers(0, len(images), 1)]
                got = client.infer("grey", [tensor(np.stack(some), "UINT8")]).as_numpy("OUTPUT__0")
                if np.abs(got - models["grey", 2].probabilities(some)).max() > 1e-6:
                    wrong.append(seed)

    threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_statistics(client, images):
    before = client.get_inference_statistics("grey", "1")["model_stats"][0]
    client.infer("grey", [tensor(images[0][None], "UINT8")], model_version="1")
    after = client.get_inference_statistics("grey", "1")["model_stats"][0]
    assert after["inference_count"] == before["inference_count"] + 1
    assert after["inference_stats"]["success"]["count"] == before["inference_stats"]["success"]["count"] + 1
    assert after["inference_stats"]["compute_infer"]["ns"] > 0
    for part in ("queue", "compute_input", "compute_infer", "compute_output"):
        counts = [one["inference_stats"][part]["count"] for one in (before, after)]
        assert counts[1] == counts[0] + 1, part
    assert after["execution_count"] == before["execution_count"] + 1
    for batches in after["batch_stats"]:
        counts = {batches[part]["count"] for part in ("compute_input", "compute_infer", "compute_output")}
        assert len(counts) == 1  # executions, not requests
    executed = sum(batches["compute_infer"]["count"] for batches in after["batch_stats"])
    assert executed == after["execution_count"]
    everything = client.get_inference_statistics()["model_stats"]
    assert [(one["name"], one["version"]) for one in everything] == [
        ("colour floats", "1"),
        ("grey", "1"),
        ("grey", "2"),
        ("overflowing", "1"),
    ]


def test_repository_index(client):
    index = {(one["name"], one.get("version")): one for one in client.get_model_repository_index()}
    assert index["grey", "2"]["state"] == "READY"
    assert index["broken", "1"]["state"] == "UNAVAILABLE"
    assert "not a TorchScript file" in index["broken", "1"]["reason"]
    assert "max_batchsize is no field of a model's configuration" in index["misspelt", None]["reason"]
    assert "no folder of a version" in index["empty", None]["reason"]


def test_models_come_and_go_by_request(serving, repository, models, images):
    options = ("--model-control-mode", "explicit", "--load-model", "grey")
    with serving(repository, *options) as server, triton.InferenceServerClient(server.url) as client:
        assert client.is_model_ready("grey")
        assert not client.is_model_ready("colour floats")
        assert {"name": "colour floats"} in client.get_model_repository_index()
        client.load_model("colour floats")
        assert client.is_model_ready("colour floats")
        client.unload_model("grey")
        assert not client.is_model_ready("grey")
        with pytest.raises(InferenceServerException, match="model 'grey' is not ready: unloaded"):
            client.infer("grey", [tensor(images[0][None], "UINT8")])
        client.load_model("grey")
        result = client.infer("grey", [tensor(images[0][None], "UINT8")])
        expected = models["grey", 2].probabilities([images[0]])
        np.testing.assert_allclose(result.as_numpy("OUTPUT__0"), expected, atol=1e-6)
        with pytest.raises(InferenceServerException, match=r"'broken' cannot be loaded: .*not a TorchScript"):
            client.load_model("broken")
        with pytest.raises(InferenceServerException, match=r"the repository has no model '\.\.'"):
            client.load_model("..")
        with pytest.raises(InferenceServerException, match="no model 'none' is loaded"):
            client.unload_model("none")
        with pytest.raises(InferenceServerException, match="config and file parameters are not supported"):
            client.load_model("grey", config='{"max_batch_size": 2}')


def test_what_does_not_apply_says_so(client):
    calls = {
        "models are loaded at start": lambda: client.load_model("grey"),
        "models stay loaded": lambda: client.unload_model("grey"),
        "shared memory is not supported": lambda: client.get_system_shared_memory_status(),
        "shared memory is not supported; send": lambda: client.register_system_shared_memory("a", "/a", 8),
        "shared memory is not supported;": lambda: client.get_cuda_shared_memory_status(),
        "tracing is not supported": lambda: client.get_trace_settings("grey"),
        "tracing is not supported;": lambda: client.update_trace_settings(settings={"trace_rate": "1"}),
        "log settings are chosen when the server starts": lambda: client.get_log_settings(),
    }
    for message, call in calls.items():
        with pytest.raises(InferenceServerException, match=message):
            call()
    shared = triton.InferInput("INPUT__0", [1, 1, 2, 2], "UINT8")
    shared.set_shared_memory("region", 4)
    with pytest.raises(InferenceServerException, match="input 'INPUT__0': shared memory is not supported"):
        client.infer("grey", [shared])
    with pytest.raises(InferenceServerException, match="sequence_id is not supported"):
        client.infer("grey", [tensor(np.zeros((1, 1, 2, 2), np.uint8), "UINT8")], sequence_id=7)


def test_some_classes_only(client, server, models, images, infer_body):
    expected = models["grey", 2].probabilities([images[0]])
    request = tensor(images[0][None], "UINT8")
    result = client.infer("grey", [request], parameters={"classes": json.dumps(["three", "one"])})
    assert result.get_response()["outputs"][0]["shape"] == [1, 2]
    np.testing.assert_allclose(result.as_numpy("OUTPUT__0"), expected[:, [2, 0]], atol=1e-6)
    result = client.infer("grey", [request], parameters={"classes": "two, too"})
    np.testing.assert_allclose(result.as_numpy("OUTPUT__0"), expected[:, [1]], atol=1e-6)
    best = triton.InferRequestedOutput("OUTPUT__0", class_count=1)
    result = client.infer("grey", [request], outputs=[best], parameters={"classes": '["three", "one"]'})
    column = 2 if expected[0, 2] >= expected[0, 0] else 0
    assert result.as_numpy("OUTPUT__0")[0, 0].decode().split(":")[1] == str(column)
    plain = infer_body([1, 1, 1, 1], [7], parameters={"classes": ["one"]})
    assert server.request("/v2/models/grey/infer", plain).json["outputs"][0]["shape"] == [1, 1]


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"classes": ["four"]}, "model 'grey' has no class 'four'"),
        ({"classes": []}, "classes must name at least one class"),
        ({"classes": ["one", "one"]}, "class 'one' stands twice in classes"),
        ({"classes": [1]}, "a name in classes must be a string"),
        ({"classes": "[1]"}, "classes must be a name or a JSON list of names"),
        ({"classes": {"a": 1}}, "classes must not be an object"),
        ({"classes": [["one"]]}, "classes must be a list of names"),
        (
            {"clases": ["one"]},
            "unknown parameter 'clases': a request may have classes, timeout and binary_data_output",
        ),
        ({"timeout": [1]}, "timeout must not be a list"),
        ({"temperature": 2}, "unknown parameter 'temperature'"),
    ],
)
def test_parameters_that_are_wrong(server, infer_body, parameters, message):
    answer = server.request("/v2/models/grey/infer", infer_body([1, 1, 1, 1], [7], parameters=parameters))
    assert answer.status == 400
    assert answer.error.startswith(message)
