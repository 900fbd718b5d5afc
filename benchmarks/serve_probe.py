"""Asks a server whether it lives every 100 ms, as an orchestrator does, and prints how long each answer took.

    python benchmarks/serve_probe.py PORT SECONDS [grpc]     # run by benchmarks/serve_traffic.py

Over HTTP each probe opens a connection of its own (/v2/health/live); over gRPC (ServerLive) they share one.
"""

import json
import socket
import sys
import time
from collections.abc import Callable

EVERY_S = 0.1
LONGEST_S = 60.0


def over_http(port: int) -> Callable[[], bool]:
    """Return what asks over HTTP whether the server lives."""

    def ask() -> bool:
        with socket.create_connection(("127.0.0.1", port), timeout=LONGEST_S) as connection:
            connection.sendall(b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            answer = b""
            while part := connection.recv(4096):
                answer += part
        return answer.startswith(b"HTTP/1.1 200 ")

    return ask


def over_grpc(port: int) -> Callable[[], bool]:
    """Return what asks over gRPC whether the server lives."""
    import grpc
    from tritonclient.grpc import service_pb2, service_pb2_grpc

    stub = service_pb2_grpc.GRPCInferenceServiceStub(grpc.insecure_channel(f"127.0.0.1:{port}"))
    return lambda: bool(stub.ServerLive(service_pb2.ServerLiveRequest(), timeout=LONGEST_S).live)


def main() -> None:
    """Probe until the time is over; print the milliseconds of each answer as a JSON list."""
    port, seconds = int(sys.argv[1]), float(sys.argv[2])
    ask = over_grpc(port) if sys.argv[3:] == ["grpc"] else over_http(port)
    ask()  # the first makes the connection
    took = []
    begin = time.perf_counter()
    due = begin
    while due < begin + seconds:
        time.sleep(max(0.0, due - time.perf_counter()))
        start = time.perf_counter()
        if not ask():
            raise SystemExit("the server does not live")
        end = time.perf_counter()
        took.append((end - start) * 1e3)
        due = max(due + EVERY_S, end)
    print(json.dumps(took))


if __name__ == "__main__":
    main()
