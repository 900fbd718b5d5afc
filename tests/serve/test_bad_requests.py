"""What is wrong with a request comes back as a sentence, and the server goes on."""

import gzip
import json
import time

import numpy as np
import pytest

TENSOR = {"name": "INPUT__0", "shape": [1, 1, 2, 2], "datatype": "UINT8", "data": [1, 2, 3, 4]}


def changed(**fields):
    tensor = {**TENSOR, **fields}
    return {"inputs": [{key: value for key, value in tensor.items() if value is not None}]}


NESTED = "[" * 100 + "]" * 100
REQUESTS = {
    "not json": (b"{", "the request's JSON is malformed at byte 2"),
    "empty": (b" ", "the request's JSON is malformed"),
    "a list": (b"[]", "the request must be a JSON object"),
    "a number": (b"17", "the request must be a JSON object"),
    "not utf-8": (b'{"id": "\xff"}', "the request's JSON is malformed at byte 9"),
    "huge number": (b'{"inputs": [{"data": [1e999]}]}', "a number that is too large"),
    "no inputs": ({}, "the request has no inputs"),
    "empty inputs": ({"inputs": []}, "the request has no inputs"),
    "inputs an object": ({"inputs": {}}, "inputs must be a list"),
    "inputs of numbers": ({"inputs": [1]}, "inputs and outputs must be lists of objects"),
    "id a number": ({"id": 1, "inputs": [TENSOR]}, "id must be a string"),
    "no name": (changed(name=None), "input 0 has no name"),
    "name a list": (changed(name=[]), "name must be a string"),
    "no shape": (changed(shape=None), "input 'INPUT__0' has no shape"),
    "shape a number": (changed(shape=4), "shape must be a list"),
    "shape of texts": (changed(shape=["1"]), "shape must be a list of whole numbers"),
    "shape of fractions": (changed(shape=[1.5]), "shape must be a list of whole numbers"),
    "negative": (changed(shape=[1, 1, -2, -2]), "every dimension of shape must be at least 1, got -2"),
    "zero": (changed(shape=[0, 1, 2, 2], data=[]), "every dimension of shape must be at least 1, got 0"),
    "overflow": (changed(shape=[2**62, 4, 1, 1]), "has too many elements"),
    "beyond int64": (changed(shape=[2**63, 1, 1, 1]), "shape must be a list of whole numbers"),
    "many dimensions": (changed(shape=[1] * 9), "shape may have at most 8 dimensions"),
    "no datatype": (changed(datatype=None), "input 'INPUT__0' has no datatype"),
    "unknown datatype": (changed(datatype="UINT9"), "unknown datatype 'UINT9'"),
    "wrong datatype": (changed(datatype="FP32"), "must be UINT8, or BYTES with image files, got FP32"),
    "no data": (changed(data=None), "has neither data nor binary_data_size"),
    "too little data": (changed(data=[1, 2, 3]), "needs 4 elements, got 3"),
    "too much data": (changed(data=[[1, 2], [3, 4, 5]]), "needs 4 elements, got 5"),
    "data of texts": (changed(data=["a"] * 4), "data of UINT8 must be numbers"),
    "mixed data": (changed(data=[1, "a", 2, 3]), "data must be all of one kind"),
    "null data": (changed(data=[None] * 4), "data must hold numbers, booleans or strings, got null"),
    "object in data": (changed(data=[{}]), "data must hold numbers, booleans or strings, got an object"),
    "256": (changed(data=[1, 2, 3, 256]), "whole numbers that fit UINT8"),
    "below 0": (changed(data=[1, 2, 3, -1]), "whole numbers that fit UINT8"),
    "fraction": (changed(data=[1, 2, 3, 0.5]), "whole numbers that fit UINT8"),
    "another input": (changed(name="x"), "model 'grey' has no input 'x'; its input is 'INPUT__0'"),
    "twice": ({"inputs": [TENSOR, TENSOR]}, "input 'INPUT__0' stands twice"),
    "three dimensions": (
        changed(shape=[1, 2, 2]),
        r"must have the shape \[-1, -1, -1, -1\] \(-1: any\), got",
    ),
    "two channels": (changed(shape=[1, 2, 2, 1]), "must have 1 or 3 channels, got"),
    "long batch": (
        changed(shape=[5, 1, 1, 1], data=[0] * 5),
        "a request may hold at most 4 images for model 'grey', got 5; send several requests",
    ),
    "text as image": (
        changed(datatype="BYTES", shape=[1], data=["text"]),
        "image 0: not an image of a known kind",
    ),
    "bytes in 4 dimensions": (
        changed(datatype="BYTES", data=["a"] * 4),
        r"of BYTES must have the shape \[B\] or \[B, 1\], got \[1, 1, 2, 2\]",
    ),
    "binary and data": (changed(parameters={"binary_data_size": 4}), "has both data and binary_data_size"),
    "no binary": (
        changed(data=None, parameters={"binary_data_size": 4}),
        "but 0 bytes are left in the request",
    ),
    "negative binary": (
        changed(data=None, parameters={"binary_data_size": -1}),
        "binary_data_size must be a whole",
    ),
    "unknown output": ({"inputs": [TENSOR], "outputs": [{"name": "y"}]}, "model 'grey' has no output 'y'"),
    "output without name": ({"inputs": [TENSOR], "outputs": [{}]}, "a requested output has no name"),
    "binary_data a text": (
        {"inputs": [TENSOR], "outputs": [{"name": "OUTPUT__0", "parameters": {"binary_data": "yes"}}]},
        "binary_data must be true or false",
    ),
    "negative timeout": (
        {"inputs": [TENSOR], "parameters": {"timeout": -1}},
        "timeout must be a whole number",
    ),
    "unknown parameter": (
        {"inputs": [TENSOR], "parameters": {"clases": ["one"]}},
        "unknown parameter 'clases': a request may have classes, timeout and binary_data_output",
    ),
    "unknown parameter of an input": (
        changed(parameters={"content_type": "np"}),
        "input 'INPUT__0': unknown parameter 'content_type': an input may have binary_data_size",
    ),
    "unknown parameter of an input, nested": (
        changed(parameters={"binary_data_sizes": [4]}),
        "input 'INPUT__0': unknown parameter 'binary_data_sizes'",
    ),
    "shared memory": (
        changed(parameters={"shared_memory_region": "x"}),
        "input 'INPUT__0': shared memory is not supported",
    ),
    "unknown parameter of an output": (
        {"inputs": [TENSOR], "outputs": [{"name": "OUTPUT__0", "parameters": {"top": 1}}]},
        "unknown parameter 'top' of an output: it may have binary_data and classification",
    ),
    "unknown parameter of an output, nested": (
        {"inputs": [TENSOR], "outputs": [{"name": "OUTPUT__0", "parameters": {"top": {"k": 1}}}]},
        "unknown parameter 'top' of an output",
    ),
    "a list of sizes": (
        changed(parameters={"binary_data_size": [4]}),
        "input 'INPUT__0': binary_data_size must not be a list",
    ),
    "classification an object": (
        {"inputs": [TENSOR], "outputs": [{"name": "OUTPUT__0", "parameters": {"classification": {}}}]},
        "an output's classification must not be an object",
    ),
    "deep": (('{"x": ' + NESTED + "}").encode(), "nested too deeply"),
    "deep data": (('{"inputs": [{"data": ' + NESTED + "}]}").encode(), "nested too deeply"),
    "many inputs": ({"inputs": [{}] * 65}, "at most 64 inputs"),
}


