"""Load on labelassemble-serve, beside the model's own forward loop in C++ and a server written by hand.

    python benchmarks/serve.py MODELS --model chest                # a table under benchmarks/results/
    python benchmarks/serve.py MODELS --model chest --soak 600     # 64 clients, some of which vanish

MODELS is a model repository (`benchmarks/export.py prepare` writes one, and the network for --eager). Closed-loop
clients send one image a request; images are scikit-learn's digits, enlarged to the model's size, or those of
--images DIR. "forward loop" (benchmarks/forward_loop) is the model's own forward in C++ on a batch of as many images as
there are clients, at most the model's maximum: the ceiling. The server is asked over HTTP and over gRPC. Client and
server share the cores: the client's own processor time (client_cpu, in cores) is what the server could not have.
Liveness beside load, and image files: benchmarks/serve_traffic.py.
"""

import argparse
import csv
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from harness import machine
from numpy.typing import NDArray
from PIL import Image

from labelassemble.export import cmake_path, find_program, load_metadata
from labelassemble.export.native import SERVER, program_environment

HERE = Path(__file__).parent
OVER_HTTP, OVER_GRPC = "labelassemble-serve", "labelassemble-serve, gRPC"
BY_HAND = "FastAPI + uvicorn + torch, the exported file"
BY_HAND_EAGER = "FastAPI + uvicorn + torch, the network"
Row = dict[str, Any]
COLUMNS = (
    "system", "model", "concurrency", "requests_s", "of_ceiling", "p50_ms", "over_ms", "p95_ms", "p99_ms", "mean_batch",
    "rss_mib", "client_cpu", "wrong", "refused", "lost",
)  # fmt: skip


def pictures(folder: Path | None, channels: int, size: int, count: int) -> NDArray[np.uint8]:
    """Return images [count, channels, size, size]."""
    mode = "L" if channels == 1 else "RGB"
    if folder is None:
        from sklearn.datasets import load_digits

        digits = load_digits().images[:count]
        originals = [Image.fromarray((image * 255 / 16).astype(np.uint8)) for image in digits]
    else:
        paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in (".png", ".jpg", ".jpeg"))
        originals = [Image.open(path) for path in paths[:count]]
    small = [
        np.asarray(image.convert(mode).resize((size, size), Image.Resampling.BILINEAR)) for image in originals
    ]
    images = np.stack(small)
    return images[:, None] if channels == 1 else np.ascontiguousarray(images.transpose(0, 3, 1, 2))


def expected(model: Path, images: NDArray[np.uint8]) -> list[list[float]]:
    """Return Python's probabilities."""
    network = torch.jit.load(str(model))
    with torch.inference_mode(), torch.jit.optimized_execution(False):
        parts = [network(torch.from_numpy(images[i : i + 16])) for i in range(0, len(images), 16)]
    return torch.cat(parts).tolist()  # type: ignore[no-any-return]


def http(path: str, body: bytes, headers: str = "") -> bytes:
    return f"POST {path} HTTP/1.1\r\nHost: x\r\n{headers}Content-Length: {len(body)}\r\n\r\n".encode() + body


def infer_request(name: str, image: NDArray[np.uint8]) -> bytes:
    tensor = {
        "name": "INPUT__0",
        "shape": [1, *image.shape],
        "datatype": "UINT8",
        "parameters": {"binary_data_size": image.nbytes},
    }
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    return http(
        f"/v2/models/{name}/infer",
        head + image.tobytes(),
        f"Inference-Header-Content-Length: {len(head)}\r\n",
    )


def grpc_request(name: str, image: NDArray[np.uint8]) -> bytes:
    from tritonclient.grpc import service_pb2

    request = service_pb2.ModelInferRequest(model_name=name)
    request.inputs.add(name="INPUT__0", datatype="UINT8", shape=[1, *image.shape])
    request.raw_input_contents.append(image.tobytes())
    return request.SerializeToString()  # type: ignore[no-any-return]


