"""gRPC: bounds on what clients may send, hold and take; deadlines, cancelled calls and the end of the server."""

import re
import signal
import socket
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc

sys.path.insert(0, str(Path(__file__).parent))
from http2_client import Http2, clients, gauge, resident_mib

http2 = pytest.fixture(clients)


def request_of(image, model="grey", **parameters):
    request = service_pb2.ModelInferRequest(model_name=model)
    request.inputs.add(name="INPUT__0", datatype="UINT8", shape=[1, *image.shape])
    request.raw_input_contents.append(image.tobytes())
    for name, value in parameters.items():
        request.parameters[name].int64_param = value
    return request


@pytest.fixture
def stub_of():
    channels = []

    def make(server):
        channels.append(
            grpc.insecure_channel(server.grpc_url, options=[("grpc.use_local_subchannel_pool", 1)])
        )
        return service_pb2_grpc.GRPCInferenceServiceStub(channels[-1])

    yield make
    for channel in channels:
        channel.close()


def fails(call):
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return caught.value.code().name, caught.value.details()


@pytest.fixture(scope="module")
def small(repository, serving):
    sizes = ("--max-body", "64K", "--max-memory", "4M", "--max-connections", "4", "--max-header", "4K")
    times = ("--idle-timeout", "1", "--read-timeout", "1", "--write-timeout", "2")
    with serving(repository, "--grpc-port", "0", *sizes, *times) as server:
        yield server


def test_a_message_larger_than_the_limit(small, stub_of):
    stub = stub_of(small)
    large = request_of(np.zeros((1, 300, 300), np.uint8))
    what = f"the message has {large.ByteSize()} bytes, and may have 65536 (--max-body)"
    assert fails(lambda: stub.ModelInfer(large)) == ("RESOURCE_EXHAUSTED", what)
    small.wait_until(
        lambda: any(
            (line["grpc_status"], line["status"], line["error"]) == ("RESOURCE_EXHAUSTED", 413, what)
            for line in small.access
            if line.get("error")
        ),
        "a line of the log",
    )
    answers = stub.ModelStreamInfer(iter([large, request_of(np.zeros((1, 3, 3), np.uint8))]), timeout=20)
    assert [answer.error_message for answer in answers] == [what, ""]
    named = service_pb2.ModelMetadataRequest(name="x" * 65_500)
    code, details = fails(lambda: stub.ModelMetadata(named, timeout=20))
    assert code in ("NOT_FOUND", "RESOURCE_EXHAUSTED"), details
    assert stub.ServerLive(service_pb2.ServerLiveRequest(), timeout=20).live


def test_a_request_that_needs_more_memory_than_there_is(repository, serving, stub_of, images):
    with serving(repository, "--grpc-port", "0", "--max-memory", "100K") as server:
        code, details = fails(
            lambda: stub_of(server).ModelInfer(request_of(np.zeros((1, 250, 250), np.uint8)))
        )
        assert code == "RESOURCE_EXHAUSTED"
        assert details.startswith(
            "the request needs more memory than the 76800 bytes that all requests may hold"
        )


def test_silent_clients_are_closed(small, http2):
    with socket.create_connection(("127.0.0.1", small.grpc_port), timeout=30) as connection:
        connection.settimeout(20)
        while connection.recv(65536):  # what HTTP/2 begins with, then the end
            pass
    begun = http2(small)
    begun.call(1)
    begun.data(1, b"\x00\x00\x00\xff\xff only a part of what was announced")
    small.wait_until(
        lambda: any("before its message was whole" in line.get("error", "") for line in small.access),
        "the end of the call",
    )
    assert begun.closed_within(20)


def test_a_silent_stream_is_ended(small, stub_of):
    stub = stub_of(small)
    forever = threading.Event()

    def nothing():
        forever.wait(60)
        yield from ()

    code, details = fails(lambda: list(stub.ModelStreamInfer(nothing())))
    forever.set()
    assert (code, details) == ("DEADLINE_EXCEEDED", "the stream was silent for longer than --idle-timeout")


def test_idle_connections_make_room_for_new_ones(repository, serving, stub_of, http2):
    with serving(repository, "--grpc-port", "0", "--max-connections", "3") as server:
        oldest = http2(server)
        oldest.call(1)  # whose message does not come
        oldest.data(1, b"\x00")
        server.wait_until(lambda: gauge(server, "labelassemble_grpc_calls") == 1, "its call")
        silent, youngest = (http2(server) for _ in range(2))
        server.wait_until(lambda: connections(server) == 3, "three connections")
        stub = stub_of(server)
        assert metadata(stub) == "OK"
        assert silent.closed_within(20)
        assert not oldest.closed_within(0.2)
        assert not youngest.closed_within(0.2)
        assert connections(server) == 3
        oldest.socket.close()  # or its call would be cut off at the end
        server.wait_until(lambda: gauge(server, "labelassemble_grpc_calls") == 0, "its end")


