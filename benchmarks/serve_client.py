"""A closed-loop client that costs little: prepared requests on connections of its own, of raw asyncio or of gRPC.

    python benchmarks/serve_client.py PLAN.json     # run by benchmarks/serve.py, in a process of its own

Each client sends its next request when it has its answer. Every answer is compared with the expected
probabilities. Some clients may vanish: close the connection within a request, or before its answer.
"""

import asyncio
import json
import random
import resource
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np


@dataclass
class Result:
    latencies_ms: list[float] = field(default_factory=list)
    wrong: int = 0
    refused: int = 0  # answers that are not 200
    lost: int = 0  # whole requests that got no answer although their client stayed
    vanished: int = 0
    largest_difference: float = 0.0


class Client(asyncio.Protocol):
    """One connection, one request at a time."""

    def __init__(self) -> None:
        self.buffer = bytearray()
        self.waiter: asyncio.Future[tuple[int, bytes]] | None = None
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        end = self.buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        head = bytes(self.buffer[:end])
        start = head.lower().find(b"\r\ncontent-length:")  # and not Inference-Header-Content-Length
        length = int(head[start + 17 :].split(b"\r\n", 1)[0]) if start >= 0 else 0
        if len(self.buffer) >= end + 4 + length and self.waiter is not None and not self.waiter.done():
            body = bytes(self.buffer[end + 4 : end + 4 + length])
            del self.buffer[: end + 4 + length]
            self.waiter.set_result((int(head[9:12]), body))

    def connection_lost(self, error: Exception | None) -> None:
        if self.waiter is not None and not self.waiter.done():
            self.waiter.set_exception(ConnectionResetError())

    async def ask(self, request: bytes) -> tuple[int, bytes]:
        self.waiter = asyncio.get_running_loop().create_future()
        assert self.transport is not None
        self.transport.write(request)
        return await self.waiter


class GrpcClient:
    """The same over gRPC; the requests are messages, and so are the answers."""

    def __init__(self, port: int) -> None:
        import grpc

        self.failed = grpc.RpcError
        own = [("grpc.use_local_subchannel_pool", 1)]
        self.channel = grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=own)
        self.call = self.channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")

    async def ask(self, request: bytes) -> tuple[int, bytes]:
        try:
            return 200, await self.call(request, wait_for_ready=True)
        except self.failed:
            return 0, b""


def check(result: Result, body: bytes, expected: list[float], binary: bool) -> None:
    if binary:
        got = np.frombuffer(body[-4 * len(expected) :], np.float32)
    else:
        answer = json.loads(body)
        got = np.array(answer.get("probabilities") or answer["outputs"][0]["data"])
    difference = float(np.abs(got - expected).max()) if len(got) == len(expected) else float("inf")
    result.largest_difference = max(result.largest_difference, difference)
    if not difference <= 1e-5:
        result.wrong += 1


async def client(
    plan: dict[str, Any], requests: list[bytes], number: int, result: Result, begin: float
) -> None:
    loop = asyncio.get_running_loop()
    draw = random.Random(number)
    connection: Client | None = None
    grpc = GrpcClient(plan["port"]) if plan["grpc"] else None
    end = begin + plan["seconds"]
    while time.perf_counter() < end:
        if grpc is None and connection is None:
            _, connection = await loop.create_connection(Client, "127.0.0.1", plan["port"])
        which = draw.randrange(len(requests))
        request = requests[which]
        if draw.random() < plan["vanish"]:
            assert connection is not None
            assert connection.transport is not None
            part = draw.choice((len(request) // 2, len(request)))
            connection.transport.write(request[:part])
            await asyncio.sleep(draw.random() * 0.2)
            connection.transport.abort()
            connection = None
            result.vanished += 1
            continue
        start = time.perf_counter()
        try:
            asked = grpc if grpc is not None else connection
            assert asked is not None
            status, body = await asked.ask(request)
        except ConnectionResetError:
            result.lost += 1
            connection = None
            continue
        now = time.perf_counter()
        if begin <= now <= end:  # whatever was answered in the window, also what was asked before it
            result.latencies_ms.append((now - start) * 1e3)
        if status == 200:
            check(result, body, plan["expected"][which], plan["binary"])
        else:
            result.refused += 1
            await asyncio.sleep(0.05)
    if connection is not None and connection.transport is not None:
        connection.transport.close()
    if grpc is not None:
        await grpc.channel.close()


async def run(plan: dict[str, Any]) -> dict[str, Any]:
    requests = [Path(path).read_bytes() for path in plan["requests"]]
    result = Result()
    begin = time.perf_counter() + plan["warm_up"]
    before = resource.getrusage(resource.RUSAGE_SELF)
    work = [client(plan, requests, number, result, begin) for number in range(plan["concurrency"])]
    await asyncio.gather(*work)
    after = resource.getrusage(resource.RUSAGE_SELF)
    seconds = plan["seconds"]
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    times = result.latencies_ms or [float("nan")]
    p50, p95, p99 = (float(np.percentile(times, q)) for q in (50, 95, 99))
    return {
        "requests": len(result.latencies_ms),
        "requests_s": len(result.latencies_ms) / seconds,
        "p50_ms": p50,
        "p95_ms": p95,
        "p99_ms": p99,
        "client_cpu": cpu / (time.perf_counter() - begin + plan["warm_up"]),
        "wrong": result.wrong,
        "refused": result.refused,
        "lost": result.lost,
        "vanished": result.vanished,
        "largest_difference": result.largest_difference,
    }


if __name__ == "__main__":
    print(json.dumps(asyncio.run(run(json.loads(Path(sys.argv[1]).read_text())))))
