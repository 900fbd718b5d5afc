"""gRPC: clients that send what costs them little and HTTP/2 much; the server keeps its memory, and answers others."""

import contextlib
import select
import struct
import sys
import threading
import time
from pathlib import Path

import grpc
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc

sys.path.insert(0, str(Path(__file__).parent))
from http2_client import Http2, clients, gauge, resident_mib

http2 = pytest.fixture(clients)

STREAM = "/inference.GRPCInferenceService/ModelStreamInfer"
ENOUGH = 1000  # frames that a client may send for nothing, once


@pytest.fixture(scope="module")
def server(repository, serving):
    with serving(
        repository, "--grpc-port", "0", "--max-connections", "64", "--drain-timeout", "1"
    ) as running:
        yield running
        running.process.kill()  # calls that the tests have left would be waited for
        running.process.wait()


@pytest.fixture
def stub(server):
    with grpc.insecure_channel(server.grpc_url, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
        yield service_pb2_grpc.GRPCInferenceServiceStub(channel)


def asks(stub):
    """An ordinary call, which is answered."""
    return stub.ServerMetadata(service_pb2.ServerMetadataRequest(), timeout=20).name


def flood(client, frames, seconds):
    """Send the frames again and again, whatever comes back; return how many bytes of them were taken."""
    taken, end = 0, time.monotonic() + seconds
    client.socket.setblocking(False)
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        while time.monotonic() < end:
            select.select([client.socket], [client.socket], [], 0.1)
            with contextlib.suppress(BlockingIOError):
                taken += client.socket.send(frames)
            with contextlib.suppress(BlockingIOError):
                client.socket.recv(1 << 20)
    return taken


FLOODS = {  # type, flags, stream, payload
    "PING": (6, 0, 0, b"12345678"),
    "acknowledged PING": (6, 1, 0, b"12345678"),
    "SETTINGS": (4, 0, 0, b""),
    "PRIORITY": (2, 0, 3, struct.pack(">IB", 1, 10)),
    "WINDOW_UPDATE": (8, 0, 0, struct.pack(">I", 1)),
    "WINDOW_UPDATE of a call": (8, 0, 1, struct.pack(">I", 1)),
    "empty DATA": (0, 0, 1, b""),
    "DATA of a byte": (0, 0, 1, b"x"),
    "RST_STREAM before a call": (3, 0, 5, struct.pack(">I", 8)),
    "unknown": (0x20, 0, 0, b"x" * 8),
}


@pytest.mark.parametrize("kind", FLOODS)
def test_frames_for_nothing_are_held_back(server, stub, http2, kind):
    client = http2(server)
    client.call(1)
    start = resident_mib(server)
    one = client.frame(*FLOODS[kind])
    taken = flood(client, one * 5000, seconds=1.5)
    # What is beyond lies in the system's buffers.
    assert taken / len(one) < ENOUGH + 16e6 / len(one)
    assert asks(stub)
    assert resident_mib(server) - start < 24


def test_headers_without_an_end_close_the_connection(server, stub, http2):
    client = http2(server)
    start = resident_mib(server)
    client.socket.sendall(client.frame(1, 0, 1, client.headers()))
    field = b"\x00\x03x-a\x32" + b"b" * 50
    flood(client, client.frame(9, 0, 1, field * 20) * 50, seconds=3)
    assert client.closed_within(20)
    assert asks(stub)
    assert resident_mib(server) - start < 24


def test_calls_that_are_reset_are_bounded_in_sum(server, stub):
    start, most, peak, answered = resident_mib(server), 0, 0, 0
    stop = threading.Event()

    def reset_calls():
        while not stop.is_set():
            client = Http2(server)
            client.socket.settimeout(0.2)
            block = client.headers()
            with contextlib.suppress(OSError):
                for first in range(1, 100_000, 200):
                    pairs = (
                        client.frame(1, 4, stream, block) + client.frame(3, 0, stream, struct.pack(">I", 8))
                        for stream in range(first, first + 200, 2)
                    )
                    client.socket.sendall(b"".join(pairs))
                    if stop.is_set():
                        break
            client.socket.close()

    threads = [threading.Thread(target=reset_calls) for _ in range(40)]
    for thread in threads:
        thread.start()
    end = time.monotonic() + 4
    try:
        while time.monotonic() < end:
            most = max(most, gauge(server, "labelassemble_grpc_calls"))
            peak = max(peak, resident_mib(server))
            answered += bool(asks_or_is_refused(stub))
            time.sleep(0.02)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert most <= 2 * (64 + 64) + 128  # those that gRPC has, and has not begun
    assert peak - start < 64
    assert answered


def asks_or_is_refused(stub):
    with contextlib.suppress(grpc.RpcError):  # the server has all the calls, or connections, that it takes
        return asks(stub)
    return ""


def test_calls_that_are_answered_cost_nothing(server, stub):
    # At the rate of frames for nothing these would take minutes.
    request = service_pb2.ServerLiveRequest()
    for _ in range(100):
        calls = [stub.ServerLive.future(request, timeout=30) for _ in range(50)]
        assert all(one.result().live for one in calls)
    tiny = service_pb2.ModelInferRequest(model_name="grey", raw_input_contents=[bytes(4)])
    tiny.inputs.add(name="INPUT__0", datatype="UINT8", shape=[1, 1, 2, 2])
    answers = stub.ModelStreamInfer(iter([tiny] * 2000), timeout=60)
    assert sum(answer.error_message == "" for answer in answers) == 2000


def test_a_client_that_takes_no_answer_is_closed(repository, serving, http2):
    with serving(repository, "--grpc-port", "0", "--write-timeout", "1") as server:
        client = http2(server)
        most = 2**31 - 1
        client.socket.sendall(
            client.frame(4, 0, 0, struct.pack(">HI", 4, most))
            + client.frame(8, 0, 0, struct.pack(">I", most - 65535))
        )
        client.call(1, STREAM)
        request = service_pb2.ModelInferRequest(model_name="x" * 1900).SerializeToString()
        message = b"\x00" + struct.pack(">I", len(request)) + request
        client.socket.settimeout(5)
        with contextlib.suppress(OSError):  # it waits, or is reset
            for _ in range(20_000):
                client.data(1, message)
        server.wait_until(lambda: gauge(server, "labelassemble_grpc_connections") == 0, "it is closed", 20)
