"""The server answers, keeps to its memory and ends, whatever it is asked to do meanwhile."""

import contextlib
import gzip
import io
import os
import re
import signal
import socket
import struct
import subprocess
import threading
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from labelassemble.export.native import program_environment

RAW = {"Inference-Header-Content-Length": "0"}


def encoded(side: int, format: str = "PNG", **options: object) -> bytes:
    """A black image, small as a file and slow to decode."""
    buffer = io.BytesIO()
    Image.new("L", (side, side)).save(buffer, format, **options)
    return buffer.getvalue()


@contextlib.contextmanager
def busy(server, model: str, body: bytes, clients: int):
    """Clients that send the body again and again, each on its own connection; gives the statuses that they got."""
    stop, statuses = threading.Event(), []

    def send() -> None:
        while not stop.is_set():
            statuses.append(server.request(f"/v2/models/{model}/infer", body, RAW).status)

    threads = [threading.Thread(target=send) for _ in range(clients)]
    for thread in threads:
        thread.start()
    try:
        yield statuses
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def resident(server) -> int:
    """Resident bytes of the server's process."""
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) * 1024


def test_health_does_not_wait_for_images(repository, serving):
    with serving(repository) as server:
        body = encoded(4000)
        with busy(server, "grey", body, clients=8) as statuses:
            time.sleep(0.3)
            for _ in range(20):
                for path in ("/v2/health/live", "/v2/health/ready"):
                    before = len(statuses)
                    assert server.request(path).status == 200
                    # Eight images wait in two queues: health has overtaken all of them but those at the front.
                    assert len(statuses) - before <= 4
            assert server.request("/metrics").status == 200
            assert server.request("/v2/models/grey").status == 200
        assert set(statuses) == {200}


def test_tall_tensors_cost_their_own_size(repository, serving, models):
    with serving(repository) as server:
        column = np.linspace(0, 255, 60_000).astype(np.uint8)[None, None, :, None]
        body, headers = _binary(column)
        before = resident(server)
        for _ in range(5):
            answer = server.request("/v2/models/grey/infer", body, headers)
            assert answer.status == 200
        assert resident(server) - before < 16 << 20
        expected = models["grey", 2].probabilities([column[0]])
        np.testing.assert_allclose(answer.json["outputs"][0]["data"], expected[0], atol=1e-6)
        for shape in ((1, 1, 65_536, 1), (1, 1, 1, 2_000_000)):
            body, headers = _binary(np.zeros(shape, np.uint8))
            answer = server.request("/v2/models/grey/infer", body, headers)
            assert answer.status == 400
            assert "an image must have at most 65535 pixels a side, got" in answer.error


def _binary(
    pixels: np.ndarray, datatype: str = "UINT8", **parameters: object
) -> tuple[bytes, dict[str, str]]:
    import json

    tensor = {
        "name": "INPUT__0",
        "shape": pixels.shape,
        "datatype": datatype,
        "parameters": {"binary_data_size": pixels.nbytes},
    }
    head = json.dumps({"inputs": [tensor], "parameters": parameters}).encode()
    return head + pixels.tobytes(), {"Inference-Header-Content-Length": str(len(head))}


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [
        ((2, 1, 700, 3), np.uint8),
        ((1, 3, 3, 900), np.uint8),
        ((1, 3, 333, 517), np.uint8),
        ((1, 1, 12, 13), np.uint8),
        ((1, 3, 12, 12), np.uint8),
        ((1, 1, 1, 1), np.uint8),
        ((1, 1, 5, 4000), np.uint8),
    ],
)
def test_resizing_gives_the_probabilities_of_python(server, models, shape, dtype):
    pixels = np.random.default_rng(0).integers(0, 256, shape).astype(dtype)
    body, headers = _binary(pixels)
    answer = server.request("/v2/models/grey/infer", body, headers)
    expected = models["grey", 2].probabilities(list(pixels))
    np.testing.assert_allclose(answer.json["outputs"][0]["data"], expected.ravel(), atol=5e-7)


