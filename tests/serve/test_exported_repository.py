"""The model repository as `export` writes it, in the server: versions beside each other, a folder that was renamed."""

from pathlib import Path
from typing import Any

import numpy as np
import tritonclient.http as triton

from labelassemble.export.parts import ExportParts, take_apart
from labelassemble.export.repository import RepositoryOptions, write_repository

CLASSES = ("one", "two, too", "three")


def _parts(served: Any, images: Any) -> ExportParts:
    return take_apart(served.network, classes=CLASSES, preprocess=served.preprocess, images=images)


def test_versions_are_served_from_a_folder_of_another_name(
    tmp_path: Path, models: Any, images: Any, serving: Any
) -> None:
    for version in (1, 2):
        write_repository(
            _parts(models["grey", version], images), tmp_path, "covid", RepositoryOptions(version=version)
        )
    (tmp_path / "covid").rename(tmp_path / "chest")
    wanted = triton.InferInput("INPUT__0", [1, *images[1].shape], "UINT8")
    wanted.set_data_from_numpy(images[1][None])
    with (
        serving(tmp_path, strict=True) as server,
        triton.InferenceServerClient(server.url) as client,
    ):
        for asked, version in (("1", 1), ("2", 2), ("", 2)):
            answer = client.infer("chest", [wanted], model_version=asked)
            assert answer.get_response()["model_version"] == str(version)
            expected = models["grey", version].probabilities([images[1]])
            np.testing.assert_allclose(answer.as_numpy("OUTPUT__0"), expected, atol=1e-6)
        metadata = client.get_model_metadata("chest")
        assert metadata["versions"] == ["1", "2"]
        assert metadata["parameters"]["image_channels"] == [1, 3]
        assert metadata["parameters"]["input_channels"] == 1


def test_onnx_is_for_triton(tmp_path: Path, models: Any, images: Any, serving: Any) -> None:
    write_repository(_parts(models["grey", 1], images), tmp_path, "good")
    write_repository(_parts(models["grey", 1], images), tmp_path, "other")
    path = tmp_path / "other" / "config.pbtxt"
    path.write_text(path.read_text().replace('backend: "pytorch"', 'backend: "onnxruntime"'))
    with serving(tmp_path) as server:
        server.wait_for(
            "model 'other' is refused: backend 'onnxruntime' is not served here, only pytorch (model.pt and model.pt2)"
        )