def test_where_all_connections_are_at_work_health_is_answered(repository, serving, stub_of, http2):
    with serving(repository, "--grpc-port", "0", "--max-connections", "3") as server:
        busy = [http2(server) for _ in range(3)]
        for client in busy:
            client.call(1)
            client.data(1, b"\x00")
        server.wait_until(lambda: gauge(server, "labelassemble_grpc_calls") == 3, "three calls")
        stub = stub_of(server)
        assert stub.ServerLive(service_pb2.ServerLiveRequest(), timeout=20).live
        assert metadata(stub) == ("UNAVAILABLE", "too many calls are under way (--max-connections)")
        assert connections(server) == 4
        for client in busy:
            client.socket.close()
        server.wait_until(lambda: gauge(server, "labelassemble_grpc_calls") == 0, "their end")


def test_calls_that_send_nothing(small, stub_of, http2):
    stub = stub_of(small)

    def refused_while_calls_send_nothing():
        client = http2(small)
        for stream in (1, 3, 5, 7):
            client.call(stream)
        time.sleep(0.05)
        how = metadata(stub)
        assert stub.ServerLive(service_pb2.ServerLiveRequest(), timeout=20).live
        client.socket.close()
        return how == ("UNAVAILABLE", "too many calls are under way (--max-connections)")

    small.wait_until(refused_while_calls_send_nothing, "a call beyond the limit")
    small.wait_until(lambda: metadata(stub) == "OK", "calls that send nothing are ended")


def test_the_gauge_of_connections_has_each_at_once(slow, http2):
    slow.wait_until(lambda: connections(slow) == 0, "the connections of other tests are closed")
    counted = []
    for _ in range(20):  # within one look at the closed ones, of which there are twenty a second
        http2(slow).socket.recv(1)  # the server has it
        counted.append(connections(slow))
    assert counted == list(range(1, 21))


def metadata(stub):
    try:
        stub.ServerMetadata(service_pb2.ServerMetadataRequest(), timeout=20)
    except grpc.RpcError as error:
        return error.code().name, error.details()
    return "OK"


def connections(server):
    return gauge(server, "labelassemble_grpc_connections")


def outcome(call):
    try:
        call()
    except grpc.RpcError as error:
        return error.code().name
    return "OK"


def test_messages_that_do_not_end_take_little_memory(repository, serving):
    with serving(repository, "--grpc-port", "0", "--max-memory", "64M") as server:
        start = resident_mib(server)
        stop = threading.Event()

        def send():
            while not stop.is_set():
                client = Http2(server)
                client.socket.settimeout(2)
                try:
                    for stream in (1, 3, 5, 7):
                        client.call(stream)
                        client.data(stream, b"\x00" + (60 << 20).to_bytes(4, "big"))
                    for _ in range(40):
                        for stream in (1, 3, 5, 7):
                            client.data(stream, bytes(1 << 18))
                except OSError:
                    pass
                finally:
                    client.socket.close()

        threads = [threading.Thread(target=send) for _ in range(4)]
        for thread in threads:
            thread.start()
        peak, answered = start, 0
        end = time.monotonic() + 4
        try:
            while time.monotonic() < end:
                peak = max(peak, resident_mib(server))
                # Not over gRPC, which closes connections of others too while its quota is used up.
                answered += server.request("/v2/health/live").status == 200
                time.sleep(0.02)
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        assert answered > 5
        assert peak - start < 64 * 1.1 + 16, (start, peak)


@pytest.fixture(scope="module")
def slow(tmp_path_factory, serving, slow_model):
    root = tmp_path_factory.mktemp("slow")
    slow_model(root, delay=0)
    with serving(root, "--grpc-port", "0", "--max-queue", "2") as server:
        yield server


def test_deadlines_and_cancelled_calls(tmp_path, serving, slow_model, stub_of):
    slow_model(tmp_path, delay=0, depth=60)
    images = np.zeros((1, 12, 12), np.uint8)
    with serving(tmp_path, "--grpc-port", "0", "--parallel-batches", "1") as server:
        stub = stub_of(server)
        code, details = fails(lambda: stub.ModelInfer(request_of(images, "slow", timeout=1)))
        assert code == "DEADLINE_EXCEEDED"
        assert "time allows" in details
        # Two clients keep the model busy, so that others wait behind them, and leave.
        four = request_of(images, "slow")
        four.inputs[0].shape[0] = 4
        four.raw_input_contents[0] *= 4
        stop = threading.Event()

        def ask_until_stopped():
            while not stop.is_set():
                stub.ModelInfer(four)

        def told(status, error):
            lines = [line for line in server.access if line.get("grpc_status") == status]
            return sum(line["error"] == error for line in lines)

        def waits_and_is_cancelled():
            gone = stub.ModelInfer.future(request_of(images, "slow"))
            server.wait_until(lambda: counted_pending(server) > 2 or gone.done(), "a call that waits")
            gone.cancel()
            return told("CANCELLED", "the client closed the connection") > 0

        def waits_too_long():
            outcome(stub.ModelInfer.future(request_of(images, "slow"), timeout=0.05).result)
            waited = "the request waited longer for its turn than its time allows"
            return told("DEADLINE_EXCEEDED", waited) > 1  # and not the one above alone

        with ThreadPoolExecutor(2) as pool:
            busy = [pool.submit(ask_until_stopped) for _ in range(2)]
            try:
                server.wait_until(waits_and_is_cancelled, "a cancelled call that leaves the queue")
                server.wait_until(waits_too_long, "a call that leaves the queue at its deadline")
            finally:
                stop.set()
        assert [one.result() for one in busy] == [None, None]  # every one of theirs was answered


