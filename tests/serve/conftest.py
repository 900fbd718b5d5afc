"""A model repository of tiny networks, and labelassemble-serve running on it."""

import io
import json
import math
import os
import re
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from labelassemble.errors import LabelAssembleError
from labelassemble.export import export_torchscript, find_program
from labelassemble.export.native import SERVER, program_environment
from labelassemble.views.preprocess import Preprocess

CLASSES = ("one", "two, too", "three")
CONFIG = """
name: "{name}"
backend: "pytorch"
max_batch_size: 4  # a small one, so that tests reach it
input [ {{ name: "INPUT__0" data_type: {type} dims: [ -1, -1, -1 ] }} ]
output [ {{ name: "OUTPUT__0" data_type: TYPE_FP32 dims: [ 3 ] label_filename: "labels.txt" }} ]
dynamic_batching {{ max_queue_delay_microseconds: {delay} }}
version_policy {{ all {{ }} }}
instance_group [ {{ count: 1 kind: KIND_CPU }} ]
"""


class TinyNet(nn.Module):
    """Of AssembleNet's shape: a backbone, then a linear head."""

    def __init__(self, channels: int, seed: int, width: int = 8, depth: int = 0) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            deeper = [nn.Conv2d(width, width, 3, padding=1) for _ in range(depth)]
            self.backbone = nn.Sequential(
                nn.Conv2d(channels, width, 3, padding=1),
                nn.ReLU(),
                *deeper,
                nn.AdaptiveAvgPool2d(2),
                nn.Flatten(),
            )
            self.head = nn.Linear(width * 4, len(CLASSES))
        self.head.weight.data *= 5  # so that probabilities differ from image to image

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.backbone(images))


@dataclass
class Served:
    """A network with its view: what Python answers."""

    network: nn.Module
    preprocess: Preprocess

    def probabilities(self, images: Sequence[NDArray[Any]]) -> NDArray[np.float32]:
        """[N, 3] for images uint8 or float [channels, H, W] of any sizes."""
        self.network.eval()
        with torch.inference_mode():
            prepared = torch.cat([self.preprocess(torch.from_numpy(image.copy())[None]) for image in images])
            return torch.sigmoid(self.network(prepared)).numpy()

    def export(
        self,
        folder: Path,
        version: int,
        images: Sequence[NDArray[np.uint8]],
        thresholds: dict[str, float | None] | None = None,
    ) -> None:
        (folder / str(version)).mkdir(parents=True)
        export_torchscript(
            self.network,
            folder / str(version) / "model.pt",
            classes=CLASSES,
            preprocess=self.preprocess,
            images=images,
            thresholds=thresholds,
        )


def _write_config(folder: Path, *, type: str = "TYPE_UINT8", delay: int = 50_000, extra: str = "") -> None:
    folder.mkdir(exist_ok=True)
    config = CONFIG.format(name=folder.name, type=type, delay=delay) + extra
    (folder / "config.pbtxt").write_text(config)
    (folder / "labels.txt").write_text("\n".join(CLASSES) + "\n")