def forward_loop() -> Path:
    """Build the ceiling's program, which is then kept under build/."""
    cmake = Path(sys.executable).with_name("cmake")
    build = HERE.parent / "build" / "forward_loop"
    configure = [cmake, "-S", HERE / "forward_loop", "-B", build, f"-DCMAKE_PREFIX_PATH={cmake_path()}",
                 f"-DTORCH_DIR={Path(torch.__file__).parent}"]  # fmt: skip
    for command in (configure, [cmake, "--build", build]):
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return build / "forward_loop"


@contextmanager
def labelassemble_serve(
    repository: Path, options: Sequence[str], program: Path | None
) -> Iterator[tuple[int, int, int]]:
    """Run the server; give its process, and the ports of HTTP and gRPC (0 where the options ask for none)."""
    command = [program or find_program(SERVER), "--model-repository", repository, "--port", "0"]
    process = subprocess.Popen(
        [*command, "--access-log", "none", *options],
        env=program_environment(),
        stderr=subprocess.PIPE,
        text=True,
    )
    port = grpc_port = 0
    assert process.stderr is not None
    for line in process.stderr:
        if found := re.search(r"listening on http://127\.0\.0\.1:(\d+)", line):
            port = int(found[1])
        if found := re.search(r"answering gRPC on 127\.0\.0\.1:(\d+)", line):
            grpc_port = int(found[1])
        if line.strip() == "labelassemble-serve: ready":
            break
    try:
        yield process.pid, port, grpc_port
    finally:
        process.terminate()
        process.stderr.close()
        process.wait(timeout=60)


@contextmanager
def by_hand(model: Path, port: int) -> Iterator[tuple[int, int]]:
    """Run FastAPI under uvicorn."""
    process = subprocess.Popen(
        [sys.executable, "-m", "uvicorn", "serve_by_hand:app", "--port", str(port), "--log-level", "warning"],
        cwd=HERE,
        env={**os.environ, "MODEL": str(model)},
    )
    try:
        for _ in range(600):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/ready", timeout=5).read()
                break
            except OSError:
                time.sleep(0.1)
        yield process.pid, port
    finally:
        process.terminate()
        process.wait(timeout=60)


def resident_mib(process: int) -> float:
    text = Path(f"/proc/{process}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+)", text)
    return int(found[1]) / 1024 if found else float("nan")


def counters(port: int, model: str) -> tuple[float, float]:
    """Return images and batches so far."""
    text = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=60).read().decode()

    def value(name: str) -> float:
        found = re.search(rf'^{name}{{model="{model}",version="\d+"}} (\S+)$', text, re.MULTILINE)
        return float(found[1]) if found else float("nan")

    return value("nv_inference_count"), value("nv_inference_exec_count")


def load(folder: Path, requests: Sequence[bytes], answers: list[list[float]], port: int, **plan: Any) -> Any:
    """Start the client; return its process."""
    paths = []
    for i, request in enumerate(requests):
        path = folder / f"request{i}"
        path.write_bytes(request)
        paths.append(str(path))
    file = folder / "plan.json"
    plan = {
        "requests": paths,
        "expected": answers,
        "port": port,
        "vanish": 0.0,
        "warm_up": 1.0,
        "grpc": False,
        **plan,
    }
    file.write_text(json.dumps(plan))
    command = [sys.executable, str(HERE / "serve_client.py"), str(file)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def finish(process: Any) -> dict[str, Any]:
    said, _ = process.communicate()
    if process.returncode != 0:
        raise SystemExit("the client failed")
    return json.loads(said)  # type: ignore[no-any-return]


def show(row: dict[str, Any], columns: Sequence[str] = COLUMNS) -> None:
    print("  ".join(f"{name} {_short(row[name])}" for name in columns if name in row), flush=True)


def _short(value: object) -> object:
    return float(f"{value:.4g}") if isinstance(value, float) else value


def forward_rate(
    loop: Path, model: Path, raw: Path, shape: Sequence[int], batch: int, arguments: argparse.Namespace
) -> Row:
    """Run the forward loop on a file of images [N, channels, H, W] of bytes."""
    command = [loop, model, raw, shape[1], shape[2], batch, arguments.seconds, arguments.threads]
    done = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, check=True, env=program_environment()
    )
    said = json.loads(done.stdout)
    return {"requests_s": said["images_s"], "p50_ms": said["p50_ms"], "p95_ms": said["p95_ms"],
            "mean_batch": float(batch)}  # fmt: skip


