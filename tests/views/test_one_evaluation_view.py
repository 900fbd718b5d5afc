"""The deterministic view is the same in Python's evaluation, in the exported model and in the C++ program."""

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from labelassemble.data.images import decode_image
from labelassemble.export import export_torchscript, find_program
from labelassemble.views.options import ViewOptions
from labelassemble.views.torch_backend import evaluation_batches

SIZE = 9


class Pixels(nn.Module):
    """A network whose logits are the pixels that it is shown, one class each."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        count = channels * SIZE * SIZE
        self.backbone = nn.Sequential(nn.Flatten())
        self.head = nn.Linear(count, count)
        with torch.no_grad():
            self.head.weight.copy_(torch.eye(count))
            self.head.bias.zero_()

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.backbone(images))


@pytest.mark.parametrize("channels", [1, 3])
def test_python_export_and_cpp_see_the_same_pixels(paths: list[str], tmp_path: Path, channels: int) -> None:
    # Values of 0..1 as logits: their probabilities are between 0.5 and 0.74, from which they can be had back.
    options = ViewOptions(size=SIZE, channels=channels, mean=(0.0,), std=(1.0,))
    python = torch.cat([batch.images for batch in evaluation_batches(paths, options, batch_size=4)])
    assert float(python.std()) > 0.1

    names = [f"pixel {index}" for index in range(channels * SIZE * SIZE)]
    model = tmp_path / "pixels.pt"
    export_torchscript(
        Pixels(channels),
        model,
        classes=names,
        preprocess=options.preprocess(),
        images=[decode_image(path) for path in paths],
    )
    script = torch.jit.load(str(model))
    exported = torch.cat([script.prepare(torch.tensor(decode_image(path))[None]) for path in paths])
    assert float((exported - python).abs().max()) <= 1e-6

    done = subprocess.run(
        [find_program(), model, *paths, "--format", "json"], capture_output=True, encoding="utf-8", check=True
    )
    answers = json.loads(done.stdout)["images"]
    assert [answer["path"] for answer in answers] == paths
    p = np.array([[answer["probabilities"][name] for name in names] for answer in answers])
    served = torch.from_numpy(np.log(p / (1.0 - p))).reshape(python.shape)
    assert float((served - python).abs().max()) <= 1e-6