@dataclass
class Running:
    """A server that runs."""

    process: subprocess.Popen[bytes]
    port: int = 0
    grpc_port: int = 0  # of a server that was asked to answer gRPC
    said: list[str] = field(default_factory=list)  # lines of its standard error
    access: list[dict[str, Any]] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def grpc_url(self) -> str:
        return f"127.0.0.1:{self.grpc_port}"

    def wait_until(self, condition: Callable[[], bool], what: str, seconds: float = 60) -> None:
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, f"{what} did not happen; the server said {self.said}"
            time.sleep(0.01)

    def wait_for(self, text: str) -> None:
        self.wait_until(lambda: any(text in line for line in self.said), text)

    def stop(self) -> int:
        """SIGTERM; return the exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=60)

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=60)

    def send(self, data: bytes, *, end: bool = False) -> "Answer":
        """Send bytes on a new connection, and read one answer."""
        with self.connect() as connection:
            connection.sendall(data)
            if end:
                connection.shutdown(socket.SHUT_WR)
            return _read_answer(connection)

    def request(
        self, path: str, body: bytes = b"", headers: dict[str, str] | None = None, method: str | None = None
    ) -> "Answer":
        lines = [f"{method or ('POST' if body else 'GET')} {path} HTTP/1.1", "Host: x"]
        lines += [f"Content-Length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
        return self.send("\r\n".join([*lines, "", ""]).encode() + body)


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def error(self) -> str:
        return str(json.loads(self.body)["error"])

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def _read_answer(connection: socket.socket) -> Answer:
    data = b""
    while not data.endswith(b"\r\n\r\n"):  # not a byte more, since the next answer may have come
        part = connection.recv(1)
        assert part, f"the server closed the connection after {data!r}"
        data += part
    head, body = data.removesuffix(b"\r\n\r\n"), b""
    first, *lines = head.decode().split("\r\n")
    headers = {name.lower(): value.strip() for name, value in (line.split(":", 1) for line in lines)}
    while missing := int(headers.get("content-length", 0)) - len(body):
        part = connection.recv(missing)
        assert part, "the server closed the connection within a body"
        body += part
    return Answer(int(first.split()[1]), headers, body)


@contextmanager
def _serving(repository: Path, *options: str, ready: bool = True, strict: bool = False) -> Iterator[Running]:
    # Not strict, since some of the models are broken on purpose.
    readiness = [] if strict else ["--no-strict-readiness"]
    command: list[str | Path] = [_program(), "--model-repository", repository, "--port", "0", *readiness]
    command += options
    environment = {**program_environment(), "OMP_NUM_THREADS": "1"}
    wrapper = os.environ.get("LABELASSEMBLE_SERVE_WRAPPER", "").split()
    process = subprocess.Popen(
        [*wrapper, *command], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    running = Running(process)

    def read_said() -> None:
        assert process.stderr is not None
        for line in process.stderr:
            text = line.decode(errors="replace").rstrip()
            running.said.append(text)
            if listening := re.search(r"listening on http://127\.0\.0\.1:(\d+)$", text):
                running.port = int(listening[1])
            if answering := re.search(r"answering gRPC on 127\.0\.0\.1:(\d+)$", text):
                running.grpc_port = int(answering[1])

    def read_access() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            running.access.append(json.loads(line))

    threads = [threading.Thread(target=read) for read in (read_said, read_access)]
    for thread in threads:
        thread.start()
    try:
        running.wait_until(lambda: running.port != 0 or process.poll() is not None, "listening")
        if "--grpc-port" in options and any("built without gRPC" in line for line in running.said):
            pytest.skip(running.said[-1])
        if ready:
            running.wait_until(
                lambda: "labelassemble-serve: ready" in running.said or process.poll() is not None, "ready"
            )
            assert process.poll() is None, running.said
        yield running
        if process.poll() is None:
            assert running.stop() == 0, running.said
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        for thread in threads:
            thread.join()
        for pipe in (process.stdout, process.stderr):
            assert pipe is not None
            pipe.close()


def _program() -> Path:
    """The server; another build of it where LABELASSEMBLE_SERVE_PROGRAM names one."""
    other = os.environ.get("LABELASSEMBLE_SERVE_PROGRAM")
    if other:
        return Path(other)
    try:
        return find_program(SERVER)
    except LabelAssembleError as error:
        pytest.skip(f"{error}; labelassemble doctor says what it needs")


@pytest.fixture(scope="session")
def images() -> list[NDArray[np.uint8]]:
    """Grey and colour, of several sizes."""
    rng = np.random.default_rng(0)
    shapes = [(1, 12, 12), (3, 12, 12), (1, 5, 40), (3, 64, 7), (1, 1, 1), (3, 100, 150), (1, 12, 12)]
    return [rng.integers(0, 256, shape, dtype=np.uint8) for shape in shapes]


@pytest.fixture(scope="session")
def models() -> dict[tuple[str, int], Served]:
    grey = Preprocess(channels=1, size=12, mean=[0.4], std=[0.3])
    colour = Preprocess(channels=3, size=16, mean=[0.4, 0.5, 0.6], std=[0.3, 0.3, 0.2])
    return {
        ("grey", 1): Served(TinyNet(1, seed=1), grey),
        ("grey", 2): Served(TinyNet(1, seed=2), grey),
        ("colour floats", 1): Served(TinyNet(3, seed=3), colour),
    }


class Overflowing(nn.Module):
    """The second logit of a white image is infinite in float32."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.head = nn.Linear(1, 3, bias=False)
        self.head.weight.data = torch.tensor([[1.0], [2e38], [0.0]])

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.backbone(images))
        return logits