def compare(arguments: argparse.Namespace, model: Path, images: NDArray[np.uint8], folder: Path) -> None:
    """Measure in rounds, each system after the other, so that a slow minute of the machine is everybody's."""
    name, seconds = arguments.model, arguments.seconds
    answers = expected(model, images)
    raw = folder / "images.raw"
    raw.write_bytes(images[:16].tobytes())
    loop = forward_loop()

    def ceiling(concurrency: int) -> Row:
        batch = min(concurrency, arguments.max_batch)
        return forward_rate(loop, model, raw, images.shape, batch, arguments)

    def ours(concurrency: int, process: int, port: int, grpc_port: int = 0) -> Row:
        before = counters(port, name)
        made = grpc_request if grpc_port else infer_request
        client = load(folder, [made(name, image) for image in images], answers, grpc_port or port,
                      seconds=seconds, concurrency=concurrency, binary=True, grpc=grpc_port > 0)  # fmt: skip
        result = finish(client)
        done_images, batches = (b - a for a, b in zip(before, counters(port, name), strict=True))
        return {**result, "mean_batch": done_images / batches, "rss_mib": resident_mib(process)}

    def theirs(concurrency: int, process: int, port: int) -> Row:
        path = f"/raw/{images.shape[1]}/{images.shape[2]}"
        requests = [http(path, image.tobytes()) for image in images]
        client = load(folder, requests, answers, port, seconds=seconds, concurrency=concurrency, binary=False)
        return {**finish(client), "mean_batch": 1.0, "rss_mib": resident_mib(process)}

    options = [
        *("--grpc-port", "0"),
        *arguments.server_options,
        *(["--threads", str(arguments.threads)] if arguments.threads else []),
    ]
    with ExitStack() as running:
        server = labelassemble_serve(arguments.repository, options, arguments.program)
        process, port, grpc_port = running.enter_context(server)
        systems = {
            "forward loop": ceiling,
            OVER_HTTP: partial(_on, ours, (process, port)),
            OVER_GRPC: partial(_on, partial(ours, grpc_port=grpc_port), (process, port)),
        }
        for number, (title, file) in enumerate(
            [(BY_HAND, None if arguments.no_by_hand else model), (BY_HAND_EAGER, arguments.eager)]
        ):
            if file is not None:
                hand = running.enter_context(by_hand(file, arguments.by_hand_port + number))
                systems[title] = partial(_on, theirs, hand)
        rows = []
        for concurrency in arguments.concurrency:
            found: dict[str, list[Row]] = {title: [] for title in systems}
            for _ in range(arguments.rounds):
                for title, system in systems.items():
                    found[title].append(system(concurrency))
            for title, rounds in found.items():
                row = {"system": title, "model": name, "concurrency": concurrency,
                       **_over_rounds(rounds, found["forward loop"])}  # fmt: skip
                rows.append(row)
                show(row)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    with arguments.output.open("w", newline="") as file:
        file.write(
            f"# {machine()}; medians of {arguments.rounds} rounds of {seconds:g} s; image {list(images.shape[1:])}\n"
        )
        writer = csv.DictWriter(file, COLUMNS, extrasaction="ignore")
        writer.writeheader()
        writer.writerows([{key: _short(value) for key, value in row.items()} for row in rows])
    print(f"Table: {arguments.output}")


def _on(system: Callable[[int, int, int], Row], server: tuple[int, int], concurrency: int) -> Row:
    return system(concurrency, *server)