@pytest.mark.parametrize(
    ("datatype", "dtype"), [("FP32", np.float32), ("FP16", np.float16), ("FP64", np.float64)]
)
def test_floats_are_resized_as_in_python(
    repository, serving, models, write_config, tmp_path, datatype, dtype
):
    write_config(tmp_path / "floats", type=f"TYPE_{datatype}")
    (tmp_path / "floats" / "1").symlink_to(repository / "colour floats" / "1")
    with serving(tmp_path) as server:
        for shape in ((1, 3, 40, 23), (1, 1, 16, 16), (2, 3, 7, 100)):
            pixels = np.random.default_rng(1).random(shape).astype(dtype)
            pixels.flat[0], pixels.flat[1], pixels.flat[2] = 0, 1, 1e-6  # a half that is subnormal
            body, headers = _binary(pixels, datatype)
            answer = server.request("/v2/models/floats/infer", body, headers)
            expected = models["colour floats", 1].probabilities(list(pixels))
            np.testing.assert_allclose(answer.json["outputs"][0]["data"], expected.ravel(), atol=5e-7)


def test_memory_that_zeros_would_take_is_refused(server):
    body = gzip.compress(bytes(8 << 20))
    answer = server.request("/v2/models/grey/infer", body, {"Content-Encoding": "gzip"})
    assert (answer.status, answer.error) == (
        413,
        "the body grows to more than 250 times its size when decompressed",
    )


def test_memory_of_json_and_of_images_is_bounded(repository, serving, infer_body):
    with serving(repository, "--max-memory", "4M") as server:
        before = resident(server)
        numbers = infer_body([1, 1, 1000, 600], [0] * 600_000)  # 1.2 MB, whose numbers take 4.8 MB
        strings = b'{"inputs": [{"name": "' + b"x" * 2_000_000 + b'"}]}'
        for body in (numbers, strings):
            answer = server.request("/v2/models/grey/infer", body)
            assert answer.status == 413, answer.body
            assert "the request needs more memory than the 4194304 bytes" in answer.error
        answer = server.request("/v2/models/grey/infer", encoded(3000), RAW)
        assert answer.status == 413, answer.body
        assert resident(server) - before < 16 << 20
        assert server.request("/v2/models/grey/infer", infer_body([1, 1, 1, 1], [1])).status == 200


def test_names_have_a_limit(server, infer_body):
    answer = server.request("/v2/models/grey/infer", infer_body([1, 1, 1, 1], [1], id="x" * 1025))
    assert (answer.status, answer.error) == (400, "id must have at most 1024 bytes")


def test_only_inference_takes_large_bodies(server):
    answer = server.request("/v2/repository/index", b" " * 70_000)
    assert (answer.status, answer.error) == (413, "only inference takes a body of more than 65536 bytes")


def test_a_deadline_reaches_into_resizing(server):
    pixels = np.zeros((1, 1, 3000, 3000), np.uint8)
    body, headers = _binary(pixels, timeout=1000)  # 1 ms, which resizing alone takes
    answer = server.request("/v2/models/grey/infer", body, headers)
    assert (answer.status, answer.error) == (
        504,
        "reading the images took longer than the request's time allows",
    )


