"""tritonclient[grpc] from PyPI, unmodified, against the server: every call of it; answers equal HTTP's."""

import gzip
import os
import queue
import re
import shutil
import subprocess
from pathlib import Path

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton
import tritonclient.http as triton_http
from google.protobuf import descriptor_pb2, json_format
from tritonclient.grpc import model_config_pb2, service_pb2, service_pb2_grpc
from tritonclient.utils import InferenceServerException

PROTO = Path(__file__).parents[2] / "csrc" / "serve" / "inference.proto"


@pytest.fixture(scope="module")
def client(both):
    with triton.InferenceServerClient(both.grpc_url) as client:
        yield client


@pytest.fixture(scope="module")
def http(both):
    with triton_http.InferenceServerClient(both.url) as client:
        yield client


@pytest.fixture(scope="module")
def stub(both):
    with grpc.insecure_channel(both.grpc_url) as channel:
        yield service_pb2_grpc.GRPCInferenceServiceStub(channel)


def tensor(array, datatype, of=triton, name="INPUT__0"):
    wanted = of.InferInput(name, list(array.shape), datatype)
    wanted.set_data_from_numpy(array)
    return wanted


def encoded(images, png, of=triton):
    return tensor(np.array([png(image) for image in images], dtype=np.object_), "BYTES", of)


def refused(call):
    with pytest.raises(InferenceServerException) as caught:
        call()
    return caught.value.status().removeprefix("StatusCode."), caught.value.message()


def request_of(array, datatype="UINT8", model="grey", **more):
    request = service_pb2.ModelInferRequest(model_name=model, **more)
    request.inputs.add(name="INPUT__0", datatype=datatype, shape=list(array.shape))
    return request


def test_every_name_and_number_is_tritons(tmp_path):
    protoc = shutil.which("protoc")
    if protoc is None:
        pytest.skip("protoc is not installed")
    out = tmp_path / "set"
    subprocess.run([protoc, f"--descriptor_set_out={out}", f"-I{PROTO.parent}", PROTO.name], check=True)
    (ours,) = descriptor_pb2.FileDescriptorSet.FromString(out.read_bytes()).file
    theirs = descriptor_pb2.FileDescriptorProto(package="inference")
    for module in (service_pb2, model_config_pb2):
        file = descriptor_pb2.FileDescriptorProto()
        module.DESCRIPTOR.CopyToProto(file)
        assert file.package == ours.package
        theirs.MergeFrom(file)
    compare_messages(ours.message_type, theirs.message_type)
    values = {enum.name: {(value.name, value.number) for value in enum.value} for enum in theirs.enum_type}
    for enum in ours.enum_type:
        assert {(value.name, value.number) for value in enum.value} == values[enum.name]
    (service,), (their_service,) = ours.service, theirs.service
    assert service.name == their_service.name
    methods = {method.name: method for method in their_service.method}
    for method in service.method:
        other = methods[method.name]
        assert (method.input_type, method.output_type) == (other.input_type, other.output_type)
        assert method.client_streaming == other.client_streaming
        assert method.server_streaming == other.server_streaming


def compare_messages(ours, theirs):
    by_name = {message.name: message for message in theirs}
    for message in ours:
        other = by_name[message.name]
        fields = {field.name: field for field in other.field}
        for field in message.field:
            same = fields[field.name]
            for part in ("number", "type", "label", "type_name"):
                assert getattr(field, part) == getattr(same, part), (message.name, field.name)
            assert field.HasField("oneof_index") == same.HasField("oneof_index")
        compare_messages(message.nested_type, other.nested_type)


def test_protobuf_is_hidden_from_libtorch(program):
    nm = shutil.which("nm")
    if nm is None:
        pytest.skip("nm is not installed")
    dynamic = subprocess.run([nm, "-DC", program], capture_output=True, text=True, check=True).stdout
    names = [line for line in dynamic.splitlines() if " T " in line or " W " in line or " V " in line]
    assert [line for line in names if "google::protobuf" in line or "grpc" in line or "absl::" in line] == []


