"""Messages of gRPC that are wrong, each refused with a sentence; what protobuf passes over is passed over."""

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc


@pytest.fixture(scope="module")
def stub(both):
    with grpc.insecure_channel(both.grpc_url) as channel:
        yield service_pb2_grpc.GRPCInferenceServiceStub(channel)


def request_of(array, datatype="UINT8", model="grey", **more):
    request = service_pb2.ModelInferRequest(model_name=model, **more)
    request.inputs.add(name="INPUT__0", datatype=datatype, shape=list(array.shape))
    return request


def wrong_requests():
    image = np.zeros((1, 1, 2, 2), np.uint8)
    good = {"raw_input_contents": [image.tobytes()]}

    def made(change, **more):
        request = request_of(image, **(more or good))
        change(request)
        return request

    def parameter(name, **value):
        def change(request):
            request.parameters[name].CopyFrom(service_pb2.InferParameter(**value))

        return change

    def shape(*sizes):
        def change(request):
            request.inputs[0].shape[:] = sizes

        return change

    def with_classification(request):
        request.outputs.add(name="OUTPUT__0").parameters["classification"].int64_param = 4

    def two_kinds(request):
        request.inputs[0].contents.uint_contents.append(1)
        request.inputs[0].contents.int_contents.append(1)

    return {
        "there is no model 'none'": made(lambda r: setattr(r, "model_name", "none")),
        "model 'grey' has no version 3": made(lambda r: setattr(r, "model_version", "3")),
        "a version must be a whole number": made(lambda r: setattr(r, "model_version", "x")),
        "id must have at most 1024 bytes": made(lambda r: setattr(r, "id", "x" * 1025)),
        "the request has no inputs": made(lambda r: r.inputs.pop(), raw_input_contents=[]),
        "raw_input_contents must hold one element for each of the 0 inputs, got 1": made(
            lambda r: r.inputs.pop()
        ),
        "a request may have at most 64 inputs": made(lambda r: [r.inputs.add() for _ in range(65)]),
        "a request may have at most 64 outputs": made(lambda r: [r.outputs.add() for _ in range(65)]),
        "a requested output has no name": made(lambda r: r.outputs.add()),
        "input 'INPUT__0': UINT8 [1, 1, 2, 3] needs 6 bytes, got 4": made(shape(1, 1, 2, 3)),
        "input 'INPUT__0': UINT8 [1, 1, 2000000, 2000] needs": made(shape(1, 1, 2_000_000, 2_000)),
        "input 'INPUT__0': shape [1099511627776, 1099511627776] has too many": made(shape(2**40, 2**40)),
        "input 'INPUT__0': every dimension of shape must be at least 1, got -1": made(shape(1, 1, 2, -1)),
        "input 'INPUT__0': shape may have at most 8 dimensions": made(shape(*[1] * 9)),
        "input 'INPUT__0' has no shape": made(shape()),
        "input 'INPUT__0': unknown datatype 'UINT9'": made(
            lambda r: setattr(r.inputs[0], "datatype", "UINT9")
        ),
        "model 'grey' has no input 'x'": made(lambda r: setattr(r.inputs[0], "name", "x")),
        "input 0 has no name": made(lambda r: setattr(r.inputs[0], "name", "")),
        "unknown parameter 'temperature': a request may have classes and timeout": made(
            parameter("temperature", double_param=2)
        ),
        "input 'INPUT__0': unknown parameter 'binary_data_size': an input may have none over gRPC": made(
            lambda r: (
                r.inputs[0].parameters["binary_data_size"].CopyFrom(service_pb2.InferParameter(int64_param=4))
            )
        ),
        "unknown parameter 'top' of an output: it may have classification": made(
            lambda r: (
                r.outputs.add(name="OUTPUT__0")
                .parameters["top"]
                .CopyFrom(service_pb2.InferParameter(int64_param=4))
            )
        ),
        "unknown parameter 'binary_data_output': outputs are raw": made(
            parameter("binary_data_output", bool_param=True)
        ),
        "timeout must be a whole number of microseconds, at least 0": made(
            parameter("timeout", int64_param=-1)
        ),
        "timeout must be a whole number of microseconds": made(parameter("timeout", string_param="1")),
        "sequence_id is not supported": made(parameter("sequence_id", uint64_param=7)),
        "model 'grey' has no class 'four'": made(parameter("classes", string_param='["four"]')),
        "classification of output 'OUTPUT__0' must be at most 3, got 4": made(with_classification),
        "input 'INPUT__0' has both contents and raw_input_contents": made(
            lambda r: r.inputs[0].contents.uint_contents.append(1)
        ),
        "input 'INPUT__0' has neither contents nor raw_input_contents": made(lambda r: None, id="x"),
        "input 'INPUT__0': contents of UINT8 must be uint_contents, got int_contents": made(
            lambda r: r.inputs[0].contents.int_contents.extend([1] * 4), id="x"
        ),
        "contents of an input must be of one kind": made(two_kinds, id="x"),
        "input 'INPUT__0': shape [1, 1, 2, 2] needs 4 elements, got 3": made(
            lambda r: r.inputs[0].contents.uint_contents.extend([1] * 3), id="x"
        ),
        "data must hold whole numbers that fit UINT8": made(
            lambda r: r.inputs[0].contents.uint_contents.extend([256] * 4), id="x"
        ),
    }


