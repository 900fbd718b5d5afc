"""A .pt2 package of AOTInductor in the server: alone, in batches, and of every size of image."""

import numpy as np
import pytest
import tritonclient.http as triton

from labelassemble.export.parts import take_apart
from labelassemble.export.pt2 import write_pt2


def _tensor(array):
    wanted = triton.InferInput("INPUT__0", list(array.shape), "UINT8")
    wanted.set_data_from_numpy(array)
    return wanted


@pytest.mark.slow
def test_a_package_answers_as_python_and_shares_batches(tmp_path, models, images, serving, write_config):
    served = models["grey", 1]
    write_config(tmp_path / "grey", delay=300_000)
    (tmp_path / "grey" / "1").mkdir()
    parts = take_apart(
        served.network, classes=("one", "two, too", "three"), preprocess=served.preprocess, images=images
    )
    write_pt2(parts, tmp_path / "grey" / "1" / "model.pt2")
    with serving(tmp_path) as server:
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
        assert counted["inference_count"] == len(images) + 3 + len(many)
        assert counted["execution_count"] < len(images) + 1 + len(many)