def test_health_and_metadata(client, http):
    assert client.is_server_live()
    assert client.is_server_ready()
    for name, version in (
        ("grey", ""),
        ("grey", "1"),
        ("colour floats", ""),
        ("grey", "3"),
        ("none", ""),
        ("broken", ""),
    ):
        assert client.is_model_ready(name, version) == http.is_model_ready(name, version)
    assert client.get_server_metadata(as_json=True) == http.get_server_metadata()
    model = client.get_model_metadata("grey")
    expected = http.get_model_metadata("grey")
    assert list(model.versions) == expected["versions"]
    assert (model.name, model.platform) == (expected["name"], expected["platform"])
    for tensors, same in ((model.inputs, expected["inputs"]), (model.outputs, expected["outputs"])):
        assert [
            {"name": one.name, "datatype": one.datatype, "shape": list(one.shape)} for one in tensors
        ] == same
    config = client.get_model_config("colour floats", "1").config
    expected = http.get_model_config("colour floats", "1")
    message = json_format.ParseDict(expected, model_config_pb2.ModelConfig())  # of all of its fields
    assert config == message
    assert config.max_batch_size == 4
    assert config.input[0].data_type == model_config_pb2.TYPE_FP32
    assert config.dynamic_batching.max_queue_delay_microseconds == 50_000
    assert config.version_policy.HasField("all")


def test_kubernetes_probe(both):
    with grpc.insecure_channel(both.grpc_url) as channel:
        check = channel.unary_unary("/grpc.health.v1.Health/Check")
        assert check(b"", timeout=20) == b"\x08\x01"  # HealthCheckResponse {status: SERVING}
        assert check(b"\x0a\x1einference.GRPCInferenceService", timeout=20) == b"\x08\x01"
        with pytest.raises(grpc.RpcError, match=r"there is no service 'chest'") as caught:
            check(b"\x0a\x05chest", timeout=20)
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize("version", ["1", "2", ""])
def test_infer_answers_as_python_and_http(client, http, models, images, version):
    batch = np.stack([images[0], images[6]])
    outputs = [triton.InferRequestedOutput("OUTPUT__0")]
    result = client.infer(
        "grey", [tensor(batch, "UINT8")], model_version=version, outputs=outputs, request_id='a "quoted" id'
    )
    expected = models["grey", int(version or 2)].probabilities(batch)
    np.testing.assert_allclose(result.as_numpy("OUTPUT__0"), expected, atol=1e-6)
    response = result.get_response()
    assert (response.model_name, response.model_version) == ("grey", version or "2")
    assert response.id == 'a "quoted" id'
    same = http.infer("grey", [tensor(batch, "UINT8", triton_http)], model_version=version)
    np.testing.assert_array_equal(result.as_numpy("OUTPUT__0"), same.as_numpy("OUTPUT__0"))


@pytest.mark.parametrize(
    ("model", "datatype", "dtype"),
    [("colour floats", "FP32", np.float32), ("halves", "FP16", np.float16)],
)
def test_infer_floats(client, http, images, model, datatype, dtype):
    batch = (np.stack([images[1], 255 - images[1]]) / 255).astype(dtype)
    result = client.infer(model, [tensor(batch, datatype)])
    same = http.infer(model, [tensor(batch, datatype, triton_http)])
    np.testing.assert_array_equal(result.as_numpy("OUTPUT__0"), same.as_numpy("OUTPUT__0"))


@pytest.mark.parametrize("model", ["grey", "colour floats"])
def test_infer_encoded_images_of_any_sizes(client, http, models, images, png, model):
    for some in (images[:4], images[3:]):
        result = client.infer(model, [encoded(some, png)])
        expected = models[model, 2 if model == "grey" else 1].probabilities(some)
        np.testing.assert_allclose(result.as_numpy("OUTPUT__0"), expected, atol=1e-6)
        same = http.infer(model, [encoded(some, png, triton_http)])
        np.testing.assert_array_equal(result.as_numpy("OUTPUT__0"), same.as_numpy("OUTPUT__0"))


def test_typed_contents(stub, images, png):
    raw = request_of(images[0][None], raw_input_contents=[images[0].tobytes()])
    expected = stub.ModelInfer(raw)
    typed = request_of(images[0][None])
    typed.inputs[0].contents.uint_contents.extend(images[0].ravel().tolist())
    assert stub.ModelInfer(typed) == expected
    floats = (images[1] / 255).astype(np.float32)
    raw = request_of(floats[None], "FP32", "colour floats", raw_input_contents=[floats.tobytes()])
    expected = stub.ModelInfer(raw)
    typed = request_of(floats[None], "FP32", "colour floats")
    typed.inputs[0].contents.fp32_contents.extend(floats.ravel().tolist())
    assert stub.ModelInfer(typed) == expected
    files = [png(image) for image in images[:2]]
    typed = request_of(np.zeros(2), "BYTES")
    typed.inputs[0].contents.bytes_contents.extend(files)
    raw = request_of(np.zeros(2), "BYTES")
    raw.raw_input_contents.append(b"".join(len(file).to_bytes(4, "little") + file for file in files))
    assert stub.ModelInfer(typed) == stub.ModelInfer(raw)