@pytest.fixture(scope="session")
def repository(
    tmp_path_factory: pytest.TempPathFactory,
    models: dict[tuple[str, int], Served],
    images: list[NDArray[np.uint8]],
) -> Path:
    """Two models that serve, one of them in two versions, one that overflows for white images, three that cannot."""
    root = tmp_path_factory.mktemp("repository")
    for (name, version), served in models.items():
        served.export(root / name, version, images)
    grey = models["grey", 1].preprocess
    Served(Overflowing(), grey).export(
        root / "overflowing",
        1,
        [image for image in images if image.mean() < 200],
        thresholds={"one": 0.5, "two, too": None, "three": math.inf},
    )
    _write_config(root / "overflowing")
    _write_config(root / "grey")
    _write_config(root / "colour floats", type="TYPE_FP32")
    _write_config(root / "broken")
    (root / "broken" / "1").mkdir()
    (root / "broken" / "1" / "model.pt").write_bytes(b"PK\x03\x04 and then nothing that is a model")
    _write_config(root / "misspelt", extra="max_batchsize: 4")
    (root / "misspelt" / "1").mkdir()
    _write_config(root / "empty")
    (root / "README.txt").write_text("a file in the repository is no model")
    return root


@pytest.fixture(scope="session")
def server(repository: Path) -> Iterator[Running]:
    """One server for all the tests that leave it as it is."""
    with _serving(repository) as running:
        yield running


@pytest.fixture(scope="session")
def both(
    repository: Path,
    models: dict[tuple[str, int], Served],
    images: list[NDArray[np.uint8]],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Running]:
    """One server that answers HTTP and gRPC: the same models, and one of half floats."""
    root = tmp_path_factory.mktemp("both")
    for folder in repository.iterdir():
        (root / folder.name).symlink_to(folder)
    models["colour floats", 1].export(root / "halves", 1, images)
    _write_config(root / "halves", type="TYPE_FP16")
    with _serving(root, "--grpc-port", "0") as running:
        yield running


def _png(image: NDArray[np.uint8]) -> bytes:
    """An image [1 or 3, H, W] as PNG."""
    buffer = io.BytesIO()
    Image.fromarray(image[0] if image.shape[0] == 1 else image.transpose(1, 2, 0)).save(buffer, "PNG")
    return buffer.getvalue()


def _infer_body(shape: Sequence[int], data: Any, datatype: str = "UINT8", **more: Any) -> bytes:
    """An inference request in JSON."""
    tensor = {"name": "INPUT__0", "shape": list(shape), "datatype": datatype, "data": data}
    return json.dumps({"inputs": [tensor], **more}).encode()


@pytest.fixture(scope="session")
def serving() -> Any:
    """Start a server: ``with serving(repository, *options) as server``."""
    return _serving


@pytest.fixture(scope="session")
def program() -> Path:
    return _program()


@pytest.fixture(scope="session")
def read_answer() -> Any:
    return _read_answer


@pytest.fixture(scope="session")
def write_config() -> Any:
    return _write_config


@pytest.fixture(scope="session")
def png() -> Any:
    return _png


@pytest.fixture(scope="session")
def infer_body() -> Any:
    return _infer_body


@pytest.fixture(scope="session")
def slow_model() -> Any:
    """Export a network that takes a while for a batch of large images, to a repository."""

    def export(root: Path, *, delay: int = 1_000_000, extra: str = "", depth: int = 6) -> Served:
        served = Served(TinyNet(1, seed=5, width=32, depth=depth), Preprocess(1, 128, [0.5], [0.5]))
        served.export(root / "slow", 1, [np.zeros((1, 12, 12), np.uint8)])
        _write_config(root / "slow", delay=delay, extra=extra)
        return served

    return export