def _over_rounds(rounds: Sequence[Row], ceilings: Sequence[Row]) -> Row:
    """Return medians; of_ceiling and over_ms are of the rounds' own ceilings; wrong, refused and lost are added up."""
    row = {key: median(one[key] for one in rounds) for key in rounds[0]}
    row |= {key: sum(one[key] for one in rounds) for key in ("wrong", "refused", "lost") if key in row}
    pairs = list(zip(rounds, ceilings, strict=True))
    row["of_ceiling"] = median(one["requests_s"] / other["requests_s"] for one, other in pairs)
    row["over_ms"] = median(one["p50_ms"] - other["p50_ms"] for one, other in pairs)
    return row


def soak(arguments: argparse.Namespace, model: Path, images: NDArray[np.uint8], folder: Path) -> None:
    """Load with clients that vanish; memory every few seconds; fails for a wrong or lost answer, or growth."""
    answers = expected(model, images)
    with labelassemble_serve(arguments.repository, arguments.server_options, arguments.program) as (
        process,
        port,
        _,
    ):
        start = time.monotonic()
        client = load(folder, [infer_request(arguments.model, image) for image in images], answers, port,
                      seconds=arguments.soak, concurrency=64, binary=True, vanish=0.02)  # fmt: skip
        memory = []
        while client.poll() is None:
            memory.append((time.monotonic() - start, resident_mib(process)))
            time.sleep(min(5.0, arguments.soak / 20))
        result = finish(client)
    settling = min(60.0, arguments.soak / 3)
    settled = [mib for at, mib in memory if at >= settling]
    growth = float(np.mean(settled[-5:]) - np.mean(settled[:5]))
    print(f"# {machine()}")
    spread = f"{min(settled):.1f} to {max(settled):.1f} MiB"
    print(f"memory after the first {settling:.0f} s: {spread}, growth {growth:+.1f} MiB")
    tenths = memory[:: max(1, len(memory) // 10)]
    print("over time: " + ", ".join(f"{at:.0f} s {mib:.1f}" for at, mib in tenths))
    print("  ".join(f"{key} {_short(value)}" for key, value in result.items()))
    bad = result["wrong"] + result["lost"]
    if bad or growth > 16:
        raise SystemExit(f"{bad} answers wrong or lost, memory grew by {growth:.1f} MiB")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("repository", type=Path, metavar="MODELS")
    parser.add_argument("--model", required=True)
    parser.add_argument("--images", type=Path, help="a folder of PNG or JPEG files instead of digits")
    parser.add_argument("--concurrency", type=int, nargs="+", default=[1, 4, 16, 64])
    parser.add_argument("--seconds", type=float, default=5.0, help="for each round of a row")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument(
        "--eager",
        type=Path,
        help="the model's network with its preprocessing, as torch.save writes a module: served by hand too",
    )
    parser.add_argument("--max-batch", type=int, default=16, help="the model's max_batch_size")
    parser.add_argument("--threads", type=int, default=0, help="of ceiling and server; 0: one a core")
    parser.add_argument("--server-options", nargs="*", default=[], metavar="OPTION")
    parser.add_argument("--program", type=Path, help="another build of labelassemble-serve")
    parser.add_argument("--no-by-hand", action="store_true", help="without FastAPI")
    parser.add_argument("--by-hand-port", type=int, default=8917)
    parser.add_argument("--soak", type=float, metavar="SECONDS")
    parser.add_argument("--output", type=Path, default=HERE / "results" / "serve_cpu.csv")
    arguments = parser.parse_args()
    model = arguments.repository / arguments.model / "1" / "model.pt"
    described = load_metadata(model).input
    images = pictures(arguments.images, described.channels, described.size, 64)
    with tempfile.TemporaryDirectory(prefix="labelassemble-") as folder:
        (soak if arguments.soak else compare)(arguments, model, images, Path(folder))


if __name__ == "__main__":
    main()
