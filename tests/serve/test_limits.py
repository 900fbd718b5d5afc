"""Bounds on what clients may send, hold and take; the life of the server from its start to its end."""

import json
import re
import resource
import shutil
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from labelassemble.export.native import program_environment


@pytest.fixture(scope="module")
def server(repository, serving):
    options = ("--max-body", "64K", "--max-header", "2K", "--max-connections", "3", "--max-memory", "100K")
    with serving(repository, *options) as server:
        yield server


@pytest.fixture(scope="module")
def hasty(repository, serving):
    """A server that waits half a second, where it would wait half a minute."""
    with serving(repository, "--idle-timeout", "0.5", "--read-timeout", "0.5") as server:
        yield server


def is_closed(connection, before_each=lambda: None):
    """Whether the server closes the connection within 160 pauses, which a busy machine makes longer for both."""
    connection.setblocking(False)
    for _ in range(160):
        try:
            before_each()
            if not connection.recv(65536):
                return True
        except BlockingIOError:
            time.sleep(0.05)
        except (BrokenPipeError, ConnectionResetError):
            return True
    return False


def test_body(server):
    answer = server.request("/v2/models/grey/infer", b"x" * 65537)
    assert (answer.status, answer.error) == (413, "the body has more than 65536 bytes")
    chunked = b"POST /v2/models/grey/infer HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    answer = server.send(chunked + b"11000\r\n" + b"x" * 0x11000 + b"\r\n0\r\n\r\n")
    assert (answer.status, answer.error) == (413, "the body has more than 65536 bytes")


def test_body_that_grows_when_decompressed(server):
    import gzip

    answer = server.request(
        "/v2/models/grey/infer", gzip.compress(b" " * 10**6), {"Content-Encoding": "gzip"}
    )
    assert (answer.status, answer.error) == (413, "the body has more than 65536 bytes when decompressed")
    answer = server.request("/v2/models/grey/infer", b"x", {"Content-Encoding": "br"})
    assert (answer.status, answer.error) == (415, "Content-Encoding must be gzip or deflate, got 'br'")


def test_header(server):
    answer = server.request("/v2", headers={"X": "x" * 4000})
    assert (answer.status, answer.error) == (431, "the header has more than 2048 bytes")


def test_memory_of_all_requests(server):
    head = b"POST /v2/models/grey/infer HTTP/1.1\r\nHost: x\r\nContent-Length: 60000\r\n\r\n"
    with server.connect() as connection:
        connection.sendall(head + b" " * 59999)
        held = []

        def refused():
            held.append(server.request("/v2/models/grey/infer", b"x" * 60000))
            return held[-1].status == 503

        server.wait_until(refused, "the first request's bytes")
        answer = held[-1]
        assert answer.error == "no memory is free for this request"
        assert answer.headers["retry-after"] == "1"
    # Alone it has room, but its JSON could hold a text that takes more than there is.
    body = b" " * 60000
    answers = []

    def too_large():
        answers.append(server.request("/v2/models/grey/infer", body))
        return answers[-1].status == 413

    server.wait_until(too_large, "free memory")
    assert answers[-1].error.startswith(
        "the request needs more memory than the 102400 bytes that all requests"
    )


def test_what_is_only_announced_takes_no_memory(repository, serving, infer_body):
    with serving(repository, "--max-memory", "8M") as server:
        head = b"POST /v2/models/grey/infer HTTP/1.1\r\nHost: x\r\n"
        for announced in (b"Content-Length: 60000000\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n"):
            connections = [server.connect() for _ in range(16)]
            for connection in connections:
                connection.sendall(head + announced)
            time.sleep(0.1)
            assert server.request("/v2/models/grey/infer", infer_body([1, 1, 1, 1], [1])).status == 200
            for connection in connections:
                connection.close()


def test_connections(server):
    connections = [server.connect() for _ in range(3)]
    for connection in connections:
        connection.sendall(b"POST /v2/models/grey/infer HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n{")
    answers = []

    def refused():
        answers.append(server.request("/v2"))
        return answers[-1].status == 503

    server.wait_until(refused, "three connections at work")
    assert answers[-1].error == "too many connections are open"
    for connection in connections:
        connection.close()
    server.wait_until(lambda: server.request("/v2").status == 200, "a free connection")


def test_idle_connections_make_room_for_new_ones(repository, serving, read_answer):
    with serving(repository, "--max-connections", "3") as server:
        oldest, younger, youngest = (server.connect() for _ in range(3))
        for connection in (oldest, younger, youngest):
            connection.sendall(b"GET /v2 HTTP/1.1\r\nHost: x\r\n\r\n")
            assert read_answer(connection).status == 200
        assert server.request("/v2").status == 200
        assert oldest.recv(10) == b""  # closed
        younger.sendall(b"GET /v2 HTTP/1.1\r\nHost: x\r\n\r\n")
        assert read_answer(younger).status == 200
        for connection in (oldest, younger, youngest):
            connection.close()