@pytest.mark.parametrize("message", list(wrong_requests()))
def test_wrong_requests(stub, message):
    with pytest.raises(grpc.RpcError) as caught:
        stub.ModelInfer(wrong_requests()[message])
    assert message in caught.value.details()
    wanted = (
        grpc.StatusCode.NOT_FOUND if "has no version 3" in message or "there is no model" in message else None
    )
    assert caught.value.code() is (wanted or grpc.StatusCode.INVALID_ARGUMENT)


@pytest.mark.parametrize(
    "message",
    [
        b"\xff",
        b"\x0a\x05grey",  # a name that ends too soon
        b"\x0a\x04\xff\xff\xff\xff",  # and one that is not UTF-8
        b"\x0b\x0c",  # a group
        b"\x08\x01",  # a number for a name
        b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",  # longer than 64 bits
        b"\x00",
        b"\x0a\x04grey\x2a\x02\x1a\xff",
        b"\x0a\x04grey\x3a\xff\xff\xff\xff\x0f",
    ],
)
def test_bytes_that_are_no_request(both, message):
    with grpc.insecure_channel(both.grpc_url) as channel:
        call = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        with pytest.raises(grpc.RpcError) as caught:
            call(message, timeout=20)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_unknown_fields_are_passed_over(both, images):
    request = request_of(images[0][None], raw_input_contents=[images[0].tobytes()]).SerializeToString()
    later = b"\xf8\x3f\x01\xfa\x3f\x02ab\xf9\x3f12345678\xfd\x3f1234"  # fields 1023
    with grpc.insecure_channel(both.grpc_url) as channel:
        call = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        assert call(request + later, timeout=20) == call(request, timeout=20)
        unknown = channel.unary_unary("/inference.GRPCInferenceService/ModelGuess")
        with pytest.raises(grpc.RpcError, match=r"there is no call /inference.*ModelGuess") as caught:
            unknown(b"", timeout=20)
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_what_is_quoted_within_a_character_is_text_in_a_stream(stub, images):
    raw = [images[0].tobytes()]
    requests = [request_of(images[0][None], raw_input_contents=raw) for _ in range(3)]
    requests[0].inputs[0].datatype = "a" + "é" * 20  # 32 bytes of it are quoted
    requests[1].parameters["a" + "é" * 100].int64_param = 1  # 100 bytes of it
    messages = [answer.error_message for answer in stub.ModelStreamInfer(iter(requests), timeout=20)]
    assert messages[0] == f"input 'INPUT__0': unknown datatype 'a{'é' * 15}\N{REPLACEMENT CHARACTER}'"
    assert messages[1].startswith(f"unknown parameter 'a{'é' * 49}\N{REPLACEMENT CHARACTER}'")
    assert messages[2] == ""
    with pytest.raises(grpc.RpcError) as caught:
        stub.ModelInfer(requests[0], timeout=20)
    assert caught.value.details() == messages[0]


def test_a_config_that_is_no_text_is_quoted_as_text_in_a_stream(repository, serving, tmp_path, images):
    (tmp_path / "grey").symlink_to(repository / "grey")
    (tmp_path / "odd" / "1").mkdir(parents=True)
    (tmp_path / "odd" / "config.pbtxt").write_bytes(b"\xff: 3")
    request = request_of(images[0][None], model="odd", raw_input_contents=[images[0].tobytes()])
    with (
        serving(tmp_path, "--grpc-port", "0") as server,
        grpc.insecure_channel(server.grpc_url) as channel,
    ):
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        (answer,) = stub.ModelStreamInfer(iter([request]), timeout=20)
        assert "model 'odd' is not ready: config.pbtxt: line 1" in answer.error_message


def test_protobuf_says_nothing_of_what_clients_send(both):
    said = len(both.said)
    with grpc.insecure_channel(both.grpc_url) as channel:
        call = channel.unary_unary("/inference.GRPCInferenceService/ModelReady")
        with pytest.raises(grpc.RpcError, match="the message is no inference"):
            call(b"\x0a\x02\xff\xfe", timeout=20)  # a name that is not UTF-8
        assert call(b"", timeout=20) == b""
    assert both.said[said:] == []
