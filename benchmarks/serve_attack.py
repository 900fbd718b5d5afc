"""Memory and liveness of labelassemble-serve under ten minutes of hostile and ordinary requests together.

    python benchmarks/serve_attack.py MODELS --model chest --seconds 600 --max-memory 268435456

Beside clients that send radiograph-sized PNGs, others send what takes much for little: images that are black and huge,
JPEGs of many scans, gzip that inflates, tall tensors, long lists and texts in JSON, bodies that are announced and never
sent, headers that drip, answers that are not read. Every 100 ms a new connection asks for /v2/health/live. Fails where
the peak of resident memory passes idle + max-memory + 10%, where a request of an ordinary client is lost (it may be
refused), or where the server is gone. Times depend on what else the machine does.
"""

import argparse
import gzip
import io
import json
import random
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
from harness import machine
from PIL import Image
from serve import labelassemble_serve

HOST = "127.0.0.1"


def request(model: str, body: bytes, **headers: str) -> bytes:
    """Return a whole inference request."""
    lines = [f"POST /v2/models/{model}/infer HTTP/1.1", "Host: x", f"Content-Length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


def image(model: str, body: bytes) -> bytes:
    """Return a request whose body is an image file."""
    return request(model, body, Inference_Header_Content_Length="0")


def encoded(mode: str, side: int | tuple[int, int], kind: str, **options: object) -> bytes:
    """Return a black image as a file."""
    buffer = io.BytesIO()
    sides = (side, side) if isinstance(side, int) else side
    Image.new(mode, sides).save(buffer, kind, **options)
    return buffer.getvalue()


def wide_png(side: int) -> bytes:
    """Return a black RGBA image of 16 bits, which Pillow does not write."""
    import struct
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    packer, row = zlib.compressobj(9), bytes(1 + 8 * side)
    rows = b"".join(packer.compress(row) for _ in range(side)) + packer.flush()
    header = struct.pack(">IIBBBBB", side, side, 16, 6, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def many_scans(side: int, times: int) -> bytes:
    """Return a progressive JPEG whose last scan stands there many times."""
    data = encoded("L", side, "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    return data[:last] + data[last:-2] * times + data[-2:]


def tensor(model: str, shape: list[int], data: bytes, datatype: str = "UINT8", **headers: str) -> bytes:
    """Return a request with a binary tensor."""
    about = {"name": "INPUT__0", "shape": shape, "datatype": datatype}
    head = json.dumps({"inputs": [about | {"parameters": {"binary_data_size": len(data)}}]}).encode()
    length = {"Inference_Header_Content_Length": str(len(head))}
    body = head + data
    return request(model, gzip.compress(body) if "Content_Encoding" in headers else body, **length, **headers)


def attacks(model: str) -> dict[str, list[bytes]]:
    """Return requests by what they are after."""
    numbers = json.dumps(
        {
            "inputs": [
                {
                    "name": "INPUT__0",
                    "shape": [1, 1, 2000, 1000],
                    "datatype": "UINT8",
                    "data": [0] * 2_000_000,
                }
            ]
        }
    ).encode()
    text = b'{"inputs": [{"name": "' + b"x" * 30_000_000 + b'"}]}'
    return {
        "huge black PNG": [image(model, encoded("L", 9400, "PNG"))],
        "huge black PNG of 16 bits and alpha": [image(model, wide_png(9400))],
        "JPEG of many scans": [image(model, many_scans(2000, 400))],
        "gzip that inflates": [
            tensor(model, [1, 1, 6000, 6000], bytes(36_000_000), Content_Encoding="gzip"),
            tensor(model, [1, 1, 2_000_000, 1], bytes(2_000_000), Content_Encoding="gzip"),
        ],
        "tall tensor": [tensor(model, [1, 1, 65_000, 300], bytes(65_000 * 300))],
        "numbers in JSON": [request(model, numbers)],
        "text in JSON": [request(model, text)],
        "deep JSON": [request(model, b'{"a":' + b"[" * 1_000_000)],
    }


class Sender(threading.Thread):
    """One client that sends, on a new connection each time, until it is stopped."""

    def __init__(self, port: int, stop: threading.Event, next_request: Callable[[], bytes]) -> None:
        super().__init__()
        self.port, self.stop, self.next_request = port, stop, next_request
        self.statuses: Counter[str] = Counter()

    def run(self) -> None:
        """Count the answers by their status; "lost" where a connection ends without one."""
        while not self.stop.is_set():
            try:
                with socket.create_connection((HOST, self.port), timeout=120) as connection:
                    connection.sendall(self.next_request())
                    answer = connection.recv(65536)
                self.statuses[answer[9:12].decode() if answer else "lost"] += 1
            except OSError:
                self.statuses["lost"] += 1


class Silent(threading.Thread):
    """Connections that announce 64 MiB, drip a header, or do not read what they are answered."""

    def __init__(self, port: int, stop: threading.Event, model: str) -> None:
        super().__init__()
        self.port, self.stop, self.model = port, stop, model

    def run(self) -> None:
        """Open twenty of each kind, hold them for some seconds, and begin anew."""
        announced = f"POST /v2/models/{self.model}/infer HTTP/1.1\r\nHost: x\r\n".encode()
        starts = [
            announced + b"Content-Length: 67108864\r\n\r\n",
            announced + b"Transfer-Encoding: chunked\r\n\r\n",
            b"GET /v2 HT",
            b"GET /v2/models/stats HTTP/1.1\r\nHost: x\r\n\r\n" * 50,
        ]
        while not self.stop.is_set():
            connections = []
            for start in starts * 20:
                try:
                    connections.append(socket.create_connection((HOST, self.port), timeout=10))
                    connections[-1].sendall(start)
                except OSError:
                    pass
            self.stop.wait(5)
            for connection in connections:
                connection.close()


def probe(port: int) -> float:
    """Return the milliseconds that a new connection takes to learn that the server is alive."""
    start = time.perf_counter()
    with socket.create_connection((HOST, port), timeout=120) as connection:
        connection.sendall(b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\n\r\n")
        if not connection.recv(4096).startswith(b"HTTP/1.1 200"):
            return float("inf")
    return (time.perf_counter() - start) * 1e3


def memory(process: int, name: str = "VmRSS") -> float:
    """Return MiB."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name + ":")) / 1024


def main() -> None:
    """Parse the arguments, attack, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("repository", type=Path, metavar="MODELS")
    parser.add_argument("--model", required=True)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--max-memory", type=int, default=256 << 20)
    parser.add_argument("--clients", type=int, default=8, help="ordinary ones")
    arguments = parser.parse_args()
    limit = arguments.max_memory / 2**20
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (400, 500), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(np.kron(pixels, np.ones((5, 5), np.uint8))).save(buffer, "PNG")
    ordinary = image(arguments.model, buffer.getvalue())
    hostile = [one for kind in attacks(arguments.model).values() for one in kind]

    options = ["--max-memory", str(arguments.max_memory), "--request-timeout", "10"]
    with labelassemble_serve(arguments.repository, options, None) as (process, port, _):
        for _ in range(3):
            probe(port)
        idle = memory(process)
        stop = threading.Event()
        draw = random.Random(0)
        clients = [Sender(port, stop, lambda: ordinary) for _ in range(arguments.clients)]
        enemies = [Sender(port, stop, lambda: draw.choice(hostile)) for _ in range(8)]
        silent = [Silent(port, stop, arguments.model)]
        for thread in (*clients, *enemies, *silent):
            thread.start()
        latencies = []
        end = time.monotonic() + arguments.seconds
        while time.monotonic() < end:
            latencies.append(probe(port))
            time.sleep(0.1)
        stop.set()
        for thread in (*clients, *enemies, *silent):
            thread.join()
        time.sleep(5)
        after, highest = memory(process), memory(process, "VmHWM")
    answers: Counter[str] = Counter()
    refused: Counter[str] = Counter()
    for client in clients:
        answers.update(client.statuses)
    for enemy in enemies:
        refused.update(enemy.statuses)
    quantiles = np.percentile(latencies, [50, 99, 100])
    print(f"{machine()}; {arguments.seconds:.0f} s, {arguments.clients} ordinary and 8 hostile clients")
    print(f"memory MiB: idle {idle:.0f}, limit {limit:.0f}, peak {highest:.0f}, after {after:.0f}")
    shown = ", ".join(
        f"{name} {value:.1f}" for name, value in zip(("p50", "p99", "max"), quantiles, strict=True)
    )
    print(f"liveness ms over {len(latencies)} probes: {shown}")
    print(f"ordinary clients by status: {dict(sorted(answers.items()))}")
    print(f"hostile clients by status: {dict(sorted(refused.items()))}")
    allowed = idle + 1.1 * limit
    if highest > allowed:
        sys.exit(f"the peak of {highest:.0f} MiB passes idle + limit + 10%, {allowed:.0f} MiB")
    if answers["lost"] > 0:
        sys.exit(f"{answers['lost']} requests of ordinary clients got no answer")


if __name__ == "__main__":
    main()
