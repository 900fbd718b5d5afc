"""Liveness of labelassemble-serve beside load, and its rate for image files of the size that hospitals send.

    python benchmarks/serve_traffic.py MODELS --model densenet121      # benchmarks/results/serve_traffic_cpu.csv
    python benchmarks/serve_traffic.py MODELS --model densenet121 --rows png jpeg --append

MODELS is a model repository (`benchmarks/export.py prepare` writes one). Rows: `arrays`, 64 clients that send images of
the model's size as they are; `png` and `jpeg`, 16 clients that send files of 2500x2048 grey pixels (scikit-learn's
digits, enlarged, with the noise of a radiograph, or the files of --images). Each over HTTP and over gRPC, while a
process of its own asks every 100 ms whether the server lives. Beside them the decoder's own rate
(labelassemble._images) on one and two threads, and the model's forward loop in C++ at its batch; of_ceiling is the
share of the forward loop for arrays, and for files of decoding on two threads and then computing at that loop's rate,
without resizing and without HTTP.
"""

import argparse
import csv
import io
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from harness import machine
from numpy.typing import NDArray
from PIL import Image
from serve import (
    OVER_GRPC,
    OVER_HTTP,
    _short,
    expected,
    finish,
    forward_loop,
    forward_rate,
    grpc_request,
    http,
    infer_request,
    labelassemble_serve,
    load,
    pictures,
    show,
)

from labelassemble._images import decode
from labelassemble.export import load_metadata

HERE = Path(__file__).parent
HEIGHT, WIDTH = 2500, 2048
JPEG_QUALITY = 95
NOISE = 3.0  # standard deviation, in grey levels of 255
Row = dict[str, Any]
COLUMNS = (
    "traffic", "system", "concurrency", "file_kib", "requests_s", "of_ceiling", "p50_ms", "p99_ms", "live_p50_ms",
    "live_p99_ms", "live_max_ms", "probes", "wrong", "refused", "lost",
)  # fmt: skip
CLIENTS = {"arrays": 64, "png": 16, "jpeg": 16}


def radiograph_files(kind: str, folder: Path | None, count: int = 8) -> list[bytes]:
    """Return image files of one kind, HEIGHT x WIDTH grey pixels, or those of a folder."""
    if folder is not None:
        endings = (".png",) if kind == "png" else (".jpg", ".jpeg")
        return [path.read_bytes() for path in sorted(folder.iterdir()) if path.suffix.lower() in endings]
    from sklearn.datasets import load_digits

    draw = np.random.default_rng(0)
    files = []
    for digit in load_digits().images[:count]:
        large = Image.fromarray((digit * 255 / 16).astype(np.uint8)).resize(
            (WIDTH, HEIGHT), Image.Resampling.BICUBIC
        )
        noisy = np.asarray(large) + draw.normal(0, NOISE, (HEIGHT, WIDTH))
        buffer = io.BytesIO()
        options = {"quality": JPEG_QUALITY} if kind == "jpeg" else {}
        Image.fromarray(noisy.round().clip(0, 255).astype(np.uint8)).save(buffer, kind.upper(), **options)
        files.append(buffer.getvalue())
    return files


def decoded(file: bytes) -> NDArray[np.uint8]:
    """Return the pixels [channels, H, W] of a file."""
    samples = decode(file)
    assert not isinstance(samples, str), samples
    return samples[0]  # type: ignore[no-any-return]


def decoding_rate(files: list[bytes], threads: int, seconds: float) -> float:
    """Return files a second that this many threads decode together."""
    counts = [0] * threads
    end = time.perf_counter() + seconds

    def work(number: int) -> None:
        while time.perf_counter() < end:
            decoded(files[(number + counts[number]) % len(files)])
            counts[number] += 1

    running = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
    start = time.perf_counter()
    for one in running:
        one.start()
    for one in running:
        one.join()
    return sum(counts) / (time.perf_counter() - start)


def file_request(name: str, file: bytes) -> bytes:
    """Return an inference request of HTTP whose body is an image file."""
    return http(f"/v2/models/{name}/infer", file, "Inference-Header-Content-Length: 0\r\n")


def grpc_file_request(name: str, file: bytes) -> bytes:
    """Return the same as a message of gRPC."""
    from tritonclient.grpc import service_pb2

    request = service_pb2.ModelInferRequest(model_name=name)
    request.inputs.add(name="INPUT__0", datatype="BYTES", shape=[1])
    request.raw_input_contents.append(len(file).to_bytes(4, "little") + file)
    return request.SerializeToString()  # type: ignore[no-any-return]


def under_load(
    folder: Path, requests: list[bytes], answers: list[list[float]], port: int, seconds: float, **plan: Any
) -> Row:
    """Load the server while its liveness is asked for; return what the client and the probe saw."""
    client = load(folder, requests, answers, port, seconds=seconds, **plan)
    command = [sys.executable, str(HERE / "serve_probe.py"), str(port), str(seconds)]
    probe = subprocess.run(
        [*command, "grpc"] if plan["grpc"] else command, stdout=subprocess.PIPE, text=True, check=True
    )
    return {**finish(client), "live": json.loads(probe.stdout)}


