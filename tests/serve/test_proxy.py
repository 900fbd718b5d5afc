"""The example of nginx in front of the server: TLS, a bearer token, limits, and connections that stay open."""

import http.client
import json
import os
import re
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.http as triton
import yaml
from tritonclient.utils import InferenceServerException

DEPLOYMENT = Path(__file__).parents[2] / "examples" / "deployment"
TOKEN = "5a" * 32


def _needed(name: str) -> str:
    program = shutil.which(name) or shutil.which(name, path="/usr/sbin")
    if program is None:
        pytest.skip(f"{name} is not installed: apt-get install nginx-light openssl")
    return program


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


class Proxy:
    """nginx as the example has it, with other ports and folders."""

    def __init__(self, folder: Path, server_port: int, grpc_port: int, *more: int) -> None:
        self.port = _free_port()
        (folder / "nginx").mkdir()
        (folder / "tokens.conf").write_text(f'"Bearer {TOKEN}" 1;\n')
        subprocess.run(
            [_needed("openssl"), "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
             "-nodes", "-days", "1", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1",
             "-keyout", folder / "tls.key", "-out", folder / "tls.crt"],
            check=True, capture_output=True,
        )  # fmt: skip
        text = (DEPLOYMENT / "nginx.conf").read_text()
        for old, new in (
            ("listen 8443 ssl http2;", f"listen 127.0.0.1:{self.port} ssl http2;"),
            (
                "server 127.0.0.1:8000;",
                " ".join(f"server 127.0.0.1:{port};" for port in (server_port, *more)),
            ),
            ("server 127.0.0.1:8001;", f"server 127.0.0.1:{grpc_port};"),
            ("/etc/labelassemble/", f"{folder}/"),
            ("/tmp/nginx/", f"{folder}/nginx/"),
        ):
            assert old in text
            text = text.replace(old, new)
        (folder / "nginx.conf").write_text(text)
        self.certificate = folder / "tls.crt"
        self.context = ssl.create_default_context(cafile=str(self.certificate))
        # The worker of a nginx that root starts is another user, who may not read the folders of tests.
        user = " user root;" if os.geteuid() == 0 else ""
        self.errors = folder / "errors.log"  # a line for each request over the limit: a pipe would be full
        with self.errors.open("wb") as errors:
            self.process = subprocess.Popen(
                [_needed("nginx"), "-c", folder / "nginx.conf", "-g", f"daemon off;{user}"], stderr=errors
            )

    def connect(self) -> http.client.HTTPSConnection:
        return http.client.HTTPSConnection("127.0.0.1", self.port, context=self.context, timeout=60)

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, Any]:
        """Return the status and what the JSON of the answer says."""
        connection = self.connect()
        connection.request(
            method, path, body, {name.replace("_", "-"): value for name, value in headers.items()}
        )
        answer = connection.getresponse()
        text = answer.read()
        connection.close()
        return answer.status, json.loads(text)


@contextmanager
def _proxied(folder: Path, server_port: int, grpc_port: int, *more: int) -> Iterator[Proxy]:
    proxy = Proxy(folder, server_port, grpc_port, *more)
    try:
        end = time.monotonic() + 60
        while True:
            try:
                socket.create_connection(("127.0.0.1", proxy.port), timeout=1).close()
                break
            except OSError:
                assert proxy.process.poll() is None, proxy.errors.read_text()
                assert time.monotonic() < end
                time.sleep(0.05)
        yield proxy
    finally:
        proxy.process.terminate()
        proxy.process.wait(timeout=60)