def test_classification_and_some_classes(client, http, images):
    batch = np.stack([images[0], images[6]])
    for count, parameters in ((2, None), (1, {"classes": '["three", "one"]'}), (0, {"classes": "two, too"})):
        answers = []
        for of, asked in ((triton, client), (triton_http, http)):
            outputs = [of.InferRequestedOutput("OUTPUT__0", class_count=count)]
            result = asked.infer("grey", [tensor(batch, "UINT8", of)], outputs=outputs, parameters=parameters)
            answers.append(result.as_numpy("OUTPUT__0"))
        np.testing.assert_array_equal(*answers)
        assert answers[0].shape == (2, count or 1)


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_compression(client, models, images, algorithm):
    image = images[5]
    result = client.infer("grey", [tensor(image[None], "UINT8")], compression_algorithm=algorithm)
    expected = models["grey", 2].probabilities([image])
    np.testing.assert_allclose(result.as_numpy("OUTPUT__0"), expected, atol=1e-6)


def test_async_infer(client, models, images):
    answers = queue.Queue()
    for i in (0, 1, 2, 5):
        client.async_infer(
            "grey",
            [tensor(images[i][None], "UINT8")],
            lambda result, error, i=i: answers.put((i, result, error)),
        )
    for _ in range(4):
        i, result, error = answers.get(timeout=60)
        assert error is None
        expected = models["grey", 2].probabilities([images[i]])
        np.testing.assert_allclose(result.as_numpy("OUTPUT__0"), expected, atol=1e-6)


def test_a_stream_answers_in_order_and_goes_on_after_an_error(both, models, images, png):
    answers = queue.Queue()
    with triton.InferenceServerClient(both.grpc_url) as client:
        client.start_stream(lambda result, error: answers.put((result, error)))
        many = [images[i % len(images)] for i in range(100)]
        for i, image in enumerate(many):
            name = "none" if i == 50 else "grey"
            client.async_stream_infer(
                name,
                [encoded([image], png)],
                request_id=str(i),
                enable_empty_final_response=i % 2 == 0,
            )
        for i, image in enumerate(many):
            result, error = answers.get(timeout=60)
            if i == 50:
                assert "there is no model 'none'" in error.message()
                continue
            assert error is None
            assert result.get_response().id == str(i)
            assert result.get_response().parameters["triton_final_response"].bool_param
            expected = models["grey", 2].probabilities([image])
            np.testing.assert_allclose(result.as_numpy("OUTPUT__0"), expected, atol=1e-6)
        client.stop_stream()


def test_statistics_count_both_protocols_once(client, http, images):
    before = client.get_inference_statistics("grey", "1").model_stats[0]
    client.infer("grey", [tensor(images[0][None], "UINT8")], model_version="1")
    http.infer("grey", [tensor(images[0][None], "UINT8", triton_http)], model_version="1")
    refused(lambda: client.infer("grey", [tensor(images[0], "UINT8")], model_version="1"))
    after = client.get_inference_statistics("grey", "1").model_stats[0]
    same = json_format.ParseDict(
        http.get_inference_statistics("grey", "1")["model_stats"][0], service_pb2.ModelStatistics()
    )
    assert after == same
    assert after.inference_count == before.inference_count + 2
    assert after.execution_count == before.execution_count + 2
    assert after.inference_stats.success.count == before.inference_stats.success.count + 2
    assert after.inference_stats.fail.count == before.inference_stats.fail.count + 1
    assert after.inference_stats.compute_infer.ns > before.inference_stats.compute_infer.ns
    everything = [(one.name, one.version) for one in client.get_inference_statistics().model_stats]
    assert everything == [
        (one["name"], one["version"]) for one in http.get_inference_statistics()["model_stats"]
    ]


def test_repository_index(client, http):
    index = [json_format.MessageToDict(one) for one in client.get_model_repository_index().models]
    assert index == http.get_model_repository_index()


def test_models_come_and_go_by_request(serving, repository, models, images):
    options = ("--model-control-mode", "explicit", "--load-model", "grey", "--grpc-port", "0")
    with serving(repository, *options) as server, triton.InferenceServerClient(server.grpc_url) as client:
        assert not client.is_model_ready("colour floats")
        client.load_model("colour floats")
        assert client.is_model_ready("colour floats")
        client.unload_model("grey")
        assert not client.is_model_ready("grey")
        code, message = refused(lambda: client.infer("grey", [tensor(images[0][None], "UINT8")]))
        assert (code, message) == ("UNAVAILABLE", "model 'grey' is not ready: unloaded")
        client.load_model("grey")
        result = client.infer("grey", [tensor(images[0][None], "UINT8")])
        expected = models["grey", 2].probabilities([images[0]])
        np.testing.assert_allclose(result.as_numpy("OUTPUT__0"), expected, atol=1e-6)
        for call, code, message in (
            (lambda: client.load_model("broken"), "INVALID_ARGUMENT", "'broken' cannot be loaded: "),
            (lambda: client.load_model(".."), "NOT_FOUND", "the repository has no model '..'"),
            (lambda: client.unload_model("none"), "NOT_FOUND", "no model 'none' is loaded"),
            (
                lambda: client.load_model("grey", config='{"max_batch_size": 2}'),
                "INVALID_ARGUMENT",
                "config and file parameters are not supported",
            ),
        ):
            got = refused(call)
            assert got[0] == code
            assert message in got[1]