def over_rounds(rounds: list[Row]) -> Row:
    """Return medians, all probes together, and sums of what went wrong."""
    row: Row = {key: median(one[key] for one in rounds) for key in ("requests_s", "of_ceiling")}
    if "live" not in rounds[0]:
        return row
    row |= {key: median(one[key] for one in rounds) for key in ("p50_ms", "p99_ms")}
    row |= {key: sum(one[key] for one in rounds) for key in ("wrong", "refused", "lost")}
    live = [took for one in rounds for took in one["live"]]
    row |= {
        "live_p50_ms": float(np.percentile(live, 50)),
        "live_p99_ms": float(np.percentile(live, 99)),
        "live_max_ms": max(live),
        "probes": len(live),
    }
    return row


def traffic(
    kind: str, arguments: argparse.Namespace, model: Path, ports: tuple[int, int], folder: Path
) -> list[Row]:
    """Measure one kind of traffic in rounds; return a row for each ceiling and protocol."""
    described = load_metadata(model).input
    small = pictures(None, described.channels, described.size, 64)
    raw = folder / "images.raw"
    raw.write_bytes(small[:16].tobytes())
    loop, name = forward_loop(), arguments.model
    files = [] if kind == "arrays" else radiograph_files(kind, arguments.images)
    if files:
        answers = [expected(model, decoded(file)[None])[0] for file in files]
        sent = [file_request(name, file) for file in files], [grpc_file_request(name, file) for file in files]
    else:
        answers = expected(model, small)
        sent = [infer_request(name, one) for one in small], [grpc_request(name, one) for one in small]

    def forward() -> float:
        return float(
            forward_rate(loop, model, raw, small.shape, arguments.max_batch, arguments)["requests_s"]
        )

    ceilings: dict[str, Callable[[], float]] = {"forward loop": forward}
    if files:
        for threads in (1, 2):
            title = f"decoder, {threads} thread{'s' * (threads > 1)}"
            ceilings[title] = partial(decoding_rate, files, threads, arguments.seconds)
    found: dict[str, list[Row]] = {}
    for _ in range(arguments.rounds):
        rates = {title: measure() for title, measure in ceilings.items()}
        bound = 1 / sum(1 / rates[title] for title in rates if title != "decoder, 1 thread")
        for title, rate in rates.items():
            found.setdefault(title, []).append({"requests_s": rate, "of_ceiling": rate / bound})
        for title, port, requests in zip((OVER_HTTP, OVER_GRPC), ports, sent, strict=True):
            grpc = title == OVER_GRPC
            row = under_load(
                folder, requests, answers, port, arguments.seconds,
                concurrency=CLIENTS[kind], binary=grpc or not files, grpc=grpc,
            )  # fmt: skip
            found.setdefault(title, []).append({**row, "of_ceiling": row["requests_s"] / bound})
    kib = sum(map(len, files)) / len(files) / 1024 if files else small[0].nbytes / 1024
    rows = []
    for title, rounds in found.items():
        row = {"traffic": kind, "system": title, "file_kib": kib, **over_rounds(rounds)}
        if "live_p99_ms" in row:
            row["concurrency"] = CLIENTS[kind]
        rows.append(row)
        show(row, COLUMNS)
    return rows


def main() -> None:
    """Parse the command line, measure, write the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("repository", type=Path, metavar="MODELS")
    parser.add_argument("--model", required=True)
    parser.add_argument("--rows", nargs="+", choices=sorted(CLIENTS), default=list(CLIENTS))
    parser.add_argument("--images", type=Path, help="a folder of PNG or JPEG files instead of digits")
    parser.add_argument("--seconds", type=float, default=10.0, help="for each protocol of each round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--max-batch", type=int, default=16, help="the model's max_batch_size")
    parser.add_argument("--threads", type=int, default=0, help="of ceiling and server; 0: one a core")
    parser.add_argument("--server-options", nargs="*", default=[], metavar="OPTION")
    parser.add_argument("--program", type=Path, help="another build of labelassemble-serve")
    parser.add_argument("--append", action="store_true", help="add the rows to the table that is there")
    parser.add_argument("--output", type=Path, default=HERE / "results" / "serve_traffic_cpu.csv")
    arguments = parser.parse_args()
    model = arguments.repository / arguments.model / "1" / "model.pt"
    threads = ["--threads", str(arguments.threads)] if arguments.threads else []
    options = ["--grpc-port", "0", *arguments.server_options, *threads]
    rows = []
    head = f"# {machine()}; medians of {arguments.rounds} rounds of {arguments.seconds:g} s\n"
    with tempfile.TemporaryDirectory(prefix="labelassemble-") as folder:
        for kind in arguments.rows:
            with labelassemble_serve(arguments.repository, options, arguments.program) as (_, *ports):
                rows += traffic(kind, arguments, model, (ports[0], ports[1]), Path(folder))
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    with arguments.output.open("a" if arguments.append else "w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        if not arguments.append:
            file.write(head)
            writer.writeheader()
        writer.writerows([{key: _short(value) for key, value in row.items()} for row in rows])
    print(f"Table: {arguments.output}")


if __name__ == "__main__":
    main()