@pytest.fixture(scope="module")
def proxy(both: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    _needed("nginx")
    with _proxied(tmp_path_factory.mktemp("proxy"), both.port, both.grpc_port) as one:
        yield one


AUTHORIZED = {"Authorization": f"Bearer {TOKEN}"}


def test_only_with_a_token_but_for_probes(proxy: Proxy) -> None:
    assert proxy.ask("GET", "/v2/health/live") == (200, {"live": True})
    assert proxy.ask("GET", "/v2/health/ready") == (200, {"ready": True})
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": TOKEN}, {"Authorization": ""}):
        for path in ("/v2/models/grey", "/metrics", "/v2/health/../models/grey", "/v2"):
            status, answer = proxy.ask("GET", path, **headers)
            assert (status, "a bearer token" in answer["error"]) == (401, True)
        assert proxy.ask("POST", "/v2/models/grey/infer", b"{}", **headers)[0] == 401
    assert proxy.ask("GET", "/v2/models/grey", **AUTHORIZED)[1]["name"] == "grey"


def test_a_probe_of_http_1_0_names_no_host(proxy: Proxy) -> None:
    plain = socket.create_connection(("127.0.0.1", proxy.port), timeout=60)
    with proxy.context.wrap_socket(plain, server_hostname="localhost") as connection:
        connection.sendall(b"GET /v2/health/live HTTP/1.0\r\n\r\n")
        with http.client.HTTPResponse(connection) as answer:
            answer.begin()
            assert (answer.status, json.loads(answer.read())) == (200, {"live": True})


def test_without_tls_nothing_is_answered(proxy: Proxy) -> None:
    plain = http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=60)
    plain.request("GET", "/v2/models/grey", headers=AUTHORIZED)
    assert plain.getresponse().status == 400
    plain.close()
    with pytest.raises(ssl.SSLCertVerificationError):
        http.client.HTTPSConnection(
            "127.0.0.1", proxy.port, context=ssl.create_default_context(), timeout=60
        ).connect()


def test_a_client_of_triton(proxy: Proxy, models: Any, images: Any) -> None:
    image = images[0]
    wanted = triton.InferInput("INPUT__0", [1, *image.shape], "UINT8")
    wanted.set_data_from_numpy(image[None])
    trusted = {"ca_certs": str(proxy.certificate)}
    with triton.InferenceServerClient(f"127.0.0.1:{proxy.port}", ssl=True, ssl_options=trusted) as client:
        answer = client.infer("grey", [wanted], model_version="1", headers=AUTHORIZED).as_numpy("OUTPUT__0")
    np.testing.assert_allclose(answer, models["grey", 1].probabilities([image]), atol=1e-6)


def test_a_client_of_triton_over_grpc(proxy: Proxy, models: Any, images: Any) -> None:
    grpc = pytest.importorskip("tritonclient.grpc")
    image = images[0]
    wanted = grpc.InferInput("INPUT__0", [1, *image.shape], "UINT8")
    wanted.set_data_from_numpy(image[None])
    with grpc.InferenceServerClient(
        f"localhost:{proxy.port}", ssl=True, root_certificates=str(proxy.certificate)
    ) as client:
        token = {"authorization": AUTHORIZED["Authorization"]}
        answer = client.infer("grey", [wanted], model_version="1", headers=token).as_numpy("OUTPUT__0")
        for headers in ({}, {"authorization": "Bearer wrong"}):
            with pytest.raises(InferenceServerException, match="UNAUTHENTICATED"):
                client.infer("grey", [wanted], headers=headers)
        large = grpc.InferInput("INPUT__0", [1, 1, 65, 1 << 20], "UINT8")
        large.set_data_from_numpy(np.zeros((1, 1, 65, 1 << 20), np.uint8))
        with pytest.raises(InferenceServerException, match=r"RESOURCE_EXHAUSTED.*larger than 64 MiB"):
            client.infer("grey", [large], headers=token)
    np.testing.assert_allclose(answer, models["grey", 1].probabilities([image]), atol=1e-6)