@pytest.mark.parametrize("name", REQUESTS)
def test_malformed_requests(server, name):
    body, message = REQUESTS[name]
    answer = server.request(
        "/v2/models/grey/infer", body if isinstance(body, bytes) else json.dumps(body).encode()
    )
    assert answer.status == 400
    with pytest.raises(ValueError, match=message):
        raise ValueError(answer.error)


def binary_request(data, size, shape=(1, 1, 2, 2), datatype="UINT8"):
    tensor = {
        "name": "INPUT__0",
        "shape": shape,
        "datatype": datatype,
        "parameters": {"binary_data_size": size},
    }
    header = json.dumps({"inputs": [tensor]}).encode()
    return header + data, {"Inference-Header-Content-Length": str(len(header))}


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (binary_request(b"abc", 4), "binary_data_size is 4, but 3 bytes are left"),
        (binary_request(b"abcd", 2**64 - 1), "binary_data_size is 18446744073709551615, but 4 bytes"),
        (binary_request(b"abcde", 4), "1 bytes follow the last tensor"),
        (binary_request(b"abcde", 5), r"UINT8 \[1, 1, 2, 2\] needs 4 bytes, got 5"),
        (binary_request(b"abc", 3, [1], "BYTES"), "3 bytes are too few for 1 elements"),
        (binary_request(b"\5\0\0\0abcd", 8, [1], "BYTES"), "element 0 says it has 5 bytes, but 4 are left"),
        (binary_request(b"\xff\xff\xff\xffabcd", 8, [1], "BYTES"), "element 0 says it has 4294967295 bytes"),
        (binary_request(b"\0\0\0\0a", 5, [1], "BYTES"), "1 bytes follow the last element"),
        (
            binary_request(b"\4\0\0\0abcd\1\0", 10, [2], "BYTES"),
            "the data ends before the length of element 1",
        ),
        (binary_request(b"", 0, [2**40], "BYTES"), "0 bytes are too few for 1099511627776 elements"),
        (binary_request(b"\0\0\0\0", 4, [1], "BYTES"), "image 0: an image must not be empty"),
        ((b"{}", {"Inference-Header-Content-Length": "3"}), "is 3, but the body has 2 bytes"),
        ((b"{}", {"Inference-Header-Content-Length": "-1"}), "must be a whole number, got '-1'"),
        ((b"{}", {"Inference-Header-Content-Length": "9" * 30}), "must be a whole number, got '999"),
        ((b"GIF89a", {"Inference-Header-Content-Length": "0"}), "image 0: not an image of a known kind"),
        ((b"not gzip", {"Content-Encoding": "gzip"}), "the body is not valid gzip data"),
        ((gzip.compress(b"{}")[:-9], {"Content-Encoding": "gzip"}), "the gzip data ends early"),
        ((gzip.compress(b"{}") + b"x", {"Content-Encoding": "gzip"}), "bytes follow the gzip data"),
    ],
)
def test_malformed_binary_data(server, request_, message):
    body, headers = request_
    answer = server.request("/v2/models/grey/infer", body, headers, "POST")
    assert answer.status == 400
    with pytest.raises(ValueError, match=message):
        raise ValueError(answer.error)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 255.0, 1.001, -0.001])
