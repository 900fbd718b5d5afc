"""A .pt2 package of AOTInductor in the server: alone, in batches, and of every size of image."""

import shutil

import numpy as np
import pytest
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from labelassemble.export.parts import take_apart
from labelassemble.export.repository import RepositoryOptions, write_repository


def _tensor(array):
    wanted = triton.InferInput("INPUT__0", list(array.shape), np_to_triton_dtype(array.dtype))
    wanted.set_data_from_numpy(array)
    return wanted


@pytest.mark.slow
def test_a_package_answers_as_python_and_shares_batches(tmp_path, models, images, serving, write_config, png):
    served = models["grey", 1]
    write_config(tmp_path / "grey", delay=300_000)
    parts = take_apart(
        served.network, classes=("one", "two, too", "three"), preprocess=served.preprocess, images=images
    )
    write_repository(parts, tmp_path, "exported", RepositoryOptions(model_format="pt2"))
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