def test_closed_connections_leave_no_memory(repository, serving):
    with serving(repository) as server:

        def resident_kib_after(connections):
            for _ in range(connections):
                assert server.request("/v2/health/live").status == 200
            return int(
                re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{server.process.pid}/status").read_text())[1]
            )

        start = resident_kib_after(100)
        assert resident_kib_after(400) - start < 1024  # 18 KiB each once stayed until there were 512


@pytest.mark.parametrize(
    "sent",
    [b"", b"GET /v2 HT", b"POST /v2/models/grey/infer HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n{"],
)
def test_silent_connections_are_closed(hasty, sent):
    start = time.monotonic()
    with hasty.connect() as connection:
        connection.sendall(sent)
        assert is_closed(connection)
        assert time.monotonic() - start > 0.4  # not at once


def test_header_that_drips_is_not_waited_for(hasty):
    with hasty.connect() as connection:
        assert is_closed(connection, lambda: connection.sendall(b"X"))


def test_expect_continue(server, infer_body):
    body = infer_body([1, 1, 2, 2], [1, 2, 3, 4])
    head = f"POST /v2/models/grey/infer HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n"
    head += "Expect: 100-continue\r\n\r\n"
    with server.connect() as connection:
        connection.sendall(head.encode())
        assert connection.recv(100).startswith(b"HTTP/1.1 100 ")
        connection.sendall(body)
        assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")


def test_keep_alive_and_close(server, read_answer):
    with server.connect() as connection:
        for _ in range(2):
            connection.sendall(b"GET /v2 HTTP/1.1\r\nHost: x\r\n\r\n")
            assert read_answer(connection).status == 200
        connection.sendall(b"GET /v2 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert read_answer(connection).headers["connection"] == "close"
        assert connection.recv(10) == b""


def test_access_log(server, infer_body):
    seen = len(server.access)
    server.request("/v2/models/grey/infer", infer_body([2, 1, 1, 1], [1, 2], id="log me"))
    server.request("/v2/models/none/infer", b"{}")

    def found() -> list:  # earlier connections may end, and be logged, meanwhile
        lines = server.access[seen:]
        good = [line for line in lines if line.get("id") == "log me"]
        return [*good, *(line for line in lines if line["target"] == "/v2/models/none/infer")]

    server.wait_until(lambda: len(found()) == 2, "two lines of the access log")
    good, bad = found()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", good["time"])
    assert good["peer"].startswith("127.0.0.1:")
    assert (good["method"], good["target"], good["status"]) == ("POST", "/v2/models/grey/infer", 200)
    assert (good["model"], good["version"], good["id"], good["images"]) == ("grey", "2", "log me", 2)
    assert good["batch"] >= 2
    assert good["duration_ms"] >= good["infer_ms"] > 0
    assert (bad["status"], bad["error"]) == (404, "there is no model 'none'")


def test_broken_models_are_named_at_start(repository, serving):
    with serving(repository) as server:
        said = "\n".join(server.said)
        assert "model 'broken' version 1 is refused: " in said
        assert "model 'misspelt' is refused: config.pbtxt: line" in said
        assert "model 'empty' is refused: no folder of a version" in said
        assert "model 'grey' version 2 is ready: 3 classes" in said


def test_stops_when_no_model_loads(tmp_path, repository, serving):
    shutil.copytree(repository / "broken", tmp_path / "broken")
    with serving(tmp_path, ready=False) as server:
        assert server.process.wait(timeout=60) == 1
        server.wait_for("no model could be loaded")


def begin(connection, head):
    """Send a header, and wait until the server has read it."""
    connection.sendall(head.removesuffix(b"\r\n") + b"Expect: 100-continue\r\n\r\n")
    interim = b""
    while not interim.endswith(b"\r\n\r\n"):
        interim += connection.recv(1)
    assert interim.startswith(b"HTTP/1.1 100 ")


def test_drains_at_sigterm(tmp_path, slow_model, serving, infer_body, read_answer):
    slow_model(tmp_path)
    with serving(tmp_path) as server:
        body = infer_body([4, 1, 64, 64], np.zeros((4, 1, 64, 64), int).tolist())
        head = (
            f"POST /v2/models/slow/infer HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        )
        working, halfway, idle = (server.connect() for _ in range(3))
        working.sendall(head + body)
        begin(halfway, head)
        halfway.sendall(body[:100])
        pending = 'nv_inference_pending_request_count{model="slow",version="1"} 1'
        server.wait_until(lambda: pending in server.request("/metrics").body.decode(), "a request that waits")
        status = []
        thread = threading.Thread(target=lambda: status.append(server.stop()))
        thread.start()
        assert idle.recv(10) == b""
        idle.close()
        with pytest.raises(OSError, match="refused"):
            server.connect()
        halfway.sendall(body[100:])
        for connection in (working, halfway):
            answer = read_answer(connection)
            assert answer.status == 200
            assert len(answer.json["outputs"][0]["data"]) == 12
            # The first may have had its answer before the signal came; then its connection ends as an idle one.
            assert answer.headers.get("connection") == "close" or connection is working
            assert connection.recv(10) == b""
            connection.close()
        thread.join()
        assert status == [0]
        assert "labelassemble-serve: stopped" in server.said


def test_drain_timeout_cuts_off(repository, serving):
    with serving(repository, "--drain-timeout", "0.2") as server:
        with server.connect() as connection:
            begin(connection, b"POST /v2/models/grey/infer HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n")
            assert server.stop() == 1
        server.wait_for("1 connections were cut off")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--model-repository DIR is needed (see --help)"),
        (["--model-repository", "/none"], "/none: no such folder of models"),
        (["--model-repository"], "--model-repository needs a value (see --help)"),
        (["--model-repository="], "--model-repository needs a value that is not empty (see --help)"),
        (["--speed", "1"], "unknown option '--speed' (see --help)"),
        (["models"], "unknown option 'models' (see --help)"),
        (["--port", "65536"], "--port must be a whole number from 0 to 65535, got '65536'"),
        (["--max-body", "1X"], "--max-body must be a size such as 65536, 64K, 64M or 1G, got '1X'"),
        (["--idle-timeout", "0"], "--idle-timeout must be seconds from 0.001 to 86400, got '0'"),
        (["--no-strict-readiness=1"], "--no-strict-readiness takes no value (see --help)"),
        (["--model-control-mode", "poll"], "--model-control-mode must be none or explicit, got 'poll'"),
        (
            ["--model-repository", ".", "--load-model", "a"],
            "--load-model needs --model-control-mode explicit",
        ),
        (["--model-repository", ".", "--host", "example"], "--host must be an IP address such as 127.0.0.1"),
        (
            ["--model-repository", ".", "--access-log", "/none/a"],
            "/none/a: cannot be opened for the access log",
        ),
    ],
)
def test_mistakes_on_the_command_line(program, arguments, message):
    done = subprocess.run(
        [program, *arguments], capture_output=True, text=True, check=False, env=program_environment()
    )
    assert done.returncode == 2
    assert done.stderr.startswith(f"labelassemble-serve: {message}")
    assert done.stderr.count("\n") == 1