def test_what_does_not_apply_says_so(client):
    calls = {
        "models are loaded at start": (lambda: client.load_model("grey"), "INVALID_ARGUMENT"),
        "models stay loaded": (lambda: client.unload_model("grey"), "INVALID_ARGUMENT"),
        "shared memory is not supported": (lambda: client.get_system_shared_memory_status(), "UNIMPLEMENTED"),
        "shared memory is not supported; send": (
            lambda: client.register_cuda_shared_memory("a", b"abcd", 0, 8),
            "UNIMPLEMENTED",
        ),
        "tracing is not supported": (lambda: client.get_trace_settings("grey"), "UNIMPLEMENTED"),
        "log settings are chosen when the server starts": (
            lambda: client.get_log_settings(),
            "UNIMPLEMENTED",
        ),
    }
    for message, (call, code) in calls.items():
        got = refused(call)
        assert got[0] == code
        assert message in got[1]
    shared = triton.InferInput("INPUT__0", [1, 1, 2, 2], "UINT8")
    shared.set_shared_memory("region", 4)
    code, message = refused(lambda: client.infer("grey", [shared]))
    assert (code, message) == (
        "INVALID_ARGUMENT",
        "input 'INPUT__0': shared memory is not supported; send the tensor in the request",
    )


def test_access_log_and_metrics(both, client, images):
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    client.infer(
        "grey", [tensor(images[0][None], "UINT8")], request_id="mine", headers={"traceparent": trace}
    )
    refused(lambda: client.infer("none", [tensor(images[0][None], "UINT8")], request_id="lost"))
    both.wait_until(lambda: any(line.get("id") == "mine" for line in both.access), "a line")
    (line,) = [line for line in both.access if line.get("id") == "mine"]
    assert line["method"] == "gRPC"
    assert line["target"] == "/inference.GRPCInferenceService/ModelInfer"
    assert (line["status"], line["grpc_status"]) == (200, "OK")
    assert (line["model"], line["version"], line["images"], line["traceparent"]) == ("grey", "2", 1, trace)
    assert line["peer"].startswith("127.0.0.1:")
    assert line["request_bytes"] > 144
    error = "there is no model 'none'"
    both.wait_until(
        lambda: any(line.get("error") == error and line["method"] == "gRPC" for line in both.access), "a line"
    )
    lost = next(line for line in both.access if line.get("error") == error and line["method"] == "gRPC")
    assert (lost["status"], lost["grpc_status"]) == (404, "NOT_FOUND")
    text = both.request("/metrics").body.decode()
    assert 'labelassemble_grpc_responses_total{status="OK"}' in text
    assert 'labelassemble_grpc_responses_total{status="NOT_FOUND"}' in text
    counted = re.compile(r"^labelassemble_grpc_connections [1-9]", re.MULTILINE)
    both.wait_until(
        lambda: counted.search(both.request("/metrics").body.decode()), "the connection in the count"
    )


def test_without_grpc_there_is_one_port(repository, serving):
    with serving(repository) as server:
        assert server.grpc_port == 0
        listening = subprocess.run(
            ["cat", f"/proc/{server.process.pid}/net/tcp"], capture_output=True, text=True, check=True
        ).stdout
        inodes = {os.readlink(f) for f in Path(f"/proc/{server.process.pid}/fd").iterdir()}
        mine = [row for row in listening.splitlines()[1:] if f"socket:[{row.split()[9]}]" in inodes]
        assert sum(row.split()[3] == "0A" for row in mine) == 1


def test_a_bomb_of_gzip_is_not_inflated(both):
    zeros = gzip.compress(bytes(60 << 20))
    with grpc.insecure_channel(both.grpc_url) as channel:
        call = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        with pytest.raises(grpc.RpcError) as caught:
            call(bytes(60 << 20), timeout=60, compression=grpc.Compression.Gzip)
        assert len(zeros) < 100_000
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "250 times" in caught.value.details() or "more than" in caught.value.details()