def test_floats_are_finite_and_from_0_to_1(server, value):
    pixels = np.zeros((1, 1, 2, 2), np.float32)
    pixels[0, 0, 1, 0] = value
    body, headers = binary_request(pixels.tobytes(), 16, datatype="FP32")
    answer = server.request("/v2/models/colour%20floats/infer", body, headers)
    assert (answer.status, answer.error) == (
        400,
        "input 'INPUT__0' of FP32 must hold finite values from 0 (black) to 1 (white)",
    )


def test_an_answer_that_is_not_finite_is_an_error_with_image_and_class(server, infer_body):
    body = infer_body([2, 1, 2, 2], [10, 20, 30, 40, 255, 255, 255, 255])
    answer = server.request("/v2/models/overflowing/infer", body)
    assert (answer.status, answer.error) == (
        500,
        "image 1: the model's answer for 'two, too' must be finite, got nan",
    )
    assert (
        server.request("/v2/models/overflowing/infer", infer_body([1, 1, 2, 2], [10, 20, 30, 40])).status
        == 200
    )


def test_damaged_images(server, images, png):
    data = png(images[5])
    for cut in (9, 40, len(data) // 2):
        answer = server.request("/v2/models/grey/infer", data[:cut], {"Inference-Header-Content-Length": "0"})
        assert answer.status == 400
        assert answer.error.startswith("input 'INPUT__0', image 0: ")


@pytest.mark.parametrize(
    ("path", "method", "status", "message"),
    [
        ("/", "GET", 404, "there is nothing at /"),
        ("/v2/nothing", "GET", 404, "there is nothing at /v2/nothing"),
        ("/v2/models/grey/generate", "POST", 404, "there is nothing at /v2/models/grey/generate"),
        ("/v2/models/none", "GET", 404, "there is no model 'none'"),
        ("/v2/models/none/infer", "POST", 404, "there is no model 'none'"),
        ("/v2/models/grey/versions/9", "GET", 404, "model 'grey' has no version 9"),
        ("/v2/models/grey/versions/one", "GET", 400, "a version must be a whole number, got 'one'"),
        ("/v2/models/..%2fgrey", "GET", 404, "there is no model '../grey'"),
        ("/v2/models/%zz", "GET", 400, "the path is malformed: /v2/models/%zz"),
        ("/v2/models/broken", "GET", 503, "model 'broken' is not ready: "),
        ("/v2/models/grey/infer", "GET", 405, "/v2/models/grey/infer answers POST, got GET"),
        ("/v2/health/live", "POST", 405, "/v2/health/live answers GET, got POST"),
        ("/v2/repository/index", "GET", 405, "/v2/repository/index answers POST, got GET"),
    ],
)
def test_paths(server, path, method, status, message):
    answer = server.request(path, method=method)
    assert answer.status == status
    assert answer.error.startswith(message)


@pytest.mark.parametrize(
    "text",
    [
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 a client that speaks TLS\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999999\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcdef\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\nabc\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nname without a colon\r\n\r\n",
    ],
)
def test_malformed_http(server, text):
    answer = server.send(text)
    assert answer.status in (400, 413)
    assert answer.error
    assert answer.headers["connection"] == "close"


_POST = b"POST /v2/models/grey/infer HTTP/1.1\r\n"
_NEXT = b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.mark.parametrize(
    ("text", "status", "message"),
    [
        (
            b"Host: x\r\nTransfer-Encoding: xchunked\r\n\r\n",
            501,
            "Transfer-Encoding must be chunked, got 'xchunked'",
        ),
        (b"Host: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 501, "got 'gzip, chunked'"),
        (
            b"Host: x\r\nTransfer-Encoding: chunked, identity\r\n\r\n",
            501,
            "Transfer-Encoding must be chunked",
        ),
        (b"Host: x\r\nTransfer-Encoding: identity\r\n\r\n", 501, "Transfer-Encoding must be chunked"),
        (b"Host: x\r\nTransfer-Encoding:\r\n\r\n", 501, "Transfer-Encoding must be chunked, got ''"),
        (
            b"Host: x\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            400,
            "bad Transfer-Encoding",
        ),
        (b"Host: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n", 400, ""),
        (b"Host: x\r\nContent-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, ""),
        (b"Host: x\r\nContent-Length: 0\r\nContent-Length: 44\r\n\r\n", 400, ""),
        (b"Host: x\r\nContent-Length: 0\r\nContent-Length: 0\r\n\r\n", 400, ""),
        (b"Host: x\r\nContent-Length: 0, 0\r\n\r\n", 400, ""),
        (b"Host: x\r\nContent-Length: +0\r\n\r\n", 400, ""),
        (b"Host: x\r\nContent-Length: 0x0\r\n\r\n", 400, ""),
        (b"Host: x\r\nContent-Length:\r\n\r\n", 400, ""),
        (b"Host: x\r\nContent-Length : 0\r\n\r\n", 400, ""),
        (b"Host: x\r\nX: a\r\n Content-Length: 44\r\n\r\n", 400, "a line of its header is folded"),
        (b"Host: x\r\nX: a\r\n\tb\r\n\r\n", 400, "a line of its header is folded"),
        (b"Host: x\nContent-Length: 0\r\n\r\n", 400, "ends without a carriage return"),
        (b"Host: x\n\n", 400, "ends without a carriage return"),
        (b"Host: x\r\nX: a\rContent-Length: 44\r\n\r\n", 400, "a carriage return stands alone"),
        (b"Host: x\r\nX: a\0b\r\n\r\n", 400, "a NUL byte"),
        (b"Content-Length: 0\r\n\r\n", 400, "it must name one Host, and names 0"),
        (b"Host: a b\r\n\r\n", 400, "Host must be a name or an address"),
        (b"Host: a, b\r\n\r\n", 400, "Host must be a name or an address"),
        (b"Host: x\r\nContent-Encoding: gzip\r\nContent-Encoding: gzip\r\n\r\n", 400, "may stand once"),
        (b"Host: x\r\nHost: y\r\n\r\n", 400, "it must name one Host, and names 2"),
        (b"Host: x\r\nExpect: 200-ok\r\nContent-Length: 0\r\n\r\n", 417, "Expect must be 100-continue"),
    ],
)
def test_what_could_be_read_in_two_ways_is_refused(server, read_answer, text, status, message):
    with server.connect() as connection:
        connection.sendall(_POST + text + _NEXT)
        answer = read_answer(connection)
        assert (answer.status, answer.headers["connection"]) == (status, "close")
        assert message in answer.error
        assert connection.recv(10) == b""  # what follows is not answered


def test_bare_line_feeds_are_refused_at_once(server, read_answer):
    with server.connect() as connection:
        connection.sendall(b"GET /v2 HTTP/1.1\nHost: x\n\n")
        assert read_answer(connection).status == 400
    with server.connect() as connection:  # in pieces, between which the two bytes of a line's end part
        for piece in (b"GET /v2 HTTP/1.1\r", b"\nHost: x\r", b"\n\r", b"\n"):
            connection.sendall(piece)
            time.sleep(0.02)
        assert read_answer(connection).status == 200


@pytest.mark.parametrize(
    ("line", "status"),
    [
        (b"GET http://somewhere:8000/v2/health/live HTTP/1.1", 200),
        (b"GET HTTP://somewhere?a=b HTTP/1.1", 404),
        (b"GET http:///v2 HTTP/1.1", 400),
        (b"GET v2 HTTP/1.1", 400),
        (b"OPTIONS * HTTP/1.1", 400),
        (b"CONNECT somewhere:443 HTTP/1.1", 400),
        (b"\r\n\r\nGET /v2/health/live HTTP/1.1", 200),
    ],
)
def test_forms_of_the_target(server, line, status):
    assert server.send(line + b"\r\nHost: somewhere\r\nConnection: close\r\n\r\n").status == status


def test_http_1_0_needs_no_host(server):
    assert server.send(b"GET /v2/health/live HTTP/1.0\r\n\r\n").status == 200


def test_request_that_ends_too_early(server):
    answer = server.send(
        b"POST /v2/models/grey/infer HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n{}", end=True
    )
    assert (answer.status, answer.error) == (400, "the request ends before it is whole")


def test_chunked_request_and_pipelining(server, read_answer, infer_body):
    body = infer_body([1, 1, 2, 2], [1, 2, 3, 4])
    head = b"POST /v2/models/grey/infer HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (body[:7], body[7:])) + b"0\r\n\r\n"
    with server.connect() as connection:
        connection.sendall((head + chunks) * 2)
        answers = [read_answer(connection), read_answer(connection)]
    assert [answer.status for answer in answers] == [200, 200]
    assert answers[0].json == answers[1].json


def test_server_still_answers(server, models, infer_body):
    answer = server.request("/v2/models/grey/infer", infer_body([1, 1, 2, 2], [1, 2, 3, 4]))
    expected = models["grey", 2].probabilities([np.array([[[1, 2], [3, 4]]], np.uint8)])
    np.testing.assert_allclose(answer.json["outputs"][0]["data"], expected[0], atol=1e-6)