def test_a_deadline_is_logged_as_one(tmp_path, serving, slow_model, stub_of, http2):
    slow_model(tmp_path, delay=0, depth=60)
    with serving(tmp_path, "--grpc-port", "0", "--parallel-batches", "1") as server:
        # Before the message is whole, and while it is computed, which nothing interrupts.
        begun = http2(server)
        begun.call(1, timeout="50m")
        begun.data(1, b"\x00\x00\x00\xff\xff only a part of what was announced")
        server.wait_until(lambda: len(server.access) == 1, "the end of the call")
        four = request_of(np.zeros((1, 12, 12), np.uint8), "slow")
        four.inputs[0].shape[0] = 4
        four.raw_input_contents[0] *= 4
        late = stub_of(server).ModelInfer.future(four, timeout=0.1)
        assert fails(late.result)[0] == "DEADLINE_EXCEEDED"
        server.wait_until(lambda: len(server.access) == 2, "the end of the call")
        assert [line["grpc_status"] for line in server.access] == ["DEADLINE_EXCEEDED"] * 2
        assert [line["status"] for line in server.access] == [504, 504]
        assert server.access[0]["error"] == "the call's deadline passed before its message was whole"


def test_a_full_queue_is_unavailable(slow, stub_of):
    stub = stub_of(slow)
    many = [stub.ModelInfer.future(request_of(np.zeros((1, 12, 12), np.uint8), "slow")) for _ in range(64)]
    outcomes = [outcome(one.result) for one in many]
    assert set(outcomes) == {"OK", "UNAVAILABLE"}
    refused = next(one for one, how in zip(many, outcomes, strict=True) if how == "UNAVAILABLE")
    assert re.fullmatch(r"the queue is full: \d+ requests wait", refused.details())


def test_health_answers_while_all_workers_are_busy(slow, stub_of):
    stub = stub_of(slow)
    large = np.zeros((1, 6000, 6000), np.uint8)
    many = [stub.ModelInfer.future(request_of(large, "slow"), timeout=60) for _ in range(6)]
    while not all(one.done() for one in many):
        assert stub_live(stub)
    assert {outcome(one.result) for one in many} <= {"OK", "UNAVAILABLE"}


def stub_live(stub):
    return stub.ServerLive(service_pb2.ServerLiveRequest(), timeout=20).live


def test_the_end_of_the_server(tmp_path, serving, slow_model, stub_of):
    slow_model(tmp_path, delay=0)
    with serving(tmp_path, "--grpc-port", "0", "--drain-timeout", "3600") as server:
        stub = stub_of(server)
        open_stream = threading.Event()

        def one_then_silence():
            yield request_of(np.zeros((1, 12, 12), np.uint8), "slow")
            open_stream.wait(60)

        answers = stub.ModelStreamInfer(one_then_silence())
        assert next(answers).error_message == ""
        waiting = [
            stub.ModelInfer.future(request_of(np.zeros((1, 900, 900), np.uint8), "slow")) for _ in range(4)
        ]
        server.wait_until(lambda: counted_pending(server) > 0, "a request that waits")
        server.process.send_signal(signal.SIGTERM)
        assert [one.result() for one in waiting]  # what was begun is finished
        assert fails(lambda: next(answers)) == ("UNAVAILABLE", "the server is stopping")
        assert server.process.wait(timeout=300) == 0  # long before the drain timeout
        open_stream.set()


def test_silent_connections_do_not_hold_up_the_end(repository, serving, http2):
    with serving(repository, "--grpc-port", "0", "--drain-timeout", "3600") as server:
        for _ in range(3):
            http2(server).socket.recv(1)  # the server has it
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(timeout=10) == 0  # gRPC by itself would wait for 20 s


def counted_pending(server):
    text = server.request("/metrics").body.decode()
    found = re.search(
        r'^nv_inference_pending_request_count{model="slow",version="1"} (\S+)$', text, re.MULTILINE
    )
    return float(found[1]) if found else 0.0