@pytest.mark.parametrize(
    ("format", "options"),
    [
        ("PNG", {}),
        ("JPEG", {"quality": 90}),
        ("JPEG", {"progressive": True}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_adobe_deflate", "strip_size": 1 << 30}),
        ("WebP", {"lossless": True, "quality": 0, "method": 0}),
        ("BMP", {}),
    ],
)
def test_a_deadline_reaches_into_decoding(repository, serving, format, options):
    body = encoded(
        6000, format, **options
    )  # how soon decoders give up is counted in tests/cpp/image_test.cpp
    with serving(repository, "--request-timeout", "0.02", "--max-body", "64M") as server:
        answer = server.request("/v2/models/grey/infer", body, RAW)
        assert answer.status == 504, answer.body
        assert answer.error.endswith("its time allows") or answer.error.endswith("request's time allows")


def test_images_are_weighed_before_they_are_decoded(repository, serving):
    with serving(repository, "--max-image", "1M") as server:
        peak = resident(server)
        for format, mode, size in (
            ("PNG", "I;16", 1_048_576 // 2 // 1024),
            ("PNG", "RGB", 1_048_576 // 3 // 1024),
            ("BMP", "L", 1024),
            ("TIFF", "L", 1024),
            ("WebP", "RGB", 1_048_576 // 3 // 1024),
        ):
            for columns, status in ((1024, 200), (1100, 413)):
                buffer = io.BytesIO()
                Image.new(mode, (columns, size)).save(buffer, format)
                answer = server.request("/v2/models/grey/infer", buffer.getvalue(), RAW)
                assert answer.status == status, (format, mode, columns, answer.body)
                if status == 413:
                    assert "image 0: an image must have at most 1048576 bytes of pixels, got " in answer.error
        answer = server.request("/v2/models/grey/infer", encoded(8000, "JPEG"), RAW)
        assert answer.status == 413
        assert resident(server) - peak < 16 << 20


def test_many_scans_are_refused(server):
    data = encoded(64, "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    answer = server.request("/v2/models/grey/infer", data[:last] + data[last:-2] * 400 + data[-2:], RAW)
    assert answer.status == 400
    assert "it has more than 100 scans" in answer.error or "damaged JPEG image" in answer.error


def test_health_in_the_words_of_kserve(server):
    assert server.request("/v2/health/live").json == {"live": True}
    assert server.request("/v2/health/ready").json == {"ready": True}
    assert server.request("/v2/models/grey/ready").json == {"name": "grey", "ready": True}


def test_not_ready_while_a_model_is_broken(repository, serving):
    with serving(repository, strict=True) as server:
        answer = server.request("/v2/health/ready")
        assert (answer.status, answer.json) == (503, {"ready": False})
        assert server.request("/v2/models/grey/ready").status == 200
    with serving(repository, "--model-control-mode", "explicit", strict=True) as server:
        assert server.request("/v2/health/ready").status == 200
        assert server.request("/v2/repository/models/grey/load", method="POST").status == 200
        assert server.request("/v2/repository/models/grey/unload", method="POST").status == 200
        assert server.request("/v2/health/ready").status == 200
        assert server.request("/v2/repository/models/broken/load", method="POST").status == 400
        assert server.request("/v2/health/ready").status == 503


def test_trace_context_is_in_the_log(repository, serving):
    with serving(repository) as server:
        good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
        for value in (good, good + "0", good.upper(), "x"):
            assert server.request("/v2", headers={"traceparent": value}).status == 200
        server.wait_until(lambda: len(server.access) == 4, "four lines of the log")
        assert [line.get("traceparent") for line in server.access] == [good, None, None, None]


def test_histograms_and_build(server, infer_body):
    assert server.request("/v2/models/grey/infer", infer_body([2, 1, 1, 1], [1, 2])).status == 200
    text = server.request("/metrics").body.decode()
    labels = 'model="grey",version="2"'
    for name in ("labelassemble_request_duration_seconds", "labelassemble_queue_duration_seconds"):
        assert f'{name}_bucket{{{labels},le="0.1"}}' in text
        assert int(re.search(rf"{name}_count{{{labels}}} (\d+)", text)[1]) >= 1
    assert f'labelassemble_batch_images_bucket{{{labels},le="2"}}' in text
    assert re.search(r'^labelassemble_build_info{version="\d+\.\d+\.\d+"} 1$', text, re.M)


def test_metrics_say_what_is_held_and_what_may_be(server):
    text = server.request("/metrics").body.decode()
    assert "labelassemble_request_memory_limit_bytes 1073741824" in text
    assert re.search(r"^labelassemble_request_memory_bytes 0$", text, re.M)


def test_a_full_disk_under_the_log_is_said_once(repository, serving):
    with serving(repository, "--access-log", "/dev/full") as server:
        for _ in range(5):
            assert server.request("/v2/health/live").status == 200
        lost = r"labelassemble_access_log_lost_lines_total (\d+)"
        server.wait_until(
            lambda: int(re.search(lost, server.request("/metrics").body.decode())[1]) >= 5, "lost lines"
        )
        said = [
            line for line in server.said if "access log cannot be written (No space left on device)" in line
        ]
        assert len(said) == 1


@pytest.mark.parametrize("seconds", ["0.2", "1"])
def test_ends_in_time_though_nobody_reads_its_log(repository, program, seconds):
    command = [program, "--model-repository", repository, "--port", "0", "--drain-timeout", seconds]
    process = subprocess.Popen(
        command, env=program_environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        port = None
        for line in process.stderr:
            if found := re.search(rb"listening on http://127\.0\.0\.1:(\d+)$", line.rstrip()):
                port = int(found[1])
            if b"ready" in line.split():
                break
        import http.client

        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        for _ in range(300):  # more than a pipe holds
            connection.request("GET", "/v2/" + "x" * 900)
            connection.getresponse().read()
        connection.close()
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=float(seconds) + 10) == 1
    finally:
        process.kill()
        process.communicate()


def test_ends_in_time_though_nobody_reads_its_errors(repository, program):
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writer, b"x" * 4096)
    os.set_blocking(writer, True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]  # its line cannot be read
    command = [program, "--model-repository", repository, "--port", str(port), "--drain-timeout", "1"]
    process = subprocess.Popen(command, env=program_environment(), stdout=subprocess.DEVNULL, stderr=writer)
    try:
        end = time.monotonic() + 60
        while True:
            with contextlib.suppress(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", port), timeout=60).close()
                break
            assert time.monotonic() < end
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=15) in (0, 1)
    finally:
        process.kill()
        os.close(reader)
        os.close(writer)


def test_reloading_loses_no_request(repository, serving):
    with serving(repository, "--model-control-mode", "explicit", "--load-model", "grey") as server:
        with busy(server, "grey", encoded(3000), clients=4) as statuses:
            for _ in range(6):
                assert server.request("/v2/repository/models/grey/load", method="POST").status == 200
        assert set(statuses) == {200}
        assert server.request("/v2/repository/models/grey/unload", method="POST").status == 200
        assert server.request("/v2/health/ready").status == 200  # nothing is broken


def tiff(tags: list[tuple[int, int, int, int]], data: bytes = b"") -> bytes:
    """A little-endian TIFF file with these entries (tag, type, count, value), the data behind its header."""
    directory = 8 + len(data)
    entries = b"".join(struct.pack("<HHII", *entry) for entry in sorted(tags))
    return (
        struct.pack("<2sHI", b"II", 42, directory) + data + struct.pack("<H", len(tags)) + entries + bytes(4)
    )


def test_tiff_files_take_no_more_than_they_are(repository, serving):
    grey = [(256, 3, 1, 1), (257, 3, 1, 1), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (277, 3, 1, 1)]
    strip = [(273, 4, 1, 8), (278, 3, 1, 1), (279, 4, 1, 1)]
    with serving(repository, "--max-memory", "32M") as server:
        good = server.request("/v2/models/grey/infer", tiff(grey + strip, b"\x07"), RAW)
        assert good.status == 200, good.body
        before = resident(server)
        tiles = [(322, 3, 1, 9456), (323, 3, 1, 9456), (324, 4, 1, 8), (325, 4, 1, 1)]
        answer = server.request("/v2/models/grey/infer", tiff(grey + tiles, b"\x07"), RAW)
        assert answer.status == 413, answer.body
        many = [(40000 + i, 1, 1 << 20, 8) for i in range(100)]
        answer = server.request("/v2/models/grey/infer", tiff(grey + strip + many, bytes(1 << 20)), RAW)
        assert answer.status == 400
        assert "the values of its directory are longer than the file" in answer.error
        # Offsets of one byte each, which become numbers of eight; and offsets that are not there.
        lists = [(273, 1, 2_000_000, 8), (279, 1, 2_000_000, 8), (278, 3, 1, 1)]
        sides = [(256, 3, 1, 1), (257, 4, 1, 2_000_000), *grey[2:]]
        answer = server.request("/v2/models/grey/infer", tiff(sides + lists, bytes(4_000_000)), RAW)
        assert answer.status == 413, answer.body
        assert "needs more memory than" in answer.error
        tall = [(256, 3, 1, 1), (257, 4, 1, 1_000_000), *grey[2:]]
        with serving(repository, "--max-memory", "8M") as smaller:
            answer = smaller.request("/v2/models/grey/infer", tiff(tall + strip, b"\x07"), RAW)
            assert answer.status == 413, answer.body
        assert resident(server) - before < 16 << 20


def test_texts_in_a_png_are_not_inflated(server):
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    plain = encoded(12)
    text = chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(7_900_000), 9))
    answer = server.request("/v2/models/grey/infer", plain[:33] + text * 100 + plain[33:], RAW)
    assert (answer.status, answer.json["outputs"][0]["data"]) == (
        200,
        server.request("/v2/models/grey/infer", plain, RAW).json["outputs"][0]["data"],
    )


def test_exif_of_many_segments_is_not_gathered(repository, serving):
    data = encoded(12, "JPEG")
    segment = b"\xff\xe1\xff\xff" + b"Exif\0\0" + bytes(65527)
    with serving(repository, "--max-memory", "64M") as server:
        server.request("/v2/models/grey/infer", data, RAW)
        before = resident(server)
        answer = server.request("/v2/models/grey/infer", data[:2] + segment * 400 + data[2:], RAW)
        assert answer.status == 200, answer.body
        assert resident(server) - before < 48 << 20  # the body of 26 MB, and little else


def test_health_though_the_connections_are_at_their_limit(repository, serving):
    with serving(repository, "--max-connections", "3") as server:
        head = b"POST /v2/models/grey/infer HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n{"
        connections = [server.connect() for _ in range(3)]
        for connection in connections:
            connection.sendall(head)
        server.wait_until(lambda: server.request("/v2").status == 503, "three connections at work")
        answer = server.request("/v2/health/live")
        assert (answer.status, answer.headers["connection"]) == (200, "close")
        answer = server.request("/v2")
        assert (answer.status, answer.error) == (503, "too many connections are open")
        for connection in connections:
            connection.close()


def test_trailers_are_no_headers(server, png, images, read_answer):
    body = png(images[0])
    head = b"POST /v2/models/grey/infer HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunk = b"%x\r\n%b\r\n0\r\nInference-Header-Content-Length: 0\r\nConnection: close\r\n\r\n" % (
        len(body),
        body,
    )
    with server.connect() as connection:
        connection.sendall(head + chunk)
        answer = read_answer(connection)
        assert answer.status == 400  # an image without the header is no JSON
        assert answer.headers.get("connection") != "close"


def test_statistics_count_successes_and_the_time_of_failures(tmp_path, slow_model, serving):
    slow_model(tmp_path, delay=0)
    with serving(tmp_path) as server:
        body, headers = _binary(np.zeros((1, 1, 64, 64), np.uint8))
        assert server.request("/v2/models/slow/infer", body, headers).status == 200
        late, headers = _binary(np.zeros((1, 1, 3000, 3000), np.uint8), timeout=1000)
        assert server.request("/v2/models/slow/infer", late, headers).status == 504
        found = server.request("/v2/models/slow/stats").json["model_stats"][0]["inference_stats"]
        for part in ("success", "queue", "compute_input", "compute_infer", "compute_output"):
            assert found[part]["count"] == 1, part
        assert found["fail"]["count"] == 1
        assert found["fail"]["ns"] >= 1_000_000


def test_ends_in_time_whatever_it_computes(tmp_path, slow_model, serving):
    slow_model(tmp_path, depth=300)  # a second's work on a fast machine
    with serving(tmp_path, "--drain-timeout", "0.05") as server:
        body, headers = _binary(np.zeros((4, 1, 128, 128), np.uint8))
        thread = threading.Thread(target=_ignore, args=(server, body, headers))
        thread.start()
        pending = r'^nv_inference_pending_request_count{model="slow",version="1"} 1$'
        server.wait_until(
            lambda: re.search(pending, server.request("/metrics").body.decode(), re.M) is not None,
            "a request that is computed",
        )
        assert server.stop() == 1
        thread.join()


def _ignore(server, body, headers) -> None:
    with contextlib.suppress(AssertionError, OSError):  # cut off, as it should be
        server.request("/v2/models/slow/infer", body, headers)


def test_threads_are_those_that_it_may_use(repository, program):
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        pytest.skip("this machine has one core")
    for allowed in (cores[:1], cores[:2]):
        command = [program, "--model-repository", repository, "--port", "0", "--access-log", "none"]
        process = subprocess.Popen(
            command,
            env=program_environment(),
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=lambda allowed=allowed: os.sched_setaffinity(0, allowed),
        )
        said = [next(process.stderr) for _ in range(2)]
        process.kill()
        process.communicate()
        plural = "s" if len(allowed) > 1 else ""
        assert f"labelassemble-serve: computing with {len(allowed)} thread{plural}\n" in said