def test_port_that_is_taken(program, repository, server):
    done = subprocess.run(
        [program, "--model-repository", repository, "--port", str(server.port)],
        capture_output=True,
        text=True,
        check=False,
        env=program_environment(),
    )
    assert done.returncode == 2
    assert f"cannot listen on 127.0.0.1 port {server.port}: Address already in use" in done.stderr


def test_listens_on_loopback_only(server):
    assert any(line.endswith(f"http://127.0.0.1:{server.port}") for line in server.said)
    other = socket.gethostbyname(socket.gethostname())
    if other.startswith("127."):
        pytest.skip("this machine has no other address")
    with pytest.raises(OSError, match=r"refused|timed out|unreachable"):
        socket.create_connection((other, server.port), timeout=2)


def test_help_and_version(program):
    environment = program_environment()
    said = subprocess.run([program, "--help"], capture_output=True, text=True, check=True, env=environment)
    assert said.stdout.startswith("Usage: labelassemble-serve --model-repository DIR")
    assert max(map(len, said.stdout.splitlines())) <= 100
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=True, env=environment)
    assert re.fullmatch(r"labelassemble-serve \d+\.\d+\.\d+, reads .*BMP PGM PPM\n", said.stdout)


def test_labelassemble_serve_is_the_same_program(program):
    command = [sys.executable, "-m", "labelassemble", "serve"]
    said = subprocess.run([*command, "--help"], capture_output=True, text=True, check=True)
    assert said.stdout.startswith("Usage: labelassemble-serve --model-repository DIR")
    said = subprocess.run([*command, "--port", "x"], capture_output=True, text=True, check=False)
    assert (said.returncode, said.stderr) == (
        2,
        "labelassemble-serve: --port must be a whole number from 0 to 65535, got 'x'\n",
    )


def test_metadata_before_any_model_is_json(repository, serving):
    with serving(repository, "--model-control-mode", "explicit") as server:
        assert json.loads(server.request("/v2/repository/index", method="POST").body)


@pytest.mark.parametrize("hard", [4096, 600])
def test_as_many_files_may_be_open_as_connections_need(repository, serving, hard):
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    wrapped = f"prlimit --nofile=256:{hard}"  # the server begins with 256
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LABELASSEMBLE_SERVE_WRAPPER", wrapped)
        with serving(repository, "--grpc-port", "0", "--max-connections", "512") as server:
            limits = Path(f"/proc/{server.process.pid}/limits").read_text()
            told = [line for line in server.said if "open files" in line]
    needed = 192 + 4 * 512
    assert int(re.search(r"Max open files +(\d+)", limits)[1]) == min(hard, needed)
    assert told == ([] if hard > needed else [f"labelassemble-serve: --max-connections 512 may need {needed} open "
                                              "files, and the system allows 600 (ulimit -n)"])  # fmt: skip
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == before
