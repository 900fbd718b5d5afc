"""A .pt2 package of AOTInductor in the server: alone, in batches, of every size of image, and reloaded under load."""

import shutil
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from labelassemble.export.parts import take_apart
from labelassemble.export.repository import RepositoryOptions, write_repository


def _tensor(array, of=triton):
    wanted = of.InferInput("INPUT__0", list(array.shape), np_to_triton_dtype(array.dtype))
    wanted.set_data_from_numpy(array)
    return wanted


@pytest.fixture(scope="module")
def exported(tmp_path_factory, models, images):
    """A repository of the first grey network."""
    folder = tmp_path_factory.mktemp("packages")
    parts = take_apart(
        models["grey", 1].network,
        classes=("one", "two, too", "three"),
        preprocess=models["grey", 1].preprocess,
        images=images,
    )
    write_repository(parts, folder, "exported", RepositoryOptions(model_format="pt2"))
    return folder / "exported"


@pytest.mark.slow
def test_a_package_answers_as_python_and_shares_batches(
    tmp_path, exported, models, images, serving, write_config, png
):
    served = models["grey", 1]
    write_config(tmp_path / "grey", delay=300_000)
    (tmp_path / "exported").symlink_to(exported)
    shutil.copytree(tmp_path / "exported" / "1", tmp_path / "grey" / "1")
    with serving(tmp_path, strict=True) as server:
        with triton.InferenceServerClient(server.url, concurrency=8) as client:

            def ask(image):
                return client.infer("grey", [_tensor(image[None])]).as_numpy("OUTPUT__0")[0]

            for image in images:
                np.testing.assert_allclose(ask(image), served.probabilities([image])[0], atol=1e-5)
            batch = np.stack([images[0], images[6], images[0]])
            together = client.infer("grey", [_tensor(batch)]).as_numpy("OUTPUT__0")
            np.testing.assert_allclose(together, served.probabilities(list(batch)), atol=1e-5)
            many = list(images) * 8  # sizes differ, and share batches
            waiting = [client.async_infer("grey", [_tensor(image[None])]) for image in many]
            answers = [one.get_result().as_numpy("OUTPUT__0")[0] for one in waiting]
            np.testing.assert_allclose(np.stack(answers), served.probabilities(many), atol=1e-5)
            counted = client.get_inference_statistics("grey")["model_stats"][0]
            metadata = client.get_model_metadata("exported")
            floats = _tensor(images[0][None].astype(np.float32) / np.float32(255))
            answer = client.infer("exported", [floats]).as_numpy("OUTPUT__0")
            with pytest.raises(InferenceServerException, match=r"must have the shape \[-1, 1, -1, -1\]"):
                client.infer("exported", [_tensor(images[1][None].astype(np.float32) / np.float32(255))])
        np.testing.assert_allclose(answer, served.probabilities([images[0]]), atol=1e-5)
        assert metadata["platform"] == "torch_aoti"
        assert metadata["inputs"] == [{"name": "INPUT__0", "datatype": "FP32", "shape": [-1, 1, -1, -1]}]
        assert metadata["parameters"]["image_channels"] == [1]
        for image in images[:2]:  # a file may be in colour all the same
            headers = {"Inference-Header-Content-Length": "0"}
            row = server.request("/v2/models/exported/infer", png(image), headers).json["outputs"][0]["data"]
            np.testing.assert_allclose(row, served.probabilities([image])[0], atol=1e-5)
        assert counted["inference_count"] == len(images) + 3 + len(many)
        assert counted["execution_count"] < len(images) + 1 + len(many)


@pytest.mark.slow
def test_a_package_is_reloaded_under_load(tmp_path, exported, models, images, serving, write_config):
    write_config(tmp_path / "grey", delay=1000)
    shutil.copytree(exported / "1", tmp_path / "grey" / "1")
    python = models["grey", 1].probabilities(images)
    stop = threading.Event()
    options = ("--grpc-port", "0", "--model-control-mode", "explicit", "--load-model", "grey")

    def ask_until_stopped(of, url, number, seen):
        with of.InferenceServerClient(url) as client:
            for turn in range(number, 1_000_000):
                which = turn % len(images)
                answer = client.infer("grey", [_tensor(images[which][None], of)])
                response = answer.get_response()
                version = response["model_version"] if isinstance(response, dict) else response.model_version
                got = answer.as_numpy("OUTPUT__0")[0]
                np.testing.assert_allclose(got, python[which], atol=1e-5)
                seen.append(version)
                if stop.is_set():
                    return

    with serving(tmp_path, *options, strict=True) as server, ThreadPoolExecutor(8) as pool:
        protocols = [(triton, server.url), (triton_grpc, server.grpc_url)]
        all_seen = [[] for _ in range(8)]
        asking = [
            pool.submit(ask_until_stopped, *protocols[number % 2], number, seen)
            for number, seen in enumerate(all_seen)
        ]

        def wait_for_answers_of(version):
            before = [len(seen) for seen in all_seen]
            server.wait_until(
                lambda: (
                    any(one.done() for one in asking)  # which fails below
                    or all(version in seen[start:] for seen, start in zip(all_seen, before, strict=True))
                ),
                f"an answer of version {version} to each client",
            )

        try:
            with (
                triton.InferenceServerClient(server.url) as http,
                triton_grpc.InferenceServerClient(server.grpc_url) as grpc,
            ):
                wait_for_answers_of("1")
                for _ in range(3):
                    shutil.copytree(exported / "1", tmp_path / "grey" / "2")
                    http.load_model("grey")  # beside the first, and before it
                    wait_for_answers_of("2")
                    grpc.load_model("grey")  # the same files again
                    wait_for_answers_of("2")
                    shutil.rmtree(tmp_path / "grey" / "2")
                    grpc.load_model("grey")
                    wait_for_answers_of("1")
        finally:
            stop.set()
        assert [one.result() for one in asking] == [None] * 8  # nothing failed, nothing differed
