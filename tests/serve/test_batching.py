"""Requests of a short window share a batch; one that is slow, bad or gone holds nobody up."""

import json
import socket
import threading

import numpy as np
import pytest


@pytest.fixture(scope="module")
def slow(tmp_path_factory, slow_model):
    """A repository with one slow model, and what Python answers for it."""
    root = tmp_path_factory.mktemp("slow")
    return root, slow_model(root)


@pytest.fixture(scope="module")
def server(slow, serving):
    with serving(slow[0]) as server:
        yield server


def image_of(seed):
    return np.random.default_rng(seed).integers(0, 256, (1, 64, 64), dtype=np.uint8)


def ask(server, infer_body, seed, **more):
    image = image_of(seed)
    return server.request("/v2/models/slow/infer", infer_body([1, *image.shape], image.tolist(), **more))


def together(calls):
    """Run all of them at the same time; return what they return."""
    results = [None] * len(calls)

    def run(i):
        results[i] = calls[i]()

    threads = [threading.Thread(target=run, args=(i,)) for i in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def metric(server, name, model="slow"):
    text = server.request("/metrics").body.decode()
    return sum(
        float(line.rsplit(" ", 1)[1])
        for line in text.splitlines()
        if line.startswith(f"{name}{{") and f'model="{model}"' in line
    )


def test_requests_in_step_share_batches(server, slow, infer_body):
    before = metric(server, "nv_inference_exec_count"), metric(server, "nv_inference_count")
    rounds = 5

    def client(k):
        return [ask(server, infer_body, 100 * k + i) for i in range(rounds)]

    answers = together([lambda k=k: client(k) for k in range(4)])
    for k, own in enumerate(answers):
        got = [answer.json["outputs"][0]["data"] for answer in own]
        expected = slow[1].probabilities([image_of(100 * k + i) for i in range(rounds)])
        np.testing.assert_allclose(got, expected, atol=1e-6)
    batches = metric(server, "nv_inference_exec_count") - before[0]
    images = metric(server, "nv_inference_count") - before[1]
    assert images == 4 * rounds
    # Alone at first, while it is not known that there are others; then four at a time.
    assert images / batches > 2.0


def test_lone_client_does_not_wait_for_others(server, infer_body):
    ask(server, infer_body, 0)  # whatever ran before, now one client is known
    for i in range(3):
        assert ask(server, infer_body, i, id="lone").status == 200

    def entries():
        return [entry for entry in server.access if entry.get("id") == "lone"]

    server.wait_until(lambda: len(entries()) == 3, "three lines of the access log")
    for entry in entries():
        assert entry["batch"] == 1
        assert entry["queue_ms"] < 500  # the window is 1000 ms


def test_bad_request_spoils_only_itself(server, slow, infer_body):
    bad = infer_body([1, 1, 2, 2], [1, 2, 3])
    calls = [lambda i=i: ask(server, infer_body, i) for i in range(3)]
    answers = together([*calls, lambda: server.request("/v2/models/slow/infer", bad)])
    assert [answer.status for answer in answers] == [200, 200, 200, 400]
    got = [answer.json["outputs"][0]["data"] for answer in answers[:3]]
    np.testing.assert_allclose(got, slow[1].probabilities([image_of(i) for i in range(3)]), atol=1e-6)


def test_slow_client_holds_nobody_up(server, infer_body):
    with server.connect() as connection:
        connection.sendall(
            b"POST /v2/models/slow/infer HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n{"
        )
        answers = together([lambda i=i: ask(server, infer_body, i) for i in range(4)])
        assert [answer.status for answer in answers] == [200] * 4


def test_client_that_leaves_is_dropped_from_the_queue(slow, serving, infer_body):
    with serving(slow[0]) as server:
        body = infer_body([4, 1, 64, 64], np.zeros((4, 1, 64, 64), int).tolist())
        head = (
            f"POST /v2/models/slow/infer HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        )
        connections = [server.connect() for _ in range(12)]
        for connection in connections:
            connection.sendall(head + body)
        server.wait_until(lambda: metric(server, "nv_inference_pending_request_count") > 4, "a queue")
        for connection in connections:
            connection.close()
        server.wait_until(lambda: metric(server, "nv_inference_pending_request_count") == 0, "an empty queue")
        text = server.request("/metrics").body.decode()
        gone = [line for line in text.splitlines() if 'reason="CANCELED"' in line]
        assert len(gone) == 1
        assert float(gone[0].rsplit(" ", 1)[1]) > 0
        assert metric(server, "nv_inference_count") < 4 * 12
        assert ask(server, infer_body, 1).status == 200


def test_a_client_that_only_stops_sending_gets_its_answer(slow, serving, infer_body):
    with serving(slow[0]) as server:
        body = infer_body([4, 1, 64, 64], np.zeros((4, 1, 64, 64), int).tolist())
        head = "POST /v2/models/slow/infer HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
        head += f"Content-Length: {len(body)}\r\n\r\n"
        with server.connect() as connection:
            connection.sendall(head.encode() + body)
            connection.shutdown(socket.SHUT_WR)
            data = b"".join(iter(lambda: connection.recv(65536), b""))
        # An interim answer, by which a client that has left would have been found out.
        assert data.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n")
        server.wait_until(lambda: server.access, "a line of the log")
        assert [line["status"] for line in server.access] == [200]


def test_full_queue(slow, serving, infer_body):
    with serving(slow[0], "--max-queue", "2") as server:
        body = infer_body([4, 1, 64, 64], np.zeros((4, 1, 64, 64), int).tolist())
        answers = together([lambda: server.request("/v2/models/slow/infer", body) for _ in range(12)])
        refused = [answer for answer in answers if answer.status != 200]
        assert 0 < len(refused) < 12
        for answer in refused:
            assert (answer.status, answer.error) == (503, "the queue is full: 2 requests wait")
            assert 1 <= int(answer.headers["retry-after"]) <= 60
        assert metric(server, "nv_inference_request_success") == 12 - len(refused)
        assert metric(server, "nv_inference_request_failure") == len(refused)


def test_deadlines(slow, serving, infer_body):
    with serving(slow[0]) as server:
        body = infer_body([4, 1, 64, 64], np.zeros((4, 1, 64, 64), int).tolist())
        hasty = json.loads(body)
        hasty["parameters"] = {"timeout": 1}  # a microsecond
        hasty = json.dumps(hasty).encode()
        answers = together(
            [lambda b=b: server.request("/v2/models/slow/infer", b) for b in [body] * 3 + [hasty] * 3]
        )
        assert [answer.status for answer in answers] == [200] * 3 + [504] * 3
        assert answers[-1].error.endswith("time allows")


def test_metrics_have_tritons_names(server, infer_body):
    ask(server, infer_body, 0)
    text = server.request("/metrics").body.decode()
    for name in (
        "nv_inference_request_success",
        "nv_inference_request_failure",
        "nv_inference_count",
        "nv_inference_exec_count",
        "nv_inference_request_duration_us",
        "nv_inference_queue_duration_us",
        "nv_inference_compute_input_duration_us",
        "nv_inference_compute_infer_duration_us",
        "nv_inference_compute_output_duration_us",
        "nv_inference_pending_request_count",
    ):
        assert f"# TYPE {name}" in text
        assert f'{name}{{model="slow"' in text
    assert 'labelassemble_http_responses_total{status="200"}' in text
    assert metric(server, "nv_inference_compute_infer_duration_us") > 0