def test_image_files_on_one_connection(proxy: Proxy, both: Any, models: Any, images: Any, png: Any) -> None:
    connection = proxy.connect()
    for image in (images[0], images[1], images[6]) * 5:
        headers = {**AUTHORIZED, "Inference-Header-Content-Length": "0"}
        connection.request("POST", "/v2/models/grey/versions/1/infer", png(image), headers)
        answer = connection.getresponse()
        assert answer.status == 200
        row = json.loads(answer.read())["outputs"][0]["data"]
        np.testing.assert_allclose(row, models["grey", 1].probabilities([image])[0], atol=1e-6)
    connection.close()
    open_ones = re.search(rb"^labelassemble_http_connections (\d+)$", both.request("/metrics").body, re.M)
    assert open_ones is not None
    assert 2 <= int(open_ones[1]) <= 6  # this one, and what the proxy has kept for the next request


def test_what_is_too_large_or_too_much(proxy: Proxy) -> None:
    connection = proxy.connect()
    connection.putrequest("POST", "/v2/models/grey/infer")
    for name, value in {**AUTHORIZED, "Content-Length": str((64 << 20) + 1)}.items():
        connection.putheader(name, value)
    connection.endheaders()
    answer = connection.getresponse()
    assert (answer.status, json.loads(answer.read())["error"]) == (413, "the body is larger than 64 MiB")
    connection.close()

    connection = proxy.connect()
    statuses = []
    for _ in range(400):
        connection.request("GET", "/v2/models/grey", headers=AUTHORIZED)
        answer = connection.getresponse()
        answer.read()
        statuses.append(answer.status)
        if answer.will_close:
            connection.close()
            connection = proxy.connect()
    assert statuses.count(200) >= 50  # of the burst of 100 other tests have had some
    assert set(statuses) <= {200, 429}
    assert proxy.ask("GET", "/v2/health/live")[0] == 200
    connection.close()


def test_a_server_that_is_not_there(tmp_path: Path) -> None:
    _needed("nginx")
    with _proxied(tmp_path, _free_port(), _free_port()) as proxy:
        status, answer = proxy.ask("GET", "/v2/models/grey", **AUTHORIZED)
    assert (status, answer["error"]) == (503, "the server is not there, or did not answer in time")


def _answered(server: Any) -> int:
    found = re.search(
        rb'^nv_inference_request_success\{model="grey",version="1"\} (\d+)$',
        server.request("/metrics").body,
        re.M,
    )
    return int(found[1]) if found else 0


def test_two_servers_answer_alike_and_one_goes_on_alone(
    serving: Any, repository: Path, models: Any, images: Any, png: Any, tmp_path: Path
) -> None:
    _needed("nginx")
    headers = {**AUTHORIZED, "Inference-Header-Content-Length": "0"}
    want = models["grey", 1].probabilities([images[0]])[0]
    with (
        serving(repository) as first,
        serving(repository) as second,
        _proxied(tmp_path, first.port, _free_port(), second.port) as proxy,
    ):

        def ask(times: int) -> None:
            for _ in range(times):
                path = "/v2/models/grey/versions/1/infer"
                status, answer = proxy.ask("POST", path, png(images[0]), **headers)
                assert status == 200, answer
                np.testing.assert_allclose(answer["outputs"][0]["data"], want, atol=1e-6)

        ask(10)
        assert [_answered(server) for server in (first, second)] == [5, 5]
        first.process.kill()
        first.process.wait(timeout=60)
        ask(10)
        assert _answered(second) == 15
        for _ in range(4):
            assert proxy.ask("GET", "/v2/health/ready") == (200, {"ready": True})


def test_pods_with_a_gpu_differ_by_nothing_else() -> None:
    plain, gpu = (
        yaml.safe_load((DEPLOYMENT / name).read_text())
        for name in ("inference_service.yaml", "inference_service_gpu.yaml")
    )
    predictor = gpu["spec"]["predictor"]
    (container,), (other,) = predictor["containers"], plain["spec"]["predictor"]["containers"]
    assert predictor["minReplicas"] == predictor["maxReplicas"]
    assert container["resources"]["limits"].pop("nvidia.com/gpu") == "1"
    container["args"].remove("--device=cuda")
    predictor["minReplicas"] = plain["spec"]["predictor"]["minReplicas"]
    container |= {name: other[name] for name in ("image", "resources")}
    assert gpu == plain
